/// A request that is packed once and then only patched: the generator's hot path.
///
/// `request_id` (16 bytes), `session_id` and `timestamp` have a fixed width and are written over
/// in place; nothing else changes, nothing allocates. Not for two threads at once.
package final class RequestTemplate {
  /// The packed request, as it is after the last patch. Lives as long as the template.
  package let buffer: UnsafeMutableRawBufferPointer

  /// Where in the buffer the 16 bytes of the request's id are.
  package let requestIDOffset: Int
  /// Where the session's id is: 4 bytes, big-endian.
  package let sessionIDOffset: Int
  /// Where the time is: 8 bytes, big-endian, Unix milliseconds.
  package let timestampOffset: Int

  /// Packs a request of a phase. `entry` names the handler; `method` is 0 in `stream-sdk` and nil
  /// elsewhere; `headers` come behind `entry`. Throws `MessageError.tooLarge` past 4 GiB of data.
  package init(
    phase: Phase, entry: String, data: [UInt8]? = nil, method: UInt32? = nil,
    headers: [KeyValue] = []
  ) throws(MessageError) {
    let writer = MessagePackWriter()
    try writer.checkData(data, what: "request template")
    writer.map(6 + (method == nil ? 0 : 1) + (data == nil ? 0 : 1))
    writer.key("version")
    writer.unsigned(1)
    writer.key("request_id")
    requestIDOffset = writer.byteCount + 2  // behind 0xc4 and the length
    writer.requestID(RequestID(high: 0, low: 0))
    writer.key("session_id")
    sessionIDOffset = writer.byteCount + 1  // behind 0xce
    writer.fixed32(0)
    writer.key("phase")
    writer.unsigned(UInt64(phase.rawValue))
    writer.key("timestamp")
    timestampOffset = writer.byteCount + 1  // behind 0xcf
    writer.fixed64(0)
    if let method {
      writer.key("method")
      writer.unsigned(UInt64(method))
    }
    writer.key("headers")
    writer.headers([KeyValue(key: "entry", value: entry)] + headers)
    if let data {
      writer.key("data")
      data.withUnsafeBytes(writer.binary)
    }
    buffer = .allocate(byteCount: writer.byteCount, alignment: 16)
    withExtendedLifetime(writer) { buffer.copyMemory(from: writer.bytes) }
  }

  deinit { buffer.deallocate() }

  /// Makes it the request of this id, session and time.
  @inlinable
  package func patch(
    requestIDHigh: UInt64, requestIDLow: UInt64, sessionID: UInt32, timestampMilliseconds: UInt64
  ) {
    buffer.storeBytes(of: requestIDHigh.bigEndian, toByteOffset: requestIDOffset, as: UInt64.self)
    buffer.storeBytes(of: requestIDLow.bigEndian, toByteOffset: requestIDOffset + 8, as: UInt64.self)
    buffer.storeBytes(of: sessionID.bigEndian, toByteOffset: sessionIDOffset, as: UInt32.self)
    buffer.storeBytes(
      of: timestampMilliseconds.bigEndian, toByteOffset: timestampOffset, as: UInt64.self)
  }
}
