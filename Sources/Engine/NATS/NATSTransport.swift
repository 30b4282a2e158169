import CLinux
import Foundation
import Glibc
import NATS
import Nylon
import Scenario

/// The way to a pool of workers, for one load thread.
///
/// All on the load thread: requests are patched templates, published with the place of their
/// session in the reply subject; one write for all that waits; replies are drained from
/// one inbox, and verified: the subject tells the slot, the request's id whether it is its answer.
final class NATSTransport: SessionTransport {
  /// Ends of phases for the driver.
  let completions: CompletionRing
  let slots: UnsafeMutablePointer<NATSSlot>
  let slotCount: Int
  let numbering: SessionNumbering
  let connections: UnsafeMutablePointer<PoolConnection>
  let connectionCount: Int
  let contexts: ContextStates
  /// Those of the steps that begin a session, then those of its phases.
  let subjects: [String]
  /// The place of the first phase among the subjects.
  let firstPhase: Int32
  /// Nil for a lean host.
  let nylonHost: NylonHost?
  /// The place of the phase whose END drops the upstream; -1 when it is not run.
  let requestFilterIndex: Int32
  /// The responses of sessions, in a dialect whose handlers change them by calls.
  let called: CalledResponses?
  let encoder = ReplyEncoder()
  let recorder: ThreadRecorder
  let dialect: DialectTraits
  let epoll: Int32
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  /// When the last request was started: near enough for the `timestamp`, of whole milliseconds, of one
  /// that is sent again.
  private var recentTime = MonotonicClock.nanoseconds
  /// Makes the requests' ids. In raw memory, where no access is checked.
  let ids = UnsafeMutablePointer<UUIDv7>.allocate(capacity: 1)
  /// The requests that timed out, of the last million: each one's number, and one more, at the place that its last
  /// bits name. A reply that comes too late is told from a duplicate by it. The kernel gives its pages when they are
  /// first written to.
  private let timedOut = calloc(1 << 20, 4).assumingMemoryBound(to: UInt32.self)
  private var unflushed = 0
  /// What was seen first of each way to fail.
  var evidence = FailureEvidence()
  /// What tells most about the dialect of maps that belong to another one.
  var clearestSign: ForeignSign?
  /// What each slot's worker said of its times, in a decomposed load only.
  let stamps: UnsafeMutablePointer<WorkerStamps>?
  /// Publishes between two writes, at most: a burst must not wait for its own end, or generator, broker and
  /// workers would take turns instead of working side by side.
  private static var mostUnflushed: Int { 64 }

  /// The transports of all load threads of an order, connected.
  static func make(
    order: LoadOrder, spec: NATSSpec, dialect: Dialect, area: RecordingArea
  ) throws -> [NATSTransport] {
    let security = try WireSecurity(auth: spec.auth, tls: spec.tls, servers: order.servers)
    return try (0..<order.effectiveThreads).map {
      try NATSTransport(
        order: order, spec: spec, dialect: dialect.traits, security: security, thread: $0,
        recorder: area.threadRecorder($0))
    }
  }

