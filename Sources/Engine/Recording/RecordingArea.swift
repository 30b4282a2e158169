import Foundation
import Synchronization

/// The layout of a load's records in memory that the load process and the orchestrator share.
///
/// Each load thread writes its own block. The orchestrator reads them for the progress line, and after the
/// load process died, so that no measured data is lost. Words of 8 bytes: a header, then a block for each
/// thread with the counters of each scope, the records of each window, and the histograms.
package struct RecordingLayout: Codable, Sendable, Equatable {
  package var threads: Int
  /// `request`, then each phase.
  package var scopes: [String]
  /// Equal intervals of the measured time; one more holds what ended in the drain.
  package var windows: Int
  /// The names of the parts of each phase's time; empty unless the load is decomposed.
  package var parts: [String] = []

  static let headerWords = 64
  /// The words for the counters of one scope.
  static let counterWords = 32
  /// The words for one thread's window records, including that of the drain.
  var windowWords: Int { WindowRecord.wordCount * (windows + 1) }
  /// The histograms of one thread: the request's response time per window, and three for each scope.
  var plainHistogramsPerThread: Int { windows + 3 * scopes.count }
  /// The same with one histogram for each part of each phase.
  var histogramsPerThread: Int { plainHistogramsPerThread + parts.count * (scopes.count - 1) }
  /// The words of one thread's block.
  var wordsPerThread: Int {
    Self.counterWords * scopes.count + windowWords + RawHistogram.wordCount * histogramsPerThread
  }
  package var byteCount: Int { 8 * (Self.headerWords + threads * wordsPerThread) }
}

/// The state of a load: connecting or loading the plugin; under load but not recording; recording; waiting
/// for answers; everything recorded.
package enum LoadState: UInt64, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case preparing, warmup, measuring, draining, done
}

/// A call into a plugin, noted in shared memory so that a call that does not return can be named.
package enum HostCall: UInt64, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case none, load, initialize, register, event, close, shutdown

  package var name: String {
    switch self {
    case .none: "no call"
    case .load: "dlopen"
    case .initialize: "initialize"
    case .register: "register_session_stream"
    case .event: "event_stream"
    case .close: "close_session_stream"
    case .shutdown: "shutdown"
    }
  }
}

