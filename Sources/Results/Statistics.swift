// What figures over replicates, and the windows of one measurement, can honestly be said to be.
// Pure functions; random resampling has a seed, so that a stored run gives the same report again.
import Engine
import Foundation

/// A range that a figure lies in, in the figure's unit.
package struct Interval: Codable, Sendable, Equatable {
  /// Lower end.
  package var low: Double
  /// Upper end; not less than `low`.
  package var high: Double

  /// A range.
  package init(low: Double, high: Double) {
    self.low = low
    self.high = high
  }

  /// Whether the value is in the range, ends included.
  package func contains(_ value: Double) -> Bool { low <= value && value <= high }
}

/// The statistics of the reports.
package enum Statistics {
  /// The fewest replicates for which an interval is given.
  package static let fewestReplicates = 3
  /// Resamples of a bootstrap.
  package static let resamples = 10_000

  /// The median; the mean of the middle two for an even number; nil when empty.
  package static func median(_ values: [Double]) -> Double? {
    medianOfSorted(values.sorted())
  }

  /// The 95 % percentile-bootstrap interval of the median (Efron 1979).
  ///
  /// Nil with under 3 values, since two tell nothing about a spread. With 3, 4 and 5 values it is
  /// (nearly) their whole range: see `rangeCoverage`.
  package static func bootstrapMedian(_ values: [Double], seed: UInt64 = 1) -> Interval? {
    guard values.count >= fewestReplicates, values.allSatisfy(\.isFinite) else { return nil }
    var generator = SplitMix64(seed: seed)
    var sample = [Double](repeating: 0, count: values.count)
    let medians = (0..<resamples).map { _ in generator.resampledMedian(of: values, into: &sample) }
    return middle95(medians)
  }

  /// How surely the range of so many values holds the median of what they were drawn from: 0-1.
  ///
  /// 1 - 2 (1/2)^n: 75 % for 3 values, 87.5 % for 4, 93.75 % for 5. No interval from so few
  /// values can be surer, so reports name this share where they print an interval of under 6.
  package static func rangeCoverage(_ count: Int) -> Double {
    count < 1 ? 0 : 1 - 2 * pow(0.5, Double(count))
  }

  /// The median of b/a over paired replicates, and its 95 % bootstrap interval.
  ///
  /// The n-th of `a` belongs to the n-th of `b`. Nil when they are not equally many, there are
  /// none, or a value of `a` is 0 or one of either is not finite. The interval is nil with under
  /// 3 pairs.
  package static func pairedRatio(
    a: [Double], b: [Double], seed: UInt64 = 1
  ) -> (ratio: Double, interval: Interval?)? {
    guard a.count == b.count, a.allSatisfy({ $0 != 0 }) else { return nil }
    let ratios = zip(a, b).map { $1 / $0 }
    guard ratios.allSatisfy(\.isFinite), let ratio = median(ratios) else { return nil }
    return (ratio, bootstrapMedian(ratios, seed: seed))
  }

  /// The ratio of medians b/a of samples that are not paired, such as two stored runs, and its
  /// 95 % bootstrap interval, each side resampled by itself.
  ///
  /// Nil when a side is empty, a value is not finite or one of `a` is 0. The interval is nil when
  /// a side has under 3 values.
  package static func unpairedRatio(
    a: [Double], b: [Double], seed: UInt64 = 1
  ) -> (ratio: Double, interval: Interval?)? {
    guard a.allSatisfy({ $0.isFinite && $0 != 0 }), b.allSatisfy(\.isFinite),
      let middleA = median(a), let middleB = median(b), middleA != 0
    else { return nil }
    guard min(a.count, b.count) >= fewestReplicates else { return (middleB / middleA, nil) }
    var generator = SplitMix64(seed: seed)
    var sampleA = a
    var sampleB = b
    let ratios = (0..<resamples).map { _ in
      let below = generator.resampledMedian(of: a, into: &sampleA)
      return generator.resampledMedian(of: b, into: &sampleB) / below
    }
    return (middleB / middleA, ratios.allSatisfy(\.isFinite) ? middle95(ratios) : nil)
  }

  /// The 95 % t-interval of the mean rate over a measurement's windows, completed per second.
  ///
  /// Nil with under 3 windows. Takes windows as independent; neighbours seldom are wholly, so the
  /// true interval is rather wider. No rate is under 0.
  package static func throughputInterval(_ windows: [MeasurementWindow]) -> Interval? {
    let rates = windows.filter { $0.durationSeconds > 0 }.map {
      Double($0.completed) / $0.durationSeconds
    }
    guard rates.count >= 3 else { return nil }
    let count = Double(rates.count)
    let mean = rates.reduce(0, +) / count
    let variance = rates.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    let half = Distributions.studentQuantile(0.975, degrees: count - 1) * (variance / count).squareRoot()
    return Interval(low: max(0, mean - half), high: mean + half)
  }

  /// The distribution-free 95 % interval of a percentile of one histogram, nanoseconds.
  ///
  /// Its ends are the order statistics whose ranks enclose the percentile's with binomial
  /// probability of at least 95 % (Conover, Practical Nonparametric Statistics, 3.2). Holds for
  /// this measurement only: it knows nothing of what differs between replicates. Nil when there
  /// are too few samples for such ranks.
  package static func percentileInterval(
    _ histogram: LatencyHistogram, percentile: Double
  ) -> Interval? {
    guard percentile > 0, percentile < 100,
      let ranks = percentileRanks(count: histogram.count, percentile: percentile),
      let low = histogram.value(atRank: ranks.low), let high = histogram.value(atRank: ranks.high)
    else { return nil }
    return Interval(low: Double(low), high: Double(high))
  }

  /// The ranks (1 is the least) that enclose a percentile with 95 %; nil with too few samples.
  static func percentileRanks(count: UInt64, percentile: Double) -> (low: UInt64, high: UInt64)? {
    guard count > 0 else { return nil }
    let share = percentile / 100
    // P(X(low) <= q) = P(at least `low` samples are at most q) = 1 - F(low - 1).
    let low = Distributions.binomialQuantile(0.025, trials: count, share: share)
    let high = Distributions.binomialQuantile(0.975, trials: count, share: share) + 1
    guard low >= 1, high <= count else { return nil }
    return (low, high)
  }

  /// How far mean requests in flight, as throughput x mean response time says, are from those that
  /// the load keeps: 0 is none, 0.05 is 5 % more, -0.05 is 5 % less (Little 1961).
  ///
  /// Nil when `inFlight` is not positive.
  package static func littleDeviation(
    inFlight: Double, throughputPerSecond: Double, meanResponseNanoseconds: Double
  ) -> Double? {
    guard inFlight > 0 else { return nil }
    return throughputPerSecond * meanResponseNanoseconds / 1e9 / inFlight - 1
  }

  private static func middle95(_ values: [Double]) -> Interval {
    let sorted = values.sorted()
    let place = { (share: Double) in Int((share * Double(sorted.count - 1)).rounded()) }
    return Interval(low: sorted[place(0.025)], high: sorted[place(0.975)])
  }

  fileprivate static func medianOfSorted(_ sorted: [Double]) -> Double? {
    guard !sorted.isEmpty else { return nil }
    let half = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
  }
}

extension SplitMix64 {
  /// Fills `sample` from `values`, with replacement, and takes its median.
  mutating func resampledMedian(of values: [Double], into sample: inout [Double]) -> Double {
    for place in sample.indices {
      // The high word of the product is even over the indices up to 1 in 2^60 here.
      sample[place] = values[Int(next().multipliedFullWidth(by: UInt64(values.count)).high)]
    }
    sample.sort()
    return Statistics.medianOfSorted(sample) ?? .nan
  }
}
