import CMsgpack

/// How a handler ended its phase.
public enum ReplyAction: UInt8, Sendable, Hashable, CaseIterable {
  /// No `action` in the map: a reply of another dialect.
  case missing
  /// Go on.
  case next
  /// The plugin's response is the answer.
  case end
  /// The handler failed; `error` says why.
  case error
  /// The worker could not read the request.
  case empty
  /// A text that has no meaning.
  case unknown

  /// The text on the wire, nil when the key is to be left out.
  public var text: String? {
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

/// A reply that is read in place: valid until the decoder's next reply, and as long as the bytes.
public struct ReplyView {
  /// How the phase ended.
  public internal(set) var action = ReplyAction.missing
  /// The id of the request that it answers, nil when the map has none.
  public internal(set) var requestID: RequestIDView?
  /// The session, nil when the map has none.
  public internal(set) var sessionID: UInt32?
  /// The call, nil when the map has none: in `stream-sdk` then it is the acknowledgement.
  public internal(set) var method: UInt32?
  /// What the call or the phase carries, nil when absent.
  public internal(set) var data: UnsafeRawBufferPointer?
  /// The error's text, nil when absent.
  public internal(set) var error: UnsafeRawBufferPointer?
  /// The version, nil when absent.
  public internal(set) var version: UInt64?
  var headers = UnsafeBufferPointer<msgpack_object_kv>(start: nil, count: 0)

  /// The value of a message header, nil when absent or no text.
  public func header(_ name: StaticString) -> UnsafeRawBufferPointer? {
    for entry in headers where entry.key.text?.equals(name) == true { return entry.val.text }
    return nil
  }
}

/// Takes replies of all three dialects apart, without allocating once it has warmed up.
///
/// Not for two threads at once: each thread has its own.
public final class ReplyDecoder {
  private let reader = MessagePackReader()

  /// A decoder.
  public init() {}

  /// The reply in the bytes; nil when they are not exactly one map with the right types.
  public func decode(_ bytes: UnsafeRawBufferPointer) -> ReplyView? {
    guard let entries = reader.read(bytes) else { return nil }
    var view = ReplyView()
    for entry in entries {
      guard let key = MessageKey(entry.key) else { continue }
      guard Self.take(key, entry.val, into: &view) else { return nil }
    }
    return view
  }

  /// Puts one value where it belongs; false when its type is wrong.
  @inline(__always)
  private static func take(
    _ key: MessageKey, _ value: msgpack_object, into view: inout ReplyView
  ) -> Bool {
    switch key {
    case .action:
      if value.isNil { return true }
      guard let text = value.text else { return false }
      view.action = ReplyAction(text)
    case .requestID:
      if value.isNil { return true }
      guard let raw = value.bytes else { return false }
      view.requestID = RequestIDView(raw: raw, isText: value.type == MSGPACK_OBJECT_STR)
    case .sessionID:
      if value.isNil { return true }
      guard let number = value.unsigned, let id = UInt32(exactly: number) else { return false }
      view.sessionID = id
    case .method:
      if value.isNil { return true }
      guard let number = value.unsigned, let method = UInt32(exactly: number) else { return false }
      view.method = method
    case .data:
      if value.isNil { return true }
      guard let bytes = value.bytes else { return false }
      view.data = bytes
    case .error:
      if value.isNil { return true }
      guard let text = value.bytes else { return false }
      view.error = text
    case .version:
      if value.isNil { return true }
      guard let number = value.unsigned else { return false }
      view.version = number
    case .headers:
      if value.isNil { return true }
      guard let map = value.map else { return false }
      view.headers = map
    case .phase, .timestamp: return true
    }
    return true
  }
}
