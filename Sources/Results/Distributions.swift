// The few distributions that intervals and tests need.
import Engine
import Foundation

enum Distributions {
  /// P(Z > z) of a standard normal Z.
  static func normalTail(_ z: Double) -> Double { erfc(z / 2.0.squareRoot()) / 2 }

  /// The value that a Student t with so many degrees of freedom is below with that probability.
  static func studentQuantile(_ probability: Double, degrees: Double) -> Double {
    guard probability != 0.5 else { return 0 }
    if probability < 0.5 { return -studentQuantile(1 - probability, degrees: degrees) }
    var low = 0.0
    var high = 1.0
    while studentTail(high, degrees: degrees) > 1 - probability, high < 1e12 { high *= 2 }
    for _ in 0..<200 {
      let middle = (low + high) / 2
      if studentTail(middle, degrees: degrees) > 1 - probability { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  private static func studentTail(_ t: Double, degrees: Double) -> Double {
    incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
  }

  /// The least k with P(X <= k) of at least `probability`, X binomial.
  static func binomialQuantile(_ probability: Double, trials: UInt64, share: Double) -> UInt64 {
    var low: UInt64 = 0
    var high = trials
    while low < high {
      let middle = low + (high - low) / 2
      if binomialAtMost(middle, trials: trials, share: share) >= probability {
        high = middle
      } else {
        low = middle + 1
      }
    }
    return low
  }

  /// P(X <= k), X binomial.
  static func binomialAtMost(_ k: UInt64, trials: UInt64, share: Double) -> Double {
    k >= trials ? 1 : incompleteBeta(1 - share, Double(trials - k), Double(k) + 1)
  }

  /// The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction
  /// (Numerical Recipes, 6.4).
  static func incompleteBeta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    guard x > 0 else { return 0 }
    guard x < 1 else { return 1 }
    let front = exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * log(x) + b * log1p(-x))
    // The fraction converges quickly on this side of the mean only.
    return x < (a + 1) / (a + b + 2)
      ? front * betaFraction(x, a, b) / a : 1 - front * betaFraction(1 - x, b, a) / b
  }

  private static func betaFraction(_ x: Double, _ a: Double, _ b: Double) -> Double {
    let tiny = 1e-300
    let kept = { (value: Double) in abs(value) < tiny ? tiny : value }
    var c = 1.0
    var d = 1 / kept(1 - (a + b) * x / (a + 1))
    var result = d
    // Needs about sqrt(max(a, b)) steps.
    for step in 1...100_000 {
      let m = Double(step)
      let even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
      d = 1 / kept(1 + even * d)
      c = kept(1 + even / c)
      result *= d * c
      let odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
      d = 1 / kept(1 + odd * d)
      c = kept(1 + odd / c)
      let change = d * c
      result *= change
      if abs(change - 1) < 1e-15 { break }
    }
    return result
  }

  /// ln of the gamma function; glibc's `lgamma` writes a global, its `_r` form does not.
  private static func logGamma(_ x: Double) -> Double {
    var sign: Int32 = 0
    return lgamma_r(x, &sign)
  }

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
