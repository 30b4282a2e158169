// Statistics over replicates and over the windows of one measurement. Pure functions.
import Foundation

/// A range that contains a figure, in the figure's unit.
package struct Interval: Sendable, Equatable {
  package let low: Double
  package let high: Double

  /// The distance from 0 of the farther end, and of the nearer one: 0 when the interval contains 0.
  var farthest: Double { max(abs(low), abs(high)) }
  var nearest: Double { max(low, -high, 0) }

  func widened(by margin: Double) -> Interval { Interval(low: low - margin, high: high + margin) }

  func including(_ value: Double) -> Interval { Interval(low: min(low, value), high: max(high, value)) }
}

package enum Statistics {
  /// The fewest replicates that give an interval: the range of six values covers their median with 96.9 %.
  package static let fewestReplicates = 6
  /// The fewest undisturbed replicates that must all agree with the interval of all replicates, when they
  /// have no interval of their own.
  static let fewestUndisturbed = 3
  /// With fewer undisturbed replicates, nothing shows what the disturbances changed. All replicates then decide
  /// only what would be the same with a figure, or a ratio, that is off by this factor.
  static let disturbedFactor = 2.0

  /// The logarithm of the factor by which a figure of all replicates may be off if so many were undisturbed. An
  /// open load has no bound without them: at a rate that a disturbed target hardly bears, queueing multiplies.
  static func doubtLogarithm(undisturbed count: Int, isOpen: Bool) -> Double {
    if count >= fewestUndisturbed { return 0 }
    return isOpen ? .infinity : log(disturbedFactor)
  }

  /// The median; the mean of the middle two for an even number; nil when empty.
  package static func median(_ values: [Double]) -> Double? { median(ofSorted: values.sorted()) }

  /// The median of values in ascending order; nil when empty.
  static func median(ofSorted sorted: [Double]) -> Double? {
    guard !sorted.isEmpty else { return nil }
    let half = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
  }

  /// The exact, distribution-free interval of the median with at least 95 %: two order statistics (Conover,
  /// Practical Nonparametric Statistics, 3.2). Nil with fewer than 6 values.
  package static func medianInterval(_ values: [Double]) -> Interval? {
    values.allSatisfy(\.isFinite) ? medianInterval(ofSorted: values.sorted()) : nil
  }

  /// The same of finite values in ascending order.
  static func medianInterval(ofSorted sorted: [Double]) -> Interval? {
    medianRank(sorted.count).map { Interval(low: sorted[$0 - 1], high: sorted[sorted.count - $0]) }
  }

  /// The rank, from either end, of the values that enclose the median of `count` values; nil for fewer than
  /// 6.
  ///
  /// A run checks its results after 6, 8, 10 and 12 rounds. An odd number, after a disturbance, has the rank
  /// of the next lower check. More than 12 values need 99 %, so that more checks find no differences by
  /// chance.
  static func medianRank(_ count: Int) -> Int? {
    switch count {
    case ..<fewestReplicates: return nil
    case ..<10: return 1
    case ..<12: return 2
    case 12: return 3
    default:
      var rank = 1
      while signProbability(of: count, atMost: rank) <= 0.01 { rank += 1 }
      return rank
    }
  }

  /// The two-sided probability that at most `rare` of `count` fair coins fall on the rarer side.
  static func signProbability(of count: Int, atMost rare: Int) -> Double {
    guard count > 0, rare * 2 < count else { return 1 }
    var term = pow(0.5, Double(count))
    var sum = term
    for place in 0..<rare {
      term *= Double(count - place) / Double(place + 1)
      sum += term
    }
    return min(1, 2 * sum)
  }

  /// The exact sign test's two-sided p that the median of the values is 0 (Arbuthnott 1710); values of 0 are
  /// left out. Nil without values.
  package static func signTest(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let above = values.count { $0 > 0 }
    let below = values.count { $0 < 0 }
    return signProbability(of: above + below, atMost: min(above, below))
  }

  /// The interval, with at least 95 %, of the shift from `a` to `b`: order statistics of all differences
  /// (Moses 1953; Hollander and Wolfe, 4.3). Nil when a side has fewer than 6 values.
  package static func shiftInterval(from a: [Double], to b: [Double]) -> Interval? {
    guard min(a.count, b.count) >= fewestReplicates, (a + b).allSatisfy(\.isFinite) else { return nil }
    var tail = 0.0
    let rank = mannWhitneyShares(a.count, b.count).prefix { share in
      tail += share
      return tail <= 0.025
    }.count
    guard rank >= 1 else { return nil }
    let differences = a.flatMap { x in b.map { $0 - x } }.sorted()
    return Interval(low: differences[rank - 1], high: differences[differences.count - rank])
  }

  /// The probability of each value of Mann and Whitney's U (1947) when both sides have the same distribution;
  /// its generating function is the Gaussian binomial.
  private static func mannWhitneyShares(_ first: Int, _ second: Int) -> [Double] {
    var ways = [Double](repeating: 0, count: first * second + 1)
    ways[0] = 1
    for step in 1...first {
      for u in stride(from: ways.count - 1, through: 0, by: -1) where u >= second + step {
        ways[u] -= ways[u - second - step]
      }
      for u in ways.indices where u >= step { ways[u] += ways[u - step] }
    }
    let all = ways.reduce(0, +)
    return ways.map { $0 / all }
  }

  /// The medians of two modes and the number of values around each, the lower first; nil for one mode.
  ///
  /// Two modes are two groups with at least a quarter of the values and two values each, a factor of at least
  /// 1.3 apart and more than three times the wider group's own factor. A heuristic for warnings, not a test.
  static func modes(_ values: [Double]) -> [(value: Double, count: Int)]? {
    let sorted = values.filter { $0 > 0 && $0.isFinite }.sorted().map { log($0) }
    let least = max(2, sorted.count / 4)
    guard sorted.count >= fewestReplicates else { return nil }
    let places = least...(sorted.count - least)
    guard let cut = places.max(by: { sorted[$0] - sorted[$0 - 1] < sorted[$1] - sorted[$1 - 1] }) else {
      return nil
    }
    let groups = [sorted[..<cut], sorted[cut...]].map(Array.init)
    let gap = groups[1][0] - groups[0][cut - 1]
    let widest = groups.map { $0[$0.count - 1] - $0[0] }.max() ?? 0
    guard gap > log(1.3), gap > 3 * widest else { return nil }
    return groups.map { (exp(median($0) ?? 0), $0.count) }
  }
}

