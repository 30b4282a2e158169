// What the documents say, as Scenarios/claims.yaml states it: figures, behaviour, and where figures come from.

/// One documented figure, and how it is tested.
///
/// A figure of one target, or of one target compared with another under the same load: a difference
/// ("+2-3 ms") or a change in percent ("-30 %").
package struct ClaimSpec: Sendable, Equatable {
  /// Which side of the range is good.
  package enum Better: String, Sendable, CaseIterable { case lower, higher }

  /// The unit that the document uses.
  package enum Unit: String, Sendable, CaseIterable {
    case milliseconds = "ms"
    case microseconds = "us"
    case requestsPerSecond = "req/s"
    /// Of a change.
    case percent = "%"
  }

  /// What is measured to test the claim.
  package enum Role: String, Sendable, CaseIterable {
    /// A plugin in the host's process.
    case ffi
    /// Workers behind a broker on this machine.
    case nats
    /// Workers behind a broker on another machine.
    case natsNet = "nats-net"
  }

  /// The circumstances of a test, in the order in which they are listed.
  package enum Circumstance: String, Sendable, CaseIterable {
    /// One request in flight.
    case unloaded = "a"
    /// Open loop at the documented throughput.
    case documentedRate = "b"
    /// Closed loop at the concurrency that Little's law implies from the documented pair.
    case impliedConcurrency = "c"
    /// The same closed loop, loaded, for both sides of a comparison.
    case sameLoad = "d"
  }

  /// How a figure is compared with another target's.
  package enum Relation: String, Sendable {
    /// This target's figure less the other's, in the claim's unit.
    case difference
    /// How much more or less than the other's it is, percent.
    case change
  }

  /// A circumstance, and the label of the load that makes it, such as `open-44000`.
  package struct Condition: Sendable, Equatable {
    package var circumstance: Circumstance
    package var load: String
  }

  /// The claim's name in claims.csv; unique.
  package var id: String
  /// The document's file name.
  package var document: String
  /// The line of the document, from 1.
  package var line: Int
  /// Other lines of the same document that say the same.
  package var alsoLines: [Int] = []
  /// The words of the document.
  package var words: String
  /// The lower end of the documented range, in `unit`; nil when it has none. One of the two is there.
  package var low: Double?
  package var high: Double?
  package var unit: Unit
  /// The column of summary.csv that tests it, such as `response_p50_us`.
  package var metric: String
  package var better: Better
  package var target: Role
  /// What the target is compared with, and how; nil for a figure of its own.
  package var against: Role?
  package var relation: Relation?
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  package var documentedRatePerSecond: Double?
  /// In the order a, b, c, d.
  package var conditions: [Condition] = []
  /// Why it is not measured; nil when it is.
  package var notMeasured: String?
}

/// One documented statement about behaviour, and the test that tries it.
package struct BehaviourSpec: Sendable, Equatable {
  /// Its name in claims.csv; unique among all claims.
  package var id: String
  package var document: String
  package var line: Int
  package var words: String
  /// The test's name; nil when it is not measured.
  package var test: String?
  /// Why it is not measured and what to install; nil when it is.
  package var notMeasured: String?
}

/// Something known about where a documented figure comes from.
package struct ClaimOrigin: Codable, Sendable, Equatable {
  /// Ids of the claims that it is about.
  package var about: [String]
  /// What is known.
  package var fact: String
  /// Where that can be read.
  package var source: String
}
