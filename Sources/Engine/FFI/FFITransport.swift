import CLinux
import CNylonABI
import Glibc
import Nylon
import Scenario
import Synchronization

/// The transport to a plugin in this process, for one load thread.
///
/// `dispatch: queued` copies each call of the plugin and handles it on the load thread after
/// `event_stream` returned, as the real host does. `dispatch: inline` handles it inside the
/// callback, on whatever thread that is; only ends of phases from other threads are queued.
final class FFITransport: SessionTransport {
  let completions: CompletionRing
  /// A phase that timed out may still run in the plugin.
  let isInProcess = true
  let plugin: PluginLibrary
  let host: UnsafeMutablePointer<FFIHost>
  let thread: UnsafeMutablePointer<FFIThread>
  let firstSlot: Int
  let slotCount: Int
  let slots: UnsafeMutablePointer<FFISlot>
  let answers: RequestAnswers
  let upstream: ResponseState
  let check: ResponseCheck
  let recorder: ThreadRecorder
  let entry: UnsafeRawBufferPointer
  private let steps: UnsafePointer<PhaseStep>
  /// The number of chunks of the response's body.
  private let bodyChunks: Int
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  let isInline: Bool
  /// Whether the thread spins for a while before it sleeps.
  private let spin: Spin
  /// Whether a poll's deadline may be the due time of a request.
  private let keepsSchedule: Bool
  /// The first evidence of each kind of failure.
  private(set) var evidence = FailureEvidence()
  /// The callback that is passed to the plugin.
  private let callback: NylonCallback
  /// The call times of each slot's phase; nil unless the load is decomposed.
  let stamps: UnsafeMutablePointer<CallStamps>?

  /// Creates the transports of all load threads of an order; the plugin is already loaded and initialized.
  ///
  /// Only one set can be in use at a time, because the callback has no user pointer and so there is one host.
  /// Callbacks for sessions of an earlier set are safe; its memory is never freed.
  ///
  /// - Parameters:
  ///   - steps: the steps of a session; nil for those of the order.
  ///   - rings: the completion rings of the threads; nil for new ones.
  static func make(
    order: LoadOrder, spec: FFISpec, plugin: PluginLibrary, area: RecordingArea, steps: [PhaseStep]? = nil,
    rings: [CompletionRing]? = nil
  ) throws(PluginError) -> [FFITransport] {
    let counts = (0..<order.effectiveThreads).map { order.share(of: order.placeCount, thread: $0).count }
    let host = UnsafeMutablePointer<FFIHost>.allocate(capacity: 1)
    host.initialize(
      to: FFIHost(
        slotCounts: counts, isInline: spec.dispatch == .inline,
        queueBytes: queueBytes(bodyBytes: order.request.bodyBytes), after: theHost?.pointee.lastSID ?? 0,
        freePayload: plugin.free))
    theHost = host
    let transports = counts.indices.map { thread in
      FFITransport(
        order: order, spec: spec, plugin: plugin, host: host, thread: thread, slots: counts[thread],
        recorder: area.threadRecorder(thread), steps: steps ?? PhaseStep.steps(of: order),
        ring: rings?[thread] ?? CompletionRing(slots: counts[thread]))
    }
    try transports[0].tryEntry(order.target.handler, area)
    return transports
  }

  private static func queueBytes(bodyBytes: Int) -> Int {
    var size = 1 << 20
    while size < 16 * (bodyBytes + 4096), size < 1 << 28 { size *= 2 }
    return size
  }

