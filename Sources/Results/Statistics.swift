// What figures over replicates, and the windows of one measurement, can honestly be said to be.
// Pure functions; random resampling has a seed, so that a stored run gives the same report again.
import Engine
import Foundation

/// A range that a figure lies in, in the figure's unit.
package struct Interval: Sendable, Equatable {
  package let low: Double
  package let high: Double

  func contains(_ value: Double) -> Bool { low <= value && value <= high }
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

// MARK: Whether two samples differ, and whether a series has a trend

/// What a test for a trend found in a series.
package struct Trend: Sendable, Equatable {
  /// Two-sided probability of such an ordering without a trend.
  package var pValue: Double
  /// Change from the first to the last value along Theil and Sen's slope, relative to the median:
  /// 0.1 is a rise by 10 %; nil when the median is 0.
  package var relativeChange: Double?
}

extension Statistics {
  /// The most values in all for which the exact Mann-Whitney distribution is counted.
  private static let exactLimit = 40

  /// Mann and Whitney's two-sided p: how likely samples so far apart are when both are alike.
  ///
  /// Exact for up to 40 values in all without ties (Mann and Whitney 1947), else the normal
  /// approximation with correction for ties and continuity. Nil when a side is empty or a value is
  /// not finite. With 3 values on each side the least that it can be is 0.1.
  package static func mannWhitney(_ a: [Double], _ b: [Double]) -> Double? {
    let all = a + b
    guard !a.isEmpty, !b.isEmpty, all.allSatisfy(\.isFinite) else { return nil }
    let above = a.reduce(0.0) { sum, x in
      b.reduce(sum) { $0 + (x > $1 ? 1 : x == $1 ? 0.5 : 0) }
    }
    let product = Double(a.count * b.count)
    let statistic = max(above, product - above)
    let ties = tieSizes(all)
    if ties.isEmpty, all.count <= exactLimit {
      return exactMannWhitney(a.count, b.count, atLeast: Int(statistic))
    }
    let total = Double(all.count)
    let tied = ties.reduce(0.0) { $0 + Double($1 * $1 * $1 - $1) }
    let variance = product / 12 * (total + 1 - tied / (total * (total - 1)))
    guard variance > 0 else { return 1 }
    let z = (statistic - product / 2 - 0.5) / variance.squareRoot()
    return min(1, 2 * Distributions.normalTail(z))
  }

  /// Mann and Kendall's test for a trend in a series of equal steps, with Theil and Sen's slope.
  ///
  /// Exact for up to 40 values without ties (Kendall 1938), else the normal approximation with
  /// correction for ties and continuity. Nil with under 4 values or one that is not finite.
  package static func trend(_ values: [Double]) -> Trend? {
    guard values.count >= 4, values.allSatisfy(\.isFinite), let middle = median(values) else {
      return nil
    }
    var rises = 0
    var slopes: [Double] = []
    for later in values.indices.dropFirst() {
      for earlier in 0..<later {
        let step = values[later] - values[earlier]
        rises += step > 0 ? 1 : step < 0 ? -1 : 0
        slopes.append(step / Double(later - earlier))
      }
    }
    let ties = tieSizes(values)
    let pValue =
      ties.isEmpty && values.count <= exactLimit
      ? exactKendall(values.count, score: abs(rises))
      : approximateKendall(values.count, score: abs(rises), ties: ties)
    let change = (median(slopes) ?? 0) * Double(values.count - 1)
    return Trend(pValue: pValue, relativeChange: middle == 0 ? nil : change / middle)
  }

  /// How many values are equal to each other, for each value that occurs more than once.
  private static func tieSizes(_ values: [Double]) -> [Int] {
    var sizes: [Double: Int] = [:]
    for value in values { sizes[value, default: 0] += 1 }
    return sizes.values.filter { $0 > 1 }
  }

  /// Two-sided exact p of U by counting the arrangements of each value of U.
  private static func exactMannWhitney(_ first: Int, _ second: Int, atLeast: Int) -> Double {
    // The generating function of U is the Gaussian binomial: multiply by (1 - x^(second+k)), divide
    // by (1 - x^k), for k = 1 ... first.
    var ways = [Double](repeating: 0, count: first * second + 1)
    ways[0] = 1
    for step in 1...first {
      for u in stride(from: ways.count - 1, through: 0, by: -1) where u >= second + step {
        ways[u] -= ways[u - second - step]
      }
      for u in ways.indices where u >= step { ways[u] += ways[u - step] }
    }
    let all = ways.reduce(0, +)
    let tail = ways[min(atLeast, ways.count)...].reduce(0, +)
    return min(1, 2 * tail / all)
  }

  /// Two-sided exact p of Kendall's score by counting the permutations of each number of inversions.
  private static func exactKendall(_ count: Int, score: Int) -> Double {
    let pairs = count * (count - 1) / 2
    var shares = [1.0]
    for size in 2...count {
      var next = [Double](repeating: 0, count: shares.count + size - 1)
      for (inversions, share) in shares.enumerated() {
        for more in 0..<size { next[inversions + more] += share / Double(size) }
      }
      shares = next
    }
    // score = pairs - 2 x inversions.
    let tail = shares[0...((pairs - score) / 2)].reduce(0, +)
    return min(1, 2 * tail)
  }

  private static func approximateKendall(_ count: Int, score: Int, ties: [Int]) -> Double {
    let weight = { (n: Double) in n * (n - 1) * (2 * n + 5) }
    let variance = (weight(Double(count)) - ties.reduce(0.0) { $0 + weight(Double($1)) }) / 18
    guard variance > 0, score > 0 else { return 1 }
    return min(1, 2 * Distributions.normalTail(Double(score - 1) / variance.squareRoot()))
  }
}

// MARK: Whether a sequence of choices is round-robin, even or random

/// A chi-square test's result.
package struct ChiSquare: Sendable, Equatable {
  package let statistic: Double
  package let degrees: Int

  /// Probability of a statistic at least as great when the hypothesis is true.
  package var pValue: Double { Distributions.chiSquareTail(statistic, degrees: degrees) }
}

extension Statistics {
  /// The share of steps, 0 to 1, that go on in the cyclic order that fits best: 1 is round-robin, in
  /// whatever order. A random choice of n gives about 1/n, a little more for the choice of the order.
  ///
  /// `choices` are numbers of 0 ..< n. Nil with under 2 choices, for n under 2 or over 8, or when a
  /// number is out of range. For n = 2 the one cyclic order is to change each time.
  package static func roundRobinShare(_ choices: [Int], of n: Int) -> Double? {
    guard choices.count >= 2, (2...8).contains(n), let counts = transitions(choices, of: n) else {
      return nil
    }
    var best = 0
    // A cyclic order is 0 and then the others in some order.
    func extend(_ last: Int, _ used: Int, _ sum: Int) {
      if used == (1 << n) - 1 {
        best = max(best, sum + counts[last * n])
        return
      }
      for next in 1..<n where used & (1 << next) == 0 {
        extend(next, used | 1 << next, sum + counts[last * n + next])
      }
    }
    extend(0, 1, 0)
    return Double(best) / Double(choices.count - 1)
  }

  /// Pearson's test (1900) that all are chosen equally often.
  ///
  /// Nil for under 2 to choose from, or under 5 expected of each, where the approximation fails (Cochran 1954).
  package static func evenCounts(_ counts: [Int]) -> ChiSquare? {
    let total = counts.reduce(0, +)
    guard counts.count >= 2, total >= 5 * counts.count, counts.allSatisfy({ $0 >= 0 }) else { return nil }
    return ChiSquare(statistic: pearson(counts), degrees: counts.count - 1)
  }

  /// Good's serial test (1953) that each choice is independent of the one before and all are equally
  /// likely: Pearson's statistic of the n² kinds of steps, taken in a circle, less that of the n counts.
  ///
  /// Nil when a number is not of 0 ..< n, for n under 2, or with under 5 n² choices.
  package static func independentChoices(_ choices: [Int], of n: Int) -> ChiSquare? {
    guard n >= 2, choices.count >= 5 * n * n, var pairs = transitions(choices, of: n),
      let first = choices.first, let last = choices.last
    else { return nil }
    pairs[last * n + first] += 1
    var counts = [Int](repeating: 0, count: n)
    for choice in choices { counts[choice] += 1 }
    return ChiSquare(statistic: max(0, pearson(pairs) - pearson(counts)), degrees: n * n - n)
  }

  /// How often each number was followed by each other, row by row; nil when one is out of range.
  private static func transitions(_ choices: [Int], of n: Int) -> [Int]? {
    guard choices.allSatisfy((0..<n).contains) else { return nil }
    var counts = [Int](repeating: 0, count: n * n)
    for (before, after) in zip(choices, choices.dropFirst()) { counts[before * n + after] += 1 }
    return counts
  }

  private static func pearson(_ counts: [Int]) -> Double {
    let expected = Double(counts.reduce(0, +)) / Double(counts.count)
    return counts.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
  }
}
