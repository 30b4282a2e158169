import Measure
import NylonProtocol
import Scenario

/// The times of one load, monotonic nanoseconds.
public struct LoadWindow: Sendable {
  /// The first request.
  public var start: UInt64
  /// From here on requests are measured.
  public var measureStart: UInt64
  /// From here on no request starts.
  public var measureEnd: UInt64
  /// From here on nothing is waited for.
  public var drainNanoseconds: UInt64

  /// Times of a load.
  public init(start: UInt64, measureStart: UInt64, measureEnd: UInt64, drainNanoseconds: UInt64) {
    self.start = start
    self.measureStart = measureStart
    self.measureEnd = measureEnd
    self.drainNanoseconds = drainNanoseconds
  }
}

/// A phase as the driver needs it.
@frozen
public struct PhaseStep: Sendable {
  /// Which phase.
  public var phase: Phase
  /// Nanoseconds until a timeout.
  public var timeout: UInt64
  /// What follows a failure.
  public var onError: ErrorAction
  /// Attempts in all.
  public var attempts: Int
  /// Nanoseconds before the first retry.
  public var backoffFirst: UInt64
  /// The most nanoseconds before a retry.
  public var backoffMost: UInt64
  /// The phase that follows END, or the number of phases.
  public var afterEnd: Int

