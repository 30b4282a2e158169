import CLinux
import Foundation
import Glibc
import NATS
import Nylon
import Scenario

/// The way to a pool of workers, for one load thread; `Link` is the client that it goes by.
///
/// All on the load thread: requests are patched templates, published with the place of their
/// session in the reply subject; one write for all that waits; replies are drained from
/// one inbox, and verified: the subject tells the slot, the request's id whether it is its answer.
///
/// A witness of a generic class is not specialised: drivers see it as `NativeTransport` or
/// `LibnatsTransport`, whose calls into it are.
final class NATSTransport<Link: BrokerLink> {
  /// Ends of phases for the driver.
  let completions: CompletionRing
  let slots: UnsafeMutablePointer<NATSSlot>
  let slotCount: Int
  let numbering: SessionNumbering
  let links: UnsafeMutablePointer<Link>
  let linkCount: Int
  let contexts: ContextStates
  let subjects: [UnsafeMutablePointer<CChar>]
  let replySubject: ReplySubject
  let decoder = ReplyDecoder()
  let patterns: ReplyPatterns
  let recorder: ThreadRecorder
  let dialect: Dialect
  let epoll: Int32
  /// Unix time minus monotonic time, nanoseconds.
  let unixOffset: UInt64
  /// See `SessionTransport`.
  var wakeMargin: UInt64 = 30_000
  /// When the last request was started: near enough for the `timestamp`, of whole milliseconds, of one
  /// that is sent again.
  private var recentTime = MonotonicClock.nanoseconds
  /// Makes the requests' ids. In raw memory, where no access is checked.
  let ids = UnsafeMutablePointer<UUIDv7>.allocate(capacity: 1)
  let fates = RequestFates()
  /// Requests published so far, for a link that needs their order.
  var sequence: UInt64 = 0
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

