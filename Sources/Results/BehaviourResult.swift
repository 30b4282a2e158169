import Engine
import Scenario

/// What a test of a documented behaviour came to.
package struct BehaviourResult: Codable, Sendable, Equatable {
  package var test: String
  /// `holds`, `fails`, `inconclusive` or `not_measured`.
  package var verdict: ClaimVerdict.Verdict
  /// The rule and the figures behind the verdict, for people.
  package var why: String
  /// Columns of `rows`; empty when there is no table.
  package var columns: [String]
  /// What was seen, in detail.
  package var rows: [[String]]

  package init(
    test: String, verdict: ClaimVerdict.Verdict, why: String, columns: [String] = [], rows: [[String]] = []
  ) {
    self.test = test
    self.verdict = verdict
    self.why = why
    self.columns = columns
    self.rows = rows
  }
}

extension ClaimVerdict {
  /// The row of a statement about behaviour: it has no figures of its own.
  package init(of spec: BehaviourSpec, _ verdict: Verdict, why: String) {
    self.init(
      id: spec.id, document: spec.document, line: spec.line, claim: spec.words, documented: "", unit: "",
      condition: Self.overall, verdict: verdict, why: why)
  }
}
