// Targets compared with each other: the ratio of paired replicates, its interval, and the noise floor that an
// A/A pair shows.
import Engine
import Lab
import Scenario

/// Two targets under the same load, by one metric: a row of comparison.csv.
package struct ComparisonRow: Codable, Sendable, Equatable {
  package enum Verdict: String, Codable, Sendable {
    /// The interval of the ratio leaves 1, and the difference is over the noise floor.
    case different
    /// The interval lies within the noise floor, or the difference does.
    case same
    /// Neither can be said, or a measurement is invalid.
    case unclear
  }

  /// A numeric column of summary.csv.
  package var metric: String
  package var condition: String
  package var a: String
  package var b: String
  /// Median over replicates, in `unit`; nil when missing.
  package var aValue: Double?
  package var bValue: Double?
  /// `us`, `req/s` or `B`.
  package var unit: String
  /// Median of b / a over pairs of replicates; nil when there is none.
  package var ratio: Double?
  /// Lower end of its 95 % bootstrap interval; nil with under 3 pairs.
  package var ratioLow: Double?
  package var ratioHigh: Double?
  /// Mann and Whitney's two-sided p of the two sides' values; nil with under 3 pairs.
  package var pValue: Double?
  /// How far an A/A pair is apart under this load by this metric, the median over its replicates: 0.03
  /// is 3 %; nil without such a pair.
  package var noiseFloor: Double?
  package var verdict: Verdict
  package var why: String

  /// Whether `b` is different from `a` and worse.
  package var isRegression: Bool {
    guard verdict == .different, let ratio else { return false }
    return SummaryRow.column(metric)?.better == .more ? ratio < 1 : ratio > 1
  }

  /// One of its values in the unit that reads best.
  package func shown(_ value: Double?) -> String? { SummaryRow.column(metric)?.shown(value) }

  /// The columns of comparison.csv.
  package static let columns: [Column<ComparisonRow>] = [
    .text("metric", "a column of summary.csv", \.metric),
    .text("condition", "the load", \.condition),
    .text("a", "one target", \.a),
    .text("b", "the other target", \.b),
    .number("a_value", "its median over replicates, in `unit`", \.aValue),
    .number("b_value", "as `a_value`", \.bValue),
    .text("unit", "`us`, `req/s` or `B`", \.unit),
    .significant("ratio", "median of b / a over pairs of replicates", \.ratio),
    .significant("ratio_low", "lower end of its 95 % interval", \.ratioLow),
    .significant("ratio_high", "upper end", \.ratioHigh),
    .significant("p_value", "Mann and Whitney's two-sided p", \.pValue),
    .significant("noise_floor", "how far an A/A pair is apart; 0.03 is 3 %", \.noiseFloor),
    .text("verdict", "`different`, `same` or `unclear`", \.verdict.rawValue),
  ]
}

