import Foundation
import Nylon
import Scenario

extension NATSTransport {
  /// Handles a reply that came to the subject of that slot.
  @inline(__always)
  func receive(_ bytes: UnsafeRawBufferPointer, slot: Int) {
    if let end = end(of: bytes, slot: slot) { self.end(slot, end) }
  }

  /// The broker found no worker for a slot's request. One that was given up meanwhile comes late; when
  /// the slot's next request is under way by then, it is taken for that one's.
  @inline(never)
  func refused(slot: Int) {
    if slots[slot].isWaiting {
      evidence.subjectWithoutSubscriber =
        evidence.subjectWithoutSubscriber ?? subjects[Int(slots[slot].phaseIndex)]
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
    let reply = MessageView(reply: bytes)
    let foreignSign = reply.flatMap { dialect.foreignSign(in: $0) }
    if let foreignSign { noteForeignMap(foreignSign) }
    let words = reply?.requestID?.words
    guard let reply, let words, words == state.pointee.requestID, state.pointee.isWaiting else {
      return strayEnd(reply, words: words, isWaiting: state.pointee.isWaiting)
    }
    // What is no answer in this dialect must not end the phase: the answer may still come.
    if let foreignSign, foreignSign != .noAction { return nil }
    return read(reply, slot: slot, state)
  }

  /// A reply that does not answer what its slot waits for: late, once more, or not to be read.
  @inline(never)
  private func strayEnd(
    _ reply: MessageView?, words: (high: UInt64, low: UInt64)?, isWaiting: Bool
  ) -> PhaseEnd? {
    if let words, let number = ids.pointee.number(high: words.high, low: words.low) {
      recorder.add(isLate(number) ? .late : .duplicates, scope: 0)
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
    _ reply: MessageView, slot: Int, _ state: UnsafeMutablePointer<NATSSlot>
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
    guard end == .next || end == .end, dialect == .reply else { return end }
    let data = reply.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    if data.isEmpty, end == .next { return end }
    guard
      let next = contexts.state(
        after: Int(state.pointee.context), phaseIndex: Int(state.pointee.phaseIndex), data: data,
        isEnd: end == .end, slot: slot)
    else {
      noteProtocolError("a reply's `data` is not a FlatBuffers NylonHttpContext")
      return .malformed
    }
    state.pointee.context = Int32(truncatingIfNeeded: next)
    return end
  }

  @inline(__always)
  private func phaseEnd(of reply: MessageView) -> PhaseEnd {
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
  func noteWorkerError(_ reply: MessageView) {
    guard evidence.workerError == nil, let error = reply.error, !error.isEmpty else { return }
    evidence.workerError = String(decoding: error.prefix(Self.mostErrorBytes), as: UTF8.self)
  }

  @inline(never)
  func noteDifference(_ slot: Int) {
    evidence.contentDifference = evidence.contentDifference ?? contexts.difference(Int(slots[slot].context))
  }
}

/// Where the time of a phase goes; nothing of this runs in a load that is not decomposed.
extension NATSTransport {
  /// Keeps the stamps of a reply until the driver asks for them.
  @inline(never)
  func keepStamps(of reply: MessageView, slot: Int, _ stamps: UnsafeMutablePointer<WorkerStamps>) {
    stamps[slot] = reply.header(WorkerStamps.header).flatMap(WorkerStamps.init) ?? WorkerStamps(read: 0)
  }

  /// See `TransportSpec.partNames`. The attempts before the one that was answered are in the first part.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? {
    guard let stamp = stamps?[slot], stamp.packed != 0 else { return nil }
    return SIMD4(stamp.read, stamp.begun, stamp.ended, stamp.packed)
  }
}

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
  func foreignSign(in reply: MessageView) -> ForeignSign? {
    switch self {
    case .reply: reply.method != nil ? .method : reply.action == .missing ? .noAction : nil
    case .replySDK:
      reply.method != nil
        ? .method : reply.action != .missing ? .action : reply.sessionID != nil ? .sessionID : nil
    case .streamSDK: nil
    }
  }
}