// MARK: Trends in a series

package struct Trend: Sendable, Equatable {
  /// Two-sided probability of such an ordering without a trend.
  package var pValue: Double
  /// Change from the first to the last value along Theil and Sen's slope, relative to the median:
  /// 0.1 is a rise by 10 %; nil when the median is 0.
  package var relativeChange: Double?
  /// Whether the series agree on the trend's direction: the interval of the median of their own changes lies
  /// on one side of 0, or, with too few series for an interval, all changes do.
  package var isShared: Bool
}

extension Statistics {
  /// Mann and Kendall's test for a trend that several series of equal steps share, with the median of Theil
  /// and Sen's slopes: the scores and their variances add up (Hirsch and Slack 1984).
  ///
  /// Uses the normal approximation with corrections for ties and continuity. Series with fewer than 4 values
  /// or with a value that is not finite are left out; nil when none remains.
  package static func trend(_ series: [[Double]]) -> Trend? {
    let used = series.filter { $0.count >= 4 && $0.allSatisfy(\.isFinite) }
    guard !used.isEmpty else { return nil }
    var rises = 0
    var variance = 0.0
    var changes: [Double] = []
    for values in used {
      var slopes: [Double] = []
      for later in values.indices.dropFirst() {
        for earlier in 0..<later {
          let step = values[later] - values[earlier]
          rises += step > 0 ? 1 : step < 0 ? -1 : 0
          slopes.append(step / Double(later - earlier))
        }
      }
      variance += kendallVariance(values)
      guard let middle = median(values), middle != 0, let slope = median(slopes) else { continue }
      changes.append(slope * Double(values.count - 1) / middle)
    }
    let pValue =
      variance > 0 && rises != 0
      ? min(1, 2 * normalTail(Double(abs(rises) - 1) / variance.squareRoot())) : 1
    let extremes =
      medianInterval(changes) ?? changes.min().map { Interval(low: $0, high: changes.max() ?? $0) }
    let isShared = extremes.map { $0.low > 0 || $0.high < 0 } ?? false
    return Trend(pValue: pValue, relativeChange: median(changes), isShared: isShared)
  }

