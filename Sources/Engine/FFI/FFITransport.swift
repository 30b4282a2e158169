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
final class FFITransport: SessionTransport {
  /// Ends of phases for the driver.
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
  /// The steps of a session.
  private let steps: UnsafePointer<PhaseStep>
  /// Chunks that the response's body comes in.
  private let bodyChunks: Int
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  let isInline: Bool
  /// Whether the thread stays awake for a while before it sleeps.
  private let spin: Spin
  /// Whether a poll's time may be when a request is due.
  private let keepsSchedule: Bool
  /// What was seen first of each way to fail.
  private(set) var evidence = FailureEvidence()
  /// What the plugin is given to call.
  private let callback: NylonCallback
  /// When each slot's phase was called, in a decomposed load only.
  let stamps: UnsafeMutablePointer<CallStamps>?

  /// The transports of all load threads of an order; the plugin is loaded and initialised.
  ///
  /// One set in a process at a time: the callback has no user pointer, so there is one host. A
  /// later set is safe from callbacks for an earlier one's sessions; its memory is never freed.
  ///
  /// - Parameters:
  ///   - steps: of a session; nil for those of the order.
  ///   - rings: where the threads' ends of phases are put; nil for rings of their own.
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

  /// Opens and closes one session, so that a wrong handler name is told before the load.
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

  /// The greatest session id that was given out.
  var lastSID: UInt32 { (0..<slotCount).reduce(0) { max($0, slots[$1].lastSID) } }

  /// See `SessionTransport`.
  static func run(_ driver: LoadDriver<FFITransport>) { driver.run() }

  /// Says that this thread is the one that runs the load; calls on it need no queue.
  @inline(__always)
  private func takeOwnership() {
    if thread.pointee.owner.load(ordering: .relaxed) == 0 {
      thread.pointee.owner.store(kernel_thread_identity(), ordering: .relaxed)
    }
  }

  /// Opens a session in a slot; false when there is none to be had.
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
    // What it called meanwhile must not be taken for the first phase's.
    handleLocal()
    if accepted { thread.pointee.openSessions &+= 1 }
    if !accepted { host.pointee.currentSID[firstSlot &+ slot].store(0, ordering: .releasing) }
    return accepted
  }

  /// Starts a phase of the session in a slot.
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
    // As a rule it is this phase's end, and nothing else: told by a comparison, not looked up.
    if let end = thread.pointee.local.popFirst() {
      if end.sid == sid {
        endPhase(slot, end.isEnd ? .end : .next, phase: end.phase, calledAt: 0)
      } else {
        handle(PluginMessage(end))
      }
    }
    handleLocalRest()
  }

  /// Gives the session's response body chunk by chunk.
  @inline(never)
  private func beginChunk(_ state: UnsafeMutablePointer<FFISlot>, _ phaseIndex: Int) {
    withSlotLock(state) { state.pointee.response.beginChunk(steps[phaseIndex].chunk, of: bodyChunks) }
  }

  /// Gives up the phase under way.
  func abandon(slot: Int) { slots[slot].isPhaseOpen = false }

  /// Ends the session in a slot; whether its response is right, if asked.
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

  /// Keeps what is wrong with the first response that is wrong. Only that one allocates.
  @inline(never)
  private func noteDifference(_ state: UnsafeMutablePointer<FFISlot>) {
    evidence.contentDifference =
      evidence.contentDifference ?? withSlotLock(state) { check.difference(state.pointee.response) }
  }

  /// Waits for ends of phases, at most until that time.
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
    // As long as a sleep and waking up cost (Karlin and others, 1991: never more than twice the best that could be
    // done). Shorter would be a trap: the plugin's thread, which sleeps too, takes that long to wake, so each would
    // always find the other asleep, at twenty times the cost of two that are awake.
    let spinEnd = spins ? min(time, now &+ Nap.margin) : now
    if spin(until: spinEnd) { return }
    if let wake = Nap.end(before: time, now: spinEnd) {
      thread.pointee.foreign.sleep(until: wake)
    } else if spin(until: time) {
      return
    }
    _ = handleForeign()
  }

  /// Handles the calls that came; without any, waits in a closure that ends when the descriptor of `wake(through:)` is
  /// written to. What woke it is handled by the next call.
  @inline(__always)
  func poll(in wait: () -> Void) {
    takeOwnership()
    countStrays()
    if !handleForeign() { thread.pointee.foreign.sleep(in: wait) }
  }

  /// What wakes the thread from `poll(in:)`.
  func wake(through descriptor: Int32) { thread.pointee.foreign.wake(through: descriptor) }

  /// Stays awake until a time; true at once when another thread called.
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
      // To the answer of a read the plugin may have ended the phase, with nothing else in the queue.
      if let end = thread.pointee.local.popFirst() { handle(PluginMessage(end)) }
    }
  }

  /// Handles what other threads called; true when there was anything.
  private func handleForeign() -> Bool {
    var rest = Self.mostAtOnce
    // A thread that calls without end must not keep the driver from its work.
    while rest > 0, thread.pointee.foreign.take({ handle($0) }) {
      rest &-= 1
      handleLocal()
    }
    return rest < Self.mostAtOnce
  }

  /// Calls of other threads that are handled in one turn.
  private static let mostAtOnce = 4096

  private static let mostTurns = 256

  /// Counts the strays that came since the last wait.
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

