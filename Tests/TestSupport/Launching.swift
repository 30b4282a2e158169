import Foundation
import Synchronization

extension Process {
  private static let launching = Mutex(())

  /// Runs it while no other is started this way.
  ///
  /// Foundation sees a process end by a socket that closes then. One that is started in the same moment would inherit
  /// that socket, and until it ends too the first would seem to run.
  package func runAlone() throws { try Self.launching.withLock { _ in try run() } }
}
