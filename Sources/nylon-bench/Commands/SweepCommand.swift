import ArgumentParser
import Results
import Report
import Scenario

/// `sweep SCENARIO`.
struct SweepCommand: ParsableCommand {
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

  @OptionGroup var options: CommonOptions

  func validate() throws {
    guard SweepPlan.numbers(inFlight, in: 1...65_536) != nil else {
      throw ValidationError("--in-flight must be numbers from 1 to 65536, such as 1,8,64 or 1..4096")
    }
    guard workers.map({ SweepPlan.numbers($0, in: 1...1024) != nil }) ?? true else {
      throw ValidationError("--workers must be numbers from 1 to 1024, such as 1,2,4 or 1..16")
    }
    guard connections.map({ SweepPlan.numbers($0, in: 1...1024) != nil }) ?? true else {
      throw ValidationError("--connections must be numbers from 1 to 1024, such as 1,2,4")
    }
    guard slo.map({ ServiceLevel($0) != nil }) ?? true else {
      throw ValidationError(
        "--slo must be a percentile (p50, p90, p99, p99.9) under a time, such as 'p99<5ms'")
    }
  }

  func run() throws {
    try Exit.guarding {
      let plan = try ScenarioLoader.load(path: scenario, options: options.loaderOptions)
      let sweep = SweepPlan(
        inFlight: SweepPlan.numbers(inFlight, in: 1...65_536) ?? [],
        workers: workers.flatMap { SweepPlan.numbers($0, in: 1...1024) } ?? [],
        connections: connections.flatMap { SweepPlan.numbers($0, in: 1...1024) } ?? [])
      let run = try BenchRun(plan: sweep.applied(to: plan, targets: chosen(of: plan)), options: options)
      if let level = slo.flatMap({ ServiceLevel($0) }) {
        run.serviceLevel = level
        run.following = RateSearch(level: level, arrivals: .poisson).next
      }
      let document = try run.execute()
      try Outcome.present(document, options: options, tables: [.sweep, .floor])
    }
  }

  private func chosen(of plan: Plan) throws -> [Target] {
    guard !target.isEmpty else { return plan.targets }
    let names = plan.targets.map(\.name)
    for name in target where !names.contains(name) {
      throw ScenarioError(problems: [
        ScenarioProblem(
          place: .argument("--target \(name)"), key: "targets", message: "is not a target of \(scenario)",
          remedy: "there are: \(names.joined(separator: ", "))")
      ])
    }
    return plan.targets.filter { target.contains($0.name) }
  }
}
