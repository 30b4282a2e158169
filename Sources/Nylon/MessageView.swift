/// How a handler ended its phase.
package enum ReplyAction: Sendable, Hashable {
  /// No `action` in the map: a reply of another dialect.
  case missing
  case next
  /// The plugin's response is the answer.
  case end
  /// The handler failed; `error` says why.
  case error
  /// The worker could not read the request.
  case empty
  /// A text that has no meaning.
  case unknown

  /// The text on the wire, nil when the key is left out.
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

/// A request's id inside the message that it came with.
package struct RequestIDView {
  /// The text's or the binary's bytes.
  package let raw: UnsafeRawBufferPointer
  package let isText: Bool
  /// The same bytes as a text.
  package var asText: RequestIDView { RequestIDView(raw: raw, isText: true) }

  /// The two words of an id of 16 bytes or of a UUID's text, most significant first; nil for any other. Sixteen
  /// bytes may come back as a text: some workers have a text for every id.
  @inlinable @inline(__always)
  package var words: (high: UInt64, low: UInt64)? {
    guard raw.count == 16, let start = raw.baseAddress else { return isText ? UUIDText.id(raw) : nil }
    return (
      UInt64(bigEndian: start.loadUnaligned(as: UInt64.self)),
      UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    )
  }
}

/// A request or a reply of any dialect, read in place without allocating: valid as long as the bytes.
/// A field is nil where the map has none; of a reply `phase` and `timestamp`, and of a request `action`
/// and `error`, are not looked at.
package struct MessageView {
  /// The request's id, to echo.
  package private(set) var requestID: RequestIDView?
  package private(set) var sessionID: UInt32?
  package private(set) var phase: Phase?
  package private(set) var action = ReplyAction.missing
  /// The call, nil in the dialects without one: in `stream-sdk` a reply without it is the acknowledgement.
  package private(set) var method: UInt32?
  /// The HTTP context or what changed of it, what a call carries, a read's answer or a configuration.
  package private(set) var data: UnsafeRawBufferPointer?
  /// Unix milliseconds.
  package private(set) var timestampMilliseconds: UInt64?
  package private(set) var error: UnsafeRawBufferPointer?
  private var headers: PackedValue?

  /// The reply in the bytes; nil when they are not exactly one map with the right types.
  package init?(reply bytes: UnsafeRawBufferPointer) {
    guard read(bytes, isRequest: false) else { return nil }
  }

  /// The request in the bytes; throws `MessageError`.
  package init(request bytes: UnsafeRawBufferPointer) throws(MessageError) {
    guard read(bytes, isRequest: true) else { throw Self.refusal(of: bytes) }
  }

  private init() {}

  /// The value of a message header (`entry`, `reply`, `method`), nil when absent or no text.
  package func header(_ name: StaticString) -> UnsafeRawBufferPointer? { headers?.text(of: name) }

  /// All message headers whose name and value are texts.
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

  /// Puts one value where it belongs; false when it is not what belongs there.
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

  /// Why a request was not taken; a wrong value is told only where the whole is a map.
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

  /// The key of that name, nil for one to skip.
  @inline(__always)
  init?(_ value: PackedValue) {
    guard let name = value.text else { return nil }
    // By length first: two comparisons at most.
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

  /// What a request must have there instead of a value.
  func wanted(_ value: PackedValue) -> String {
    switch self {
    case .sessionID where value.unsigned != nil, .method where value.unsigned != nil: "at most 32 bits wide"
    case .phase where value.unsigned != nil: "0 to 4"
    case .version, .sessionID, .phase, .method, .timestamp: "an integer, not negative"
    case .requestID: "a text or 16 bytes"
    case .data: "bytes"
    case .headers: "a map of texts"
    case .action, .error: "a text"
    }
  }
}
