import Foundation
import Glibc

/// A value behind a lock, with waiting until it changes.
///
/// Unchecked, because `value` is a variable; every access to it holds `condition`'s lock.
package final class Guarded<Value: Sendable>: @unchecked Sendable {
  private let condition = NSCondition()
  private var value: Value

  package init(_ value: Value) {
    self.value = value
  }

  /// Reads or changes the value; waiting threads look again.
  package func withLock<Result, Failure: Error>(
    _ body: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    condition.lock()
    defer {
      condition.broadcast()
      condition.unlock()
    }
    return try body(&value)
  }

  /// Waits until `body` finds what it looks for, or the deadline passes.
  func wait<Result>(until deadline: Deadline, for body: (Value) -> Result?) -> Result? {
    condition.lock()
    defer { condition.unlock() }
    while true {
      if let found = body(value) { return found }
      let remaining = deadline.remainingSeconds
      if remaining <= 0 { return nil }
      // In slices: this wait goes by the wall clock, which may be set back meanwhile.
      _ = condition.wait(until: Date(timeIntervalSinceNow: min(remaining, 0.1)))
    }
  }
}

/// A moment of the monotonic clock until which something may take.
struct Deadline: Sendable {
  /// The moment, ns.
  let nanoseconds: UInt64

  /// So long from now; nothing negative, and a hundred years at most.
  static func after(_ duration: Duration) -> Deadline {
    let seconds = Double(duration.components.seconds)
    let fraction = Double(duration.components.attoseconds) / 1e18
    let bounded = min(max(seconds + fraction, 0), 3.0e9)
    return Deadline(nanoseconds: monotonicNanoseconds() &+ UInt64(bounded * 1e9))
  }

  /// The earlier of the two.
  static func earlier(_ a: Deadline, _ b: Deadline) -> Deadline {
    a.nanoseconds < b.nanoseconds ? a : b
  }

  var isPast: Bool { monotonicNanoseconds() >= nanoseconds }

  var remainingSeconds: Double {
    let now = monotonicNanoseconds()
    return now >= nanoseconds ? 0 : Double(nanoseconds - now) / 1e9
  }

  /// For `poll`: rounded up, so that a wait does not end early and spin.
  var remainingMilliseconds: Int32 { Int32(min(remainingSeconds * 1000 + 1, 1e9)) }
}

/// The monotonic clock, ns.
func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// Sleeps; for the short waits between two looks at something that tells of no change.
func nap(milliseconds: UInt32) {
  usleep(milliseconds * 1000)
}

/// The system's text for an errno.
func systemErrorText(_ number: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 256)
  guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
  return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