  private init(
    order: LoadOrder, spec: FFISpec, plugin: PluginLibrary, host: UnsafeMutablePointer<FFIHost>, thread: Int,
    slots: Int, recorder: ThreadRecorder, steps: [PhaseStep], ring: CompletionRing
  ) {
    let content = RequestContent(order.request, seed: order.seed)
    completions = ring
    self.plugin = plugin
    self.host = host
    self.thread = host.pointee.threads + thread
    firstSlot = self.thread.pointee.firstSlot
    slotCount = slots
    isInline = host.pointee.isInline
    self.recorder = recorder
    answers = RequestAnswers(content.request, clientIP: order.request.clientIP)
    upstream = ResponseState(upstream: content.response)
    check = ResponseCheck(order.target.verify, upstreamBody: content.response.body)
    entry = RequestAnswers.keep(order.target.handler.utf8)
    let places = UnsafeMutablePointer<PhaseStep>.allocate(capacity: steps.count)
    places.initialize(from: steps, count: steps.count)
    self.steps = UnsafePointer(places)
    bodyChunks = order.bodyChunks
    spin = order.target.spin ?? .auto
    keepsSchedule = order.load.isOpen
    unixOffset = MonotonicClock.unixNanoseconds - MonotonicClock.nanoseconds
    stamps = order.target.isDecomposed ? .allocate(capacity: slots) : nil
    stamps?.initialize(repeating: CallStamps(), count: slots)
    callback = FFIHost.callback(isStamping: order.target.isDecomposed, payloads: spec.payloads ?? .plugin)
    self.slots = .allocate(capacity: slots)
    for slot in 0..<slots {
      (self.slots + slot).initialize(
        to: FFISlot(
          response: ResponseState(copyOf: upstream),
          lastSID: host.pointee.numbering.first(ofSlot: firstSlot + slot, after: host.pointee.lastForeignSID))
      )
    }
    self.thread.pointee.transport = Unmanaged.passUnretained(self).retain()
  }

  /// Opens and closes one session, so that a wrong handler name is reported before the load.
  private func tryEntry(_ name: String, _ area: RecordingArea) throws(PluginError) {
    thread.pointee.owner.store(kernel_thread_identity(), ordering: .relaxed)
    area.call = .register
    defer { area.call = .none }
    guard open(slot: 0, at: MonotonicClock.nanoseconds) else {
      throw .noSuchEntry(path: plugin.path, entry: name)
    }
    area.call = .close
    _ = finish(slot: 0, verify: false)
    thread.pointee.owner.store(0, ordering: .relaxed)
  }

  /// The greatest session id assigned so far.
  var lastSID: UInt32 { (0..<slotCount).reduce(0) { max($0, slots[$1].lastSID) } }

  /// See `SessionTransport`.
  static func run(_ driver: LoadDriver<FFITransport>) { driver.run() }

  /// Registers this thread as the owner; calls made on it need no cross-thread queue.
  @inline(__always)
  private func takeOwnership() {
    if thread.pointee.owner.load(ordering: .relaxed) == 0 {
      thread.pointee.owner.store(kernel_thread_identity(), ordering: .relaxed)
    }
  }

  /// Opens a session in a slot; false when the session ids are used up or the plugin refuses it.
  func open(slot: Int, at time: UInt64) -> Bool {
    let state = slots + slot
    guard let sid = host.pointee.numbering.next(after: state.pointee.lastSID) else { return false }
    takeOwnership()
    state.pointee.lastSID = sid
    state.pointee.openedAt = time
    state.pointee.isPhaseOpen = false
    host.pointee.currentSID[firstSlot &+ slot].store(sid, ordering: .releasing)
    withSlotLock(state) { state.pointee.response.reset(to: upstream) }
    recorder.call = .register
    let accepted = plugin.registerSessionStream(
      sid, entry.baseAddress?.assumingMemoryBound(to: CChar.self), UInt32(truncatingIfNeeded: entry.count),
      callback)
    recorder.call = .event
    // Calls made during registration must not be attributed to the first phase.
    handleLocal()
    if accepted { thread.pointee.openSessions &+= 1 }
    if !accepted { host.pointee.currentSID[firstSlot &+ slot].store(0, ordering: .releasing) }
    return accepted
  }

