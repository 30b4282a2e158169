/// A request that is read in place: valid as long as the bytes.
package struct RequestView {
  /// The version; 1.
  package internal(set) var version: UInt64 = 0
  /// The id to echo.
  package internal(set) var requestID: RequestIDView?
  /// The session, 0 when absent.
  package internal(set) var sessionID: UInt32 = 0
  /// The phase, nil when absent.
  package internal(set) var phase: Phase?
  /// The call, nil in the dialects without one.
  package internal(set) var method: UInt32?
  /// The HTTP context, a read's answer or a configuration; nil when absent.
  package internal(set) var data: UnsafeRawBufferPointer?
  /// Unix milliseconds, 0 when absent.
  package internal(set) var timestampMilliseconds: UInt64 = 0
  var headers = PackedMap()

  /// The value of a message header (`entry`, `reply`, `method`), nil when absent or no text.
  package func header(_ name: StaticString) -> UnsafeRawBufferPointer? {
    headers.text(name)
  }

  /// All message headers whose name and value are texts.
  package var headerList: [KeyValue] {
    headers.texts
  }
}

/// Takes requests of all three dialects apart, without allocating.
package struct RequestDecoder: Sendable {
  /// A decoder.
  package init() {}

  /// The request in the bytes; throws `MessageError`.
  package func decode(_ bytes: UnsafeRawBufferPointer) throws(MessageError) -> RequestView {
    guard var reader = PackedReader(bytes), let entries = reader.enterMap() else {
      throw .notAMap(what: "request")
    }
    var view = RequestView()
    for place in 0..<entries {
      guard let name = reader.next(), let value = reader.next() else { throw .notAMap(what: "request") }
      guard let key = MessageKey(name), !value.isNil else { continue }
      guard Self.take(key, value, into: &view) else {
        throw Self.refusal(of: value, for: key, before: reader, left: entries - place - 1)
      }
    }
    guard reader.isAtEnd else { throw .notAMap(what: "request") }
    return view
  }

  /// Puts one value where it belongs; false when it is not what belongs there.
  @inline(__always)
  private static func take(_ key: MessageKey, _ value: PackedValue, into view: inout RequestView) -> Bool {
    switch key {
    case .version:
      guard let number = value.unsigned else { return false }
      view.version = number
    case .requestID:
      guard let raw = value.bytes else { return false }
      view.requestID = RequestIDView(raw: raw, isText: value.kind == .text)
    case .sessionID:
      guard let number = value.unsigned, number <= UInt32.max else { return false }
      view.sessionID = UInt32(truncatingIfNeeded: number)
    case .phase:
      guard let number = value.unsigned, number < 256,
        let phase = Phase(rawValue: UInt8(truncatingIfNeeded: number))
      else { return false }
      view.phase = phase
    case .method:
      guard let number = value.unsigned, number <= UInt32.max else { return false }
      view.method = UInt32(truncatingIfNeeded: number)
    case .data:
      guard let bytes = value.bytes else { return false }
      view.data = bytes
    case .timestamp:
      guard let number = value.unsigned else { return false }
      view.timestampMilliseconds = number
    case .headers:
      guard let map = value.map else { return false }
      view.headers = map
    case .action, .error: break
    }
    return true
  }

  /// Why a value was not taken; a wrong value is told only where the whole is a map.
  @inline(never)
  private static func refusal(
    of value: PackedValue, for key: MessageKey, before rest: PackedReader, left: Int
  ) -> MessageError {
    var reader = rest
    for _ in 0..<left {
      guard reader.next() != nil, reader.next() != nil else { return .notAMap(what: "request") }
    }
    guard reader.isAtEnd else { return .notAMap(what: "request") }
    let number = "an integer, not negative"
    let (name, wanted): (String, String) =
      switch key {
      case .version: ("version", number)
      case .requestID: ("request_id", "a text or 16 bytes")
      case .sessionID: ("session_id", value.unsigned == nil ? number : "at most 32 bits wide")
      case .phase: ("phase", value.unsigned == nil ? number : "0 to 4")
      case .method: ("method", value.unsigned == nil ? number : "at most 32 bits wide")
      case .data: ("data", "bytes")
      case .timestamp: ("timestamp", number)
      case .headers: ("headers", "a map of texts")
      case .action: ("action", "a text")
      case .error: ("error", "a text")
      }
    return .wrongValue(what: "request", key: name, found: value.kindText, wanted: wanted)
  }
}
