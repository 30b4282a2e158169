import ArgumentParser
import Bench

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

  @OptionGroup var options: CommonOptions

  func validate() throws {
    do {
      _ = try sweep
    } catch let problem as SweepPlan.BadArgument { throw ValidationError(problem.description) }
  }

  private var sweep: SweepPlan {
    get throws {
      try SweepPlan(
        targets: target, inFlight: inFlight, workers: workers, connections: connections, serviceLevel: slo)
    }
  }

  func execute() throws { try sweep.run(scenario, options: options) }
}