/// A view of the shared memory of a `RecordingLayout`.
package struct RecordingArea: @unchecked Sendable {
  // @unchecked: memory that outlives every view; each word has one writer.

  package let layout: RecordingLayout
  private let words: UnsafeMutablePointer<UInt64>

  /// A view of `layout.byteCount` zeroed bytes, aligned to 8.
  package init(layout: RecordingLayout, memory: UnsafeMutableRawPointer) {
    self.layout = layout
    words = memory.assumingMemoryBound(to: UInt64.self)
  }

  package var state: LoadState {
    get { LoadState(rawValue: header[0].load(ordering: .relaxed)) ?? .preparing }
    nonmutating set { header[0].store(newValue.rawValue, ordering: .relaxed) }
  }

  /// Set by the orchestrator to end the load early.
  package var stopRequested: Bool {
    get { header[1].load(ordering: .relaxed) != 0 }
    nonmutating set { header[1].store(newValue ? 1 : 0, ordering: .relaxed) }
  }

  /// Monotonic time at which the measured time starts, nanoseconds; 0 until known.
  package var measureStart: UInt64 {
    get { header[2].load(ordering: .relaxed) }
    nonmutating set { header[2].store(newValue, ordering: .relaxed) }
  }

  /// Monotonic time at which it ends, nanoseconds; earlier than planned after an interruption.
  package var measureEnd: UInt64 {
    get { header[3].load(ordering: .relaxed) }
    nonmutating set { header[3].store(newValue, ordering: .relaxed) }
  }

  /// The current call before or after the load.
  package var call: HostCall {
    get { HostCall(rawValue: header[4].load(ordering: .relaxed)) ?? .none }
    nonmutating set { header[4].store(newValue.rawValue, ordering: .relaxed) }
  }

  /// The current call; under load, that of the first thread.
  package var callUnderWay: HostCall {
    let outside = call
    return outside == .none ? threadRecorder(0).call : outside
  }

  // Atomic, because threads and processes access the header under load.
  private var header: UnsafeMutablePointer<Atomic<UInt64>> {
    UnsafeMutableRawPointer(words).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// The block of a load thread.
  func threadRecorder(_ thread: Int) -> ThreadRecorder {
    ThreadRecorder(
      layout: layout, block: words + RecordingLayout.headerWords + thread * layout.wordsPerThread)
  }
}

/// A time in which requests were in flight and none was answered, monotonic nanoseconds.
package struct Stall: Sendable, Equatable {
  /// The last answer before it, or the start of the measured time.
  package var start: UInt64
  /// The first answer after it, or the end of the measured time.
  package var end: UInt64
  /// The service time of the slowest phase answered before the stall.
  var slowestBefore: UInt64

  /// A stall is longer than this share of the measured time ...
  static let leastShare = 0.1
  /// ... and longer than this multiple of the slowest answer before it.
  static let leastTimesSlowest: UInt64 = 5

  /// Its length, nanoseconds.
  package var nanoseconds: UInt64 { end > start ? end - start : 0 }

  /// The stall that two threads have in common; nil when one of them got answers.
  func intersection(_ other: Stall) -> Stall? {
    let both = Stall(
      start: max(start, other.start), end: min(end, other.end),
      slowestBefore: max(slowestBefore, other.slowestBefore))
    return both.nanoseconds > 0 ? both : nil
  }
}

/// One load thread's counters and histograms. Recording does not allocate.
struct ThreadRecorder: @unchecked Sendable {
  // @unchecked: one thread writes; readers tolerate counters of different ages.

  /// The counters, `counterWords` for each scope.
  package let counters: UnsafeMutablePointer<UInt64>
  private let windowRecords: UnsafeMutablePointer<UInt64>
  /// The words of the histograms.
  package let histograms: UnsafeMutablePointer<UInt64>
  /// The number of equal intervals of the measured time.
  package let windows: Int
  /// The number of parts of each phase; 0 unless the load is decomposed.
  let partCount: Int
  private let firstPart: Int

  init(layout: RecordingLayout, block: UnsafeMutablePointer<UInt64>) {
    counters = block
    windowRecords = block + RecordingLayout.counterWords * layout.scopes.count
    histograms = windowRecords + layout.windowWords
    windows = layout.windows
    partCount = layout.parts.count
    firstPart = layout.plainHistogramsPerThread
  }

  /// The longest stall that this thread saw, with length 0 when there was none. Stored in the last words of
  /// scope 0, which the counters leave free.
  var stall: UnsafeMutablePointer<Stall> {
    UnsafeMutableRawPointer(counters + RecordingLayout.counterWords - 3).assumingMemoryBound(to: Stall.self)
  }

  /// The thread's current call into its plugin. Stored in the word before the stall.
  var call: HostCall {
    get { HostCall(rawValue: counters[RecordingLayout.counterWords - 4]) ?? .none }
    nonmutating set { counters[RecordingLayout.counterWords - 4] = newValue.rawValue }
  }

  /// Adds to a counter; scope 0 is the request.
  @inline(__always)
  package func add(_ counter: Counter, scope: Int, _ amount: UInt64 = 1) {
    counters[scope &* 32 &+ counter.rawValue] &+= amount
  }

  package func value(_ counter: Counter, scope: Int) -> UInt64 {
    counters[scope * RecordingLayout.counterWords + counter.rawValue]
  }

  /// The record of a window; `windows` is the drain's.
  func record(window: Int) -> WindowRecord {
    WindowRecord(words: windowRecords + window &* WindowRecord.wordCount)
  }

  /// The response histogram of requests that ended in a window; `windows` is the drain's.
  @inline(__always)
  func response(window: Int) -> RawHistogram { histogram(window) }
  /// The response histogram of a phase, scope 1 the first; scope 0 holds requests that ended in the drain.
  @inline(__always)
  func response(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope) }
  @inline(__always)
  func service(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope &+ 1) }
  @inline(__always)
  func lag(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope &+ 2) }
  /// The histogram of a phase's part, counted from 0.
  @inline(__always)
  func part(_ part: Int, scope: Int) -> RawHistogram {
    histogram(firstPart &+ (scope &- 1) &* partCount &+ part)
  }

  @inline(__always)
  private func histogram(_ place: Int) -> RawHistogram {
    RawHistogram(words: histograms + place &* RawHistogram.wordCount)
  }

  /// All counters of a scope.
  package func counts(scope: Int) -> OutcomeCounts {
    var counts = OutcomeCounts()
    // Read `sent` last: while the thread still runs, `sent` must not be less than the outcomes.
    for counter in Counter.outcomes.reversed() { counts[counter] = value(counter, scope: scope) }
    return counts
  }
}

