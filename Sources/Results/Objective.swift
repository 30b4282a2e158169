// The highest rate that keeps a service level: the rates that were tried, and how certain the answer is.
import Engine
import Scenario

extension ServiceLevel {
  /// Parses a service level of the command line; nil when the text is not one.
  package init?(_ text: String) { self.init(text, columns: SummaryRow.numericColumns) }

  /// The condition, such as `response_p99_us < 5 ms`.
  package var text: String {
    "\(metric) <\(orEqual == true ? "=" : "") \(Number.time(microseconds: microseconds) ?? "?")"
  }

  /// A short form, such as `5 ms at p99`.
  var words: String {
    guard metric.hasPrefix("response_p"), let percentile = SummaryRow.column(metric)?.percentile else {
      return text
    }
    return "\(Number.time(microseconds: microseconds) ?? "?") at p\(Number.text(percentile) ?? "?")"
  }

  /// Whether an open load kept the service level at its rate; nil when this is not known.
  ///
  /// Response times count from the scheduled send time, so a late generator makes them longer, never shorter.
  /// A service level that is kept despite lateness is kept.
  package func isServed(_ measurement: Measurement) -> Bool? {
    let codes = Set(measurement.invalidReasons.map(\.code))
    // The disturbance of a replicate may also have kept it from reaching its rate.
    if codes.contains(.saturated), !measurement.isDisturbed { return false }
    guard let figure = measurement.figure(metric) else { return nil }
    let isUnder = holds(figure)
    let service = SummaryRow.column(metric)?.serviceTime.flatMap { measurement.figure($0) }
    // If only the service time keeps the level, the generator's lateness may be the reason.
    if !isUnder, let service, holds(service) { return nil }
    guard codes.allSatisfy({ $0.level == .condition || $0.level == .figure }) else { return nil }
    return isUnder || codes.isEmpty ? isUnder : nil
  }

  /// The number of samples that a percentile needs: ten beyond it, plus a fifth for random arrivals.
  package var fewestSamples: Double {
    SummaryRow.column(metric)?.percentile.map { 12 / (1 - $0 / 100) } ?? 0
  }

  /// The reason why ``isServed(_:)`` is nil, in words.
  fileprivate func doubt(_ measurement: Measurement) -> String {
    guard measurement.invalidReasons.isEmpty else { return measurement.invalidCodes }
    return measurement.figure(metric) == nil
      ? "too few samples, measure for longer" : "the generator was late"
  }
}

/// The replicates of one rate, judged by a service level.
package struct RateTrial: Codable, Sendable, Equatable {
  /// Requests per second.
  package var ratePerSecond: Double
  /// Replicates that keep the service level.
  package var held: Int
  /// Replicates for which it is known whether they keep the service level.
  package var said: Int
  /// All replicates.
  package var measured: Int
  /// Replicates that did not reach the rate itself.
  package var unreached: Int
  /// The metric's median over replicates, microseconds; nil when there is none.
  package var median: Double?
  /// The lower end of the median's interval, microseconds; nil with too few replicates.
  package var low: Double?
  /// The upper end of the median's interval, microseconds; nil with too few replicates.
  package var high: Double?
  /// Why the other replicates are not judged, such as `steal`; nil when all are.
  package var doubt: String?

  init(_ rate: Double, _ replicates: [Measurement], _ level: ServiceLevel) {
    ratePerSecond = rate
    let clear = replicates.filter { level.isServed($0) != nil }
    held = clear.count { level.isServed($0) == true }
    (said, measured) = (clear.count, replicates.count)
    unreached = clear.count { $0.has(.saturated) }
    let figures = clear.compactMap { $0.figure(level.metric) }
    median = Statistics.median(figures)
    let interval = Statistics.medianInterval(figures)
    (low, high) = (interval?.low, interval?.high)
    let doubts = replicates.filter { level.isServed($0) == nil }.map(level.doubt).uniqued()
    doubt = doubts.isEmpty ? nil : doubts.joined(separator: ", ")
  }

  /// Whether there are enough replicates for an interval.
  package var isDecided: Bool { said >= Statistics.fewestReplicates }

  /// Whether the rate keeps the service level, as far as is known. With enough replicates, the upper end of
  /// the median's exact interval decides; with fewer, all must keep it.
  package var isServed: Bool {
    let allowed = Statistics.medianRank(said).map { $0 - 1 } ?? 0
    return said > 0 && said - held <= allowed
  }

  /// Whether the median keeps the service level although its interval may not.
  package var isUnsure: Bool { !isServed && held * 2 >= said }

  /// Text such as `33,000 does not: 2 of 6`, for a rate that does not keep the service level.
  fileprivate var unservedText: String {
    let rate = Number.grouped(ratePerSecond) ?? "?"
    guard said > 0 else { return "nothing can be said of \(rate): \(doubt ?? "no replicate")" }
    let why =
      unreached * 2 > said ? "is not answered in full" : isUnsure ? "is undecided" : "does not"
    return "\(rate) \(why): \(held) of \(said)"
  }
}

