import Foundation
import Synchronization

/// What a load records, laid out in memory that the load process and the orchestrator share.
///
/// The load threads write, one block each; the orchestrator reads it for the progress line,
/// and when the load process died, so that nothing measured is lost. Words of 8 bytes:
/// a header, then a block for each thread: counters of each scope, records of each window, then histograms.
package struct RecordingLayout: Codable, Sendable, Equatable {
  package var threads: Int
  /// `request`, then each phase.
  package var scopes: [String]
  /// Equal intervals of the measured time; one more holds what ended in the drain.
  package var windows: Int
  /// Parts that the time of each phase is cut into; empty unless the load is decomposed.
  package var parts: [String] = []

  static let headerWords = 64
  /// Words of counters of one scope.
  static let counterWords = 32
  /// Words of the windows' records of one thread, and of the drain's.
  var windowWords: Int { WindowRecord.wordCount * (windows + 1) }
  /// Histograms of one thread: the request's response per window, and three of each scope.
  var plainHistogramsPerThread: Int { windows + 3 * scopes.count }
  /// And one for each part of each phase.
  var histogramsPerThread: Int { plainHistogramsPerThread + parts.count * (scopes.count - 1) }
  /// Words of one thread's block.
  var wordsPerThread: Int {
    Self.counterWords * scopes.count + windowWords + RawHistogram.wordCount * histogramsPerThread
  }
  package var byteCount: Int { 8 * (Self.headerWords + threads * wordsPerThread) }
}

/// Where a load stands: connecting or loading the plugin, under load but not recorded, recorded, waiting for answers,
/// all recorded.
package enum LoadState: UInt64, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case preparing, warmup, measuring, draining, done
}

/// A call into a plugin, as the shared memory notes it, so that one that does not come back can be named.
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

/// A view on the shared memory of `RecordingLayout`.
package struct RecordingArea: @unchecked Sendable {
  // @unchecked: memory that outlives every view; each word has one writer.

  /// How the memory is laid out.
  package let layout: RecordingLayout
  private let words: UnsafeMutablePointer<UInt64>

  /// A view on `layout.byteCount` zeroed bytes, aligned to 8.
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

  /// Monotonic time at which it ends; earlier than planned after an interruption.
  package var measureEnd: UInt64 {
    get { header[3].load(ordering: .relaxed) }
    nonmutating set { header[3].store(newValue, ordering: .relaxed) }
  }

  /// The call that is under way outside of the load: on the way to it, or behind it.
  package var call: HostCall {
    get { HostCall(rawValue: header[4].load(ordering: .relaxed)) ?? .none }
    nonmutating set { header[4].store(newValue.rawValue, ordering: .relaxed) }
  }

  /// The call that is under way, under load that of the first thread.
  package var callUnderWay: HostCall {
    let outside = call
    return outside == .none ? threadRecorder(0).call : outside
  }

  /// The header is written and read under load, by threads and by processes, so that no access may be left out.
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
  /// The service time of the slowest phase that was answered before it.
  var slowestBefore: UInt64

  /// A stall is over this share of the measured time long ...
  static let leastShare = 0.1
  /// ... and over so many times as long as the slowest answer before.
  static let leastTimesSlowest: UInt64 = 5

  /// Its length, nanoseconds.
  package var nanoseconds: UInt64 { end > start ? end - start : 0 }

  /// What two threads saw at the same time; nil when one of them got answers.
  func intersection(_ other: Stall) -> Stall? {
    let both = Stall(
      start: max(start, other.start), end: min(end, other.end),
      slowestBefore: max(slowestBefore, other.slowestBefore))
    return both.nanoseconds > 0 ? both : nil
  }
}

/// One load thread's counters and histograms. Recording does not allocate.
struct ThreadRecorder: @unchecked Sendable {
  // @unchecked: one thread writes; readers tolerate counters of different age.

