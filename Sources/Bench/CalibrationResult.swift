import Foundation
import Lab
import Results

/// A figure of a program in one round; the raw value is the end of its names in JSON, such as `bareNs`.
enum Figure: String {
  /// Nanoseconds per phase request.
  case nanoseconds = "Ns"
  /// Phase requests a second.
  case rate = "Rps"
  /// Median response time, microseconds.
  case p50 = "P50Us"
  /// p99 of how late a request starts, microseconds.
  case lateness = "P99Us"
  /// Bytes that the load threads allocated per phase request in the measured time.
  case allocated = "allocatedBytes"
}

typealias Sample = [Figure: Double]

/// A bare program and its peer, measured in turn: a sample of each for every round.
struct CalibrationRow {
  /// What was asked of both, such as `inFlight`, by its name in JSON.
  var facts: [String: Double] = [:]
  var bare: [Sample]
  var peer: [Sample]

  func bareMedian(_ figure: Figure) -> Double { Statistics.median(bare.compactMap { $0[figure] }) ?? 0 }
  func peerMedian(_ figure: Figure) -> Double { Statistics.median(peer.compactMap { $0[figure] }) ?? 0 }

  /// The peer's figure over the bare program's: the median over rounds of the ratio within one round, which
  /// holds better on a shared machine than either figure. Nil without rounds or over 0; its 95 % bootstrap
  /// interval is nil with under 3 rounds.
  func ratio(_ figure: Figure) -> (ratio: Double, interval: Interval?)? {
    guard !bare.isEmpty else { return nil }
    return Statistics.pairedRatio(
      a: bare.compactMap { $0[figure] }, b: peer.compactMap { $0[figure] }
    ).map { ($0.ratio, $0.interval) }
  }

  /// The most bytes of a round; nil where a round has no such figure.
  var allocatedBytes: Double? {
    let values = peer.compactMap { $0[.allocated] }
    return values.count == peer.count ? values.max() : nil
  }
}

/// Rows that belong together: how they are named and shown, and how their peer is.
struct CalibrationSection {
  /// How the rows look as text.
  enum Layout { case block, lines, table }

  /// The keys of its value in JSON.
  var keys: [String]
  var title: String
  var layout: Layout
  /// The figures of both programs; the first one's ratio is the row's.
  var figures: [Figure]
  /// What is shown as the bare program and as its peer.
  var bareName: String
  var peerName = "engine"
  /// What a ratio is over.
  var than: String
  /// The start of the peer's names in JSON.
  var peerKey = "engine"
  /// A figure of the peer alone, in JSON.
  var alone: Figure?
  var isList = false
  var rows: [CalibrationRow]

  static func ffi(_ rows: [CalibrationRow]) -> Self {
    Self(
      keys: ["ffi"], title: "FFI, null plugin, per phase request, one thread", layout: .block,
      figures: [.nanoseconds], bareName: "bare C loop", than: "the bare loop", alone: .allocated,
      rows: rows)
  }

  static func queue(_ rows: [CalibrationRow]) -> Self {
    Self(
      keys: ["ffiQueue"],
      title: "FFI, plugin that answers from another thread, \(rows.inFlight) in flight, per phase request",
      layout: .block, figures: [.nanoseconds], bareName: "bare C host", than: "the bare host", rows: rows)
  }

  static func pacing(_ rows: [CalibrationRow]) -> Self {
    Self(
      keys: ["pacing"], title: "Open load of the null plugin, one phase: p99 of how late a request starts",
      layout: .lines, figures: [.lateness], bareName: "clock_nanosleep", than: "the bare loop", alone: .rate,
      isList: true, rows: rows)
  }

  /// The client's rows; its name is a key too, since scenarios could once choose between two.
  static func nats(_ rows: [CalibrationRow]) -> Self {
    Self(
      keys: ["nats", "natsNative"],
      title: "NATS, client \(CalibrationResult.client) (the default), one phase, one connection, "
        + "same bare echo worker",
      layout: .table, figures: [.rate, .p50], bareName: "bare", than: "the bare client", alone: .allocated,
      isList: true, rows: rows)
  }

  static func worker(_ rows: [CalibrationRow]) -> Self {
    Self(
      keys: ["worker"], title: "Worker, noop, \(rows.inFlight) in flight, same bare client", layout: .block,
      figures: [.rate], bareName: "bare worker", peerName: "nylon-worker", than: "the bare worker",
      peerKey: "worker", rows: rows)
  }

