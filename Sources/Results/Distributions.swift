// The few distributions that intervals and tests need.
import Foundation

enum Distributions {
  /// P(Z > z) of a standard normal Z.
  static func normalTail(_ z: Double) -> Double { erfc(z / 2.0.squareRoot()) / 2 }

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