  /// Starts a phase of the slot's session.
  @inline(__always)
  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    let state = slots + slot
    let phase = steps[phaseIndex].phase.rawValue
    if bodyChunks > 1, phase == Phase.responseBodyFilter.rawValue { beginChunk(state, phaseIndex) }
    state.pointee.isPhaseOpen = true
    state.pointee.startedAt = time
    state.pointee.phase = phase
    state.pointee.phaseIndex = phaseIndex
    let sid = state.pointee.lastSID
    var event = NylonFfiBuffer(sid: sid, phase: phase, method: 0, ptr: nil, len: 0)
    if let stamps {
      startStamped(&event, slot: slot, stamps)
      return
    }
    plugin.eventStream(&event)
    // Usually the only call is this phase's end: a comparison recognizes it, without a lookup.
    if let end = thread.pointee.local.popFirst() {
      if end.sid == sid {
        endPhase(slot, end.isEnd ? .end : .next, phase: end.phase, calledAt: 0)
      } else {
        handle(PluginMessage(end))
      }
    }
    handleLocalRest()
  }

  /// Makes the response body the phase's next chunk.
  @inline(never)
  private func beginChunk(_ state: UnsafeMutablePointer<FFISlot>, _ phaseIndex: Int) {
    withSlotLock(state) { state.pointee.response.beginChunk(steps[phaseIndex].chunk, of: bodyChunks) }
  }

  /// Gives up the current phase.
  func abandon(slot: Int) { slots[slot].isPhaseOpen = false }

  /// Ends the slot's session; false when `verify` is true and the response is wrong.
  func finish(slot: Int, verify: Bool) -> Bool {
    let state = slots + slot
    guard host.pointee.currentSID[firstSlot &+ slot].load(ordering: .relaxed) != 0 else { return true }
    host.pointee.currentSID[firstSlot &+ slot].store(0, ordering: .releasing)
    thread.pointee.openSessions &-= 1
    let right = !verify || check.isEmpty || withSlotLock(state) { check.accepts(state.pointee.response) }
    if !right { noteDifference(state) }
    recorder.call = .close
    plugin.closeSessionStream(state.pointee.lastSID)
    recorder.call = .event
    return right
  }

  /// Keeps the difference of the first wrong response. Only that one allocates.
  @inline(never)
  private func noteDifference(_ state: UnsafeMutablePointer<FFISlot>) {
    evidence.contentDifference =
      evidence.contentDifference ?? withSlotLock(state) { check.difference(state.pointee.response) }
  }

  /// Waits for completions, at most until `time`.
  func poll(until time: UInt64) {
    takeOwnership()
    countStrays()
    if handleForeign() { return }
    let now = MonotonicClock.nanoseconds
    guard time > now else { return }
    let spins = spin == .on || spin == .auto && thread.pointee.openSessions > 1
    if !spins, !keepsSchedule {
      thread.pointee.foreign.sleep(until: time)
      _ = handleForeign()
      return
    }
    // Spin as long as a sleep and a wakeup cost (Karlin et al., 1991: at most twice the optimal cost). Less
    // would be a trap: the plugin's thread also sleeps and takes that long to wake, so each thread would
    // always find the other asleep, at twenty times the cost of two threads that stay awake.
    let spinEnd = spins ? min(time, now &+ Nap.margin) : now
    if spin(until: spinEnd) { return }
    if let wake = Nap.end(before: time, now: spinEnd) {
      thread.pointee.foreign.sleep(until: wake)
    } else if spin(until: time) {
      return
    }
    _ = handleForeign()
  }

  /// Handles pending calls. Without any, runs `wait`, which returns when the descriptor of `wake(through:)`
  /// is written to; the next call handles what woke it.
  @inline(__always)
  func poll(in wait: () -> Void) {
    takeOwnership()
    countStrays()
    if !handleForeign() { thread.pointee.foreign.sleep(in: wait) }
  }

  /// Sets the descriptor that wakes the thread from `poll(in:)`.
  func wake(through descriptor: Int32) { thread.pointee.foreign.wake(through: descriptor) }

  /// Spins until `time`; returns true as soon as another thread has called.
  private func spin(until time: UInt64) -> Bool {
    while MonotonicClock.nanoseconds < time {
      if handleForeign() { return true }
      kernel_relax()
    }
    return false
  }

  @inline(__always)
  func handleLocal() {
    if !thread.pointee.local.isEmpty { handleWaiting() }
  }

  @inline(never)
  private func handleWaiting() {
    if let end = thread.pointee.local.popFirst() { handle(PluginMessage(end)) }
    handleLocalRest()
  }

  @inline(__always)
  private func handleLocalRest() {
    while let message = thread.pointee.local.pop() {
      handle(message)
      // In response to a read's answer, the plugin may have ended the phase; then nothing else is queued.
      if let end = thread.pointee.local.popFirst() { handle(PluginMessage(end)) }
    }
  }

  /// Handles calls made on other threads; true when there were any.
  private func handleForeign() -> Bool {
    var rest = Self.mostAtOnce
    // A thread that calls without end must not keep the driver from its work.
    while rest > 0, thread.pointee.foreign.take({ handle($0) }) {
      rest &-= 1
      handleLocal()
    }
    return rest < Self.mostAtOnce
  }

  /// The maximum number of calls from other threads that one turn handles.
  private static let mostAtOnce = 4096

  private static let mostTurns = 256

  /// Handles the remaining calls and counts strays, at the end of the load.
  func tally() {
    var turns = 0
    while handleForeign(), turns < Self.mostTurns { turns += 1 }
    countStrays()
  }

  private func countStrays() {
    count(.late, thread.pointee.stale)
    count(.unexpected, thread.pointee.unexpected)
    count(.protocolErrors, thread.pointee.broken)
  }

  private func count(_ counter: Counter, _ seen: borrowing Atomic<UInt64>) {
    if seen.load(ordering: .relaxed) > 0 {
      recorder.add(counter, scope: 0, seen.exchange(0, ordering: .relaxed))
    }
  }
}

