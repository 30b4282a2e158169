// What was done to a target under load, and what a load thread keeps of each window, so that what came of it is known.
import Scenario

/// A fault as it was done in one measurement.
package struct FaultRecord: Codable, Sendable, Equatable {
  /// Which of the target's faults it is, 1 for the first.
  package var number: Int
  /// What was done to whom, such as `worker 2 killed`.
  package var words: String
  /// When it began, seconds from the start of the measured time; nil when it was not done.
  package var begunSeconds: Double?
  /// When it was over, such as when a broker answered again; nil when it lasted until the end.
  package var overSeconds: Double?
  /// Why it, or its end, could not be done; nil when it was done.
  package var error: String?

  package init(
    number: Int, words: String, begunSeconds: Double? = nil, overSeconds: Double? = nil, error: String? = nil
  ) {
    (self.number, self.words, self.error) = (number, words, error)
    (self.begunSeconds, self.overSeconds) = (begunSeconds, overSeconds)
  }
}

extension Measurement {
  /// Whether something was done to the target under load, so that what failed is an answer and speaks against nothing.
  package var hasFaults: Bool { faults != nil }
}

/// What one load thread keeps of a window, beside the histogram of what ended in it.
struct WindowRecord {
  private static let gapPlace = Counter.outcomes.count
  private static let troublePlace = gapPlace + MemoryLayout<Stall>.size / 8
  static let wordCount = troublePlace + 1

  let words: UnsafeMutablePointer<UInt64>

  func add(_ counter: Counter) { words[counter.rawValue] &+= 1 }
  func value(_ counter: Counter) -> UInt64 { words[counter.rawValue] }

  /// The longest time without an answer, while requests were in flight, that ended in the window.
  var gap: Stall {
    get { UnsafeMutableRawPointer(words + Self.gapPlace).assumingMemoryBound(to: Stall.self).pointee }
    nonmutating set {
      UnsafeMutableRawPointer(words + Self.gapPlace).assumingMemoryBound(to: Stall.self).pointee = newValue
    }
  }

  /// When an attempt failed first, or a connection was lost, monotonic nanoseconds; 0 when nothing was.
  var firstTrouble: UInt64 {
    get { words[Self.troublePlace] }
    nonmutating set { words[Self.troublePlace] = newValue }
  }

  /// Requests that ended in the window and not well.
  var failed: UInt64 { Counter.ends.dropFirst().reduce(0) { $0 &+ value($1) } }
}

extension ThreadRecorder {
  /// A time without an answer is kept in a load with faults when it is longer, nanoseconds.
  static let leastGap: UInt64 = 1_000_000

  /// The start of the first window and the length of each, monotonic nanoseconds, in words that the counters of scope
  /// 0 leave free.
  var windowClock: UnsafeMutablePointer<(start: UInt64, length: UInt64)> {
    UnsafeMutableRawPointer(counters + RecordingLayout.counterWords - 6)
      .assumingMemoryBound(to: (start: UInt64, length: UInt64).self)
  }

  /// The window of a time, `windows` for the drain's; nil before the measured time.
  func window(at time: UInt64) -> Int? {
    let clock = windowClock.pointee
    guard clock.length > 0, time >= clock.start else { return nil }
    return Int(min((time - clock.start) / clock.length, UInt64(windows)))
  }

  /// Counts something that happened to the request and is no end of it.
  func happened(_ counter: Counter, at time: UInt64) {
    add(counter, scope: 0)
    if let place = window(at: time) { record(window: place).add(counter) }
  }

  /// Something went wrong: an attempt failed, or a connection was lost.
  func noteTrouble(at time: UInt64) {
    guard let place = window(at: time) else { return }
    let record = record(window: place)
    if record.firstTrouble == 0 || time < record.firstTrouble { record.firstTrouble = time }
  }

  /// Nothing was answered for some time.
  func noteGap(_ gap: Stall) {
    guard gap.end > 0, let place = window(at: gap.end - 1) else { return }
    let record = record(window: place)
    if gap.nanoseconds > record.gap.nanoseconds { record.gap = gap }
  }
}
