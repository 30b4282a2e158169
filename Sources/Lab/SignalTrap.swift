import CLinux
import Foundation

/// Catches signals such as those of Ctrl-C and Ctrl-\, so that the command can end in order.
///
/// There may be one trap at a time. When it is deinitialised, the signals get their old handlers back.
package final class SignalTrap: Sendable {
  /// The handler writes a byte for each signal, which is never read: `isSprung` only checks for readability.
  private let ends: (reading: Descriptor, writing: Descriptor)

  /// Catches signals from now on.
  package init(_ signals: [Int32] = [SIGINT, SIGTERM, SIGQUIT]) throws(LabError) {
    let ends = try Descriptor.pipe()
    _ = fcntl(ends.writing.raw, F_SETFL, O_NONBLOCK)
    guard clinux_trap(ends.writing.raw, signals, signals.count) == 0 else {
      throw .system("Signals cannot be caught", errno: errno)
    }
    // Assigned last: once all properties are set, a throwing initialiser would run the deinitialiser.
    self.ends = ends
  }

  deinit { clinux_untrap() }

  /// True once a signal has arrived.
  package var isSprung: Bool { !TCPSocket.ready([ends.reading], milliseconds: 0).isEmpty }
}