  private init(
    order: LoadOrder, spec: NATSSpec, dialect: DialectTraits, security: WireSecurity, thread: Int,
    recorder: ThreadRecorder
  ) throws {
    let places = order.share(of: order.placeCount, thread: thread)
    let count = places.count
    slotCount = count
    numbering = SessionNumbering(slots: order.placeCount)
    self.recorder = recorder
    self.dialect = dialect
    unixOffset = MonotonicClock.unixNanoseconds &- MonotonicClock.nanoseconds
    let content = RequestContent(order.request, seed: order.seed)
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin)
    let host =
      order.target.host == .nylon
      ? try NylonHost(subject, plugin: order.target.plugin, headers: spec.defaultHeaders ?? []) : nil
    nylonHost = host
    contexts = try ContextStates(
      base: HTTPContext(request: content.request, response: content.response), phases: order.target.phases,
      entry: order.target.handler, dialect: dialect,
      headers: (order.target.isDecomposed ? [WorkerStamps.question] : []) + (spec.defaultHeaders ?? []),
      slots: count, verify: dialect.sendsContext ? order.target.verify : Verification(),
      sampleReply: host?.sampleReply ?? PoolConnection.sampleReply)
    called =
      dialect.changes == .calls
      ? CalledResponses(
        order.request, content: content, verify: order.target.verify, unixOffset: unixOffset, slots: count)
      : nil
    let first = host == nil ? [] : Phase.session
    subjects = (first + order.target.phases).map { subject.phase($0) }
    firstPhase = Int32(first.count)
    requestFilterIndex = Int32(
      order.target.phases.firstIndex(of: .requestFilter).map { first.count + $0 } ?? -1)
    ids.initialize(to: UUIDv7(seed: UInt64.random(in: .min ... .max)))
    connectionCount = max(1, order.share(of: order.connections, thread: thread).count)
    epoll = kernel_epoll_create()
    var made: [PoolConnection] = []
    do {
      for place in 0..<connectionCount {
        made.append(
          try PoolConnection(
            // The run's own brokers are named in the order in which they are to be tried.
            place: place, first: order.brokerPIDs.isEmpty ? thread + place : 0, servers: order.servers,
            security: security,
            subjects: subjects, epoll: epoll, slotCount: count, longestRequest: contexts.longestRequest))
      }
    } catch {
      made.forEach { $0.close() }
      Glibc.close(epoll)
      throw error
    }
    connections = .allocate(capacity: connectionCount)
    connections.initialize(from: made, count: connectionCount)
    completions = CompletionRing(slots: count)
    stamps = order.target.isDecomposed ? .allocate(capacity: count) : nil
    stamps?.initialize(repeating: WorkerStamps(read: 0), count: count)
    slots = .allocate(capacity: count)
    for slot in 0..<count {
      slots[slot] = NATSSlot(
        lastSID: numbering.first(ofSlot: places.lowerBound + slot, after: order.sessionIDsAfter),
        token: PoolConnection.token(ofSlot: slot))
    }
  }

  deinit {
    completions.deallocate()
    ids.deallocate()
    free(timedOut)
    for place in 0..<connectionCount { connections[place].close() }
    connections.deinitialize(count: connectionCount)
    connections.deallocate()
    slots.deallocate()
    stamps?.deallocate()
    Glibc.close(epoll)
  }

  /// What the user should know about the connections' life.
  var remarks: [String] { (0..<connectionCount).flatMap { connections[$0].remarks } }

  /// A worker that is too slow is another process.
  var isInProcess: Bool { false }

  static let hasRequestIDs = true

  func requestID(slot: Int) -> RequestWords {
    RequestWords(high: slots[slot].requestID.high, low: slots[slot].requestID.low)
  }

  /// Makes one piece of the driver and this transport.
  static func run(_ driver: LoadDriver<NATSTransport>) { driver.run() }

  @inline(__always)
  func open(slot: Int, at time: UInt64) -> Bool {
    let state = slots + slot
    guard let sid = numbering.next(after: state.pointee.lastSID) else { return false }
    state.pointee.lastSID = sid
    state.pointee.context = 0
    called?.open(slot, at: time)
    return true
  }

  @inline(__always)
  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    let state = slots + slot
    recentTime = time
    state.pointee.phaseIndex = Int32(truncatingIfNeeded: phaseIndex)
    if attempt == 1 {
      state.pointee.number = ids.pointee.nextNumber
      state.pointee.requestID = ids.pointee.next(timestampMilliseconds: unixMilliseconds)
    } else {
      // A retry is the same request: the worker may know its id.
      timedOut[Int(state.pointee.number & 0xf_ffff)] = 0
    }
    state.pointee.isWaiting = true
    connections[place(ofSlot: slot)].publish(slot: slot, of: self)
    unflushed &+= 1
    if unflushed >= Self.mostUnflushed { flush() }
  }

  /// The connection of a slot.
  @inline(__always)
  func place(ofSlot slot: Int) -> Int { connectionCount == 1 ? 0 : slot % connectionCount }

  @inline(__always)
  var unixMilliseconds: UInt64 { (recentTime &+ unixOffset) / 1_000_000 }

  @inline(__always)
  func flush() {
    unflushed = 0
    for place in 0..<connectionCount { connections[place].flush(self) }
  }

  func abandon(slot: Int) {
    let state = slots + slot
    guard state.pointee.isWaiting else { return }
    state.pointee.isWaiting = false
    timedOut[Int(state.pointee.number & 0xf_ffff)] = state.pointee.number &+ 1
    if nylonHost != nil { unsubscribe(slot) }
  }

  /// Whether what comes now for a request that is over comes late, and not again. Of requests longer ago than a
  /// million that is likely.
  func isLate(_ number: UInt32) -> Bool {
    ids.pointee.nextNumber &- number > 1 << 20 || timedOut[Int(number & 0xf_ffff)] == number &+ 1
  }

  @inline(__always)
  func finish(slot: Int, verify: Bool) -> Bool {
    if !verify || called?.isRight(slot) ?? contexts.isRight(Int(slots[slot].context)) { return true }
    noteDifference(slot)
    return false
  }

  /// The place of the descriptor that only wakes.
  private static let wakePlace = UInt64.max

  /// An eventfd that ends a `poll` when it is written to.
  func makeWakeDescriptor() -> Int32 { kernel_eventfd_watched(epoll, Self.wakePlace) }

  @inline(__always)
  func poll(until time: UInt64) {
    flush()
    var reads = false
    for place in 0..<connectionCount {
      if !connections[place].isSteady { connections[place].care(self) }
      if connections[place].wire.isConnected, connections[place].wire.holdsMore {
        connections[place].handle(UInt32(KERNEL_READABLE), at: connections[place].wire.place, self)
        reads = true
      }
    }
    let now = MonotonicClock.nanoseconds
    // 0 is not at all.
    let wait = reads ? 0 : Nap.end(before: time, now: now).map { $0 &- now } ?? 0
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { places in
      withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { events in
        let count = kernel_epoll_wait_ns(epoll, places.baseAddress, events.baseAddress, 64, wait)
        guard count > 0 else { return }
        for ready in 0..<Int(count) where places[ready] != Self.wakePlace {
          // A connection that is moving has a second socket.
          let socket = Int(places[ready])
          let place = socket < connectionCount ? socket : socket - connectionCount
          connections[place].handle(events[ready], at: socket, self)
        }
      }
    }
    flush()
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
  /// Where the bytes of its request end in what was written to its connection.
  var end: UInt64 = 0
  let token: UInt64
  /// A phase is under way: its answer is waited for.
  var isWaiting = false
  /// It is in its connection's list of requests that found no room.
  var isPostponed = false
}
