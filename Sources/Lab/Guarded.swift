import Foundation

/// A value behind a lock that threads can wait on for changes.
///
/// Unchecked because `value` is a variable; every access to it holds `condition`'s lock.
package final class Guarded<Value: Sendable>: @unchecked Sendable {
  private let condition = NSCondition()
  private var value: Value

  package init(_ value: Value) { self.value = value }

  /// Reads or changes the value; waiting threads then check it again.
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

  /// Waits until `body` returns a result, or the deadline passes.
  package func wait<Result>(until deadline: Deadline, for body: (Value) -> Result?) -> Result? {
    condition.lock()
    defer { condition.unlock() }
    while true {
      if let found = body(value) { return found }
      let remaining = deadline.remainingSeconds
      if remaining <= 0 { return nil }
      // In slices: this wait uses the wall clock, which may be set back meanwhile.
      _ = condition.wait(until: Date(timeIntervalSinceNow: min(remaining, 0.1)))
    }
  }
}

/// A deadline on the monotonic clock.
package typealias Deadline = SuspendingClock.Instant

extension Deadline {
  /// A deadline this long from now; at least now, at most a hundred years.
  package static func after(_ duration: Duration) -> Deadline {
    .now + min(max(duration, .zero), .seconds(3_000_000_000))
  }

  var isPast: Bool { .now >= self }

  var remainingSeconds: Double { max(0, Deadline.now.duration(to: self) / .seconds(1)) }

  /// The timeout for `poll`, rounded up so that a wait does not end early and spin.
  var remainingMilliseconds: Int32 { Int32(min(remainingSeconds * 1000 + 1, 1e9)) }
}

func startThread(_ name: String, stackBytes: Int = 256 << 10, _ body: @escaping @Sendable () -> Void) {
  let thread = Thread(block: body)
  thread.name = name
  thread.stackSize = stackBytes
  thread.start()
}

/// The system's message for an errno.
func systemErrorText(_ number: Int32) -> String { String(cString: strerror(number)) }
