import Foundation
import Nylon
import Scenario

extension NATSTransport {
  /// Handles a reply to the slot's subject that arrived over `connection`.
  @inline(__always)
  func receive(_ bytes: UnsafeRawBufferPointer, slot: Int, over connection: PoolConnection) {
    if let end = end(of: bytes, slot: slot, over: connection) { self.end(slot, end) }
  }

  /// Handles "no responders" for a slot's request. When the request was given up meanwhile, the reply is
  /// late; if the slot's next request is already pending, the reply is attributed to that one.
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

  /// Counts a message that no request asked for.
  func unexpected() { recorder.happened(.unexpected, at: MonotonicClock.nanoseconds) }

  /// Ends the slot's current phase.
  @inline(__always)
  func end(_ slot: Int, _ end: PhaseEnd) {
    slots[slot].isWaiting = false
    completions.push(
      PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: end, doneAt: MonotonicClock.nanoseconds))
  }

  /// Maps a reply to the end of its slot's phase; nil when it does not end it (a stray reply is counted).
  ///
  /// The subject identifies only the slot, so that the broker sees the same few subjects and keeps them in
  /// its cache; the request's id identifies the request.
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
    // A map of another dialect must not end the phase: the answer may still arrive.
    if let foreignSign { return foreignSign.endsPhase ? .malformed : nil }
    guard reply.sessionID == nil || reply.sessionID == state.pointee.lastSID else {
      noteProtocolError("a reply has the session id of another session")
      return .malformed
    }
    if let called { return take(reply, slot: slot, called, connection) }
    return read(reply, slot: slot, state)
  }

  /// Classifies a reply that does not answer the slot's pending request: late, duplicate or malformed.
  @inline(never)
  private func strayEnd(
    _ reply: MessageView?, words: (high: UInt64, low: UInt64)?, isWaiting: Bool
  ) -> PhaseEnd? {
    if let words, let number = ids.pointee.number(high: words.high, low: words.low) {
      if dialect.end == .call {
        // An acknowledgement may arrive after the phase's end.
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

  /// Parses and verifies a reply, and advances the session's context.
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
    // Without an action, only an error indicates a failure.
    case .missing: reply.error?.isEmpty == false ? .handlerError : .next
    case .unknown: .malformed
    }
  }
}

/// Handlers' calls, in a dialect in which each call is a map.
extension NATSTransport {
  /// Handles a map of the slot's current phase; nil when the phase continues.
  @inline(__always)
  private func take(
    _ reply: MessageView, slot: Int, _ called: CalledResponses, _ connection: PoolConnection
  ) -> PhaseEnd? {
    if let error = reply.error, !error.isEmpty {
      noteWorkerError(reply)
      return .handlerError
    }
    // A map without a method is an acknowledgement, or the answer to a request that begins a session.
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
        "the answer to a read is longer than the broker accepts, or too many answers are waiting for it")
      return .malformed
    }
    return nil
  }
}

/// Keeps the first evidence of each kind of failure. Only the first one allocates.
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

/// Phase decomposition; none of this runs unless the load is decomposed.
extension NATSTransport {
  /// Keeps the stamps of a reply until the driver asks for them.
  @inline(never)
  func keepStamps(of reply: MessageView, slot: Int, _ stamps: UnsafeMutablePointer<WorkerStamps>) {
    stamps[slot] = reply.header(WorkerStamps.header).flatMap(WorkerStamps.init) ?? WorkerStamps(read: 0)
  }

  /// See `TransportSpec.partNames`. Unanswered attempts before the answered one count towards the first part.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? {
    guard let stamp = stamps?[slot], stamp.packed != 0 else { return nil }
    return SIMD4(stamp.read, stamp.begun, stamp.ended, stamp.packed)
  }
}