/// The transport's state of a slot's session.
struct FFISlot {
  var response: ResponseState
  /// The id of the current session, or of the last one.
  var lastSID: UInt32
  var openedAt: UInt64 = 0
  var startedAt: UInt64 = 0
  /// The index of the current phase's step.
  var phaseIndex = 0
  var phase: UInt8 = 0
  /// Whether the phase has not ended yet.
  var isPhaseOpen = false
  /// 1 while a thread works on `response`; used with inline dispatch only.
  var lock: UInt32 = 0
}

/// Handling of the plugin's calls.
extension FFITransport {
  /// Handles a call on the load thread.
  @inline(__always)
  func handle(_ message: PluginMessage) {
    let slot = host.pointee.numbering.slot(of: message.sid) &- firstSlot
    let state = slots + slot
    guard host.pointee.currentSID[firstSlot &+ slot].load(ordering: .relaxed) == message.sid else {
      if Method(rawValue: message.method).endsPhase { thread.pointee.stale.add(1, ordering: .relaxed) }
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
    // An end that names another phase belongs to an earlier one.
    guard state.pointee.isPhaseOpen, phase == 0 || phase == state.pointee.phase else {
      recorder.happened(.duplicates, at: MonotonicClock.nanoseconds)
      recorder.add(.duplicates, scope: steps[state.pointee.phaseIndex].scope)
      return
    }
    state.pointee.isPhaseOpen = false
    if end == .end || bodyChunks > 1 { changeResponse(state, end) }
    // The other thread's clock may lag slightly, so its call may seem to precede the start of the phase.
    let calledAt = calledAt == 0 ? 0 : max(calledAt, state.pointee.startedAt)
    let doneAt: UInt64
    if let stamps {
      doneAt = stampEnd(slot, calledAt: calledAt, stamps)
    } else {
      doneAt = calledAt != 0 ? calledAt : MonotonicClock.nanoseconds
    }
    completions.push(PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: end, doneAt: doneAt))
  }

  /// Applies a phase end to the response: END in the request filter drops the upstream's response, and the
  /// end of a body chunk stores the chunk.
  @inline(never)
  private func changeResponse(_ state: UnsafeMutablePointer<FFISlot>, _ end: PhaseEnd) {
    let step = steps[state.pointee.phaseIndex]
    withSlotLock(state) {
      if end == .end, step.phase == .requestFilter { state.pointee.response.dropUpstream() }
      if bodyChunks > 1, step.phase == .responseBodyFilter {
        state.pointee.response.endChunk(isLast: step.chunk == bodyChunks - 1)
      }
    }
  }

  /// Handles a call inside the callback, on the load thread or on one of the plugin's own threads.
  func handleInline(_ message: PluginMessage, onOwner: Bool) {
    if onOwner {
      handle(message)
    } else if Method(rawValue: message.method).endsPhase {
      handOver(message, to: thread)
    } else {
      call(message, slots + (host.pointee.numbering.slot(of: message.sid) &- firstSlot))
    }
  }

