import Foundation
import Engine

/// Asks a broker's monitoring what it did during the measured time of one load, on a thread of its
/// own in the orchestrator, so that the load process has nothing to do with it.
///
/// What the broker counts is read once at each end of the measured time. What waits in it for clients
/// that read slowly can only be looked at: ten times in a measurement, and at most twice a second.
package final class BrokerWatch: Sendable {
  private let state = Guarded(State())

  private struct State {
    var isStopping = false
    var isOver = false
    var activity: BrokerActivity?
  }

  /// Watches the broker while the load of this shared memory is measured.
  /// - Parameters:
  ///   - monitor: the broker's monitoring.
  ///   - area: tells when the measured time begins and ends.
  ///   - seconds: how long the measured time is to be.
  package init(_ monitor: BrokerMonitor, area: RecordingArea, seconds: Double) {
    let interval = UInt64(max(0.5, seconds / 10) * 1e9)
    let thread = Thread { [state] in
      let activity = Self.watch(monitor, area: area, interval: interval) {
        state.withLock { $0.isStopping }
      }
      state.withLock {
        $0.activity = activity
        $0.isOver = true
      }
    }
    thread.name = "broker-watch"
    thread.stackSize = 512 << 10
    thread.start()
  }

  deinit { state.withLock { $0.isStopping = true } }

  /// Ends the watch when the load is over; nil when the monitoring did not answer at both ends, or the
  /// load did not come to the end of its measured time. The shared memory must be there until then.
  package func finish() -> BrokerActivity? {
    state.withLock { $0.isStopping = true }
    // Each question to the broker has a deadline of its own, so the thread ends well before this.
    return state.wait(until: .after(.seconds(30))) { $0.isOver ? $0 : nil }?.activity
  }

  private static let timeout = Duration.seconds(2)

  private static func watch(
    _ monitor: BrokerMonitor, area: RecordingArea, interval: UInt64, isStopping: () -> Bool
  ) -> BrokerActivity? {
    guard sleep(until: { area.measureStart == 0 ? .max : area.measureStart }, unless: isStopping),
      let first = try? monitor.statistics(timeout: timeout)
    else { return nil }
    var most: UInt64?
    var looks = 0
    var nextLook = area.measureStart + min(interval, 100_000_000)
    while monotonicNanoseconds() < area.measureEnd {
      guard sleep(until: { min(nextLook, area.measureEnd) }, unless: isStopping) else { break }
      guard nextLook < area.measureEnd else { continue }
      nextLook += interval
      guard let bytes = try? monitor.pendingBytes(timeout: timeout) else { continue }
      most = max(most ?? 0, bytes)
      looks += 1
    }
    // A load that was ended before its time says so in `measureEnd`; one that died does not.
    guard monotonicNanoseconds() >= area.measureEnd,
      let last = try? monitor.statistics(timeout: timeout)
    else { return nil }
    return BrokerActivity(from: first, to: last, pendingMostBytes: most, pendingLooks: looks)
  }

  /// Sleeps until a time that may still change; false when it is to stop before.
  private static func sleep(until time: () -> UInt64, unless isStopping: () -> Bool) -> Bool {
    while true {
      let now = monotonicNanoseconds()
      let end = time()
      if now >= end { return true }
      if isStopping() { return false }
      usleep(UInt32(min((end - now) / 1000 + 1, 10_000)))
    }
  }
}

extension BrokerActivity {
  /// What lies between two readings; nil when the broker was started anew in between.
  init?(
    from first: BrokerStatistics, to last: BrokerStatistics, pendingMostBytes: UInt64?, pendingLooks: Int
  ) {
    guard last.inMessages >= first.inMessages, last.outMessages >= first.outMessages,
      last.inBytes >= first.inBytes, last.outBytes >= first.outBytes,
      last.slowConsumers >= first.slowConsumers
    else { return nil }
    self.init(
      inMessages: last.inMessages - first.inMessages, outMessages: last.outMessages - first.outMessages,
      inBytes: last.inBytes - first.inBytes, outBytes: last.outBytes - first.outBytes,
      slowConsumers: UInt64(last.slowConsumers - first.slowConsumers),
      subscriptions: UInt64(clamping: last.subscriptions), connections: UInt64(clamping: last.connections),
      pendingMostBytes: pendingMostBytes, pendingLooks: pendingLooks)
  }
}
