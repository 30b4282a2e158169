// Comparisons of targets: the ratio of paired replicates, its interval, and a verdict that holds for every
// choice of replicates and of time (response or service).
import Engine
import Foundation
import Lab
import Scenario
import struct Engine.Measurement

/// Two targets under the same load, by one metric: a row of comparison.csv.
package struct ComparisonRow: Codable, Sendable, Equatable {
  /// Whether two targets differ.
  package enum Verdict: String, Codable, Sendable, CaseIterable {
    /// The whole interval of the ratio lies beyond the noise floor.
    case different
    /// Not different, and the whole interval lies within the equivalence limit.
    case same
    /// Neither, or the verdict is not firm.
    case unclear
  }

  package var metric: String
  package var condition: String
  package var a: String
  package var b: String
  /// Median over replicates, in `unit`; nil when missing.
  package var aValue: Double?
  package var bValue: Double?
  package var unit: String
  /// Median of b / a over pairs of replicates; nil without a pair.
  package var ratio: Double?
  /// Lower end of the ratio's interval of at least 95 %; nil with fewer than 6 pairs.
  package var ratioLow: Double?
  package var ratioHigh: Double?
  /// The sign test's two-sided p that the ratio is 1; nil without a pair, and between two runs.
  package var pValue: Double?
  /// The size that a difference must exceed: 0.03 is 3 %; nil without a ratio.
  package var noiseFloor: Double?
  package var verdict: Verdict
  package var why: String
  /// The distance from 1 of the interval's farther end when the verdict is `same`: 0.03 is 3 %.
  package var sameWithin: Double?
  /// Pairs of replicates behind the interval; nil in runs that did not keep it.
  package var pairs: Int?
  /// The gate's verdict on this row; nil without a gate.
  package var gate: GateRow?

  /// `different`, `same within 3 %`, `unclear`.
  package var verdictText: String {
    guard verdict == .same, let sameWithin, sameWithin > 0 else { return verdict.rawValue }
    return "same within \(Number.percent(sameWithin) ?? "?")"
  }

  /// Whether `b` differs from `a` and is worse.
  package var isRegression: Bool {
    guard verdict == .different, let ratio else { return false }
    return SummaryRow.column(metric)?.better == .more ? ratio < 1 : ratio > 1
  }

  package func shown(_ value: Double?) -> String? { SummaryRow.column(metric)?.shown(value) }

  package static let columns: [Column<ComparisonRow>] = [
    .text("metric", "a column of summary.csv", \.metric),
    .text("condition", "the load", \.condition),
    .text("a", "one target", \.a),
    .text("b", "the other target", \.b),
    .number("a_value", "its median over replicates, in `unit`", \.aValue),
    .number("b_value", "as `a_value`", \.bValue),
    .text("unit", "`us`, `req/s` or `B`", \.unit),
    .significant("ratio", "median of b / a over pairs of replicates", \.ratio),
    .significant("ratio_low", "lower end of its interval of at least 95 %", \.ratioLow),
    .significant("ratio_high", "upper end", \.ratioHigh),
    .significant("p_value", "the sign test's two-sided p that the ratio is 1", \.pValue),
    .significant(
      "noise_floor", "what a difference must exceed: the bias of an A/A pair, at least 2 %; 0.03 is 3 %",
      \.noiseFloor),
    .text("verdict", "`different`, `same` or `unclear`", \.verdict.rawValue),
    .significant(
      "same_within", "how far from 1 the interval reaches when the verdict is `same`; 0.03 is 3 %",
      \.sameWithin),
    .count("pairs", "pairs of replicates that the interval is over", int: \.pairs),
    .text("why", "the figures behind the verdict", \.why),
  ]
}

