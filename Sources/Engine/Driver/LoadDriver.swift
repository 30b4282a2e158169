import Nylon
import Scenario

/// The times of one load, monotonic nanoseconds.
struct LoadWindow: Sendable {
  /// The start of the load.
  var start: UInt64
  /// Requests from this time on are measured.
  var measureStart: UInt64
  /// No request starts from this time on.
  var measureEnd: UInt64
  /// The maximum time to wait for answers after `measureEnd`.
  var drainNanoseconds: UInt64
}

/// A phase as the driver executes it. The response body filter has one step per body chunk, and steps that
/// begin the session may precede the first phase.
struct PhaseStep: Sendable {
  /// The timeout, nanoseconds.
  var timeout: UInt64
  /// The scope that records the step; 1 for the first phase.
  var scope: Int
  var phase: Phase
  /// The index of the response body's chunk.
  var chunk: Int
  var policy: PhasePolicy
  /// Whether the step only begins the session; its failure does not fail the session.
  var isInitialization = false
  /// Whether the step belongs to a plugin in this process that a pool's requests pass first.
  var isInProcess = false

  /// The steps of a session.
  static func steps(of order: LoadOrder) -> [PhaseStep] {
    let phases = order.target.phases.enumerated().flatMap { place, phase in
      let policy = order.target.policy(of: phase)
      return (0..<(phase == .responseBodyFilter ? order.bodyChunks : 1)).map { chunk in
        PhaseStep(
          timeout: UInt64(policy.timeoutMilliseconds) * 1_000_000, scope: place + 1, phase: phase,
          chunk: chunk, policy: policy)
      }
    }
    if let plugin = order.target.behind {
      return zip(steps(of: plugin, order.target.phases), phases).flatMap { [$0, $1] }
    }
    return initialization(of: order.target) + phases
  }

  /// The steps of the plugin that a pool's requests pass first; their scopes follow the pool's.
  static func steps(of plugin: PrecedingPlugin, _ phases: [Phase]) -> [PhaseStep] {
    phases.enumerated().map { place, phase in
      let policy = plugin.policies[phase] ?? .standard(for: phase)
      return PhaseStep(
        timeout: UInt64(policy.timeoutMilliseconds) * 1_000_000, scope: phases.count + place + 1,
        phase: phase,
        chunk: 0, policy: policy, isInProcess: true)
    }
  }

  /// The `initialize` requests with which Nylon's own host begins a session, one for each phase of a session.
  /// The next step follows whatever their outcome.
  private static func initialization(of target: Target) -> [PhaseStep] {
    guard let spec = target.nats, target.host == .nylon else { return [] }
    var policy = PhasePolicy.standard(for: .logging)
    policy.timeoutMilliseconds = spec.initializeTimeoutMilliseconds ?? 500
    (policy.onError, policy.attempts) = (.continue, 1)
    return Phase.session.map { [policy] phase in
      PhaseStep(
        timeout: UInt64(policy.timeoutMilliseconds) * 1_000_000, scope: target.phases.count + 1, phase: phase,
        chunk: 0, policy: policy, isInitialization: true)
    }
  }

  /// The wait before an attempt, nanoseconds: exponential, with a maximum.
  func backoff(beforeAttempt attempt: Int) -> UInt64 {
    var wait = policy.backoffFirstMilliseconds
    for _ in 2..<max(2, attempt) where wait < policy.backoffMostMilliseconds { wait *= 2 }
    return UInt64(min(wait, policy.backoffMostMilliseconds)) * 1_000_000
  }
}

/// The driver's mutable state while its load runs.
struct DriverState {
  var window: LoadWindow
  var freeHead = 0
  var freeCount: Int
  /// The intended times of an open loop's requests; nil in a closed loop.
  var arrivals: DrawnArrivals?
  var nextArrival = UInt64.max
  var nextCheck: UInt64 = 0
  var nextSweep: UInt64 = 0
  var windowIndex = 0
  var windowLimit: UInt64
  /// The time after which the next answer ends a gap, which may be a stall.
  var gapLimit: UInt64
  /// The service time of the slowest answered phase so far.
  var slowestAnswer: UInt64 = 0
  /// Whether all requests so far were answered, so that none is pending.
  var isQuiet = true
}

