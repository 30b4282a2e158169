import Engine
import Scenario

/// A documented claim, and where its measurements are.
package struct ClaimCheck: Sendable, Equatable {
  /// Which measurement tests a claim.
  package struct Condition: Sendable, Equatable {
    /// `a` unloaded, `b` open loop at the documented rate, `c` closed loop at the implied concurrency,
    /// `d` the same closed loop for both sides of a comparison.
    package var letter: String
    package var target: String
    package var load: String
    /// The target that it is held against under the same load; nil for a figure of its own.
    package var against: String?

    package init(letter: String, target: String, load: String, against: String? = nil) {
      self.letter = letter
      self.target = target
      self.load = load
      self.against = against
    }

    /// Such as `b open-44000 ffi`, or `a closed-1 nats against ffi`.
    var label: String { "\(letter) \(load) \(target)" + (against.map { " against \($0)" } ?? "") }
  }

  package var id: String
  /// What it is about, such as `ffi latency`; claims of the same subject whose ranges lie apart
  /// disagree. Nil when no other claim is about it.
  package var subject: String?
  /// What it is held against, as `subject`; nil for a figure of its own.
  package var againstSubject: String?
  /// The document that says it.
  package var document: String
  /// The line there, from 1.
  package var line: Int
  /// Other lines that say the same.
  package var alsoLines: [Int]
  /// What it says, in its words.
  package var words: String
  /// The documented range's lower end, in `unit`; nil when it has none. A single number is a range
  /// of +-10 %, made by the caller.
  package var low: Double?
  /// Its upper end, as `low`.
  package var high: Double?
  /// `ns`, `us`, `µs`, `ms`, `s`, `req/s`, `K req/s`, or a column's own unit.
  package var unit: String
  /// `latency` (tested at p50), `throughput`, or a numeric column of summary.csv.
  package var metric: String
  /// Whether less is better.
  package var lowerIsBetter: Bool
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  package var documentedRatePerSecond: Double?
  /// How the figure is held against another target's; nil for a figure of its own.
  package var relation: ClaimSpec.Relation?
  /// What tests it.
  package var conditions: [Condition]
  /// Whether the conditions are a range of circumstances of which the document names none, such as
  /// round trips of a network: then it is true when it is for one of them.
  package var isOverRange: Bool
  /// Why it was not measured, and what to install; nil when it was.
  package var notMeasuredReason: String?
  /// For a claim about behaviour: whether it was seen to hold.
  package var holds: Bool?
  /// For a claim about behaviour: what was seen.
  package var seen: String

  package init(
    id: String, subject: String? = nil, againstSubject: String? = nil, document: String, line: Int,
    alsoLines: [Int] = [], words: String,
    low: Double? = nil, high: Double? = nil, unit: String = "", metric: String,
    lowerIsBetter: Bool = true, documentedRatePerSecond: Double? = nil,
    relation: ClaimSpec.Relation? = nil, conditions: [Condition] = [],
    isOverRange: Bool = false, notMeasuredReason: String? = nil,
    holds: Bool? = nil, seen: String = ""
  ) {
    self.id = id
    self.subject = subject
    self.againstSubject = againstSubject
    self.document = document
    self.line = line
    self.alsoLines = alsoLines
    self.words = words
    self.low = low
    self.high = high
    self.unit = unit
    self.metric = metric
    self.lowerIsBetter = lowerIsBetter
    self.documentedRatePerSecond = documentedRatePerSecond
    self.relation = relation
    self.conditions = conditions
    self.isOverRange = isOverRange
    self.notMeasuredReason = notMeasuredReason
    self.holds = holds
    self.seen = seen
  }

  /// The documented range as text, such as `2 to 3`, `<= 2`, `>= 40000`.
  var documented: String {
    let ends = (low.flatMap { Number.significant($0) }, high.flatMap { Number.significant($0) })
    switch ends {
    case (let low?, let high?): return low == high ? low : "\(low) to \(high)"
    case (let low?, nil): return ">= \(low)"
    case (nil, let high?): return "<= \(high)"
    case (nil, nil): return ""
    }
  }

  /// What is measured, by its column of summary.csv.
  var column: String {
    switch metric {
    case "latency": "response_p50_us"
    case "throughput": "throughput_rps"
    default: metric
    }
  }

  /// How many of the column's units the claim's unit is; nil when the unit does not fit the column.
  var unitFactor: Double? {
    let times = ["ns": 0.001, "us": 1, "µs": 1, "μs": 1, "ms": 1000, "s": 1_000_000]
    if relation == .change { return unit == "%" ? 1 : nil }
    let rates = ["req/s": 1.0, "rps": 1, "requests/s": 1, "k req/s": 1000, "kreq/s": 1000]
    if column.hasSuffix("_us") { return times[unit] }
    if column.hasSuffix("_rps") { return rates[unit.lowercased()] }
    return 1
  }
}

/// What a claim came to under one condition, or overall: a row of claims.csv.
package struct ClaimVerdict: Codable, Sendable, Equatable {
  /// What a claim can come to.
  package enum Verdict: String, Codable, Sendable {
    /// The interval lies in the documented range.
    case confirmed
    /// The interval lies wholly on the good side of it.
    case better
    /// The interval lies wholly on the bad side, or the documented rate cannot be reached.
    case worse
    /// The interval straddles an end of the range, or the measurement is invalid.
    case inconclusive
    /// A behaviour was seen.
    case holds
    /// A behaviour was not seen.
    case fails
    /// Nothing was measured; the reason says why.
    case notMeasured = "not_measured"
  }

  /// The condition of the row that counts for a gate.
  package static let overall = "overall"
  /// The condition of a row about two documents that disagree.
  package static let disagreement = "disagreement"

  /// The claim's id; of a disagreement both, with `~` between.
  package var id: String
  package var document: String
  /// The line there, from 1.
  package var line: Int
  /// What it says.
  package var claim: String
  /// The documented range, in `unit`.
  package var documented: String
  /// The unit of all figures of the row.
  package var unit: String
  /// `overall`, `disagreement`, or a condition such as `b open-44000 ffi`.
  package var condition: String
  /// What was measured; nil when nothing was.
  package var measured: Double?
  /// Lower end of its 95 % interval; nil when there is none.
  package var low: Double?
  package var high: Double?
  /// What it comes to.
  package var verdict: Verdict
  /// The figures behind it, for people.
  package var why: String

  /// Whether the row counts for a gate: only a claim's overall row does.
  package var isOverall: Bool { condition == Self.overall }
}
