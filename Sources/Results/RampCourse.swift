// Ramps: how a target follows a rising request rate.
import Engine
import Scenario

extension Measurement {
  /// The average rate that an open load asks for in a window; nil for a closed load.
  package func offeredPerSecond(in window: MeasurementWindow) -> Double? {
    ramp.map { $0.ratePerSecond(at: window.startSeconds + window.durationSeconds / 2) }
      ?? offeredRatePerSecond
  }

  /// Whether the answers in each window of a ramp keep up with the rate, allowing for chance.
  fileprivate func followed(_ ramp: Ramp) -> [Bool] {
    // Answers belong to requests sent one response time earlier, at a lower rate. The lowest median response
    // time stands for a target without queueing.
    let least = windows.compactMap(\.p50Nanoseconds).min().map { Double($0) / 1e9 } ?? 0
    let risePerSecond = (ramp.toPerSecond - ramp.fromPerSecond) / ramp.overSeconds
    return windows.map { window in
      guard let answered = window.answersPerSecond, let rate = offeredPerSecond(in: window) else {
        return false
      }
      let asked = (rate - risePerSecond * least) * window.durationSeconds
      // Four standard deviations of Poisson arrivals, and one request in flight.
      let chance = (ramp.arrivals == .poisson ? 4 * max(asked, 0).squareRoot() : 0) + 1
      return answered * window.durationSeconds >= Validity.reachedShare * asked - chance
    }
  }

  /// The rate up to which the answers follow a ramp: its last rate, or the mean rate of the last window
  /// before they fall behind; 0 when they never follow. Nil for other loads and for runs without the data.
  package var followedPerSecond: Double? {
    guard let ramp, !windows.isEmpty, windows.allSatisfy({ $0.timeouts != nil }) else { return nil }
    let followed = followed(ramp)
    let count = followed.prefix { $0 }.count
    guard count > 0 else { return 0 }
    let end = windows[count - 1].endSeconds
    return count == windows.count ? ramp.ratePerSecond(at: end) : offeredPerSecond(in: windows[count - 1])
  }
}

/// The course of a ramp: medians over replicates, step by step.
package struct RampCourse: Sendable {
  /// A window of the measured time.
  package struct Step: Sendable {
    package var startSeconds: Double
    package var askedPerSecond: Double
    /// Successful answers per second; nil when not known.
    package var reachedPerSecond: Double?
    package var p50Microseconds, p99Microseconds: Double?
    /// Requests that did not succeed.
    package var failed: Double?
  }

  package var target: String
  package var load: String
  package var ramp: Ramp
  package var steps: [Step]
  package var replicates: Int
  /// The rate up to which the answers follow the ramp, the median over replicates; nil when not known.
  package var followedPerSecond: Double?

  /// Why the ramp gives no verdict.
  package static let caution =
    "A ramp shows where to look: measure with an open load at that rate before relying on it."

  package static func all(_ document: RunDocument) -> [RampCourse] {
    MeasurementGroup.all(document).compactMap(RampCourse.init)
  }

  /// Returns nil for another load, and when nothing was recorded.
  init?(_ group: MeasurementGroup) {
    let used = group.used
    guard let ramp = used.first?.ramp, let count = used.map(\.windows.count).max(), count > 0 else {
      return nil
    }
    (target, load, self.ramp, replicates) = (group.target, group.load, ramp, used.count)
    followedPerSecond = group.median("followed_rps")
    steps = (0..<count).compactMap { place in
      let all = used.map(\.windows).filter { $0.indices.contains(place) }.map { $0[place] }
      guard let first = all.first else { return nil }
      func median(_ value: (MeasurementWindow) -> Double?) -> Double? {
        Statistics.median(all.compactMap(value))
      }
      return Step(
        startSeconds: first.startSeconds,
        askedPerSecond: ramp.ratePerSecond(at: first.startSeconds + first.durationSeconds / 2),
        reachedPerSecond: median(\.answersPerSecond),
        p50Microseconds: median { $0.p50Nanoseconds.map { Double($0) / 1000 } },
        p99Microseconds: median { $0.p99Nanoseconds.map { Double($0) / 1000 } },
        failed: median { $0.failed.map { Double($0) } })
    }
  }

  /// A sentence such as `nats follows the schedule up to 32,000 requests/s, of 50,000`.
  package var sentence: String {
    let last = Number.grouped(ramp.toPerSecond) ?? "?"
    guard let followedPerSecond, let shown = Number.grouped(followedPerSecond) else {
      return "'\(target)': how far it follows the schedule is not known."
    }
    let over = replicates == 1 ? "one replicate" : "the median of \(replicates) replicates"
    if followedPerSecond <= 0 {
      let first = Number.grouped(ramp.fromPerSecond) ?? "?"
      return "'\(target)' does not follow the schedule from its beginning, \(first) requests/s (\(over))."
    }
    return followedPerSecond >= ramp.toPerSecond
      ? "'\(target)' follows the schedule to its end, \(last) requests/s (\(over))."
      : "'\(target)' follows the schedule up to \(shown) requests/s, of \(last) (\(over))."
  }
}
