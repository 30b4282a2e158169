import Synchronization

/// What a load records, laid out in memory that the load process and the orchestrator share.
///
/// The load threads write, one block each; the orchestrator reads it for the progress line,
/// and when the load process died, so that nothing measured is lost. Words of 8 bytes:
/// a header, then a block for each thread: counters of each scope, then histograms.
public struct RecordingLayout: Codable, Sendable, Equatable {
  /// Load threads.
  public var threads: Int
  /// `request`, then each phase.
  public var scopes: [String]
  /// Equal intervals of the measured time; one more holds what ended in the drain.
  public var windows: Int
  /// Parts that the time of each phase is cut into; none as a rule.
  public var parts: [String]

  /// A layout.
  public init(threads: Int, scopes: [String], windows: Int, parts: [String] = []) {
    self.threads = threads
    self.scopes = scopes
    self.windows = windows
    self.parts = parts
  }

  /// Words of the header.
  public static let headerWords = 64
  /// Words of counters of one scope.
  static let counterWords = 32
  /// Histograms of one thread: request's response per window, its service and lag, and
  /// three for each phase.
  var plainHistogramsPerThread: Int { windows + 1 + 2 + 3 * (scopes.count - 1) }
  /// And one for each part of each phase.
  var histogramsPerThread: Int { plainHistogramsPerThread + parts.count * (scopes.count - 1) }
  /// Words of one thread's block.
  var wordsPerThread: Int {
    Self.counterWords * scopes.count + RawHistogram.wordCount * histogramsPerThread
  }
  /// Bytes in all.
  public var byteCount: Int { 8 * (Self.headerWords + threads * wordsPerThread) }
}

/// Where a load stands.
public enum LoadState: UInt64, Sendable {
  /// Connecting, loading the plugin.
  case preparing = 0
  /// Under load, not recorded.
  case warmup = 1
  /// Under load, recorded.
  case measuring = 2
  /// Waiting for answers.
  case draining = 3
  /// All recorded.
  case done = 4
}

/// A view on the shared memory of `RecordingLayout`.
public struct RecordingArea: @unchecked Sendable {
  // @unchecked: memory that outlives every view; each word has one writer.

  /// How the memory is laid out.
  public let layout: RecordingLayout
  private let words: UnsafeMutablePointer<UInt64>

  /// A view on `layout.byteCount` zeroed bytes, aligned to 8.
  public init(layout: RecordingLayout, memory: UnsafeMutableRawPointer) {
    self.layout = layout
    words = memory.assumingMemoryBound(to: UInt64.self)
  }

  /// Where the load stands.
  public var state: LoadState {
    get { LoadState(rawValue: header(0)) ?? .preparing }
    nonmutating set { setHeader(0, newValue.rawValue) }
  }

  /// Set by the orchestrator to end the load early.
  public var stopRequested: Bool {
    get { header(1) != 0 }
    nonmutating set { setHeader(1, newValue ? 1 : 0) }
  }

  /// Monotonic time at which the measured time starts, nanoseconds; 0 until known.
  public var measureStart: UInt64 {
    get { header(2) }
    nonmutating set { setHeader(2, newValue) }
  }

  /// Monotonic time at which it ends; earlier than planned after an interruption.
  public var measureEnd: UInt64 {
    get { header(3) }
    nonmutating set { setHeader(3, newValue) }
  }

  /// The p99 of this machine's timer overshoot, nanoseconds, measured before the load.
  public var timerFloorNanoseconds: UInt64 {
    get { header(4) }
    nonmutating set { setHeader(4, newValue) }
  }

  /// The header is written and read under load, by threads and by processes, so that no access may be left out.
  private func header(_ place: Int) -> UInt64 { headerWord(place).pointee.load(ordering: .relaxed) }

  private func setHeader(_ place: Int, _ value: UInt64) {
    headerWord(place).pointee.store(value, ordering: .relaxed)
  }

  private func headerWord(_ place: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    UnsafeMutableRawPointer(words + place).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// The block of a load thread.
  public func threadRecorder(_ thread: Int) -> ThreadRecorder {
    ThreadRecorder(
      layout: layout, block: words + RecordingLayout.headerWords + thread * layout.wordsPerThread)
  }
}

/// A time in which requests were in flight and none was answered, monotonic nanoseconds.
public struct Stall: Sendable, Equatable {
  /// The last answer before it, or the start of the measured time.
  public var start: UInt64
  /// The first answer after it, or the end of the measured time.
  public var end: UInt64
  /// The service time of the slowest phase that was answered before it.
  public var slowestBefore: UInt64

  /// A stall is over this share of the measured time long ...
  public static let leastShare = 0.1
  /// ... and over so many times as long as the slowest answer before.
  public static let leastTimesSlowest: UInt64 = 5

