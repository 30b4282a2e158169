import Measure

/// One claim held against the replicates of one measurement.
struct ConditionTest {
  var check: ClaimCheck
  var condition: ClaimCheck.Condition
  /// How many of the column's units the claim's unit is.
  var factor: Double
  /// All replicates.
  var all: [Measurement]
  var seed: UInt64

  private var isRate: Bool { check.column == "throughput_rps" }

  /// The row under this condition.
  var row: ClaimVerdict {
    guard !all.isEmpty else {
      return check.row(
        condition.label, .notMeasured,
        "target '\(condition.target)' was not measured under load '\(condition.load)'")
    }
    let valid = all.filter(\.isValid)
    let isMostlyValid = valid.count * 2 > all.count
    let used = isMostlyValid ? valid : all
    let (estimate, how) = interval(used)
    let values = used.compactMap { $0.figure(check.column) }
    var row = check.row(condition.label, .inconclusive, "")
    row.measured = measured(values, used).map { $0 / factor }
    row.low = estimate.map { $0.low / factor }
    row.high = estimate.map { $0.high / factor }
    let (verdict, reason) = isMostlyValid ? judge(row) : judgeInvalid(row)
    row.verdict = verdict
    var parts = [reason, how] + besides(used)
    if isMostlyValid, valid.count < all.count {
      parts.append("\(all.count - valid.count) of \(all.count) replicates left out as invalid")
    }
    row.why = parts.filter { !$0.isEmpty }.joined(separator: "; ")
    return row
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
    let reasons = all.flatMap(\.invalidReasons)
    let codes = reasons.map(\.code).uniqued().sorted().joined(separator: ", ")
    let ofSaturation: Set<String> = ["saturated", "generator_late", "never_steady"]
    let saturated = all.filter { one in one.invalidReasons.contains { $0.code == "saturated" } }
    let details = reasons.map(\.detail).uniqued().joined(separator: "; ")
    guard saturated.count * 2 > all.count, reasons.allSatisfy({ ofSaturation.contains($0.code) }),
      isRate || condition.letter == "b"
    else { return (.inconclusive, "invalid (\(codes)): \(details)") }
    if isRate, judge(row).0 != .worse {
      return (.inconclusive, "the rate is in reach, but the measurement is invalid (\(codes)): \(details)")
    }
    return (.worse, "the documented rate cannot be reached (\(codes)): \(details)")
  }

  /// The figure, in the column's unit.
  private func measured(_ values: [Double], _ used: [Measurement]) -> Double? {
    guard values.count < Statistics.fewestReplicates, let histogram = pooled(used) else {
      return Statistics.median(values)
    }
    return histogram.histogram.printableMicroseconds(histogram.percentile)
  }

  /// The 95 % interval in the column's unit, and what it is.
  private func interval(_ used: [Measurement]) -> (Interval?, String) {
    let values = used.compactMap { $0.figure(check.column) }
    if let interval = Statistics.bootstrapMedian(values, seed: seed) {
      let coverage = Number.text(Statistics.rangeCoverage(values.count) * 100, digits: 1) ?? ""
      let caveat = values.count < 6 ? ", which is about their range and covers at most \(coverage) %" : ""
      return (interval, "bootstrap interval of the median of \(values.count) replicates\(caveat)")
    }
    let count = used.count == 1 ? "1 replicate" : "\(used.count) replicates"
    if isRate {
      return (
        Statistics.throughputInterval(used.flatMap(\.windows)),
        "\(count): t-interval over windows, which knows nothing of what differs between replicates"
      )
    }
    guard let (histogram, percentile) = pooled(used),
      let interval = Statistics.percentileInterval(histogram, percentile: percentile)
    else { return (nil, "\(count): too few for an interval") }
    return (
      Interval(low: interval.low / 1000, high: interval.high / 1000),
      "\(count): order-statistic interval within the histogram, which knows nothing of what differs "
        + "between replicates"
    )
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

  /// What belongs beside the figure: p99, and the requests in flight by Little's law.
  private func besides(_ used: [Measurement]) -> [String] {
    var parts: [String] = []
    if check.column == "response_p50_us" {
      let tail = Statistics.median(used.compactMap { $0.figure("response_p99_us") })
      parts.append("p99 " + (Number.time(microseconds: tail) ?? "has too few samples"))
    }
    if let rate = Statistics.median(used.compactMap(\.throughputPerSecond)),
      let mean = Statistics.median(used.compactMap { $0.figure("response_mean_us") })
    {
      let inFlight = Number.significant(rate * mean / 1e6, 3) ?? "?"
      parts.append(
        "Little's law: \(Number.grouped(rate) ?? "?") req/s x \(Number.time(microseconds: mean) ?? "?") "
          + "= \(inFlight) in flight")
    }
    return parts
  }
}
