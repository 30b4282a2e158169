import ArgumentParser
import Foundation
import Report
import Results
import Scenario

struct SweepCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "sweep",
    abstract: "Finds the latency-throughput curve, its knee, and the highest rate under a service level.",
    discussion: """
      Loads each target of a scenario with increasing requests in flight, instead of the scenario's own \
      loads, and a pool with every combination of the given numbers of workers and of connections; \
      the scenario's own numbers are always included. The knee is where throughput / response time is \
      greatest. With --slo, or if the scenario has an objective, it then searches with open loads for the \
      highest rate that meets it, and confirms that rate with six replicates unless --quick is given.

      EXAMPLES
        nylon-bench sweep Scenarios/compare.yaml
        nylon-bench sweep Scenarios/nats-local.yaml --in-flight 1..4096 --workers 1..16 --connections 1,2,4
        nylon-bench sweep my.yaml --target pool --slo 'p99<5ms'
      """)

  @Argument(help: "The scenario's file.", completion: .file(extensions: ["yaml", "yml"]))
  var scenario: String

  @Option(help: "Measure only this target; may be given more than once (default: all).")
  var target: [String] = []

  @Option(help: ArgumentHelp("Requests in flight: 1,2,8, or 1..64 in powers of two.", valueName: "numbers"))
  var inFlight = "1..256"

  @Option(help: ArgumentHelp("Workers of pools started by the run, as in --in-flight.", valueName: "numbers"))
  var workers: String?

  @Option(help: ArgumentHelp("NATS connections of the generator, as in --in-flight.", valueName: "numbers"))
  var connections: String?

  @Option(
    help: "An objective, 'p99<5ms' or 'response_p99_us < 5000': search for the highest rate that meets it.")
  var slo: String?

  @OptionGroup var options: RunOptions

  func validate() throws { _ = try (loads(), variants(), level()) }

  /// Parses the numbers of an option; empty when the option is not given.
  private func numbers(_ option: String, _ text: String?, to most: Int, _ example: String) throws -> [Int] {
    guard let text else { return [] }
    guard let all = Self.numbers(text, in: 1...most) else {
      throw ValidationError("--\(option) must be numbers from 1 to \(most), such as \(example)")
    }
    return all
  }

  private func loads() throws -> [Int] {
    try numbers("in-flight", inFlight, to: 65_536, "1,8,64 or 1..4096")
  }

  private func variants() throws -> TargetVariants {
    TargetVariants(
      workers: try numbers("workers", workers, to: 1024, "1,2,4 or 1..16"),
      connections: try numbers("connections", connections, to: 1024, "1,2,4"))
  }

  private func level() throws -> ServiceLevel? {
    guard let slo else { return nil }
    if let level = ServiceLevel(slo) { return level }
    throw ValidationError(
      "--slo must be a latency under a bound, such as 'p99<5ms' or 'response_p99_us < 5000'")
  }

  func execute() throws {
    var plan = try swept(options.plan(scenario))
    // Measure each of the many points once, unless the scenario or the command line asks for more.
    if plan.rounds == Plan.standardRounds { plan.rounds = 1...1 }
    let level = try level()
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

  /// Parses a list such as `8`, `1,2,8` or `1..64`, whose numbers double; nil when it is invalid.
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

  /// Creates the plan to run: the chosen targets and their variants, each under all closed loads.
  func swept(_ plan: Plan) throws -> Plan {
    let names = plan.targets.map(\.name)
    for name in target where !names.contains(name) {
      throw ScenarioError(
        at: .argument("--target \(name)"), key: "targets", "is not a target of \(scenario)",
        remedy: "there are: \(names.joined(separator: ", "))")
    }
    let inFlight = try loads()
    let chosen = plan.targets.filter { target.isEmpty || target.contains($0.name) }
    var swept = plan
    swept.name = String("\(plan.name)-sweep".prefix(64))
    swept.loads = inFlight.map { .closed(concurrency: $0) }
    swept.targets = try variants().applied(to: chosen, connections: plan.connections).map { target in
      var target = target
      target.loads = swept.loads
      target.faults = nil
      target.maxInFlight = max(target.maxInFlight, inFlight.last ?? 1)
      return target
    }
    // Expectations refer to the scenario's own loads.
    swept.expectations = []
    return swept
  }
}
