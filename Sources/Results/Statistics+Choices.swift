// Tests of who was chosen: is a sequence of choices round-robin, is it even, is it random.
import Engine
import Foundation

/// A chi-square test's result.
package struct ChiSquare: Codable, Sendable, Equatable {
  /// The statistic.
  package var statistic: Double
  /// Its degrees of freedom.
  package var degrees: Int
  /// Probability of one at least as great when the hypothesis is true.
  package var pValue: Double

  /// A result.
  package init(statistic: Double, degrees: Int) {
    self.statistic = statistic
    self.degrees = degrees
    pValue = Distributions.chiSquareTail(statistic, degrees: Double(degrees))
  }
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

extension Distributions {
  /// P(X > x), X chi-square with so many degrees of freedom: the regularised upper incomplete gamma
  /// function Q(degrees / 2, x / 2), by series below a + 1 and continued fraction above (Numerical
  /// Recipes, 6.2).
  static func chiSquareTail(_ x: Double, degrees: Double) -> Double {
    guard x > 0 else { return 1 }
    let (a, z) = (degrees / 2, x / 2)
    var sign: Int32 = 0
    let front = exp(a * log(z) - z - lgamma_r(a, &sign))
    if z < a + 1 {
      var term = 1 / a
      var sum = term
      for step in 1...10_000 {
        term *= z / (a + Double(step))
        sum += term
        if term < sum * 1e-15 { break }
      }
      return max(0, 1 - front * sum)
    }
    let tiny = 1e-300
    var b = z + 1 - a
    var c = 1 / tiny
    var d = 1 / b
    var result = d
    for step in 1...10_000 {
      let m = Double(step)
      let factor = -m * (m - a)
      b += 2
      d = factor * d + b
      d = 1 / (abs(d) < tiny ? tiny : d)
      c = b + factor / c
      c = abs(c) < tiny ? tiny : c
      result *= d * c
      if abs(d * c - 1) < 1e-15 { break }
    }
    return front * result
  }
}