/// What the transport knows of the session in a slot.
struct FFISlot {
  var response: ResponseState
  /// The session's id, or the last one's.
  var lastSID: UInt32
  var openedAt: UInt64 = 0
  /// When its phase was started.
  var startedAt: UInt64 = 0
  /// Which of the steps its phase is.
  var phaseIndex = 0
  var phase: UInt8 = 0
  /// Whether the phase's end is still to come.
  var isPhaseOpen = false
  /// 1 while a thread works on `response`; used with inline dispatch only.
  var lock: UInt32 = 0
}

/// What the plugin's calls do.
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
    // An end that names another phase is an old one's.
    guard state.pointee.isPhaseOpen, phase == 0 || phase == state.pointee.phase else {
      recorder.happened(.duplicates, at: MonotonicClock.nanoseconds)
      recorder.add(.duplicates, scope: steps[state.pointee.phaseIndex].scope)
      return
    }
    state.pointee.isPhaseOpen = false
    if end == .end || bodyChunks > 1 { changeResponse(state, end) }
    // The other thread's clock may be a little behind, and its call may have come before the phase was started.
    let calledAt = calledAt == 0 ? 0 : max(calledAt, state.pointee.startedAt)
    let doneAt: UInt64
    if let stamps {
      doneAt = stampEnd(slot, calledAt: calledAt, stamps)
    } else {
      doneAt = calledAt != 0 ? calledAt : MonotonicClock.nanoseconds
    }
    completions.push(PhaseCompletion(slot: Int32(truncatingIfNeeded: slot), end: end, doneAt: doneAt))
  }

  /// What the end of a phase does to the response: after END in the request filter it is the plugin's own, and a
  /// chunk of the body is done.
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

  /// Handles a call inside the callback: on the load thread, or on a thread of the plugin's.
  func handleInline(_ message: PluginMessage, onOwner: Bool) {
    if onOwner {
      handle(message)
    } else if Method(rawValue: message.method).endsPhase {
      handOver(message, to: thread)
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
      thread.pointee.broken.add(1, ordering: .relaxed)
    }
  }

  /// Changes the response; false for an unknown method or a payload that is none.
  private func write(
    _ method: Nylon.Method, _ message: PluginMessage, _ state: UnsafeMutablePointer<FFISlot>
  ) -> Bool {
    let current = host.pointee.currentSID + host.pointee.numbering.slot(of: message.sid)
    return withSlotLock(state) {
      // On a thread of the plugin's the session may have ended since, and the next one begun.
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
      // Inline on a foreign thread the body might be replaced while it is sent: a copy cannot.
      if isInline {
        let copy = withSlotLock(state) { [UInt8](state.pointee.response.body) }
        copy.withUnsafeBytes { send($0, for: message) }
      } else {
        send(state.pointee.response.body, for: message)
      }
    default: thread.pointee.broken.add(1, ordering: .relaxed)
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

/// When the call that started a slot's phase was made, and what came of it; nanoseconds.
struct CallStamps {
  /// `event_stream` was called.
  var called: UInt64 = 0
  var returned: UInt64 = 0
  /// The callback came that ended the phase.
  var callback: UInt64 = 0
}

/// Where the time of a phase goes; nothing of this runs in a load that is not decomposed.
extension FFITransport {
  /// Calls the plugin and stamps both ends of the call.
  @inline(never)
  func startStamped(_ event: inout NylonFfiBuffer, slot: Int, _ stamps: UnsafeMutablePointer<CallStamps>) {
    stamps[slot].called = MonotonicClock.nanoseconds
    plugin.eventStream(&event)
    stamps[slot].returned = MonotonicClock.nanoseconds
    handleLocal()
  }

  /// Stamps the end of a phase; when it is complete. Queued, it is complete now; inline, it was
  /// within the callback.
  @inline(never)
  func stampEnd(
    _ slot: Int, calledAt: UInt64, _ stamps: UnsafeMutablePointer<CallStamps>
  ) -> UInt64 {
    let now = MonotonicClock.nanoseconds
    stamps[slot].callback = calledAt != 0 ? calledAt : now
    return isInline ? stamps[slot].callback : now
  }

  /// See `TransportSpec.partNames`. A callback may come inside `event_stream`, or after it, from
  /// another thread: one of the two times between is 0 then.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? {
    guard let stamp = stamps?[slot] else { return nil }
    // Inline, the phase is complete before `event_stream` returns.
    let last = min(max(stamp.callback, stamp.returned), done)
    return SIMD4(stamp.called, min(stamp.callback, stamp.returned), stamp.callback, last)
  }
}
