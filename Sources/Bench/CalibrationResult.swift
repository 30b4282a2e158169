import Engine
import Foundation
import Lab
import Report
import Results

/// A figure of a program in one round. The raw value is the suffix of its JSON keys, such as `bare_ns`.
enum Figure: String {
  case nanoseconds = "ns"
  case rate = "rps"
  case p50 = "p50_us"
  case lateness = "p99_us"
  case allocated = "allocated_bytes"

  fileprivate var name: String {
    switch self {
    case .nanoseconds: "phase request time"
    case .rate: "phase requests a second"
    case .p50: "response p50"
    case .lateness: "send lag p99"
    case .allocated: "bytes allocated"
    }
  }

  fileprivate func shown(_ value: Double) -> String {
    switch self {
    case .nanoseconds: "\(Number.text(value, digits: 1) ?? "–") ns"
    case .p50, .lateness: Number.time(microseconds: value) ?? "–"
    case .rate, .allocated: Number.grouped(value) ?? "–"
    }
  }
}

typealias Sample = [Figure: Double]

/// A bare program and its peer, measured alternately, with one sample of each per round.
struct CalibrationRow {
  var facts: [String: Double] = [:]
  var bare: [Sample]
  var peer: [Sample]

  var inFlight: Int { Int(facts["in_flight"] ?? 1) }
  fileprivate var load: String {
    guard let rate = facts["rate_per_second"] else { return "\(inFlight) in flight" }
    let share = facts["share_of_highest"].map { " (\(shown($0 * 100, 0)) % of the highest)" } ?? ""
    return "\(Number.grouped(rate) ?? "?")/s\(share)"
  }

  func bareMedian(_ figure: Figure) -> Double { Statistics.median(bare.compactMap { $0[figure] }) ?? 0 }
  func peerMedian(_ figure: Figure) -> Double { Statistics.median(peer.compactMap { $0[figure] }) ?? 0 }

  /// The median over all rounds of the ratio of the peer to the bare program, which is more stable on a
  /// shared machine than either figure. Nil without rounds or when the median is not finite.
  func ratio(_ figure: Figure) -> (ratio: Double, interval: Interval?)? {
    let ratios = zip(bare.compactMap { $0[figure] }, peer.compactMap { $0[figure] }).map { $1 / $0 }
    guard let ratio = Statistics.median(ratios), ratio.isFinite else { return nil }
    return (ratio, Statistics.medianInterval(ratios))
  }

  /// The most bytes allocated in any round; nil when a round lacks the figure.
  var allocatedBytes: Double? {
    let values = peer.compactMap { $0[.allocated] }
    return values.count == peer.count ? values.max() : nil
  }
}

/// A group of rows, with the titles and keys under which they are shown.
struct CalibrationSection {
  var title: String
  /// The figures of both programs. The ratio of the first figure is the ratio of the row.
  var figures: [Figure]
  /// A figure of the peer only, shown in JSON.
  var alone: Figure?
  /// The column titles of the bare program and its peer.
  var bareName = "bare client"
  var peerName = "engine"
  /// The prefix of the peer's JSON keys.
  var peerKey = "engine"
  /// Whether the JSON is a list of rows; otherwise it is an object for the only row.
  var isList = true
  var rows: [CalibrationRow]

  static func ffi(_ row: CalibrationRow) -> Self {
    Self(
      title: "FFI, null plugin, one thread", figures: [.nanoseconds], alone: .allocated,
      bareName: "bare C loop", isList: false, rows: [row])
  }

  static func queue(_ row: CalibrationRow) -> Self {
    Self(
      title: "FFI, plugin that answers from another thread", figures: [.nanoseconds],
      bareName: "bare C host", isList: false, rows: [row])
  }

  static func pacing(_ rows: [CalibrationRow]) -> Self {
    Self(
      title: "Open load on the null plugin, one phase", figures: [.lateness], alone: .rate,
      bareName: "clock_nanosleep", rows: rows)
  }

