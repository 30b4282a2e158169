import Engine
import Results
import Scenario

/// Searches for the highest rate at which each target meets its objective. Open loads bisect the gap between
/// the highest rate that met it and the lowest that did not. Both rates are then measured in replicates until
/// each result is statistically certain.
struct RateSearch {
  /// Whether the rates found are measured again until there is a confidence interval.
  let confirms: Bool
  private static let mostTries = 8
  /// The limit including extra tries, one for each rate that fails when it is measured again.
  private static let mostRates = 14
  /// A rate whose replicates are disturbed is abandoned after this multiple of the replicates needed.
  private static let patience = 3
  private static let fewestPerSecond = 10.0

  /// Returns the next step; nil when the search is complete for all targets.
  func next(_ document: RunDocument) -> Step? {
    document.scenario.targets.lazy.compactMap { target -> Step? in
      guard let level = target.objective else { return nil }
      let mine = document.measurements.filter { $0.target == target.name }
      return next(for: target, level, mine, seconds: document.scenario.measureSeconds).map { load in
        let replicate = mine.filter { $0.load == load.label }.map(\.replicate).max() ?? 0
        return Step(target: target, load: load, replicate: replicate + 1, isOfSearch: true)
      }
    }.first
  }

  private func next(
    for target: Target, _ level: ServiceLevel, _ mine: [Engine.Measurement], seconds: Double
  ) -> LoadShape? {
    // Without a closed load there is no throughput to start from, so measure one first.
    guard mine.contains(where: { $0.offeredRatePerSecond == nil }) else {
      return .closed(concurrency: min(64, target.maxInFlight))
    }
    let bracket = RateBracket(mine, target.name, level)
    guard let highest = bracket.reached, highest >= Self.fewestPerSecond else { return nil }
    func open(_ rate: Double) -> LoadShape { .open(ratePerSecond: rate, arrivals: .poisson) }
    let trials = bracket.trials
    if let silent = trials.first(where: { $0.said == 0 && $0.measured < Self.patience }) {
      return open(silent.ratePerSecond)
    }
    let failedAgain = trials.count { !$0.isServed && $0.said > 1 }
    if trials.count < min(Self.mostTries + failedAgain, Self.mostRates),
      let rate = Self.nextRate(highest: highest, lowest: level.fewestSamples / seconds, bracket),
      !trials.contains(where: { $0.ratePerSecond == rate })
    {
      return open(rate)
    }
    guard confirms else { return nil }
    return [bracket.served, bracket.above].compactMap { $0 }.first { trial in
      trial.said > 0 && !trial.isDecided && trial.measured < Self.patience * Statistics.fewestReplicates
    }.map { open($0.ratePerSecond) }
  }

  /// Returns the next rate to try, given the `highest` throughput of closed loads; nil when the result is
  /// precise enough or the next rate would be below `lowest`. A rate without a result bounds the search like
  /// one that did not meet the objective.
  private static func nextRate(highest: Double, lowest: Double, _ bracket: RateBracket) -> Double? {
    switch (bracket.served?.ratePerSecond, bracket.above?.ratePerSecond) {
    case (nil, nil): round(highest / 2)
    case (let low?, nil): low < highest ? round(min(low * 1.5, highest)) : nil
    case (nil, let high?): high > max(highest / 100, 2 * lowest) ? round(high / 2) : nil
    case (let low?, let high?):
      high / low > RateBracket.closeEnough ? round((low * high).squareRoot()) : nil
    }
  }

  /// Rounds to about two and a half significant digits, so that labels stay readable.
  static func round(_ rate: Double) -> Double {
    var step = 1.0
    while rate / step >= 200 { step *= 10 }
    return max(1, (rate / step).rounded() * step)
  }
}

/// The long loads at the end of a run that has `soak_seconds:`.
enum Soak {
  /// The load of a soak, as a share of the highest throughput of closed loads.
  private static let share = 0.5

  /// Returns the next soak, or the control of one whose figures have changed; nil when every target measured
  /// under a closed load has had its own.
  static func next(_ document: RunDocument) -> Step? {
    guard let seconds = document.scenario.soakSeconds else { return nil }
    return document.scenario.targets.lazy.compactMap { target -> Step? in
      let mine = document.measurements.filter { $0.target == target.name }
      let closed = mine.filter { $0.offeredRatePerSecond == nil }.compactMap(\.throughputPerSecond)
      guard let highest = closed.max(), highest > 0 else { return nil }
      let rate = max(1, RateSearch.round(highest * share))
      func step(replicate: Int, seconds: Double) -> Step {
        Step(
          target: target, load: .open(ratePerSecond: rate, arrivals: .poisson), replicate: replicate,
          soakSeconds: seconds)
      }
      let soaks = mine.filter { $0.soak == true }
      guard let one = soaks.first else { return step(replicate: 1, seconds: seconds) }
      guard soaks.count == 1, SoakResult(one).needsControl else { return nil }
      return step(replicate: 2, seconds: seconds * SoakResult.endShare)
    }.first
  }
}
