/// A request that is read in place: valid as long as the bytes.
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
  var headers = PackedMap()

  /// The value of a message header (`entry`, `reply`, `method`), nil when absent or no text.
  public func header(_ name: StaticString) -> UnsafeRawBufferPointer? {
    headers.text(name)
  }

  /// All message headers whose name and value are texts.
  public var headerList: [KeyValue] {
    headers.texts
  }
}

/// Takes requests of all three dialects apart, without allocating.
public struct RequestDecoder: Sendable {
  /// A decoder.
  public init() {}

  /// The request in the bytes; throws `MessageError`.
  public func decode(_ bytes: UnsafeRawBufferPointer) throws(MessageError) -> RequestView {
    guard var reader = PackedReader(bytes), let entries = reader.enterMap() else {
      throw .notAMap(what: "request")
    }
    var view = RequestView()
    // A wrong value is told only where the whole is a map.
    var wrong: MessageError?
    for _ in 0..<entries {
      guard let name = reader.next(), let value = reader.next() else { throw .notAMap(what: "request") }
      guard let key = MessageKey(name), !value.isNil, wrong == nil else { continue }
      do throws(MessageError) {
        try Self.take(key, value, into: &view)
      } catch {
        wrong = error
      }
    }
    guard reader.isAtEnd else { throw .notAMap(what: "request") }
    if let wrong { throw wrong }
    return view
  }

  @inline(__always)
  private static func take(
    _ key: MessageKey, _ value: PackedValue, into view: inout RequestView
  ) throws(MessageError) {
    switch key {
    case .version: view.version = try number(value, "version")
    case .requestID:
      guard let raw = value.bytes else { throw wrong(value, "request_id", "a text or 16 bytes") }
      view.requestID = RequestIDView(raw: raw, isText: value.kind == .text)
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
    _ value: PackedValue, _ key: String
  ) throws(MessageError) -> UInt64 {
    guard let number = value.unsigned else { throw wrong(value, key, "an integer, not negative") }
    return number
  }

  private static func wrong(_ value: PackedValue, _ key: String, _ wanted: String) -> MessageError {
    .wrongValue(what: "request", key: key, found: value.kindText, wanted: wanted)
  }
}
