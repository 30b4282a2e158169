import Nylon
import Scenario

/// The times of one load, monotonic nanoseconds.
package struct LoadWindow: Sendable {
  /// The first request.
  package var start: UInt64
  /// From here on requests are measured.
  package var measureStart: UInt64
  /// From here on no request starts.
  package var measureEnd: UInt64
  /// From here on nothing is waited for.
  package var drainNanoseconds: UInt64

  /// Times of a load.
  package init(start: UInt64, measureStart: UInt64, measureEnd: UInt64, drainNanoseconds: UInt64) {
    self.start = start
    self.measureStart = measureStart
    self.measureEnd = measureEnd
    self.drainNanoseconds = drainNanoseconds
  }
}

/// A phase as the driver needs it.
package struct PhaseStep: Sendable {
  /// Which phase.
  package var phase: Phase
  /// Nanoseconds until a timeout.
  package var timeout: UInt64
  /// What follows a failure.
  package var onError: ErrorAction
  /// Attempts in all.
  package var attempts: Int
  /// Nanoseconds before the first retry.
  package var backoffFirst: UInt64
  /// The most nanoseconds before a retry.
  package var backoffMost: UInt64
  /// The phase that follows END, or the number of phases.
  package var afterEnd: Int

  /// The steps of a session.
  package static func steps(of target: Target) -> [PhaseStep] {
    target.phases.enumerated().map { place, phase in
      let policy = target.policies[phase] ?? .standard(for: phase)
      let logging = target.phases.firstIndex(of: .logging)
      return PhaseStep(
        phase: phase, timeout: UInt64(policy.timeoutMilliseconds) * 1_000_000,
        onError: policy.onError, attempts: policy.attempts,
        backoffFirst: UInt64(policy.backoffFirstMilliseconds) * 1_000_000,
        backoffMost: UInt64(policy.backoffMostMilliseconds) * 1_000_000,
        afterEnd: phase == .requestFilter ? max(place + 1, logging ?? target.phases.count) : place + 1)
    }
  }

  /// Nanoseconds to wait before an attempt: exponential, capped.
  func backoff(beforeAttempt attempt: Int) -> UInt64 {
    var wait = backoffFirst
    for _ in 2..<max(2, attempt) where wait < backoffMost { wait *= 2 }
    return min(wait, backoffMost)
  }
}

/// What changes in a driver while its load runs.
struct DriverState {
  var window: LoadWindow
  var freeHead = 0
  var freeCount: Int
  var nextArrival = UInt64.max
  var arrivalPlace: Int
  var nextCheck: UInt64 = 0
  var nextSweep: UInt64 = 0
  var windowIndex = 0
  var windowLimit: UInt64
  /// An answer that comes later than this ends a stall.
  var stallLimit: UInt64
  /// The service time of the slowest phase that was answered so far.
  var slowestAnswer: UInt64 = 0
  /// Every request so far was answered, so that nothing is waited for.
  var isQuiet = true
}

