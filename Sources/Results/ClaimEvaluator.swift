// Verdicts on documented claims, according to the table in the method document.
import Engine
import func Foundation.exp
import Scenario

/// Judges claims by measurements. Pure: the same measurements always give the same verdicts.
package enum ClaimEvaluator {
  /// Returns a row for each condition of each claim, its overall row, and finally rows for documents that
  /// disagree.
  package static func verdicts(_ checks: [ClaimCheck], measurements: [Measurement]) -> [ClaimVerdict] {
    checks.flatMap { rows($0, measurements) } + disagreements(checks)
  }

  private typealias Judged = (condition: ClaimCheck.Condition, row: ClaimVerdict)

  private static func rows(_ check: ClaimCheck, _ measurements: [Measurement]) -> [ClaimVerdict] {
    func notMeasured(_ why: String) -> [ClaimVerdict] { [check.row(ClaimVerdict.overall, .notMeasured, why)] }
    let spec = check.spec
    if let reason = check.notMeasured { return notMeasured(reason) }
    guard check.column != nil, let factor = check.unitFactor else {
      return notMeasured("no numeric column of summary.csv is '\(spec.metric)' in '\(spec.unit.rawValue)'")
    }
    guard spec.low != nil || spec.high != nil else { return notMeasured("the claim has no range") }
    func judged(_ condition: ClaimCheck.Condition) -> Judged {
      let replicates = { MeasurementGroup($0, condition.load, of: measurements) }
      var row = ConditionTest(
        check: check, condition: condition, factor: factor, mine: replicates(condition.target),
        other: condition.against.map(replicates)
      ).row
      row.target = condition.target
      return (condition, row)
    }
    let each = check.conditions.map(judged)
    let rows = (each + check.further.map(judged)).map(\.row)
    guard each.contains(where: { $0.row.verdict != .notMeasured }) else {
      return rows + notMeasured(each.first?.row.why ?? "the claim has no conditions")
    }
    var overall = check.isOverRange ? overRange(check, each) : decided(check, each)
    overall.condition = ClaimVerdict.overall
    overall.target = nil
    return rows + [overall]
  }

  private static func decided(_ check: ClaimCheck, _ all: [Judged]) -> ClaimVerdict {
    check.isRate ? byRate(check, all) : byCircumstance(all)
  }

  /// A rate is reached if any valid measurement reached it, and out of reach if the open load at that rate
  /// was saturated. A slower closed loop only shows that its concurrency is too small.
  ///
  /// An open load at the documented rate shows that the rate is reached, but not how much more is possible.
  /// Only the closed loop shows that; otherwise another run's closed loop would give `better`.
  private static func byRate(_ check: ClaimCheck, _ all: [Judged]) -> ClaimVerdict {
    let rows = all.map(\.row)
    for verdict in [ClaimVerdict.Verdict.better, .confirmed] {
      let seen = rows.filter { $0.verdict == verdict }
      if let best = seen.max(by: { ($0.measured ?? 0) < ($1.measured ?? 0) }) {
        let open = all.first { one in
          one.condition.circumstance != .documentedRate && one.row.verdict == .inconclusive
            && one.row.high ?? .infinity > check.spec.high ?? .infinity
        }
        if verdict == .confirmed, let open {
          var row = best
          row.verdict = .inconclusive
          return row.because("the documented rate is reached, and \(open.row.condition) may reach more")
        }
        return best.because("the highest rate seen, by \(best.condition)")
      }
    }
    let offered = all.filter { $0.condition.circumstance == .documentedRate }.map(\.row)
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

  /// Judges each target of the range by itself: the claim is true when it is true for one of them.
  private static func overRange(_ check: ClaimCheck, _ all: [Judged]) -> ClaimVerdict {
    let targets = check.conditions.map(\.target).uniqued()
    let each = targets.compactMap { target -> (target: String, row: ClaimVerdict)? in
      let mine = all.filter { $0.condition.target == target && $0.row.verdict != .notMeasured }
      return mine.isEmpty ? nil : (target, decided(check, mine))
    }
    let words = each.map { one in
      let figure =
        Number.significant(one.row.measured, 3).map { " (\($0) \(check.spec.unit.rawValue))" } ?? ""
      return "\(one.target): \(one.row.verdict.rawValue)\(figure)"
    }.joined(separator: ", ")
    let verdicts = each.map(\.row.verdict).uniqued()
    var result = each.first { $0.row.verdict == .confirmed }?.row ?? each[0].row
    if result.verdict != .confirmed, verdicts.count > 1 {
      result.verdict = .inconclusive
      (result.measured, result.low, result.high) = (nil, nil, nil)
    }
    result.why = "the document names no conditions; \(words)"
    return result
  }

  private static func byCircumstance(_ all: [Judged]) -> ClaimVerdict {
    let deciding = ClaimCheck.deciding(all) { $0.condition.circumstance }.map(\.row)
    var result = deciding[0]
    guard deciding.map(\.verdict).uniqued().count > 1 else { return result.because("by \(result.condition)") }
    result.verdict = .inconclusive
    let names = deciding.map { "\($0.condition): \($0.verdict.rawValue)" }.joined(separator: ", ")
    return result.because("the conditions disagree (\(names))")
  }
}

extension ClaimCheck {
  /// Under load, (b) decides if there is such a condition, else (a), else (c), else (d).
  fileprivate static func deciding<Each>(
    _ all: [Each], _ circumstance: (Each) -> ClaimSpec.Circumstance
  ) -> [Each] {
    let order: [ClaimSpec.Circumstance] = [.documentedRate, .unloaded, .impliedConcurrency, .sameLoad]
    return order.map { one in all.filter { circumstance($0) == one } }.first { !$0.isEmpty } ?? all
  }

  /// The conditions that decide the overall verdict.
  private var deciding: [Condition] {
    if isRate { return conditions }
    guard isOverRange else { return Self.deciding(conditions, \.circumstance) }
    return conditions.map(\.target).uniqued().flatMap { target in
      Self.deciding(conditions.filter { $0.target == target }, \.circumstance)
    }
  }

  /// The targets and loads for which more replicates could decide the claim; empty when it is decided.
  package func undecided(in verdicts: [ClaimVerdict]) -> [(target: String, load: String)] {
    let mine = verdicts.filter { $0.id == id }
    guard mine.contains(where: { $0.isOverall && $0.verdict == .inconclusive }) else { return [] }
    let open = deciding.filter { one in
      mine.contains { $0.condition == one.label && $0.verdict == .inconclusive }
    }
    return open.flatMap { one in
      [one.target, one.against].compactMap { $0 }.map { ($0, one.load) }
    }
  }
}

extension ClaimVerdict {
  fileprivate func because(_ reason: String) -> ClaimVerdict {
    var row = self
    row.why = why.isEmpty ? reason : "\(reason): \(why)"
    return row
  }
}

/// One claim under one condition, judged by the replicates of that measurement.
private struct ConditionTest {
  var check: ClaimCheck
  var condition: ClaimCheck.Condition
  /// The number of the column's units in one unit of the claim.
  var factor: Double
  var mine: MeasurementGroup
  var other: MeasurementGroup?

  private var spec: ClaimSpec { check.spec }

  private var groups: [MeasurementGroup] { [mine, other].compactMap { $0 } }

  var row: ClaimVerdict {
    for group in groups where group.measurements.isEmpty {
      return check.row(
        condition.label, .notMeasured,
        "target '\(group.target)' was not measured under load '\(group.load)'")
    }
    let values = values(spec.metric, \.used)
    let (verdict, reason) = firm(count: values.count)
    var row = check.row(condition.label, verdict, "")
    row.measured = Statistics.median(values)
    var interval = Statistics.medianInterval(self.values(spec.metric, \.sound))
    if interval == nil, verdict != .inconclusive {
      // All replicates decided. The interval must include the figure beside it, that of the undisturbed ones.
      interval = Statistics.medianInterval(self.values(spec.metric, \.warm))
      if let middle = row.measured { interval = interval?.including(middle) }
    }
    (row.low, row.high) = (interval?.low, interval?.high)
    row.why = ([reason] + besides).filter { !$0.isEmpty }.joined(separator: "; ")
    return row
  }

  /// The figures of the replicates in the claim's unit; for a comparison, those of pairs from the same round.
  ///
  /// - Parameter lean: The direction in which conditions that never became steady may be off: -1 for the
  ///   lowest possible figures, 1 for the highest.
  private func values(
    _ metric: String, _ replicates: (MeasurementGroup) -> [Measurement], lean: Double = 0, doubt: Double = 0
  ) -> [Double] {
    let scale = exp(lean * ((mine.driftLogarithm ?? 0) + doubt))
    guard let other else {
      return replicates(mine).compactMap { $0.figure(metric) }.map { $0 * scale / factor }
    }
    let otherScale = exp(-lean * (other.driftLogarithm ?? 0))
    return MeasurementGroup.pairs(metric, replicates(mine), replicates(other)).compactMap { pair in
      switch spec.relation {
      case .change: pair.other == 0 ? nil : (pair.mine * scale / (pair.other * otherScale) - 1) * 100
      case .difference, nil: (pair.mine * scale - pair.other * otherScale) / factor
      }
    }
  }

  /// The interval of the median, widened by the possible drift of a condition that never became steady, and
  /// by the logarithm `doubt`.
  private func interval(
    _ metric: String, _ replicates: (MeasurementGroup) -> [Measurement], doubt: Double = 0
  ) -> Interval? {
    guard let low = Statistics.medianInterval(values(metric, replicates, lean: -1, doubt: doubt))?.low,
      let high = Statistics.medianInterval(values(metric, replicates, lean: 1, doubt: doubt))?.high
    else { return nil }
    return Interval(low: low, high: high)
  }

  /// The verdict, provided that it is firm: the same over used and over all whole replicates, and by response
  /// and by service time.
  private func firm(count: Int) -> (ClaimVerdict.Verdict, String) {
    let invalid = groups.compactMap(\.invalidCodes).first.map { codes in
      let details = groups.flatMap { $0.measurements.flatMap(\.invalidReasons) }.map(\.detail).uniqued()
      return "invalid (\(codes)): \(details.joined(separator: "; "))"
    }
    guard let drift = MeasurementGroup.driftLogarithm(of: groups) else {
      return (.inconclusive, invalid ?? "")
    }
    if groups.contains(where: { $0.isSaturated && $0.sound.isEmpty }), let invalid {
      return (.inconclusive, invalid)
    }
    let interval = self.interval(spec.metric, \.sound)
    if mine.isSaturated, check.isRate || condition.circumstance == .documentedRate {
      let isReached = interval.map { judge($0).0 != .worse } ?? false
      // A throughput above 98 % of the documented value is still within the range.
      if !(check.isRate && isReached), mine.whole.count >= Statistics.fewestReplicates {
        return (.worse, "the documented rate cannot be reached")
      }
    } else if groups.contains(where: \.isSaturated) {
      return (.inconclusive, "the offered rate is not reached, so this is not the latency at that rate")
    }
    guard let interval else {
      if let (verdict, reason) = disturbed { return (verdict, reason + allowance(drift)) }
      if let invalid { return (.inconclusive, invalid) }
      return (.inconclusive, "\(count) replicates, but an interval needs \(Statistics.fewestReplicates)")
    }
    let (verdict, reason) = judge(interval)
    if verdict == .inconclusive, let invalid { return (verdict, invalid) }
    let others = [
      ("with the disturbed replicates", self.interval(spec.metric, \.whole)),
      ("by service time", check.column?.serviceTime.flatMap { self.interval($0, \.sound) }),
    ]
    for (how, interval) in others {
      guard let other = interval.map(judge), other.0 != verdict else { continue }
      return (.inconclusive, "not firm: \(how) it is \(other.0.rawValue)")
    }
    let what = other == nil ? "replicates" : "pairs of replicates"
    return (verdict, "\(reason)\(allowance(drift)); median of \(count) \(what)")
  }

  /// The verdict of all replicates when too few were undisturbed for an interval but each of these agrees; with
  /// hardly one, only a verdict that would be the same with figures far off.
  private var disturbed: (ClaimVerdict.Verdict, String)? {
    let ends = [-1, 1].map { values(spec.metric, \.sound, lean: $0) }
    let sound = zip(ends[0], ends[1]).map { Interval(low: $0, high: $1) }
    let count = sound.count
    let doubt = Statistics.doubtLogarithm(undisturbed: count, isOpen: mine.isOpen)
    guard let whole = interval(spec.metric, \.warm, doubt: doubt) else { return nil }
    let byService = check.column?.serviceTime.flatMap { interval($0, \.warm, doubt: doubt) }
    let verdicts = ([whole, byService].compactMap { $0 } + sound).map { judge($0).0 }.uniqued()
    guard verdicts.count == 1, verdicts[0] != .inconclusive else { return nil }
    let factor = Number.significant(Statistics.disturbedFactor) ?? "?"
    let why =
      doubt == 0
      ? ": each of them, and the interval of all, agree"
      : ", but the interval of all agrees even with figures off by a factor of \(factor)"
    return (verdicts[0], "\(count) replicates were undisturbed\(why)")
  }

  private func judge(_ interval: Interval) -> (ClaimVerdict.Verdict, String) {
    if let bound = spec.low, interval.high < bound {
      return (spec.better == .lower ? .better : .worse, "wholly below the range")
    }
    if let bound = spec.high, interval.low > bound {
      return (spec.better == .lower ? .worse : .better, "wholly above the range")
    }
    if interval.low >= spec.low ?? -.infinity, interval.high <= spec.high ?? .infinity {
      return (.confirmed, "within the range")
    }
    return (.inconclusive, "the interval straddles an end of the range")
  }

  private var besides: [String] {
    var parts: [String] = []
    let groups = [mine, other].compactMap { $0 }
    let left = groups.reduce(0) { $0 + $1.measurements.count - $1.used.count }
    if left > 0 { parts.append("\(left) replicates not used") }
    if let column = check.column {
      parts += groups.compactMap { group in
        group.lateText(column).map { "\($0) of \(group.target)'s figure is the generator's send lag" }
      }
      parts += groups.compactMap { $0.modesText(column).map { "two modes: \($0)" } }
    }
    if let other {
      return parts + [
        [mine, other].map { "\($0.target) \(check.column?.shown($0.median(spec.metric)) ?? "no figure")" }
          .joined(separator: ", ")
      ]
    }
    if spec.metric == "response_p50_us" {
      let tail = mine.median("response_p99_us")
      parts.append("p99 " + (Number.time(microseconds: tail) ?? "has too few samples"))
    }
    if let rate = mine.median("throughput_rps"), let mean = mine.median("response_mean_us") {
      let inFlight = Number.significant(rate * mean / 1e6, 3) ?? "?"
      parts.append(
        "Little's law: \(Number.grouped(rate) ?? "?") req/s x \(Number.time(microseconds: mean) ?? "?") "
          + "= \(inFlight) in flight")
    }
    return parts
  }
}

extension ClaimEvaluator {
  /// Returns a row for each pair of claims about the same subject whose ranges do not overlap, and for each
  /// stated difference or change that contradicts a document's own two figures.
  private static func disagreements(_ checks: [ClaimCheck]) -> [ClaimVerdict] {
    checks.indices.flatMap { first in
      checks.indices.dropFirst(first + 1).compactMap { between(checks[first], checks[$0]) }
    } + checks.flatMap { implied($0, checks) }
  }

  private static func between(_ a: ClaimCheck, _ b: ClaimCheck) -> ClaimVerdict? {
    guard let subject = a.subject, subject == b.subject, a.spec.metric == b.spec.metric,
      a.spec.relation == b.spec.relation, a.subject(a.spec.against) == b.subject(b.spec.against),
      let rangeA = a.range, let rangeB = b.range, !rangeA.overlaps(rangeB)
    else { return nil }
    return a.row(
      ClaimVerdict.disagreement, .fails, "\(a.saying), \(b.saying); they cannot both be true",
      id: "\(a.id)~\(b.id)", claim: "the documents agree about \(subject)")
  }

  /// Compares a claim such as "+2-3 ms" with the result of each document's own two figures.
  private static func implied(_ claim: ClaimCheck, _ checks: [ClaimCheck]) -> [ClaimVerdict] {
    guard let relation = claim.spec.relation, let subject = claim.subject,
      let against = claim.subject(claim.spec.against), let said = claim.range, let factor = claim.unitFactor
    else { return [] }
    let plain = checks.filter { $0.spec.relation == nil && $0.spec.metric == claim.spec.metric }
    return plain.flatMap { mine in
      plain.compactMap { other -> ClaimVerdict? in
        guard mine.subject == subject, other.subject == against, mine.spec.document == other.spec.document,
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
        return claim.row(
          ClaimVerdict.disagreement, .fails,
          "\(claim.saying), but \(mine.figure) and \(other.figure) of \(mine.spec.document):"
            + "\(mine.spec.line) and \(other.spec.line) give \(shown[0]) to \(shown[1]) "
            + claim.spec.unit.rawValue,
          id: "\(claim.id)~\(mine.id)~\(other.id)",
          claim: "the documents agree about \(subject) against \(against)")
      }
    }
  }
}

extension ClaimCheck {
  fileprivate var figure: String { "\(documented) \(spec.unit.rawValue)" }
  /// A citation such as `guide.md:38 says 2 to 3 ms`.
  fileprivate var saying: String { "\(spec.document):\(spec.line) says \(figure)" }

  /// The documented range in the column's unit; nil without a range, or when the units do not match.
  fileprivate var range: ClosedRange<Double>? {
    guard let factor = unitFactor, spec.low != nil || spec.high != nil else { return nil }
    return (spec.low.map { $0 * factor } ?? -.infinity)...(spec.high.map { $0 * factor } ?? .infinity)
  }
}
