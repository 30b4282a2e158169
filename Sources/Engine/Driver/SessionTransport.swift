import Nylon
import Scenario

/// The outcome of a phase, as a transport reports it to the driver.
enum PhaseEnd: UInt8, Sendable {
  /// NEXT, or the end of a stream: the session goes on.
  case next
  /// END: the plugin's response is the answer.
  case end
  /// The handler reported an error.
  case handlerError
  /// The broker reported no responders.
  case noResponders
  /// The answer violated the protocol.
  case malformed
}

/// The end of a phase in a slot.
struct PhaseCompletion: Sendable {
  var slot: Int32
  var end: PhaseEnd
  /// Monotonic time at which it ended, nanoseconds.
  var doneAt: UInt64
}

/// A ring buffer of completions, from a transport to the driver on the same thread.
///
/// A slot has at most one phase in progress, so a ring with one place per slot never overflows. A view:
/// copies share the same ring, which lives until `deallocate`.
struct CompletionRing {
  let places: UnsafeMutablePointer<PhaseCompletion>
  /// The read and write positions. In raw memory, which avoids exclusivity checks.
  let ends: UnsafeMutablePointer<(head: Int, tail: Int)>
  let mask: Int

  /// Creates a ring for at least `slots` completions.
  init(slots: Int) {
    mask = 1 << (Int.bitWidth - max(1, slots - 1).leadingZeroBitCount) - 1
    places = .allocate(capacity: mask + 1)
    places.initialize(repeating: PhaseCompletion(slot: 0, end: .next, doneAt: 0), count: mask + 1)
    ends = .allocate(capacity: 1)
    ends.initialize(to: (0, 0))
  }

  /// Frees the memory; no view may be used afterwards.
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

/// A transport to a plugin, as used by one load thread. All calls come from that thread.
///
/// A slot holds one session at a time. The driver opens a session in a slot, starts its phases one after the
/// other, and finishes it. Phase ends arrive through `completions`, at once or during `poll`. Nothing here
/// may allocate once the load runs.
protocol SessionTransport: AnyObject, SendableMetatype {
  /// The ring that receives phase ends.
  var completions: CompletionRing { get }
  /// Whether a phase that timed out still runs in this process, so that its session must end.
  var isInProcess: Bool { get }
  /// Whether `now` uses another clock than `MonotonicClock`, as in a simulation. The driver reads
  /// `MonotonicClock` directly: a call through the protocol would cost a tenth of the read.
  static var hasOwnClock: Bool { get }
  /// Whether each phase request has an id for the ledger.
  static var hasRequestIDs: Bool { get }
  /// The id of the slot's last request; called only if `hasRequestIDs`.
  func requestID(slot: Int) -> RequestWords
  /// The current time of the transport's own clock, nanoseconds; called only if `hasOwnClock`.
  func now() -> UInt64
  /// Opens a new session in a slot; false when the plugin refuses it.
  func open(slot: Int, at time: UInt64) -> Bool
  /// Starts a phase of the slot's session. `attempt` is 1 unless it is a retry; `time` is now.
  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64)
  /// Gives up the current phase; any later answer to it counts as late.
  func abandon(slot: Int)
  /// Ends the slot's session. With `verify`, returns whether the response is the expected one.
  func finish(slot: Int, verify: Bool) -> Bool
  /// Waits for completions, at most until `time`; may return early.
  func poll(until time: UInt64)
  /// The end times of all parts but the last, in the order of `partNames`, of the phase that was just
  /// answered in a slot; nil when unknown. Called only in a decomposed load.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>?
  /// Adds counts kept elsewhere to the record; the last call of a load.
  func tally()
  /// The first evidence of each kind of failure; read after the load.
  var evidence: FailureEvidence { get }
  /// Calls `driver.run()`. Implemented where the transport's type is known, so that the compiler specializes
  /// the driver for it.
  static func run(_ driver: LoadDriver<Self>)
}

extension SessionTransport {
  static var hasOwnClock: Bool { false }
  static var hasRequestIDs: Bool { false }
  func requestID(slot: Int) -> RequestWords { RequestWords(high: 0, low: 0) }
  func now() -> UInt64 { MonotonicClock.nanoseconds }
  func tally() {}
}

/// Assigns session ids from which the slot can be computed without a lock.
///
/// The low bits are the slot's index among the slots of all threads; the high bits count the slot's sessions.
/// No id repeats within a load, because a plugin may keep state of an old session.
struct SessionNumbering: Sendable {
  let slotBits: UInt32
  /// The bits of a session id that identify the slot.
  let slotMask: UInt32

  /// Creates the numbering for the slots of all threads.
  init(slots: Int) {
    slotBits = UInt32(Int.bitWidth - max(0, slots - 1).leadingZeroBitCount)
    slotMask = (1 << slotBits) &- 1
  }

  /// Ids reserved per second: more than a load over NATS uses in that time.
  private static let idsPerSecond: UInt64 = 1 << 18
  /// The minimum number of ids available to a load.
  private static let leastIDs: UInt64 = 1 << 30

  /// The id after which those of a load that begins at a time start, so that consecutive loads share no id.
  /// Ids have 32 bits, so they repeat after three hours.
  static func lastID(atUnixNanoseconds time: UInt64) -> UInt32 {
    let steps = time / 1_000_000 * idsPerSecond / 1000
    return UInt32(steps % (UInt64(UInt32.max) - leastIDs))
  }

  /// The slot of a session.
  @inline(__always)
  func slot(of sid: UInt32) -> Int { Int(sid & slotMask) }

  /// The value after which a slot's ids start, so that all are greater than `sid`; 0 allows all ids.
  func first(ofSlot slot: Int, after sid: UInt32) -> UInt32 {
    (sid >> slotBits) << slotBits | UInt32(truncatingIfNeeded: slot)
  }

  /// The id after `sid` in the same slot; nil when the ids are used up.
  @inline(__always)
  func next(after sid: UInt32) -> UInt32? {
    let (next, overflow) = sid.addingReportingOverflow(1 << slotBits)
    return overflow ? nil : next
  }
}

extension TransportSpec {
  /// The five parts of a phase's service time on this transport, in chronological order.
  ///
  /// FFI: until `event_stream` was called (in the first phase, this includes `register_session_stream`);
  /// inside it, until it returned or the callback that ended the phase arrived; from its return until that
  /// callback; from the callback until `event_stream` returned; the host's own queueing and handling. NATS:
  /// until the worker read the request from its socket; until the handler began; the handler; until the reply
  /// was packed; until the host had read it.
  var partNames: [String] {
    switch self {
    case .ffi: ["before_call", "in_event_stream", "until_callback", "until_return", "host"]
    case .nats: ["to_worker", "worker_wait", "handler", "worker_reply", "to_host"]
    }
  }
}
