import Foundation
import Results
import Scenario

/// A scenario's plan with its loads swept: more and more requests in flight, and, where they can be
/// varied, every combination of numbers of workers and of connections.
package struct SweepPlan {
  /// The names of the targets; empty for all.
  let targets: [String]
  /// Requests in flight, ascending.
  let inFlight: [Int]
  /// Workers of a pool that the run starts.
  let workers: [Int]
  /// NATS connections of the generator.
  let connections: [Int]
  /// The level whose highest rate is searched.
  let serviceLevel: ServiceLevel?

  /// What is wrong with an argument of `sweep`.
  package struct BadArgument: Error, CustomStringConvertible {
    package let description: String
  }

  /// Reads the arguments of `sweep`; throws `BadArgument`.
  package init(
    targets: [String], inFlight: String, workers: String?, connections: String?, serviceLevel: String?
  ) throws {
    func numbers(_ text: String, to most: Int, _ problem: String) throws -> [Int] {
      guard let all = Self.numbers(text, in: 1...most) else { throw BadArgument(description: problem) }
      return all
    }
    self.targets = targets
    self.inFlight = try numbers(
      inFlight, to: 65_536, "--in-flight must be numbers from 1 to 65536, such as 1,8,64 or 1..4096")
    self.workers =
      try workers.map {
        try numbers($0, to: 1024, "--workers must be numbers from 1 to 1024, such as 1,2,4 or 1..16")
      } ?? []
    self.connections =
      try connections.map {
        try numbers($0, to: 1024, "--connections must be numbers from 1 to 1024, such as 1,2,4")
      } ?? []
    self.serviceLevel = try serviceLevel.map { text in
      guard let level = ServiceLevel(text) else {
        throw BadArgument(
          description: "--slo must be a percentile (p50, p90, p99, p99.9) under a time, such as 'p99<5ms'")
      }
      return level
    }
  }

  /// Runs a scenario's sweep and presents it.
  package func run(_ path: String, options: some RunOptions) throws {
    let plan = try ScenarioLoader.load(path: path, options: options.loaderOptions)
    let run = try BenchRun(plan: applied(to: plan, targets: chosen(of: plan, path)), options: options)
    if let serviceLevel {
      run.serviceLevel = serviceLevel
      run.following = RateSearch(level: serviceLevel, arrivals: .poisson).next
    }
    try Outcome.present(try run.execute(), options: options, tables: [.sweep, .floor])
  }

  private func chosen(of plan: Plan, _ path: String) throws -> [Target] {
    guard !targets.isEmpty else { return plan.targets }
    let names = plan.targets.map(\.name)
    for name in targets where !names.contains(name) {
      throw ScenarioError(problems: [
        ScenarioProblem(
          place: .argument("--target \(name)"), key: "targets", message: "is not a target of \(path)",
          remedy: "there are: \(names.joined(separator: ", "))")
      ])
    }
    return plan.targets.filter { targets.contains($0.name) }
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
  func applied(to plan: Plan, targets chosen: [Target]) -> Plan {
    var swept = plan
    swept.name = String("\(plan.name)-sweep".prefix(64))
    swept.loads = inFlight.map { .closed(concurrency: $0) }
    let variants = TargetVariants(workers: workers, connections: connections)
    swept.targets = variants.applied(to: chosen, connections: plan.connections).map { target in
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
  let arrivals: Arrivals
  /// Open loads per target, at most.
  private static let mostTries = 8
  /// The search ends when the gap is this small.
  private static let closeEnough = 1.05

  /// What to load next; nil when all targets are known.
  func next(_ document: RunDocument) -> (target: Target, load: LoadShape)? {
    for target in document.scenario.targets {
      if let load = next(for: target.name, document) { return (target, load) }
    }
    return nil
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
    let load = LoadShape.open(ratePerSecond: rate, arrivals: arrivals)
    return tried.contains { $0.load == load.label } ? nil : load
  }

  /// A rate that was loaded, and whether the level was kept.
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
