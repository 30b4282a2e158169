import CLinux
import Foundation
import Glibc
import NATS
import Nylon
import Scenario

/// The transport to a pool of workers, for one load thread.
///
/// Everything happens on the load thread. Requests are patched templates, published with the session's slot
/// in the reply subject; one write sends all pending requests. Replies arrive in one inbox and are verified:
/// the subject identifies the slot, and the request's id shows whether the reply is its answer.
final class NATSTransport: SessionTransport {
  let completions: CompletionRing
  let slots: UnsafeMutablePointer<NATSSlot>
  let slotCount: Int
  let numbering: SessionNumbering
  let connections: UnsafeMutablePointer<PoolConnection>
  let connectionCount: Int
  let contexts: ContextStates
  /// The subjects of the steps that begin a session, then those of its phases.
  let subjects: [String]
  /// The index of the first phase among the subjects.
  let firstPhase: Int32
  /// nil for a lean host.
  let nylonHost: NylonHost?
  /// The index of the request filter, whose END drops the upstream; -1 when that phase is not run.
  let requestFilterIndex: Int32
  /// The responses of sessions in a dialect whose handlers change them by calls; nil in other dialects.
  let called: CalledResponses?
  let encoder = ReplyEncoder()
  let recorder: ThreadRecorder
  let dialect: DialectTraits
  let epoll: Int32
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  /// When the last request was started: accurate enough for the millisecond `timestamp` of a request that is
  /// sent again.
  private var recentTime = MonotonicClock.nanoseconds
  /// Generates the requests' ids. In raw memory, which avoids exclusivity checks.
  let ids = UnsafeMutablePointer<UUIDv7>.allocate(capacity: 1)
  /// The timed-out requests among the last million: each one's number plus one, at the index given by its low
  /// bits. It distinguishes a late reply from a duplicate. The kernel allocates its pages when they are first
  /// written.
  private let timedOut = calloc(1 << 20, 4).assumingMemoryBound(to: UInt32.self)
  private var unflushed = 0
  /// The first evidence of each kind of failure.
  var evidence = FailureEvidence()
  /// The most specific sign so far of maps from another dialect.
  var clearestSign: ForeignSign?
  /// The times that each slot's worker reported; nil unless the load is decomposed.
  let stamps: UnsafeMutablePointer<WorkerStamps>?
  /// The maximum number of requests between two writes. A burst must not wait for its own end: generator,
  /// broker and workers would take turns instead of working in parallel.
  private static var mostUnflushed: Int { 64 }

  /// Creates the connected transports of all load threads of an order.
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
            // The run's own brokers are listed in the order in which to try them.
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

  /// Events of the connections that the user should know about.
  var remarks: [String] { (0..<connectionCount).flatMap { connections[$0].remarks } }

  /// False: a worker that is too slow runs in another process.
  var isInProcess: Bool { false }

  static let hasRequestIDs = true

  func requestID(slot: Int) -> RequestWords {
    RequestWords(high: slots[slot].requestID.high, low: slots[slot].requestID.low)
  }

  /// Specializes the driver for this transport.
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
      // A retry is the same request with the same id, which the worker may already know.
      timedOut[Int(state.pointee.number & 0xf_ffff)] = 0
    }
    state.pointee.isWaiting = true
    connections[place(ofSlot: slot)].publish(slot: slot, of: self)
    unflushed &+= 1
    if unflushed >= Self.mostUnflushed { flush() }
  }

  /// The index of a slot's connection.
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

  /// Whether a reply to an ended request is late rather than a duplicate. For requests more than a million
  /// ago, late is assumed.
  func isLate(_ number: UInt32) -> Bool {
    ids.pointee.nextNumber &- number > 1 << 20 || timedOut[Int(number & 0xf_ffff)] == number &+ 1
  }

  @inline(__always)
  func finish(slot: Int, verify: Bool) -> Bool {
    if !verify || called?.isRight(slot) ?? contexts.isRight(Int(slots[slot].context)) { return true }
    noteDifference(slot)
    return false
  }

  /// The epoll event data of the descriptor that only wakes the thread.
  private static let wakePlace = UInt64.max

  /// Creates an eventfd that ends a `poll` when it is written to.
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
    // 0 means no wait.
    let wait = reads ? 0 : Nap.end(before: time, now: now).map { $0 &- now } ?? 0
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { places in
      withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { events in
        let count = kernel_epoll_wait_ns(epoll, places.baseAddress, events.baseAddress, 64, wait)
        guard count > 0 else { return }
        for ready in 0..<Int(count) where places[ready] != Self.wakePlace {
          // A connection that is moving to another broker has a second socket.
          let socket = Int(places[ready])
          let place = socket < connectionCount ? socket : socket - connectionCount
          connections[place].handle(events[ready], at: socket, self)
        }
      }
    }
    flush()
  }
}

/// The transport's state of a slot's session.
struct NATSSlot {
  /// The id of the current session, or of the last one.
  var lastSID: UInt32
  var phaseIndex: Int32 = 0
  var requestID: (high: UInt64, low: UInt64) = (0, 0)
  /// The sequence number of the request on this load thread.
  var number: UInt32 = 0
  /// The index of the session's context in `ContextStates`.
  var context: Int32 = 0
  /// The offset after the request's last byte in its connection's output.
  var end: UInt64 = 0
  let token: UInt64
  /// Whether a phase is pending.
  var isWaiting = false
  /// Whether the request is in its connection's ring of requests that found no room.
  var isPostponed = false
}
