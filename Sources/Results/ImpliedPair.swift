// What a documented pair of latency and throughput says without saying it.
import Engine
import Lab

/// A documented latency with the throughput stated beside it, held against one measured target.
package struct ImpliedPair: Codable, Sendable, Equatable {
  /// The latency claim's id.
  package var claim: String
  /// The target that was measured.
  package var target: String
  /// The documented latency, the middle of its range, microseconds.
  package var latencyMicroseconds: Double
  /// The documented throughput, requests a second.
  package var ratePerSecond: Double
  /// The measured median response time of a request, unloaded, microseconds; nil without one.
  package var unloadedMicroseconds: Double?
  /// Phases of a request.
  package var phases: Int

  /// Requests in flight that the pair implies (Little 1961: throughput x time).
  package var inFlight: Double { ratePerSecond * latencyMicroseconds / 1e6 }

  /// Work of the plugin that would make the documented latency true of an unloaded request,
  /// microseconds for all its phases; 0 or less where the request already takes that long.
  package var workMicroseconds: Double? { unloadedMicroseconds.map { latencyMicroseconds - $0 } }

  /// The pairs that claims state, for each target that is measured for them.
  package static func pairs(_ checks: [ClaimCheck], measurements: [Measurement]) -> [ImpliedPair] {
    checks.flatMap { check -> [ImpliedPair] in
      guard check.column == "response_p50_us", check.relation == nil, let low = check.low,
        let high = check.high, let rate = check.documentedRatePerSecond, let factor = check.unitFactor
      else { return [] }
      return check.conditions.filter { $0.letter == "a" }.map { condition in
        let group = MeasurementGroup(
          target: condition.target, load: condition.load,
          measurements: measurements.filter { $0.target == condition.target && $0.load == condition.load })
        return ImpliedPair(
          claim: check.id, target: condition.target, latencyMicroseconds: (low + high) / 2 * factor,
          ratePerSecond: rate, unloadedMicroseconds: group.median("response_p50_us"),
          phases: group.phaseNames.count)
      }
    }
  }
}
