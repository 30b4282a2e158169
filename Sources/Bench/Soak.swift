import Engine
import Results
import Scenario

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
