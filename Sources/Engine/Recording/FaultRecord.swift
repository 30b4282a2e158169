// The faults injected into a target under load, and the per-window records that show their effect.
import Scenario

/// A fault as it was injected in one measurement.
package struct FaultRecord: Codable, Sendable, Equatable {
  /// The index among the target's faults, 1 for the first.
  package var number: Int
  /// The action and its target, such as `worker 2 killed`.
  package var words: String
  /// When it began, seconds from the start of the measured time; nil when it was not injected.
  package var begunSeconds: Double?
  /// When it was over, such as when a broker answered again; nil when it lasted until the end.
  package var overSeconds: Double?
  /// Why the fault could not be injected or ended; nil when it succeeded.
  package var error: String?

  package init(
    number: Int, words: String, begunSeconds: Double? = nil, overSeconds: Double? = nil, error: String? = nil
  ) {
    (self.number, self.words, self.error) = (number, words, error)
    (self.begunSeconds, self.overSeconds) = (begunSeconds, overSeconds)
  }
}

extension Measurement {
  /// Whether faults were injected under load, so that failures do not invalidate the measurement.
  package var hasFaults: Bool { faults != nil }
}

/// One load thread's record of a window, in addition to its histogram.
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

  /// The time of the first failed attempt or lost connection, monotonic nanoseconds; 0 when there was none.
  var firstTrouble: UInt64 {
    get { words[Self.troublePlace] }
    nonmutating set { words[Self.troublePlace] = newValue }
  }

  /// Requests that failed in the window.
  var failed: UInt64 { Counter.ends.dropFirst().reduce(0) { $0 &+ value($1) } }
}

extension ThreadRecorder {
  /// The minimum length of a gap that a load with faults records, nanoseconds.
  static let leastGap: UInt64 = 1_000_000

  /// The start of the first window and the length of each, monotonic nanoseconds. Stored in words that the
  /// counters of scope 0 leave free.
  var windowClock: UnsafeMutablePointer<(start: UInt64, length: UInt64)> {
    UnsafeMutableRawPointer(counters + RecordingLayout.counterWords - 6)
      .assumingMemoryBound(to: (start: UInt64, length: UInt64).self)
  }

  /// The index of a time's window, `windows` for the drain; nil before the measured time.
  func window(at time: UInt64) -> Int? {
    let clock = windowClock.pointee
    guard clock.length > 0, time >= clock.start else { return nil }
    return Int(min((time - clock.start) / clock.length, UInt64(windows)))
  }

  /// Counts an event of the request that does not end it.
  func happened(_ counter: Counter, at time: UInt64) {
    add(counter, scope: 0)
    if let place = window(at: time) { record(window: place).add(counter) }
  }

  /// Records a failed attempt or a lost connection.
  func noteTrouble(at time: UInt64) {
    guard let place = window(at: time) else { return }
    let record = record(window: place)
    if record.firstTrouble == 0 || time < record.firstTrouble { record.firstTrouble = time }
  }

  /// Records a time without an answer.
  func noteGap(_ gap: Stall) {
    guard gap.end > 0, let place = window(at: gap.end - 1) else { return }
    let record = record(window: place)
    if gap.nanoseconds > record.gap.nanoseconds { record.gap = gap }
  }
}
