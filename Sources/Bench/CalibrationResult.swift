import Foundation
import Lab
import Results

/// A figure of a program in one round; the raw value is the end of its names in JSON, such as `bare_ns`.
enum Figure: String {
  /// Nanoseconds per phase request.
  case nanoseconds = "ns"
  /// Phase requests a second.
  case rate = "rps"
  /// Median response time, microseconds.
  case p50 = "p50_us"
  /// p99 of how late a request starts, microseconds.
  case lateness = "p99_us"
  /// Bytes that the load threads allocated per phase request in the measured time.
  case allocated = "allocated_bytes"
}

typealias Sample = [Figure: Double]

/// A bare program and its peer, measured in turn: a sample of each for every round.
struct CalibrationRow {
  /// What was asked of both, such as `in_flight`, by its name in JSON.
  var facts: [String: Double] = [:]
  var bare: [Sample]
  var peer: [Sample]

  var inFlight: Int { Int(facts["in_flight"] ?? 0) }

  func bareMedian(_ figure: Figure) -> Double { Statistics.median(bare.compactMap { $0[figure] }) ?? 0 }
  func peerMedian(_ figure: Figure) -> Double { Statistics.median(peer.compactMap { $0[figure] }) ?? 0 }

  /// The peer's figure over the bare program's: the median over rounds of the ratio within one round, which
  /// holds better on a shared machine than either figure. Nil without rounds or over 0; its interval
  /// of at least 95 % is nil with under 6 rounds.
  func ratio(_ figure: Figure) -> (ratio: Double, interval: Interval?)? {
    let ratios = zip(bare.compactMap { $0[figure] }, peer.compactMap { $0[figure] }).map { $1 / $0 }
    guard let ratio = Statistics.median(ratios), ratio.isFinite else { return nil }
    return (ratio, Statistics.medianInterval(ratios))
  }

  /// The most bytes of a round; nil where a round has no such figure.
  var allocatedBytes: Double? {
    let values = peer.compactMap { $0[.allocated] }
    return values.count == peer.count ? values.max() : nil
  }
}

/// Rows that belong together: how they and their peer are named and shown.
struct CalibrationSection {
  /// How the rows look as text.
  enum Layout { case block, lines, table }

  var title: String
  var layout: Layout
  /// The figures of both programs; the first one's ratio is the row's.
  var figures: [Figure]
  /// A figure of the peer alone, in JSON.
  var alone: Figure?
  /// What is shown as the bare program and as its peer.
  var bareName = "bare"
  var peerName = "engine"
  /// What a ratio is over.
  var than: String
  /// The start of the peer's names in JSON.
  var peerKey = "engine"
  var rows: [CalibrationRow]

  static func ffi(_ row: CalibrationRow) -> Self {
    Self(
      title: "FFI, null plugin, per phase request, one thread", layout: .block, figures: [.nanoseconds],
      alone: .allocated, bareName: "bare C loop", than: "the bare loop", rows: [row])
  }

  static func queue(_ row: CalibrationRow) -> Self {
    Self(
      title: "FFI, plugin that answers from another thread, \(row.inFlight) in flight, per phase request",
      layout: .block, figures: [.nanoseconds], bareName: "bare C host", than: "the bare host", rows: [row])
  }

  static func pacing(_ rows: [CalibrationRow]) -> Self {
    Self(
      title: "Open load of the null plugin, one phase: p99 of how late a request starts", layout: .lines,
      figures: [.lateness], alone: .rate, bareName: "clock_nanosleep", than: "the bare loop", rows: rows)
  }

  static func nats(_ rows: [CalibrationRow]) -> Self {
    Self(
      title: "NATS, client native (the default), one phase, one connection, same bare echo worker",
      layout: .table, figures: [.rate, .p50], alone: .allocated, than: "the bare client", rows: rows)
  }

  static func libnats(_ settings: String, _ rows: [CalibrationRow]) -> Self {
    Self(
      title: "NATS, client libnats, \(settings), same bare echo worker", layout: .table,
      figures: [.rate, .p50], peerName: "libnats", than: "the bare client", peerKey: "libnats", rows: rows)
  }

  static func worker(_ row: CalibrationRow) -> Self {
    Self(
      title: "Worker, noop, \(row.inFlight) in flight, same bare client", layout: .block, figures: [.rate],
      bareName: "bare worker", peerName: "nylon-worker", than: "the bare worker", peerKey: "worker",
      rows: [row])
  }
}

/// An object for the one row of a block, else a list.
extension CalibrationSection: Encodable {
  func encode(to encoder: any Encoder) throws {
    var value = encoder.singleValueContainer()
    if layout == .block { try value.encode(object(rows[0])) } else { try value.encode(rows.map(object)) }
  }

