/// How a phase ended, as a transport tells the driver.
package enum PhaseEnd: UInt8, Sendable {
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
package struct PhaseCompletion: Sendable {
  /// The slot that the session is in.
  package var slot: Int32
  /// How it ended.
  package var end: PhaseEnd
  /// Monotonic time at which it ended, nanoseconds.
  package var doneAt: UInt64

  /// A completion.
  package init(slot: Int32, end: PhaseEnd, doneAt: UInt64) {
    self.slot = slot
    self.end = end
    self.doneAt = doneAt
  }
}

/// Completions on their way from a transport to the driver of the same thread.
///
/// A slot has at most one phase under way, so a ring of as many places as there are slots never
/// overflows. A view: copies share the same ring, which lives until `deallocate`.
package struct CompletionRing {
  let places: UnsafeMutablePointer<PhaseCompletion>
  /// Places taken and places filled so far: in raw memory, where no access is checked twice.
  let ends: UnsafeMutablePointer<(head: Int, tail: Int)>
  let mask: Int

  /// A ring for at least `slots` completions.
  package init(slots: Int) {
    var capacity = 2
    while capacity < slots { capacity *= 2 }
    mask = capacity - 1
    places = .allocate(capacity: capacity)
    places.initialize(repeating: PhaseCompletion(slot: 0, end: .next, doneAt: 0), count: capacity)
    ends = .allocate(capacity: 1)
    ends.initialize(to: (0, 0))
  }

  /// Gives the memory back; no view may be used after.
  package func deallocate() {
    places.deallocate()
    ends.deallocate()
  }

  /// Whether nothing waits.
  package var isEmpty: Bool { ends.pointee.head == ends.pointee.tail }

  /// How many wait.
  package var count: Int { ends.pointee.tail &- ends.pointee.head }

  /// Adds a completion.
  @inline(__always)
  package func push(_ completion: PhaseCompletion) {
    places[ends.pointee.tail & mask] = completion
    ends.pointee.tail &+= 1
  }

  /// Takes the oldest completion.
  @inline(__always)
  package func pop() -> PhaseCompletion? {
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
package protocol SessionTransport: AnyObject, SendableMetatype {
  /// Where ends of phases are put.
  var completions: CompletionRing { get }
  /// Whether a phase that timed out still runs in this process, so that its session is over.
  var isInProcess: Bool { get }
  /// How long before a deadline `poll` stops sleeping and stays awake, nanoseconds: about as long
  /// as this machine's timers are late.
  var wakeMargin: UInt64 { get set }
  /// Whether `now` is another clock than `MonotonicClock`, as a simulation's is. The driver reads the
  /// usual one by itself: a call through the protocol would cost a tenth of the read.
  static var hasOwnClock: Bool { get }
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
  /// Cuts the time of the phase that has just been answered in a slot into the parts of `partNames`, which
  /// follow on each other from `sent` to `done`; asked in a decomposed load only.
  func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit
  /// Brings into the record what was counted elsewhere; the last call of a load.
  func tally()
  /// What was seen first of each way to fail; asked after the load.
  var evidence: FailureEvidence { get }
  /// Runs a driver of this transport: `driver.run()`, written where the compiler knows which transport it is,
  /// and so makes one piece of the driver and the transport.
  static func run(_ driver: LoadDriver<Self>)
}

extension SessionTransport {
  /// Runs it, each call going through the protocol.
  package static func run(_ driver: LoadDriver<Self>) { driver.run() }
  /// It does not.
  package static var hasOwnClock: Bool { false }
  /// The usual clock.
  package func now() -> UInt64 { MonotonicClock.nanoseconds }
  /// Nothing is counted elsewhere.
  package func tally() {}
  /// Nothing was seen.
  package var evidence: FailureEvidence { FailureEvidence() }
}
