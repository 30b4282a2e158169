// What a network between the parts does: the links as they were measured, and the targets behind
// links, by round trip.
import Engine
import Lab
import Results
import Scenario

/// The figures that the guide states for NATS over a network (nats-plugin-quick-start-guide.md, lines
/// 37 and 38); a test compares them with Scenarios/claims.yaml.
enum DocumentedNetwork {
  /// "3-5ms".
  static let latencyMilliseconds = 3.0...5
  /// "20K req/s", a single number: itself ±10 %.
  static let throughputPerSecond = 18_000.0...22_000
  /// "20K req/s" as it stands.
  static let statedPerSecond = 20_000.0
  /// What Little's law gives for 20K req/s and the middle of 3-5 ms.
  static let impliedConcurrency = 80
}

extension ResultTables {
  /// The network links: what was asked for, and what probes took; no rows without links.
  package static func links(_ document: RunDocument) -> ReportTable {
    let columns: [Column<LinkMeasurement>] = [
      .text("between", \.between), .text("by", \.method), .time("asked one way", \.delayMicroseconds),
      .time("jitter", \.jitterMicroseconds),
      .other("bandwidth") { Number.significant($0.bandwidthMegabitPerSecond).map { "\($0) Mbit/s" } },
      .time("one way min", \.oneWay.leastMicroseconds), .time("one way p50", \.oneWay.p50Microseconds),
      .time("one way p99", \.oneWay.p99Microseconds),
      .time("p50 over asked") { link in
        link.oneWay.p50Microseconds.map { $0 - link.askedOneWayMicroseconds }
      },
      .time("one way p50 without", \.directOneWay.p50Microseconds),
      .time("one way p99 without", \.directOneWay.p99Microseconds),
      .time("asked round trip") { 2 * $0.askedOneWayMicroseconds },
      .time("round trip p50", \.roundTrip.p50Microseconds),
      .time("round trip p99", \.roundTrip.p99Microseconds),
      .time("round trip p50 without", \.directRoundTrip.p50Microseconds),
    ]
    return ReportTable(
      "Network link: delay asked for, and what probes took before the loads", columns, document.links ?? [],
      notes: [
        "relay: a process of nylon-bench holds every byte back, since this version does not use the kernel's network "
          + "emulation (tc netem), which many kernels lack. It adds what stands under \"p50 over asked\", also "
          + "to a link of no delay. Under load it competes with the rest for the machine's cores, and then holds "
          + "bytes back for longer than this table says.",
        "A probe has \(document.links?.first?.probeBytes ?? 24) bytes and goes to an echo process, through the "
          + "link and, in turn, straight (\"without\"); a bandwidth's time for it is part of what is asked.",
      ])
  }

  /// The targets behind links, a table for each kind: a row per round trip.
  package static func network(_ document: RunDocument) -> [ReportTable] {
    let groups = MeasurementGroup.all(document)
    return NetworkSeries.all(document.scenario.targets).map { series in
      NetworkSeriesTable(series: series, groups: groups).table
    }
  }
}

/// Targets that differ only in the delay of their links.
struct NetworkSeries {
  /// In order of round trips.
  var targets: [Target]

  static func all(_ targets: [Target]) -> [NetworkSeries] {
    var series: [NetworkSeries] = []
    for target in targets where !target.links.isEmpty {
      if let place = series.firstIndex(where: { bare($0.targets[0]) == bare(target) }) {
        series[place].targets.append(target)
      } else {
        series.append(NetworkSeries(targets: [target]))
      }
    }
    return series.map { one in
      NetworkSeries(
        targets: one.targets.sorted { ($0.roundTripMilliseconds ?? 0) < ($1.roundTripMilliseconds ?? 0) })
    }
  }

  /// A target without what may differ within a series.
  private static func bare(_ target: Target) -> Target {
    var bare = target
    bare.name = ""
    guard case .nats(var pool) = target.transport else { return bare }
    pool.links = pool.links?.map { link in
      var link = link
      link.delayMilliseconds = 0
      return link
    }
    bare.transport = .nats(pool)
    return bare
  }

  /// What a request is.
  var unit: String {
    let phases = targets[0].phases
    return phases.count == 1
      ? "one phase, \(phases[0].subjectFragment)" : "a session of \(phases.count) phases"
  }

  /// Where the links are.
  var places: String { targets[0].links.map(\.between.rawValue).joined(separator: " and ") }
}

