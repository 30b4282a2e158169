import Scenario

/// A documented claim, and where its measurements are.
public struct ClaimCheck: Sendable, Equatable {
  /// Which measurement tests a claim.
  public struct Condition: Sendable, Equatable {
    /// `a` unloaded, `b` open loop at the documented rate, `c` closed loop at the implied concurrency,
    /// `d` the same closed loop for both sides of a comparison.
    public var letter: String
    /// The target's name.
    public var target: String
    /// The load's label.
    public var load: String
    /// The target that it is held against under the same load; nil for a figure of its own.
    public var against: String?

    /// A condition.
    public init(letter: String, target: String, load: String, against: String? = nil) {
      self.letter = letter
      self.target = target
      self.load = load
      self.against = against
    }

    /// Such as `b open-44000 ffi`, or `a closed-1 nats against ffi`.
    var label: String { "\(letter) \(load) \(target)" + (against.map { " against \($0)" } ?? "") }
  }

  /// The claim's id.
  public var id: String
  /// What it is about, such as `ffi latency`; claims of the same subject whose ranges lie apart
  /// disagree. Nil when no other claim is about it.
  public var subject: String?
  /// What it is held against, as `subject`; nil for a figure of its own.
  public var againstSubject: String?
  /// The document that says it.
  public var document: String
  /// The line there, from 1.
  public var line: Int
  /// Other lines that say the same.
  public var alsoLines: [Int]
  /// What it says, in its words.
  public var words: String
  /// The documented range's lower end, in `unit`; nil when it has none. A single number is a range
  /// of +-10 %, made by the caller.
  public var low: Double?
  /// Its upper end, as `low`.
  public var high: Double?
  /// `ns`, `us`, `µs`, `ms`, `s`, `req/s`, `K req/s`, or a column's own unit.
  public var unit: String
  /// `latency` (tested at p50), `throughput`, or a numeric column of summary.csv.
  public var metric: String
  /// Whether less is better.
  public var lowerIsBetter: Bool
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  public var documentedRatePerSecond: Double?
  /// How the figure is held against another target's; nil for a figure of its own.
  public var relation: ClaimSpec.Relation?
  /// What tests it.
  public var conditions: [Condition]
  /// Whether the conditions are a range of circumstances of which the document names none, such as
  /// round trips of a network: then it is true when it is for one of them.
  public var isOverRange: Bool
  /// Why it was not measured, and what to install; nil when it was.
  public var notMeasuredReason: String?
  /// For a claim about behaviour: whether it was seen to hold.
  public var holds: Bool?
  /// For a claim about behaviour: what was seen.
  public var seen: String

  /// A claim.
  public init(
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
public struct ClaimVerdict: Codable, Sendable, Equatable {
  /// What a claim can come to.
  public enum Verdict: String, Codable, Sendable {
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
  public static let overall = "overall"
  /// The condition of a row about two documents that disagree.
  public static let disagreement = "disagreement"

  /// The claim's id; of a disagreement both, with `~` between.
  public var id: String
  /// The document.
  public var document: String
  /// The line there, from 1.
  public var line: Int
  /// What it says.
  public var claim: String
  /// The documented range, in `unit`.
  public var documented: String
  /// The unit of all figures of the row.
  public var unit: String
  /// `overall`, `disagreement`, or a condition such as `b open-44000 ffi`.
  public var condition: String
  /// What was measured; nil when nothing was.
  public var measured: Double?
  /// Lower end of its 95 % interval; nil when there is none.
  public var low: Double?
  /// Upper end.
  public var high: Double?
  /// What it comes to.
  public var verdict: Verdict
  /// The figures behind it, for people.
  public var why: String

  /// Whether the row counts for a gate: only a claim's overall row does.
  public var isOverall: Bool { condition == Self.overall }
}