  static func nats(_ rows: [CalibrationRow]) -> Self {
    Self(
      title: "NATS, one phase, one connection, same bare echo worker",
      figures: [.rate, .p50], alone: .allocated, rows: rows)
  }

  static func libnats(_ settings: String, _ rows: [CalibrationRow]) -> Self {
    Self(
      title: "NATS, libnats instead of the engine, \(settings)",
      figures: [.rate, .p50],
      peerName: "libnats", peerKey: "libnats", rows: rows)
  }

  static func worker(_ row: CalibrationRow) -> Self {
    Self(
      title: "Worker, noop, same bare client", figures: [.rate], bareName: "bare worker",
      peerName: "nylon-worker", peerKey: "worker", isList: false, rows: [row])
  }

  fileprivate var table: ReportTable {
    CalibrationResult.table(
      title, ["load", "figure", bareName, peerName, "ratio (95 % interval)"],
      rows.flatMap { row in
        figures.map { figure in
          let paired = row.ratio(figure)
          let interval = paired?.interval.map { " (\(shown($0.low)) to \(shown($0.high)))" } ?? ""
          return [
            row.load, figure.name, figure.shown(row.bareMedian(figure)), figure.shown(row.peerMedian(figure)),
            paired.map { shown($0.ratio) + interval } ?? "–",
          ]
        }
      })
  }
}

