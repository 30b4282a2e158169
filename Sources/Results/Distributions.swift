// The few distributions that intervals and tests need.
import Engine
import Foundation

enum Distributions {
  /// P(Z > z) of a standard normal Z.
  static func normalTail(_ z: Double) -> Double { erfc(z / 2.0.squareRoot()) / 2 }

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
