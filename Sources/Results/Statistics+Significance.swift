// Tests of significance: whether two samples differ, and whether a series has a trend.
import Engine
import Foundation

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