/// Drives sessions through a transport on one thread, and records their results.
///
/// The closed loop keeps every slot busy; the open loop starts a session in a free slot at its scheduled
/// time. Everything is allocated in `init`; `run` does not allocate.
final class LoadDriver<Transport: SessionTransport> {
  let transport: Transport
  let hasOwnClock: Bool
  /// Whether the end time of a phase that completed inside its start call is used as the next phase's start
  /// time: only recording happens in between, and a clock read takes longer than that.
  let chainsPhases: Bool
  let completions: CompletionRing
  let recorder: ThreadRecorder
  let steps: UnsafeMutablePointer<PhaseStep>
  let stepCount: Int
  let slots: UnsafeMutablePointer<SessionSlot>
  let slotCount: Int
  let area: RecordingArea
  let overflow: OverflowPolicy
  /// In raw memory, which avoids exclusivity checks.
  let state: UnsafeMutablePointer<DriverState>
  let isOpen: Bool
  /// A ring of free slots, so that all are used equally: the session ids of a slot are limited.
  let free: UnsafeMutablePointer<Int32>
  /// How many times in a row a slot is reused while others are free, which keeps its memory in the cache.
  /// Over NATS, a slot rests instead, so that a duplicate reply can be recognized.
  let usesInRow: UInt16
  let shortestTimeout: UInt64
  let windowNanoseconds: UInt64
  /// A longer time without an answer may be a stall.
  let stallNanoseconds: UInt64
  /// A longer time without an answer is examined.
  let gapNanoseconds: UInt64
  /// The ledger of phase requests; nil when none is requested.
  let ledger: ThreadLedger?

