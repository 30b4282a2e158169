/// The wire dialects of NATS workers. A new dialect needs a case and a row in `traits`.
package enum Dialect: String, Codable, Sendable, CaseIterable {
  /// This package's own dialect: one answer with `action`; the HTTP context travels with the request.
  case reply
  /// An early Go SDK: one answer without `action`, and textual request ids.
  case textID = "text-id"
  /// The Go SDK with one answer without `action`.
  case replySDK = "reply-sdk"
  /// The newest Go SDK: an acknowledgement, and one map for each call of the handler.
  case streamSDK = "stream-sdk"

  package var traits: DialectTraits {
    switch self {
    case .reply: DialectTraits(configuredOn: .lifecycle, end: .action, changes: .context)
    case .textID: DialectTraits(idIsText: true, configuredOn: .phases, end: .map, changes: .lost)
    case .replySDK: DialectTraits(configuredOn: .phases, end: .map, changes: .lost)
    case .streamSDK:
      DialectTraits(
        startMethod: 0, namesReplySubject: true, configuredOn: .everywhere, end: .call, changes: .calls)
    }
  }

  /// Returns the names of the dialects that satisfy a condition, for messages: `dialects reply-sdk and
  /// stream-sdk`.
  package static func names(where holds: (DialectTraits) -> Bool) -> String {
    let names = allCases.filter { holds($0.traits) }.map(\.rawValue)
    guard names.count > 1, let last = names.last else { return "dialect \(names.joined())" }
    return "dialects \(names.dropLast().joined(separator: ", ")) and \(last)"
  }
}

/// The properties in which dialects differ.
package struct DialectTraits: Sendable, Equatable {
  /// The subjects on which a worker accepts its configuration.
  package enum Configuration: Sendable {
    /// The lifecycle subject, which every worker receives.
    case lifecycle
    /// The phase subjects, where one worker of the group receives each message.
    case phases
    /// Both.
    case everywhere
  }

  /// The message that ends a phase.
  package enum End: Sendable {
    /// The single answer, which has an `action`.
    case action
    /// The single answer, which has no `action`.
    case map
    /// The map of a call that ends the phase, besides an acknowledgement and the maps of other calls.
    case call
  }

  /// The way in which the host receives a handler's changes.
  package enum Changes: Sendable {
    /// The host does not receive them.
    case lost
    /// In the answer's `data`; the HTTP context travels with the request.
    case context
    /// In the maps of calls; the handler reads the HTTP context with calls.
    case calls
  }

  /// Whether request ids are texts; otherwise they are 16 bytes.
  package var idIsText = false
  /// The `method` of a request that starts a phase; nil if requests have none.
  package var startMethod: UInt32?
  /// Whether `headers.reply` repeats the reply subject of a request.
  package var namesReplySubject = false
  package var configuredOn: Configuration
  package var end: End
  package var changes: Changes

  package var sendsContext: Bool { changes == .context }
  /// Whether a worker must be probed before the load, because its answers under load would not show that it
  /// speaks another dialect: workers that accept both kinds of ids answer alike.
  package var isAskedFirst: Bool { idIsText }

  /// The traits of the request that probes an unknown worker. It has no `method`: some workers refuse one,
  /// and the others take its absence as the start of a phase.
  package static func question(idIsText: Bool) -> DialectTraits {
    DialectTraits(
      idIsText: idIsText, namesReplySubject: true, configuredOn: .lifecycle, end: .action, changes: .context)
  }

  /// Returns why a map cannot be an answer in this dialect, or nil if it can.
  @inlinable @inline(__always)
  package func foreignSign(in reply: MessageView) -> ForeignSign? {
    if reply.method != nil, end != .call { return .method }
    if reply.action != .missing, end != .action { return .action }
    if !idIsText, let id = reply.requestID, id.isText { return .textID }
    if reply.action == .missing, end == .action { return .noAction }
    if reply.sessionID != nil, end == .map { return .sessionID }
    return nil
  }
}

/// A sign that a map belongs to another dialect than the host's, in ascending order of significance.
package enum ForeignSign: Int, Sendable {
  case noAction, sessionID, textID, action, method

  /// Whether the map still answers the request, although in a form that the dialect does not use.
  package var endsPhase: Bool { self == .noAction || self == .textID }

  /// A description of the sign and of the dialects that have it.
  package var words: String {
    switch self {
    case .method: "has `method`, as those of \(Dialect.names { $0.end == .call })"
    case .action: "has `action`, as those of \(Dialect.names { $0.end == .action })"
    case .textID: "carries the request id as text, as those of \(Dialect.names(where: \.idIsText))"
    case .sessionID: "has `session_id`, as those of \(Dialect.names { $0.end != .map })"
    case .noAction: "has no `action`, as those of \(Dialect.names { $0.end != .action })"
    }
  }
}
