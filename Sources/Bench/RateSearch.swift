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
  private static let closeEnough = 1.05
  /// A rate whose replicates are disturbed is given up after so many times as many as are needed.
  private static let patience = 2
  private static let fewestPerSecond = 10.0

  /// What to load next; nil when all targets are known.
  func next(_ document: RunDocument) -> Step? {
    document.scenario.targets.lazy.compactMap { target -> Step? in
      guard let level = target.objective else { return nil }
      let mine = document.measurements.filter { $0.target == target.name }
      return next(for: target, level, mine).map { load in
        let replicate = mine.filter { $0.load == load.label }.map(\.replicate).max() ?? 0
        return Step(target: target, load: load, replicate: replicate + 1, isOfSearch: true)
      }
    }.first
  }

  private func next(for target: Target, _ level: ServiceLevel, _ mine: [Engine.Measurement]) -> LoadShape? {
    let closed = mine.filter { $0.offeredRatePerSecond == nil }
    // A scenario of open loads alone does not say where to begin.
    guard !closed.isEmpty else { return .closed(concurrency: min(64, target.maxInFlight)) }
    guard let highest = closed.compactMap(\.throughputPerSecond).max(), highest >= Self.fewestPerSecond else {
      return nil
    }
    let trials = RateTrial.all(mine, target.name, level)
    func open(_ rate: Double) -> LoadShape { .open(ratePerSecond: rate, arrivals: .poisson) }
    if let silent = trials.first(where: { $0.said == 0 && $0.measured < Self.patience }) {
      return open(silent.ratePerSecond)
    }
    let failedAgain = trials.count { !$0.isServed && $0.measured > 1 }
    let tries = trials.map { Try(rate: $0.ratePerSecond, isServed: $0.isServed) }
    if let rate = Self.nextRate(
      highest: highest, tries: tries, most: min(Self.mostTries + failedAgain, Self.mostRates)),
      !tries.contains(where: { $0.rate == rate })
    {
      return open(rate)
    }
    guard confirms else { return nil }
    let best = trials.last(where: \.isServed)
    let above = trials.first { !$0.isServed && $0.ratePerSecond > best?.ratePerSecond ?? 0 }
    return [best, above].compactMap { $0 }.first { trial in
      !trial.isDecided && trial.measured < Self.patience * Statistics.fewestReplicates
    }.map { open($0.ratePerSecond) }
  }

  struct Try {
    var rate: Double
    var isServed: Bool
  }

  /// The next rate to try, where `highest` was reached in closed loads; nil when it is known well enough.
  static func nextRate(highest: Double, tries: [Try], most: Int = mostTries) -> Double? {
    guard tries.count < most else { return nil }
    let served = tries.filter(\.isServed).map(\.rate).max()
    let failed = tries.filter { !$0.isServed && $0.rate > served ?? 0 }.map(\.rate).min()
    switch (served, failed) {
    case (nil, nil): return round(highest / 2)
    case (let low?, nil): return low < highest ? round(min(low * 1.5, highest)) : nil
    case (nil, let high?): return high > highest / 100 ? round(high / 2) : nil
    case (let low?, let high?): return high / low > closeEnough ? round((low * high).squareRoot()) : nil
    }
  }

  /// Two significant digits and a half, so that labels can be read.
  static func round(_ rate: Double) -> Double {
    var step = 1.0
    while rate / step >= 200 { step *= 10 }
    return max(1, (rate / step).rounded() * step)
  }
}