package enum Comparison {
  /// A row for each pair of targets with the same phases, each load that both had, and each metric
  /// that one of them has. The FFI target of a mixed pair is `a`, else the one written first. Pools
  /// over different network links are no pair: a table by round trip has them. A target that stands
  /// there a second time, for the noise floor, is compared with its first only.
  package static func rows(
    measurements: [Measurement], targets: [Target], seed: UInt64
  ) -> [ComparisonRow] {
    let pairs = targetPairs(targets)
    let loads = measurements.map(\.load).uniqued()
    return pairs.flatMap { a, b in
      loads.flatMap { load -> [ComparisonRow] in
        let sides = Sides(measurements, a: a.name, b: b.name, load: load)
        guard !sides.a.isEmpty else { return [] }
        return SummaryRow.compared.compactMap { metric in
          let floor = pairs.filter { isSame($0, $1) }.compactMap {
            noise(Sides(measurements, a: $0.name, b: $1.name, load: load), metric: metric)
          }.max()
          return row(
            sides, metric: metric, paired: true, floor: floor, isAA: isSame(a, b), seed: seed)
        }
      }
    }
  }

  /// Two stored runs, target by target of the same name and load by load: `a` is the older side.
  ///
  /// The runs' replicates are not pairs, so the ratio is that of medians; what drifted between
  /// the runs is in it. Names of the sides are `run:target`.
  package static func rows(_ a: RunDocument, _ b: RunDocument) -> [ComparisonRow] {
    let groups = a.measurements.map { [$0.target, $0.load] }.uniqued()
    return groups.flatMap { group -> [ComparisonRow] in
      let isMine = { (one: Measurement) in one.target == group[0] && one.load == group[1] }
      let sides = Sides(
        nameA: "\(a.runID):\(group[0])", nameB: "\(b.runID):\(group[0])", load: group[1],
        a: a.measurements.filter(isMine), b: b.measurements.filter(isMine))
      guard !sides.b.isEmpty else { return [] }
      return SummaryRow.compared.compactMap { metric in
        let stored = (a.comparisons + b.comparisons).filter {
          $0.metric == metric.name && $0.condition == group[1]
        }.compactMap(\.noiseFloor)
        return row(
          sides, metric: metric, paired: false, floor: stored.max(), isAA: false, seed: a.seed)
      }
    }
  }

  /// What differs between two runs beside what they measured, a sentence each.
  package static func cautions(_ a: RunDocument, _ b: RunDocument) -> [String] {
    var found: [String] = []
    func check(_ what: String, _ one: String?, _ other: String?) {
      guard one != other else { return }
      found.append("\(what) differs: \(one ?? "unknown") and \(other ?? "unknown")")
    }
    check("the CPU", a.machine.cpuModel, b.machine.cpuModel)
    check("the number of cores", a.machine.cores.map(String.init), b.machine.cores.map(String.init))
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
        return pair.1.transport.name == "ffi" && pair.0.transport.name == "nats"
          ? (pair.1, pair.0) : pair
      }
    }
  }

  /// Whether two targets are the same thing twice, an A/A pair.
  private static func isSame(_ a: Target, _ b: Target) -> Bool {
    var twin = b
    twin.name = a.name
    twin.loads = a.loads
    return twin == a
  }

  /// How far a valid A/A pair is apart: the median over its replicates of each one's distance from 1.
  ///
  /// Not the farthest: one odd replicate of five would hide any difference behind it.
  private static func noise(_ sides: Sides, metric: Column<SummaryRow>) -> Double? {
    let used = sides.usable(paired: true).withBoth(metric)
    guard used.invalid.isEmpty else { return nil }
    let distances = zip(used.a, used.b).compactMap { first, second -> Double? in
      guard let a = first.figure(metric.name), let b = second.figure(metric.name), a > 0 else { return nil }
      return distance(b / a)
    }
    return Statistics.median(distances)
  }

  private static func row(
    _ sides: Sides, metric: Column<SummaryRow>, paired: Bool, floor: Double?, isAA: Bool, seed: UInt64
  ) -> ComparisonRow? {
    let used = sides.usable(paired: paired)
    let complete = paired ? used.withBoth(metric) : used
    let a = complete.a.compactMap { $0.figure(metric.name) }
    let b = complete.b.compactMap { $0.figure(metric.name) }
    if a.isEmpty, b.isEmpty {
      // No pair of replicates has it on both sides.
      let values = [used.a, used.b].map { Statistics.median($0.compactMap { $0.figure(metric.name) }) }
      guard values.contains(where: { $0 != nil }) else { return nil }
      return ComparisonRow(
        metric: metric.name, condition: sides.load, a: sides.nameA, b: sides.nameB, aValue: values[0],
        bValue: values[1], unit: metric.unit, verdict: .unclear, why: "only one side has this figure")
    }
    let estimate = (paired ? Statistics.pairedRatio : Statistics.unpairedRatio)(a, b, seed)
    let isEnough = min(a.count, b.count) >= Statistics.fewestReplicates
    let pValue = isEnough ? Statistics.mannWhitney(a, b) : nil
    let evidence = Evidence(
      ratio: estimate?.ratio, interval: estimate?.interval, floor: floor,
      spread: [a, b].compactMap(spread).max(), pValue: pValue, isAA: isAA, invalid: used.invalid)
    let isNothing = used.invalid.isEmpty && isEnough && (a + b).allSatisfy { $0 == 0 }
    let (verdict, why) = isNothing ? (.same, "0 on both sides") : evidence.verdict
    return ComparisonRow(
      metric: metric.name, condition: sides.load, a: sides.nameA, b: sides.nameB,
      aValue: Statistics.median(a), bValue: Statistics.median(b), unit: metric.unit,
      ratio: estimate?.ratio, ratioLow: estimate?.interval?.low, ratioHigh: estimate?.interval?.high,
      pValue: pValue, noiseFloor: floor, verdict: verdict,
      why: why + sides.note(on: used))
  }

  /// How far a ratio is from 1, the same for x and 1/x: 0.1 is 10 %.
  static func distance(_ ratio: Double) -> Double? {
    ratio > 0 ? max(ratio, 1 / ratio) - 1 : nil
  }

  private static func spread(_ values: [Double]) -> Double? {
    guard let least = values.min(), let most = values.max(), least > 0 else { return nil }
    return most / least - 1
  }
}

/// What is known of a ratio, and the verdict that follows from it.
struct Evidence {
  /// b / a, and its 95 % interval.
  var ratio: Double?
  var interval: Interval?
  /// How far an A/A pair is apart.
  var floor: Double?
  /// The greatest distance between two replicates of the same side.
  var spread: Double?
  /// Mann and Whitney's two-sided p of the two sides' values; nil with under 3 replicates.
  var pValue: Double?
  /// Whether the two are the same target twice.
  var isAA: Bool
  /// Codes of why measurements are invalid.
  var invalid: [String]

