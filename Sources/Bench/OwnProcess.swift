import Foundation
import Glibc

/// What who starts a command may leave it with, made such that it can work.
enum OwnProcess {
  static func prepare() {
    // A file that is opened later would take the place of one that is closed. These cannot be read or written, either.
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
    // A write to a reader that has gone fails, and says so.
    signal(SIGPIPE, SIG_IGN)
    // The Swift runtime prints a crash report at SIGQUIT and goes on.
    signal(SIGQUIT, SIG_DFL)
  }
}