  /// P(Z > z) of a standard normal Z.
  fileprivate static func normalTail(_ z: Double) -> Double { erfc(z / 2.0.squareRoot()) / 2 }

  /// The variance of the rises less the falls, corrected for equal values.
  private static func kendallVariance(_ values: [Double]) -> Double {
    let weight = { (count: Int) in Double(count) * Double(count - 1) * Double(2 * count + 5) }
    let ties = Dictionary(grouping: values) { $0 }.values
    return ties.reduce(weight(values.count)) { $0 - weight($1.count) } / 18
  }
}

// MARK: Sequences of choices: round-robin, even or random

package struct ChiSquare: Sendable, Equatable {
  package let statistic: Double
  package let degrees: Int

  /// The probability of a statistic at least this large under the hypothesis: the finite sum of Abramowitz
  /// and Stegun, 26.4.4 and 26.4.5.
  package var pValue: Double {
    guard statistic > 0 else { return 1 }
    let isOdd = degrees % 2 == 1
    var term = (isOdd ? (2 * statistic / .pi).squareRoot() : 1) * exp(-statistic / 2)
    var sum = isOdd ? 2 * Statistics.normalTail(statistic.squareRoot()) : 0
    for step in stride(from: isOdd ? 3 : 2, through: degrees, by: 2) {
      sum += term
      term *= statistic / Double(step)
    }
    return min(1, sum)
  }
}

extension Statistics {
  /// The share of steps, 0 to 1, that follow the best-fitting cyclic order: 1 is round-robin in any order. A
  /// random choice of n gives about 1/n, a little more because the order is fitted.
  ///
  /// Nil with fewer than 2 choices, for n below 2 or above 8, or when a number is outside 0 ..< n.
  package static func roundRobinShare(_ choices: [Int], of n: Int) -> Double? {
    guard choices.count >= 2, (2...8).contains(n), let counts = transitions(choices, of: n) else {
      return nil
    }
    var best = 0
    // A cyclic order starts at 0, followed by the others in any order.
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

  /// Pearson's test (1900) that all are chosen equally often; nil when the expected count of each is below 5,
  /// the minimum for the approximation (Cochran 1954).
  package static func evenCounts(_ counts: [Int]) -> ChiSquare? {
    let total = counts.reduce(0, +)
    guard counts.count >= 2, total >= 5 * counts.count, counts.allSatisfy({ $0 >= 0 }) else { return nil }
    return ChiSquare(statistic: pearson(counts), degrees: counts.count - 1)
  }

  /// Good's serial test (1953) that each choice is independent of the one before and all are equally likely:
  /// Pearson's statistic of the n² kinds of steps, taken in a circle, minus that of the n counts.
  ///
  /// Nil when a number is outside 0 ..< n, for n below 2, or with fewer than 5 n² choices.
  package static func independentChoices(_ choices: [Int], of n: Int) -> ChiSquare? {
    guard n >= 2, choices.count >= 5 * n * n, var pairs = transitions(choices, of: n),
      let first = choices.first, let last = choices.last
    else { return nil }
    pairs[last * n + first] += 1
    var counts = [Int](repeating: 0, count: n)
    for choice in choices { counts[choice] += 1 }
    return ChiSquare(statistic: max(0, pearson(pairs) - pearson(counts)), degrees: n * n - n)
  }

  /// The number of times each number followed each other one, row by row; nil when one is out of range.
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
