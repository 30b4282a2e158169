// The highest rate that keeps a service level: what was tried, and how sure it is.
import Engine
import Foundation
import Scenario
import struct Engine.Measurement

extension ServiceLevel {
  /// Reads a service level as the command line has it; nil when it is something else.
  package init?(_ text: String) { self.init(text, columns: SummaryRow.numericColumns) }

  /// Such as `response_p99_us < 5 ms`.
  package var text: String {
    "\(metric) <\(orEqual == true ? "=" : "") \(Number.time(microseconds: microseconds) ?? "?")"
  }

  /// Such as `5 ms at p99`.
  var words: String {
    guard metric.hasPrefix("response_p"), let percentile = SummaryRow.column(metric)?.percentile else {
      return text
    }
    return "\(Number.time(microseconds: microseconds) ?? "?") at p\(Number.text(percentile) ?? "?")"
  }

  /// Whether a measurement of an open load served its rate; nil when it cannot be said.
  ///
  /// A late generator makes response times longer, never shorter, since they count from when the
  /// schedule wanted a request: what is served all the same is served.
  package func isServed(_ measurement: Measurement) -> Bool? {
    let codes = Set(measurement.invalidReasons.map(\.code))
    if codes.contains(.saturated) { return false }
    guard let figure = measurement.figure(metric) else { return nil }
    let isUnder = holds(figure)
    let service = SummaryRow.column(metric)?.serviceTime.flatMap { measurement.figure($0) }
    // What the service time keeps and the response time does not may be the generator's lateness.
    if !isUnder, let service, holds(service) { return nil }
    guard codes.allSatisfy({ $0.level == .condition || $0.level == .figure }) else { return nil }
    return isUnder || codes.isEmpty ? isUnder : nil
  }
}

/// What the replicates of a rate say of a service level.
package struct RateTrial: Codable, Sendable, Equatable {
  /// Requests per second.
  package var ratePerSecond: Double
  /// Replicates that keep the service level.
  package var held: Int
  /// Replicates of which it can be said whether they keep it.
  package var said: Int
  /// All replicates.
  package var measured: Int
  /// Replicates in which the rate itself was not reached.
  package var unreached: Int
  /// The metric's median over replicates, microseconds; nil where there is none.
  package var median: Double?
  /// The lower end of the median's interval, microseconds; nil with too few replicates.
  package var low: Double?
  /// The upper end of the median's interval, microseconds; nil with too few replicates.
  package var high: Double?

  init(_ rate: Double, _ replicates: [Measurement], _ level: ServiceLevel) {
    ratePerSecond = rate
    let verdicts = replicates.compactMap(level.isServed)
    (held, said, measured) = (verdicts.count { $0 }, verdicts.count, replicates.count)
    unreached = replicates.count { $0.has(.saturated) }
    let figures = replicates.filter { level.isServed($0) != nil }.compactMap { $0.figure(level.metric) }
    median = Statistics.median(figures)
    let interval = Statistics.medianInterval(figures)
    (low, high) = (interval?.low, interval?.high)
  }

  /// Whether there are replicates enough for an interval.
  package var isDecided: Bool { said >= Statistics.fewestReplicates }

  /// Whether the rate keeps the service level as far as is known: of enough replicates, when the upper end of the median's
  /// exact interval does; of fewer, when all do.
  package var isServed: Bool {
    let allowed = Statistics.medianRank(said).map { $0 - 1 } ?? 0
    return said > 0 && said - held <= allowed
  }

  fileprivate var heldText: String { "\(held) of \(said)" }

  /// The open loads of a target that were measured, the lowest rate first.
  package static func all(_ measurements: [Measurement], _ target: String, _ level: ServiceLevel)
    -> [RateTrial]
  {
    let open = measurements.filter { one in
      one.target == target && one.ramp == nil
        && one.offeredRatePerSecond.map {
          one.load == LoadShape.open(ratePerSecond: $0, arrivals: .poisson).label
        }
          == true
    }
    return Set(open.compactMap(\.offeredRatePerSecond)).sorted().map { rate in
      RateTrial(rate, open.filter { $0.offeredRatePerSecond == rate }, level)
    }
  }
}

/// The highest rate at which a target keeps its service level, as far as it was searched.
package struct ObjectiveResult: Codable, Sendable, Equatable {
  /// What a search for the highest rate came to.
  package enum Verdict: String, Codable, Sendable, CaseIterable {
    /// `rate` keeps it in enough replicates, and `above` does not.
    case held
    /// `rate` keeps it in enough replicates, and is as much as closed loads reach.
    case unbounded
    /// `rate` keeps it in too few replicates to be sure.
    case unconfirmed
    /// No rate that was tried keeps it.
    case notHeld = "not_held"
    /// No rate was tried.
    case notSearched = "not_searched"
  }

  /// The target's name.
  package var target: String
  /// What must hold.
  package var objective: ServiceLevel
  /// What the search came to.
  package var verdict: Verdict
  /// The highest rate that keeps it; nil without one.
  package var rate: RateTrial?
  /// The lowest rate over it that does not; nil without one.
  package var above: RateTrial?

  init(_ target: String, _ level: ServiceLevel, _ measurements: [Measurement]) {
    (self.target, objective) = (target, level)
    let trials = RateTrial.all(measurements, target, level)
    let best = trials.last(where: \.isServed)
    let next = trials.first { !$0.isServed && $0.said > 0 && $0.ratePerSecond > best?.ratePerSecond ?? 0 }
    (rate, above) = (best, next)
    verdict =
      best.map { $0.isDecided ? (next == nil ? .unbounded : .held) : .unconfirmed }
      ?? (next == nil ? .notSearched : .notHeld)
  }

  /// Of each target that has an objective.
  package static func all(_ document: RunDocument) -> [ObjectiveResult] {
    document.scenario.targets.compactMap { target in
      (target.objective ?? document.serviceLevel).map {
        ObjectiveResult(target.name, $0, document.measurements)
      }
    }
  }

  /// Such as `'nats' holds 5 ms at p99 up to 31,000 requests/s (6 of 6 replicates; 33,000 does not: 2 of 6).`
  package var sentence: String {
    let shown = rate.flatMap { Number.grouped($0.ratePerSecond) } ?? "?"
    let held = rate.map { "\($0.heldText) replicates" } ?? ""
    let beyond = above.map { one in
      let rate = Number.grouped(one.ratePerSecond) ?? "?"
      let why = one.unreached * 2 > one.said ? "is not answered in full" : "does not"
      return "\(rate) \(why): \(one.heldText)"
    }
    let facts = [held, beyond].compactMap { $0 }.joined(separator: "; ")
    switch verdict {
    case .held: return "'\(target)' holds \(objective.words) up to \(shown) requests/s (\(facts))."
    case .unbounded:
      return
        "'\(target)' holds \(objective.words) up to \(shown) requests/s (\(facts)), as much as its closed loads "
        + "reach: this objective is no limit to it."
    case .unconfirmed:
      return
        "'\(target)': \(shown) requests/s is the highest rate that was tried and holds \(objective.words), not "
        + "confirmed by \(Statistics.fewestReplicates) replicates (\(facts))."
    case .notHeld:
      return "'\(target)' does not hold \(objective.words) at any rate that was tried (\(beyond ?? ""))."
    case .notSearched:
      return "'\(target)': nothing can be said of \(objective.words): no rate has a usable measurement."
    }
  }
}
