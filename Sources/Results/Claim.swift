// Documented claims: the conditions that test each claim, and its verdict.
import Engine
import Scenario

/// A documented figure and the measurements that test it.
package struct ClaimCheck: Sendable, Equatable {
  struct Condition: Sendable, Equatable {
    var circumstance: ClaimSpec.Circumstance
    var target: String
    var load: String
    /// The target that it is compared with under the same load; nil for a claim about one target.
    var against: String?

    var label: String {
      "\(circumstance.rawValue) \(load) \(target)" + (against.map { " against \($0)" } ?? "")
    }
  }

  var spec: ClaimSpec
  /// Whether single phases are measured instead of sessions of all phases.
  var isPerPhase = false
  var conditions: [Condition]
  /// Conditions of optional targets, such as a plugin in another language. Their verdicts do not decide the
  /// claim.
  var further: [Condition] = []
  package var furtherTargets: Set<String> { Set(further.map(\.target)) }
  /// Whether the document leaves the circumstances open, such as a network's round trip. The claim is then
  /// true when it is true for one of the targets.
  var isOverRange = false
  /// Why the claim was not measured, and what to install; nil when it was measured.
  var notMeasured: String?

  var id: String { isPerPhase ? "\(spec.id)-per-phase" : spec.id }

  /// The subject, such as `ffi latency`. Claims about the same subject whose ranges do not overlap disagree.
  var subject: String? { subject(spec.target) }

  func subject(_ role: ClaimSpec.Role?) -> String? {
    let quantity = spec.metric == "throughput_rps" ? "throughput" : "latency"
    return isPerPhase ? nil : role.map { "\($0.rawValue) \(quantity)" }
  }

  /// The documented range as text, such as `2 to 3`, `<= 2`, `>= 40000`.
  var documented: String {
    switch (Number.significant(spec.low), Number.significant(spec.high)) {
    case (let low?, let high?): low == high ? low : "\(low) to \(high)"
    case (let low?, nil): ">= \(low)"
    case (nil, let high?): "<= \(high)"
    case (nil, nil): ""
    }
  }

  var column: Column<SummaryRow>? { SummaryRow.column(spec.metric).flatMap { $0.isText ? nil : $0 } }

  var isRate: Bool { spec.metric == "throughput_rps" && spec.relation == nil }

  /// The number of the column's units in one unit of the claim; nil when the units do not match.
  var unitFactor: Double? {
    if spec.relation == .change { return spec.unit == .percent ? 1 : nil }
    return switch column?.unit {
    case "us": ["ms": 1000, "us": 1][spec.unit.rawValue]
    case "req/s": spec.unit == .requestsPerSecond ? 1 : nil
    default: 1
    }
  }

  func row(
    _ condition: String, _ verdict: ClaimVerdict.Verdict, _ why: String, id: String? = nil,
    claim: String? = nil
  ) -> ClaimVerdict {
    ClaimVerdict(
      id: id ?? self.id, document: spec.document, line: spec.line, claim: claim ?? spec.words,
      documented: documented, documentedLow: spec.low, documentedHigh: spec.high,
      unit: spec.unit.rawValue, condition: condition, verdict: verdict, why: why)
  }
}

extension ClaimCheck {
  /// Returns the checks for each claim: one for sessions and one for single phases, where the plan measures
  /// them.
  package static func all(_ specs: [ClaimSpec], plan: Plan) -> [ClaimCheck] {
    specs.flatMap { spec -> [ClaimCheck] in
      let targets = targets(for: spec.target, in: plan)
      let ways = [targets.filter { $0.phases.count > 1 }, targets.filter { $0.phases.count == 1 }]
      let checks = ways.filter { !$0.isEmpty }.map { check(spec, targets: $0, in: plan) }
      guard checks.isEmpty || spec.notMeasured != nil else { return checks }
      let missing = "the scenario has no \(spec.target.rawValue) target; add one under `targets`"
      return [ClaimCheck(spec: spec, conditions: [], notMeasured: spec.notMeasured ?? missing)]
    }
  }