extension CalibrationSection: Encodable {
  func encode(to encoder: any Encoder) throws {
    var value = encoder.singleValueContainer()
    if isList { try value.encode(rows.map(object)) } else { try value.encode(object(rows[0])) }
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

/// A goal for the engine compared with bare C on the same machine, and the measured result.
struct CalibrationGoal: Encodable {
  let goal: String
  let measured: Double?
  let mustReach: Double
  /// The bound at which the engine would be about as fast as the machine allows.
  let aim: Double
  /// Whether the bound is a maximum; otherwise it is a minimum.
  let isMost: Bool
  let isReached: Bool?
  let isAimReached: Bool?
}

/// The result of `calibrate`. Its JSON format is stable. Parts that were not requested or could not be
/// measured are absent.
struct CalibrationResult: Encodable {
  struct Memory: Encodable {
    var inFlight: Int
    var residentStartBytes: UInt64?
    var residentEndBytes: UInt64?
  }

  var clockNs: Double?
  var recordNs: Double?
  /// The p99 overshoot of a short sleep.
  var timerOvershootUs: Double?
  var ffi: CalibrationSection?
  var ffiQueue: CalibrationSection?
  var pacing: CalibrationSection?
  /// The name of the engine's client. `natsNative` repeats `nats` because there used to be two clients.
  var client = Engine.Measurement.nativeClient
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

  func judged() -> [CalibrationGoal] {
    var goals: [CalibrationGoal] = []
    func most(_ goal: String, _ measured: Double?, _ bound: Double, aim: Double, isMost: Bool = true) {
      func isKept(_ bound: Double) -> Bool? { measured.map { isMost ? $0 <= bound : $0 >= bound } }
      goals.append(
        CalibrationGoal(
          goal: goal, measured: measured, mustReach: bound, aim: aim, isMost: isMost,
          isReached: isKept(bound), isAimReached: isKept(aim)))
    }
    func least(_ goal: String, _ measured: Double?, _ bound: Double, aim: Double) {
      most(goal, measured, bound, aim: aim, isMost: false)
    }
    if let row = ffi?.rows.first {
      most("FFI: ratio to bare loop", row.ratio(.nanoseconds)?.ratio, 1.25, aim: 1.1)
      most("FFI: bytes allocated per phase request", row.allocatedBytes, 0, aim: 0)
    }
    if let row = ffiQueue?.rows.first {
      most("FFI, another thread: ratio to bare host", row.ratio(.nanoseconds)?.ratio, 1.3, aim: 1.1)
    }
    if let row = pacing?.rows.first(where: { $0.facts["share_of_highest"] != nil }) {
      most("open load: send lag, ratio to clock_nanosleep", row.ratio(.lateness)?.ratio, 1.5, aim: 1.1)
    }
    if let rows = nats?.rows {
      func ratio(_ inFlight: Int, _ figure: Figure) -> Double? {
        rows.first { $0.inFlight == inFlight }?.ratio(figure)?.ratio
      }
      let allocated = rows.compactMap(\.allocatedBytes)
      let mostAllocated = allocated.count == rows.count ? allocated.max() : nil
      most("NATS, 1 in flight: p50, ratio to bare client", ratio(1, .p50), 1.15, aim: 1.05)
      least("NATS, 64 in flight: share of the bare client's rate", ratio(64, .rate), 0.85, aim: 0.95)
      least("NATS, 256 in flight: share of the bare client's rate", ratio(256, .rate), 0.75, aim: 0.95)
      most("NATS: bytes allocated per phase request", mostAllocated, 0, aim: 0)
    }
    if let row = worker?.rows.first {
      least("nylon-worker: share of the bare worker's rate", row.ratio(.rate)?.ratio, 0.7, aim: 0.9)
    }
    if let memory {
      let mebibytes = memory.residentEndBytes.map { Double($0) / 1_048_576 }
      most("resident memory with \(memory.inFlight) in flight, MiB", mebibytes, 64, aim: 64)
    }
    return goals
  }
}

// MARK: Text

extension CalibrationResult {
  var text: String {
    func mebibytes(_ bytes: UInt64?) -> String? { bytes.map { "\(shown(Double($0) / 1_048_576, 1)) MiB" } }
    let place = "resident memory of the generator, NATS, \(memory?.inFlight ?? 0) in flight,"
    let costs = [
      ("clock read", clockNs.map { "\(shown($0, 1)) ns" }),
      ("histogram record", recordNs.map { "\(shown($0, 1)) ns" }),
      ("timer overshoot, p99", timerOvershootUs.map { "\(shown($0, 1)) µs" }),
      ("\(place) at the start", mebibytes(memory?.residentStartBytes)),
      ("\(place) at the end", mebibytes(memory?.residentEndBytes)),
    ].compactMap { name, value in value.map { [name, $0] } }
    let sections = [ffi, ffiQueue, pacing, nats, worker, natsLibnatsTuned, natsLibnatsDefaults]
    let tables =
      [Self.table("Cost of the engine itself", ["part", "measured"], costs)]
      + sections.compactMap { $0?.table } + [goalTable]
    return tables.filter { !$0.rows.isEmpty }.map { $0.text() + "\n" }.joined()
      + "Medians of \(rounds) rounds of \(secondsEach.formatted()) s, bare and engine in turn; "
      + "a ratio is the median of the rounds' ratios.\nFFI and NATS: \(rounds * Calibration.shortRounds) "
      + "rounds, proportionally shorter; libnats: \(rounds) of these"
      + (pacing?.rows.last.map { "; 60 % of the highest rate: \($0.bare.count)" } ?? "") + "."
  }

  private var goalTable: ReportTable {
    Self.table(
      "Goals", ["goal", "verdict", "measured", "must reach", "aim"],
      goals.map { goal in
        func bound(_ value: Double) -> String { "\(goal.isMost ? "≤" : "≥") \(Number.text(value) ?? "–")" }
        let verdict = goal.isReached.map {
          $0 ? (goal.isAimReached == true ? "aim reached" : "reached") : "not reached"
        }
        return [
          goal.goal, verdict ?? "not measured", goal.measured.map { shown($0) } ?? "–",
          bound(goal.mustReach), bound(goal.aim),
        ]
      })
  }

  fileprivate static func table(_ title: String, _ heads: [String], _ rows: [[String]]) -> ReportTable {
    ReportTable(
      title,
      heads.enumerated().map { place, head in Column.toned(head, isText: place < 2) { Cell($0[place]) } },
      rows)
  }
}