  /// Handles a write or a read.
  @inline(never)
  private func call(_ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>) {
    let method = Method(rawValue: message.method)
    if let answer = answers.answer(method, payload: message.payload) {
      send(answer, for: message)
    } else if method.isRead {
      answerFromResponse(method, message, state)
    } else if !write(method, message, state) {
      thread.pointee.broken.add(1, ordering: .relaxed)
    }
  }

  /// Changes the response; false for an unknown method or an invalid payload.
  private func write(
    _ method: Nylon.Method, _ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>
  ) -> Bool {
    let current = host.pointee.currentSID + host.pointee.numbering.slot(of: message.sid)
    return withSlotLock(state) {
      // On a plugin's own thread, the session may have ended and the next one begun since.
      guard current.pointee.load(ordering: .acquiring) == message.sid else { return true }
      return state.pointee.response.apply(method, message.payload)
    }
  }

  /// Answers a read of the session's own response or clock.
  private func answerFromResponse(
    _ method: Nylon.Method, _ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>
  ) {
    let openedAt = state.pointee.openedAt
    if let number = state.pointee.response.number(method, openedAt: openedAt, unixOffset: unixOffset) {
      return withDecimal(number) { send($0, for: message) }
    }
    switch method {
    case .readResponseHeaders:
      let table = HeaderTable.encode(withSlotLock(state) { state.pointee.response.pluginHeaders })
      table.withUnsafeBytes { send($0, for: message) }
    case .readResponseFullBody:
      // With inline dispatch, another thread might replace the body while it is sent, so send a copy.
      if isInline {
        let copy = withSlotLock(state) { [UInt8](state.pointee.response.body) }
        copy.withUnsafeBytes { send($0, for: message) }
      } else {
        send(state.pointee.response.body, for: message)
      }
    default: thread.pointee.broken.add(1, ordering: .relaxed)
    }
  }

  /// Answers a read with an event of the same method and phase 0.
  private func send(_ answer: UnsafeRawBufferPointer, for message: PluginMessage) {
    var event = NylonFfiBuffer(
      sid: message.sid, phase: 0, method: message.method,
      ptr: answer.baseAddress?.assumingMemoryBound(to: UInt8.self), len: UInt64(answer.count))
    plugin.eventStream(&event)
  }

  /// Runs `body` with exclusive access to a slot's response. Only a plugin that calls from its own threads
  /// with inline dispatch can contend with the load thread; every other plugin pays one atomic load.
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

/// The times of the call that started a slot's phase, nanoseconds.
struct CallStamps {
  /// When `event_stream` was called.
  var called: UInt64 = 0
  var returned: UInt64 = 0
  /// When the callback that ended the phase arrived.
  var callback: UInt64 = 0
}

/// Phase decomposition; none of this runs unless the load is decomposed.
extension FFITransport {
  /// Calls the plugin and stamps both ends of the call.
  @inline(never)
  func startStamped(_ event: inout NylonFfiBuffer, slot: Int, _ stamps: UnsafeMutablePointer<CallStamps>) {
    stamps[slot].called = MonotonicClock.nanoseconds
    plugin.eventStream(&event)
    stamps[slot].returned = MonotonicClock.nanoseconds
    handleLocal()
  }

  /// Stamps the end of a phase and returns the time at which it is complete: now for queued dispatch, the
  /// time of the callback for inline dispatch.
  @inline(never)
  func stampEnd(
    _ slot: Int, calledAt: UInt64, _ stamps: UnsafeMutablePointer<CallStamps>
  ) -> UInt64 {
    let now = MonotonicClock.nanoseconds
    stamps[slot].callback = calledAt != 0 ? calledAt : now
    return isInline ? stamps[slot].callback : now
  }

  /// See `TransportSpec.partNames`. The callback may arrive inside `event_stream`, or after it from another
  /// thread; one of the two parts in between is then 0.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? {
    guard let stamp = stamps?[slot] else { return nil }
    // Inline, the phase is complete before `event_stream` returns.
    let last = min(max(stamp.callback, stamp.returned), done)
    return SIMD4(stamp.called, min(stamp.callback, stamp.returned), stamp.callback, last)
  }
}
