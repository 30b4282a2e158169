import CKernel
import CNats
import Foundation
import Load
import Measure
import NylonProtocol
import Scenario

/// The way to a pool of workers, for one load thread.
///
/// All on the load thread: requests are patched templates, published with the place of their
/// session in the reply subject; one write for all that waits; replies are drained from
/// one inbox, and verified: the subject tells the slot, the request's id whether it is its answer.
public final class NATSTransport: SessionTransport {
  /// Ends of phases for the driver.
  public let completions: CompletionRing
  /// A worker that is too slow is another process.
  public let isInProcess = false
  let slots: UnsafeMutablePointer<NATSSlot>
  let slotCount: Int
  let numbering: SessionNumbering
  let connections: [LoopConnection]
  var ledgers: [NoResponderLedger]
  /// How often each connection had been made again when its ledger was last used.
  var reconnectsSeen: [UInt64]
  let contexts: ContextStates
  let subjects: [UnsafeMutablePointer<CChar>]
  let replySubject: ReplySubject
  let decoder = ReplyDecoder()
  let recorder: ThreadRecorder
  let dialect: Dialect
  let epoll: Int32
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  /// See `SessionTransport`.
  public var wakeMargin: UInt64 = 30_000
  /// The last time that was read: near enough for a request's `timestamp` of whole milliseconds.
  var recentTime = kernel_now_ns()
  var ids: UUIDv7
  let fates = RequestFates()
  var sequence: UInt64 = 0
  var unflushed = 0
  /// Messages that were handled and not yet given back.
  private let used = UnsafeMutablePointer<OpaquePointer?>.allocate(capacity: NATSTransport.mostUsed)
  private var usedCount = 0
  private static let mostUsed = 2048
  /// Publishes between two writes, at most: a burst must not wait for its own end.
  static let mostUnflushed = 256

