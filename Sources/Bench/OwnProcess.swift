import Foundation
import Glibc
import Lab

/// What who starts a command may leave it with, made such that it can work.
enum OwnProcess {
  /// Less than any command needs for its threads and what it measures: memory that cannot be had ends a process where it is
  /// wanted, without a word.
  static let leastAddressSpace: UInt64 = 1 << 30

  static func prepare() throws(LabError) {
    // A file that is opened later would take the place of one that is closed. These cannot be read or written, either.
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
    // A write to a reader that has gone fails, and says so.
    signal(SIGPIPE, SIG_IGN)
    // The Swift runtime prints a crash report at SIGQUIT and goes on.
    signal(SIGQUIT, SIG_DFL)
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0 {
      try check(addressSpace: UInt64(limit.rlim_cur))
    }
  }

  static func check(addressSpace bytes: UInt64) throws(LabError) {
    guard bytes < leastAddressSpace else { return }
    throw .system(
      "The address space is limited to \(bytes >> 20) MiB, of \(leastAddressSpace >> 20) MiB that a command needs "
        + "(raise the limit: ulimit -v unlimited)", errno: ENOMEM)
  }
}
