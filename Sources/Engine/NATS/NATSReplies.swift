import Foundation
import Nylon
import Scenario

extension NATSTransport {
  /// Handles a reply that came to the subject of that slot, over that connection.
  @inline(__always)
  func receive(_ bytes: UnsafeRawBufferPointer, slot: Int, over connection: PoolConnection) {
    if let end = end(of: bytes, slot: slot, over: connection) { self.end(slot, end) }
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
      recorder.happened(.late, at: MonotonicClock.nanoseconds)
    }
  }

  /// A message to nothing that was asked.
  func unexpected() { recorder.happened(.unexpected, at: MonotonicClock.nanoseconds) }

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
  private func end(
    of bytes: UnsafeRawBufferPointer, slot: Int, over connection: PoolConnection
  ) -> PhaseEnd? {
    let state = slots + slot
    let reply = MessageView(reply: bytes)
    let foreignSign = reply.flatMap { dialect.foreignSign(in: $0) }
    if let foreignSign { noteForeignMap(foreignSign) }
    let words = reply?.requestID?.words
    guard let reply, let words, words == state.pointee.requestID, state.pointee.isWaiting else {
      return strayEnd(reply, words: words, isWaiting: state.pointee.isWaiting)
    }
    // What is no answer in this dialect must not end the phase: the answer may still come.
    if let foreignSign { return foreignSign.endsPhase ? .malformed : nil }
    guard reply.sessionID == nil || reply.sessionID == state.pointee.lastSID else {
      noteProtocolError("a reply has the session id of another session")
      return .malformed
    }
    if let called { return take(reply, slot: slot, called, connection) }
    return read(reply, slot: slot, state)
  }

  /// A reply that does not answer what its slot waits for: late, once more, or not to be read.
  @inline(never)
  private func strayEnd(
    _ reply: MessageView?, words: (high: UInt64, low: UInt64)?, isWaiting: Bool
  ) -> PhaseEnd? {
    if let words, let number = ids.pointee.number(high: words.high, low: words.low) {
      if dialect.end == .call {
        // An acknowledgement may come behind the phase's end.
        guard let method = reply?.method else { return nil }
        let isAgain = Method(rawValue: method).endsPhase && !isLate(number)
        recorder.happened(isAgain ? .duplicates : .late, at: MonotonicClock.nanoseconds)
      } else {
        recorder.happened(isLate(number) ? .late : .duplicates, at: MonotonicClock.nanoseconds)
      }
      return nil
    }
    if isWaiting {
      noteProtocolError(
        reply == nil
          ? "a reply is not one MessagePack map with the interface's types"
          : words == nil
            ? "a reply has no request id of 16 bytes, nor a UUID's text"
            : "a reply has a request id that was not sent")
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
    let end = phaseEnd(of: reply)
    if end == .handlerError { noteWorkerError(reply) }
    if end == .malformed, reply.action == .unknown {
      noteProtocolError("a reply has an `action` other than next, end and error")
    }
    if let stamps { keepStamps(of: reply, slot: slot, stamps) }
    guard end == .next || end == .end, dialect.sendsContext else { return end }
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
    // Without an action only an error says that something failed.
    case .missing: reply.error?.isEmpty == false ? .handlerError : .next
    case .unknown: .malformed
    }
  }
}

/// The calls of handlers, in a dialect in which each is a map.
extension NATSTransport {
  /// Handles a map of the phase that is under way in a slot; nil when the phase goes on.
  @inline(__always)
  private func take(
    _ reply: MessageView, slot: Int, _ called: CalledResponses, _ connection: PoolConnection
  ) -> PhaseEnd? {
    if let error = reply.error, !error.isEmpty {
      noteWorkerError(reply)
      return .handlerError
    }
    // Without a method it is the acknowledgement, or the answer to what begins a session.
    guard let number = reply.method else { return slots[slot].phaseIndex < firstPhase ? .next : nil }
    let method = Method(rawValue: number)
    if method == .end {
      if slots[slot].phaseIndex == requestFilterIndex { called.dropUpstream(slot) }
      return .end
    }
    if method.endsPhase { return .next }
    return call(method, reply, slot: slot, called, connection)
  }

  @inline(never)
  private func call(
    _ method: Nylon.Method, _ reply: MessageView, slot: Int, _ called: CalledResponses,
    _ connection: PoolConnection
  ) -> PhaseEnd? {
    let payload = reply.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    var fits = true
    let isKnown =
      method.isRead
      ? called.answer(method, payload, slot: slot) { answer in
        let message = encoder.encode(
          requestID: reply.requestID, sessionID: slots[slot].lastSID, phase: .zero, method: method.rawValue,
          data: answer)
        fits = connection.publish(message, phaseIndex: Int(slots[slot].phaseIndex))
      } : called.apply(method, payload, slot: slot)
    if !isKnown {
      noteProtocolError("a call has a method that is not known, or a payload that it cannot have")
      recorder.happened(.protocolErrors, at: MonotonicClock.nanoseconds)
    }
    guard fits else {
      noteProtocolError(
        "the answer to a read is longer than the broker takes, or too many answers wait for it")
      return .malformed
    }
    return nil
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
    guard evidence.contentDifference == nil else { return }
    evidence.contentDifference =
      called.map { $0.difference(slot) } ?? contexts.difference(Int(slots[slot].context))
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
