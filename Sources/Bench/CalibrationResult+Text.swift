import Results
import Foundation
import Scenario

extension CalibrationResult {
  /// The tables for people.
  var text: String {
    var lines: [String] = []
    if let clockNs { lines.append(String(format: "clock read         %8.1f ns", clockNs)) }
    if let recordNs { lines.append(String(format: "histogram record   %8.1f ns", recordNs)) }
    if let timerOvershootUs {
      lines.append(String(format: "timer overshoot    %8.1f µs (p99)", timerOvershootUs))
    }
    if !lines.isEmpty { lines.append("") }
    lines += ffiLines + queueLines + pacingLines
    for (client, rows) in [(NATSClient.native, natsNative), (.libnats, natsLibnats)] {
      if let rows { lines += table(client, rows) }
    }
    lines += workerLines + memoryLines + goalLines
    lines.append(
      "Medians of \(rounds) rounds of \(secondsEach.formatted()) s, bare and engine in turn; a ratio is the median of the rounds' own."
    )
    return lines.joined(separator: "\n")
  }

  private func times(_ ratio: Double?, _ low: Double?, _ high: Double?, _ than: String) -> String {
    guard let ratio else { return "–" }
    let interval = low.flatMap { low in high.map { String(format: " (%.2f to %.2f)", low, $0) } } ?? ""
    return String(format: "%.2f", ratio) + interval + " times \(than)"
  }

  /// Nanoseconds per phase request of bare C and of the engine.
  private func pair(
    _ title: String, _ than: String, bareNs: Double, engineNs: Double, ratio: String
  ) -> [String] {
    [
      "FFI, \(title)",
      "  " + "bare C \(than)".padding(toLength: 15, withPad: " ", startingAt: 0)
        + String(format: "  %8.1f ns", bareNs),
      String(format: "  engine           %8.1f ns   ", engineNs) + ratio,
      "",
    ]
  }

  private var ffiLines: [String] {
    guard let ffi else { return [] }
    return pair(
      "null plugin, per phase request, one thread", "loop", bareNs: ffi.bareNs, engineNs: ffi.engineNs,
      ratio: times(ffi.ratio, ffi.ratioLow, ffi.ratioHigh, "the bare loop"))
  }

  private var queueLines: [String] {
    guard let ffiQueue else { return [] }
    return pair(
      "plugin that answers from another thread, \(ffiQueue.inFlight) in flight, per phase request", "host",
      bareNs: ffiQueue.bareNs, engineNs: ffiQueue.engineNs,
      ratio: times(ffiQueue.ratio, ffiQueue.ratioLow, ffiQueue.ratioHigh, "the bare host"))
  }

  private var pacingLines: [String] {
    guard let pacing else { return [] }
    return ["Open load of the null plugin, one phase: p99 of how late a request starts"]
      + pacing.map { row in
        let share = row.shareOfHighest.map { String(format: " (%.0f %% of the highest)", $0 * 100) } ?? ""
        return String(
          format: "  %9.0f/s  clock_nanosleep %8.2f µs  engine %8.2f µs   ", row.ratePerSecond, row.bareP99Us,
          row.engineP99Us) + times(row.ratio, row.ratioLow, row.ratioHigh, "the bare loop") + share
      } + [""]
  }

  private func table(_ name: NATSClient, _ rows: [NATS]) -> [String] {
    var lines = [
      "NATS, client \(name.rawValue)\(name == client ? " (the default)" : ""), one phase, one connection, "
        + "same bare echo worker",
      "  in flight    bare req/s  engine req/s   ratio                    bare p50   engine p50   ratio",
    ]
    for row in rows {
      let interval = row.ratioLow.flatMap { low in
        row.ratioHigh.map { String(format: "(%.2f to %.2f)", low, $0) }
      }
      let ratio = row.ratio.map { String(format: "%.2f ", $0) + (interval ?? "") } ?? "–"
      lines.append(
        String(format: "  %9d  %12.0f  %12.0f   ", row.inFlight, row.bareRps, row.engineRps)
          + ratio.padding(toLength: 20, withPad: " ", startingAt: 0)
          + String(format: "  %8.0f µs  %8.0f µs   ", row.bareP50Us, row.engineP50Us)
          + (row.p50Ratio.map { String(format: "%.2f", $0) } ?? "–"))
    }
    return lines + [""]
  }

  private var workerLines: [String] {
    guard let worker else { return [] }
    return [
      "Worker, noop, \(worker.inFlight) in flight, same bare client",
      String(format: "  bare worker      %8.0f req/s", worker.bareRps),
      String(format: "  nylon-worker     %8.0f req/s   ", worker.workerRps)
        + times(worker.ratio, worker.ratioLow, worker.ratioHigh, "the bare worker"),
      "",
    ]
  }

  private var memoryLines: [String] {
    guard let memory else { return [] }
    func mebibytes(_ bytes: UInt64?) -> String {
      bytes.map { String(format: "%.1f MiB", Double($0) / 1_048_576) } ?? "–"
    }
    return [
      "Resident memory of the generator, NATS, \(memory.inFlight) in flight",
      "  \(mebibytes(memory.residentStartBytes)) at the start, \(mebibytes(memory.residentEndBytes)) at the end",
      "",
    ]
  }

  private var goalLines: [String] {
    guard !goals.isEmpty else { return [] }
    let width = goals.map(\.goal.count).max() ?? 0
    func bound(_ goal: CalibrationGoal, _ value: Double) -> String {
      (goal.isMost ? "≤ " : "≥ ")
        + value.formatted(.number.grouping(.never).precision(.fractionLength(0...2)))
    }
    let head =
      "".padding(toLength: width + 2, withPad: " ", startingAt: 0) + "  measured   must reach    aim     "
    return [head]
      + goals.map { goal in
        let measured = goal.measured.map { String(format: "%8.2f", $0) } ?? "       –"
        let verdict =
          goal.isReached.map {
            $0 ? (goal.isAimReached == true ? "reached, the aim too" : "reached") : "not reached"
          }
          ?? "not measured"
        return "  " + goal.goal.padding(toLength: width, withPad: " ", startingAt: 0) + "  \(measured)   "
          + bound(goal, goal.mustReach).padding(toLength: 10, withPad: " ", startingAt: 0) + "    "
          + bound(goal, goal.aim).padding(toLength: 6, withPad: " ", startingAt: 0) + "  \(verdict)"
      } + [""]
  }
}
