// Verdicts on documented claims, by the method's table.
import Measure

/// Judges claims on measurements. Pure: the same measurements give the same verdicts.
public enum ClaimEvaluator {
  /// A row for each condition of each claim, then its overall row; after all claims, a row for each
  /// pair of documents that disagree.
  public static func verdicts(
    _ checks: [ClaimCheck], measurements: [Measurement], seed: UInt64 = 1
  ) -> [ClaimVerdict] {
    checks.flatMap { rows($0, measurements, seed) } + disagreements(checks)
  }

  private static func rows(
    _ check: ClaimCheck, _ measurements: [Measurement], _ seed: UInt64
  ) -> [ClaimVerdict] {
    if let reason = check.notMeasuredReason {
      return [check.row(ClaimVerdict.overall, .notMeasured, reason)]
    }
    if let holds = check.holds {
      return [check.row(ClaimVerdict.overall, holds ? .holds : .fails, check.seen)]
    }
    guard SummaryRow.isNumeric(check.column), let factor = check.unitFactor else {
      return [
        check.row(
          ClaimVerdict.overall, .notMeasured,
          "metric '\(check.metric)' in unit '\(check.unit)' is not one that is measured; name latency, "
            + "throughput or a numeric column of summary.csv, and a unit that fits it")
      ]
    }
    guard check.low != nil || check.high != nil else {
      return [check.row(ClaimVerdict.overall, .notMeasured, "the claim has no range to be held against")]
    }
    let each = check.conditions.map { condition in
      let replicates = measurements.filter {
        $0.target == condition.target && $0.load == condition.load
      }
      return ConditionTest(
        check: check, condition: condition, factor: factor, all: replicates, seed: seed
      ).row
    }
    return each + [overall(check, each)]
  }

  /// The verdict on the claim, from those under its conditions.
  private static func overall(_ check: ClaimCheck, _ rows: [ClaimVerdict]) -> ClaimVerdict {
    guard rows.contains(where: { $0.verdict != .notMeasured }) else {
      return check.row(
        ClaimVerdict.overall, .notMeasured, rows.first?.why ?? "the claim has no conditions")
    }
    var result =
      check.column == "throughput_rps" ? overallRate(check, rows) : overallByLetter(check, rows)
    result.condition = ClaimVerdict.overall
    return result
  }

  /// The rate was seen if any valid measurement saw it; it cannot be reached when the open load at
  /// that rate says so. A closed loop that is slower only says that its concurrency is too small.
  private static func overallRate(_ check: ClaimCheck, _ rows: [ClaimVerdict]) -> ClaimVerdict {
    for verdict in [ClaimVerdict.Verdict.better, .confirmed] {
      let seen = rows.filter { $0.verdict == verdict }
      if let best = seen.max(by: { ($0.measured ?? 0) < ($1.measured ?? 0) }) {
        return best.because("the highest rate seen, by \(best.condition)")
      }
    }
    let offered = rows.filter { $0.condition.hasPrefix("b ") }
    if let worst = offered.first(where: { $0.verdict == .worse }),
      offered.allSatisfy({ $0.verdict == .worse || $0.verdict == .notMeasured })
    {
      return worst.because("by \(worst.condition)")
    }
    var unclear = offered.first ?? rows[0]
    unclear.verdict = .inconclusive
    return unclear.because(
      offered.isEmpty ? "the documented rate itself was not offered" : "by \(unclear.condition)")
  }

  /// Under load (b) decides where there is such a condition, else (a), else (c).
  private static func overallByLetter(
    _ check: ClaimCheck, _ rows: [ClaimVerdict]
  ) -> ClaimVerdict {
    let letters = ["b ", "a ", "c "]
    let deciding =
      letters.lazy.map { letter in rows.filter { $0.condition.hasPrefix(letter) } }
      .first { !$0.isEmpty } ?? rows
    var result = deciding[0]
    let verdicts = deciding.map(\.verdict).uniqued()
    guard verdicts.count > 1 else { return result.because("by \(result.condition)") }
    result.verdict = .inconclusive
    let names = deciding.map { "\($0.condition): \($0.verdict.rawValue)" }.joined(separator: ", ")
    return result.because("the conditions disagree (\(names))")
  }

  /// A row for each pair of claims about the same subject whose ranges have no value in common.
  private static func disagreements(_ checks: [ClaimCheck]) -> [ClaimVerdict] {
    checks.indices.flatMap { first in
      checks.indices.dropFirst(first + 1).compactMap { second -> ClaimVerdict? in
        let (a, b) = (checks[first], checks[second])
        guard let subject = a.subject, subject == b.subject, a.column == b.column,
          let unitA = a.unitFactor, let unitB = b.unitFactor,
          (a.low ?? -.infinity) * unitA > (b.high ?? .infinity) * unitB
            || (b.low ?? -.infinity) * unitB > (a.high ?? .infinity) * unitA
        else { return nil }
        var row = a.row(
          ClaimVerdict.disagreement, .fails,
          "\(a.document):\(a.line) says \(a.documented) \(a.unit), "
            + "\(b.document):\(b.line) says \(b.documented) \(b.unit); both cannot be true")
        row.id = "\(a.id)~\(b.id)"
        row.claim = "the documents agree about \(subject)"
        return row
      }
    }
  }
}

extension ClaimCheck {
  /// A row of this claim.
  func row(_ condition: String, _ verdict: ClaimVerdict.Verdict, _ why: String) -> ClaimVerdict {
    ClaimVerdict(
      id: id, document: document, line: line, claim: words, documented: documented, unit: unit,
      condition: condition, verdict: verdict, why: why)
  }
}

extension ClaimVerdict {
  fileprivate func because(_ reason: String) -> ClaimVerdict {
    var row = self
    row.why = why.isEmpty ? reason : "\(reason): \(why)"
    return row
  }
}
