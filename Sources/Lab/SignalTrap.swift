import CLinux
import Foundation

/// Catches signals such as Ctrl-C, so that the command can end in order instead of at once.
///
/// One trap at a time. It gives the signals back when it is released, or no longer used.
package final class SignalTrap: Sendable {
  /// Signals that came, in order.
  private let caught: Guarded<[Int32]>
  /// Closing it ends the thread that reads the other end.
  private let writing: Guarded<Descriptor?>

  /// Catches signals from now on.
  /// - Parameters:
  ///   - signals: SIGINT and SIGTERM unless others are named.
  ///   - onSignal: called for each signal with its number, and how many have come with it; on a
  ///     thread of the trap's own, so it may do anything.
  package init(
    _ signals: [Int32] = [SIGINT, SIGTERM], onSignal: @escaping @Sendable (Int32, Int) -> Void = { _, _ in }
  ) throws(LabError) {
    let ends = try Descriptor.socketPair()
    _ = fcntl(ends.1.raw, F_SETFL, O_NONBLOCK)
    guard clinux_trap(ends.1.raw, signals, signals.count) == 0 else {
      throw .system("Signals cannot be caught", errno: errno)
    }
    let caught = Guarded<[Int32]>([])
    self.caught = caught
    writing = Guarded(ends.1)
    let reading = ends.0
    let thread = Thread {
      while case .bytes(let numbers) = reading.read() {
        for number in numbers.map(Int32.init) {
          let count = caught.withLock { all in
            all.append(number)
            return all.count
          }
          onSignal(number, count)
        }
      }
    }
    thread.name = "lab-signals"
    thread.stackSize = 256 << 10
    thread.start()
  }

  deinit {
    release()
  }

  /// True once a signal has come.
  package var isSprung: Bool { !signals.isEmpty }

  /// The signals that came, in order.
  package var signals: [Int32] { caught.withLock { $0 } }

  /// Waits for a signal; the first that came, or nil at the timeout.
  package func wait(timeout: Duration) -> Int32? {
    caught.wait(until: .after(timeout)) { $0.first }
  }

  /// Restores the handlers that the signals had before.
  package func release() {
    writing.withLock { descriptor in
      guard descriptor != nil else { return }
      clinux_untrap()
      descriptor = nil
    }
  }
}