package enum Comparison {
  /// The greatest difference between two targets that still count as the same, unless the command sets one.
  package static let equivalence = 0.1
  /// A difference must exceed this, regardless of the A/A pair.
  static let leastFloor = 0.02
  /// Whether a run checks its questions after so many rounds. More checks would find more differences by
  /// chance.
  package static func isLook(_ rounds: Int) -> Bool {
    [6, 8, 10, 12].contains(rounds) || rounds > 12 && rounds.isMultiple(of: 4)
  }

  /// A row for each pair of targets with the same phases, each load that both had, and each metric that
  /// either has. Side `a` is the FFI target of a mixed pair, else the target written first. Pools over
  /// different network links are not paired: a table by round trip shows them. The duplicate of a target,
  /// which gives the noise floor, is compared only with its original.
  package static func rows(
    measurements: [Measurement], targets: [Target], equivalence: Double = equivalence
  ) -> [ComparisonRow] {
    let comparable = measurements.filter(\.isComparable)
    return comparable.map(\.load).uniqued().flatMap { load -> [ComparisonRow] in
      let all = sides(comparable, targets, load)
      return all.indices.flatMap { place in
        SummaryRow.compared.compactMap { metric in
          // An A/A pair is judged like any other, so its own bias does not count towards its floor.
          let others = all.indices.filter { $0 != place }.map { all[$0] }
          return all[place].row(metric, bias: bias(metric, others), equivalence: equivalence)
        }
      }
    }
  }

  /// Compares two stored runs by target name and by load: `a` is the older side.
  ///
  /// Replicates of two runs are not paired, so the interval is that of the shift between two samples,
  /// including any drift between the runs. The sides are named `run:target`.
  package static func rows(
    _ a: RunDocument, _ b: RunDocument, equivalence: Double = equivalence
  ) -> [ComparisonRow] {
    MeasurementGroup.all(a).filter { $0.measurements.contains(where: \.isComparable) }.flatMap {
      older -> [ComparisonRow] in
      let newer = MeasurementGroup(older.target, older.load, of: b.measurements)
      guard !newer.measurements.isEmpty else { return [] }
      let pair = Sides(a: older, b: newer, runs: (a.runID, b.runID))
      let others = [a, b].flatMap { sides($0.measurements, $0.scenario.targets, older.load) }
      return SummaryRow.compared.compactMap {
        pair.row($0, bias: bias($0, others), equivalence: equivalence)
      }
    }
  }

  /// The pairs of targets that both ran under a load.
  private static func sides(_ measurements: [Measurement], _ targets: [Target], _ load: String) -> [Sides] {
    targetPairs(targets).map { a, b in
      let groups = [a, b].map { MeasurementGroup($0.name, load, of: measurements) }
      return Sides(a: groups[0], b: groups[1], isAA: isSame(a, b))
    }.filter { !$0.a.measurements.isEmpty && !$0.b.measurements.isEmpty }
  }

  /// The greatest bias of the A/A pairs among these.
  private static func bias(_ metric: Column<SummaryRow>, _ all: [Sides]) -> Double {
    all.filter(\.isAA).compactMap { $0.bias(metric) }.max() ?? 0
  }

  private static func difference(_ what: String, _ one: String?, _ other: String?) -> String? {
    one == other ? nil : "\(what) differs: \(one ?? "unknown") and \(other ?? "unknown")"
  }

  /// The differences between the machines of two runs, one sentence each.
  static func machineCautions(_ a: RunDocument, _ b: RunDocument) -> [String] {
    [
      difference("the CPU", a.machine.cpuModel, b.machine.cpuModel),
      difference("the number of cores", a.machine.cores.map(String.init), b.machine.cores.map(String.init)),
    ].compactMap { $0 }
  }

  /// Differences between two runs other than their results, one sentence each.
  package static func cautions(_ a: RunDocument, _ b: RunDocument) -> [String] {
    var found = machineCautions(a, b)
    func check(_ what: String, _ one: String?, _ other: String?) {
      if let difference = difference(what, one, other) { found.append(difference) }
    }
    check("the kernel", a.machine.kernel, b.machine.kernel)
    check("the scenario's SHA-256", a.scenarioSHA256, b.scenarioSHA256)
    for name in Set(a.machine.versions.keys).union(b.machine.versions.keys).sorted() {
      check("the version of \(name)", a.machine.versions[name], b.machine.versions[name])
    }
    for plugin in a.plugins {
      guard let other = b.plugins.first(where: { $0.name == plugin.name }) else { continue }
      check("plugin '\(plugin.name)'", plugin.sha256, other.sha256)
    }
    return found
  }

  private static func targetPairs(_ targets: [Target]) -> [(Target, Target)] {
    let twins = Set(
      targets.indices.filter { place in targets[..<place].contains { isSame($0, targets[place]) } })
    return targets.indices.flatMap { first in
      targets.indices.dropFirst(first + 1).compactMap { second -> (Target, Target)? in
        let pair = (targets[first], targets[second])
        guard pair.0.phases == pair.1.phases else { return nil }
        let isOfTwins = twins.contains(first) || twins.contains(second)
        guard !isOfTwins || (!twins.contains(first) && isSame(pair.0, pair.1)) else { return nil }
        if !pair.0.links.isEmpty, !pair.1.links.isEmpty, pair.0.links != pair.1.links { return nil }
        return pair.1.transport.kind == .ffi && pair.0.transport.kind == .nats
          ? (pair.1, pair.0) : pair
      }
    }
  }

  /// Whether two targets are identical, an A/A pair.
  static func isSame(_ a: Target, _ b: Target) -> Bool {
    var twin = b
    twin.name = a.name
    twin.loads = a.loads
    twin.optional = a.optional
    return twin == a
  }

  package static func isAA(_ row: ComparisonRow, _ targets: [Target]) -> Bool {
    let sides = [row.a, row.b].compactMap { name in targets.first { $0.name == name } }
    return sides.count == 2 && isSame(sides[0], sides[1])
  }
}

