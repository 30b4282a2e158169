/// The outcome of a handler.
package enum ReplyAction: Sendable, Hashable {
  /// The map has no `action`, as in other dialects.
  case missing
  case next
  /// The request ends with the plugin's response.
  case end
  /// The handler failed; `error` gives the reason.
  case error
  /// The request was malformed.
  case empty
  /// The text is not a known action.
  case unknown

  /// The text on the wire; nil if the key is omitted.
  var text: StaticString? {
    switch self {
    case .missing: nil
    case .next: "next"
    case .end: "end"
    case .error: "error"
    case .empty: ""
    case .unknown: "unknown"
    }
  }

  @inline(__always)
  init(_ text: UnsafeRawBufferPointer) {
    if text.equals("next") {
      self = .next
    } else if text.equals("end") {
      self = .end
    } else if text.equals("error") {
      self = .error
    } else {
      self = text.isEmpty ? .empty : .unknown
    }
  }
}

/// A request's id, referencing the bytes of its message.
package struct RequestIDView {
  /// The bytes of the text or binary.
  package let raw: UnsafeRawBufferPointer
  package let isText: Bool
  /// The same bytes, marked as text.
  package var asText: RequestIDView { RequestIDView(raw: raw, isText: true) }

  /// The two words of a 16-byte id or a UUID's text, most significant first; otherwise nil. Sixteen bytes may
  /// be marked as text, because some workers send every id as text.
  @inlinable @inline(__always)
  package var words: (high: UInt64, low: UInt64)? {
    guard raw.count == 16, let start = raw.baseAddress else { return isText ? UUIDText.id(raw) : nil }
    return (
      UInt64(bigEndian: start.loadUnaligned(as: UInt64.self)),
      UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    )
  }
}

/// A request or reply of any dialect, read in place without allocating: valid as long as the bytes. A field
/// is nil if the map does not have it. `phase` and `timestamp` of a reply, and `action` and `error` of a
/// request, are ignored.
package struct MessageView {
  /// The id of the request, to be echoed.
  package private(set) var requestID: RequestIDView?
  package private(set) var sessionID: UInt32?
  package private(set) var phase: Phase?
  package private(set) var action = ReplyAction.missing
  /// The call; nil in dialects without calls. In `stream-sdk`, a reply without it is the acknowledgement.
  package private(set) var method: UInt32?
  /// The HTTP context or its changes, the payload of a call, the answer to a read, or a configuration.
  package private(set) var data: UnsafeRawBufferPointer?
  /// Unix milliseconds.
  package private(set) var timestampMilliseconds: UInt64?
  package private(set) var error: UnsafeRawBufferPointer?
  private var headers: PackedValue?

  /// Reads a reply; returns nil unless the bytes are exactly one map with valid types.
  package init?(reply bytes: UnsafeRawBufferPointer) {
    guard read(bytes, isRequest: false) else { return nil }
  }

  /// Reads a request.
  package init(request bytes: UnsafeRawBufferPointer) throws(MessageError) {
    guard read(bytes, isRequest: true) else { throw Self.refusal(of: bytes) }
  }

  private init() {}

  /// Returns the value of a message header (`entry`, `reply`, `method`); nil if it is absent or not a text.
  package func header(_ name: StaticString) -> UnsafeRawBufferPointer? { headers?.text(of: name) }

  /// The message headers whose name and value are texts.
  var headerList: [KeyValue] { headers?.texts ?? [] }

  @inline(__always)
  private mutating func read(_ bytes: UnsafeRawBufferPointer, isRequest: Bool) -> Bool {
    guard var reader = PackedReader(bytes), let entries = reader.enterMap() else { return false }
    for _ in 0..<entries {
      guard let name = reader.next(), let value = reader.next() else { return false }
      guard let key = MessageKey(name), value.kind != .null else { continue }
      guard take(key, value, isRequest: isRequest) else { return false }
    }
    return reader.isAtEnd
  }

  /// Stores a value in its field; returns false if the value is invalid.
  @inline(__always)
  private mutating func take(_ key: MessageKey, _ value: PackedValue, isRequest: Bool) -> Bool {
    func put<Field>(_ field: inout Field?, _ value: Field?) -> Bool {
      field = value
      return value != nil
    }
    switch (key, isRequest) {
    case (.version, _): return value.unsigned != nil
    case (.requestID, _):
      return put(&requestID, value.bytes.map { RequestIDView(raw: $0, isText: value.kind == .text) })
    case (.sessionID, _): return put(&sessionID, value.unsigned.flatMap(UInt32.init(exactly:)))
    case (.method, _): return put(&method, value.unsigned.flatMap(UInt32.init(exactly:)))
    case (.data, _): return put(&data, value.bytes)
    case (.headers, _): return put(&headers, value.kind == .map ? value : nil)
    case (.phase, true):
      return put(&phase, value.unsigned.flatMap(UInt8.init(exactly:)).flatMap(Phase.init(rawValue:)))
    case (.timestamp, true): return put(&timestampMilliseconds, value.unsigned)
    case (.action, false):
      guard let text = value.text else { return false }
      action = ReplyAction(text)
      return true
    case (.error, false): return put(&error, value.bytes)
    case (.phase, _), (.timestamp, _), (.action, _), (.error, _): return true
    }
  }

  /// Returns the reason for rejecting a request; a wrong value is reported only if the bytes are a
  /// well-formed map.
  @inline(never)
  private static func refusal(of bytes: UnsafeRawBufferPointer) -> MessageError {
    let notAMap = MessageError.notAMap(what: "request")
    guard var reader = PackedReader(bytes), let entries = reader.enterMap() else { return notAMap }
    var refusal: MessageError?
    var view = MessageView()
    for _ in 0..<entries {
      guard let name = reader.next(), let value = reader.next() else { return notAMap }
      guard refusal == nil, let key = MessageKey(name), value.kind != .null,
        !view.take(key, value, isRequest: true)
      else { continue }
      refusal = .wrongValue(
        what: "request", key: key.rawValue, found: value.kindText, wanted: key.wanted(value))
    }
    return reader.isAtEnd ? refusal ?? notAMap : notAMap
  }
}

/// The keys of requests and responses.
private enum MessageKey: String {
  case version, phase, action, method, data, timestamp, error, headers
  case requestID = "request_id"
  case sessionID = "session_id"

  /// Creates the key with a name; returns nil for an unknown key, which is skipped.
  @inline(__always)
  init?(_ value: PackedValue) {
    guard let name = value.text else { return nil }
    // Switching on the length leaves at most two comparisons.
    switch name.count {
    case 4 where name.equals("data"): self = .data
    case 5 where name.equals("phase"): self = .phase
    case 5 where name.equals("error"): self = .error
    case 6 where name.equals("action"): self = .action
    case 6 where name.equals("method"): self = .method
    case 7 where name.equals("version"): self = .version
    case 7 where name.equals("headers"): self = .headers
    case 9 where name.equals("timestamp"): self = .timestamp
    case 10 where name.equals("request_id"): self = .requestID
    case 10 where name.equals("session_id"): self = .sessionID
    default: return nil
    }
  }

  /// The requirement that the value of a request violates, for messages.
  func wanted(_ value: PackedValue) -> String {
    switch self {
    case .sessionID where value.unsigned != nil, .method where value.unsigned != nil: "at most 32 bits wide"
    case .phase where value.unsigned != nil: "0 to 4"
    case .version, .sessionID, .phase, .method, .timestamp: "an integer, not negative"
    case .requestID: "a string or 16 bytes"
    case .data: "bytes"
    case .headers: "a map of strings"
    case .action, .error: "a text"
    }
  }
}
