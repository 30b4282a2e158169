/// The wire dialects of NATS workers. A new one is a case and its row in `traits`.
package enum Dialect: String, Codable, Sendable, CaseIterable {
  /// This package's own: one answer with `action`; the HTTP context travels with the request.
  case reply
  /// An early Go SDK: one answer without `action`, and request ids that are texts.
  case textID = "text-id"
  /// The Go SDK with one answer without `action`.
  case replySDK = "reply-sdk"
  /// The newest Go SDK: an acknowledgement and a map for each call of the handler.
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

  /// The names of the dialects of which something holds, for messages: `dialects reply-sdk and stream-sdk`.
  package static func names(where holds: (DialectTraits) -> Bool) -> String {
    let names = allCases.filter { holds($0.traits) }.map(\.rawValue)
    guard names.count > 1, let last = names.last else { return "dialect \(names.joined())" }
    return "dialects \(names.dropLast().joined(separator: ", ")) and \(last)"
  }
}

/// Everything that differs from dialect to dialect.
package struct DialectTraits: Sendable, Equatable {
  /// Where a worker takes its configuration.
  package enum Configuration: Sendable {
    /// On the lifecycle subject, which every worker hears.
    case lifecycle
    /// On the phases' subjects, where one worker of the group takes each message.
    case phases
    /// On both.
    case everywhere
  }

  /// What ends a phase.
  package enum End: Sendable {
    /// The one map that comes, which has an `action`.
    case action
    /// The one map that comes, which has none.
    case map
    /// The map of a call that ends the phase; those of other calls and an acknowledgement come beside it.
    case call
  }

  /// How the host learns what a handler changed.
  package enum Changes: Sendable {
    /// Not at all.
    case lost
    /// By `data` of the answer; then the HTTP context travels with the request.
    case context
    /// By the maps of calls; then the handler reads the HTTP context by calls.
    case calls
  }

  /// Whether request ids are texts; else they are 16 bytes.
  package var idIsText = false
  /// `method` of a request that starts a phase; nil where requests have none.
  package var startMethod: UInt32?
  /// Whether a request has its reply subject also in `headers.reply`.
  package var namesReplySubject = false
  package var configuredOn: Configuration
  package var end: End
  package var changes: Changes

  package var sendsContext: Bool { changes == .context }
  /// Whether the answers of a load do not show that the workers speak another dialect: those that take ids of both
  /// kinds answer just so. One is asked before the load.
  package var isAskedFirst: Bool { idIsText }

  /// How a worker is asked of which nothing is known. No `method`: some refuse it, and the others take its absence
  /// for the start of a phase.
  package static func question(idIsText: Bool) -> DialectTraits {
    DialectTraits(
      idIsText: idIsText, namesReplySubject: true, configuredOn: .lifecycle, end: .action, changes: .context)
  }

  /// Why a map cannot be an answer in this dialect; nil when it can.
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

/// A sign that a map belongs to another dialect than the host's. The more a sign tells, the later it stands.
package enum ForeignSign: Int, Sendable {
  case noAction, sessionID, textID, action, method

  /// Whether the map still answers the request, in a way that the dialect does not have.
  package var endsPhase: Bool { self == .noAction || self == .textID }

  /// What the map looks like, and whose maps do.
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