  /// A broker behind a link stands for one on another machine.
  private static func targets(for role: ClaimSpec.Role, in plan: Plan) -> [Target] {
    let all = plan.targets.filter { target in
      switch role {
      case .ffi: target.transport.kind == .ffi
      case .nats: target.transport.kind == .nats && target.links.isEmpty
      case .natsNet: target.transport.kind == .nats && !target.links.isEmpty
      }
    }
    // A repeated target, with another handler or under another host, serves a comparison only.
    return all.indices.filter { place in
      all[place].handler == all[0].handler && all[place].spin == all[0].spin
        && !all[..<place].contains { Comparison.isSame($0, all[place]) }
    }.map { all[$0] }
  }

  private static func check(_ spec: ClaimSpec, targets all: [Target], in plan: Plan) -> ClaimCheck {
    // Optional targets, such as a plugin in another language, do not decide a claim that others can decide.
    let required = all.filter { !$0.isOptional }
    let (targets, further) = required.isEmpty ? (all, []) : (required, all.filter(\.isOptional))
    let conditions = spec.conditions.flatMap { condition in
      targets.map { target in
        // The first target of the other role with the same phases.
        let other = spec.against.flatMap { role in
          self.targets(for: role, in: plan).first { $0.phases == target.phases }
        }
        return Condition(
          circumstance: condition.circumstance, target: target.name, load: condition.load,
          against: other?.name)
      }
    }
    let isAlone = spec.against != nil && conditions.contains { $0.against == nil }
    return ClaimCheck(
      spec: spec, isPerPhase: targets.first?.phases.count == 1, conditions: conditions,
      further: spec.against != nil
        ? []
        : spec.conditions.flatMap { condition in
          further.filter { $0.loads.contains { $0.label == condition.load } }.map {
            Condition(circumstance: condition.circumstance, target: $0.name, load: condition.load)
          }
        },
      isOverRange: targets.count > 1,
      notMeasured: isAlone
        ? "the scenario has no \(spec.against?.rawValue ?? "") target with the same phases" : nil)
  }
}

/// The verdict on a claim under one condition, or overall: a row of claims.csv. Claims about behaviour have
/// no figures.
package struct ClaimVerdict: Codable, Sendable, Equatable {
  /// The verdict on a documented figure or promise.
  package enum Verdict: String, Codable, Sendable, CaseIterable {
    /// The interval lies in the documented range.
    case confirmed
    /// The interval lies wholly on the good side of the range.
    case better
    /// The interval lies wholly on the bad side, or the documented rate cannot be reached.
    case worse
    /// The interval straddles an end of the range, or the measurement is invalid.
    case inconclusive
    /// The promise was kept.
    case holds
    /// The promise was broken, or documents disagree.
    case fails
    /// Nothing was measured; the reason says why.
    case notMeasured = "not_measured"
  }

  /// The condition of the row that counts for a gate, and of a row about documents that disagree.
  package static let overall = "overall"
  package static let disagreement = "disagreement"

  package var id: String
  package var document: String
  package var line: Int
  package var claim: String
  package var documented: String
  /// The ends of the documented range, in `unit`; nil for an open end, and in runs that kept only the text.
  package var documentedLow, documentedHigh: Double?
  package var unit: String
  package var condition: String
  /// The target of the row; nil when the row is about several, and in runs that kept only the condition.
  package var target: String?
  package var measured: Double?
  package var low: Double?
  package var high: Double?
  package var verdict: Verdict
  package var why: String

  package var isOverall: Bool { condition == Self.overall }

  /// The documented range with its unit, as reports show it: `90 to 110 µs`.
  package var stated: String { "\(documented) \(unit == "us" ? "µs" : unit)" }

  /// Whether the row is about this target. In runs without `target` the condition ends with the target's
  /// name.
  package func isAbout(_ name: String) -> Bool {
    target.map { $0 == name } ?? condition.hasSuffix(" \(name)")
  }

  package static let columns: [Column<ClaimVerdict>] = [
    .text("id", "the claim's name; for a disagreement both names, joined by `~`", \.id),
    .text("document", "the document's file name", \.document),
    .count("line", "the line in the document, from 1", int: \.line),
    .text("claim", "the document's words", \.claim),
    .text("documented", "the documented range, in `unit`", \.documented),
    .text("unit", "the unit of all figures of the row", \.unit),
    .text("condition", "`overall`, `disagreement`, or such as `b open-44000 ffi`", \.condition),
    .significant("measured", "median over replicates", digits: 6, \.measured),
    .significant("low", "lower end of its 95 % interval", digits: 6, \.low),
    .significant("high", "upper end", digits: 6, \.high),
    .text("verdict", Verdict.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", "), \.verdict.rawValue),
    .text("why", "the figures behind it", \.why),
  ]
}

