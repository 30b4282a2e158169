/// What was seen first of each way to fail. Counts say how often something failed; this says how.
package struct FailureEvidence: Codable, Sendable, Equatable {
  /// The first error text that a worker sent.
  package var workerError: String?
  /// The first difference between a response and what `verify:` asks for.
  package var contentDifference: String?
  /// The subject of the first request for which the broker found no subscriber.
  package var subjectWithoutSubscriber: String?
  /// What a map of another dialect looked like, and which dialect has such maps.
  package var otherDialect: String?
  /// Maps of another dialect, those during the warm-up and the drain included.
  package var otherDialectMaps: UInt64 = 0
  /// The first message that breaks the protocol, in words.
  package var protocolError: String?

  /// Nothing was seen.
  package init() {}

  /// Whether nothing was seen.
  package var isEmpty: Bool { self == FailureEvidence() }

  /// Adds what another load thread saw.
  package mutating func add(_ other: FailureEvidence) {
    workerError = workerError ?? other.workerError
    contentDifference = contentDifference ?? other.contentDifference
    subjectWithoutSubscriber = subjectWithoutSubscriber ?? other.subjectWithoutSubscriber
    otherDialect = otherDialect ?? other.otherDialect
    otherDialectMaps += other.otherDialectMaps
    protocolError = protocolError ?? other.protocolError
  }

  /// How many maps came in another dialect and how that shows; nil when none came.
  package var otherDialectClause: String? {
    otherDialect.map { "\(otherDialectMaps) maps came in another dialect: one \($0)" }
  }

  /// One clause for each thing that was seen.
  package var clauses: [String] {
    [
      otherDialectClause,
      subjectWithoutSubscriber.map { "nobody is subscribed to \($0)" },
      workerError.map { "the first error of a worker: \"\($0)\"" },
      contentDifference.map { "verify: \($0)" },
      protocolError,
    ].compactMap { $0 }
  }
}

/// A stall as a measurement keeps it.
package struct MeasuredStall: Codable, Sendable, Equatable {
  /// Seconds from the start of the measured time.
  package var startSeconds: Double
  /// Length, seconds.
  package var seconds: Double
  /// The service time of the slowest phase that was answered before it, nanoseconds.
  package var slowestBeforeNanoseconds: UInt64

  /// A stall of a measured time that began at `measureStart`, monotonic nanoseconds.
  package init(_ stall: Stall, measureStart: UInt64) {
    startSeconds = Double(stall.start - measureStart) / 1e9
    seconds = Double(stall.nanoseconds) / 1e9
    slowestBeforeNanoseconds = stall.slowestBefore
  }
}