extension Measurement {
  /// Whether its figures belong to a single rate that the scenario asks for.
  var isComparable: Bool { ramp == nil && !isOfSearch && !hasFaults }
}

/// The call that replicates support about a ratio, given the margin that it must exceed.
enum RatioCall: Equatable {
  case more, less, same, unclear

  /// - Parameters:
  ///   - interval: The interval of the ratio's logarithm.
  ///   - margin: The logarithm that a difference must exceed.
  init(_ interval: Interval, margin: Double, equivalence: Double) {
    self =
      interval.low > margin
      ? .more
      : interval.high < -margin ? .less : exp(interval.farthest) - 1 <= equivalence ? .same : .unclear
  }

  /// Calls a ratio when too few pairs were undisturbed for an interval: further pairs decide, and each
  /// undisturbed one must agree. Nil when they disagree, and when the further pairs do not support the call.
  init?(undisturbed: LogRatios, _ evidence: Evidence, margin: Double, equivalence: Double) {
    guard let interval = evidence.interval else { return nil }
    let call = RatioCall(interval, margin: margin, equivalence: equivalence)
    // A single replicate may exceed the margin by chance.
    let each = call == .same ? .infinity : margin
    let agree = undisturbed.values.allSatisfy {
      RatioCall(Interval(low: $0, high: $0), margin: each, equivalence: equivalence) == call
    }
    guard call != .unclear, agree, evidence.supports.map({ $0 == call }) ?? true else { return nil }
    self = call
  }

  var verdict: ComparisonRow.Verdict {
    switch self {
    case .more, .less: .different
    case .same: .same
    case .unclear: .unclear
    }
  }
}

/// The logarithms of ratios and their interval.
struct LogRatios {
  /// In ascending order.
  let values: [Double]
  let interval: Interval?
  var median: Double? { Statistics.median(ofSorted: values) }

  /// The median absolute deviation from the median.
  private var deviation: Double {
    let middle = median ?? 0
    return Statistics.median(values.map { abs($0 - middle) }) ?? 0
  }

  /// The size that a difference must exceed: the bias of an A/A pair, 2 %, or a fifth of the spread.
  ///
  /// Without the spread, four checks of widely spread replicates would call 6 % of equal targets different.
  func margin(bias: Double) -> Double {
    max(log(1 + bias), log(1 + Comparison.leastFloor), 0.2 * deviation)
  }

  /// The number of rounds that would probably decide; nil when more than 100.
  func roundsToDecide(margin: Double, equivalence: Double) -> Int? {
    // The standard error of a normal sample's median is 1.25 sigma / sqrt(n), and sigma is 1.48 deviations.
    let width = 1.96 * 1.2533 * 1.4826 * deviation
    let distance = abs(median ?? 0)
    let rooms = [distance - margin, log(1 + equivalence) - distance].filter { $0 > 0 }
    guard let room = rooms.max(), width > 0 else { return nil }
    let rounds = (width / room * (width / room)).rounded(.up)
    return rounds <= 100 ? Int(rounds) : nil
  }
}

