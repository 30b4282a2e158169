import ArgumentParser
import Foundation
import Results

struct CalibrateCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate", abstract: "Measures this machine's baseline: the engine compared with bare C.",
    discussion: """
      Measures, alternating in one run: a clock read, a histogram record, timer overshoot, the null plugin through the \
      engine and through a bare C loop, and request-reply through the engine and through a bare-socket \
      client, with the same bare echo worker behind the same broker. The last table shows the goals of the \
      engine relative to bare C; with --gate the command exits with 80 if one is not reached.

      PARTS
        steps    a clock read, a histogram record, a timer
        ffi      the null plugin
        queue    a plugin that answers from its own thread
        pacing   the send lag of an open load
        nats     request-reply with 1, 64 and 256 in flight, for both clients
        worker   nylon-worker against a bare echo worker
        memory   the generator's resident memory with 2,048 in flight

      EXAMPLES
        nylon-bench calibrate
        nylon-bench calibrate --only ffi,pacing
        nylon-bench calibrate --json --rounds 15 --gate
      """)

  @Option(help: "The number of rounds; the results are their medians.")
  var rounds = 9

  @Option(help: "The duration of each measurement in seconds.")
  var seconds = 0.6

  @Option(
    help: ArgumentHelp("Measure only these parts, separated by commas.", valueName: "parts"),
    completion: .list(CalibrationPart.allCases.map(\.rawValue)))
  var only: String?

  @Flag(help: "Exit with 80 if a goal is not reached.")
  var gate = false

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(help: "Print only the result.")
  var quiet = false

  func validate() throws {
    guard (1...100).contains(rounds) else { throw ValidationError("--rounds must be from 1 to 100") }
    guard seconds >= 0.05, seconds <= 60 else { throw ValidationError("--seconds must be from 0.05 to 60") }
    _ = try parts()
  }

  private func parts() throws -> Set<CalibrationPart> {
    let all = CalibrationPart.allCases
    guard let only else { return Set(all) }
    let names = only.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    let chosen = names.compactMap(CalibrationPart.init)
    guard !chosen.isEmpty, chosen.count == names.count else {
      throw ValidationError("--only takes one or more of \(all.listed()), separated by commas")
    }
    return Set(chosen)
  }

  func execute() throws {
    let progress = ProgressLine(quiet: quiet)
    let calibration = Calibration(
      rounds: rounds, seconds: seconds, parts: try parts(), progress: progress.say)
    let result = try calibration.measure()
    progress.clear()
    try Console.result(json ? try RunJSON.text(result) : result.text)
    if !ToolVersion.isOptimised {
      Console.error("invalid: unoptimised_build: build with -c release")
      throw ExitReason.invalid
    }
    if gate, result.goals.contains(where: { $0.isReached != true }) {
      Console.error("gate: a goal is not reached; the table above shows which")
      throw ExitReason.gateNotMet
    }
  }
}