/// The findings of the test of a promise.
package struct BehaviourResult: Codable, Sendable, Equatable {
  /// The test's name.
  package var test: String
  /// `holds`, `fails`, `inconclusive` or `not_measured`.
  package var verdict: ClaimVerdict.Verdict
  /// The rule and the figures behind the verdict.
  package var why: String
  /// The column heads of `rows`; empty when there is no table.
  package var columns: [String]
  /// The rows of a table of the findings.
  package var rows: [[String]]

  /// The runner fills in the test's name.
  package static func of(
    _ verdict: ClaimVerdict.Verdict, _ why: String, columns: [String] = [], rows: [[String]] = []
  ) -> BehaviourResult {
    BehaviourResult(test: "", verdict: verdict, why: why, columns: columns, rows: rows)
  }
}

extension ClaimVerdict {
  package init(of spec: BehaviourSpec, _ verdict: Verdict, why: String) {
    self.init(
      id: spec.id, document: spec.document, line: spec.line, claim: spec.words, documented: "", unit: "",
      condition: Self.overall, verdict: verdict, why: why)
  }
}

/// A documented latency and the throughput stated beside it, for one measured target.
package struct ImpliedPair: Codable, Sendable, Equatable {
  /// The claim's id.
  package var claim: String
  package var target: String
  /// The documented latency, the middle of its range.
  package var latencyMicroseconds: Double
  /// The documented throughput, requests a second.
  package var ratePerSecond: Double
  /// The median response time of the target without load; nil when not measured.
  package var unloadedMicroseconds: Double?
  /// The number of phases in a request of the target.
  package var phases: Int

  /// The number of requests in flight that the pair implies (Little 1961: throughput x time).
  package var inFlight: Double { ratePerSecond * latencyMicroseconds / 1e6 }

  /// The plugin's work, over all phases of an unloaded request, that would make the documented latency true;
  /// 0 or less when the request already takes that long.
  package var workMicroseconds: Double? { unloadedMicroseconds.map { latencyMicroseconds - $0 } }

  /// The pairs that claims state, for each target measured for them.
  package static func pairs(_ checks: [ClaimCheck], measurements: [Measurement]) -> [ImpliedPair] {
    checks.flatMap { check -> [ImpliedPair] in
      guard check.spec.metric == "response_p50_us", check.spec.relation == nil, let low = check.spec.low,
        let high = check.spec.high, let rate = check.spec.documentedRatePerSecond,
        let factor = check.unitFactor
      else { return [] }
      return check.conditions.filter { $0.circumstance == .unloaded }.map { condition in
        let group = MeasurementGroup(condition.target, condition.load, of: measurements)
        return ImpliedPair(
          claim: check.id, target: condition.target, latencyMicroseconds: (low + high) / 2 * factor,
          ratePerSecond: rate, unloadedMicroseconds: group.median("response_p50_us"),
          phases: group.phaseNames.count)
      }
    }
  }
}
