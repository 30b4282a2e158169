/// What became of the phase requests of a load, by what the host says and by what the handlers saw: each request has an
/// id, and a retry keeps it.
package struct Accounting: Codable, Sendable, Equatable {
  /// Why nothing is known, or not of all requests; nil when the accounting is whole.
  package var gap: String?
  /// The requests that the host noted, of the warm-up too.
  package var requests: [AccountedRequests] = []
  /// Requests that the host sent and had no room to note.
  package var unnoted: UInt64 = 0
  /// Requests that handlers saw: their notes.
  package var handled: UInt64 = 0
  /// Of these, those of requests that the host did not send, while the load ran.
  package var unknown: UInt64 = 0
  /// Of these, those before and after the load, by which workers are asked what they speak.
  package var outside: UInt64 = 0

  package init(gap: String? = nil) { self.gap = gap }
}

/// Phase requests that ended in the same way, by how often handlers saw them.
package struct AccountedRequests: Codable, Sendable, Equatable {
  /// The phase.
  package var phase: String
  /// Whether their sessions were wanted within the measured time.
  package var measured: Bool
  /// How the host says that they ended: `ok`, `handlerErrors`, `timeouts` or `lost`; `sent` where the load process died
  /// before it knew.
  package var end: String
  /// Requests that no handler saw.
  package var never: UInt64 = 0
  /// Requests that a handler saw once.
  package var once: UInt64 = 0
  /// Requests that handlers saw twice.
  package var twice: UInt64 = 0
  /// Requests that handlers saw more often.
  package var more: UInt64 = 0
  /// Times that handlers saw these requests.
  package var handled: UInt64 = 0
  /// Attempts after the first.
  package var retries: UInt64 = 0

  package init(phase: String, measured: Bool, end: Counter) {
    (self.phase, self.measured, self.end) = (phase, measured, "\(end)")
  }

  /// Adds a request that handlers saw so many times.
  package mutating func add(seen: UInt32, retries: UInt64) {
    switch seen {
    case 0: never += 1
    case 1: once += 1
    case 2: twice += 1
    default: more += 1
    }
    handled += UInt64(seen)
    self.retries += retries
  }

  package var count: UInt64 { never &+ once &+ twice &+ more }
}