extension LogRatios {
  /// Creates the ratios of pairs from the same round, given as finite differences of logarithms.
  init(differences: [Double]) {
    let sorted = differences.sorted()
    self.init(values: sorted, interval: Statistics.medianInterval(ofSorted: sorted))
  }
}

/// Pairs of replicates, disturbed ones among them, that may decide when too few pairs were undisturbed.
struct Evidence {
  var ratios: LogRatios
  /// The logarithm of the factor by which the ratio may be off.
  var doubt = 0.0
  /// The only call that the pairs support; nil for any.
  var supports: RatioCall?
  /// The number of replicates on both sides, and words for the reason.
  var used = 0
  var words = ""

  var interval: Interval? { ratios.interval?.widened(by: doubt) }
}

/// The replicates of two targets under one load; within a run, those of the same round form a pair.
private struct Sides {
  var a: MeasurementGroup
  var b: MeasurementGroup
  /// Whether both sides are the same target.
  var isAA = false
  /// The ids of the two runs; nil for sides of one run.
  var runs: (a: String, b: String)?

  private var names: [String] {
    runs.map { ["\($0.a):\(a.target)", "\($0.b):\(b.target)"] } ?? [a.target, b.target]
  }

  /// The logarithms of b / a, over replicates whose figure is not 0.
  private func ratios(_ metric: String, _ a: [Measurement], _ b: [Measurement]) -> LogRatios {
    guard runs == nil else {
      // All pairwise differences.
      let logs = [a, b].map { $0.compactMap { $0.figure(metric) }.filter { $0 > 0 }.map { log($0) } }
      return LogRatios(
        values: logs[0].flatMap { x in logs[1].map { $0 - x } }.sorted(),
        interval: Statistics.shiftInterval(from: logs[0], to: logs[1]))
    }
    return LogRatios(
      differences: MeasurementGroup.pairs(metric, a, b).filter { $0.mine > 0 && $0.other > 0 }.map {
        log($0.other / $0.mine)
      })
  }

  /// What may decide when too few pairs were undisturbed, the strongest first.
  private func evidence(_ metric: String, undisturbed count: Int, worse: RatioCall?) -> [Evidence] {
    guard runs == nil else { return [] }
    let doubt = Statistics.doubtLogarithm(undisturbed: count, isOpen: a.isOpen || b.isOpen)
    let factor = Number.significant(Statistics.disturbedFactor) ?? "?"
    // Equal targets are disturbed equally, apart from chance, so the interval of all pairs is right for them.
    let all = Evidence(
      ratios: ratios(metric, a.warm, b.warm), doubt: doubt, used: a.warm.count + b.warm.count,
      words: doubt == 0
        ? "each of them, and the interval of all, lies"
        : "the interval of all, even with ratios off by a factor of \(factor), lies")
    guard let worse else { return [all] }
    // A disturbance makes figures worse. Pairs with disturbances on one side only therefore show a difference
    // that is too small if the undisturbed side is the worse one.
    func oneSide(_ a: [Measurement], _ b: [Measurement], _ worse: RatioCall, disturbed name: String)
      -> Evidence
    {
      Evidence(
        ratios: ratios(metric, a, b), supports: worse, used: a.count + b.count,
        words: "the interval that includes the disturbed replicates of \(name), which disturbances only "
          + "make worse, lies")
    }
    let better = worse == .more ? RatioCall.less : .more
    return [
      all, oneSide(a.warm, b.sound, worse, disturbed: names[0]),
      oneSide(a.sound, b.warm, better, disturbed: names[1]),
    ]
  }

  /// The distance from 1 that the interval certainly exceeds; nil without an interval.
  func bias(_ metric: Column<SummaryRow>) -> Double? {
    ratios(metric.name, a.sound, b.sound).interval.map { exp($0.nearest) - 1 }
  }

