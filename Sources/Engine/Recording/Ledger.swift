import Nylon

/// The capacity of a load's ledger of phase requests.
package struct LedgerLayout: Codable, Sendable, Equatable {
  package var threads: Int
  package var entriesPerThread: Int

  /// Bytes before the first thread's block, and before the entries of each block.
  fileprivate static let headBytes = 64
  /// The maximum number of entries of all threads together: 96 MiB.
  static let mostEntries = 1 << 22
  /// Random arrivals of an open load: the capacity allows for this many standard deviations above the mean.
  private static let deviations = 8.0

  package init(threads: Int, entriesPerThread: Int) {
    (self.threads, self.entriesPerThread) = (threads, entriesPerThread)
  }

  /// Room for all phase requests of an open load; for a closed one, whose rate is unknown, the maximum.
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

/// A phase request that the host sent, as recorded in the ledger.
package struct LedgerEntry: Equatable, Sendable, BitwiseCopyable {
  package var id: RequestWords
  /// The raw value of a `Counter`: the request's outcome, or `sent` until it is known.
  var endNumber: UInt8
  /// The phase's number.
  package var phase: UInt8
  /// The number of times that the request was sent.
  package var attempts: UInt16
  /// Whether the session's intended time was within the measured time.
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

/// A view of the memory of a `LedgerLayout`, which a load process and its orchestrator share, so that sent
/// requests are known even when the load process dies.
package struct LedgerArea: @unchecked Sendable {
  // @unchecked: memory that outlives every view; each word has one writer and is read after the load.
  package let layout: LedgerLayout
  private let memory: UnsafeMutableRawPointer

  /// A view of `layout.byteCount` zeroed bytes, aligned to 8.
  package init(layout: LedgerLayout, memory: UnsafeMutableRawPointer) {
    (self.layout, self.memory) = (layout, memory)
  }

  /// The earliest time at which a request could be sent, monotonic nanoseconds; 0 before the load.
  package var began: UInt64 {
    get { memory.load(as: UInt64.self) }
    nonmutating set { memory.storeBytes(of: newValue, as: UInt64.self) }
  }

  /// When the load was over and all outcomes were recorded; 0 until then, and when the load process died.
  package var ended: UInt64 {
    get { memory.load(fromByteOffset: 8, as: UInt64.self) }
    nonmutating set { memory.storeBytes(of: newValue, toByteOffset: 8, as: UInt64.self) }
  }

  private func block(_ thread: Int) -> UnsafeMutableRawPointer {
    memory + LedgerLayout.headBytes + thread * layout.blockBytes
  }

  /// The ledger of a load thread with `slots` slots. The caller deallocates it.
  func thread(_ thread: Int, slots: Int) -> ThreadLedger {
    ThreadLedger(block: block(thread), capacity: layout.entriesPerThread, slots: slots)
  }

  /// The entries of all threads, in no particular order.
  package var entries: [LedgerEntry] {
    (0..<layout.threads).flatMap { thread in
      let block = block(thread)
      let count = min(Int(clamping: block.load(as: UInt64.self)), layout.entriesPerThread)
      return UnsafeBufferPointer(start: ThreadLedger.entries(of: block), count: count)
    }
  }

  /// Requests that found no room in the ledger.
  package var unnoted: UInt64 {
    (0..<layout.threads).reduce(0) { $0 &+ block($1).load(fromByteOffset: 8, as: UInt64.self) }
  }
}

/// A load thread's ledger. Recording does not allocate.
///
/// A successful answer does not touch the ledger: success is recorded when the slot sends its next request,
/// or when the load is over.
struct ThreadLedger: @unchecked Sendable {
  // @unchecked: one thread writes.
  private let block: UnsafeMutableRawPointer
  private let entries: UnsafeMutablePointer<LedgerEntry>
  private let capacity: Int
  /// The index of each slot's unsettled entry; -1 without one.
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

  /// Records that a slot sends a request.
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

  /// Records that a slot's request was sent again.
  func retry(slot: Int, attempt: Int) {
    if places[slot] >= 0 { entries[Int(places[slot])].attempts = UInt16(clamping: attempt) }
  }

  /// Records that a slot's request failed.
  func fail(slot: Int, _ end: Counter, isMeasured: Bool) {
    guard places[slot] >= 0 else { return }
    entries[Int(places[slot])].end = end
    entries[Int(places[slot])].isMeasured = isMeasured
    places[slot] = -1
  }

  /// Marks the slot's last request as successful if it did not fail: a slot sends the next one only then.
  func settle(_ slot: Int) {
    guard places[slot] >= 0 else { return }
    entries[Int(places[slot])].end = .ok
    places[slot] = -1
  }

  /// Settles all slots when the load is over.
  func settleAll() { for slot in 0..<slots { settle(slot) } }
}

/// The outcomes of a load's phase requests, as reported by the host and as seen by the handlers. Each request
/// has an id, which a retry keeps.
package struct Accounting: Codable, Sendable, Equatable {
  /// Why nothing is known, or not of all requests; nil when the accounting is complete.
  package var gap: String?
  /// The requests that the host recorded, including those of the warm-up.
  package var requests: [AccountedRequests] = []
  /// Requests that the host sent but had no room to record.
  package var unnoted: UInt64 = 0
  /// Handlers' records: one for each time that a handler saw a request.
  package var handled: UInt64 = 0
  /// Of these, records of requests that the host did not send, made while the load ran.
  package var unknown: UInt64 = 0
  /// Of these, records made before and after the load, when workers are asked for their dialect.
  package var outside: UInt64 = 0

  package init(gap: String? = nil) { self.gap = gap }
}

/// Phase requests with the same outcome, by how often handlers saw them.
package struct AccountedRequests: Codable, Sendable, Equatable {
  /// The phase.
  package var phase: String
  /// Whether the sessions' intended times were within the measured time.
  package var measured: Bool
  /// The outcome that the host recorded: `ok`, `handlerErrors`, `timeouts` or `lost`; `sent` when the load
  /// process died before it was known.
  package var end: String
  /// Requests that no handler saw.
  package var never: UInt64 = 0
  /// Requests that a handler saw once.
  package var once: UInt64 = 0
  /// Requests that handlers saw twice.
  package var twice: UInt64 = 0
  /// Requests that handlers saw more than twice.
  package var more: UInt64 = 0
  /// The number of times that handlers saw these requests.
  package var handled: UInt64 = 0
  /// Attempts after the first.
  package var retries: UInt64 = 0

  package init(phase: String, measured: Bool, end: Counter) {
    (self.phase, self.measured, self.end) = (phase, measured, "\(end)")
  }

  /// Adds a request that handlers saw `seen` times.
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
