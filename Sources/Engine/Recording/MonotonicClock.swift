import Glibc

/// The clock of everything that is measured: CLOCK_MONOTONIC.
///
/// Read here and not through a function of C, which Swift does not inline: that call would cost a tenth of the
/// read, twice for each phase.
package enum MonotonicClock {
  /// Now, nanoseconds.
  @inline(__always)
  package static var nanoseconds: UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(truncatingIfNeeded: now.tv_sec) &* 1_000_000_000
      &+ UInt64(truncatingIfNeeded: now.tv_nsec)
  }
}
