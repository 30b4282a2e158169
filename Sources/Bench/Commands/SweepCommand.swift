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
      greatest. With --slo, or where the scenario has an objective, it then searches, with open loads, the \
      highest rate that keeps it, and confirms it by six replicates unless --quick is given.

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

  @Option(
    help: "An objective, 'p99<5ms' or 'response_p99_us < 5000': search the highest rate that keeps it.")
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
            "--slo must be a latency under a bound, such as 'p99<5ms' or 'response_p99_us < 5000'")
        }
        return level
      }
    }
  }

  func execute() throws {
    var plan = try swept(options.plan(scenario))
    // Many points, once each, unless the scenario or the command asks for more.
    if plan.rounds == Plan.standardRounds { plan.rounds = 1...1 }
    let level = try self.level
    for place in plan.targets.indices {
      plan.targets[place].objective = level ?? plan.targets[place].objective
    }
    let run = try BenchRun.searching(plan: plan, options: options)
    run.document.serviceLevel = level
    let document = try run.execute()
    try Outcome.present(
      document, options, hasAnswer: false,
      tables: [
        ResultTables.sweep(document), ResultTables.objectives(document), ResultTables.baseline(document),
      ])
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
      target.faults = nil
      target.maxInFlight = max(target.maxInFlight, inFlight.last ?? 1)
      return target
    }
    // Conditions are about the scenario's own loads.
    swept.expectations = []
    return swept
  }
}
