import Nylon

/// Where the session of a slot stands.
enum SlotState: UInt8 {
  case idle
  /// A phase is under way.
  case waiting
  /// The phase failed and is tried again at `deadline`.
  case backoff
}

/// How a session or phase ended.
enum Outcome: UInt8 {
  case ok
  case handlerError
  case timeout
  case lost

  var counter: ThreadRecorder.Counter {
    switch self {
    case .ok: .ok
    case .handlerError: .handlerErrors
    case .timeout: .timeouts
    case .lost: .lost
    }
  }
}

/// A place for one session at a time.
struct SessionSlot {
  var intended: UInt64 = 0
  var sent: UInt64 = 0
  var phaseIntended: UInt64 = 0
  var phaseSent: UInt64 = 0
  /// When the phase times out, or is tried again.
  var deadline = UInt64.max
  var phaseIndex: Int32 = 0
  var attempt: Int16 = 1
  var state = SlotState.idle
  /// The first failure of the session.
  var outcome = Outcome.ok
  var isMeasured = false

  init() {}
}

extension LoadDriver {
  /// Opens a session in a free slot and starts its first phase; intended nil means now.
  @inline(__always)
  func begin(slot place: Int, intended: UInt64?) {
    let slot = slots + place
    let now = time()
    let wanted = intended ?? now
    slot.pointee.intended = wanted
    slot.pointee.sent = now
    slot.pointee.outcome = .ok
    let measured = isMeasured(wanted)
    slot.pointee.isMeasured = measured
    if measured { recorder.add(.sent, scope: 0) }
    guard transport.open(slot: place, at: now) else {
      refused(place)
      return
    }
    startPhase(place, index: 0, intended: wanted, sent: now)
  }

  /// The plugin did not take the session.
  @inline(never)
  func refused(_ place: Int) {
    _ = transport.finish(slot: place, verify: false)
    if slots[place].isMeasured {
      recorder.add(.handlerErrors, scope: 0)
      if stepCount == 1 {
        recorder.add(.sent, scope: 1)
        recorder.add(.handlerErrors, scope: 1)
      }
    }
    release(place)
  }

  @inline(__always)
  func startPhase(_ place: Int, index: Int, intended: UInt64, sent: UInt64) {
    let slot = slots + place
    slot.pointee.phaseIndex = Int32(truncatingIfNeeded: index)
    slot.pointee.attempt = 1
    slot.pointee.phaseIntended = intended
    slot.pointee.phaseSent = sent
    slot.pointee.deadline = sent &+ steps[index].timeout
    slot.pointee.state = .waiting
    if slot.pointee.isMeasured { recorder.add(.sent, scope: index &+ 1) }
    transport.start(slot: place, phaseIndex: index, attempt: 1, at: sent)
  }

  @inline(__always)
  func complete(_ completion: PhaseCompletion) {
    let place = Int(completion.slot)
    let slot = slots + place
    guard slot.pointee.state == .waiting else { return }
    let index = Int(slot.pointee.phaseIndex)
    if completion.doneAt > slot.pointee.deadline {
      count(.late, slot)
      fail(place, .timeout, at: slot.pointee.deadline, now: completion.doneAt)
      return
    }
    switch completion.end {
    case .next: succeed(place, at: completion.doneAt, next: index &+ 1)
    case .end: succeed(place, at: completion.doneAt, next: steps[index].afterEnd)
    case .handlerError, .malformed:
      if completion.end == .malformed { count(.protocolErrors, slot) }
      noteAnswer(at: completion.doneAt, took: completion.doneAt &- slot.pointee.phaseSent)
      fail(place, .handlerError, at: completion.doneAt, now: completion.doneAt)
    case .noResponders:
      count(.noResponders, slot)
      fail(place, .lost, at: completion.doneAt, now: completion.doneAt)
    }
  }

  /// Counts something that happened to a measured session, in its phase and in the request.
  @inline(never)
  func count(_ counter: ThreadRecorder.Counter, _ slot: UnsafeMutablePointer<SessionSlot>) {
    guard slot.pointee.isMeasured else { return }
    recorder.add(counter, scope: Int(slot.pointee.phaseIndex) + 1)
    recorder.add(counter, scope: 0)
  }

