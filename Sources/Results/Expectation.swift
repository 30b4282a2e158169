import Engine
import Lab
import Scenario

/// What became of a line of `expect:`.
package struct ExpectationResult: Codable, Sendable, Equatable {
  package enum Verdict: String, Codable, Sendable {
    /// The condition is true, of valid measurements.
    case met
    case notMet = "not_met"
    /// Nothing can be said: no figure, or a good one of an invalid measurement.
    case unmeasured
  }

  package var text: String
  /// The median over replicates, in the column's unit, or of the ratios of the pairs of the same
  /// replicate; nil when there is no figure.
  package var measured: Double?
  package var verdict: Verdict
  /// The figures behind it.
  package var why: String
  /// Whether further replicates could change the verdict: the bound lies within the figure's interval; nil in runs
  /// that did not keep it.
  private var straddles: Bool?
  package var isOpen: Bool { straddles == true }

  /// Judges a condition on rows of phase `request`.
  ///
  /// A bad figure of an invalid measurement is not met; a good one is `unmeasured`, since a
  /// figure that may not be believed proves nothing good.
  package init(_ expectation: Expectation, measurements: [Measurement]) {
    text = expectation.text
    let mine = measurements.filter {
      $0.target == expectation.target && $0.load == expectation.load
    }
    let others = expectation.divisor.map { divisor in
      measurements.filter { $0.target == divisor.target && $0.load == divisor.load }
    }
    let values = mine.compactMap { one -> Double? in
      guard let figure = one.figure(expectation.metric) else { return nil }
      guard let divisor = expectation.divisor else { return figure }
      let other = others?.first { $0.replicate == one.replicate }?.figure(divisor.metric)
      return other.flatMap { $0 == 0 ? nil : figure / $0 }
    }
    measured = Statistics.median(values)
    guard let measured else {
      verdict = .unmeasured
      why = Self.missing(expectation, mine, others)
      return
    }
    guard let holds = Self.compare(measured, expectation) else {
      verdict = .unmeasured
      why = "'\(expectation.comparison)' is not one of <, <=, >, >=, =="
      return
    }
    let interval = Statistics.medianInterval(values)
    straddles = interval.map {
      Self.compare($0.low, expectation) != Self.compare($0.high, expectation)
    }
    let shown = Number.text(measured) ?? ""
    let all = mine + (others ?? [])
    let invalid = all.filter { !$0.isValid }
    let over = mine.count == 1 ? "of one replicate" : "median of \(values.count) replicates"
    why = "\(others == nil ? "" : "the ratio of ")\(expectation.metric) is \(shown) (\(over))"
    if !invalid.isEmpty {
      why += "; \(invalid.count) of \(all.count) measurements invalid: "
      why += Set(invalid.map(\.invalidCodes)).sorted().joined(separator: ", ")
    }
    let isWhole = invalid.isEmpty && values.count == mine.count
    if isWhole == false, invalid.isEmpty { why += "; the others have no such figure" }
    verdict = !holds ? .notMet : isWhole ? .met : .unmeasured
  }

  private static func compare(_ value: Double, _ expectation: Expectation) -> Bool? {
    switch expectation.comparison {
    case "<": value < expectation.bound
    case "<=": value <= expectation.bound
    case ">": value > expectation.bound
    case ">=": value >= expectation.bound
    case "==": value == expectation.bound
    default: nil
    }
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
