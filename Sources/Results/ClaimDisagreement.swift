// Where the documents contradict each other or themselves; no measurement is needed to see that.
import Engine
import Scenario

/// Finds documented figures that cannot both be true.
enum ClaimDisagreement {
  /// A row for each pair of claims about the same subject whose ranges have no value in common, and
  /// for each difference or change that a document's own two figures do not give.
  static func rows(_ checks: [ClaimCheck]) -> [ClaimVerdict] {
    checks.indices.flatMap { first in
      checks.indices.dropFirst(first + 1).compactMap { between(checks[first], checks[$0]) }
    } + checks.flatMap { implied($0, checks) }
  }

  private static func between(_ a: ClaimCheck, _ b: ClaimCheck) -> ClaimVerdict? {
    guard let subject = a.subject, subject == b.subject, a.column == b.column, a.relation == b.relation,
      a.againstSubject == b.againstSubject, let rangeA = a.range, let rangeB = b.range,
      !rangeA.overlaps(rangeB)
    else { return nil }
    var row = a.row(
      ClaimVerdict.disagreement, .fails,
      "\(a.document):\(a.line) says \(a.documented) \(a.unit), "
        + "\(b.document):\(b.line) says \(b.documented) \(b.unit); both cannot be true")
    row.id = "\(a.id)~\(b.id)"
    row.claim = "the documents agree about \(subject)"
    return row
  }

  /// A claim such as "+2-3 ms" held against what each document's own two figures give.
  private static func implied(_ claim: ClaimCheck, _ checks: [ClaimCheck]) -> [ClaimVerdict] {
    guard let relation = claim.relation, let subject = claim.subject, let against = claim.againstSubject,
      let said = claim.range, let factor = claim.unitFactor
    else { return [] }
    let plain = checks.filter { $0.relation == nil && $0.column == claim.column }
    return plain.flatMap { mine in
      plain.compactMap { other -> ClaimVerdict? in
        guard mine.subject == subject, other.subject == against, mine.document == other.document,
          let a = mine.range, let b = other.range, b.lowerBound > 0
        else { return nil }
        let given =
          relation == .difference
          ? (a.lowerBound - b.upperBound)...(a.upperBound - b.lowerBound)
          : ((a.lowerBound / b.upperBound - 1) * 100)...((a.upperBound / b.lowerBound - 1) * 100)
        guard !said.overlaps(given) else { return nil }
        let shown = [given.lowerBound, given.upperBound].map {
          Number.significant($0 / (relation == .difference ? factor : 1), 3) ?? "?"
        }
        var row = claim.row(
          ClaimVerdict.disagreement, .fails,
          "\(claim.document):\(claim.line) says \(claim.documented) \(claim.unit), but \(mine.documented) "
            + "\(mine.unit) and \(other.documented) \(other.unit) of \(mine.document):\(mine.line) and "
            + "\(other.line) give \(shown[0]) to \(shown[1]) \(claim.unit)")
        row.id = "\(claim.id)~\(mine.id)~\(other.id)"
        row.claim = "the documents agree about \(subject) against \(against)"
        return row
      }
    }
  }
}

extension ClaimCheck {
  /// The documented range in the column's unit; nil without a range, or when the unit does not fit.
  fileprivate var range: ClosedRange<Double>? {
    guard let factor = unitFactor, low != nil || high != nil else { return nil }
    return (low.map { $0 * factor } ?? -.infinity)...(high.map { $0 * factor } ?? .infinity)
  }
}
