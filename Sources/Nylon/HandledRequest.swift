/// The two words of a request's id, most significant first.
package struct RequestWords: Hashable, Sendable, BitwiseCopyable {
  package var high: UInt64
  package var low: UInt64

  package init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }
}

/// A request that a handler is about to see, as a worker notes it in the ledger of its pool: a record of 32 bytes, as
/// they lie in memory.
package struct HandledRequest: Equatable, Sendable, BitwiseCopyable {
  package var id: RequestWords
  /// Monotonic nanoseconds.
  package var time: UInt64
  /// The worker's process.
  package var worker: Int32
  /// The phase's number.
  package var phase: UInt32

  package init(id: RequestWords, time: UInt64, worker: Int32, phase: Phase) {
    (self.id, self.time, self.worker, self.phase) = (id, time, worker, UInt32(phase.rawValue))
  }

  package static let byteCount = MemoryLayout<HandledRequest>.stride
  /// The environment variable that tells a worker the descriptor of the ledger.
  package static let variable = "NYLON_LEDGER_FD"
}
