// The few distributions that intervals and tests need.
import Foundation

enum Distributions {
  /// P(Z > z) of a standard normal Z.
  static func normalTail(_ z: Double) -> Double { erfc(z / 2.0.squareRoot()) / 2 }

  /// The value that a Student t with so many degrees of freedom is below with that probability.
  static func studentQuantile(_ probability: Double, degrees: Double) -> Double {
    if probability < 0.5 { return -studentQuantile(1 - probability, degrees: degrees) }
    func tail(_ t: Double) -> Double { incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2 }
    var low = 0.0
    var high = 1.0
    while tail(high) > 1 - probability, high < 1e12 { high *= 2 }
    for _ in 0..<200 {
      let middle = (low + high) / 2
      if tail(middle) > 1 - probability { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// The least k with P(X <= k) of at least `probability`, X binomial.
  static func binomialQuantile(_ probability: Double, trials: UInt64, share: Double) -> UInt64 {
    var low: UInt64 = 0
    var high = trials
    while low < high {
      let middle = low + (high - low) / 2
      // P(X <= middle)
      let reached = incompleteBeta(1 - share, Double(trials - middle), Double(middle) + 1)
      if reached >= probability { high = middle } else { low = middle + 1 }
    }
    return low
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
    func multiply(by numerator: Double) {
      d = 1 / kept(1 + numerator * d)
      c = kept(1 + numerator / c)
      result *= d * c
    }
    // Needs about sqrt(max(a, b)) steps.
    for step in 1...100_000 {
      let m = Double(step)
      multiply(by: m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)))
      multiply(by: -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)))
      if abs(d * c - 1) < 1e-15 { break }
    }
    return result
  }

  /// ln of the gamma function; glibc's `lgamma` writes a global, its `_r` form does not.
  private static func logGamma(_ x: Double) -> Double {
    var sign: Int32 = 0
    return lgamma_r(x, &sign)
  }

  /// P(X > x), X chi-square with so many degrees of freedom, by its finite sum (Abramowitz and Stegun, 26.4.4
  /// and 26.4.5).
  static func chiSquareTail(_ x: Double, degrees: Int) -> Double {
    guard x > 0 else { return 1 }
    let isOdd = degrees % 2 == 1
    var term = isOdd ? (2 * x / .pi).squareRoot() * exp(-x / 2) : exp(-x / 2)
    var sum = isOdd ? 2 * normalTail(x.squareRoot()) : 0
    for step in stride(from: isOdd ? 3 : 2, through: degrees, by: 2) {
      sum += term
      term *= x / Double(step)
    }
    return min(1, sum)
  }
}
