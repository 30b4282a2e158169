import CLinux
import Foundation

/// Catches signals such as those of Ctrl-C and Ctrl-\, so that the command can end in order instead of at once.
///
/// One trap at a time. The signals have their handlers back when it is no longer used.
package final class SignalTrap: Sendable {
  /// The handler writes a byte for each signal, which nobody reads.
  private let ends: (reading: Descriptor, writing: Descriptor)

  /// Catches signals from now on.
  package init(_ signals: [Int32] = [SIGINT, SIGTERM, SIGQUIT]) throws(LabError) {
    let ends = try Descriptor.pipe()
    _ = fcntl(ends.writing.raw, F_SETFL, O_NONBLOCK)
    guard clinux_trap(ends.writing.raw, signals, signals.count) == 0 else {
      throw .system("Signals cannot be caught", errno: errno)
    }
    // Not before: an object that has all it needs is taken down when its initialiser throws.
    self.ends = ends
  }

  deinit { clinux_untrap() }

  /// True once a signal has come.
  package var isSprung: Bool { !TCPSocket.ready([ends.reading], milliseconds: 0).isEmpty }
}
