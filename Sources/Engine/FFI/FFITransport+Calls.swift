import CLinux
import CNylonABI
import Glibc
import Nylon
import Synchronization

/// What the plugin's calls do.
extension FFITransport {
  /// Handles a call on the load thread.
  @inline(__always)
  func handle(_ message: PluginMessage) {
    let slot = host.pointee.numbering.slot(of: message.sid) &- firstSlot
    let state = slots + slot
    guard host.pointee.currentSID[firstSlot &+ slot].load(ordering: .relaxed) == message.sid else {
      if Method(rawValue: message.method).endsPhase { lane.pointee.stale.add(1, ordering: .relaxed) }
      return
    }
    switch message.method {
    case 1, 105: endPhase(slot, .next, phase: message.phase, calledAt: message.calledAt)
    case 2: endPhase(slot, .end, phase: message.phase, calledAt: message.calledAt)
    default: call(message, state)
    }
  }

  @inline(__always)
  func endPhase(_ slot: Int, _ end: PhaseEnd, phase: UInt8, calledAt: UInt64) {
    let state = slots + slot
    // An end that names another phase is an old one's.
    guard state.pointee.isPhaseOpen, phase == 0 || phase == state.pointee.phase else {
      recorder.add(.duplicates, scope: 0)
      recorder.add(.duplicates, scope: state.pointee.scope)
      return
    }
    state.pointee.isPhaseOpen = false
    let doneAt: UInt64
    if let stamps {
      doneAt = stampEnd(slot, calledAt: calledAt, stamps)
    } else {
      doneAt = calledAt != 0 ? calledAt : MonotonicClock.nanoseconds
    }
    completions.push(PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: end, doneAt: doneAt))
  }

  /// Handles a call inside the callback: on the load thread, or on a thread of the plugin's.
  func handleInline(_ message: PluginMessage, onOwner: Bool) {
    if onOwner {
      handle(message)
    } else if Method(rawValue: message.method).endsPhase {
      handOver(message, to: lane)
    } else {
      call(message, slots + (host.pointee.numbering.slot(of: message.sid) &- firstSlot))
    }
  }

  /// A write or a read.
  @inline(never)
  private func call(_ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>) {
    let method = Method(rawValue: message.method)
    if let answer = answers.answer(method, payload: message.payload) {
      send(answer, for: message)
    } else if method.isRead {
      answerFromResponse(method, message, state)
    } else if !write(method, message, state) {
      lane.pointee.broken.add(1, ordering: .relaxed)
    }
  }

  /// Changes the response; false for an unknown method or a payload that is none.
  private func write(
    _ method: Nylon.Method, _ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>
  ) -> Bool {
    let payload = message.payload
    let current = host.pointee.currentSID + host.pointee.numbering.slot(of: message.sid)
    return withSlotLock(state) {
      // On a thread of the plugin's the session may have ended since, and the next one begun.
      guard current.pointee.load(ordering: .acquiring) == message.sid else { return true }
      switch method {
      case .setResponseHeader:
        guard let header = HeaderKeyValueCodec.decode(payload) else { return false }
        state.pointee.response.setHeader(name: header.key, value: header.value)
      case .removeResponseHeader: state.pointee.response.removeHeader(name: payload)
      case .setResponseStatus:
        guard payload.count == 2 else { return false }
        state.pointee.response.setStatus(UInt16(payload[0]) << 8 | UInt16(payload[1]))
      case .setResponseFullBody: state.pointee.response.setBody(payload)
      case .setResponseStreamData: state.pointee.response.appendBody(payload)
      case .setResponseStreamHeader: break
      default: return false
      }
      return true
    }
  }

  /// Answers a read of the session's own response or clock.
  private func answerFromResponse(
    _ method: Nylon.Method, _ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>
  ) {
    switch method {
    case .readResponseStatus: send(decimal: UInt64(state.pointee.response.status), for: message)
    case .readResponseBytes: send(decimal: UInt64(state.pointee.response.body.count), for: message)
    case .readResponseDuration:
      send(decimal: (MonotonicClock.nanoseconds - state.pointee.openedAt) / 1_000_000, for: message)
    case .readRequestTimestamp:
      send(decimal: (state.pointee.openedAt + unixOffset) / 1_000_000, for: message)
    case .readResponseHeaders:
      let table = HeaderTable.encode(withSlotLock(state) { state.pointee.response.allHeaders() })
      table.withUnsafeBytes { send($0, for: message) }
    case .readResponseFullBody:
      // Inline on a foreign thread the body might be replaced while it is sent: a copy cannot.
      if isInline {
        let copy = withSlotLock(state) { [UInt8](state.pointee.response.body) }
        copy.withUnsafeBytes { send($0, for: message) }
      } else {
        send(state.pointee.response.body, for: message)
      }
    default: lane.pointee.broken.add(1, ordering: .relaxed)
    }
  }

  private func send(decimal value: UInt64, for message: PluginMessage) {
    withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
      var place = 20
      var rest = value
      repeat {
        place -= 1
        digits[place] = UInt8(48 + rest % 10)
        rest /= 10
      } while rest > 0
      send(UnsafeRawBufferPointer(rebasing: digits[place...]), for: message)
    }
  }

  /// Answers a read: the same method, phase 0.
  private func send(_ answer: UnsafeRawBufferPointer, for message: PluginMessage) {
    var event = NylonFfiBuffer(
      sid: message.sid, phase: 0, method: message.method,
      ptr: answer.baseAddress?.assumingMemoryBound(to: UInt8.self), len: UInt64(answer.count))
    plugin.eventStream(&event)
  }

  /// Runs `body` alone on a slot's response. Only a plugin that calls from threads of its own, with
  /// inline dispatch, can meet the load thread there; everybody else pays one load.
  @inline(__always)
  func withSlotLock<Result>(_ state: UnsafeMutablePointer<FFISlot>, _ body: () -> Result) -> Result {
    guard isInline, host.pointee.foreignSeen.load(ordering: .acquiring) else { return body() }
    let lock = UnsafeMutableRawPointer(state).advanced(by: MemoryLayout<FFISlot>.offset(of: \.lock) ?? 0)
      .assumingMemoryBound(to: Atomic<UInt32>.self)
    while lock.pointee.exchange(1, ordering: .acquiring) != 0 { kernel_relax() }
    defer { lock.pointee.store(0, ordering: .releasing) }
    return body()
  }
}
