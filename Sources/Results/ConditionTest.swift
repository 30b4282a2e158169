import Engine
import Lab

/// One claim held against the replicates of one measurement.
struct ConditionTest {
  var check: ClaimCheck
  var condition: ClaimCheck.Condition
  /// How many of the column's units the claim's unit is.
  var factor: Double
  var all: [Measurement]
  /// All replicates of the target that it is held against; nil for a figure of its own.
  var others: [Measurement]?
  var seed: UInt64

  private var isRate: Bool { check.column == "throughput_rps" && check.relation == nil }

  /// The row under this condition.
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

  /// A replicate, and the same replicate of the target that it is held against.
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
    guard let mine = pair.mine.figure(check.column) else { return nil }
    guard let other = pair.other else { return mine / factor }
    return other.figure(check.column).flatMap { combine(mine, $0) }
  }

  /// Difference or change, in the claim's unit.
  private func combine(_ mine: Double, _ other: Double) -> Double? {
    switch check.relation {
    case .difference: (mine - other) / factor
    case .change: other == 0 ? nil : (mine / other - 1) * 100
    case nil: mine / factor
    }
  }

  /// By the interval alone.
  private func judge(_ row: ClaimVerdict) -> (ClaimVerdict.Verdict, String) {
    guard row.measured != nil else { return (.inconclusive, "no figure: too few samples") }
    guard let low = row.low, let high = row.high else { return (.inconclusive, "no interval") }
    if let bound = check.low, high < bound {
      return check.lowerIsBetter
        ? (.better, "wholly below the range") : (.worse, "wholly below the range")
    }
    if let bound = check.high, low > bound {
      return check.lowerIsBetter
        ? (.worse, "wholly above the range") : (.better, "wholly above the range")
    }
    if low >= check.low ?? -.infinity, high <= check.high ?? .infinity {
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
      isRate || condition.letter == "b"
    else { return (.inconclusive, "invalid (\(codes)): \(details)") }
    if isRate, judge(row).0 != .worse {
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
    guard check.relation != nil else { return figure / factor }
    return pooled(used.compactMap(\.other))?.histogram.printableMicroseconds(mine.percentile)
      .flatMap { combine(figure, $0) }
  }

  /// The 95 % interval in the claim's unit, and what it is.
  private func interval(_ used: [Pair]) -> (Interval?, String) {
    let values = used.compactMap(figure)
    if let interval = Statistics.bootstrapMedian(values, seed: seed) {
      let coverage = Number.text(Statistics.rangeCoverage(values.count) * 100, digits: 1) ?? ""
      let caveat = values.count < 6 ? ", which is about their range and covers at most \(coverage) %" : ""
      let what = check.relation == nil ? "replicates" : "paired replicates"
      return (interval, "bootstrap interval of the median of \(values.count) \(what)\(caveat)")
    }
    let count = used.count == 1 ? "1 replicate" : "\(used.count) replicates"
    let isOfRates = check.column == "throughput_rps"
    guard let mine = within(used.map(\.mine)) else { return (nil, "\(count): too few for an interval") }
    let kind = isOfRates ? "t-interval over windows" : "order-statistic interval within the histogram"
    guard check.relation != nil else {
      return (
        Interval(low: mine.low / factor, high: mine.high / factor),
        "\(count): \(kind), which knows nothing of what differs between replicates"
      )
    }
    guard let other = within(used.compactMap(\.other)), let low = combine(mine.low, other.high),
      let high = combine(mine.high, other.low)
    else { return (nil, "\(count): too few for an interval") }
    return (
      Interval(low: low, high: high),
      "\(count): from the ends of both sides' \(kind), which knows nothing of what differs between replicates"
    )
  }

  /// The interval that few replicates show by themselves, in the column's unit.
  private func within(_ used: [Measurement]) -> Interval? {
    if check.column == "throughput_rps" { return Statistics.throughputInterval(used.flatMap(\.windows)) }
    guard let (histogram, percentile) = pooled(used),
      let interval = Statistics.percentileInterval(histogram, percentile: percentile)
    else { return nil }
    return Interval(low: interval.low / 1000, high: interval.high / 1000)
  }

  /// The merged histogram of the column and the percentile; nil when it is no percentile.
  private func pooled(_ used: [Measurement]) -> (histogram: LatencyHistogram, percentile: Double)? {
    let percentiles = ["p50": 50, "p90": 90, "p99": 99, "p999": 99.9]
    let words = check.column.split(separator: "_").map(String.init)
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
    guard check.relation == nil else { return [sides(used)] }
    let mine = used.map(\.mine)
    var parts: [String] = []
    if check.column == "response_p50_us" {
      let tail = Statistics.median(mine.compactMap { $0.figure("response_p99_us") })
      parts.append("p99 " + (Number.time(microseconds: tail) ?? "has too few samples"))
    }
    if let rate = Statistics.median(mine.compactMap(\.throughputPerSecond)),
      let mean = Statistics.median(mine.compactMap { $0.figure("response_mean_us") })
    {
      let inFlight = Number.significant(rate * mean / 1e6, 3) ?? "?"
      parts.append(
        "Little's law: \(Number.grouped(rate) ?? "?") req/s x \(Number.time(microseconds: mean) ?? "?") "
          + "= \(inFlight) in flight")
    }
    return parts
  }

  private func sides(_ used: [Pair]) -> String {
    func shown(_ measurements: [Measurement]) -> String {
      let value = Statistics.median(measurements.compactMap { $0.figure(check.column) })
      let text = check.column.hasSuffix("_us") ? Number.time(microseconds: value) : Number.grouped(value)
      return text ?? "no figure"
    }
    return "\(condition.target) \(shown(used.map(\.mine))), "
      + "\(condition.against ?? "") \(shown(used.compactMap(\.other)))"
  }
}
