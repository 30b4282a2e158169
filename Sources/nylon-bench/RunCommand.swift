import ArgumentParser
import Bench

struct RunCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Runs one scenario; writes a run folder; prints the tables.",
    discussion: """
      EXAMPLES
        nylon-bench run Scenarios/ffi-baseline.yaml
        nylon-bench run Scenarios/nats-local.yaml --server nats://127.0.0.1:4222
        nylon-bench run my.yaml --set measure_seconds=10 --seed 7 --json > run.json
      """)

  @Argument(help: "The scenario's file.", completion: .file(extensions: ["yaml", "yml"]))
  var scenario: String

  @OptionGroup var options: CommonOptions

  func execute() throws { try Runs.run(scenario, options: options) }
}
