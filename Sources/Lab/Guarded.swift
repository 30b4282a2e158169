import Foundation

/// A value behind a lock, with waiting until it changes.
///
/// Unchecked, because `value` is a variable; every access to it holds `condition`'s lock.
final class Guarded<Value: Sendable>: @unchecked Sendable {
  private let condition = NSCondition()
  private var value: Value

  init(_ value: Value) {
    self.value = value
  }

  /// Reads or changes the value; whoever waits looks again.
  func withLock<Result, Failure: Error>(
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
