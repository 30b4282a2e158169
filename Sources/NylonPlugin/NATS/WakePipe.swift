import Glibc
import Synchronization

/// A descriptor that becomes readable when somebody wants its owner's loop to turn.
final class WakePipe: Sendable {
  private let isWoken = Atomic<Bool>(false)
  /// Readable when the loop is to wake.
  let descriptor: Int32
  private let writeEnd: Int32

  /// nil when the system has no descriptors left.
  init?() {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return nil }
    for end in ends {
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
    }
    (descriptor, writeEnd) = (ends[0], ends[1])
  }

  deinit {
    Glibc.close(descriptor)
    Glibc.close(writeEnd)
  }

  /// Makes the loop's turn end soon, from any thread; cheap when it is about to anyway.
  func wake() {
    if isWoken.exchange(true, ordering: .acquiringAndReleasing) { return }
    var byte: UInt8 = 1
    _ = write(writeEnd, &byte, 1)
  }

  /// The wake-up was seen; on the loop's thread.
  func woken() {
    var bytes: (UInt64, UInt64) = (0, 0)
    while read(descriptor, &bytes, 16) == 16 {}
    _ = isWoken.exchange(false, ordering: .acquiringAndReleasing)
  }
}
