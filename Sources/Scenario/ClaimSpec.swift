/// One documented figure, and how it is tested.
///
/// A figure of one target, or of one target held against another's under the same load: a difference
/// ("+2-3 ms") or a change in percent ("-30 %").
package struct ClaimSpec: Codable, Sendable, Equatable {
  /// Which side of the range is good.
  package enum Better: String, Codable, Sendable, CaseIterable {
    /// Less is better: a latency.
    case lower
    /// More is better: a throughput.
    case higher
  }

  /// The unit that the document uses.
  package enum Unit: String, Codable, Sendable, CaseIterable {
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
  package enum Role: String, Codable, Sendable, CaseIterable {
    /// A plugin in the host's process.
    case ffi
    /// Workers behind a broker on this machine.
    case nats
    /// Workers behind a broker on another machine.
    case natsNet = "nats-net"
  }

  /// The circumstances of a test.
  package enum Circumstance: String, Codable, Sendable, CaseIterable, Comparable {
    /// Unloaded: one request in flight.
    case unloaded = "a"
    /// Open loop at the documented throughput.
    case documentedRate = "b"
    /// Closed loop at the concurrency that Little's law implies from the documented pair.
    case impliedConcurrency = "c"
    /// The same closed loop, loaded, for both sides of a comparison.
    case sameLoad = "d"

    /// Orders a before b before c.
    package static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }
  }

  /// How a figure is held against another target's.
  package enum Relation: String, Codable, Sendable {
    /// This target's figure less the other's, in the claim's unit.
    case difference
    /// How much more or less than the other's it is, percent.
    case change
  }

  /// A circumstance and the load that makes it.
  package struct Condition: Codable, Sendable, Equatable {
    /// a, b or c.
    package var circumstance: Circumstance
    /// The load's label, such as `open-44000`.
    package var load: String

    /// A condition.
    package init(circumstance: Circumstance, load: String) {
      self.circumstance = circumstance
      self.load = load
    }
  }

  /// The claim's name in claims.csv; unique.
  package var id: String
  /// The document's file name.
  package var document: String
  /// The line of the document, from 1.
  package var line: Int
  /// Other lines of the same document that say the same.
  package var alsoLines: [Int]
  /// The words of the document.
  package var words: String
  /// The lower end of the documented range, in `unit`; nil when it has none.
  package var low: Double?
  /// The upper end, in `unit`; nil when it has none. One of the two is there.
  package var high: Double?
  /// The document's unit.
  package var unit: Unit
  /// The column of summary.csv that tests it, such as `response_p50_us`.
  package var metric: String
  /// Which side is good.
  package var better: Better
  /// What is measured.
  package var target: Role
  /// What the target is held against, and how; nil for a figure of its own.
  package var against: Role?
  /// As `against`.
  package var relation: Relation?
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  package var documentedRatePerSecond: Double?
  /// The circumstances, in the order a, b, c, d.
  package var conditions: [Condition]
  /// Why it is not measured; nil when it is.
  package var notMeasured: String?

  /// A claim.
  package init(
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
package struct ClaimOrigin: Codable, Sendable, Equatable {
  /// Ids of the claims that it is about.
  package var about: [String]
  /// What is known.
  package var fact: String
  /// Where that can be read.
  package var source: String

  /// A fact.
  package init(about: [String], fact: String, source: String) {
    self.about = about
    self.fact = fact
    self.source = source
  }
}
