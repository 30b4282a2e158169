import Nylon
import Scenario

/// How a phase ended, as a transport tells the driver.
enum PhaseEnd: UInt8, Sendable {
  /// NEXT, or the end of a stream: the session goes on.
  case next
  /// END: the plugin's response is the answer.
  case end
  /// The handler said that it failed.
  case handlerError
  /// The broker found no worker.
  case noResponders
  /// The answer broke the protocol.
  case malformed
}

/// The end of a phase in a slot.
struct PhaseCompletion: Sendable {
  /// The slot that the session is in.
  var slot: Int32
  var end: PhaseEnd
  /// Monotonic time at which it ended, nanoseconds.
  var doneAt: UInt64
}

/// Completions on their way from a transport to the driver of the same thread.
///
/// A slot has at most one phase under way, so a ring of as many places as there are slots never
/// overflows. A view: copies share the same ring, which lives until `deallocate`.
struct CompletionRing {
  let places: UnsafeMutablePointer<PhaseCompletion>
  /// Places taken and places filled so far: in raw memory, where no access is checked twice.
  let ends: UnsafeMutablePointer<(head: Int, tail: Int)>
  let mask: Int

  /// A ring for at least `slots` completions.
  init(slots: Int) {
    mask = 1 << (Int.bitWidth - max(1, slots - 1).leadingZeroBitCount) - 1
    places = .allocate(capacity: mask + 1)
    places.initialize(repeating: PhaseCompletion(slot: 0, end: .next, doneAt: 0), count: mask + 1)
    ends = .allocate(capacity: 1)
    ends.initialize(to: (0, 0))
  }

  /// Gives the memory back; no view may be used after.
  func deallocate() {
    places.deallocate()
    ends.deallocate()
  }

  var isEmpty: Bool { ends.pointee.head == ends.pointee.tail }

  var count: Int { ends.pointee.tail &- ends.pointee.head }

  @inline(__always)
  func push(_ completion: PhaseCompletion) {
    places[ends.pointee.tail & mask] = completion
    ends.pointee.tail &+= 1
  }

  @inline(__always)
  func pop() -> PhaseCompletion? {
    let head = ends.pointee.head
    guard head != ends.pointee.tail else { return nil }
    ends.pointee.head = head &+ 1
    return places[head & mask]
  }
}

/// A way to a plugin, seen from one load thread. All calls come from that thread.
///
/// A slot is a place for one session at a time. The driver opens a session in a slot, starts its
/// phases one after the other, and finishes it. Ends of phases come through `completions`, at
/// once or from `poll`. Nothing here may allocate once the load runs.
protocol SessionTransport: AnyObject, SendableMetatype {
  /// Where ends of phases are put.
  var completions: CompletionRing { get }
  /// Whether a phase that timed out still runs in this process, so that its session is over.
  var isInProcess: Bool { get }
  /// Whether `now` is another clock than `MonotonicClock`, as a simulation's is. The driver reads the
  /// usual one by itself: a call through the protocol would cost a tenth of the read.
  static var hasOwnClock: Bool { get }
  /// Whether each phase request has an id, which a ledger may note.
  static var hasRequestIDs: Bool { get }
  /// The id of the request that a slot sent last; asked only where there are ids.
  func requestID(slot: Int) -> RequestWords
  /// Now by the transport's own clock, nanoseconds; asked only where it has one.
  func now() -> UInt64
  /// Opens a new session in a slot; false when the plugin refuses it.
  func open(slot: Int, at time: UInt64) -> Bool
  /// Starts a phase of the slot's session; `attempt` is 1 unless it is a retry. `time` is now.
  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64)
  /// The phase under way is given up: what still comes for it is late.
  func abandon(slot: Int)
  /// Ends the slot's session; `verify` asks whether the response is what the scenario wants.
  func finish(slot: Int, verify: Bool) -> Bool
  /// Waits for completions, at most until that time; returns early whenever it likes.
  func poll(until time: UInt64)
  /// When each part but the last ended of the phase that has just been answered in a slot, in the order of
  /// `partNames`; nil when it is not known. Asked in a decomposed load only.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>?
  /// Brings into the record what was counted elsewhere; the last call of a load.
  func tally()
  /// What was seen first of each way to fail; asked after the load.
  var evidence: FailureEvidence { get }
  /// Runs a driver of this transport: `driver.run()`, written where the compiler knows which transport it is,
  /// and so makes one piece of the driver and the transport.
  static func run(_ driver: LoadDriver<Self>)
}

extension SessionTransport {
  static var hasOwnClock: Bool { false }
  static var hasRequestIDs: Bool { false }
  func requestID(slot: Int) -> RequestWords { RequestWords(high: 0, low: 0) }
  func now() -> UInt64 { MonotonicClock.nanoseconds }
  func tally() {}
}

/// Numbers sessions so that the slot follows from the number alone, without a lock.
///
/// The low bits are the slot's place among all threads' slots, the rest counts the sessions that
/// the slot has had. No id comes twice in a load: a plugin may keep what it knows of an old one.
struct SessionNumbering: Sendable {
  let slotBits: UInt32
  /// The bits of a session's id that are its slot.
  let slotMask: UInt32

  /// Numbers for so many slots of all threads together.
  init(slots: Int) {
    slotBits = UInt32(Int.bitWidth - max(0, slots - 1).leadingZeroBitCount)
    slotMask = (1 << slotBits) &- 1
  }

  /// Session ids that pass with each second: more than a load over NATS opens in that time.
  private static let idsPerSecond: UInt64 = 1 << 18
  /// Ids that a load has at least, before the numbers are used up.
  private static let leastIDs: UInt64 = 1 << 30

  /// What the ids of a load that begins at a time start after, so that loads one after the other have no id
  /// in common. Ids have 32 bits, so they come again after three hours.
  static func lastID(atUnixNanoseconds time: UInt64) -> UInt32 {
    let steps = time / 1_000_000 * idsPerSecond / 1000
    return UInt32(steps % (UInt64(UInt32.max) - leastIDs))
  }

  /// The slot of a session.
  @inline(__always)
  func slot(of sid: UInt32) -> Int { Int(sid & slotMask) }

  /// What a slot's numbers start after so that all are greater than `sid`, 0 for all there are.
  func first(ofSlot slot: Int, after sid: UInt32) -> UInt32 {
    (sid >> slotBits) << slotBits | UInt32(truncatingIfNeeded: slot)
  }

  /// The id after `sid` in the same slot; nil when the numbers are used up.
  @inline(__always)
  func next(after sid: UInt32) -> UInt32? {
    let (next, overflow) = sid.addingReportingOverflow(1 << slotBits)
    return overflow ? nil : next
  }
}

extension TransportSpec {
  /// The five parts that the service time of a phase has on this way, in their order in time.
  ///
  /// FFI: until `event_stream` was called (of the first phase: with `register_session_stream`); inside it,
  /// until it returned or the callback came that ended the phase; from its return until that callback;
  /// from the callback until `event_stream` returned; the host's own queueing and handling.
  /// NATS: until the worker read the request from its socket; until the handler began; the handler; until the reply
  /// was packed; until the host had read it.
  var partNames: [String] {
    switch self {
    case .ffi: ["before_call", "in_event_stream", "until_callback", "until_return", "host"]
    case .nats: ["to_worker", "worker_wait", "handler", "worker_reply", "to_host"]
    }
  }
}