  func row(_ metric: Column<SummaryRow>, bias: Double, equivalence: Double) -> ComparisonRow? {
    let values = [a, b].map { $0.median(metric.name) }
    guard values.contains(where: { $0 != nil }) else { return nil }
    var row = ComparisonRow(
      metric: metric.name, condition: a.load, a: names[0], b: names[1], aValue: values[0],
      bValue: values[1], unit: metric.unit, verdict: .unclear, why: "")
    guard values.allSatisfy({ $0 != nil }) else {
      row.why = "only one side has this figure"
      return row
    }
    let ratios = ratios(metric.name, a.sound, b.sound)
    let middle = ratios.median ?? (runs == nil ? self.ratios(metric.name, a.warm, b.warm).median : nil)
    guard let middle else {
      let isNothing = (a.figures(metric.name) + b.figures(metric.name)).allSatisfy { $0 == 0 }
      if isNothing, a.isValid, b.isValid { (row.verdict, row.why) = (.same, "0 on both sides") }
      if !isNothing { row.why = invalid ?? "no ratio: a figure is 0" }
      return row
    }
    let margin = ratios.margin(bias: bias)
    row.ratio = exp(middle)
    row.ratioLow = ratios.interval.map { exp($0.low) }
    row.ratioHigh = ratios.interval.map { exp($0.high) }
    row.noiseFloor = exp(margin) - 1
    if runs == nil {
      row.pValue = Statistics.signTest(ratios.values)
      row.pairs = ratios.values.count
    }
    let firm = firm(ratios, middle: middle, metric, margin: margin, equivalence: equivalence)
    row.verdict = firm.call.verdict
    if let decided = firm.decided {
      (row.ratioLow, row.ratioHigh) = (exp(decided.interval.low), exp(decided.interval.high))
      row.pairs = decided.pairs
    }
    if firm.call == .same {
      row.sameWithin = (firm.decided?.interval ?? ratios.interval).map { exp($0.farthest) - 1 }
    }
    let used = firm.decided?.used ?? a.sound.count + b.sound.count
    row.why = ([firm.why] + notes(metric, used: used)).joined(separator: "; ")
    return row
  }

  /// Why neither side can be judged.
  private var invalid: String? {
    let codes = [a, b].compactMap(\.invalidCodes).uniqued()
    return codes.isEmpty ? nil : "invalid: " + codes.joined(separator: ", ")
  }

  private struct Firm {
    var call: RatioCall
    var why: String
    /// The interval that decided where too few pairs were undisturbed, and how many pairs and replicates it is of.
    var decided: (interval: Interval, pairs: Int, used: Int)?
  }

  /// The verdict, provided that it is the same over used and over all whole replicates, and by response and by
  /// service time; `unclear`, naming the disagreement, otherwise.
  private func firm(
    _ ratios: LogRatios, middle: Double, _ metric: Column<SummaryRow>, margin: Double, equivalence: Double
  ) -> Firm {
    guard let drift = MeasurementGroup.driftLogarithm(of: [a, b]) else {
      return Firm(call: .unclear, why: invalid ?? "")
    }
    let floor = Number.percent(exp(margin) - 1) ?? "?"
    func words(_ call: RatioCall, by what: String, _ interval: Interval) -> String {
      call == .same
        ? "\(what) within \(Number.percent(exp(interval.farthest) - 1) ?? "?")"
        : "\(what) beyond the noise floor of \(floor)" + allowance(drift)
    }
    guard let interval = ratios.interval?.widened(by: drift) else {
      let few = disturbed(ratios, metric, margin: margin, drift: drift, equivalence: equivalence)
      // The interval must include the ratio beside it.
      if let few, let interval = few.by.ratios.interval?.including(middle) {
        return Firm(
          call: few.call,
          why: "\(ratios.values.count) pairs of replicates were undisturbed: "
            + words(few.call, by: few.by.words, interval),
          decided: (interval, few.by.ratios.values.count, few.by.used))
      }
      if let invalid { return Firm(call: .unclear, why: invalid) }
      let what =
        runs == nil ? "\(ratios.values.count) pairs of replicates" : "under 6 replicates on one side"
      return Firm(
        call: .unclear, why: "\(what), but an interval needs \(Statistics.fewestReplicates)")
    }
    let call = RatioCall(interval, margin: margin, equivalence: equivalence)
    // The drift of a condition that never became steady is not known well enough to call the two the same.
    if call.verdict != .different, let invalid { return Firm(call: .unclear, why: invalid) }
    if call == .unclear {
      let rounds = ratios.roundsToDecide(margin: margin, equivalence: equivalence)
      let hint = rounds.map { "about \(max($0, ratios.values.count + 2)) rounds would decide" }
      return Firm(
        call: .unclear,
        why: "the interval neither leaves the noise floor of \(floor) nor lies within "
          + "\(Number.percent(equivalence) ?? "?")"
          + (runs == nil ? "; \(hint ?? "over 100 rounds would be needed")" : ""))
    }
    let others = [
      ("with the disturbed replicates", self.ratios(metric.name, a.whole, b.whole)),
      ("by service time", metric.serviceTime.map { self.ratios($0, a.sound, b.sound) }),
    ]
    for (how, other) in others {
      guard let interval = other?.interval?.widened(by: drift) else { continue }
      let says = RatioCall(interval, margin: margin, equivalence: equivalence)
      if says != call {
        return Firm(call: .unclear, why: "not firm: \(how) the verdict is \(says.verdict.rawValue)")
      }
    }
    let what = call == .same ? "the interval lies" : "the whole interval lies"
    return Firm(call: call, why: words(call, by: what, interval))
  }