/// The table of one series, with what follows from it for the documented figures.
private struct NetworkSeriesTable {
  let series: NetworkSeries
  let groups: [MeasurementGroup]

  private var loads: [LoadShape] { series.targets[0].loads }

  private func group(_ target: Target, _ load: LoadShape) -> MeasurementGroup? {
    groups.first { $0.target == target.name && $0.load == load.label }
  }

  /// A target, with its measurements under each load.
  private struct Row {
    let target: Target
    let groups: [MeasurementGroup?]
  }

  var table: ReportTable {
    let columns: [Column<Row>] = [
      .text("target", \.target.name),
      .toned("valid", isText: true) { row in
        let invalid = row.groups.compactMap { $0 }.filter { !$0.isValid }.map(\.load)
        return Cell(
          invalid.isEmpty ? "yes" : "not " + invalid.joined(separator: ", "), invalid.isEmpty ? .good : .bad)
      },
      .time("round trip") { $0.target.roundTripMilliseconds.map { $0 * 1000 } },
    ]
    let figures = loads.map(\.label).enumerated().flatMap { place, load -> [Column<Row>] in
      [
        .time("\(load) p50") { $0.groups[place]?.median("response_p50_us") },
        .grouped("\(load) req/s") { $0.groups[place]?.median("throughput_rps") },
      ]
    }
    return ReportTable(
      "Over the network: \(series.unit), link \(series.places), by round trip", columns + figures,
      series.targets.map { target in Row(target: target, groups: loads.map { group(target, $0) }) },
      notes: [
        "Round trip is what the link is asked to add to each phase request; its measured accuracy stands in "
          + "the table of links. Medians over replicates.",
        latencySentence, throughputSentence, rateSentence, invalidSentence,
      ].compactMap { $0 })
  }

  // MARK: For which round trip the documented figures would be true

  private func curve(_ load: LoadShape, _ figure: (MeasurementGroup) -> Double?) -> NetworkCurve {
    NetworkCurve(
      series.targets.compactMap { target in
        guard let roundTrip = target.roundTripMilliseconds, let group = group(target, load),
          let value = figure(group)
        else { return nil }
        return NetworkCurve.Point(roundTripMilliseconds: roundTrip, value: value)
      })
  }

  /// The documented 3-5 ms, with one request in flight.
  private var latencySentence: String? {
    guard let unloaded = loads.first(where: { $0 == .closed(concurrency: 1) }) else { return nil }
    let finding = curve(unloaded) { $0.median("response_p50_us").map { $0 / 1000 } }
      .whereGrowing(in: DocumentedNetwork.latencyMilliseconds)
    let start = "The documented 3-5 ms (unloaded, p50, \(series.unit)) would be true for"
    switch finding {
    case .unknown: return "\(start) round trips that are not known: nothing was measured unloaded."
    case .passedAtLeast(let point):
      return "\(start) no round trip: \(milliseconds(point.value)) already at \(trip(point))."
    case .notReachedAt(let point):
      return "\(start) longer round trips than were measured: still \(milliseconds(point.value)) at "
        + "\(trip(point))."
    case .between: return "\(start) \(words(finding))."
    }
  }

  /// The documented 20K req/s, with as many in flight as Little's law implies.
  private var throughputSentence: String? {
    let concurrency = DocumentedNetwork.impliedConcurrency
    guard let full = loads.first(where: { $0 == .closed(concurrency: concurrency) }) else { return nil }
    let finding = curve(full) { $0.median("throughput_rps") }
      .whereFalling(in: DocumentedNetwork.throughputPerSecond)
    let start = "The documented 20K req/s (±10 %, \(concurrency) in flight, \(series.unit)) would be true for"
    switch finding {
    case .unknown: return "\(start) round trips that are not known: nothing was measured so."
    case .passedAtLeast(let point):
      return "\(start) no round trip here: \(rate(point.value)) is already the most, at \(trip(point))."
    case .notReachedAt(let point):
      return "\(start) longer round trips than were measured: still \(rate(point.value)) at \(trip(point))."
    case .between: return "\(start) \(words(finding)); at shorter ones it is more."
    }
  }

