import Foundation

/// What must hold of a latency for a rate to count as served: the bound of a column of summary.csv, written as a line of
/// `expect:` without its target and load.
package struct ServiceLevel: Codable, Sendable, Equatable {
  /// Such as `response_p99_us`.
  package var metric: String
  /// The bound.
  package var microseconds: Double
  /// Whether the bound itself is good enough; nil means no.
  package var orEqual: Bool?

  package init(metric: String, microseconds: Double, orEqual: Bool? = nil) {
    (self.metric, self.microseconds, self.orEqual) = (metric, microseconds, orEqual)
  }

  package func holds(_ figure: Double) -> Bool {
    figure < microseconds || (orEqual == true && figure == microseconds)
  }

  /// Whether a column of summary.csv is a time that an open load should keep.
  static func isLatency(_ column: String) -> Bool {
    column.hasSuffix("_us") && (column.hasPrefix("response_") || column.hasPrefix("service_"))
  }
}

extension ServiceLevel {
  private static let short = ["p50": "50", "p90": "90", "p99": "99", "p99.9": "999", "p999": "999"]
  private static let units = [("us", 1.0), ("µs", 1), ("ms", 1000), ("s", 1_000_000)]

  /// Reads `response_p99_us < 5000`, and the short form with a unit, `p99<5ms`; nil when it is neither.
  ///
  /// - Parameter columns: the numeric columns of summary.csv.
  package init?(_ text: String, columns: [String]) {
    let comparison = text.contains("<=") ? "<=" : "<"
    let sides = text.lowercased().components(separatedBy: comparison).map {
      $0.replacing(" ", with: "")
    }
    guard sides.count == 2 else { return nil }
    let percentile = Self.short[sides[0]]
    let metric = percentile.map { "response_p\($0)_us" } ?? sides[0]
    let unit = percentile == nil ? ("", 1.0) : Self.units.first { sides[1].hasSuffix($0.0) }
    guard Self.isLatency(metric), columns.contains(metric), let (suffix, factor) = unit,
      let value = Block.parse(String(sides[1].dropLast(suffix.count))), value > 0
    else { return nil }
    self.init(
      metric: metric, microseconds: value * factor, orEqual: comparison == "<=" ? true : nil)
  }

  /// The `objective:` of a block; what is wrong with it is noted.
  static func read(_ block: Block, columns: [String]) -> ServiceLevel? {
    guard let text = block.text("objective") else { return nil }
    return ServiceLevel(text, columns: columns)
      ?? block.refuse(
        "objective", "is not a latency under a bound, such as response_p99_us < 5000",
        remedy: "allowed: \(columns.filter(isLatency).joined(separator: ", "))")
  }
}
