// Verdicts on documented claims, by the method's table.
import Engine
import Lab

/// Judges claims on measurements. Pure: the same measurements give the same verdicts.
package enum ClaimEvaluator {
  /// A row for each condition of each claim, then its overall row; after all claims, a row for each
  /// pair of documents that disagree.
  package static func verdicts(
    _ checks: [ClaimCheck], measurements: [Measurement], seed: UInt64 = 1
  ) -> [ClaimVerdict] {
    checks.flatMap { rows($0, measurements, seed) } + ClaimDisagreement.rows(checks)
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
    guard SummaryRow.numericColumns.contains(check.column), let factor = check.unitFactor else {
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
      func replicates(_ target: String) -> [Measurement] {
        measurements.filter { $0.target == target && $0.load == condition.load }
      }
      return ConditionTest(
        check: check, condition: condition, factor: factor, all: replicates(condition.target),
        others: condition.against.map(replicates), seed: seed
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
    let isRate = check.column == "throughput_rps" && check.relation == nil
    var result =
      check.isOverRange
      ? overallOverRange(check, rows)
      : isRate ? overallRate(check, rows) : overallByLetter(check, rows)
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

  /// The document names no circumstances, so each target of the range is judged by itself: the claim
  /// is true when it is for one of them.
  private static func overallOverRange(_ check: ClaimCheck, _ rows: [ClaimVerdict]) -> ClaimVerdict {
    let isRate = check.column == "throughput_rps"
    let targets = check.conditions.map(\.target).uniqued()
    let each = targets.compactMap { target -> (target: String, row: ClaimVerdict)? in
      let mine = rows.filter { $0.condition.hasSuffix(" \(target)") && $0.verdict != .notMeasured }
      guard !mine.isEmpty else { return nil }
      return (target, isRate ? overallRate(check, mine) : overallByLetter(check, mine))
    }
    guard let first = each.first else { return rows[0] }
    let words = each.map { one in
      let figure = Number.significant(one.row.measured, 3).map { " (\($0) \(check.unit))" } ?? ""
      return "\(one.target): \(one.row.verdict.rawValue)\(figure)"
    }.joined(separator: ", ")
    let verdicts = each.map(\.row.verdict).uniqued()
    var result = each.first { $0.row.verdict == .confirmed }?.row ?? first.row
    if result.verdict != .confirmed, verdicts.count > 1 {
      result.verdict = .inconclusive
      (result.measured, result.low, result.high) = (nil, nil, nil)
    }
    result.why = "the document names no circumstances; \(words)"
    return result
  }

  /// Under load (b) decides where there is such a condition, else (a), else (c), else (d).
  private static func overallByLetter(
    _ check: ClaimCheck, _ rows: [ClaimVerdict]
  ) -> ClaimVerdict {
    let letters = ["b ", "a ", "c ", "d "]
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
