import Nylon
import Scenario

/// A sign that a map belongs to another dialect than the scenario's.
enum ForeignSign: Int {
  // The more a sign tells, the later it stands: a worker's acknowledgement tells less than its calls.
  case noAction, sessionID, action, method

  /// What the map looks like, and whose maps do.
  var words: String {
    switch self {
    case .method: "has `method`, as those of dialect stream-sdk"
    case .action: "has `action`, as those of dialect reply"
    case .sessionID: "has `session_id`, as those of dialects reply and stream-sdk"
    case .noAction: "has no `action`, as those of dialects reply-sdk and stream-sdk"
    }
  }
}

extension Dialect {
  /// Why a map cannot be a reply in this dialect; nil when it can.
  func foreignSign(in reply: ReplyView) -> ForeignSign? {
    switch self {
    case .reply: reply.method != nil ? .method : reply.action == .missing ? .noAction : nil
    case .replySDK:
      if reply.method != nil {
        .method
      } else if reply.action != .missing {
        .action
      } else {
        reply.sessionID != nil ? .sessionID : nil
      }
    case .streamSDK: nil
    }
  }
}

/// Keeps what was seen first of each way to fail. Only the first one allocates.
extension NATSTransport {
  private static var mostErrorBytes: Int { 300 }

  @inline(never)
  func noteForeignMap(_ sign: ForeignSign) {
    evidence.otherDialectMaps += 1
    guard sign.rawValue > clearestSign?.rawValue ?? -1 else { return }
    clearestSign = sign
    evidence.otherDialect = sign.words
  }

  @inline(never)
  func noteProtocolError(_ words: StaticString) {
    if evidence.protocolError == nil { evidence.protocolError = words.description }
  }

  @inline(never)
  func noteWorkerError(_ reply: ReplyView) {
    guard evidence.workerError == nil, let error = reply.error, !error.isEmpty else { return }
    evidence.workerError = String(decoding: error.prefix(Self.mostErrorBytes), as: UTF8.self)
  }

  @inline(never)
  func noteNoSubscriber(_ slot: Int) {
    guard evidence.subjectWithoutSubscriber == nil else { return }
    evidence.subjectWithoutSubscriber = String(cString: subjects[Int(slots[slot].phaseIndex)])
  }

  @inline(never)
  func noteDifference(_ slot: Int) {
    guard evidence.contentDifference == nil else { return }
    evidence.contentDifference = contexts.difference(Int(slots[slot].context))
  }
}