  /// The steps of a session.
  public static func steps(of target: Target) -> [PhaseStep] {
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

/// Drives sessions through a transport on one thread, and records.
///
/// The closed loop keeps every slot busy; the open loop starts a session when the schedule wants
/// it, in a free slot. Everything is allocated in `init`; `run` does not allocate.
public final class LoadDriver<Transport: SessionTransport> {
  let transport: Transport
  private let hasOwnClock: Bool
  let completions: CompletionRing
  let recorder: ThreadRecorder
  let steps: UnsafeMutablePointer<PhaseStep>
  let stepCount: Int
  let slots: UnsafeMutablePointer<SessionSlot>
  let slotCount: Int
  let area: RecordingArea
  let overflow: OverflowPolicy
  var window: LoadWindow
  /// When the requests of an open loop are wanted; nil in a closed one. In raw memory, where no access
  /// is checked.
  let schedule: UnsafeMutablePointer<ArrivalSchedule>?
  /// Free slots as a ring, so that all are used alike: a slot has only so many session ids.
  let free: UnsafeMutablePointer<Int32>
  var freeHead = 0
  var freeCount: Int
  var nextArrival = UInt64.max
  /// The next arrivals. Drawn many at a time: one after the other, each draw would wait for the clock reads
  /// between them, and take three times as long.
  private let arrivals: UnsafeMutablePointer<UInt64>
  private var arrivalPlace = LoadDriver.arrivalsAtOnce
  private static var arrivalsAtOnce: Int { 32 }
  var nextCheck: UInt64 = 0
  var nextSweep: UInt64 = 0
  var shortestTimeout: UInt64
  var windowIndex = 0
  var windowLimit: UInt64
  let windowNanoseconds: UInt64
  /// Where the parts of phases are recorded; nil when the load is not decomposed.
  let parts: PartRecorder?
  /// The parts of one phase, before they are recorded.
  let partTimes: UnsafeMutablePointer<UInt64>

  /// A driver of `slotCount` slots; `schedule` is nil in a closed loop.
  public init(
    transport: Transport, steps: [PhaseStep], slotCount: Int, schedule: ArrivalSchedule?,
    overflow: OverflowPolicy, window: LoadWindow, area: RecordingArea, thread: Int
  ) {
    self.transport = transport
    hasOwnClock = Transport.hasOwnClock
    completions = transport.completions
    recorder = area.threadRecorder(thread)
    self.area = area
    self.overflow = overflow
    self.window = window
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
    freeCount = slotCount
    shortestTimeout = steps.map(\.timeout).min() ?? 1_000_000_000
    windowNanoseconds = max(1, (window.measureEnd - window.measureStart) / UInt64(area.layout.windows))
    windowLimit = window.measureStart + windowNanoseconds
    arrivals = .allocate(capacity: Self.arrivalsAtOnce)
    arrivals.initialize(repeating: 0, count: Self.arrivalsAtOnce)
    parts = area.partRecorder(thread)
    partTimes = .allocate(capacity: TransportSpec.mostParts)
    partTimes.initialize(repeating: 0, count: TransportSpec.mostParts)
  }

  deinit {
    steps.deallocate()
    slots.deallocate()
    free.deallocate()
    partTimes.deallocate()
    schedule?.deallocate()
    arrivals.deallocate()
  }

  /// Runs the load: warm-up, measured time, drain. Returns when all is recorded.
  public func run() {
    while time() < window.start { transport.poll(until: window.start) }
    if schedule != nil { advanceArrival() }
    while true {
      takeCompletions()
      let now = time()
      if now >= nextCheck { check(at: now) }
      if now >= window.measureEnd + window.drainNanoseconds { break }
      if schedule != nil { startDue(at: now) }
      guard completions.isEmpty else { continue }
      if isFinished(at: now) { break }
      transport.poll(until: wakeTime)
    }
    takePending()
    loseTheRest(at: time())
    transport.tally()
  }

  /// Now, nanoseconds.
  @inline(__always)
  func time() -> UInt64 { hasOwnClock ? transport.now() : MonotonicClock.nanoseconds }

  /// Begins a session in every free slot. One whose plugin refuses is free again, and waits for
  /// the next round, so that refusals never loop here.
  private func fillSlots() {
    for _ in 0..<freeCount { begin(slot: takeFree(), intended: nil) }
  }

  @inline(__always)
  private func takeFree() -> Int {
    let place = Int(free[freeHead])
    freeHead = freeHead &+ 1 == slotCount ? 0 : freeHead &+ 1
    freeCount &-= 1
    return place
  }

  @inline(__always)
  func takeCompletions() {
    while let completion = completions.pop() {
      complete(completion)
      if completion.doneAt >= nextCheck { return }
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
    if area.measureEnd < window.measureEnd { window.measureEnd = area.measureEnd }
    if now >= nextSweep { sweep(at: now) }
    if schedule == nil, now < window.measureEnd { fillSlots() }
    nextCheck = min(nextSweep, now + 10_000_000)
    if now < window.measureStart { nextCheck = min(nextCheck, window.measureStart) }
  }

  func isFinished(at now: UInt64) -> Bool {
    now >= window.measureEnd && freeCount == slotCount
      && (schedule == nil || nextArrival >= window.measureEnd)
  }

  var wakeTime: UInt64 {
    var time = nextCheck
    if freeCount > 0 || overflow != .queue, nextArrival < window.measureEnd {
      time = min(time, nextArrival)
    }
    return time
  }

  /// Starts the requests that the schedule wants by now; those of a long backlog in several turns,
  /// because a plugin may keep the thread for as long as it likes with each.
  func startDue(at now: UInt64) {
    while nextArrival <= now, nextArrival < window.measureEnd {
      if freeCount > 0 {
        let place = takeFree()
        begin(slot: place, intended: nextArrival)
        takeCompletions()
        if slots[place].sent >= nextCheck {
          advanceArrival()
          return
        }
      } else if overflow == .queue {
        return
      } else {
        refuse(intended: nextArrival)
      }
      advanceArrival()
    }
  }

  @inline(__always)
  func advanceArrival() {
    if arrivalPlace == Self.arrivalsAtOnce { drawArrivals() }
    nextArrival = arrivals[arrivalPlace]
    arrivalPlace &+= 1
  }

  @inline(never)
  private func drawArrivals() {
    guard let schedule else { return }
    for place in 0..<Self.arrivalsAtOnce { arrivals[place] = window.start &+ schedule.pointee.next() }
    arrivalPlace = 0
  }

  private func refuse(intended: UInt64) {
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
    intended >= window.measureStart && intended < window.measureEnd
  }

  @inline(__always)
  func isInWindow(_ done: UInt64) -> Bool {
    done >= window.measureStart && done < window.measureEnd
  }
}
