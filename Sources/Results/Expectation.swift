import Engine
import Scenario

/// The outcome of a line of `expect:`.
package struct ExpectationResult: Codable, Sendable, Equatable {
  /// Whether a condition of `expect:` is met.
  package enum Verdict: String, Codable, Sendable, CaseIterable {
    /// The condition is true for valid measurements.
    case met
    /// The condition is false.
    case notMet = "not_met"
    /// No verdict is possible: there is no figure, or a good one from an invalid measurement.
    case unmeasured
  }

  /// The condition as written in the scenario.
  package var text: String
  /// The median over replicates, in the column's unit, or of ratios within replicates; nil without a figure.
  package var measured: Double?
  package var verdict: Verdict
  /// The figures behind the verdict.
  package var why: String
  /// Whether further replicates could change the verdict: the bound lies within the figure's interval; nil in
  /// runs that did not keep it.
  private var straddles: Bool?
  package var isOpen: Bool { straddles == true }

  /// Creates the result of a condition that is not a line of `expect:`.
  init(_ text: String, _ verdict: Verdict, measured: Double?, why: String) {
    (self.text, self.verdict, self.measured, self.why) = (text, verdict, measured, why)
  }

  /// Judges a condition on rows of phase `request`. A bad figure of an invalid measurement is not met. A good
  /// one is `unmeasured`, since an unreliable figure proves nothing.
  package init(_ expectation: Expectation, measurements: [Measurement]) {
    text = expectation.text
    let metric = expectation.metric
    let group = MeasurementGroup(expectation.target, expectation.load, of: measurements)
    let other = expectation.divisor.map { MeasurementGroup($0.target, $0.load, of: measurements) }
    let groups = [group, other].compactMap { $0 }
    let (mine, others) = (group.used, other?.used)
    let values =
      expectation.divisor.map { divisor in
        MeasurementGroup.pairs(metric, mine, others ?? [], otherMetric: divisor.metric)
          .filter { $0.other != 0 }.map { $0.mine / $0.other }
      } ?? mine.compactMap { $0.figure(metric) }
    measured = Statistics.median(values)
    verdict = .unmeasured
    guard let measured else {
      why = Self.missing(expectation, mine, others)
      return
    }
    let comparisons: [String: (Double, Double) -> Bool] = [
      "<": (<), "<=": (<=), ">": (>), ">=": (>=), "==": (==),
    ]
    guard let compare = comparisons[expectation.comparison] else {
      why = "'\(expectation.comparison)' is not one of <, <=, >, >=, =="
      return
    }
    let holds = compare(measured, expectation.bound)
    straddles = Statistics.medianInterval(values).map {
      compare($0.low, expectation.bound) != compare($0.high, expectation.bound)
    }
    let over = mine.count == 1 ? "of one replicate" : "median of \(values.count) replicates"
    why = "\(others == nil ? "" : "the ratio of ")\(metric) is \(Number.text(measured) ?? "") (\(over))"
    let left = groups.reduce(0) { $0 + $1.measurements.count - $1.used.count }
    if left > 0 { why += "; \(left) replicates not used" }
    let invalid = groups.compactMap(\.invalidCodes).uniqued()
    if !invalid.isEmpty {
      why += "; invalid: \(invalid.joined(separator: ", "))"
    } else if values.count != mine.count {
      why += "; the others have no such figure"
    }
    verdict = !holds ? .notMet : invalid.isEmpty && values.count == mine.count ? .met : .unmeasured
  }

  private static func missing(
    _ expectation: Expectation, _ mine: [Measurement], _ others: [Measurement]?
  ) -> String {
    if let others, others.isEmpty, let divisor = expectation.divisor {
      return "target '\(divisor.target)' was not measured under load '\(divisor.load)'"
    }
    if !SummaryRow.numericColumns.contains(expectation.metric) {
      return "'\(expectation.metric)' is not a numeric column of summary.csv"
    }
    return mine.isEmpty
      ? "target '\(expectation.target)' was not measured under load '\(expectation.load)'"
      : "\(expectation.metric) is empty: not measured, or under 10 samples lie beyond it"
  }
}
