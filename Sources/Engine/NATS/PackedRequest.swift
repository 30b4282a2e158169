import Nylon

/// A request as it goes over the wire behind its reply subject: ` 312`, CR LF, the packed map, CR LF.
///
/// A view of memory that its maker gives back; the hot path copies it without counting references.
struct PackedRequest {
  /// All of it.
  let bytes: UnsafeMutableRawPointer
  let byteCount: Int
  /// The map alone, as a client wants it that writes the rest itself.
  let payload: UnsafeMutableRawPointer
  let payloadCount: Int
  private let requestIDOffset: Int
  private let sessionIDOffset: Int
  private let timestampOffset: Int

  init(_ template: RequestTemplate) {
    payloadCount = template.buffer.count
    let size = Array(" \(payloadCount)\r\n".utf8)
    byteCount = size.count + payloadCount + 2
    bytes = .allocate(byteCount: byteCount, alignment: 16)
    payload = bytes + size.count
    bytes.copyMemory(from: size, byteCount: size.count)
    if let start = template.buffer.baseAddress {
      payload.copyMemory(from: start, byteCount: payloadCount)
    }
    (payload + payloadCount).copyMemory(from: [13, 10] as [UInt8], byteCount: 2)
    requestIDOffset = size.count + template.requestIDOffset
    sessionIDOffset = size.count + template.sessionIDOffset
    timestampOffset = size.count + template.timestampOffset
  }

  func deallocate() { bytes.deallocate() }

  /// Makes what lies at `place`, this request or a copy of all its bytes, the request of that id,
  /// session and time.
  @inline(__always)
  func patch(
    _ place: UnsafeMutableRawPointer, requestID: (high: UInt64, low: UInt64), sessionID: UInt32,
    timestampMilliseconds: UInt64
  ) {
    (place + requestIDOffset).storeBytes(of: requestID.high.bigEndian, as: UInt64.self)
    (place + requestIDOffset + 8).storeBytes(of: requestID.low.bigEndian, as: UInt64.self)
    (place + sessionIDOffset).storeBytes(of: sessionID.bigEndian, as: UInt32.self)
    (place + timestampOffset).storeBytes(of: timestampMilliseconds.bigEndian, as: UInt64.self)
  }
}
