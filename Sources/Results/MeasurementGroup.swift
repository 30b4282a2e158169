import Engine
import func Foundation.log

extension ScopeMeasurement {
  /// The three histograms by name.
  package static let times: [(name: String, of: @Sendable (ScopeMeasurement) -> LatencyHistogram)] = [
    ("response", \.response), ("service", \.service), ("send_lag", \.sendLag),
  ]
}

/// All replicates of one target under one load.
package struct MeasurementGroup {
  package var target: String
  package var load: String
  /// The replicates in the order in which they were measured; not empty.
  package var measurements: [Measurement]

  package init(_ target: String, _ load: String, of all: [Measurement]) {
    (self.target, self.load) = (target, load)
    measurements = all.filter { $0.target == target && $0.load == load }
  }

  package static func all(_ document: RunDocument) -> [MeasurementGroup] {
    document.measurements.map { [$0.target, $0.load] }.uniqued().map {
      MeasurementGroup($0[0], $0[1], of: document.measurements)
    }
  }

  package var scopeNames: [String] { measurements.flatMap { $0.scopes.map(\.scope) }.uniqued() }

  /// The steps of a session: its phases, and the step that opens it if there is one.
  package var stepNames: [String] { scopeNames.filter { $0 != "request" } }

  /// The phases of the target itself. The phases of a plugin that requests pass first have its name in front.
  package var phaseNames: [String] {
    stepNames.filter(Measurement.isOwnPhase)
  }

  /// The replicates that are not broken, disturbed ones included.
  var whole: [Measurement] { measurements.filter { !$0.isBroken } }

  /// Whether requests come at a rate that does not depend on the answers.
  package var isOpen: Bool { measurements.contains { $0.offeredRatePerSecond != nil } }

  package var isRamp: Bool { measurements.contains { $0.ramp != nil } }

  /// Whether faults were injected under this load.
  package var hasFaults: Bool { measurements.contains(where: \.hasFaults) }

  /// Whether only a search for a rate asked for this condition.
  package var isOfSearch: Bool { measurements.allSatisfy(\.isOfSearch) }

  /// Whether most replicates stayed below the offered rate. The rate is then out of reach, which is a result.
  package var isSaturated: Bool {
    let whole = whole
    return whole.count { $0.has(.saturated) } * 2 > whole.count
  }

  /// The usable replicates: neither broken nor disturbed.
  package var sound: [Measurement] {
    let isSaturated = isSaturated
    return whole.filter { !$0.isDisturbed && (isSaturated || !$0.has(.saturated)) }
  }

  /// The whole replicates without those that were repeated after a longer warm-up.
  var warm: [Measurement] { whole.filter { !$0.has(.shortWarmup) } }

  /// The sound replicates, the disturbed ones when there is none, or else all, so that a report still shows
  /// what was measured.
  package var used: [Measurement] { [sound, warm].first { !$0.isEmpty } ?? measurements }

  /// The codes of the reasons why the condition is invalid; nil when its figures may be used.
  var invalidCodes: String? {
    let sound = sound
    if sound.isEmpty { return measurements.map(\.invalidCodes).uniqued().sorted().joined(separator: ", ") }
    return sound.contains { $0.has(.neverSteady) } ? InvalidReason.Code.neverSteady.rawValue : nil
  }

  /// A trend in only one or two replicates on a shared machine is noise.
  static let fewestForTrend = 3

  /// A trend that the replicates share: the warm-up was too short.
  ///
  /// Near a target's highest rate, requests queue behind earlier ones, so the windows of one replicate depend
  /// on each other and a few replicates alone reach a small p. The replicates must therefore also agree on
  /// the direction.
  ///
  /// Nil when the rate is out of reach (requests queue up and response times must rise), for a ramp, and
  /// under faults, which change the target's behaviour.
  package var trend: InvalidReason? {
    let sound = sound
    guard !isSaturated, !isRamp, !hasFaults, sound.count >= Self.fewestForTrend else { return nil }
    var series: [(name: String, values: [[Double]])] = [("median response time", windows(\.p50Nanoseconds))]
    if sound.first?.offeredRatePerSecond == nil { series.append(("throughput", rates)) }
    for (name, values) in series {
      guard let trend = Statistics.trend(values), trend.isShared, trend.pValue < Validity.trendProbability,
        let change = trend.relativeChange, abs(change) > Validity.trendShare
      else { continue }
      return InvalidReason(
        code: .neverSteady,
        detail: "the \(name) \(change > 0 ? "rose" : "fell") by \(Number.percent(abs(change)) ?? "?") within "
          + "the measured time, in the median of \(values.count) replicates (Mann-Kendall "
          + "p \(Number.text(trend.pValue, digits: 4) ?? "?")); warm up for longer")
    }
    return nil
  }

  private func windows(_ percentile: (MeasurementWindow) -> UInt64?) -> [[Double]] {
    sound.map { one in one.windows.compactMap { percentile($0).map { Double($0) } } }
  }

  private var rates: [[Double]] {
    sound.map { one in
      one.windows.filter { $0.durationSeconds > 0 }.map { Double($0.completed) / $0.durationSeconds }
    }
  }

  /// The possible distance, as a logarithm in either direction, between the figures of a condition that never
  /// became steady and a steady one's: twice the greatest change within the measured time. 0 for a steady
  /// condition, and for one whose replicates were all disturbed, which show no trend; nil when unknown.
  var driftLogarithm: Double? {
    guard let invalidCodes, !sound.isEmpty || warm.isEmpty else { return 0 }
    guard invalidCodes == InvalidReason.Code.neverSteady.rawValue else { return nil }
    let series = [windows(\.p50Nanoseconds), windows(\.p99Nanoseconds), rates]
    let changes = series.compactMap { Statistics.trend($0)?.relativeChange }
    guard let greatest = changes.map({ abs($0) }).max() else { return nil }
    // A change is given as a share of the median.
    let half = max(greatest, Validity.trendShare) / 2
    return half < 1 ? 2 * log((1 + half) / (1 - half)) : .infinity
  }

  /// The sum over these groups; nil when one of them is unknown.
  static func driftLogarithm(of groups: [MeasurementGroup]) -> Double? {
    let each = groups.map(\.driftLogarithm)
    return each.contains(nil) ? nil : each.compactMap { $0 }.reduce(0, +)
  }

  /// Whether the condition never became steady but is otherwise valid.
  package var isDrifting: Bool { driftLogarithm.map { $0 > 0 } ?? false }

  /// The share of a response time percentile due to a late generator, 0 to 1; nil when it is not late.
  func lateShare(percentile: Double) -> Double? {
    Validity.lateShare(
      percentile: percentile, lag: merged("request", \.sendLag), response: merged("request", \.response))
  }

  /// The merged histogram of the used replicates.
  package func merged(_ scope: String, _ time: (ScopeMeasurement) -> LatencyHistogram) -> LatencyHistogram {
    .merged(used.flatMap(\.scopes).filter { $0.scope == scope }.map(time))
  }

  /// The median over the used replicates that have this figure; nil when none has it.
  package func median(_ column: String, scope: String = "request") -> Double? {
    Statistics.median(figures(column, scope: scope))
  }

  package func figures(_ column: String, scope: String = "request") -> [Double] {
    used.compactMap { $0.figure(column, scope: scope) }
  }

  /// Pairs a metric of replicates with another group's of the same round, where both have it.
  package static func pairs(
    _ metric: String, _ mine: [Measurement], _ others: [Measurement], otherMetric: String? = nil
  ) -> [(mine: Double, other: Double)] {
    mine.compactMap { one in
      guard let figure = one.figure(metric),
        let other = others.first(where: { $0.replicate == one.replicate })?.figure(otherMetric ?? metric)
      else { return nil }
      return (figure, other)
    }
  }

  /// Text such as `4 µs (3) and 9 µs (3)` for figures with two modes and the number of values around each.
  func modesText(_ column: Column<SummaryRow>) -> String? {
    Statistics.modes(figures(column.name)).map { modes in
      modes.map { "\(column.shown($0.value) ?? "?") (\($0.count))" }.joined(separator: " and ")
    }
  }

  /// The share of a response time percentile that is due to a late generator, such as `50 %`; nil for other
  /// columns, and when it is not late.
  func lateText(_ column: Column<SummaryRow>) -> String? {
    guard column.name.hasPrefix("response_"), let percentile = column.percentile else { return nil }
    return lateShare(percentile: percentile).flatMap { Number.percent($0, digits: 0) }
  }

  /// The number of requests over all replicates that did not succeed.
  package func failures(scope: String = "request") -> UInt64 {
    measurements.flatMap(\.scopes).filter { $0.scope == scope }.reduce(0) {
      $0 + $1.counts.ended - $1.counts.ok
    }
  }

  package var isValid: Bool { invalidCodes == nil }

  /// `yes`, or the problems with the replicates that had them.
  package var validity: String {
    if let invalidCodes { return "NO: \(invalidCodes)" }
    if isSaturated { return "saturated" }
    let left = measurements.count - sound.count
    guard left > 0 else { return "yes" }
    let codes = measurements.flatMap { $0.invalidReasons.map(\.code.rawValue) }.uniqued()
    return "\(left) of \(measurements.count) not: \(codes.joined(separator: ", "))"
  }
}