  /// A p under this tells the two sides of an A/A pair apart.
  private static let significance = 0.05

  /// Without an A/A pair the noise floor is unknown. Then `different` asks for more: a difference
  /// greater than any between two replicates of one target, which are the same target twice too;
  /// and `same` is never said.
  ///
  /// An A/A pair is `same` unless both its tests speak against that: an interval from few replicates
  /// leaves 1 in one of 16 pairs (5 replicates) by chance alone.
  var verdict: (ComparisonRow.Verdict, String) {
    guard invalid.isEmpty else { return (.unclear, "invalid: " + invalid.joined(separator: ", ")) }
    guard let ratio, let difference = Comparison.distance(ratio) else {
      return (.unclear, "no ratio: a figure is missing or 0")
    }
    guard let interval else { return (.unclear, "under 3 replicates, so no interval") }
    let leaves = !interval.contains(1)
    if isAA {
      let isApart = leaves && pValue.map { $0 < Self.significance } ?? false
      return isApart
        ? (.unclear, "an A/A pair that both tests tell apart: its distance is the noise floor")
        : (.same, "an A/A pair")
    }
    guard let floor else { return withoutFloor(leaves: leaves, difference: difference) }
    let shown = Number.percent(floor) ?? "?"
    if leaves, difference > floor {
      return (.different, "the interval leaves 1, and the difference is over the noise floor of \(shown)")
    }
    let ends = [interval.low, interval.high].compactMap(Comparison.distance)
    if ends.count == 2, ends.allSatisfy({ $0 <= floor }) {
      return (.same, "the interval lies within the noise floor of \(shown)")
    }
    return leaves
      ? (.same, "the difference is not over the noise floor of \(shown)")
      : (.unclear, "the interval contains 1 and is wider than the noise floor of \(shown)")
  }

  private func withoutFloor(leaves: Bool, difference: Double) -> (ComparisonRow.Verdict, String) {
    guard leaves else {
      return (.unclear, "the interval contains 1; without an A/A pair nothing more can be said")
    }
    guard let spread, difference > spread else {
      return (.unclear, "no A/A pair, and replicates of one target are as far apart as the two targets")
    }
    return (
      .different,
      "no A/A pair; the difference is over that of any two replicates of one target, \(Number.percent(spread) ?? "?")"
    )
  }
}

/// The replicates of two targets under one load; in a run, the n-th of each side are a pair.
private struct Sides {
  var nameA: String
  var nameB: String
  var load: String
  var a: [Measurement]
  var b: [Measurement]
}

extension Sides {
  /// Pairs of the same replicate.
  init(_ measurements: [Measurement], a: String, b: String, load: String) {
    func side(_ name: String) -> [Int: Measurement] {
      let mine = measurements.filter { $0.target == name && $0.load == load }
      return Dictionary(mine.map { ($0.replicate, $0) }, uniquingKeysWith: { $1 })
    }
    let (first, second) = (side(a), side(b))
    let common = first.keys.filter { second[$0] != nil }.sorted()
    self.init(
      nameA: a, nameB: b, load: load, a: common.compactMap { first[$0] },
      b: common.compactMap { second[$0] })
  }

  /// Why measurements are invalid, each once.
  var invalid: [String] {
    (a + b).filter { !$0.isValid }.map(\.invalidCodes).uniqued().sorted()
  }

  /// The valid ones (as pairs, the pairs of two valid ones) where they are the most, else all.
  func usable(paired: Bool) -> Sides {
    var kept = keeping { $0.isValid && $1.isValid }
    if !paired { (kept.a, kept.b) = (a.filter(\.isValid), b.filter(\.isValid)) }
    let isMost = kept.a.count * 2 > a.count && kept.b.count * 2 > b.count
    return isMost ? kept : self
  }

  /// The pairs of which both have a figure.
  func withBoth(_ metric: Column<SummaryRow>) -> Sides {
    keeping { $0.figure(metric.name) != nil && $1.figure(metric.name) != nil }
  }

  /// How many replicates a narrower choice leaves out, in words.
  func note(on used: Sides) -> String {
    let dropped = a.count + b.count - used.a.count - used.b.count
    return dropped == 0
      ? "" : "; \(dropped) of \(a.count + b.count) measurements left out as invalid or without a valid pair"
  }

  private func keeping(_ isKept: (Measurement, Measurement) -> Bool) -> Sides {
    let pairs = zip(a, b).filter(isKept)
    return Sides(nameA: nameA, nameB: nameB, load: load, a: pairs.map(\.0), b: pairs.map(\.1))
  }
}

extension Sequence where Element: Hashable {
  /// Each element once, in the order of first occurrence.
  package func uniqued() -> [Element] {
    var seen: Set<Element> = []
    return filter { seen.insert($0).inserted }
  }
}