  /// A stall between two times.
  public init(start: UInt64, end: UInt64, slowestBefore: UInt64) {
    self.start = start
    self.end = end
    self.slowestBefore = slowestBefore
  }

  /// Its length, nanoseconds.
  public var nanoseconds: UInt64 { end > start ? end - start : 0 }

  /// What two threads saw at the same time; nil when one of them got answers.
  public func intersection(_ other: Stall) -> Stall? {
    let both = Stall(
      start: max(start, other.start), end: min(end, other.end),
      slowestBefore: max(slowestBefore, other.slowestBefore))
    return both.nanoseconds > 0 ? both : nil
  }
}

/// One load thread's counters and histograms. Recording does not allocate.
@frozen
public struct ThreadRecorder: @unchecked Sendable {
  // @unchecked: one thread writes; readers tolerate counters of different age.

  /// Places of the counters of one scope.
  public enum Counter: Int, CaseIterable, Sendable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case sent, ok, handlerErrors, timeouts, rejected, shed, lost, late, duplicates, unexpected
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case protocolErrors, noResponders, retries, wrongContent, okInWindow, withoutStamps, impossibleStamps
  }

  /// The counters, `counterWords` for each scope.
  public let counters: UnsafeMutablePointer<UInt64>
  /// The first histogram's words.
  public let histograms: UnsafeMutablePointer<UInt64>
  /// Equal intervals of the measured time.
  public let windows: Int

  init(layout: RecordingLayout, block: UnsafeMutablePointer<UInt64>) {
    counters = block
    histograms = block + RecordingLayout.counterWords * layout.scopes.count
    windows = layout.windows
  }

  /// The longest stall that this thread saw, in words that the counters of scope 0 leave free.
  public var stall: Stall? {
    get {
      guard counters[Self.stallWord + 1] > counters[Self.stallWord] else { return nil }
      return Stall(
        start: counters[Self.stallWord], end: counters[Self.stallWord + 1],
        slowestBefore: counters[Self.stallWord + 2])
    }
    nonmutating set {
      counters[Self.stallWord] = newValue?.start ?? 0
      counters[Self.stallWord + 1] = newValue?.end ?? 0
      counters[Self.stallWord + 2] = newValue?.slowestBefore ?? 0
    }
  }

  private static let stallWord = RecordingLayout.counterWords - 3

  /// Adds to a counter; scope 0 is the request.
  @inlinable @inline(__always)
  public func add(_ counter: Counter, scope: Int, _ amount: UInt64 = 1) {
    counters[scope &* 32 &+ counter.rawValue] &+= amount
  }

  /// A counter's value.
  public func value(_ counter: Counter, scope: Int) -> UInt64 {
    counters[scope * RecordingLayout.counterWords + counter.rawValue]
  }

  /// The response histogram of requests that ended in a window; `windows` is the drain's.
  @inlinable @inline(__always)
  public func requestResponse(window: Int) -> RawHistogram { histogram(window) }
  /// The service histogram of requests.
  @inlinable public var requestService: RawHistogram { histogram(windows &+ 1) }
  /// The send lag of requests.
  @inlinable public var requestLag: RawHistogram { histogram(windows &+ 2) }
  /// The response histogram of a phase, scope 1 the first.
  @inlinable @inline(__always)
  public func phaseResponse(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope) }
  /// The service histogram of a phase.
  @inlinable @inline(__always)
  public func phaseService(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope &+ 1) }
  /// The send lag of a phase.
  @inlinable @inline(__always)
  public func phaseLag(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope &+ 2) }

  @inlinable @inline(__always)
  func histogram(_ place: Int) -> RawHistogram {
    RawHistogram(words: histograms + place &* RawHistogram.wordCount)
  }

  /// All counters of a scope.
  public func counts(scope: Int) -> OutcomeCounts {
    var counts = OutcomeCounts()
    counts.sent = value(.sent, scope: scope)
    counts.ok = value(.ok, scope: scope)
    counts.handlerErrors = value(.handlerErrors, scope: scope)
    counts.timeouts = value(.timeouts, scope: scope)
    counts.rejected = value(.rejected, scope: scope)
    counts.shed = value(.shed, scope: scope)
    counts.lost = value(.lost, scope: scope)
    counts.late = value(.late, scope: scope)
    counts.duplicates = value(.duplicates, scope: scope)
    counts.unexpected = value(.unexpected, scope: scope)
    counts.protocolErrors = value(.protocolErrors, scope: scope)
    counts.noResponders = value(.noResponders, scope: scope)
    counts.retries = value(.retries, scope: scope)
    counts.wrongContent = value(.wrongContent, scope: scope)
    return counts
  }
}
