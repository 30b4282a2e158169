import Foundation

/// Numbers as text, the same in every locale.
package enum Number {
  /// A number with at most `digits` decimals, without trailing zeros; nil for a value that is not finite.
  package static func text(_ value: Double?, digits: Int = 3) -> String? {
    guard let value, value.isFinite else { return nil }
    var text = String(format: "%.\(digits)f", value)
    if text.contains(".") {
      while text.hasSuffix("0") { text.removeLast() }
      if text.hasSuffix(".") { text.removeLast() }
    }
    return text == "-0" ? "0" : text
  }

  /// A number with this many significant digits, without exponent, such as `0.1234` or `1235` for 4.
  package static func significant(_ value: Double?, _ digits: Int = 4) -> String? {
    guard let value, value.isFinite else { return nil }
    guard value != 0 else { return "0" }
    let magnitude = Int(log10(abs(value)).rounded(.down))
    return text(value, digits: min(12, max(0, digits - 1 - magnitude)))
  }

  /// A time in the most readable unit, such as `12.3 µs`, `4.56 ms` or `1.2 s`.
  package static func time(microseconds: Double?) -> String? {
    guard let value = microseconds, value.isFinite else { return nil }
    if value >= 999_500 { return significant(value / 1e6, 3).map { "\($0) s" } }
    if value >= 999.5 { return significant(value / 1e3, 3).map { "\($0) ms" } }
    return significant(value, 3).map { "\($0) µs" }
  }

  /// A share in percent, such as `2.5 %` for 0.025.
  package static func percent(_ share: Double?, digits: Int = 1) -> String? {
    text(share.map { $0 * 100 }, digits: digits).map { "\($0) %" }
  }

  /// `low to high` with 3 significant digits; nil when either is missing.
  package static func range(_ low: Double?, _ high: Double?) -> String? {
    significant(low, 3).flatMap { low in significant(high, 3).map { "\(low) to \($0)" } }
  }

  package static func grouped(_ value: Double?) -> String? {
    guard let value, value.isFinite, abs(value) < 1e15 else { return nil }
    return Int(value.rounded()).formatted(.number.locale(Locale(identifier: "en_US")))
  }
}
