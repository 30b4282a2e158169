import Foundation
import Nylon
import Scenario

/// What comes back.
extension NATSTransport {
  /// Handles a reply that came to the subject of that token.
  @inline(__always)
  func receive(_ bytes: UnsafeRawBufferPointer, token: UInt32) {
    let slot = Int(token)
    guard slot < slotCount else {
      unexpected()
      return
    }
    if let end = end(of: bytes, slot: slot) { self.end(slot, end) }
  }

  /// The broker found no worker for a slot's request. One that was given up meanwhile comes late; when
  /// the slot's next request is under way by then, it is taken for that one's.
  @inline(never)
  func refused(token: UInt32) {
    let slot = Int(token)
    guard slot < slotCount else {
      unexpected()
      return
    }
    if slots[slot].isWaiting {
      noteNoSubscriber(slot)
      end(slot, .noResponders)
    } else {
      recorder.add(.late, scope: 0)
    }
  }

  /// A message to nothing that was asked.
  func unexpected() { recorder.add(.unexpected, scope: 0) }

  /// The phase under way in a slot has ended.
  @inline(__always)
  func end(_ slot: Int, _ end: PhaseEnd) {
    complete(slot, end)
    links[place(ofSlot: slot)].resolved(slot, self)
  }

  /// As `end`, for a link that knows it already.
  @inline(__always)
  func complete(_ slot: Int, _ end: PhaseEnd) {
    slots[slot].isWaiting = false
    completions.push(
      PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: end, doneAt: MonotonicClock.nanoseconds))
  }

  /// How a reply ends the phase of its slot; nil when it is not that phase's: it is counted.
  ///
  /// The subject only tells the slot, so that the broker meets the same few subjects again and
  /// again and finds them in its cache; the request's id tells which request is answered.
  @inline(__always)
  private func end(of bytes: UnsafeRawBufferPointer, slot: Int) -> PhaseEnd? {
    let state = slots + slot
    if let end = patterns.end(of: bytes, state) { return end }
    return readInFull(bytes, slot: slot, state)
  }

  @inline(never)
  private func readInFull(
    _ bytes: UnsafeRawBufferPointer, slot: Int, _ state: UnsafeMutablePointer<NATSSlot>
  ) -> PhaseEnd? {
    let reply = decoder.decode(bytes)
    let foreignSign = reply.flatMap { dialect.foreignSign(in: $0) }
    if let foreignSign { noteForeignMap(foreignSign) }
    let words = reply?.requestID?.words
    guard let reply, let words, words == state.pointee.requestID, state.pointee.isWaiting else {
      return strayEnd(reply, words: words, isWaiting: state.pointee.isWaiting)
    }
    // What is no answer in this dialect must not end the phase: the answer may still come.
    if let foreignSign, foreignSign != .noAction { return nil }
    let before = state.pointee.context
    let end = read(reply, slot: slot, state)
    // A slot's own context is made anew by each reply. Stamps are never the same twice, and a reply
    // without them must be seen to have none.
    if stamps == nil, before < ContextStates.mostShared, state.pointee.context < ContextStates.mostShared {
      patterns.learn(
        bytes, reply, phaseIndex: Int(state.pointee.phaseIndex), from: before, to: state.pointee.context,
        end: end)
    }
    return end
  }

  /// A reply that does not answer what its slot waits for: late, once more, or not to be read.
  @inline(never)
  private func strayEnd(
    _ reply: ReplyView?, words: (high: UInt64, low: UInt64)?, isWaiting: Bool
  ) -> PhaseEnd? {
    if let words, let number = ids.pointee.number(high: words.high, low: words.low) {
      recorder.add(fates.isLate(number, next: ids.pointee.nextNumber) ? .late : .duplicates, scope: 0)
      return nil
    }
    if isWaiting {
      noteProtocolError(
        reply == nil
          ? "a reply is not one MessagePack map with the interface's types"
          : words == nil
            ? "a reply has no request id of 16 bytes" : "a reply has a request id that was not sent")
      return .malformed
    }
    unexpected()
    return nil
  }

  /// Reads and verifies a reply, and moves the session's context on.
  @inline(__always)
  private func read(
    _ reply: ReplyView, slot: Int, _ state: UnsafeMutablePointer<NATSSlot>
  ) -> PhaseEnd {
    guard reply.sessionID == nil || reply.sessionID == state.pointee.lastSID else {
      noteProtocolError("a reply has the session id of another session")
      return .malformed
    }
    let end = phaseEnd(of: reply)
    if end == .handlerError { noteWorkerError(reply) }
    if end == .malformed, reply.action == .unknown {
      noteProtocolError("a reply has an `action` other than next, end and error")
    }
    if let stamps { keepStamps(of: reply, slot: slot, stamps) }
    guard end == .next || end == .end, let data = reply.data, !data.isEmpty, dialect == .reply else {
      return end
    }
    guard
      let next = contexts.state(
        after: Int(state.pointee.context), phaseIndex: Int(state.pointee.phaseIndex), data: data, slot: slot)
    else {
      noteProtocolError("a reply's `data` is not a FlatBuffers NylonHttpContext")
      return .malformed
    }
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
}

