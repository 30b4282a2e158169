/// Packs the `reply` dialect's answers into one buffer that is kept: the worker's hot path.
///
/// Not for two threads at once: each thread has its own.
package final class ReplyEncoder {
  private let writer = MessagePackWriter()
  private var stampsOffset: Int?

  /// An encoder.
  package init() {}

  /// The answer's bytes, valid until the next answer. `data` and `error` are left out when nil,
  /// and so are `stamps`, whose last one `stampPacked` sets.
  package func encode(
    requestID: RequestIDView?, sessionID: UInt32, action: ReplyAction,
    data: UnsafeRawBufferPointer? = nil, error: String? = nil, stamps: WorkerStamps? = nil
  ) -> UnsafeRawBufferPointer {
    writer.clear()
    stampsOffset = nil
    writer.map(
      3 + (requestID == nil ? 0 : 1) + (data == nil ? 0 : 1) + (error == nil ? 0 : 1)
        + (stamps == nil ? 0 : 1))
    writer.key("version")
    writer.unsigned(1)
    if let requestID {
      writer.key("request_id")
      if requestID.isText { writer.text(requestID.raw) } else { writer.binary(requestID.raw) }
    }
    writer.key("session_id")
    writer.unsigned(UInt64(sessionID))
    writer.key("action")
    switch action {
    case .next: writer.key("next")
    case .end: writer.key("end")
    case .error: writer.key("error")
    case .missing, .empty, .unknown: writer.key("")
    }
    if let data {
      writer.key("data")
      writer.binary(data)
    }
    if let error {
      writer.key("error")
      writer.text(error)
    }
    if let stamps { write(stamps) }
    return writer.bytes
  }

  private func write(_ stamps: WorkerStamps) {
    writer.key("headers")
    writer.map(1)
    writer.key(WorkerStamps.header)
    withUnsafeTemporaryAllocation(byteCount: WorkerStamps.byteCount, alignment: 1) { text in
      guard let start = text.baseAddress else { return }
      stamps.write(to: start)
      writer.text(UnsafeRawBufferPointer(text))
    }
    stampsOffset = writer.byteCount - WorkerStamps.digits
  }

  /// Writes into the answer when it was packed, nanoseconds; the answer of the last `encode` has it then.
  package func stampPacked(_ nanoseconds: UInt64) {
    guard let stampsOffset else { return }
    WorkerStamps.write(nanoseconds, to: writer.start + stampsOffset)
  }
}
