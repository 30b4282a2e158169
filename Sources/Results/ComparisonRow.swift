import Engine

/// Two targets under the same load, by one metric: a row of comparison.csv.
package struct ComparisonRow: Codable, Sendable, Equatable {
  /// What a comparison can come to.
  package enum Verdict: String, Codable, Sendable {
    /// The interval of the ratio leaves 1, and the difference is over the noise floor.
    case different
    /// The interval lies within the noise floor, or the difference does.
    case same
    /// Neither can be said, or a measurement is invalid.
    case unclear
  }

  /// A numeric column of summary.csv.
  package var metric: String
  package var condition: String
  package var a: String
  package var b: String
  /// Median over replicates, in `unit`; nil when missing.
  package var aValue: Double?
  package var bValue: Double?
  /// `us`, `req/s` or `B`.
  package var unit: String
  /// Median of b / a over pairs of replicates; nil when there is none.
  package var ratio: Double?
  /// Lower end of its 95 % bootstrap interval; nil with under 3 pairs.
  package var ratioLow: Double?
  package var ratioHigh: Double?
  /// Mann and Whitney's two-sided p of the two sides' values; nil with under 3 pairs.
  package var pValue: Double?
  /// How far an A/A pair is apart under this load by this metric, the median over its replicates: 0.03
  /// is 3 %; nil without such a pair.
  package var noiseFloor: Double?
  /// What it comes to.
  package var verdict: Verdict
  /// Why, for people.
  package var why: String

  /// Whether less of this metric is better.
  package var lowerIsBetter: Bool { metric != "throughput_rps" }
  /// Whether `b` is different from `a` and worse.
  package var isRegression: Bool {
    guard verdict == .different, let ratio else { return false }
    return lowerIsBetter ? ratio > 1 : ratio < 1
  }
}