  /// The documented 20K req/s, as offered by an open load.
  private var rateSentence: String? {
    let open = loads.first { load in
      if case .open(let rate, _) = load { return rate == DocumentedNetwork.statedPerSecond }
      return false
    }
    guard let open else { return nil }
    let points = curve(open) { $0.median("throughput_rps") }.points
    let kept = points.filter { $0.value >= 0.98 * DocumentedNetwork.statedPerSecond }
    guard !points.isEmpty else { return nil }
    let start = "An open load of 20,000 requests/s (\(series.unit)) is kept to 98 %"
    return kept.isEmpty
      ? "\(start) at no round trip here."
      : "\(start) at round trips of "
        + kept.compactMap { Number.text($0.roundTripMilliseconds) }.joined(separator: ", ") + " ms."
  }

  private var invalidSentence: String? {
    let isValid = series.targets.allSatisfy { target in
      loads.allSatisfy { group(target, $0)?.isValid ?? true }
    }
    return isValid
      ? nil
      : "Measurements that are not valid stand here too, and what is said of them is as weak as they are."
  }

  private func words(_ finding: NetworkCurve.Finding) -> String {
    guard case .between(let from, let opensBelow, let to, let opensAbove) = finding else { return "" }
    let (low, high) = (Number.significant(from, 3) ?? "", Number.significant(to, 3) ?? "")
    switch (opensBelow, opensAbove) {
    case (true, true): return "all measured round trips, \(low) to \(high) ms"
    case (true, false): return "round trips up to \(high) ms"
    case (false, true): return "round trips from \(low) ms to at least \(high) ms, the longest measured"
    case (false, false): return "round trips of \(low) to \(high) ms"
    }
  }

  private func milliseconds(_ value: Double) -> String { Number.time(microseconds: value * 1000) ?? "" }
  private func rate(_ value: Double) -> String { "\(Number.grouped(value) ?? "") req/s" }
  private func trip(_ point: NetworkCurve.Point) -> String {
    "a round trip of \(Number.text(point.roundTripMilliseconds) ?? "") ms"
  }
}

/// A figure over the round trip of the network, from a few measured points; between them it is taken
/// for straight.
struct NetworkCurve {
  struct Point: Equatable {
    var roundTripMilliseconds: Double
    var value: Double
    var mirrored: Point { Point(roundTripMilliseconds: roundTripMilliseconds, value: -value) }
  }

  /// Where the figure is in a range.
  enum Finding: Equatable {
    /// Nothing was measured.
    case unknown
    /// At no measured round trip: it has passed the range already at the least of them.
    case passedAtLeast(Point)
    /// At no measured round trip: it has not come to the range at the greatest of them.
    case notReachedAt(Point)
    /// From one round trip to another, ms; an end that is open was not found within what was measured.
    case between(from: Double, opensBelow: Bool, to: Double, opensAbove: Bool)
  }

  /// In order of round trips.
  let points: [Point]

  init(_ points: [Point]) {
    self.points = points.sorted { $0.roundTripMilliseconds < $1.roundTripMilliseconds }
  }

  /// For which round trips a figure that grows with them is in a range.
  func whereGrowing(in range: ClosedRange<Double>) -> Finding {
    guard let first = points.first, let last = points.last else { return .unknown }
    if first.value > range.upperBound { return .passedAtLeast(first) }
    guard let from = crossing(range.lowerBound) else { return .notReachedAt(last) }
    let to = crossing(range.upperBound)
    return .between(
      from: from, opensBelow: first.value >= range.lowerBound,
      to: to ?? last.roundTripMilliseconds, opensAbove: to == nil)
  }

  /// For which round trips a figure that falls with them is in a range.
  func whereFalling(in range: ClosedRange<Double>) -> Finding {
    let mirrored = NetworkCurve(points.map(\.mirrored))
    switch mirrored.whereGrowing(in: -range.upperBound ... -range.lowerBound) {
    case .passedAtLeast(let point): return .passedAtLeast(point.mirrored)
    case .notReachedAt(let point): return .notReachedAt(point.mirrored)
    case let other: return other
    }
  }

  /// The least round trip at which a growing figure has come to a value, ms; nil when it never has.
  private func crossing(_ value: Double) -> Double? {
    guard let first = points.first else { return nil }
    if first.value >= value { return first.roundTripMilliseconds }
    for (a, b) in zip(points, points.dropFirst()) where b.value >= value {
      let share = (value - a.value) / (b.value - a.value)
      return a.roundTripMilliseconds + share * (b.roundTripMilliseconds - a.roundTripMilliseconds)
    }
    return nil
  }
}