  /// Creates a driver with `slotCount` slots; `schedule` is nil in a closed loop.
  ///
  /// - Parameter keepsGaps: whether to keep each window's longest time without an answer.
  init(
    transport: Transport, steps: [PhaseStep], slotCount: Int, schedule: ArrivalSchedule?,
    overflow: OverflowPolicy, window: LoadWindow, area: RecordingArea, thread: Int, keepsGaps: Bool = false,
    ledger: LedgerArea? = nil
  ) {
    self.transport = transport
    self.ledger = ledger?.thread(thread, slots: slotCount)
    hasOwnClock = Transport.hasOwnClock
    completions = transport.completions
    recorder = area.threadRecorder(thread)
    // A phase's parts are stamped where they happen, so its start must be read there, too.
    chainsPhases = transport.isInProcess && !Transport.hasOwnClock && recorder.partCount == 0
    self.area = area
    self.overflow = overflow
    isOpen = schedule != nil
    self.slotCount = slotCount
    stepCount = steps.count
    self.steps = .allocate(capacity: steps.count)
    self.steps.initialize(from: steps, count: steps.count)
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: SessionSlot(), count: slotCount)
    free = .allocate(capacity: slotCount)
    usesInRow = isOpen && transport.isInProcess ? 1024 : 1
    for place in 0..<slotCount { free[place] = Int32(place) }
    shortestTimeout = steps.map(\.timeout).min() ?? 1_000_000_000
    windowNanoseconds = max(1, (window.measureEnd - window.measureStart) / UInt64(area.layout.windows))
    stallNanoseconds = UInt64(Double(window.measureEnd - window.measureStart) * Stall.leastShare)
    gapNanoseconds = keepsGaps ? min(ThreadRecorder.leastGap, stallNanoseconds) : stallNanoseconds
    recorder.windowClock.pointee = (window.measureStart, windowNanoseconds)
    state = .allocate(capacity: 1)
    state.initialize(
      to: DriverState(
        window: window, freeCount: slotCount,
        arrivals: schedule.map { DrawnArrivals($0, start: window.start) },
        windowLimit: window.measureStart + windowNanoseconds, gapLimit: window.start + gapNanoseconds))
  }

  deinit {
    ledger?.deallocate()
    state.pointee.arrivals?.deallocate()
    steps.deallocate()
    state.deallocate()
    slots.deallocate()
    free.deallocate()
  }

  /// Runs the load: warm-up, measured time, drain. Returns when everything is recorded.
  func run() {
    while time() < state.pointee.window.start { transport.poll(until: state.pointee.window.start) }
    if isOpen { advanceArrival() }
    while true {
      takeCompletions()
      var now = time()
      if now >= state.pointee.nextCheck {
        check(at: now)
        now = time()
      }
      if now >= state.pointee.window.measureEnd + state.pointee.window.drainNanoseconds { break }
      if isOpen { startDue(at: now) }
      guard completions.isEmpty else { continue }
      if isFinished(at: now) { break }
      if state.pointee.nextArrival &- now > DrawnArrivals.aheadNanoseconds {
        state.pointee.arrivals?.drawAhead()
      }
      transport.poll(until: wakeTime)
    }
    takePending()
    if !state.pointee.isQuiet { noteGap(until: state.pointee.window.measureEnd) }
    loseTheRest(at: time())
    ledger?.settleAll()
    transport.tally()
  }

  /// Records that the target answered a phase `service` nanoseconds after it was sent.
  @inline(__always)
  func noteAnswer(at done: UInt64, took service: UInt64) {
    if done > state.pointee.gapLimit { noteGap(until: done) }
    if service > state.pointee.slowestAnswer { state.pointee.slowestAnswer = service }
    state.pointee.gapLimit = done &+ gapNanoseconds
  }

  /// Records the gap from the last answer until `end`, if it is the longest of its window or the longest
  /// stall so far.
  @inline(never)
  func noteGap(until end: UInt64) {
    let window = state.pointee.window
    let lastAnswer = state.pointee.gapLimit - gapNanoseconds
    let stall = Stall(
      start: max(lastAnswer, window.measureStart), end: min(end, window.measureEnd),
      slowestBefore: state.pointee.slowestAnswer)
    guard stall.nanoseconds > gapNanoseconds else { return }
    recorder.noteGap(stall)
    // Without an earlier answer, the target's usual answer time is unknown.
    guard stall.nanoseconds > stallNanoseconds, stall.slowestBefore > 0,
      stall.nanoseconds / Stall.leastTimesSlowest > stall.slowestBefore,
      stall.nanoseconds > recorder.stall.pointee.nanoseconds
    else { return }
    recorder.stall.pointee = stall
  }

  /// The current time, nanoseconds.
  @inline(__always)
  func time() -> UInt64 { hasOwnClock ? transport.now() : MonotonicClock.nanoseconds }

  /// Starts to watch for gaps, because a request is about to be sent.
  @inline(__always)
  func endQuiet(at now: UInt64) {
    guard state.pointee.isQuiet else { return }
    state.pointee.isQuiet = false
    state.pointee.gapLimit = now &+ gapNanoseconds
  }

  @inline(__always)
  func takeFree() -> Int {
    let place = Int(free[state.pointee.freeHead])
    state.pointee.freeHead = state.pointee.freeHead &+ 1 == slotCount ? 0 : state.pointee.freeHead &+ 1
    state.pointee.freeCount &-= 1
    return place
  }

  @inline(__always)
  func takeCompletions(afterStart: Bool = false) {
    // Whether the next completion was caused by the last action.
    var isFresh = afterStart && chainsPhases
    while let completion = completions.pop() {
      let isOnly = completions.isEmpty
      complete(completion, isFresh: isFresh)
      isFresh = isOnly && chainsPhases
      if completion.doneAt >= state.pointee.nextCheck { return }
    }
  }

  /// Handles only the completions that are already pending, so that this ends even when a plugin answers
  /// within each call.
  func takePending() {
    for _ in 0..<completions.count {
      if let completion = completions.pop() { complete(completion, isFresh: false) }
    }
  }

  /// Handles timeouts, due retries and the end of the load; called at least every 10 ms.
  func check(at now: UInt64) {
    if area.measureEnd < state.pointee.window.measureEnd { state.pointee.window.measureEnd = area.measureEnd }
    if now >= state.pointee.nextSweep { sweep(at: now) }
    if !isOpen, now < state.pointee.window.measureEnd, state.pointee.freeCount > 0 {
      endQuiet(at: now)
      // A slot whose session is refused is free again and waits for the next round: refusals cannot loop.
      for _ in 0..<state.pointee.freeCount { begin(slot: takeFree(), intended: nil, at: time()) }
    }
    state.pointee.nextCheck = min(state.pointee.nextSweep, now + 10_000_000)
    if now < state.pointee.window.measureStart {
      state.pointee.nextCheck = min(state.pointee.nextCheck, state.pointee.window.measureStart)
    }
  }

  func isFinished(at now: UInt64) -> Bool {
    now >= state.pointee.window.measureEnd && state.pointee.freeCount == slotCount
      && (!isOpen || state.pointee.nextArrival >= state.pointee.window.measureEnd)
  }

  var wakeTime: UInt64 {
    var time = state.pointee.nextCheck
    if state.pointee.freeCount > 0 || overflow != .queue,
      state.pointee.nextArrival < state.pointee.window.measureEnd
    {
      time = min(time, state.pointee.nextArrival)
    }
    return time
  }

  /// Starts the requests that are due. A long backlog is started over several turns, because a plugin may
  /// block the thread for any time with each request.
  func startDue(at now: UInt64) {
    // Send the first request at the time at which it was found due: another clock read would only delay it.
    var sent: UInt64? = now
    while state.pointee.nextArrival <= now, state.pointee.nextArrival < state.pointee.window.measureEnd {
      if state.pointee.freeCount > 0 {
        let place = takeFree()
        let isFirst = completions.isEmpty
        // When gaps are kept, the time for which this thread itself was stalled also counts.
        endQuiet(at: gapNanoseconds < stallNanoseconds ? state.pointee.nextArrival : now)
        begin(slot: place, intended: state.pointee.nextArrival, at: sent ?? time())
        sent = nil
        takeCompletions(afterStart: isFirst)
        if slots[place].sent >= state.pointee.nextCheck {
          advanceArrival()
          return
        }
      } else if overflow == .queue {
        return
      } else {
        countUnsent(intended: state.pointee.nextArrival)
      }
      advanceArrival()
    }
  }

  @inline(__always)
  func advanceArrival() {
    if let next = state.pointee.arrivals?.next() { state.pointee.nextArrival = next }
  }

  /// Counts a session that was never started. When a session is one phase, the phase counts as unsent, too.
  func countUnsent(intended: UInt64) {
    guard isMeasured(intended) else { return }
    let end: Counter = overflow == .queue ? .lost : overflow == .shed ? .shed : .rejected
    for scope in 0..<(stepCount == 1 ? 2 : 1) {
      recorder.add(.sent, scope: scope)
      recorder.add(end, scope: scope)
    }
    recorder.record(window: windowIndex(at: intended)).add(end)
    recorder.noteTrouble(at: intended)
  }

  /// Whether a time, such as a request's intended time, lies within the measured time.
  @inline(__always)
  func isMeasured(_ time: UInt64) -> Bool {
    time >= state.pointee.window.measureStart && time < state.pointee.window.measureEnd
  }
}

