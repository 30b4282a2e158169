import Measure
import Scenario

/// What became of a line of `expect:`.
public struct ExpectationResult: Codable, Sendable, Equatable {
  /// What a line can become.
  public enum Verdict: String, Codable, Sendable {
    /// The condition is true, of valid measurements.
    case met
    /// The condition is false.
    case notMet = "not_met"
    /// Nothing can be said: no figure, or a good one of an invalid measurement.
    case unmeasured
  }

  /// The line as written.
  public var text: String
  /// The median over replicates, in the column's unit; nil when there is no figure.
  public var measured: Double?
  /// What became of it.
  public var verdict: Verdict
  /// The figures behind it, for people.
  public var why: String

  /// Judges a condition on rows of phase `request`.
  ///
  /// A bad figure of an invalid measurement is not met; a good one is `unmeasured`, since a
  /// figure that may not be believed proves nothing good.
  public init(_ expectation: Expectation, measurements: [Measurement]) {
    text = expectation.text
    let mine = measurements.filter {
      $0.target == expectation.target && $0.load == expectation.load
    }
    let values = mine.compactMap { $0.figure(expectation.metric) }
    measured = Statistics.median(values)
    guard let measured else {
      verdict = .unmeasured
      why = Self.missing(expectation, mine)
      return
    }
    guard let holds = Self.compare(measured, expectation) else {
      verdict = .unmeasured
      why = "'\(expectation.comparison)' is not one of <, <=, >, >=, =="
      return
    }
    let shown = Number.text(measured) ?? ""
    let invalid = mine.filter { !$0.isValid }
    let over = mine.count == 1 ? "of one replicate" : "median of \(values.count) replicates"
    why = "\(expectation.metric) is \(shown) (\(over))"
    if !invalid.isEmpty {
      why += "; \(invalid.count) of \(mine.count) measurements invalid: "
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

  private static func missing(_ expectation: Expectation, _ mine: [Measurement]) -> String {
    if !SummaryRow.isNumeric(expectation.metric) {
      return "'\(expectation.metric)' is not a numeric column of summary.csv"
    }
    return mine.isEmpty
      ? "target '\(expectation.target)' was not measured under load '\(expectation.load)'"
      : "\(expectation.metric) is empty: not measured, or under 10 samples lie beyond it"
  }
}
