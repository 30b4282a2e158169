/// One documented figure, and how it is tested.
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

    /// Orders a before b before c.
    public static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }
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
  /// The words of the document.
  public var words: String
  /// The lower end of the documented range, in `unit`.
  public var low: Double
  /// The upper end, in `unit`.
  public var high: Double
  /// The document's unit.
  public var unit: Unit
  /// The column of summary.csv that tests it, such as `response_p50_us`.
  public var metric: String
  /// Which side is good.
  public var better: Better
  /// What is measured.
  public var target: Role
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  public var documentedRatePerSecond: Double?
  /// The circumstances, in the order a, b, c.
  public var conditions: [Condition]
  /// Why it is not measured; nil when it is.
  public var notMeasured: String?

  /// A claim.
  public init(
    id: String, document: String, line: Int, words: String, low: Double, high: Double, unit: Unit,
    metric: String, better: Better, target: Role, documentedRatePerSecond: Double? = nil,
    conditions: [Condition], notMeasured: String? = nil
  ) {
    self.id = id
    self.document = document
    self.line = line
    self.words = words
    self.low = low
    self.high = high
    self.unit = unit
    self.metric = metric
    self.better = better
    self.target = target
    self.documentedRatePerSecond = documentedRatePerSecond
    self.conditions = conditions
    self.notMeasured = notMeasured
  }

  /// The documented range in the metric's own unit: microseconds for `…_us`, else as documented.
  public var rangeInMetricUnit: ClosedRange<Double> {
    let factor = unit == .milliseconds ? 1000.0 : 1
    return (low * factor)...(high * factor)
  }
}