/// The reply subjects of one load thread: one inbox for each connection, and in the last part
/// the place of the session. Patched in place.
final class ReplySubject {
  /// The token of the first message to ourselves; there are 65,536.
  static let firstFence = UInt32.max - 0xFFFF
  private static let digits = 8
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
    while texts.count <= place { texts.append(strdup(text + String(repeating: "0", count: Self.digits))) }
    return text + "*"
  }

  /// The reply subject of a slot, or a fence; valid until the next call.
  @inline(__always)
  func with(token: UInt32, connection place: Int) -> UnsafeMutablePointer<CChar> {
    let text = texts[place]
    var rest = token
    for position in stride(from: prefixCount + Self.digits - 1, through: prefixCount, by: -1) {
      text[position] = digit(rest & 15)
      rest >>= 4
    }
    return text
  }

  @inline(__always)
  private func digit(_ value: UInt32) -> CChar {
    CChar(truncatingIfNeeded: value < 10 ? 48 + value : 87 + value)
  }

  /// The 8 digits of a token, as they lie in memory.
  static func text(of token: UInt32) -> UInt64 {
    let digits = hex(UInt64(token)).utf8.suffix(Self.digits)
    return digits.reversed().reduce(0) { $0 << 8 | UInt64($1) }.littleEndian
  }

  /// What the reply subjects of a connection have before their token.
  func prefix(connection place: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: texts[place], count: prefixCount)
  }

  /// The token of a reply's subject; nil when it is none of ours.
  @inline(__always)
  func token(in subject: UnsafePointer<CChar>) -> UInt32? {
    // A shorter one ends with a 0, which is no digit.
    guard let token = Self.token(subject + prefixCount), subject[prefixCount + Self.digits] == 0 else {
      return nil
    }
    return token
  }

  /// The token of a reply's subject that is not ended by a 0; nil when it is none of the connection's.
  @inline(__always)
  func token(in subject: UnsafeRawBufferPointer, connection place: Int) -> UInt32? {
    guard subject.count == prefixCount + Self.digits, let start = subject.baseAddress,
      memcmp(start, texts[place], prefixCount) == 0
    else { return nil }
    return Self.token((start + prefixCount).assumingMemoryBound(to: CChar.self))
  }

  /// The token in 8 digits.
  @inline(__always)
  static func token(_ text: UnsafePointer<CChar>) -> UInt32? {
    var token: UInt32 = 0
    for position in 0..<Self.digits {
      let character = text[position]
      let digit: UInt32
      switch character {
      case 48...57: digit = UInt32(character - 48)
      case 97...102: digit = UInt32(character - 87)
      default: return nil
      }
      token = token << 4 | digit
    }
    return token
  }
}
