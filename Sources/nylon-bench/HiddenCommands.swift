// The programs behind other commands, in processes of their own.
import ArgumentParser
import Bench

struct MeasureCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "__measure", abstract: "Loads one target once (started by run).", shouldDisplay: false)

  func run() throws { try MeasureProcess.main() }
}

struct BaselineWorkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "__baseline-worker", abstract: "The bare echo worker (started by calibrate).",
    shouldDisplay: false)

  @Argument var port: UInt16
  @Argument var subject: String
  @Argument var group: String

  func run() throws {
    Calibration.serve(port: port, subject: subject, group: group)
    throw ExitCode(ExitReason.failure.rawValue)
  }
}
