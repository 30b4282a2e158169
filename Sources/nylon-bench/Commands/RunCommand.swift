import ArgumentParser
import Results
import Report
import Scenario

/// `run SCENARIO`.
struct RunCommand: ParsableCommand {
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

  func run() throws {
    try Exit.guarding {
      let plan = try ScenarioLoader.load(path: scenario, options: options.loaderOptions)
      let document = try BenchRun(plan: plan, options: options).execute()
      try Outcome.present(
        document, options: options,
        tables: [.results, .parts, .floor, .network, .costs, .comparison, .expectations])
    }
  }
}
