import Engine
import Lab

/// What is known of a ratio, and the verdict that follows from it.
struct Evidence {
  /// b / a.
  var ratio: Double?
  /// Its 95 % interval.
  var interval: Interval?
  /// How far an A/A pair is apart.
  var floor: Double?
  /// The greatest distance between two replicates of the same side.
  var spread: Double?
  /// Mann and Whitney's two-sided p of the two sides' values; nil with under 3 replicates.
  var pValue: Double?
  /// Whether the two are the same target twice.
  var isAA: Bool
  /// Codes of why measurements are invalid.
  var invalid: [String]

  /// A p under this tells the two sides of an A/A pair apart.
  private static let significance = 0.05

  /// The verdict and why.
  ///
  /// Without an A/A pair the noise floor is unknown. Then `different` asks for more: a difference
  /// greater than any between two replicates of one target, which are the same target twice too;
  /// and `same` is never said.
  ///
  /// An A/A pair is `same` unless both its tests speak against that: an interval from few replicates
  /// leaves 1 in one of 16 pairs (5 replicates) by chance alone.
  var verdict: (ComparisonRow.Verdict, String) {
    guard invalid.isEmpty else { return (.unclear, "invalid: " + invalid.joined(separator: ", ")) }
    guard let ratio, let difference = Comparison.distance(ratio) else {
      return (.unclear, "no ratio: a figure is missing or 0")
    }
    guard let interval else { return (.unclear, "under 3 replicates, so no interval") }
    let leaves = !interval.contains(1)
    if isAA {
      let isApart = leaves && pValue.map { $0 < Self.significance } ?? false
      return isApart
        ? (.unclear, "an A/A pair that both tests tell apart: its distance is the noise floor")
        : (.same, "an A/A pair")
    }
    guard let floor else { return withoutFloor(leaves: leaves, difference: difference) }
    let shown = percent(floor)
    if leaves, difference > floor {
      return (.different, "the interval leaves 1, and the difference is over the noise floor of \(shown)")
    }
    let ends = [interval.low, interval.high].compactMap(Comparison.distance)
    if ends.count == 2, ends.allSatisfy({ $0 <= floor }) {
      return (.same, "the interval lies within the noise floor of \(shown)")
    }
    return leaves
      ? (.same, "the difference is not over the noise floor of \(shown)")
      : (.unclear, "the interval contains 1 and is wider than the noise floor of \(shown)")
  }

  private func withoutFloor(leaves: Bool, difference: Double) -> (ComparisonRow.Verdict, String) {
    guard leaves else {
      return (.unclear, "the interval contains 1; without an A/A pair nothing more can be said")
    }
    guard let spread, difference > spread else {
      return (.unclear, "no A/A pair, and replicates of one target are as far apart as the two targets")
    }
    return (
      .different,
      "no A/A pair; the difference is over that of any two replicates of one target, \(percent(spread))"
    )
  }

  private func percent(_ share: Double) -> String { (Number.text(share * 100, digits: 1) ?? "?") + " %" }
}