/// The known rates of a target under a service level, for the search and for its answer.
package struct RateBracket: Sendable {
  /// Rates within this factor of each other count as equal.
  package static let closeEnough = 1.05

  /// The measured open loads, ordered by rate.
  package let trials: [RateTrial]
  /// The highest rate that closed loads reached; nil without a closed load.
  package let reached: Double?
  /// The highest rate that keeps the service level.
  package let served: RateTrial?
  /// The next measured rate above `served`: it does not keep the service level, or is undecided.
  package let above: RateTrial?

  package init(_ measurements: [Measurement], _ target: String, _ level: ServiceLevel) {
    let mine = measurements.filter { $0.target == target }
    reached = mine.filter { $0.offeredRatePerSecond == nil }.compactMap(\.throughputPerSecond).max()
    let open = mine.filter { one in
      one.ramp == nil
        && one.offeredRatePerSecond.map {
          one.load == LoadShape.open(ratePerSecond: $0, arrivals: .poisson).label
        } == true
    }
    let trials = Set(open.compactMap(\.offeredRatePerSecond)).sorted().map { rate in
      RateTrial(rate, open.filter { $0.offeredRatePerSecond == rate }, level)
    }
    let served = trials.last(where: \.isServed)
    above = trials.first { $0.ratePerSecond > served?.ratePerSecond ?? 0 }
    (self.trials, self.served) = (trials, served)
  }
}

/// The result of the search for the highest rate at which a target keeps its service level.
package struct ObjectiveResult: Codable, Sendable, Equatable {
  /// The outcome of a search for the highest rate.
  package enum Verdict: String, Codable, Sendable, CaseIterable {
    /// `rate` keeps the service level in enough replicates, and `above` does not.
    case held
    /// `rate` keeps it in enough replicates, and closed loads reach no higher rate.
    case unbounded
    /// `rate` keeps it in enough replicates, and nothing is known about a higher rate.
    case atLeast = "at_least"
    /// `rate` keeps it in too few replicates to be sure.
    case unconfirmed
    /// No tried rate keeps it.
    case notHeld = "not_held"
    /// No rate was tried, or none could be judged.
    case notSearched = "not_searched"
  }

  /// The target's name.
  package var target: String
  /// The service level to keep.
  package var objective: ServiceLevel
  /// The outcome of the search.
  package var verdict: Verdict
  /// The highest rate that keeps the service level; nil without one.
  package var rate: RateTrial?
  /// The next higher measured rate: it does not keep the service level, or is undecided. Nil without one.
  package var above: RateTrial?

  init(_ target: String, _ level: ServiceLevel, _ measurements: [Measurement]) {
    (self.target, objective) = (target, level)
    let bracket = RateBracket(measurements, target, level)
    (rate, above) = (bracket.served, bracket.above)
    let isKnownAbove = bracket.above.map { $0.said > 0 } ?? false
    guard let served = bracket.served else {
      let failed = bracket.trials.first { $0.said > 0 }
      (above, verdict) = (failed ?? above, failed == nil ? .notSearched : .notHeld)
      return
    }
    let isReached = served.ratePerSecond * RateBracket.closeEnough >= bracket.reached ?? .infinity
    if !served.isDecided {
      verdict = .unconfirmed
    } else if isKnownAbove {
      verdict = .held
    } else {
      verdict = bracket.above == nil && isReached ? .unbounded : .atLeast
    }
  }

  /// The results of all targets that have an objective.
  package static func all(_ document: RunDocument) -> [ObjectiveResult] {
    document.scenario.targets.compactMap { target in
      (target.objective ?? document.serviceLevel).map {
        ObjectiveResult(target.name, $0, document.measurements)
      }
    }
  }

  /// A sentence such as `'nats' holds 5 ms at p99 up to 31,000 requests/s (6 of 6 replicates; 33,000 does
  /// not: 2 of 6).`
  package var sentence: String {
    let shown = rate.flatMap { Number.grouped($0.ratePerSecond) } ?? "?"
    let held = rate.map { "\($0.held) of \($0.said)" + ($0.said == 1 ? " replicate" : " replicates") }
    let facts = [held, above?.unservedText].compactMap { $0 }.joined(separator: "; ")
    let words = objective.words
    switch verdict {
    case .held: return "'\(target)' holds \(words) up to \(shown) requests/s (\(facts))."
    case .unbounded:
      return
        "'\(target)' holds \(words) up to \(shown) requests/s (\(facts)), as much as its closed loads "
        + "reach: this objective is no limit to it."
    case .atLeast:
      let more = above == nil ? "; no higher rate was tried" : ""
      return "'\(target)' holds \(words) at least up to \(shown) requests/s (\(facts)\(more))."
    case .unconfirmed:
      return
        "'\(target)' held \(words) up to \(shown) requests/s (\(facts)); "
        + "\(Statistics.fewestReplicates) replicates would confirm it."
    case .notHeld: return "'\(target)' does not hold \(words) at any rate that was tried (\(facts))."
    case .notSearched:
      return
        "'\(target)': whether it holds \(words) is not known: "
        + "\(above?.unservedText ?? "no rate was tried")."
    }
  }
}
