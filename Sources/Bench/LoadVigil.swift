import Engine
import Foundation
import Lab

/// Notices from outside what a load process cannot notice itself: that its plugin does not come back from a call which is
/// no part of the load, or that a signal has stopped the process. What does not come back under load, the process notices.
struct LoadVigil {
  /// How long each may take.
  struct Limits: Sendable {
    /// dlopen, with the library's constructors, and initialize: both may read files.
    var loading = Duration.seconds(10)
    /// The session with which the handler's name is tried, and shutdown.
    var calling = Duration.seconds(3)
    var stopped = Duration.seconds(2)
  }

  let limits: Limits
  private var call = HostCall.none
  private var callSince = Deadline.now
  private var stoppedSince: Deadline?

  init(_ limits: Limits) { self.limits = limits }

  /// Looks at a load process; what it hangs in, in words, nil when it does not hang.
  ///
  /// - Parameter isStopPlanned: whether a fault of the scenario has stopped it.
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
