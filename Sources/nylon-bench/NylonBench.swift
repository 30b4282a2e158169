import ArgumentParser
import Bench

/// The commands' table of contents.
@main
struct NylonBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nylon-bench",
    abstract:
      "Measures Nylon plugins, in the proxy's process (FFI) and behind NATS, and tests the documented figures.",
    discussion: """
      EXAMPLES
        nylon-bench scenarios                       what can be run
        nylon-bench run Scenarios/nats-local.yaml   run one scenario
        nylon-bench compare Scenarios/compare.yaml  FFI against NATS, side by side
        nylon-bench claims                          a verdict on each documented figure
        nylon-bench export results/latest --format csv
        nylon-bench run my.yaml --set targets.0.handler=auth --set measure_seconds=10

      EXIT CODES
        0 done, 1 error, 64 wrong usage, 65 bad scenario or run, 69 something is missing,
        70 internal error, 80 gate not met, 81 measured but invalid, 82 inconclusive (--gate),
        130 interrupted (what was measured is saved)
      """,
    version: ToolVersion.current,
    subcommands: [
      RunCommand.self, CompareCommand.self, ClaimsCommand.self, SweepCommand.self, ExportCommand.self,
      CalibrateCommand.self, DoctorCommand.self, ScenariosCommand.self, ValidateCommand.self,
      MeasureCommand.self, BaselineWorkerCommand.self,
    ])
}

/// A command whose errors are told on standard error, and end it with one of the promised exit codes.
protocol BenchCommand: ParsableCommand {
  func execute() throws
}

extension BenchCommand {
  func run() throws {
    if let reason = ExitReason.of(execute) { throw ExitCode(reason.rawValue) }
  }
}
