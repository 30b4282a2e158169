import Engine
import Results
import Scenario

/// Searches the highest rate of each target that still keeps its objective: open loads, halving the gap between the
/// highest rate that was served and the lowest that was not; then both are measured in replicates, until the one surely
/// keeps it and the other does not.
struct RateSearch {
  /// Whether what was found is measured again until there is an interval.
  let confirms: Bool
  private static let mostTries = 8
  /// Rates that fail when they are measured again cost further tries.
  private static let mostRates = 14
  /// A rate whose replicates are disturbed is given up after so many times as many as are needed.
  private static let patience = 3
  private static let fewestPerSecond = 10.0

  /// What to load next; nil when all targets are known.
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
    // A scenario of open loads alone does not say where to begin.
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

  /// The next rate to try, where `highest` was reached in closed loads; nil when it is known well enough, or a
  /// lower one than `lowest` would be next. A rate of which nothing can be said bounds the search as one that is
  /// not served.
  private static func nextRate(highest: Double, lowest: Double, _ bracket: RateBracket) -> Double? {
    switch (bracket.served?.ratePerSecond, bracket.above?.ratePerSecond) {
    case (nil, nil): round(highest / 2)
    case (let low?, nil): low < highest ? round(min(low * 1.5, highest)) : nil
    case (nil, let high?): high > max(highest / 100, 2 * lowest) ? round(high / 2) : nil
    case (let low?, let high?):
      high / low > RateBracket.closeEnough ? round((low * high).squareRoot()) : nil
    }
  }

  /// Two significant digits and a half, so that labels can be read.
  static func round(_ rate: Double) -> Double {
    var step = 1.0
    while rate / step >= 200 { step *= 10 }
    return max(1, (rate / step).rounded() * step)
  }
}

/// The long loads at the end of a run that has `soak_seconds:`.
enum Soak {
  /// The share of the highest rate of closed loads that a target has to bear all the time.
  private static let share = 0.5

  /// What to load next; nil when every target that was measured under a closed load has had its soak.
  static func next(_ document: RunDocument) -> Step? {
    guard let seconds = document.scenario.soakSeconds else { return nil }
    return document.scenario.targets.lazy.compactMap { target -> Step? in
      let mine = document.measurements.filter { $0.target == target.name }
      let closed = mine.filter { $0.offeredRatePerSecond == nil }.compactMap(\.throughputPerSecond)
      guard !mine.contains(where: { $0.soak == true }), let highest = closed.max(), highest > 0 else {
        return nil
      }
      let rate = max(1, RateSearch.round(highest * share))
      return Step(
        target: target, load: .open(ratePerSecond: rate, arrivals: .poisson), replicate: 1,
        soakSeconds: seconds)
    }.first
  }
}