  /// A client of libnats, as a user of that library would get it.
  static func libnats(_ settings: String, _ rows: [CalibrationRow]) -> Self {
    Self(
      keys: ["natsLibnats\(settings.capitalized)"],
      title: "NATS, libnats instead of the engine, "
        + (settings == "tuned"
          ? "on an event loop" : "as it is by default, with a flusher thread that sleeps")
        + ", same bare echo worker",
      layout: .table, figures: [.rate, .p50], bareName: "bare", peerName: "libnats", than: "the bare client",
      peerKey: "libnats", isList: true, rows: rows)
  }
}

extension [CalibrationRow] {
  fileprivate var inFlight: Int { Int(first?.facts["inFlight"] ?? 0) }
}

/// What the engine must reach beside bare C on the same machine, and what it did.
struct CalibrationGoal {
  var goal: String
  /// The figure; nil when it could not be measured.
  var measured: Double?
  /// The bound that must be kept.
  var mustReach: Double
  /// What would be as fast as the machine.
  var aim: Double
  /// Whether the figure must stay under the bound, or over it.
  var isMost: Bool
  /// Nil when there is no figure.
  var isReached: Bool? { measured.map { isMost ? $0 <= mustReach : $0 >= mustReach } }
  var isAimReached: Bool? { measured.map { isMost ? $0 <= aim : $0 >= aim } }
}

/// What `calibrate` found. What was not asked for, or could not be measured, is absent.
struct CalibrationResult {
  /// The load process with many requests in flight.
  struct Memory: Encodable {
    var inFlight: Int
    /// Resident memory when the measured time began, bytes.
    var residentStartBytes: UInt64?
    /// And when it ended.
    var residentEndBytes: UInt64?
  }

  static let client = "native"

  var clockNs: Double?
  var recordNs: Double?
  /// The p99 of how late a short sleep ends.
  var timerOvershootUs: Double?
  var sections: [CalibrationSection] = []
  var memory: Memory?
  var rounds: Int
  var secondsEach: Double
  let measured = UTCSecond()
  let machine = MachineFacts.read(optimisedBuild: ToolVersion.isOptimised)

  // MARK: Goals

  /// A goal: what it is about, its bounds, and the figure of a section's rows.
  private struct Rule: Sendable {
    var key: String
    var goal: String
    var isMost = true
    var mustReach: Double
    var aim: Double
    var measured: @Sendable ([CalibrationRow]) -> Double?
  }

  private static func row(
    _ rows: [CalibrationRow], inFlight: Double, _ figure: Figure
  ) -> Double? {
    rows.first { $0.facts["inFlight"] == inFlight }?.ratio(figure)?.ratio
  }

  private static let rules: [Rule] = [
    Rule(key: "ffi", goal: "FFI: times the bare loop", mustReach: 1.25, aim: 1.1) {
      $0.first?.ratio(.nanoseconds)?.ratio
    },
    Rule(key: "ffi", goal: "FFI: bytes allocated per phase request", mustReach: 0, aim: 0) {
      $0.first?.allocatedBytes
    },
    Rule(key: "ffiQueue", goal: "FFI, another thread: times the bare host", mustReach: 1.3, aim: 1.1) {
      $0.first?.ratio(.nanoseconds)?.ratio
    },
    Rule(
      key: "pacing", goal: "open load at 60 % of the highest rate: send lag, times clock_nanosleep",
      mustReach: 1.5, aim: 1.1
    ) { rows in rows.first { $0.facts["shareOfHighest"] != nil }?.ratio(.lateness)?.ratio },
    Rule(key: "nats", goal: "NATS, 1 in flight: p50, times the bare client's", mustReach: 1.15, aim: 1.05) {
      row($0, inFlight: 1, .p50)
    },
    Rule(
      key: "nats", goal: "NATS, 64 in flight: share of the bare client's rate", isMost: false,
      mustReach: 0.85, aim: 0.95
    ) { row($0, inFlight: 64, .rate) },
    Rule(
      key: "nats", goal: "NATS, 256 in flight: share of the bare client's rate", isMost: false,
      mustReach: 0.75, aim: 0.95
    ) { row($0, inFlight: 256, .rate) },
    Rule(key: "nats", goal: "NATS: bytes allocated per phase request", mustReach: 0, aim: 0) { rows in
      let allocated = rows.compactMap(\.allocatedBytes)
      return allocated.count == rows.count ? allocated.max() : nil
    },
    Rule(
      key: "worker", goal: "nylon-worker: share of the bare worker's rate", isMost: false, mustReach: 0.7,
      aim: 0.9
    ) { $0.first?.ratio(.rate)?.ratio },
  ]