/// Drives sessions through a transport on one thread, and records.
///
/// The closed loop keeps every slot busy; the open loop starts a session when the schedule wants
/// it, in a free slot. Everything is allocated in `init`; `run` does not allocate.
package final class LoadDriver<Transport: SessionTransport> {
  let transport: Transport
  let hasOwnClock: Bool
  let completions: CompletionRing
  let recorder: ThreadRecorder
  let steps: UnsafeMutablePointer<PhaseStep>
  let stepCount: Int
  let slots: UnsafeMutablePointer<SessionSlot>
  let slotCount: Int
  let area: RecordingArea
  let overflow: OverflowPolicy
  /// What changes while the load runs. In raw memory, where no access is checked.
  let state: UnsafeMutablePointer<DriverState>
  /// When the requests of an open loop are wanted; nil in a closed one.
  let schedule: UnsafeMutablePointer<ArrivalSchedule>?
  /// Free slots as a ring, so that all are used alike: a slot has only so many session ids.
  let free: UnsafeMutablePointer<Int32>
  /// The next arrivals. Drawn many at a time: one after the other, each draw would wait for the clock reads
  /// between them, and take three times as long.
  let arrivals: UnsafeMutablePointer<UInt64>
  static var arrivalsAtOnce: Int { 32 }
  let shortestTimeout: UInt64
  let windowNanoseconds: UInt64
  /// A time without an answer that is longer may be a stall.
  let stallNanoseconds: UInt64
  /// Where the parts of phases are recorded; nil when the load is not decomposed.
  let parts: PartRecorder?
  /// The parts of one phase, before they are recorded.
  let partTimes: UnsafeMutablePointer<UInt64>

  /// A driver of `slotCount` slots; `schedule` is nil in a closed loop.
  package init(
    transport: Transport, steps: [PhaseStep], slotCount: Int, schedule: ArrivalSchedule?,
    overflow: OverflowPolicy, window: LoadWindow, area: RecordingArea, thread: Int
  ) {
    self.transport = transport
    hasOwnClock = Transport.hasOwnClock
    completions = transport.completions
    recorder = area.threadRecorder(thread)
    self.area = area
    self.overflow = overflow
    self.schedule = schedule.map {
      let place = UnsafeMutablePointer<ArrivalSchedule>.allocate(capacity: 1)
      place.initialize(to: $0)
      return place
    }
    self.slotCount = slotCount
    stepCount = steps.count
    self.steps = .allocate(capacity: steps.count)
    self.steps.initialize(from: steps, count: steps.count)
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: SessionSlot(), count: slotCount)
    free = .allocate(capacity: slotCount)
    for place in 0..<slotCount { free[place] = Int32(place) }
    shortestTimeout = steps.map(\.timeout).min() ?? 1_000_000_000
    windowNanoseconds = max(1, (window.measureEnd - window.measureStart) / UInt64(area.layout.windows))
    stallNanoseconds = UInt64(Double(window.measureEnd - window.measureStart) * Stall.leastShare)
    state = .allocate(capacity: 1)
    state.initialize(
      to: DriverState(
        window: window, freeCount: slotCount, arrivalPlace: Self.arrivalsAtOnce,
        windowLimit: window.measureStart + windowNanoseconds, stallLimit: window.start + stallNanoseconds))
    arrivals = .allocate(capacity: Self.arrivalsAtOnce)
    arrivals.initialize(repeating: 0, count: Self.arrivalsAtOnce)
    parts = area.partRecorder(thread)
    partTimes = .allocate(capacity: TransportSpec.mostParts)
    partTimes.initialize(repeating: 0, count: TransportSpec.mostParts)
  }

  deinit {
    steps.deallocate()
    state.deallocate()
    slots.deallocate()
    free.deallocate()
    partTimes.deallocate()
    schedule?.deallocate()
    arrivals.deallocate()
  }

  /// Runs the load: warm-up, measured time, drain. Returns when all is recorded.
  package func run() {
    while time() < state.pointee.window.start { transport.poll(until: state.pointee.window.start) }
    if schedule != nil { advanceArrival() }
    while true {
      takeCompletions()
      let now = time()
      if now >= state.pointee.nextCheck { check(at: now) }
      if now >= state.pointee.window.measureEnd + state.pointee.window.drainNanoseconds { break }
      if schedule != nil { startDue(at: now) }
      guard completions.isEmpty else { continue }
      if isFinished(at: now) { break }
      transport.poll(until: wakeTime)
    }
    takePending()
    if !state.pointee.isQuiet { noteStall(until: state.pointee.window.measureEnd) }
    loseTheRest(at: time())
    transport.tally()
  }

  /// The target answered a phase that took so long from being sent.
  @inline(__always)
  func noteAnswer(at done: UInt64, took service: UInt64) {
    if done > state.pointee.stallLimit { noteStall(until: done) }
    if service > state.pointee.slowestAnswer { state.pointee.slowestAnswer = service }
    state.pointee.stallLimit = done &+ stallNanoseconds
  }

  /// Nothing was answered from the last answer until `end`; kept when it is the longest stall so far.
  @inline(never)
  func noteStall(until end: UInt64) {
    let window = state.pointee.window
    let lastAnswer = state.pointee.stallLimit - stallNanoseconds
    let stall = Stall(
      start: max(lastAnswer, window.measureStart), end: min(end, window.measureEnd),
      slowestBefore: state.pointee.slowestAnswer)
    // Without an answer before, nobody knows how long this target takes.
    guard stall.nanoseconds > stallNanoseconds, stall.slowestBefore > 0,
      stall.nanoseconds / Stall.leastTimesSlowest > stall.slowestBefore,
      stall.nanoseconds > recorder.stall?.nanoseconds ?? 0
    else { return }
    recorder.stall = stall
  }

  /// Now, nanoseconds.
  @inline(__always)
  func time() -> UInt64 { hasOwnClock ? transport.now() : MonotonicClock.nanoseconds }

  /// Begins a session in every free slot. One whose plugin refuses is free again, and waits for
  /// the next round, so that refusals never loop here.
  func fillSlots(at now: UInt64) {
    if state.pointee.freeCount > 0 { endQuiet(at: now) }
    for _ in 0..<state.pointee.freeCount { begin(slot: takeFree(), intended: nil) }
  }

  /// A request is about to be sent: from now on an answer is waited for.
  @inline(__always)
  func endQuiet(at now: UInt64) {
    guard state.pointee.isQuiet else { return }
    state.pointee.isQuiet = false
    state.pointee.stallLimit = now &+ stallNanoseconds
  }

  @inline(__always)
  func takeFree() -> Int {
    let place = Int(free[state.pointee.freeHead])
    state.pointee.freeHead = state.pointee.freeHead &+ 1 == slotCount ? 0 : state.pointee.freeHead &+ 1
    state.pointee.freeCount &-= 1
    return place
  }

  @inline(__always)
  func takeCompletions() {
    while let completion = completions.pop() {
      complete(completion)
      if completion.doneAt >= state.pointee.nextCheck { return }
    }
  }

  /// Takes the ends that are there already and no more, so that a plugin that answers within each
  /// call comes to an end too.
  func takePending() {
    for _ in 0..<completions.count {
      if let completion = completions.pop() { complete(completion) }
    }
  }

  /// Timeouts, retries that are due, and the end of the load; at least every 10 ms.
  func check(at now: UInt64) {
    if area.measureEnd < state.pointee.window.measureEnd { state.pointee.window.measureEnd = area.measureEnd }
    if now >= state.pointee.nextSweep { sweep(at: now) }
    if schedule == nil, now < state.pointee.window.measureEnd { fillSlots(at: now) }
    state.pointee.nextCheck = min(state.pointee.nextSweep, now + 10_000_000)
    if now < state.pointee.window.measureStart {
      state.pointee.nextCheck = min(state.pointee.nextCheck, state.pointee.window.measureStart)
    }
  }

  func isFinished(at now: UInt64) -> Bool {
    now >= state.pointee.window.measureEnd && state.pointee.freeCount == slotCount
      && (schedule == nil || state.pointee.nextArrival >= state.pointee.window.measureEnd)
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

  /// Starts the requests that the schedule wants by now; those of a long backlog in several turns,
  /// because a plugin may keep the thread for as long as it likes with each.
  func startDue(at now: UInt64) {
    while state.pointee.nextArrival <= now, state.pointee.nextArrival < state.pointee.window.measureEnd {
      if state.pointee.freeCount > 0 {
        let place = takeFree()
        endQuiet(at: now)
        begin(slot: place, intended: state.pointee.nextArrival)
        takeCompletions()
        if slots[place].sent >= state.pointee.nextCheck {
          advanceArrival()
          return
        }
      } else if overflow == .queue {
        return
      } else {
        refuse(intended: state.pointee.nextArrival)
      }
      advanceArrival()
    }
  }

  @inline(__always)
  func advanceArrival() {
    if state.pointee.arrivalPlace == Self.arrivalsAtOnce { drawArrivals() }
    state.pointee.nextArrival = arrivals[state.pointee.arrivalPlace]
    state.pointee.arrivalPlace &+= 1
  }

  @inline(never)
  func drawArrivals() {
    guard let schedule else { return }
    for place in 0..<Self.arrivalsAtOnce {
      arrivals[place] = state.pointee.window.start &+ schedule.pointee.next()
    }
    state.pointee.arrivalPlace = 0
  }

  func refuse(intended: UInt64) {
    guard isMeasured(intended) else { return }
    countUnsent(overflow == .shed ? .shed : .rejected)
  }

  /// A session of which no phase was started. Where a session is one phase, that one was wanted too.
  func countUnsent(_ end: ThreadRecorder.Counter) {
    for scope in 0..<(stepCount == 1 ? 2 : 1) {
      recorder.add(.sent, scope: scope)
      recorder.add(end, scope: scope)
    }
  }

  @inline(__always)
  func isMeasured(_ intended: UInt64) -> Bool {
    intended >= state.pointee.window.measureStart && intended < state.pointee.window.measureEnd
  }

  @inline(__always)
  func isInWindow(_ done: UInt64) -> Bool {
    done >= state.pointee.window.measureStart && done < state.pointee.window.measureEnd
  }
}
