import Nylon

/// How much room a load has for notes of the phase requests that it sends.
package struct LedgerLayout: Codable, Sendable, Equatable {
  package var threads: Int
  package var entriesPerThread: Int

  /// Bytes before the first thread's block, and before the entries of each block.
  fileprivate static let headBytes = 64
  /// Entries of all threads together, at most: 96 MiB.
  static let mostEntries = 1 << 22
  /// An open load's arrivals are random: so many standard deviations more than on average are foreseen.
  private static let deviations = 8.0

  package init(threads: Int, entriesPerThread: Int) {
    (self.threads, self.entriesPerThread) = (threads, entriesPerThread)
  }

  /// Room for all phase requests of an open load, and of a closed one, of which nobody knows the rate, as much as there
  /// may be.
  package init(_ order: LoadOrder) {
    threads = order.effectiveThreads
    let seconds = order.warmupSeconds + order.measureSeconds
    let rate: Double? =
      switch order.load {
      case .closed: nil
      case .open(let rate, _): rate
      case .ramp(let ramp): ramp.toPerSecond
      }
    let most = Self.mostEntries / threads
    guard let rate else {
      entriesPerThread = most
      return
    }
    let sessions = rate * seconds / Double(threads)
    let foreseen =
      (sessions + Self.deviations * sessions.squareRoot() + 64) * Double(order.target.phases.count)
    entriesPerThread = Int(min(foreseen, Double(most)))
  }

  fileprivate var blockBytes: Int { Self.headBytes + entriesPerThread * MemoryLayout<LedgerEntry>.stride }
  package var byteCount: Int { Self.headBytes + threads * blockBytes }
}

/// A phase request that the host sent, as the ledger of its load holds it.
package struct LedgerEntry: Equatable, Sendable, BitwiseCopyable {
  package var id: RequestWords
  /// The raw value of a `Counter`: how it ended, and `sent` as long as that is not known.
  var endNumber: UInt8
  /// The phase's number.
  package var phase: UInt8
  /// Times that it was sent.
  package var attempts: UInt16
  /// Whether its session was wanted within the measured time.
  package var isMeasured: Bool

  package init(
    id: RequestWords, phase: Phase, isMeasured: Bool, end: Counter = .sent, attempts: UInt16 = 1
  ) {
    (self.id, self.phase, self.isMeasured, self.attempts) = (id, phase.rawValue, isMeasured, attempts)
    endNumber = UInt8(end.rawValue)
  }

  package var end: Counter {
    get { Counter(rawValue: Int(endNumber)) ?? .sent }
    set { endNumber = UInt8(newValue.rawValue) }
  }
}

/// A view on the memory of `LedgerLayout`, which a load process and its orchestrator share, so that what was sent is
/// known also when the load process dies.
package struct LedgerArea: @unchecked Sendable {
  // @unchecked: memory that outlives every view; each word has one writer, and is read after the load.
  package let layout: LedgerLayout
  private let memory: UnsafeMutableRawPointer

  /// A view on `layout.byteCount` zeroed bytes, aligned to 8.
  package init(layout: LedgerLayout, memory: UnsafeMutableRawPointer) {
    (self.layout, self.memory) = (layout, memory)
  }

  /// When the first request could be sent, monotonic nanoseconds; 0 before the load.
  package var began: UInt64 {
    get { memory.load(as: UInt64.self) }
    nonmutating set { memory.storeBytes(of: newValue, as: UInt64.self) }
  }

  /// When the load was over and all ends were noted; 0 until then, and when the load process died.
  package var ended: UInt64 {
    get { memory.load(fromByteOffset: 8, as: UInt64.self) }
    nonmutating set { memory.storeBytes(of: newValue, toByteOffset: 8, as: UInt64.self) }
  }

  private func block(_ thread: Int) -> UnsafeMutableRawPointer {
    memory + LedgerLayout.headBytes + thread * layout.blockBytes
  }

  /// The part of a load thread with so many slots. To be deallocated.
  func thread(_ thread: Int, slots: Int) -> ThreadLedger {
    ThreadLedger(block: block(thread), capacity: layout.entriesPerThread, slots: slots)
  }

  /// What all threads noted, in no order.
  package var entries: [LedgerEntry] {
    (0..<layout.threads).flatMap { thread in
      let block = block(thread)
      let count = min(Int(clamping: block.load(as: UInt64.self)), layout.entriesPerThread)
      return UnsafeBufferPointer(start: ThreadLedger.entries(of: block), count: count)
    }
  }

  /// Requests that found no room.
  package var unnoted: UInt64 {
    (0..<layout.threads).reduce(0) { $0 &+ block($1).load(fromByteOffset: 8, as: UInt64.self) }
  }
}