/// The state of a slot's session.
enum SlotState: UInt8 {
  case idle
  /// A phase is in progress.
  case waiting
  /// The phase failed and is retried at `deadline`.
  case backoff
}

/// The state of one slot, which holds one session at a time.
struct SessionSlot {
  var intended: UInt64 = 0
  var sent: UInt64 = 0
  var phaseIntended: UInt64 = 0
  var phaseSent: UInt64 = 0
  /// When the phase times out or is retried.
  var deadline = UInt64.max
  /// The index of the current step, and the scope that records it.
  var phaseIndex: Int32 = 0
  var scope: Int32 = 1
  var attempt: Int16 = 1
  /// The number of consecutive uses.
  var uses: UInt16 = 0
  var state = SlotState.idle
  /// The session's outcome: the first failure, if any.
  var outcome = Counter.ok
  var isMeasured = false
}

extension LoadDriver {
  /// Opens a session in a free slot and starts its first phase; `intended` is nil for now.
  @inline(__always)
  func begin(slot place: Int, intended: UInt64?, at now: UInt64) {
    let slot = slots + place
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

  /// Handles a session that the plugin refused.
  @inline(never)
  func refused(_ place: Int) {
    _ = transport.finish(slot: place, verify: false)
    recorder.noteTrouble(at: slots[place].sent)
    if slots[place].isMeasured {
      recorder.add(.handlerErrors, scope: 0)
      recorder.record(window: windowIndex(at: slots[place].sent)).add(.handlerErrors)
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
    let scope = steps[index].scope
    slot.pointee.phaseIndex = Int32(truncatingIfNeeded: index)
    slot.pointee.scope = Int32(truncatingIfNeeded: scope)
    slot.pointee.attempt = 1
    slot.pointee.phaseIntended = intended
    slot.pointee.phaseSent = sent
    slot.pointee.deadline = sent &+ steps[index].timeout
    slot.pointee.state = .waiting
    if slot.pointee.isMeasured { recorder.add(.sent, scope: scope) }
    transport.start(slot: place, phaseIndex: index, attempt: 1, at: sent)
    if Transport.hasRequestIDs, let ledger { note(place, in: ledger) }
  }

  /// Records in the ledger that a slot has sent its step's request.
  @inline(never)
  func note(_ place: Int, in ledger: ThreadLedger) {
    let step = steps[Int(slots[place].phaseIndex)]
    // Requests that begin a session are no phase requests; those to a plugin here reach no worker.
    if step.isInitialization || step.isInProcess { return ledger.settle(place) }
    ledger.begin(
      slot: place, transport.requestID(slot: place), phase: step.phase, isMeasured: slots[place].isMeasured)
  }

  /// `isFresh`: whether nothing was done since the completion was created.
  @inline(__always)
  func complete(_ completion: PhaseCompletion, isFresh: Bool) {
    let place = Int(completion.slot)
    let slot = slots + place
    guard slot.pointee.state == .waiting else { return }
    let index = Int(slot.pointee.phaseIndex)
    if completion.doneAt > slot.pointee.deadline {
      count(.late, slot, at: completion.doneAt)
      fail(place, .timeouts, at: slot.pointee.deadline, now: completion.doneAt)
      return
    }
    switch completion.end {
    // After END, the plugin's own response goes through the remaining phases.
    case .next, .end: succeed(place, at: completion.doneAt, next: index &+ 1, isFresh: isFresh)
    case .handlerError, .malformed:
      if completion.end == .malformed { count(.protocolErrors, slot, at: completion.doneAt) }
      noteAnswer(at: completion.doneAt, took: completion.doneAt &- slot.pointee.phaseSent)
      fail(place, .handlerErrors, at: completion.doneAt, now: completion.doneAt)
    case .noResponders:
      count(.noResponders, slot, at: completion.doneAt)
      fail(place, .lost, at: completion.doneAt, now: completion.doneAt)
    }
  }

  /// Counts an event of a measured session, in its phase and in the request.
  @inline(never)
  func count(_ counter: Counter, _ slot: UnsafeMutablePointer<SessionSlot>, at time: UInt64) {
    guard slot.pointee.isMeasured else { return }
    recorder.add(counter, scope: Int(slot.pointee.scope))
    recorder.happened(counter, at: time)
  }

  @inline(__always)
  func succeed(_ place: Int, at done: UInt64, next: Int, isFresh: Bool) {
    let slot = slots + place
    let scope = Int(slot.pointee.scope)
    noteAnswer(at: done, took: done &- slot.pointee.phaseSent)
    if slot.pointee.isMeasured { recorder.add(.ok, scope: scope) }
    if isMeasured(done) { recorder.add(.okInWindow, scope: scope) }
    // With one phase, its times are those of the request, which `finish` records: see `LoadResult`.
    if stepCount > 1, slot.pointee.isMeasured { recordPhase(slot, scope: scope, done: done) }
    if recorder.partCount > 0, slot.pointee.isMeasured { recordParts(place, slot, scope: scope, done: done) }
    goOn(place, next: next, at: done, isFresh: isFresh)
  }

  @inline(__always)
  func recordPhase(_ slot: UnsafeMutablePointer<SessionSlot>, scope: Int, done: UInt64) {
    recorder.response(scope: scope).record(done &- slot.pointee.phaseIntended)
    // In a closed loop, intended equals sent: the service time equals the response time and the lag is 0.
    if isOpen {
      recorder.service(scope: scope).record(done &- slot.pointee.phaseSent)
      recorder.lag(scope: scope).record(slot.pointee.phaseSent &- slot.pointee.phaseIntended)
    }
  }

  /// Records the parts of an answered phase's time.
  @inline(never)
  func recordParts(_ place: Int, _ slot: UnsafeMutablePointer<SessionSlot>, scope: Int, done: UInt64) {
    guard let inner = transport.partEnds(slot: place, done: done) else {
      return recorder.add(.withoutStamps, scope: scope)
    }
    let starts = SIMD8(slot.pointee.phaseSent, inner[0], inner[1], inner[2], inner[3], done, done, done)
    let ends = SIMD8(lowHalf: inner, highHalf: SIMD4(repeating: done))
    guard all(starts .<= ends) else { return recorder.add(.impossibleStamps, scope: scope) }
    let times = ends &- starts
    for part in 0..<recorder.partCount { recorder.part(part, scope: scope).record(times[part]) }
  }

  @inline(__always)
  func goOn(_ place: Int, next: Int, at done: UInt64, isFresh: Bool = false) {
    guard next < stepCount else {
      finish(place, at: done)
      return
    }
    let now = isFresh ? done : time()
    startPhase(place, index: next, intended: !isOpen ? now : done, sent: now)
  }

  /// Ends the slot's session, records it, and in a closed loop starts the next one.
  @inline(__always)
  func finish(_ place: Int, at done: UInt64) {
    let slot = slots + place
    let ok = slot.pointee.outcome == .ok
    if !transport.finish(slot: place, verify: ok), ok {
      slot.pointee.outcome = .handlerErrors
      recorder.noteTrouble(at: done)
      if slot.pointee.isMeasured { recorder.happened(.wrongContent, at: done) }
      // The phase itself was answered; with one phase, its time is recorded nowhere else.
      if stepCount == 1, slot.pointee.isMeasured { recordPhase(slot, scope: 1, done: done) }
    }
    recordSession(slot, done: done)
    slot.pointee.state = .idle
    slot.pointee.deadline = .max
    if !isOpen, done < state.pointee.window.measureEnd, slot.pointee.outcome == .ok {
      begin(slot: place, intended: nil, at: time())
    } else {
      release(place)
    }
  }

  /// Frees a slot. After a failed session, a closed loop begins the next one from the main loop, so that a
  /// plugin that refuses everything cannot cause endless recursion.
  @inline(never)
  func release(_ place: Int) {
    slots[place].uses &+= 1
    if slots[place].uses < usesInRow, slots[place].outcome == .ok {
      state.pointee.freeHead = (state.pointee.freeHead == 0 ? slotCount : state.pointee.freeHead) - 1
      free[state.pointee.freeHead] = Int32(place)
    } else {
      slots[place].uses = 0
      let end = state.pointee.freeHead + state.pointee.freeCount
      free[end < slotCount ? end : end - slotCount] = Int32(place)
    }
    state.pointee.freeCount += 1
    let wasAnswered = slots[place].outcome == .ok || slots[place].outcome == .handlerErrors
    if state.pointee.freeCount == slotCount, wasAnswered { state.pointee.isQuiet = true }
    if !isOpen { state.pointee.nextCheck = 0 }
  }

  @inline(__always)
  func recordSession(_ slot: UnsafeMutablePointer<SessionSlot>, done: UInt64) {
    let outcome = slot.pointee.outcome
    if outcome == .ok, isMeasured(done) { recorder.add(.okInWindow, scope: 0) }
    guard slot.pointee.isMeasured else { return }
    recorder.add(outcome, scope: 0)
    if outcome != .ok { recorder.record(window: windowIndex(at: done)).add(outcome) }
    // An error says nothing about how long an answer takes; for a timeout, the elapsed time is recorded.
    if outcome == .ok || outcome == .timeouts { recordRequest(slot, done: done) }
  }

  /// The window of a session that ends now; windows never go backwards.
  @inline(__always)
  func windowIndex(at done: UInt64) -> Int {
    while done >= state.pointee.windowLimit, state.pointee.windowIndex < recorder.windows {
      state.pointee.windowIndex &+= 1
      state.pointee.windowLimit &+= windowNanoseconds
    }
    return state.pointee.windowIndex
  }

  @inline(__always)
  func recordRequest(_ slot: UnsafeMutablePointer<SessionSlot>, done: UInt64) {
    recorder.response(window: windowIndex(at: done)).record(done &- slot.pointee.intended)
    if isOpen {
      recorder.service(scope: 0).record(done &- slot.pointee.sent)
      recorder.lag(scope: 0).record(slot.pointee.sent &- slot.pointee.intended)
    }
  }
}

extension LoadDriver {
  /// Handles a failed phase as its policy says: retries it, continues, or ends the session.
  ///
  /// - Parameters:
  ///   - done: when the phase failed; for a timeout, its deadline.
  ///   - now: when the failure was detected.
  @inline(never)
  func fail(_ place: Int, _ outcome: Counter, at done: UInt64, now: UInt64) {
    let slot = slots + place
    let index = Int(slot.pointee.phaseIndex)
    let step = steps[index]
    let scope = step.scope
    recorder.noteTrouble(at: done)
    if outcome == .timeouts { transport.abandon(slot: place) }
    // A handler that still runs in this process would answer for the next phase.
    let sessionIsStuck = outcome == .timeouts && (transport.isInProcess || step.isInProcess)
    if step.policy.onError == .retry, !sessionIsStuck, Int(slot.pointee.attempt) < step.policy.attempts {
      retryLater(slot, step: step, now: now)
      return
    }
    if outcome != .handlerErrors { measureUnanswered(slot, until: done) }
    ledger?.fail(slot: place, outcome, isMeasured: slot.pointee.isMeasured)
    if slot.pointee.isMeasured {
      recorder.add(outcome, scope: scope)
      if outcome == .timeouts, stepCount > 1 { recordPhase(slot, scope: scope, done: done) }
    }
    if slot.pointee.outcome == .ok, !step.isInitialization { slot.pointee.outcome = outcome }
    if step.policy.onError == .continue, !sessionIsStuck {
      goOn(place, next: index + 1, at: done)
    } else {
      finish(place, at: done)
    }
  }

  /// Counts an unanswered warm-up session as measured if it was in flight when the measured time began.
  /// Otherwise, a target that hangs from the warm-up on would appear in no count.
  private func measureUnanswered(_ slot: UnsafeMutablePointer<SessionSlot>, until done: UInt64) {
    let start = state.pointee.window.measureStart
    guard !slot.pointee.isMeasured, slot.pointee.intended < start, done >= start else { return }
    slot.pointee.isMeasured = true
    recorder.add(.sent, scope: 0)
    recorder.add(.sent, scope: Int(slot.pointee.scope))
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

  /// Handles a phase's passed deadline. Its completion may already be pending: the thread was late, or the
  /// transport learned of it while another phase was given up.
  private func timeOut(_ place: Int, now: UInt64) {
    takePending()
    let slot = slots + place
    guard slot.pointee.state == .waiting, slot.pointee.deadline <= now else { return }
    fail(place, .timeouts, at: slot.pointee.deadline, now: now)
  }

  private func tryAgain(_ place: Int, at now: UInt64) {
    let slot = slots + place
    let index = Int(slot.pointee.phaseIndex)
    count(.retries, slot, at: now)
    slot.pointee.state = .waiting
    slot.pointee.deadline = now + steps[index].timeout
    ledger?.retry(slot: place, attempt: Int(slot.pointee.attempt))
    transport.start(slot: place, phaseIndex: index, attempt: Int(slot.pointee.attempt), at: now)
  }

  /// Ends the drain: sessions without an answer are lost, and recorded with the time that has passed.
  @inline(never)
  func loseTheRest(at now: UInt64) {
    for place in 0..<slotCount where slots[place].state != .idle {
      let slot = slots + place
      let scope = Int(slot.pointee.scope)
      transport.abandon(slot: place)
      _ = transport.finish(slot: place, verify: false)
      slot.pointee.state = .idle
      measureUnanswered(slot, until: now)
      ledger?.fail(slot: place, .lost, isMeasured: slot.pointee.isMeasured)
      guard slot.pointee.isMeasured else { continue }
      recorder.add(.lost, scope: scope)
      if stepCount > 1 { recordPhase(slot, scope: scope, done: now) }
      if slot.pointee.outcome == .ok { slot.pointee.outcome = .lost }
      recorder.add(slot.pointee.outcome, scope: 0)
      recorder.record(window: windowIndex(at: now)).add(slot.pointee.outcome)
      if slot.pointee.outcome != .handlerErrors { recordRequest(slot, done: now) }
    }
    loseBacklog(at: now)
  }

  /// Counts the scheduled requests that never found a free slot.
  private func loseBacklog(at now: UInt64) {
    guard isOpen else { return }
    while state.pointee.nextArrival < state.pointee.window.measureEnd {
      let wanted = state.pointee.nextArrival
      countUnsent(intended: wanted)
      if overflow == .queue, isMeasured(wanted) {
        recorder.response(scope: 0).record(now &- min(now, wanted))
      }
      advanceArrival()
    }
  }
}

/// Computes when to end a sleep before a deadline, to keep the schedule without spinning all the time.
///
/// The kernel wakes a thread late, and later after a longer sleep: an idle core leaves a deeper sleep state,
/// and a virtual one is woken by its host, which looks for work for some 200 us before it releases a core.
/// So a long sleep ends early, a short one follows, and the rest, as long as a short sleep is late, is awake.
enum Nap {
  /// A sleep of at most this length ends within the margin, nanoseconds.
  static let shortNanoseconds: UInt64 = 200_000
  /// How late a short sleep ends on a busy machine, not on one that was idle a moment ago, nanoseconds. A
  /// longer margin would take CPU time from a plugin or worker that shares the cores.
  static let margin: UInt64 = 60_000

  /// The end of the next sleep, monotonic nanoseconds; nil when the deadline is too near to sleep.
  static func end(before deadline: UInt64, now: UInt64) -> UInt64? {
    guard deadline > now &+ margin else { return nil }
    return deadline &- (deadline &- now > shortNanoseconds &+ margin ? shortNanoseconds : margin)
  }
}