/// The clock of all measurements: CLOCK_MONOTONIC.
///
/// Read here and not through a C function, which Swift cannot inline: the call would cost a tenth of the
/// read, twice for each phase.
package enum MonotonicClock {
  /// Unix time, nanoseconds.
  static var unixNanoseconds: UInt64 { UInt64(Date().timeIntervalSince1970 * 1e9) }

  /// The time since a moment that another thread may have recorded, or 0: the clocks of two cores may differ
  /// by nanoseconds, so the moment may lie slightly in the future.
  static func nanoseconds(since moment: UInt64) -> UInt64 {
    let now = nanoseconds
    return now - min(now, moment)
  }

  /// The current time, nanoseconds.
  @inline(__always)
  package static var nanoseconds: UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(truncatingIfNeeded: now.tv_sec) &* 1_000_000_000
      &+ UInt64(truncatingIfNeeded: now.tv_nsec)
  }
}

/// One part of the service time of a phase.
package struct PhasePart: Codable, Sendable, Equatable {
  /// The part's name in files, such as `handler`.
  package var name: String
  /// The time spent in the part in each phase request.
  package var time: LatencyHistogram
}

/// The service time of a phase in parts.
///
/// The parts of one phase request add up to its service time, to the nanosecond. Only answered requests (ok)
/// are decomposed, so each part has as many values as there were answers, except for those counted here.
package struct Decomposition: Codable, Sendable, Equatable {
  /// The parts in chronological order.
  package var parts: [PhasePart]
  /// Answers without stamps, because the worker does not support them.
  package var withoutStamps: UInt64 = 0
  /// Answers whose stamps did not lie between sent and done, for example from another machine's clock.
  package var impossibleStamps: UInt64 = 0

  /// The sum of the parts' means, nanoseconds; nil when nothing was decomposed.
  package var meanNanoseconds: Double? {
    let means = parts.compactMap(\.time.meanNanoseconds)
    return means.isEmpty ? nil : means.reduce(0, +)
  }
}

extension Measurement {
  /// Warnings about answers that could not be decomposed.
  package var decompositionWarnings: [String] {
    let all = scopes.compactMap(\.decomposition)
    func warning(_ count: KeyPath<Decomposition, UInt64>, _ words: String) -> String? {
      let count = all.reduce(0) { $0 + $1[keyPath: count] }
      return count > 0 ? "\(count) answers had \(words)" : nil
    }
    return [
      warning(
        \.withoutStamps,
        "no stamps from the worker, so it is not known where their time went; decompose: needs workers that "
          + "stamp, such as nylon-worker"),
      warning(
        \.impossibleStamps,
        "stamps that do not lie between sent and done, so they are not used; decompose: needs workers on the "
          + "same machine, with the same monotonic clock"),
    ].compactMap { $0 }
  }
}