/// A load thread's notes. Noting allocates nothing.
///
/// The way of a good answer does not pass here: that a request was answered well is noted when its slot sends the next
/// one, or when the load is over.
struct ThreadLedger: @unchecked Sendable {
  // @unchecked: one thread writes.
  private let block: UnsafeMutableRawPointer
  private let entries: UnsafeMutablePointer<LedgerEntry>
  private let capacity: Int
  /// The entry of each slot's request whose end is still to be noted, -1 without one.
  private let places: UnsafeMutablePointer<Int32>
  private let slots: Int

  fileprivate init(block: UnsafeMutableRawPointer, capacity: Int, slots: Int) {
    (self.block, self.capacity, self.slots) = (block, capacity, slots)
    entries = Self.entries(of: block)
    places = .allocate(capacity: slots)
    places.initialize(repeating: -1, count: slots)
  }

  fileprivate static func entries(of block: UnsafeMutableRawPointer) -> UnsafeMutablePointer<LedgerEntry> {
    (block + LedgerLayout.headBytes).assumingMemoryBound(to: LedgerEntry.self)
  }

  func deallocate() { places.deallocate() }

  private func count(at offset: Int) -> UnsafeMutablePointer<UInt64> {
    (block + offset).assumingMemoryBound(to: UInt64.self)
  }

  /// A slot sends a request.
  func begin(slot: Int, _ id: RequestWords, phase: Phase, isMeasured: Bool) {
    settle(slot)
    let place = Int(count(at: 0).pointee)
    guard place < capacity else {
      count(at: 8).pointee += 1
      return
    }
    entries[place] = LedgerEntry(id: id, phase: phase, isMeasured: isMeasured)
    count(at: 0).pointee += 1
    places[slot] = Int32(place)
  }

  /// The request of a slot was sent once more.
  func retry(slot: Int, attempt: Int) {
    if places[slot] >= 0 { entries[Int(places[slot])].attempts = UInt16(clamping: attempt) }
  }

  /// The request of a slot ended, and not well.
  func fail(slot: Int, _ end: Counter, isMeasured: Bool) {
    guard places[slot] >= 0 else { return }
    entries[Int(places[slot])].end = end
    entries[Int(places[slot])].isMeasured = isMeasured
    places[slot] = -1
  }

  /// The slot's last request, if it did not fail, was answered well: a slot goes on only then.
  func settle(_ slot: Int) {
    guard places[slot] >= 0 else { return }
    entries[Int(places[slot])].end = .ok
    places[slot] = -1
  }

  /// The load is over.
  func settleAll() { for slot in 0..<slots { settle(slot) } }
}

/// What became of the phase requests of a load, by what the host says and by what the handlers saw: each request has an
/// id, and a retry keeps it.
package struct Accounting: Codable, Sendable, Equatable {
  /// Why nothing is known, or not of all requests; nil when the accounting is whole.
  package var gap: String?
  /// The requests that the host noted, of the warm-up too.
  package var requests: [AccountedRequests] = []
  /// Requests that the host sent and had no room to note.
  package var unnoted: UInt64 = 0
  /// Requests that handlers saw: their notes.
  package var handled: UInt64 = 0
  /// Of these, those of requests that the host did not send, while the load ran.
  package var unknown: UInt64 = 0
  /// Of these, those before and after the load, by which workers are asked what they speak.
  package var outside: UInt64 = 0

  package init(gap: String? = nil) { self.gap = gap }
}

/// Phase requests that ended in the same way, by how often handlers saw them.
package struct AccountedRequests: Codable, Sendable, Equatable {
  /// The phase.
  package var phase: String
  /// Whether their sessions were wanted within the measured time.
  package var measured: Bool
  /// How the host says that they ended: `ok`, `handlerErrors`, `timeouts` or `lost`; `sent` where the load process died
  /// before it knew.
  package var end: String
  /// Requests that no handler saw.
  package var never: UInt64 = 0
  /// Requests that a handler saw once.
  package var once: UInt64 = 0
  /// Requests that handlers saw twice.
  package var twice: UInt64 = 0
  /// Requests that handlers saw more often.
  package var more: UInt64 = 0
  /// Times that handlers saw these requests.
  package var handled: UInt64 = 0
  /// Attempts after the first.
  package var retries: UInt64 = 0

  package init(phase: String, measured: Bool, end: Counter) {
    (self.phase, self.measured, self.end) = (phase, measured, "\(end)")
  }

  /// Adds a request that handlers saw so many times.
  package mutating func add(seen: UInt32, retries: UInt64) {
    switch seen {
    case 0: never += 1
    case 1: once += 1
    case 2: twice += 1
    default: more += 1
    }
    handled += UInt64(seen)
    self.retries += retries
  }

  package var count: UInt64 { never &+ once &+ twice &+ more }
}