  private func object(_ row: CalibrationRow) -> [String: Double] {
    var numbers = row.facts
    for figure in figures {
      numbers["bare_\(figure.rawValue)"] = row.bareMedian(figure)
      numbers["\(peerKey)_\(figure.rawValue)"] = row.peerMedian(figure)
    }
    let paired = row.ratio(figures[0])
    numbers["ratio"] = paired?.ratio
    numbers["ratio_low"] = paired?.interval?.low
    numbers["ratio_high"] = paired?.interval?.high
    if figures.contains(.p50) { numbers["p50_ratio"] = row.ratio(.p50)?.ratio }
    switch alone {
    case .allocated: numbers["allocated_bytes"] = row.allocatedBytes
    case let figure?: numbers["\(peerKey)_\(figure.rawValue)"] = row.peerMedian(figure)
    case nil: break
    }
    return numbers
  }
}

/// What the engine must reach beside bare C on the same machine, and what it did.
struct CalibrationGoal: Encodable {
  let goal: String
  /// The figure; nil when it could not be measured.
  let measured: Double?
  /// The bound that must be kept.
  let mustReach: Double
  /// What would be as fast as the machine.
  let aim: Double
  /// Whether the figure must stay under the bound, or over it.
  let isMost: Bool
  /// Nil when there is no figure.
  let isReached: Bool?
  let isAimReached: Bool?

  private init(_ goal: String, _ measured: Double?, _ mustReach: Double, _ aim: Double, isMost: Bool) {
    self.goal = goal
    self.measured = measured
    self.mustReach = mustReach
    self.aim = aim
    self.isMost = isMost
    isReached = measured.map { isMost ? $0 <= mustReach : $0 >= mustReach }
    isAimReached = measured.map { isMost ? $0 <= aim : $0 >= aim }
  }

  static func most(_ goal: String, _ measured: Double?, _ mustReach: Double, aim: Double) -> Self {
    Self(goal, measured, mustReach, aim, isMost: true)
  }

  static func least(_ goal: String, _ measured: Double?, _ mustReach: Double, aim: Double) -> Self {
    Self(goal, measured, mustReach, aim, isMost: false)
  }
}

/// What `calibrate` found; its JSON is promised to scripts. What was not asked for, or could not be measured,
/// is absent.
struct CalibrationResult: Encodable {
  /// The load process with many requests in flight.
  struct Memory: Encodable {
    var inFlight: Int
    /// Resident memory when the measured time began, bytes.
    var residentStartBytes: UInt64?
    /// And when it ended.
    var residentEndBytes: UInt64?
  }

  var clockNs: Double?
  var recordNs: Double?
  /// The p99 of how late a short sleep ends.
  var timerOvershootUs: Double?
  var ffi: CalibrationSection?
  var ffiQueue: CalibrationSection?
  var pacing: CalibrationSection?
  /// The name of the engine's client; its rows have that name too, since there were once two.
  var client = "native"
  var nats: CalibrationSection?
  var natsNative: CalibrationSection?
  var natsLibnatsTuned: CalibrationSection?
  var natsLibnatsDefaults: CalibrationSection?
  var worker: CalibrationSection?
  var memory: Memory?
  var goals: [CalibrationGoal] = []
  var rounds: Int
  var secondsEach: Double
  var measured = UTCSecond()
  var toolVersion = ToolVersion.current
  var machine = MachineFacts.read(optimisedBuild: ToolVersion.isOptimised)

  /// The goals of the parts that were measured.
  func judged() -> [CalibrationGoal] {
    var goals: [CalibrationGoal] = []
    if let row = ffi?.rows.first {
      goals.append(.most("FFI: times the bare loop", row.ratio(.nanoseconds)?.ratio, 1.25, aim: 1.1))
      goals.append(.most("FFI: bytes allocated per phase request", row.allocatedBytes, 0, aim: 0))
    }
    if let row = ffiQueue?.rows.first {
      goals.append(
        .most("FFI, another thread: times the bare host", row.ratio(.nanoseconds)?.ratio, 1.3, aim: 1.1))
    }
    if let row = pacing?.rows.first(where: { $0.facts["share_of_highest"] != nil }) {
      goals.append(
        .most(
          "open load at 60 % of the highest rate: send lag, times clock_nanosleep",
          row.ratio(.lateness)?.ratio, 1.5, aim: 1.1))
    }
    if let rows = nats?.rows {
      func ratio(_ inFlight: Int, _ figure: Figure) -> Double? {
        rows.first { $0.inFlight == inFlight }?.ratio(figure)?.ratio
      }
      let allocated = rows.compactMap(\.allocatedBytes)
      goals += [
        .most("NATS, 1 in flight: p50, times the bare client's", ratio(1, .p50), 1.15, aim: 1.05),
        .least("NATS, 64 in flight: share of the bare client's rate", ratio(64, .rate), 0.85, aim: 0.95),
        .least("NATS, 256 in flight: share of the bare client's rate", ratio(256, .rate), 0.75, aim: 0.95),
        .most(
          "NATS: bytes allocated per phase request",
          allocated.count == rows.count ? allocated.max() : nil, 0, aim: 0),
      ]
    }
    if let row = worker?.rows.first {
      goals.append(
        .least("nylon-worker: share of the bare worker's rate", row.ratio(.rate)?.ratio, 0.7, aim: 0.9))
    }
    if let memory {
      goals.append(
        .most(
          "resident memory with \(memory.inFlight) in flight, MiB",
          memory.residentEndBytes.map { Double($0) / 1_048_576 }, 64, aim: 64))
    }
    return goals
  }
}