  /// Connects; `lane` is the load thread's place.
  public init(
    order: LoadOrder, spec: NATSSpec, lane: Int, recorder: ThreadRecorder
  ) throws {
    let (first, count) = order.places(ofThread: lane)
    slotCount = count
    completions = CompletionRing(slots: count)
    numbering = SessionNumbering(slots: order.placeCount)
    self.recorder = recorder
    dialect = spec.dialect
    let content = RequestContent(order.request, seed: order.seed)
    contexts = try ContextStates(
      base: HTTPContext(request: content.request, response: content.response), phases: order.target.phases,
      entry: order.target.handler, sendsContext: spec.dialect == .reply, slots: count,
      check: ContextCheck.make(
        order.target.verify, upstreamBody: content.response.body, dialect: spec.dialect))
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin)
    subjects = order.target.phases.map { strdup(subject.phase($0)) }
    epoll = kernel_epoll_create()
    replySubject = ReplySubject(seed: order.seed &+ UInt64(order.replicate) &* 64 &+ UInt64(lane))
    var made: [LoopConnection] = []
    for place in 0..<max(1, order.connectionCount(ofThread: lane)) {
      made.append(
        try LoopConnection(
          spec: spec, servers: order.servers, inboxSubject: replySubject.pattern(connection: place),
          epoll: epoll, place: place))
    }
    connections = made
    ledgers = Array(repeating: NoResponderLedger(), count: made.count)
    reconnectsSeen = Array(repeating: 0, count: made.count)
    slots = .allocate(capacity: count)
    for slot in 0..<count {
      slots[slot] = NATSSlot(lastSID: numbering.first(ofSlot: first + slot))
    }
    ids = UUIDv7(seed: UInt64.random(in: .min ... .max))
    unixOffset = UInt64(Date().timeIntervalSince1970 * 1e9) &- kernel_now_ns()
  }

  deinit {
    completions.deallocate()
    destroyUsed()
    used.deallocate()
    slots.deallocate()
    subjects.forEach { free($0) }
    close(epoll)
  }

  /// Monotonic time, nanoseconds.
  @inline(__always)
  public func now() -> UInt64 {
    recentTime = kernel_now_ns()
    return recentTime
  }

  /// Opens a session in a slot; false when there is none to be had.
  public func open(slot: Int, at time: UInt64) -> Bool {
    let state = slots + slot
    guard let sid = numbering.next(after: state.pointee.lastSID) else { return false }
    state.pointee.lastSID = sid
    state.pointee.context = 0
    return true
  }

  /// Starts a phase of the session in a slot.
  public func start(slot: Int, phaseIndex: Int, attempt: Int) {
    let state = slots + slot
    let milliseconds = (recentTime &+ unixOffset) / 1_000_000
    state.pointee.phaseIndex = Int32(truncatingIfNeeded: phaseIndex)
    // A retry is the same request: the worker may know its id.
    if attempt == 1 {
      state.pointee.number = ids.nextNumber
      state.pointee.requestID = ids.next(timestampMilliseconds: milliseconds)
    }
    let template = contexts.template(Int(state.pointee.context), phaseIndex: phaseIndex)
    template.patch(
      requestIDHigh: state.pointee.requestID.high, requestIDLow: state.pointee.requestID.low,
      sessionID: state.pointee.lastSID, timestampMilliseconds: milliseconds)
    state.pointee.isWaiting = true
    fates.began(state.pointee.number)
    sequence &+= 1
    state.pointee.sequence = sequence
    let place = slot % connections.count
    publish(subjects[phaseIndex], template.buffer, token: UInt32(truncatingIfNeeded: slot), connection: place)
  }

  @inline(__always)
  private func publish(
    _ subject: UnsafeMutablePointer<CChar>, _ bytes: UnsafeMutableRawBufferPointer, token: UInt32,
    connection place: Int
  ) {
    let status = natsConnection_PublishRequest(
      connections[place].connection, subject, replySubject.with(token: token, connection: place),
      bytes.baseAddress, Int32(truncatingIfNeeded: bytes.count))
    // A request that libnats refuses (its reconnect buffer is full) gets no reply: it times out.
    if status == NATS_OK { unflushed &+= 1 }
    if unflushed >= Self.mostUnflushed { flush() }
  }

  @inline(__always)
  func flush() {
    unflushed = 0
    for connection in connections { connection.flush() }
  }

  /// Gives up the phase under way.
  public func abandon(slot: Int) {
    let state = slots + slot
    guard state.pointee.isWaiting else { return }
    state.pointee.isWaiting = false
    fates.timedOut(state.pointee.number)
    resolved(slot)
  }

  /// Ends the session in a slot; whether its response is right, if asked.
  public func finish(slot: Int, verify: Bool) -> Bool {
    !verify || contexts.isRight(Int(slots[slot].context))
  }

  /// Waits for ends of phases, at most until that time.
  public func poll(until time: UInt64) {
    flush()
    let now = kernel_now_ns()
    // The kernel wakes late: the last stretch before a deadline is polled without sleeping.
    let wait = time > now &+ wakeMargin ? time &- now &- wakeMargin : 0
    if connections[0].usesLoop {
      waitForSockets(wait)
    } else {
      waitForLibrary(wait)
    }
    flush()
  }

  private func waitForSockets(_ wait: UInt64) {
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { places in
      withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { events in
        let count = kernel_epoll_wait_ns(epoll, places.baseAddress, events.baseAddress, 64, wait)
        guard count > 0 else { return }
        for ready in 0..<Int(count) {
          let place = Int(places[ready])
          if events[ready] & ~UInt32(KERNEL_WRITABLE) != 0 { connections[place].readEvent() }
          if events[ready] & UInt32(KERNEL_WRITABLE) != 0 { connections[place].flush() }
          drain(place, firstWaitMilliseconds: 0)
        }
      }
    }
  }

  /// libnats hands each destroyed message to a collector thread and wakes it: once for each
  /// message that costs more than the message. So they are kept and handed over many at a time.
  @inline(__always)
  private func discard(_ message: OpaquePointer) {
    used[usedCount] = message
    usedCount &+= 1
    if usedCount == Self.mostUsed { destroyUsed() }
  }

  private func destroyUsed() {
    for place in 0..<usedCount { natsMsg_Destroy(used[place]) }
    usedCount = 0
  }

  /// With libnats' own threads: its condition variable has whole milliseconds.
  private func waitForLibrary(_ wait: UInt64) {
    for place in connections.indices.dropFirst() { drain(place, firstWaitMilliseconds: 0) }
    drain(0, firstWaitMilliseconds: connections.count == 1 ? Int64(wait / 1_000_000) : 0)
  }

  /// Takes all messages that lie in a connection's inbox.
  private func drain(_ place: Int, firstWaitMilliseconds: Int64) {
    var message: OpaquePointer?
    var wait = firstWaitMilliseconds
    while true {
      switch natsSubscription_NextMsg(&message, connections[place].inbox, wait) {
      case NATS_OK:
        guard let taken = message else { return }
        receive(taken, connection: place)
        discard(taken)
      case NATS_NO_RESPONDERS: refused(connection: place)
      default: return
      }
      wait = 0
    }
  }
}

/// What the transport knows of the session in a slot.
struct NATSSlot {
  /// The session's id, or the last one's.
  var lastSID: UInt32
  var phaseIndex: Int32 = 0
  var requestID: (high: UInt64, low: UInt64) = (0, 0)
  /// Which of all requests of the load thread it is.
  var number: UInt32 = 0
  /// Which of `ContextStates` the session is in.
  var context: Int32 = 0
  /// Place of the attempt in the order of publishing.
  var sequence: UInt64 = 0
  var isWaiting = false

  init(lastSID: UInt32) { self.lastSID = lastSID }
}

/// How the last million requests ended, as a bit each: what comes again or after all is told
/// apart by it.
final class RequestFates {
  private let bits: UnsafeMutablePointer<UInt64>
  private static let count: UInt32 = 1 << 20

  init() {
    bits = .allocate(capacity: Int(Self.count) / 64)
    bits.initialize(repeating: 0, count: Int(Self.count) / 64)
  }

  deinit { bits.deallocate() }

  @inline(__always)
  private func word(_ number: UInt32) -> UnsafeMutablePointer<UInt64> {
    bits + Int((number & (Self.count &- 1)) >> 6)
  }

  /// A request, or a further attempt of it, is on its way.
  @inline(__always)
  func began(_ number: UInt32) { word(number).pointee &= ~(1 << UInt64(number & 63)) }

  /// The request was given up.
  func timedOut(_ number: UInt32) { word(number).pointee |= 1 << UInt64(number & 63) }

  /// Whether what comes now for a request that is over comes late, and not again. Of requests
  /// longer ago than a million that is likely.
  func isLate(_ number: UInt32, next: UInt32) -> Bool {
    next &- number > Self.count || word(number).pointee >> UInt64(number & 63) & 1 == 1
  }
}
