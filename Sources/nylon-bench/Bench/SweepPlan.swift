import Results
import Report
import Scenario

/// A scenario's plan with its loads swept: more and more requests in flight, and, where they can be
/// varied, every combination of numbers of workers and of connections.
struct SweepPlan {
  /// Requests in flight, ascending.
  let inFlight: [Int]
  /// Workers of a pool that the run starts.
  let workers: [Int]
  /// NATS connections of the generator.
  let connections: [Int]

  /// A whole number, `1,2,8`, or `1..64`, which doubles; nil when it is something else.
  static func numbers(_ text: String, in range: ClosedRange<Int>) -> [Int]? {
    var all: Set<Int> = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.components(separatedBy: "..").map { Int($0.trimmingCharacters(in: .whitespaces)) }
      guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last,
        range.contains(first), range.contains(last)
      else { return nil }
      var number = first
      while number < last {
        all.insert(number)
        number *= 2
      }
      all.insert(last)
    }
    return all.sorted()
  }

  /// The plan to be run: the chosen targets, and their variants, each under all closed loads.
  func applied(to plan: Plan, targets chosen: [Target]) -> Plan {
    var swept = plan
    swept.name = String("\(plan.name)-sweep".prefix(64))
    swept.loads = inFlight.map { .closed(concurrency: $0) }
    let variants = TargetVariants(workers: workers, connections: connections)
    swept.targets = variants.applied(to: chosen, connections: plan.connections).map { target in
      var target = target
      target.loads = swept.loads
      target.maxInFlight = max(target.maxInFlight, inFlight.last ?? 1)
      return target
    }
    // Conditions are about the scenario's own loads.
    swept.expectations = []
    return swept
  }
}

/// Searches the highest rate of each target that still keeps a service level: open loads, halving the
/// gap between the highest rate that was served and the lowest that was not.
struct RateSearch {
  let level: ServiceLevel
  let arrivals: Arrivals
  /// Open loads per target, at most.
  private static let mostTries = 8
  /// The search ends when the gap is this small.
  private static let closeEnough = 1.05

  /// What to load next; nil when all targets are known.
  func next(_ document: RunDocument) -> (target: Target, load: LoadShape)? {
    for target in document.scenario.targets {
      if let load = next(for: target.name, document) { return (target, load) }
    }
    return nil
  }

  private func next(for name: String, _ document: RunDocument) -> LoadShape? {
    let mine = document.measurements.filter { $0.target == name }
    let highest = mine.filter { $0.offeredRatePerSecond == nil }.compactMap(\.throughputPerSecond).max()
    guard let highest, highest >= 10 else { return nil }
    let tried = mine.filter { $0.offeredRatePerSecond != nil }
    guard tried.count < Self.mostTries else { return nil }
    // What cannot be said counts as not served: a rate is only claimed where it was seen.
    let served = tried.filter { level.isServed($0) == true }.compactMap(\.offeredRatePerSecond).max()
    let failed = tried.filter { level.isServed($0) != true }.compactMap(\.offeredRatePerSecond)
      .filter { $0 > served ?? 0 }.min()
    let rate: Double
    switch (served, failed) {
    case (nil, nil): rate = highest / 2
    case (let low?, nil):
      guard low < highest else { return nil }
      rate = min(low * 1.5, highest)
    case (nil, let high?):
      guard high > highest / 100 else { return nil }
      rate = high / 2
    case (let low?, let high?):
      guard high / low > Self.closeEnough else { return nil }
      rate = (low * high).squareRoot()
    }
    let load = LoadShape.open(ratePerSecond: Self.round(rate), arrivals: arrivals)
    return tried.contains { $0.load == load.label } ? nil : load
  }

  /// Two significant digits and a half, so that labels can be read.
  private static func round(_ rate: Double) -> Double {
    var step = 1.0
    while rate / step >= 200 { step *= 10 }
    return max(1, (rate / step).rounded() * step)
  }
}