// MARK: Text

extension CalibrationResult {
  var text: String {
    let steps = [
      ("clock read", clockNs, "ns"), ("histogram record", recordNs, "ns"),
      ("timer overshoot", timerOvershootUs, "µs (p99)"),
    ].compactMap { name, value, unit in
      value.map { name.padded(17) + String(format: "  %8.1f ", $0) + unit }
    }
    var lines = steps.isEmpty ? [] : steps + [""]
    let sections = [ffi, ffiQueue, pacing, nats, worker, natsLibnatsTuned, natsLibnatsDefaults]
    for section in sections { lines += section.map { $0.lines + [""] } ?? [] }
    lines += memoryLines + goalLines
    lines.append(
      "Medians of \(rounds) rounds of \(secondsEach.formatted()) s, bare and engine in turn; "
        + "a ratio is the median of the rounds' own.")
    return lines.joined(separator: "\n")
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
    let rows = goals.map { goal in
      let measured = goal.measured.map { String(format: "%8.2f", $0) } ?? "       –"
      let verdict =
        goal.isReached.map {
          $0 ? (goal.isAimReached == true ? "reached, the aim too" : "reached") : "not reached"
        } ?? "not measured"
      return "  " + goal.goal.padded(width) + "  \(measured)   " + bound(goal, goal.mustReach).padded(10)
        + "    " + bound(goal, goal.aim).padded(6) + "  \(verdict)"
    }
    return ["".padded(width + 2) + "  measured   must reach    aim     "] + rows + [""]
  }
}

extension CalibrationSection {
  fileprivate var lines: [String] { [title] + (layout == .table ? [head] : []) + rows.flatMap(lines) }

  private var head: String {
    "  in flight    bare req/s" + "\(peerName) req/s".leftPadded(14)
      + "   ratio                    bare p50" + "\(peerName) p50".leftPadded(13) + "   ratio"
  }

  private func lines(_ row: CalibrationRow) -> [String] {
    let bare = row.bareMedian(figures[0])
    let peer = row.peerMedian(figures[0])
    let paired = row.ratio(figures[0])
    let ratio = paired.map { String(format: "%.2f", $0.ratio) + interval($0.interval) } ?? "–"
    let times = paired == nil ? "–" : "\(ratio) times \(than)"
    switch layout {
    case .block:
      let unit = figures[0] == .rate ? "%8.0f req/s" : "%8.1f ns"
      return [
        "  " + bareName.padded(15) + "  " + String(format: unit, bare),
        "  " + peerName.padded(15) + "  " + String(format: unit, peer) + "   " + times,
      ]
    case .lines:
      let share =
        row.facts["share_of_highest"].map { String(format: " (%.0f %% of the highest)", $0 * 100) } ?? ""
      return [
        String(format: "  %9.0f/s  ", row.facts["rate_per_second"] ?? 0) + bareName
          + String(format: " %8.2f µs  ", bare) + peerName + String(format: " %8.2f µs   ", peer) + times
          + share
      ]
    case .table:
      return [
        String(format: "  %9.0f  %12.0f  %12.0f   ", Double(row.inFlight), bare, peer)
          + ratio.padded(20)
          + String(format: "  %8.0f µs  %8.0f µs   ", row.bareMedian(.p50), row.peerMedian(.p50))
          + (row.ratio(.p50).map { String(format: "%.2f", $0.ratio) } ?? "–")
      ]
    }
  }

  private func interval(_ interval: Interval?) -> String {
    interval.map { String(format: " (%.2f to %.2f)", $0.low, $0.high) } ?? ""
  }
}
