/// One documented figure, and how it is tested.
///
/// A figure of one target, or of one target held against another's under the same load: a difference
/// ("+2-3 ms") or a change in percent ("-30 %").
public struct ClaimSpec: Codable, Sendable, Equatable {
  /// Which side of the range is good.
  public enum Better: String, Codable, Sendable, CaseIterable {
    /// Less is better: a latency.
    case lower
    /// More is better: a throughput.
    case higher
  }

  /// The unit that the document uses.
  public enum Unit: String, Codable, Sendable, CaseIterable {
    /// Milliseconds.
    case milliseconds = "ms"
    /// Microseconds.
    case microseconds = "us"
    /// Requests a second.
    case requestsPerSecond = "req/s"
    /// Percent, of a change.
    case percent = "%"
  }

  /// What is measured to test the claim.
  public enum Role: String, Codable, Sendable, CaseIterable {
    /// A plugin in the host's process.
    case ffi
    /// Workers behind a broker on this machine.
    case nats
    /// Workers behind a broker on another machine.
    case natsNet = "nats-net"
  }

  /// The circumstances of a test.
  public enum Circumstance: String, Codable, Sendable, CaseIterable, Comparable {
    /// Unloaded: one request in flight.
    case unloaded = "a"
    /// Open loop at the documented throughput.
    case documentedRate = "b"
    /// Closed loop at the concurrency that Little's law implies from the documented pair.
    case impliedConcurrency = "c"
    /// The same closed loop, loaded, for both sides of a comparison.
    case sameLoad = "d"

    /// Orders a before b before c.
    public static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }
  }

  /// How a figure is held against another target's.
  public enum Relation: String, Codable, Sendable {
    /// This target's figure less the other's, in the claim's unit.
    case difference
    /// How much more or less than the other's it is, percent.
    case change
  }

  /// A circumstance and the load that makes it.
  public struct Condition: Codable, Sendable, Equatable {
    /// a, b or c.
    public var circumstance: Circumstance
    /// The load's label, such as `open-44000`.
    public var load: String

    /// A condition.
    public init(circumstance: Circumstance, load: String) {
      self.circumstance = circumstance
      self.load = load
    }
  }

  /// The claim's name in claims.csv; unique.
  public var id: String
  /// The document's file name.
  public var document: String
  /// The line of the document, from 1.
  public var line: Int
  /// Other lines of the same document that say the same.
  public var alsoLines: [Int]
  /// The words of the document.
  public var words: String
  /// The lower end of the documented range, in `unit`; nil when it has none.
  public var low: Double?
  /// The upper end, in `unit`; nil when it has none. One of the two is there.
  public var high: Double?
  /// The document's unit.
  public var unit: Unit
  /// The column of summary.csv that tests it, such as `response_p50_us`.
  public var metric: String
  /// Which side is good.
  public var better: Better
  /// What is measured.
  public var target: Role
  /// What the target is held against, and how; nil for a figure of its own.
  public var against: Role?
  /// As `against`.
  public var relation: Relation?
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  public var documentedRatePerSecond: Double?
  /// The circumstances, in the order a, b, c, d.
  public var conditions: [Condition]
  /// Why it is not measured; nil when it is.
  public var notMeasured: String?

  /// A claim.
  public init(
    id: String, document: String, line: Int, alsoLines: [Int] = [], words: String, low: Double?,
    high: Double?,
    unit: Unit, metric: String, better: Better, target: Role, against: Role? = nil,
    relation: Relation? = nil, documentedRatePerSecond: Double? = nil, conditions: [Condition],
    notMeasured: String? = nil
  ) {
    self.id = id
    self.document = document
    self.line = line
    self.alsoLines = alsoLines
    self.words = words
    self.low = low
    self.high = high
    self.unit = unit
    self.metric = metric
    self.better = better
    self.target = target
    self.against = against
    self.relation = relation
    self.documentedRatePerSecond = documentedRatePerSecond
    self.conditions = conditions
    self.notMeasured = notMeasured
  }
}

/// Something known about where a documented figure comes from.
public struct ClaimOrigin: Codable, Sendable, Equatable {
  /// Ids of the claims that it is about.
  public var about: [String]
  /// What is known.
  public var fact: String
  /// Where that can be read.
  public var source: String

  /// A fact.
  public init(about: [String], fact: String, source: String) {
    self.about = about
    self.fact = fact
    self.source = source
  }
}
