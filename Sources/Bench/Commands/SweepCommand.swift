import ArgumentParser
import Foundation
import Report
import Results
import Scenario

struct SweepCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "sweep",
    abstract: "Latency-throughput curve, knee, and the highest rate under a service level.",
    discussion: """
      Loads each target of a scenario with more and more requests in flight, instead of the scenario's own \
      loads, and a pool with every combination of the numbers of workers and of connections that are given; \
      the scenario's own numbers are always among them. The knee is where throughput / response time is \
      greatest. With --slo it then searches, with open loads, the highest rate that keeps it.

      EXAMPLES
        nylon-bench sweep Scenarios/compare.yaml
        nylon-bench sweep Scenarios/nats-local.yaml --in-flight 1..4096 --workers 1..16 --connections 1,2,4
        nylon-bench sweep my.yaml --target pool --slo 'p99<5ms'
      """)

  @Argument(help: "The scenario's file.", completion: .file(extensions: ["yaml", "yml"]))
  var scenario: String

  @Option(help: "Only this target; may be given more than once (default: all).")
  var target: [String] = []

  @Option(help: ArgumentHelp("Requests in flight: 1,2,8, or 1..64, which doubles.", valueName: "numbers"))
  var inFlight = "1..256"

  @Option(help: ArgumentHelp("Workers of a pool that is started, as --in-flight.", valueName: "numbers"))
  var workers: String?

  @Option(help: ArgumentHelp("NATS connections of the generator, as --in-flight.", valueName: "numbers"))
  var connections: String?

  @Option(help: "A service level, such as 'p99<5ms': search the highest rate that keeps it.")
  var slo: String?

  @OptionGroup var options: RunOptions

  func validate() throws { _ = try (loads, variants, level) }

  /// The numbers of an option; none where it is not given.
  private func numbers(_ option: String, _ text: String?, to most: Int, _ example: String) throws -> [Int] {
    guard let text else { return [] }
    guard let all = Self.numbers(text, in: 1...most) else {
      throw ValidationError("--\(option) must be numbers from 1 to \(most), such as \(example)")
    }
    return all
  }

  private var loads: [Int] {
    get throws { try numbers("in-flight", inFlight, to: 65_536, "1,8,64 or 1..4096") }
  }

  private var variants: TargetVariants {
    get throws {
      TargetVariants(
        workers: try numbers("workers", workers, to: 1024, "1,2,4 or 1..16"),
        connections: try numbers("connections", connections, to: 1024, "1,2,4"))
    }
  }

  private var level: ServiceLevel? {
    get throws {
      try slo.map {
        guard let level = ServiceLevel($0) else {
          throw ValidationError(
            "--slo must be a percentile (p50, p90, p99, p99.9) under a time, such as 'p99<5ms'")
        }
        return level
      }
    }
  }

  func execute() throws {
    var plan = try swept(options.plan(scenario))
    // Many points, once each, unless the scenario or the command asks for more.
    if plan.rounds == Plan.standardRounds { plan.rounds = 1...1 }
    let run = try BenchRun(plan: plan, options: options)
    if let level = try level {
      run.document.serviceLevel = level
      run.following = RateSearch(level: level).next
    }
    let document = try run.execute()
    try Outcome.present(
      document, options, hasAnswer: false,
      tables: [ResultTables.sweep(document), ResultTables.baseline(document)])
  }

  /// A whole number, `1,2,8`, or `1..64`, which doubles; nil when it is something else.
  static func numbers(_ text: String, in range: ClosedRange<Int>) -> [Int]? {
    var all: Set<Int> = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.components(separatedBy: "..").map { Int($0.trimmingCharacters(in: .whitespaces)) }
      guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last,
        range.contains(first), range.contains(last)
      else { return nil }
      var number = first
      while number < last {
        all.insert(number)
        number *= 2
      }
      all.insert(last)
    }
    return all.sorted()
  }

  /// The plan to be run: the chosen targets, and their variants, each under all closed loads.
  func swept(_ plan: Plan) throws -> Plan {
    let names = plan.targets.map(\.name)
    for name in target where !names.contains(name) {
      throw ScenarioError(
        at: .argument("--target \(name)"), key: "targets", "is not a target of \(scenario)",
        remedy: "there are: \(names.joined(separator: ", "))")
    }
    let inFlight = try loads
    let chosen = plan.targets.filter { target.isEmpty || target.contains($0.name) }
    var swept = plan
    swept.name = String("\(plan.name)-sweep".prefix(64))
    swept.loads = inFlight.map { .closed(concurrency: $0) }
    swept.targets = try variants.applied(to: chosen, connections: plan.connections).map { target in
      var target = target
      target.loads = swept.loads
      target.maxInFlight = max(target.maxInFlight, inFlight.last ?? 1)
      return target
    }
    // Conditions are about the scenario's own loads.
    swept.expectations = []
    return swept
  }
}

/// Searches the highest rate of each target that still keeps a service level: open loads, halving the
/// gap between the highest rate that was served and the lowest that was not.
struct RateSearch {
  let level: ServiceLevel
  private static let mostTries = 8
  private static let closeEnough = 1.05

  /// What to load next; nil when all targets are known.
  func next(_ document: RunDocument) -> Step? {
    document.scenario.targets.lazy.compactMap { target in
      next(for: target.name, document).map { Step(target: target, load: $0, replicate: 1) }
    }.first
  }

  private func next(for name: String, _ document: RunDocument) -> LoadShape? {
    let mine = document.measurements.filter { $0.target == name }
    let highest = mine.filter { $0.offeredRatePerSecond == nil }.compactMap(\.throughputPerSecond).max()
    guard let highest, highest >= 10 else { return nil }
    let tried = mine.filter { $0.offeredRatePerSecond != nil }
    // What cannot be said counts as not served: a rate is only claimed where it was seen.
    let tries = tried.compactMap { one in
      one.offeredRatePerSecond.map { Try(rate: $0, isServed: level.isServed(one) == true) }
    }
    guard let rate = Self.nextRate(highest: highest, tries: tries) else { return nil }
    let load = LoadShape.open(ratePerSecond: rate, arrivals: .poisson)
    return tried.contains { $0.load == load.label } ? nil : load
  }

  struct Try {
    var rate: Double
    var isServed: Bool
  }

  /// The next rate to try, where `highest` was reached in closed loads; nil when it is known well enough.
  static func nextRate(highest: Double, tries: [Try]) -> Double? {
    guard tries.count < mostTries else { return nil }
    let served = tries.filter(\.isServed).map(\.rate).max()
    let failed = tries.filter { !$0.isServed && $0.rate > served ?? 0 }.map(\.rate).min()
    switch (served, failed) {
    case (nil, nil): return round(highest / 2)
    case (let low?, nil): return low < highest ? round(min(low * 1.5, highest)) : nil
    case (nil, let high?): return high > highest / 100 ? round(high / 2) : nil
    case (let low?, let high?): return high / low > closeEnough ? round((low * high).squareRoot()) : nil
    }
  }

  /// Two significant digits and a half, so that labels can be read.
  private static func round(_ rate: Double) -> Double {
    var step = 1.0
    while rate / step >= 200 { step *= 10 }
    return max(1, (rate / step).rounded() * step)
  }
}