  @inline(__always)
  func succeed(_ place: Int, at done: UInt64, next: Int) {
    let slot = slots + place
    let scope = Int(slot.pointee.phaseIndex) &+ 1
    noteAnswer(at: done, took: done &- slot.pointee.phaseSent)
    if slot.pointee.isMeasured { recorder.add(.ok, scope: scope) }
    if isInWindow(done) { recorder.add(.okInWindow, scope: scope) }
    // With one phase its times are the request's, which `finish` records: see `LoadResult`.
    if stepCount > 1, slot.pointee.isMeasured { recordPhase(slot, scope: scope, done: done) }
    if let parts, slot.pointee.isMeasured { recordParts(parts, place, slot, scope: scope, done: done) }
    goOn(place, next: next, at: done)
  }

  @inline(__always)
  func recordPhase(_ slot: UnsafeMutablePointer<SessionSlot>, scope: Int, done: UInt64) {
    recorder.phaseResponse(scope: scope).record(done &- slot.pointee.phaseIntended)
    // In a closed loop intended is sent: service equals response and the lag is 0.
    if schedule != nil {
      recorder.phaseService(scope: scope).record(done &- slot.pointee.phaseSent)
      recorder.phaseLag(scope: scope).record(slot.pointee.phaseSent &- slot.pointee.phaseIntended)
    }
  }

  @inline(__always)
  func goOn(_ place: Int, next: Int, at done: UInt64) {
    guard next < stepCount else {
      finish(place, at: done)
      return
    }
    let now = time()
    startPhase(place, index: next, intended: schedule == nil ? now : done, sent: now)
  }

  /// Ends the slot's session, records it, and starts the next one of a closed loop.
  @inline(__always)
  func finish(_ place: Int, at done: UInt64) {
    let slot = slots + place
    let ok = slot.pointee.outcome == .ok
    if !transport.finish(slot: place, verify: ok), ok {
      slot.pointee.outcome = .handlerError
      if slot.pointee.isMeasured { recorder.add(.wrongContent, scope: 0) }
      // The phase itself was answered: with one phase nobody else keeps its time.
      if stepCount == 1, slot.pointee.isMeasured { recordPhase(slot, scope: 1, done: done) }
    }
    recordSession(slot, done: done)
    slot.pointee.state = .idle
    slot.pointee.deadline = .max
    if schedule == nil, done < state.pointee.window.measureEnd, slot.pointee.outcome == .ok {
      begin(slot: place, intended: nil)
    } else {
      release(place)
    }
  }

  /// A failed session frees its slot, and a closed loop begins the next from the main loop, so that
  /// a plugin that refuses everything cannot recurse without end.
  @inline(never)
  func release(_ place: Int) {
    let end = state.pointee.freeHead + state.pointee.freeCount
    free[end < slotCount ? end : end - slotCount] = Int32(place)
    state.pointee.freeCount += 1
    let wasAnswered = slots[place].outcome == .ok || slots[place].outcome == .handlerError
    if state.pointee.freeCount == slotCount, wasAnswered { state.pointee.isQuiet = true }
    if schedule == nil { state.pointee.nextCheck = 0 }
  }

  @inline(__always)
  func recordSession(_ slot: UnsafeMutablePointer<SessionSlot>, done: UInt64) {
    let outcome = slot.pointee.outcome
    if outcome == .ok, isInWindow(done) { recorder.add(.okInWindow, scope: 0) }
    guard slot.pointee.isMeasured else { return }
    recorder.add(outcome.counter, scope: 0)
    // An error says nothing about how long an answer takes; an unanswered request shows its age.
    if outcome == .ok || outcome == .timeout { recordRequest(slot, done: done) }
  }

  @inline(__always)
  func recordRequest(_ slot: UnsafeMutablePointer<SessionSlot>, done: UInt64) {
    while done >= state.pointee.windowLimit, state.pointee.windowIndex < recorder.windows {
      state.pointee.windowIndex &+= 1
      state.pointee.windowLimit &+= windowNanoseconds
    }
    recorder.requestResponse(window: state.pointee.windowIndex).record(done &- slot.pointee.intended)
    if schedule != nil {
      recorder.requestService.record(done &- slot.pointee.sent)
      recorder.requestLag.record(slot.pointee.sent &- slot.pointee.intended)
    }
  }
}
