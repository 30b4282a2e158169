// Gates: whether a newer run is worse than an older one, which decides whether a build passes or fails.
import Engine
import Scenario

/// The gate's verdict on one condition that both runs have.
package struct GateRow: Codable, Sendable, Equatable {
  /// The verdict on a condition. The first of these that any condition has decides for the whole run.
  package enum Verdict: String, Codable, Sendable, CaseIterable {
    /// Worse by more than the margin and certainly worse, or the condition fails in a new way.
    case regressed
    /// One of the runs has no usable figure.
    case invalid
    /// The interval is too wide for either, or the verdict is not firm.
    case unclear
    /// Not worse by more than the margin.
    case kept
  }

  /// The target's name.
  package var target: String
  /// The load's label.
  package var load: String
  /// A column of summary.csv: the median response time, or the throughput of a closed load with several in
  /// flight.
  package var metric: String
  /// The older run's median over replicates, in the column's unit; nil when missing.
  package var older: Double?
  /// The newer run's median over replicates, in the column's unit; nil when missing.
  package var newer: Double?
  /// How much worse the newer run is: 0.3 is 30 %, for a throughput 30 % more time per request. Negative is
  /// better.
  package var worse: Double?
  /// The lower end of its interval of at least 95 %.
  package var worseLow: Double?
  /// The upper end of its interval of at least 95 %.
  package var worseHigh: Double?
  /// The time of bare C on the machine during the newer run, divided by that during the older one; nil when
  /// it was not measured with both.
  package var machine: Double?
  /// The gate's verdict.
  package var verdict: Verdict
  /// The reason for the verdict.
  package var why: String
}

/// The conditions that two stored runs have in common, judged by how much worse the newer one may be.
///
/// The replicates of one run do not show differences between runs, such as a neighbour on the same hardware:
/// a difference of a few percent between two runs of the same code is often firm. A gate therefore asks how
/// large the difference is, judges medians and throughputs but no tails, and excuses slowdowns of bare C.
package struct Gate: Sendable {
  /// The margin unless the command sets another.
  package static let standardMargin = 0.1
  /// An interval wider than this many margins is too wide to pass.
  static let widest = 2.0
  /// A share of failed requests below this is no regression.
  static let failedShare = 0.001

  package let margin: Double
  package let rows: [GateRow]
  /// Conditions that only one of the runs has, such as `ffi closed-1`.
  package let onlyOlder, onlyNewer: [String]

  /// - Parameter comparisons: The rows of the comparison of both runs.
  package init(_ a: RunDocument, _ b: RunDocument, comparisons: [ComparisonRow], margin: Double) {
    self.margin = margin
    let sides = [a, b].map { run in
      MeasurementGroup.all(run).filter { $0.measurements.contains(where: \.isComparable) }
    }
    let names = sides.map { groups in groups.map { "\($0.target) \($0.load)" } }
    onlyOlder = names[0].filter { !names[1].contains($0) }
    onlyNewer = names[1].filter { !names[0].contains($0) }
    rows = sides[0].compactMap { older in
      guard let newer = sides[1].first(where: { $0.target == older.target && $0.load == older.load }) else {
        return nil
      }
      let judge = GateJudge(
        older: older, newer: newer, baselines: (a.baseline, b.baseline), margin: margin)
      // Both sides of a row are of the same target.
      let name = "\(a.runID):\(older.target)"
      return judge.row(comparisons.filter { $0.a == name && $0.condition == older.load })
    }
  }

  package func count(_ verdict: GateRow.Verdict) -> Int { rows.count { $0.verdict == verdict } }

  /// The deciding verdict. With no condition in common nothing is judged.
  package var verdict: GateRow.Verdict { GateRow.Verdict.allCases.first { count($0) > 0 } ?? .invalid }

  /// The rows, the deciding ones first.
  package var byVerdict: [GateRow] {
    GateRow.Verdict.allCases.flatMap { verdict in rows.filter { $0.verdict == verdict } }
  }

  /// The comparison's rows, with the gate's verdict on those that were judged.
  package func attached(to comparisons: [ComparisonRow], _ a: RunDocument, _ b: RunDocument)
    -> [ComparisonRow]
  {
    rows.reduce(into: comparisons) { all, row in
      let (older, newer) = ("\(a.runID):\(row.target)", "\(b.runID):\(row.target)")
      let place = all.firstIndex { $0.a == older && $0.condition == row.load && $0.metric == row.metric }
      if let place {
        all[place].gate = row
      } else {
        all.append(
          ComparisonRow(
            metric: row.metric, condition: row.load, a: older, b: newer, aValue: row.older,
            bValue: row.newer, unit: SummaryRow.column(row.metric)?.unit ?? "", verdict: .unclear,
            why: row.why, gate: row))
      }
    }
  }

  /// Reasons why a gate makes no sense, one sentence each: another machine or other requests. The tested code
  /// may differ.
  package static func obstacles(_ a: RunDocument, _ b: RunDocument) -> [String] {
    var found = Comparison.machineCautions(a, b)
    if a.scenario.request != b.scenario.request { found.append("the request of the scenario differs") }
    for older in a.scenario.targets {
      guard let newer = b.scenario.targets.first(where: { $0.name == older.name }) else { continue }
      if older.phases != newer.phases { found.append("the phases of target '\(older.name)' differ") }
      if older.transport.kind != newer.transport.kind {
        found.append(
          "the transport of target '\(older.name)' differs: \(older.transport.kind) and "
            + newer.transport.kind.rawValue)
      }
    }
    return found
  }
}

