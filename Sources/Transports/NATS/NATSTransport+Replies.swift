import CKernel
import CNats
import Foundation
import Load
import Measure
import NylonProtocol
import Scenario

/// What comes back.
extension NATSTransport {
  /// Handles one message of the inbox.
  @inline(__always)
  func receive(_ message: OpaquePointer, connection: Int) {
    guard let subject = natsMsg_GetSubject(message), let token = replySubject.token(in: subject) else {
      recorder.add(.unexpected, scope: 0)
      return
    }
    guard token < ReplySubject.firstFence else {
      ledgers[connection].fenceReturned(number: token - ReplySubject.firstFence)
      settleRefusals(connection)
      return
    }
    let slot = Int(truncatingIfNeeded: token & (1 << NATSSlot.slotBits - 1))
    let attempt = token >> NATSSlot.slotBits
    guard slot < slotCount, attempt <= slots[slot].attempts, attempt > 0 else {
      recorder.add(.unexpected, scope: 0)
      return
    }
    let state = slots + slot
    guard attempt == state.pointee.attempts, state.pointee.isWaiting else {
      recorder.add(state.pointee.wasLate(attempt) ? .late : .duplicates, scope: 0)
      return
    }
    let bytes = UnsafeRawBufferPointer(
      start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message)))
    let end = read(bytes, slot: slot, state)
    state.pointee.endAttempt(timedOut: false)
    completions.push(
      PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: end, doneAt: kernel_now_ns()))
    resolved(slot)
  }

  /// Reads and verifies a reply, and moves the session's context on.
  @inline(__always)
  private func read(
    _ bytes: UnsafeRawBufferPointer, slot: Int, _ state: UnsafeMutablePointer<NATSSlot>
  ) -> PhaseEnd {
    guard let reply = decoder.decode(bytes), let words = reply.requestID?.words,
      words == state.pointee.requestID,
      reply.sessionID == nil || reply.sessionID == state.pointee.lastSID
    else { return .malformed }
    let end = phaseEnd(of: reply)
    guard end == .next || end == .end, let data = reply.data, !data.isEmpty, dialect == .reply else {
      return end
    }
    guard
      let next = contexts.state(
        after: Int(state.pointee.context), phaseIndex: Int(state.pointee.phaseIndex), data: data, slot: slot)
    else { return .malformed }
    state.pointee.context = Int32(truncatingIfNeeded: next)
    return end
  }

  @inline(__always)
  private func phaseEnd(of reply: ReplyView) -> PhaseEnd {
    switch reply.action {
    case .next: reply.error?.isEmpty == false ? .handlerError : .next
    case .end: reply.error?.isEmpty == false ? .handlerError : .end
    case .error, .empty: .handlerError
    case .missing:
      // The real SDK's reply has no action: only an error says that something failed.
      dialect == .replySDK ? (reply.error?.isEmpty == false ? .handlerError : .next) : .malformed
    case .unknown: .malformed
    }
  }

  /// The broker found no worker for some request of this connection.
  func refused(connection: Int) {
    let reconnects = connections[connection].reconnects
    if reconnects != reconnectsSeen[connection] {
      reconnectsSeen[connection] = reconnects
      ledgers[connection].forget()
    }
    if ledgers[connection].refused(lastSent: sequence) { sendFence(connection) }
  }

  private func sendFence(_ connection: Int) {
    natsConnection_Publish(
      connections[connection].connection,
      replySubject.with(
        token: ReplySubject.firstFence + ledgers[connection].fenceNumber, connection: connection), nil, 0)
    unflushed += 1
  }

  /// An attempt has ended: that may be the last piece to know which ones were refused.
  @inline(__always)
  func resolved(_ slot: Int) {
    let connection = slot % connections.count
    if ledgers[connection].fence != nil { settleRefusals(connection) }
  }

  private func settleRefusals(_ connection: Int) {
    guard let fence = ledgers[connection].fence else { return }
    var outstanding = 0
    for slot in stride(from: connection, to: slotCount, by: connections.count)
    where slots[slot].isWaiting && slots[slot].sequence <= fence { outstanding += 1 }
    guard ledgers[connection].allRefused(outstandingBeforeFence: outstanding) else { return }
    let now = kernel_now_ns()
    for slot in stride(from: connection, to: slotCount, by: connections.count)
    where slots[slot].isWaiting && slots[slot].sequence <= fence {
      slots[slot].endAttempt(timedOut: false)
      completions.push(
        PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: .noResponders, doneAt: now))
    }
    if ledgers[connection].settle(lastSent: sequence) { sendFence(connection) }
  }
}

extension ContextCheck {
  /// A check of what the scenario wants; dialects that do not carry the context cannot be checked.
  static func make(_ verify: Verification, upstreamBody: [UInt8], dialect: Dialect) -> ContextCheck {
    guard dialect == .reply, !verify.isEmpty else { return ContextCheck { _ in true } }
    return ContextCheck { context in
      guard let response = context.response else { return false }
      if let status = verify.status, status != response.status { return false }
      if verify.bodyUnchanged, response.body != upstreamBody { return false }
      if let body = verify.body, response.body != Array(body.utf8) { return false }
      return verify.responseHeaders.allSatisfy { wanted in
        response.headers.contains {
          HeaderName.equal($0.key, wanted.key) && (wanted.value.isEmpty || $0.value == wanted.value)
        }
      }
    }
  }
}

/// The reply subjects of one load thread: one inbox for each connection, and in the last part
/// the token of the attempt. Patched in place.
final class ReplySubject {
  /// The token of the first message to ourselves; there are 65,536.
  static let firstFence = UInt64.max - 0xFFFF
  private let root: String
  private var texts: [UnsafeMutablePointer<CChar>] = []
  private let prefixCount: Int

  /// Subjects that no other thread, connection or run has.
  init(seed: UInt64) {
    root = "_INBOX." + Self.hex(seed) + Self.hex(UInt64.random(in: .min ... .max))
    prefixCount = root.utf8.count + 6
  }

  deinit { texts.forEach { free($0) } }

  private static func hex(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }

  /// What the connection with that place subscribes to; places come in order from 0, at most 65,535.
  func pattern(connection place: Int) -> String {
    let text = "\(root).\(Self.hex(UInt64(place)).suffix(4))."
    while texts.count <= place { texts.append(strdup(text + String(repeating: "0", count: 16))) }
    return text + "*"
  }

  /// The reply subject of an attempt; valid until the next call.
  @inline(__always)
  func with(token: UInt64, connection place: Int) -> UnsafeMutablePointer<CChar> {
    let text = texts[place]
    var rest = token
    for position in stride(from: prefixCount + 15, through: prefixCount, by: -1) {
      text[position] = digit(rest & 15)
      rest >>= 4
    }
    return text
  }

  @inline(__always)
  private func digit(_ value: UInt64) -> CChar {
    CChar(truncatingIfNeeded: value < 10 ? 48 + value : 87 + value)
  }

  /// The token of a reply's subject; nil when it is none of ours.
  @inline(__always)
  func token(in subject: UnsafePointer<CChar>) -> UInt64? {
    var token: UInt64 = 0
    for position in prefixCount..<prefixCount + 16 {
      let character = subject[position]
      let digit: UInt64
      switch character {
      case 48...57: digit = UInt64(character - 48)
      case 97...102: digit = UInt64(character - 87)
      default: return nil
      }
      token = token << 4 | digit
    }
    return subject[prefixCount + 16] == 0 ? token : nil
  }
}
