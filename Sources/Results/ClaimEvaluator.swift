// Verdicts on documented claims, by the method's table.
import Engine
import Scenario

/// Judges claims on measurements. Pure: the same measurements give the same verdicts.
package enum ClaimEvaluator {
  /// A row for each condition of each claim, then its overall row; after all claims, a row for each
  /// pair of documents that disagree.
  package static func verdicts(
    _ checks: [ClaimCheck], measurements: [Measurement], seed: UInt64 = 1
  ) -> [ClaimVerdict] {
    checks.flatMap { rows($0, measurements, seed) } + disagreements(checks)
  }

  /// A condition and its row.
  private typealias Judged = (condition: ClaimCheck.Condition, row: ClaimVerdict)

  private static func rows(
    _ check: ClaimCheck, _ measurements: [Measurement], _ seed: UInt64
  ) -> [ClaimVerdict] {
    func notMeasured(_ why: String) -> [ClaimVerdict] { [check.row(ClaimVerdict.overall, .notMeasured, why)] }
    let spec = check.spec
    if let reason = check.notMeasured { return notMeasured(reason) }
    guard check.column != nil, let factor = check.unitFactor else {
      return notMeasured("no numeric column of summary.csv is '\(spec.metric)' in '\(spec.unit.rawValue)'")
    }
    guard spec.low != nil || spec.high != nil else { return notMeasured("the claim has no range") }
    let each = check.conditions.map { condition -> Judged in
      let replicates = { MeasurementGroup($0, condition.load, of: measurements).measurements }
      let test = ConditionTest(
        check: check, condition: condition, factor: factor, all: replicates(condition.target),
        others: condition.against.map(replicates), seed: seed)
      return (condition, test.row)
    }
    guard each.contains(where: { $0.row.verdict != .notMeasured }) else {
      return each.map(\.row) + notMeasured(each.first?.row.why ?? "the claim has no conditions")
    }
    var overall = check.isOverRange ? overRange(check, each) : decided(check, each)
    overall.condition = ClaimVerdict.overall
    return each.map(\.row) + [overall]
  }

  private static func decided(_ check: ClaimCheck, _ all: [Judged]) -> ClaimVerdict {
    check.isRate ? byRate(all) : byCircumstance(all)
  }

  /// The rate was seen if any valid measurement saw it; it cannot be reached when the open load at
  /// that rate says so. A closed loop that is slower only says that its concurrency is too small.
  private static func byRate(_ all: [Judged]) -> ClaimVerdict {
    let rows = all.map(\.row)
    for verdict in [ClaimVerdict.Verdict.better, .confirmed] {
      let seen = rows.filter { $0.verdict == verdict }
      if let best = seen.max(by: { ($0.measured ?? 0) < ($1.measured ?? 0) }) {
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

  /// The document names no circumstances, so each target of the range is judged by itself: the claim
  /// is true when it is for one of them.
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
    result.why = "the document names no circumstances; \(words)"
    return result
  }

  /// Under load (b) decides where there is such a condition, else (a), else (c), else (d).
  private static func byCircumstance(_ all: [Judged]) -> ClaimVerdict {
    let order: [ClaimSpec.Circumstance] = [.documentedRate, .unloaded, .impliedConcurrency, .sameLoad]
    let deciding =
      order.lazy.map { one in all.filter { $0.condition.circumstance == one }.map(\.row) }
      .first { !$0.isEmpty } ?? all.map(\.row)
    var result = deciding[0]
    guard deciding.map(\.verdict).uniqued().count > 1 else { return result.because("by \(result.condition)") }
    result.verdict = .inconclusive
    let names = deciding.map { "\($0.condition): \($0.verdict.rawValue)" }.joined(separator: ", ")
    return result.because("the conditions disagree (\(names))")
  }
}

extension ClaimVerdict {
  fileprivate func because(_ reason: String) -> ClaimVerdict {
    var row = self
    row.why = why.isEmpty ? reason : "\(reason): \(why)"
    return row
  }
}

/// One claim under one condition, by the replicates of that measurement.
struct ConditionTest {
  var check: ClaimCheck
  var condition: ClaimCheck.Condition
  /// How many of the column's units the claim's unit is.
  var factor: Double
  var all: [Measurement]
  /// All replicates of the target that it is compared with; nil for a figure of its own.
  var others: [Measurement]?
  var seed: UInt64

  private var spec: ClaimSpec { check.spec }
  private var isRate: Bool { spec.metric == "throughput_rps" }

  var row: ClaimVerdict {
    guard !all.isEmpty else { return missing(condition.target) }
    if let others, others.isEmpty { return missing(condition.against ?? "") }
    let pairs = pairs
    let isValid = { (pair: Pair) in pair.mine.isValid && pair.other?.isValid ?? true }
    let valid = pairs.filter(isValid)
    let isMostlyValid = valid.count * 2 > pairs.count
    let used = isMostlyValid ? valid : pairs
    let (estimate, how) = interval(used)
    var row = check.row(condition.label, .inconclusive, "")
    row.measured = measured(used)
    row.low = estimate?.low
    row.high = estimate?.high
    let (verdict, reason) = isMostlyValid ? judge(row) : judgeInvalid(row)
    row.verdict = verdict
    var parts = [reason, how] + besides(used)
    if isMostlyValid, valid.count < pairs.count {
      parts.append("\(pairs.count - valid.count) of \(pairs.count) replicates left out as invalid")
    }
    row.why = parts.filter { !$0.isEmpty }.joined(separator: "; ")
    return row
  }

  private func missing(_ target: String) -> ClaimVerdict {
    check.row(
      condition.label, .notMeasured, "target '\(target)' was not measured under load '\(condition.load)'")
  }

  /// A replicate, and the same replicate of the target that it is compared with.
  private struct Pair {
    var mine: Measurement
    var other: Measurement?
  }

  /// All replicates; of a comparison those that both sides have.
  private var pairs: [Pair] {
    guard let others else { return all.map { Pair(mine: $0) } }
    return all.compactMap { mine in
      others.first { $0.replicate == mine.replicate }.map { Pair(mine: mine, other: $0) }
    }
  }

  /// A pair's figure in the claim's unit; nil when a side has none.
  private func figure(_ pair: Pair) -> Double? {
    guard let mine = pair.mine.figure(spec.metric) else { return nil }
    guard let other = pair.other else { return mine / factor }
    return other.figure(spec.metric).flatMap { combine(mine, $0) }
  }

  /// Difference or change, in the claim's unit.
  private func combine(_ mine: Double, _ other: Double) -> Double? {
    switch spec.relation {
    case .difference: (mine - other) / factor
    case .change: other == 0 ? nil : (mine / other - 1) * 100
    case nil: mine / factor
    }
  }

  /// By the interval alone.
  private func judge(_ row: ClaimVerdict) -> (ClaimVerdict.Verdict, String) {
    guard row.measured != nil else { return (.inconclusive, "no figure: too few samples") }
    guard let low = row.low, let high = row.high else { return (.inconclusive, "no interval") }
    let isLowGood = spec.better == .lower
    if let bound = spec.low, high < bound { return (isLowGood ? .better : .worse, "wholly below the range") }
    if let bound = spec.high, low > bound { return (isLowGood ? .worse : .better, "wholly above the range") }
    if low >= spec.low ?? -.infinity, high <= spec.high ?? .infinity {
      return (.confirmed, "within the range")
    }
    return (.inconclusive, "the interval straddles an end of the range")
  }

  /// A saturated open load at the documented rate says something though it is invalid: that the
  /// rate cannot be reached. Lateness and unrest come with saturation; other reasons leave the
  /// blame open.
  private func judgeInvalid(_ row: ClaimVerdict) -> (ClaimVerdict.Verdict, String) {
    let reasons = (all + (others ?? [])).flatMap(\.invalidReasons)
    let codes = reasons.map(\.code.rawValue).uniqued().sorted().joined(separator: ", ")
    let saturated = all.filter { one in one.invalidReasons.contains { $0.code == .saturated } }
    let details = reasons.map(\.detail).uniqued().joined(separator: "; ")
    guard saturated.count * 2 > all.count, reasons.allSatisfy({ $0.code.comesWithSaturation }),
      check.isRate || condition.circumstance == .documentedRate
    else { return (.inconclusive, "invalid (\(codes)): \(details)") }
    if check.isRate, judge(row).0 != .worse {
      return (.inconclusive, "the rate is in reach, but the measurement is invalid (\(codes)): \(details)")
    }
    return (.worse, "the documented rate cannot be reached (\(codes)): \(details)")
  }

  /// The figure, in the claim's unit: the median over replicates; with few of them that of all
  /// their samples.
  private func measured(_ used: [Pair]) -> Double? {
    let values = used.compactMap(figure)
    guard values.count < Statistics.fewestReplicates, let mine = pooled(used.map(\.mine)) else {
      return Statistics.median(values)
    }
    guard let figure = mine.histogram.printableMicroseconds(mine.percentile) else { return nil }
    guard spec.relation != nil else { return figure / factor }
    return pooled(used.compactMap(\.other))?.histogram.printableMicroseconds(mine.percentile)
      .flatMap { combine(figure, $0) }
  }

  /// The 95 % interval in the claim's unit, and what it is.
  private func interval(_ used: [Pair]) -> (Interval?, String) {
    let values = used.compactMap(figure)
    if let interval = Statistics.bootstrapMedian(values, seed: seed) {
      let coverage = Number.text(Statistics.rangeCoverage(values.count) * 100, digits: 1) ?? ""
      let caveat = values.count < 6 ? ", which is about their range and covers at most \(coverage) %" : ""
      let what = spec.relation == nil ? "replicates" : "paired replicates"
      return (interval, "bootstrap interval of the median of \(values.count) \(what)\(caveat)")
    }
    let count = used.count == 1 ? "1 replicate" : "\(used.count) replicates"
    let mine = within(used.map(\.mine))
    let other = spec.relation == nil ? mine : within(used.compactMap(\.other))
    guard let mine, let other, let low = combine(mine.low, other.high),
      let high = combine(mine.high, other.low)
    else { return (nil, "\(count): too few for an interval") }
    let kind = isRate ? "t-interval over windows" : "order-statistic interval within the histogram"
    let source = spec.relation == nil ? kind : "from the ends of both sides' \(kind)"
    return (
      Interval(low: low, high: high),
      "\(count): \(source), which knows nothing of what differs between replicates"
    )
  }

  /// The interval that few replicates show by themselves, in the column's unit.
  private func within(_ used: [Measurement]) -> Interval? {
    if isRate { return Statistics.throughputInterval(used.flatMap(\.windows)) }
    guard let (histogram, percentile) = pooled(used),
      let interval = Statistics.percentileInterval(histogram, percentile: percentile)
    else { return nil }
    return Interval(low: interval.low / 1000, high: interval.high / 1000)
  }

  /// The merged histogram of the column and the percentile; nil when it is no percentile.
  private func pooled(_ used: [Measurement]) -> (histogram: LatencyHistogram, percentile: Double)? {
    let percentiles = ["p50": 50, "p90": 90, "p99": 99, "p999": 99.9]
    let words = spec.metric.split(separator: "_").map(String.init)
    guard words.count == 3, let percentile = percentiles[words[1]] else { return nil }
    let requests = used.compactMap(\.request)
    switch words[0] {
    case "response": return (.merged(requests.map(\.response)), percentile)
    case "service": return (.merged(requests.map(\.service)), percentile)
    default: return nil
    }
  }

  /// What belongs beside the figure: p99, the requests in flight by Little's law, both sides.
  private func besides(_ used: [Pair]) -> [String] {
    func median(_ column: String, _ measurements: [Measurement]) -> Double? {
      Statistics.median(measurements.compactMap { $0.figure(column) })
    }
    let mine = used.map(\.mine)
    guard spec.relation == nil else {
      let shown = [mine, used.compactMap(\.other)].map {
        check.column?.shown(median(spec.metric, $0)) ?? "no figure"
      }
      return ["\(condition.target) \(shown[0]), \(condition.against ?? "") \(shown[1])"]
    }
    var parts: [String] = []
    if spec.metric == "response_p50_us" {
      let tail = Number.time(microseconds: median("response_p99_us", mine))
      parts.append("p99 " + (tail ?? "has too few samples"))
    }
    if let rate = median("throughput_rps", mine), let mean = median("response_mean_us", mine) {
      let inFlight = Number.significant(rate * mean / 1e6, 3) ?? "?"
      parts.append(
        "Little's law: \(Number.grouped(rate) ?? "?") req/s x \(Number.time(microseconds: mean) ?? "?") "
          + "= \(inFlight) in flight")
    }
    return parts
  }
}

// MARK: Documented figures that cannot both be true

extension ClaimEvaluator {
  /// A row for each pair of claims about the same subject whose ranges have no value in common, and
  /// for each difference or change that a document's own two figures do not give.
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
      ClaimVerdict.disagreement, .fails, "\(a.saying), \(b.saying); both cannot be true",
      id: "\(a.id)~\(b.id)", claim: "the documents agree about \(subject)")
  }

  /// A claim such as "+2-3 ms", compared with what each document's own two figures give.
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
  /// Such as `2 to 3 ms`.
  fileprivate var figure: String { "\(documented) \(spec.unit.rawValue)" }
  /// Such as `guide.md:38 says 2 to 3 ms`.
  fileprivate var saying: String { "\(spec.document):\(spec.line) says \(figure)" }

  /// The documented range in the column's unit; nil without a range, or when the unit does not fit.
  fileprivate var range: ClosedRange<Double>? {
    guard let factor = unitFactor, spec.low != nil || spec.high != nil else { return nil }
    return (spec.low.map { $0 * factor } ?? -.infinity)...(spec.high.map { $0 * factor } ?? .infinity)
  }
}
