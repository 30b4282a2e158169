import Engine
import Foundation
import Lab

/// Detects from outside what a load process cannot detect itself: a plugin call outside the load that does
/// not return, or a signal that has stopped the process. The process itself detects hangs under load.
struct LoadVigil {
  /// The time limits of each kind of call.
  struct Limits: Sendable {
    /// For dlopen, which runs the library's constructors, and initialize: both may read files.
    var loading = Duration.seconds(10)
    /// For the session that checks the handler's name, and for shutdown.
    var calling = Duration.seconds(3)
    var stopped = Duration.seconds(2)
  }

  let limits: Limits
  private var call = HostCall.none
  private var callSince = Deadline.now
  private var stoppedSince: Deadline?

  init(_ limits: Limits) { self.limits = limits }

  /// Checks a load process and describes where it hangs; nil when it does not.
  ///
  /// - Parameter isStopPlanned: whether a fault of the scenario stopped the process.
  mutating func look(
    at area: RecordingArea, pid: Int32, isStopPlanned: Bool = false, now: Deadline = .now
  ) -> String? {
    let current = area.call
    if current != call { (call, callSince) = (current, now) }
    stoppedSince = !isStopPlanned && ProcessClock.isStopped(pid) ? stoppedSince ?? now : nil
    if let stoppedSince, stoppedSince.duration(to: now) >= limits.stopped {
      let place = area.callUnderWay
      return "a signal (SIGSTOP) stopped the load process for \(Self.words(limits.stopped))"
        + (place == .none ? "" : ", in `\(place.name)`")
    }
    let limit = call == .load || call == .initialize ? limits.loading : limits.calling
    guard call != .none, callSince.duration(to: now) >= limit else { return nil }
    return "`\(call.name)` did not return within \(Self.words(limit))"
  }

  private static func words(_ limit: Duration) -> String { String(format: "%g s", limit / .seconds(1)) }
}
