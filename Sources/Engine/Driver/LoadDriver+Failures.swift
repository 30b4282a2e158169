import Nylon

extension LoadDriver {
  /// A phase failed: tried again, passed over, or the session's end, as its policy says.
  ///
  /// - Parameters:
  ///   - done: when it failed; a timeout's deadline.
  ///   - now: when that was seen.
  @inline(never)
  func fail(_ place: Int, _ outcome: Outcome, at done: UInt64, now: UInt64) {
    let slot = slots + place
    let index = Int(slot.pointee.phaseIndex)
    let step = steps[index]
    if outcome == .timeout { transport.abandon(slot: place) }
    // A handler that still runs in this process would answer for whatever comes next.
    let sessionIsStuck = outcome == .timeout && transport.isInProcess
    if step.onError == .retry, !sessionIsStuck, Int(slot.pointee.attempt) < step.attempts {
      retryLater(slot, step: step, now: now)
      return
    }
    if outcome != .handlerError { measureUnanswered(slot, until: done) }
    if slot.pointee.isMeasured {
      recorder.add(outcome.counter, scope: index + 1)
      if outcome == .timeout, stepCount > 1 { recordPhase(slot, scope: index + 1, done: done) }
    }
    if slot.pointee.outcome == .ok { slot.pointee.outcome = outcome }
    if step.onError == .continue, !sessionIsStuck {
      goOn(place, next: index + 1, at: done)
    } else {
      finish(place, at: done)
    }
  }

  /// A session of the warm-up that was in flight when the measured time began and is never answered belongs
  /// to the measured ones: a target that hangs from the warm-up on would appear in no count otherwise.
  private func measureUnanswered(_ slot: UnsafeMutablePointer<SessionSlot>, until done: UInt64) {
    let start = state.pointee.window.measureStart
    guard !slot.pointee.isMeasured, slot.pointee.intended < start, done >= start else { return }
    slot.pointee.isMeasured = true
    recorder.add(.sent, scope: 0)
    recorder.add(.sent, scope: Int(slot.pointee.phaseIndex) + 1)
  }

  private func retryLater(
    _ slot: UnsafeMutablePointer<SessionSlot>, step: PhaseStep, now: UInt64
  ) {
    slot.pointee.attempt += 1
    slot.pointee.state = .backoff
    slot.pointee.deadline = now + step.backoff(beforeAttempt: Int(slot.pointee.attempt))
    state.pointee.nextSweep = min(state.pointee.nextSweep, slot.pointee.deadline)
    state.pointee.nextCheck = min(state.pointee.nextCheck, state.pointee.nextSweep)
  }

  /// Finds timeouts and due retries. Nothing that starts later can be due before `nextSweep`.
  @inline(never)
  func sweep(at now: UInt64) {
    state.pointee.nextSweep = now + shortestTimeout
    for place in 0..<slotCount {
      let slot = slots + place
      guard slot.pointee.state != .idle else { continue }
      if slot.pointee.deadline <= now {
        if slot.pointee.state == .backoff { tryAgain(place, at: now) } else { timeOut(place, now: now) }
      }
      if slot.pointee.state != .idle {
        state.pointee.nextSweep = min(state.pointee.nextSweep, slot.pointee.deadline)
      }
    }
  }

  /// A phase's deadline has passed. Its end may be here already and only not be looked at yet: the
  /// thread was late, or the transport learned it when another phase was given up.
  private func timeOut(_ place: Int, now: UInt64) {
    takePending()
    let slot = slots + place
    guard slot.pointee.state == .waiting, slot.pointee.deadline <= now else { return }
    fail(place, .timeout, at: slot.pointee.deadline, now: now)
  }

  private func tryAgain(_ place: Int, at now: UInt64) {
    let slot = slots + place
    let index = Int(slot.pointee.phaseIndex)
    count(.retries, slot)
    slot.pointee.state = .waiting
    slot.pointee.deadline = now + steps[index].timeout
    transport.start(slot: place, phaseIndex: index, attempt: Int(slot.pointee.attempt), at: now)
  }

  /// The drain is over: what has no answer yet is lost, with the age that it reached.
  @inline(never)
  func loseTheRest(at now: UInt64) {
    for place in 0..<slotCount where slots[place].state != .idle {
      let slot = slots + place
      let scope = Int(slot.pointee.phaseIndex) + 1
      transport.abandon(slot: place)
      _ = transport.finish(slot: place, verify: false)
      slot.pointee.state = .idle
      measureUnanswered(slot, until: now)
      guard slot.pointee.isMeasured else { continue }
      recorder.add(.lost, scope: scope)
      if stepCount > 1 { recordPhase(slot, scope: scope, done: now) }
      if slot.pointee.outcome == .ok { slot.pointee.outcome = .lost }
      recorder.add(slot.pointee.outcome.counter, scope: 0)
      if slot.pointee.outcome != .handlerError { recordRequest(slot, done: now) }
    }
    loseBacklog(at: now)
  }

  /// Requests that the schedule wanted and that never found a place.
  private func loseBacklog(at now: UInt64) {
    guard schedule != nil else { return }
    while state.pointee.nextArrival < state.pointee.window.measureEnd {
      if isMeasured(state.pointee.nextArrival) {
        if overflow == .queue {
          countUnsent(.lost)
          recorder.requestResponse(window: recorder.windows).record(
            now &- min(now, state.pointee.nextArrival))
        } else {
          countUnsent(overflow == .shed ? .shed : .rejected)
        }
      }
      advanceArrival()
    }
  }
}
