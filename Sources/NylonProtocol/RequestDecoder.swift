import CMsgpack

/// A request that is read in place: valid until the decoder's next request, and as long as the bytes.
public struct RequestView {
  /// The version; 1.
  public internal(set) var version: UInt64 = 0
  /// The id to echo.
  public internal(set) var requestID: RequestIDView?
  /// The session, 0 when absent.
  public internal(set) var sessionID: UInt32 = 0
  /// The phase, nil when absent.
  public internal(set) var phase: Phase?
  /// The call, nil in the dialects without one.
  public internal(set) var method: UInt32?
  /// The HTTP context, a read's answer or a configuration; nil when absent.
  public internal(set) var data: UnsafeRawBufferPointer?
  /// Unix milliseconds, 0 when absent.
  public internal(set) var timestampMilliseconds: UInt64 = 0
  var headers = UnsafeBufferPointer<msgpack_object_kv>(start: nil, count: 0)

  /// The value of a message header (`entry`, `reply`, `method`), nil when absent or no text.
  public func header(_ name: StaticString) -> UnsafeRawBufferPointer? {
    for entry in headers where entry.key.text?.equals(name) == true { return entry.val.text }
    return nil
  }

  /// All message headers whose name and value are texts.
  public var headerList: [KeyValue] {
    headers.compactMap { entry in
      guard let key = entry.key.text, let value = entry.val.text else { return nil }
      return KeyValue(key: key.string, value: value.string)
    }
  }
}

/// Takes requests of all three dialects apart, without allocating once it has warmed up.
///
/// Not for two threads at once: each thread has its own.
public final class RequestDecoder {
  private let reader = MessagePackReader()

  /// A decoder.
  public init() {}

  /// The request in the bytes; throws `MessageError`.
  public func decode(_ bytes: UnsafeRawBufferPointer) throws(MessageError) -> RequestView {
    guard let entries = reader.read(bytes) else { throw .notAMap(what: "request") }
    var view = RequestView()
    for entry in entries {
      guard let key = MessageKey(entry.key), !entry.val.isNil else { continue }
      try Self.take(key, entry.val, into: &view)
    }
    return view
  }

  @inline(__always)
  private static func take(
    _ key: MessageKey, _ value: msgpack_object, into view: inout RequestView
  ) throws(MessageError) {
    switch key {
    case .version: view.version = try number(value, "version")
    case .requestID:
      guard let raw = value.bytes else { throw wrong(value, "request_id", "a text or 16 bytes") }
      view.requestID = RequestIDView(raw: raw, isText: value.type == MSGPACK_OBJECT_STR)
    case .sessionID:
      guard let id = UInt32(exactly: try number(value, "session_id")) else {
        throw wrong(value, "session_id", "at most 32 bits wide")
      }
      view.sessionID = id
    case .phase:
      guard let raw = UInt8(exactly: try number(value, "phase")), let phase = Phase(rawValue: raw)
      else { throw wrong(value, "phase", "0 to 4") }
      view.phase = phase
    case .method:
      guard let method = UInt32(exactly: try number(value, "method")) else {
        throw wrong(value, "method", "at most 32 bits wide")
      }
      view.method = method
    case .data:
      guard let bytes = value.bytes else { throw wrong(value, "data", "bytes") }
      view.data = bytes
    case .timestamp: view.timestampMilliseconds = try number(value, "timestamp")
    case .headers:
      guard let map = value.map else { throw wrong(value, "headers", "a map of texts") }
      view.headers = map
    case .action, .error: break
    }
  }

  @inline(__always)
  private static func number(
    _ value: msgpack_object, _ key: String
  ) throws(MessageError) -> UInt64 {
    guard let number = value.unsigned else { throw wrong(value, key, "an integer, not negative") }
    return number
  }

  private static func wrong(_ value: msgpack_object, _ key: String, _ wanted: String) -> MessageError {
    .wrongValue(what: "request", key: key, found: value.kind, wanted: wanted)
  }
}