  /// The counters, `counterWords` for each scope.
  package let counters: UnsafeMutablePointer<UInt64>
  private let windowRecords: UnsafeMutablePointer<UInt64>
  /// The first histogram's words.
  package let histograms: UnsafeMutablePointer<UInt64>
  /// Equal intervals of the measured time.
  package let windows: Int
  /// Parts of each phase; 0 unless the load is decomposed.
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

  /// The longest stall that this thread saw, of no length when it saw none, in the last words of scope 0, which the
  /// counters leave free.
  var stall: UnsafeMutablePointer<Stall> {
    UnsafeMutableRawPointer(counters + RecordingLayout.counterWords - 3).assumingMemoryBound(to: Stall.self)
  }

  /// What this thread has called of its plugin, in the word before the stall's.
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

  /// What is kept of a window; `windows` is the drain's.
  func record(window: Int) -> WindowRecord {
    WindowRecord(words: windowRecords + window &* WindowRecord.wordCount)
  }

  /// The response histogram of requests that ended in a window; `windows` is the drain's.
  @inline(__always)
  func response(window: Int) -> RawHistogram { histogram(window) }
  /// That of a phase, scope 1 the first; scope 0 is of requests that ended in the drain.
  @inline(__always)
  func response(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope) }
  @inline(__always)
  func service(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope &+ 1) }
  @inline(__always)
  func lag(scope: Int) -> RawHistogram { histogram(windows &+ 3 &* scope &+ 2) }
  /// The histogram of a part, from 0, of a phase.
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
    // What was sent comes last: where the thread still runs, no more may have ended.
    for counter in Counter.outcomes.reversed() { counts[counter] = value(counter, scope: scope) }
    return counts
  }
}

/// The clock of everything that is measured: CLOCK_MONOTONIC.
///
/// Read here and not through a function of C, which Swift does not inline: that call would cost a tenth of the
/// read, twice for each phase.
package enum MonotonicClock {
  /// Unix time, nanoseconds.
  static var unixNanoseconds: UInt64 { UInt64(Date().timeIntervalSince1970 * 1e9) }

  /// Since a moment that another thread may have seen: the clocks of two cores are not the same to the nanosecond, so it
  /// may lie a little ahead.
  static func nanoseconds(since moment: UInt64) -> UInt64 {
    let now = nanoseconds
    return now - min(now, moment)
  }

  /// Now, nanoseconds.
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
  /// What it is called in files, such as `handler`.
  package var name: String
  /// How long it took in each phase request.
  package var time: LatencyHistogram
}

/// The service time of a phase in parts.
///
/// The parts of one phase request add up to its service time, to the nanosecond. Only answered ones (ok)
/// are cut up, so as many values are in each part as were answered, without those counted here.
package struct Decomposition: Codable, Sendable, Equatable {
  /// The parts in their order in time.
  package var parts: [PhasePart]
  /// Answers that brought no stamps: the worker knows nothing of them.
  package var withoutStamps: UInt64 = 0
  /// Answers whose stamps did not lie between sent and done: another machine, another clock.
  package var impossibleStamps: UInt64 = 0

  /// The sum of the parts' means, nanoseconds; nil when nothing was cut up.
  package var meanNanoseconds: Double? {
    let means = parts.compactMap(\.time.meanNanoseconds)
    return means.isEmpty ? nil : means.reduce(0, +)
  }
}

extension Measurement {
  /// What is worth a warning about answers that could not be cut up.
  package var decompositionWarnings: [String] {
    let all = scopes.compactMap(\.decomposition)
    func warning(_ count: KeyPath<Decomposition, UInt64>, _ words: String) -> String? {
      let count = all.reduce(0) { $0 + $1[keyPath: count] }
      return count > 0 ? "\(count) answers had \(words)" : nil
    }
    return [
      warning(
        \.withoutStamps,
        "no stamps of the worker, so it is not known where their time went; decompose: wants workers that stamp, "
          + "such as nylon-worker"),
      warning(
        \.impossibleStamps,
        "stamps that do not lie between sent and done, so they are not used; decompose: wants workers on the same "
          + "machine, with the same monotonic clock"),
    ].compactMap { $0 }
  }
}