/// One condition as measured in both runs.
private struct GateJudge {
  let older, newer: MeasurementGroup
  let baselines: (older: BaselineFigures?, newer: BaselineFigures?)
  let margin: Double

  /// When neither run reaches an open load's rate, requests queue up, and only the throughput can be judged.
  private var isRate: Bool {
    guard let first = older.measurements.first else { return false }
    return first.offeredRatePerSecond == nil ? first.concurrency > 1 : older.isSaturated && newer.isSaturated
  }

  /// - Parameter comparisons: The rows of this condition.
  func row(_ comparisons: [ComparisonRow]) -> GateRow {
    let metric = isRate ? "throughput_rps" : "response_p50_us"
    let compared = comparisons.first { $0.metric == metric }
    var row = GateRow(
      target: older.target, load: older.load, metric: metric, older: older.median(metric),
      newer: newer.median(metric), machine: machine, verdict: .unclear, why: "")
    if let ratio = compared?.ratio, ratio > 0 {
      row.worse = worse(ratio)
      let ends = [compared?.ratioLow, compared?.ratioHigh].compactMap { $0 }.filter { $0 > 0 }.map(worse)
      if ends.count == 2 { (row.worseLow, row.worseHigh) = (ends.min(), ends.max()) }
    }
    (row.verdict, row.why) = verdict(row, compared)
    return row
  }

  private func worse(_ ratio: Double) -> Double { (isRate ? 1 / ratio : ratio) - 1 }

  private func verdict(_ row: GateRow, _ compared: ComparisonRow?) -> (GateRow.Verdict, String) {
    let invalid = [("older", older), ("newer", newer)].compactMap { name, group in
      group.invalidCodes.map { "\(name) run: \($0)" }
    }
    guard invalid.isEmpty else { return (.invalid, invalid.joined(separator: ", ")) }
    if newer.isSaturated, !older.isSaturated {
      return (.regressed, "under 98 % of the rate is answered; the older run reached it")
    }
    let failed = [older, newer].map(\.failedShare)
    if failed[1] > Gate.failedShare, failed[1] > 2 * failed[0] {
      let shares = failed.map { Number.percent($0, digits: 2) ?? "?" }
      return (.regressed, "\(shares[1]) of the requests fail, \(shares[0]) in the older run")
    }
    if older.isSaturated, !newer.isSaturated { return (.kept, "the rate is reached, unlike before") }
    let fewest = Statistics.fewestReplicates
    guard let worse = row.worse, let high = row.worseHigh else {
      let counts = "\(older.sound.count) and \(newer.sound.count) usable replicates"
      return (.unclear, "\(counts), but an interval needs \(fewest) in each run")
    }
    let limit = Number.percent(margin) ?? "?"
    if worse <= margin {
      return high <= Gate.widest * margin
        ? (.kept, "not over \(limit) worse")
        : (
          .unclear,
          "the interval is so wide that a change of over \(limit) may be missed; measure more rounds"
        )
    }
    guard let compared, compared.verdict == .different else {
      return (.unclear, "over \(limit) worse, but not firmly: \(compared?.why ?? "there is no comparison")")
    }
    if let machine, (1 + worse) / machine <= 1 + margin {
      return (
        .unclear,
        "bare C also took \(Number.significant(machine, 3) ?? "?") times as long as during the older run: a "
          + "slower machine explains it"
      )
    }
    return (.regressed, "over \(limit) worse, and \(compared.why)")
  }

  /// The time of bare C during the newer run relative to the older one; nil when either run lacks the figure.
  private var machine: Double? {
    guard let mine = older.measurements.first, let other = newer.measurements.first else { return nil }
    let phases = older.phaseNames.count
    let before = baselines.older?.figure(of: mine, phases: phases, isTime: !isRate)
    let after = baselines.newer?.figure(of: other, phases: phases, isTime: !isRate)
    guard let before, let after, before > 0, after > 0 else { return nil }
    return isRate ? before / after : after / before
  }
}

extension MeasurementGroup {
  /// The share of the requests that did not succeed.
  fileprivate var failedShare: Double {
    let all = used.compactMap { $0.request?.counts }
    let sent = all.reduce(0) { $0 + Double($1.sent) }
    return sent > 0 ? all.reduce(0) { $0 + Double($1.ended - $1.ok) } / sent : 0
  }
}
