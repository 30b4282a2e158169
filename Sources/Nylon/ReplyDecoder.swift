/// How a handler ended its phase.
package enum ReplyAction: UInt8, Sendable, Hashable, CaseIterable {
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

  /// The text on the wire, nil when the key is left out.
  package var text: String? {
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

/// A reply that is read in place: valid as long as the bytes.
package struct ReplyView {
  /// How the phase ended.
  package internal(set) var action = ReplyAction.missing
  /// The id of the request that it answers, nil when the map has none.
  package internal(set) var requestID: RequestIDView?
  /// The session, nil when the map has none.
  package internal(set) var sessionID: UInt32?
  /// The call, nil when the map has none: in `stream-sdk` then it is the acknowledgement.
  package internal(set) var method: UInt32?
  /// What the call or the phase carries, nil when absent.
  package internal(set) var data: UnsafeRawBufferPointer?
  /// The error's text, nil when absent.
  package internal(set) var error: UnsafeRawBufferPointer?
  /// The version, nil when absent.
  package internal(set) var version: UInt64?
  var headers = PackedMap()

  /// The value of a message header, nil when absent or no text.
  package func header(_ name: StaticString) -> UnsafeRawBufferPointer? {
    headers.text(name)
  }
}

/// Takes replies of all three dialects apart, without allocating.
package struct ReplyDecoder: Sendable {
  /// A decoder.
  package init() {}

  /// The reply in the bytes; nil when they are not exactly one map with the right types.
  package func decode(_ bytes: UnsafeRawBufferPointer) -> ReplyView? {
    guard var reader = PackedReader(bytes), let entries = reader.enterMap() else { return nil }
    var view = ReplyView()
    for _ in 0..<entries {
      guard let name = reader.next(), let value = reader.next() else { return nil }
      guard let key = MessageKey(name) else { continue }
      guard Self.take(key, value, into: &view) else { return nil }
    }
    return reader.isAtEnd ? view : nil
  }

  /// Puts one value where it belongs; false when its type is wrong.
  @inline(__always)
  private static func take(
    _ key: MessageKey, _ value: PackedValue, into view: inout ReplyView
  ) -> Bool {
    switch key {
    case .action:
      if value.isNil { return true }
      guard let text = value.text else { return false }
      view.action = ReplyAction(text)
    case .requestID:
      if value.isNil { return true }
      guard let raw = value.bytes else { return false }
      view.requestID = RequestIDView(raw: raw, isText: value.kind == .text)
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