  /// The verdict when too few pairs were undisturbed, and what decided it; nil when nothing is firm.
  private func disturbed(
    _ ratios: LogRatios, _ metric: Column<SummaryRow>, margin: Double, drift: Double, equivalence: Double
  ) -> (call: RatioCall, by: Evidence)? {
    // A ratio that may be off by the drift certainly exceeds the margin only when it exceeds both together.
    let surely = margin + drift
    func evidence(_ name: String) -> [Evidence] {
      self.evidence(name, undisturbed: ratios.values.count, worse: metric.worse)
    }
    let byService = metric.serviceTime.map(evidence)
    for (place, one) in evidence(metric.name).enumerated() {
      let call = RatioCall(undisturbed: ratios, one, margin: surely, equivalence: equivalence)
      guard let call, call != .same || drift == 0 else { continue }
      let service = byService?[place].interval
      let agrees = service.map { RatioCall($0, margin: surely, equivalence: equivalence) == call } ?? true
      if agrees { return (call, one) }
    }
    return nil
  }

  /// - Parameter used: How many replicates the verdict is of.
  private func notes(_ metric: Column<SummaryRow>, used: Int) -> [String] {
    let sides = Array(zip(names, [a, b]))
    var notes = sides.compactMap { name, group in
      group.modesText(metric).map { "\(name) has two modes: \($0)" }
    }
    notes += sides.filter { $0.1.isSaturated }.map { "\($0.0) does not reach the rate" }
    notes += sides.compactMap { name, group in
      group.lateText(metric).map { "\($0) of \(name)'s is the generator's send lag" }
    }
    let left = a.measurements.count + b.measurements.count - used
    if left > 0 { notes.append("\(left) replicates not used") }
    return notes
  }
}

/// The note in a verdict about a condition that never became steady; empty for a steady one.
func allowance(_ driftLogarithm: Double) -> String {
  guard driftLogarithm > 0, let share = Number.percent(exp(driftLogarithm) - 1, digits: 0) else { return "" }
  return ", even with figures \(share) off (never_steady: twice the change within the measured time)"
}

extension Column<SummaryRow> {
  /// The call that says that the second side is worse; nil when neither is.
  var worse: RatioCall? {
    switch better {
    case .more: .less
    case .less: .more
    case .neither: nil
    }
  }

  /// The column of the service time at the same percentile; nil when there is none.
  var serviceTime: String? {
    let service = name.replacing("response_", with: "service_")
    return service != name && SummaryRow.column(service) != nil ? service : nil
  }

  /// The percentile of a column such as `response_p999_us`; nil for other columns.
  package var percentile: Double? {
    let words = name.split(separator: "_")
    guard words.count == 3, words[1].hasPrefix("p") else { return nil }
    return ["p50": 50, "p90": 90, "p99": 99, "p999": 99.9][String(words[1])]
  }
}

extension Sequence where Element: Hashable {
  /// Each element once, in the order of first occurrence.
  package func uniqued() -> [Element] {
    var seen: Set<Element> = []
    return filter { seen.insert($0).inserted }
  }
}
