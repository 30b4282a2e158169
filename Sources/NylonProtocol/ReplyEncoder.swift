/// Packs the `reply` dialect's answers into one buffer that is kept: the worker's hot path.
///
/// Not for two threads at once: each thread has its own.
public final class ReplyEncoder {
  private let writer = MessagePackWriter()

  /// An encoder.
  public init() {}

  /// The answer's bytes, valid until the next answer. `data` and `error` are left out when nil.
  public func encode(
    requestID: RequestIDView?, sessionID: UInt32, action: ReplyAction,
    data: UnsafeRawBufferPointer? = nil, error: String? = nil
  ) -> UnsafeRawBufferPointer {
    writer.clear()
    writer.map(3 + (requestID == nil ? 0 : 1) + (data == nil ? 0 : 1) + (error == nil ? 0 : 1))
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
    return writer.bytes
  }
}