  /// Connects; `lane` is the load thread's place.
  init(order: LoadOrder, spec: NATSSpec, lane: Int, recorder: ThreadRecorder) throws {
    let (first, count) = order.places(ofThread: lane)
    slotCount = count
    numbering = SessionNumbering(slots: order.placeCount)
    patterns = ReplyPatterns(phases: order.target.phases.count)
    self.recorder = recorder
    dialect = spec.dialect
    let content = RequestContent(order.request, seed: order.seed)
    contexts = try ContextStates(
      base: HTTPContext(request: content.request, response: content.response), phases: order.target.phases,
      entry: order.target.handler, sendsContext: spec.dialect == .reply,
      headers: order.target.isDecomposed ? [WorkerStamps.question] : [], slots: count,
      verify: spec.dialect == .reply ? order.target.verify : Verification())
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin)
    ids.initialize(to: UUIDv7(seed: UInt64.random(in: .min ... .max)))
    unixOffset = UInt64(Date().timeIntervalSince1970 * 1e9) &- MonotonicClock.nanoseconds
    replySubject = ReplySubject(seed: order.seed &+ UInt64(order.replicate) &* 64 &+ UInt64(lane))
    let connections = max(1, order.connectionCount(ofThread: lane))
    let setup = LinkSetup(
      spec: spec, servers: order.servers, subjects: order.target.phases.map { strdup(subject.phase($0)) },
      replySubject: replySubject, epoll: kernel_epoll_create(), slotCount: count, linkCount: connections,
      longestRequest: contexts.longestRequest, lane: lane)
    let made: [Link]
    do {
      made = try Self.connect(setup)
    } catch {
      setup.subjects.forEach { free($0) }
      Glibc.close(setup.epoll)
      throw error
    }
    subjects = setup.subjects
    epoll = setup.epoll
    linkCount = connections
    links = .allocate(capacity: connections)
    links.initialize(from: made, count: connections)
    completions = CompletionRing(slots: count)
    stamps = order.target.isDecomposed ? .allocate(capacity: count) : nil
    stamps?.initialize(repeating: WorkerStamps(), count: count)
    slots = .allocate(capacity: count)
    for slot in 0..<count {
      slots[slot] = NATSSlot(
        lastSID: numbering.first(ofSlot: first + slot, after: order.sessionIDsAfter), token: UInt32(slot))
    }
  }

  /// All connections, or none and why.
  private static func connect(_ setup: LinkSetup) throws -> [Link] {
    var made: [Link] = []
    do {
      for place in 0..<setup.linkCount { made.append(try Link(place: place, setup: setup)) }
      if let most = made.map(\.longestPayload).min(), setup.longestRequest > most {
        throw BrokerError.tooLong(servers: setup.servers, request: setup.longestRequest, most: most)
      }
      return made
    } catch {
      made.forEach { $0.close() }
      throw error
    }
  }

  deinit {
    completions.deallocate()
    ids.deallocate()
    for place in 0..<linkCount { links[place].close() }
    links.deinitialize(count: linkCount)
    links.deallocate()
    slots.deallocate()
    stamps?.deallocate()
    subjects.forEach { free($0) }
    Glibc.close(epoll)
  }

  /// What to tell people of the connections; each sentence once.
  var remarks: [String] {
    var all: [String] = []
    for place in 0..<linkCount {
      for remark in links[place].remarks where !all.contains(remark) { all.append(remark) }
    }
    return all
  }

  @inline(__always)
  func open(slot: Int) -> Bool {
    let state = slots + slot
    guard let sid = numbering.next(after: state.pointee.lastSID) else { return false }
    state.pointee.lastSID = sid
    state.pointee.context = 0
    return true
  }

  @inline(__always)
  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    let state = slots + slot
    recentTime = time
    state.pointee.phaseIndex = Int32(truncatingIfNeeded: phaseIndex)
    // A retry is the same request: the worker may know its id.
    if attempt == 1 {
      state.pointee.number = ids.pointee.nextNumber
      state.pointee.requestID = ids.pointee.next(timestampMilliseconds: unixMilliseconds)
    }
    state.pointee.isWaiting = true
    fates.began(state.pointee.number)
    links[place(ofSlot: slot)].publish(slot: slot, of: self)
    unflushed &+= 1
    if unflushed >= Self.mostUnflushed { flush() }
  }

  /// The connection of a slot.
  @inline(__always)
  func place(ofSlot slot: Int) -> Int { linkCount == 1 ? 0 : slot % linkCount }

  @inline(__always)
  private var unixMilliseconds: UInt64 { (recentTime &+ unixOffset) / 1_000_000 }

  /// The packed request of what a slot's session does now.
  @inline(__always)
  func request(ofSlot slot: Int) -> PackedRequest {
    contexts.request(Int(slots[slot].context), phaseIndex: Int(slots[slot].phaseIndex))
  }

  /// Makes a packed request, or a copy of it, the slot's.
  @inline(__always)
  func patch(_ request: PackedRequest, slot: Int, at place: UnsafeMutableRawPointer) {
    let state = slots + slot
    request.patch(
      place, requestID: state.pointee.requestID, sessionID: state.pointee.lastSID,
      timestampMilliseconds: unixMilliseconds)
  }

  /// The place of the next request in the order of publishing.
  @inline(__always)
  func nextSequence() -> UInt64 {
    sequence &+= 1
    return sequence
  }

  @inline(__always)
  func flush() {
    unflushed = 0
    for place in 0..<linkCount { links[place].flush(self) }
  }

  func abandon(slot: Int) {
    let state = slots + slot
    guard state.pointee.isWaiting else { return }
    state.pointee.isWaiting = false
    fates.timedOut(state.pointee.number)
    links[place(ofSlot: slot)].resolved(slot, self)
  }

  @inline(__always)
  func finish(slot: Int, verify: Bool) -> Bool {
    if !verify || contexts.isRight(Int(slots[slot].context)) { return true }
    noteDifference(slot)
    return false
  }

  @inline(__always)
  func poll(until time: UInt64) {
    flush()
    Link.wait(until: time, self)
    flush()
  }

  /// How long to sleep for a deadline; 0 is not at all.
  @inline(__always)
  func sleepNanoseconds(until time: UInt64) -> UInt64 {
    let now = MonotonicClock.nanoseconds
    return Nap.end(before: time, now: now, margin: wakeMargin).map { $0 &- now } ?? 0
  }

  /// Waits for the sockets of all connections.
  @inline(__always)
  func waitForSockets(_ wait: UInt64) {
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { places in
      withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { events in
        let count = kernel_epoll_wait_ns(epoll, places.baseAddress, events.baseAddress, 64, wait)
        guard count > 0 else { return }
        for ready in 0..<Int(count) { links[Int(places[ready])].handle(events[ready], self) }
      }
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
  /// Place of the attempt in the order of publishing, or where its bytes end in what was written.
  var sequence: UInt64 = 0
  /// The last part of its reply subject: 8 digits, as they lie in memory.
  let tokenText: UInt64
  /// A phase is under way: its answer is waited for.
  var isWaiting = false
  /// It is in its connection's list of requests that found no room.
  var isPostponed = false

  init(lastSID: UInt32, token: UInt32) {
    self.lastSID = lastSID
    tokenText = ReplySubject.text(of: token)
  }
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