  /// The goals of the parts that were measured.
  var goals: [CalibrationGoal] {
    var goals = Self.rules.compactMap { rule in
      sections.first { $0.keys.contains(rule.key) }.map {
        CalibrationGoal(
          goal: rule.goal, measured: rule.measured($0.rows), mustReach: rule.mustReach, aim: rule.aim,
          isMost: rule.isMost)
      }
    }
    if let memory {
      goals.append(
        CalibrationGoal(
          goal: "resident memory with \(memory.inFlight) in flight, MiB",
          measured: memory.residentEndBytes.map { Double($0) / 1_048_576 }, mustReach: 64, aim: 64,
          isMost: true))
    }
    return goals
  }
}

// MARK: JSON

/// A key that is only known while encoding.
private struct Key: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }

  init(_ text: String) { stringValue = text }
  init?(stringValue: String) { self.init(stringValue) }
  init?(intValue: Int) { nil }
}

/// Promised to scripts.
extension CalibrationResult: Encodable {
  func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: Key.self)
    try values.encodeIfPresent(clockNs, forKey: Key("clockNs"))
    try values.encodeIfPresent(recordNs, forKey: Key("recordNs"))
    try values.encodeIfPresent(timerOvershootUs, forKey: Key("timerOvershootUs"))
    for section in sections {
      let rows = section.rows.map { EncodedRow(section: section, row: $0) }
      for key in section.keys.map(Key.init) {
        if section.isList {
          try values.encode(rows, forKey: key)
        } else {
          try values.encode(rows[0], forKey: key)
        }
      }
    }
    try values.encodeIfPresent(memory, forKey: Key("memory"))
    try values.encode(Self.client, forKey: Key("client"))
    try values.encode(goals, forKey: Key("goals"))
    try values.encode(rounds, forKey: Key("rounds"))
    try values.encode(secondsEach, forKey: Key("secondsEach"))
    try values.encode(measured, forKey: Key("measured"))
    try values.encode(ToolVersion.current, forKey: Key("toolVersion"))
    try values.encode(machine, forKey: Key("machine"))
  }
}

extension CalibrationGoal: Encodable {
  private enum CodingKeys: CodingKey { case goal, measured, mustReach, aim, isMost, isReached, isAimReached }

  func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(goal, forKey: .goal)
    try values.encodeIfPresent(measured, forKey: .measured)
    try values.encode(mustReach, forKey: .mustReach)
    try values.encode(aim, forKey: .aim)
    try values.encode(isMost, forKey: .isMost)
    try values.encodeIfPresent(isReached, forKey: .isReached)
    try values.encodeIfPresent(isAimReached, forKey: .isAimReached)
  }
}

private struct EncodedRow: Encodable {
  let section: CalibrationSection
  let row: CalibrationRow

  func encode(to encoder: any Encoder) throws {
    var numbers = row.facts
    for (place, figure) in section.figures.enumerated() {
      numbers["bare\(figure.rawValue)"] = row.bareMedian(figure)
      numbers["\(section.peerKey)\(figure.rawValue)"] = row.peerMedian(figure)
      let paired = row.ratio(figure)
      // The first figure's ratio is the row's.
      guard place == 0 else {
        numbers["p50Ratio"] = paired?.ratio
        continue
      }
      numbers["ratio"] = paired?.ratio
      numbers["ratioLow"] = paired?.interval?.low
      numbers["ratioHigh"] = paired?.interval?.high
    }
    if section.alone == .allocated { numbers[Figure.allocated.rawValue] = row.allocatedBytes }
    if section.alone == .rate { numbers["engineRps"] = row.peerMedian(.rate) }
    var values = encoder.container(keyedBy: Key.self)
    for (key, number) in numbers { try values.encode(number, forKey: Key(key)) }
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
    for section in sections { lines += section.lines + [""] }
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
    let goals = goals
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
        row.facts["shareOfHighest"].map { String(format: " (%.0f %% of the highest)", $0 * 100) } ?? ""
      return [
        String(format: "  %9.0f/s  ", row.facts["ratePerSecond"] ?? 0) + bareName
          + String(format: " %8.2f µs  ", bare) + peerName + String(format: " %8.2f µs   ", peer) + times
          + share
      ]
    case .table:
      return [
        String(format: "  %9.0f  %12.0f  %12.0f   ", row.facts["inFlight"] ?? 0, bare, peer)
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
