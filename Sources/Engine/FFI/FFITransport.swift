import CLinux
import CNylonABI
import Glibc
import Nylon
import Scenario
import Synchronization

/// The way to a plugin in this process, for one load thread.
///
/// `dispatch: queued` copies each call of the plugin and handles it on the load thread after
/// `event_stream` returned, as the real host does. `dispatch: inline` handles it inside the
/// callback, on whatever thread that is; only ends of phases from other threads are queued.
package final class FFITransport: SessionTransport {
  /// Ends of phases for the driver.
  package let completions: CompletionRing
  /// A phase that timed out may still run in the plugin.
  package let isInProcess = true
  let plugin: PluginLibrary
  let host: UnsafeMutablePointer<FFIHost>
  let lane: UnsafeMutablePointer<FFILane>
  let firstSlot: Int
  let slotCount: Int
  let slots: UnsafeMutablePointer<FFISlot>
  let answers: RequestAnswers
  let upstream: UpstreamResponse
  let check: ResponseCheck
  let recorder: ThreadRecorder
  let entry: UnsafeRawBufferPointer
  let phases: UnsafeMutablePointer<UInt8>
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  let isInline: Bool
  /// Nanoseconds that the load thread spins for a plugin's thread before it sleeps: as long as a sleep and
  /// waking up cost (Karlin and others, 1991: never more than twice the best that could be done).
  ///
  /// Shorter would be a trap: the plugin's thread, which sleeps too, takes that long to wake, so each
  /// would always find the other asleep, at twenty times the cost of two that are awake.
  private var spinNanoseconds: UInt64 { wakeMargin }
  /// See `SessionTransport`.
  package var wakeMargin: UInt64 = 10_000
  /// What was seen first of each way to fail.
  package private(set) var evidence = FailureEvidence()
  private var countedStale: UInt64 = 0
  private var countedUnexpected: UInt64 = 0
  private var countedBroken: UInt64 = 0
  /// What the plugin is given to call.
  private let callback: NylonCallback
  /// When each slot's phase was called, in a decomposed load only.
  let stamps: UnsafeMutablePointer<CallStamps>?

  /// The transports of all load threads of an order; the plugin is loaded and initialised.
  ///
  /// One set in a process at a time: the callback has no user pointer, so there is one host. A
  /// later set is safe from callbacks for an earlier one's sessions; its memory is never freed.
  package static func make(
    order: LoadOrder, spec: FFISpec, plugin: PluginLibrary, area: RecordingArea
  ) throws(PluginError) -> [FFITransport] {
    let counts = (0..<order.effectiveThreads).map { order.places(ofThread: $0).count }
    let host = UnsafeMutablePointer<FFIHost>.allocate(capacity: 1)
    host.initialize(
      to: FFIHost(
        slotCounts: counts, isInline: spec.dispatch == .inline,
        queueBytes: queueBytes(bodyBytes: order.request.bodyBytes), after: theHost?.pointee.lastSID ?? 0))
    theHost = host
    let transports = counts.indices.map { lane in
      FFITransport(
        order: order, plugin: plugin, host: host, lane: lane, slots: counts[lane],
        recorder: area.threadRecorder(lane))
    }
    try transports[0].tryEntry(order.target.handler)
    return transports
  }

  private static func queueBytes(bodyBytes: Int) -> Int {
    var size = 1 << 20
    while size < 16 * (bodyBytes + 4096), size < 1 << 28 { size *= 2 }
    return size
  }

  private init(
    order: LoadOrder, plugin: PluginLibrary, host: UnsafeMutablePointer<FFIHost>, lane: Int, slots: Int,
    recorder: ThreadRecorder
  ) {
    let content = RequestContent(order.request, seed: order.seed)
    completions = CompletionRing(slots: slots)
    self.plugin = plugin
    self.host = host
    self.lane = host.pointee.lanes + lane
    firstSlot = self.lane.pointee.firstSlot
    slotCount = slots
    isInline = host.pointee.isInline
    self.recorder = recorder
    answers = RequestAnswers(content.request, clientIP: order.request.clientIP)
    let upstream = UpstreamResponse(
      status: content.response.status, headers: content.response.headers, body: content.response.body)
    self.upstream = upstream
    check = ResponseCheck(order.target.verify, upstreamBody: content.response.body)
    let name = UnsafeMutableRawBufferPointer.allocate(
      byteCount: order.target.handler.utf8.count, alignment: 1)
    name.copyBytes(from: order.target.handler.utf8)
    entry = UnsafeRawBufferPointer(name)
    phases = .allocate(capacity: order.target.phases.count)
    for (place, phase) in order.target.phases.enumerated() { phases[place] = phase.rawValue }
    unixOffset = FFITransport.unixNanoseconds() - MonotonicClock.nanoseconds
    if order.target.isDecomposed {
      let stamps = UnsafeMutablePointer<CallStamps>.allocate(capacity: slots)
      stamps.initialize(repeating: CallStamps(), count: slots)
      self.stamps = stamps
      callback = stampingHostCallback
    } else {
      stamps = nil
      callback = hostCallback
    }
    self.slots = .allocate(capacity: slots)
    for slot in 0..<slots {
      (self.slots + slot).initialize(
        to: FFISlot(
          response: ResponseState(upstream: upstream),
          lastSID: host.pointee.firstSID(ofSlot: firstSlot + slot)))
    }
    self.lane.pointee.transport = Unmanaged.passUnretained(self).retain()
  }

  deinit {
    completions.deallocate()
    for slot in 0..<slotCount { slots[slot].response.deallocate() }
    slots.deallocate()
    stamps?.deallocate()
    phases.deallocate()
    entry.deallocate()
  }

  private static func unixNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
  }

  /// Opens and closes one session, so that a wrong handler name is told before the load.
  private func tryEntry(_ name: String) throws(PluginError) {
    lane.pointee.owner = pthread_self()
    guard open(slot: 0, at: MonotonicClock.nanoseconds) else {
      throw .noSuchEntry(path: plugin.path, entry: name)
    }
    _ = finish(slot: 0, verify: false)
    lane.pointee.owner = 0
  }

  /// The greatest session id that was given out.
  var lastSID: UInt32 { (0..<slotCount).reduce(0) { max($0, slots[$1].lastSID) } }

  /// See `SessionTransport`.
  package static func run(_ driver: LoadDriver<FFITransport>) { driver.run() }

  /// Opens a session in a slot; false when there is none to be had.
  package func open(slot: Int, at time: UInt64) -> Bool {
    let state = slots + slot
    guard let sid = host.pointee.numbering.next(after: state.pointee.lastSID) else { return false }
    if lane.pointee.owner == 0 { lane.pointee.owner = pthread_self() }
    state.pointee.lastSID = sid
    state.pointee.openedAt = time
    state.pointee.isPhaseOpen = false
    host.pointee.currentSID[firstSlot &+ slot].store(sid, ordering: .releasing)
    withSlotLock(state) { state.pointee.response.reset(to: upstream) }
    let accepted = plugin.registerSessionStream(
      sid, entry.baseAddress?.assumingMemoryBound(to: CChar.self), UInt32(truncatingIfNeeded: entry.count),
      callback)
    // What it called meanwhile must not be taken for the first phase's.
    handleLocal()
    if !accepted { host.pointee.currentSID[firstSlot &+ slot].store(0, ordering: .releasing) }
    return accepted
  }

  /// Starts a phase of the session in a slot.
  @inline(__always)
  package func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    let state = slots + slot
    let phase = phases[phaseIndex]
    state.pointee.isPhaseOpen = true
    state.pointee.phase = phase
    state.pointee.scope = phaseIndex &+ 1
    let sid = state.pointee.lastSID
    var event = NylonFfiBuffer(sid: sid, phase: phase, method: 0, ptr: nil, len: 0)
    if let stamps {
      startStamped(&event, slot: slot, stamps)
      return
    }
    plugin.eventStream(&event)
    // As a rule it is this phase's end, and nothing else: told by a comparison, not looked up.
    if let end = lane.pointee.local.popFirst() {
      if end.sid == sid {
        endPhase(slot, end.isEnd ? .end : .next, phase: end.phase, calledAt: 0)
      } else {
        handle(PluginMessage(end))
      }
    }
    handleLocalRest()
  }

  /// Gives up the phase under way.
  package func abandon(slot: Int) { slots[slot].isPhaseOpen = false }

  /// Ends the session in a slot; whether its response is right, if asked.
  package func finish(slot: Int, verify: Bool) -> Bool {
    let state = slots + slot
    guard host.pointee.currentSID[firstSlot &+ slot].load(ordering: .relaxed) != 0 else { return true }
    host.pointee.currentSID[firstSlot &+ slot].store(0, ordering: .releasing)
    let right = !verify || check.isEmpty || withSlotLock(state) { check.accepts(state.pointee.response) }
    if !right { noteDifference(state) }
    plugin.closeSessionStream(state.pointee.lastSID)
    return right
  }

  /// Keeps what is wrong with the first response that is wrong. Only that one allocates.
  @inline(never)
  private func noteDifference(_ state: UnsafeMutablePointer<FFISlot>) {
    guard evidence.contentDifference == nil else { return }
    evidence.contentDifference = withSlotLock(state) { check.difference(state.pointee.response) }
  }

  /// Waits for ends of phases, at most until that time.
  package func poll(until time: UInt64) {
    if lane.pointee.owner == 0 { lane.pointee.owner = pthread_self() }
    countStrays()
    if handleForeign() { return }
    let now = MonotonicClock.nanoseconds
    guard time > now else { return }
    // Sleeping and waking costs more than a plugin's short answer takes.
    let spinEnd = min(time, now &+ spinNanoseconds)
    while MonotonicClock.nanoseconds < spinEnd {
      if handleForeign() { return }
      kernel_relax()
    }
    if let wake = Nap.end(before: time, now: spinEnd, margin: wakeMargin) {
      lane.pointee.foreign.sleep(until: wake)
    } else {
      while MonotonicClock.nanoseconds < time {
        if handleForeign() { return }
        kernel_relax()
      }
    }
    _ = handleForeign()
  }

  func handleLocal() {
    if let end = lane.pointee.local.popFirst() { handle(PluginMessage(end)) }
    handleLocalRest()
  }

  @inline(__always)
  private func handleLocalRest() {
    while let message = lane.pointee.local.pop() { handle(message) }
  }

  /// Handles what other threads called; true when there was anything.
  private func handleForeign() -> Bool {
    var any = false
    while lane.pointee.foreign.take({ handle($0) }) {
      any = true
      handleLocal()
    }
    return any
  }

  /// Counts the strays that came since the last wait.
  package func tally() {
    _ = handleForeign()
    countStrays()
  }

  private func countStrays() {
    count(.late, lane.pointee.stale.load(ordering: .relaxed), &countedStale)
    count(.unexpected, lane.pointee.unexpected.load(ordering: .relaxed), &countedUnexpected)
    count(.protocolErrors, lane.pointee.broken.load(ordering: .relaxed), &countedBroken)
  }

  private func count(_ counter: ThreadRecorder.Counter, _ now: UInt64, _ before: inout UInt64) {
    guard now > before else { return }
    recorder.add(counter, scope: 0, now - before)
    before = now
  }
}

/// What the transport knows of the session in a slot.
struct FFISlot {
  var response: ResponseState
  /// The session's id, or the last one's.
  var lastSID: UInt32
  var openedAt: UInt64 = 0
  var scope = 1
  var phase: UInt8 = 0
  /// Whether the phase's end is still to come.
  var isPhaseOpen = false
  /// 1 while a thread works on `response`; used with inline dispatch only.
  var lock: UInt32 = 0
}
