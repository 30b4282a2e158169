// Effects of a network between the parts: the measured links, and the targets behind links by round trip.
import Lab
import Results
import Scenario

/// The guide's figures for NATS over a network (nats-plugin-quick-start-guide.md, lines 37 and 38); a test
/// compares them with Scenarios/claims.yaml.
enum DocumentedNetwork {
  /// "3-5ms".
  static let latencyMilliseconds = 3.0...5
  /// "20K req/s", a single number, taken as ±10 %.
  static let throughputPerSecond = 18_000.0...22_000
  /// "20K req/s" as written.
  static let statedPerSecond = 20_000.0
  /// The concurrency that Little's law gives for 20K req/s and the middle of 3-5 ms.
  static let impliedConcurrency = 80
}

extension ResultTables {
  /// The network links: the requested delays and the probes' results; no rows without links.
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
      "Network link: requested delay, and probes measured before the loads", columns, document.links ?? [],
      notes: [
        "relay: a process of nylon-bench delays every byte, since this version does not use the kernel's "
          + "network emulation (tc netem), which many kernels lack. It adds the time under \"p50 over "
          + "asked\", even to a link without delay. Under load it competes with the other processes for the "
          + "machine's cores, and then delays bytes for longer than this table shows.",
        "A probe has \(document.links?.first?.probeBytes ?? 24) bytes and goes to an echo process, "
          + "alternately through the link and directly (\"without\"); its time at the given bandwidth is "
          + "part of the delay asked.",
      ])
  }

  /// The targets behind links, a table for each kind with a row per round trip.
  package static func network(_ document: RunDocument) -> [ReportTable] {
    let groups = MeasurementGroup.all(document)
    return NetworkSeries.all(document.scenario.targets).map { $0.table(groups) }
  }

  /// The same tables with only the main figure of each load.
  static func narrowNetwork(_ document: RunDocument) -> [ReportTable] {
    network(document).map { table in
      table.keeping { name in
        let isFull = name.hasPrefix("closed-") && !name.hasPrefix("closed-1 ")
        return name == "round trip" || name.hasSuffix(isFull ? " req/s" : " p50")
      }
    }
  }
}

/// Targets that differ only in the delay of their links.
struct NetworkSeries {
  var targets: [Target]

  static func all(_ targets: [Target]) -> [NetworkSeries] {
    let linked = targets.filter { !$0.links.isEmpty }
    let kinds = linked.map(bare).reduce(into: [Target]()) { if !$0.contains($1) { $0.append($1) } }
    return kinds.map { kind in
      NetworkSeries(
        targets: linked.filter { bare($0) == kind }
          .sorted { ($0.roundTripMilliseconds ?? 0) < ($1.roundTripMilliseconds ?? 0) })
    }
  }

  /// A target without the properties that may differ within a series.
  private static func bare(_ target: Target) -> Target {
    var bare = target
    bare.name = ""
    for place in target.links.indices { bare.nats?.links?[place].delayMilliseconds = 0 }
    return bare
  }

  var unit: String {
    let phases = targets[0].phases
    return phases.count == 1
      ? "one phase, \(phases[0].subjectFragment)" : "a session of \(phases.count) phases"
  }

  private struct Row {
    let target: Target
    let groups: [MeasurementGroup?]
  }

  /// The table, with conclusions about the documented figures.
  func table(_ groups: [MeasurementGroup]) -> ReportTable {
    let loads = targets[0].loads
    let rows = targets.map { target in
      Row(
        target: target,
        groups: loads.map { load in groups.first { $0.target == target.name && $0.load == load.label } })
    }
    func curve(_ load: Int, _ column: String, per unit: Double = 1) -> NetworkCurve {
      NetworkCurve(
        rows.compactMap { row in
          guard let roundTrip = row.target.roundTripMilliseconds,
            let value = row.groups[load]?.median(column)
          else { return nil }
          return NetworkCurve.Point(roundTripMilliseconds: roundTrip, value: value / unit)
        })
    }
    var notes = [
      "Round trip is the time that the link should add to each phase request; its measured accuracy is in "
        + "the table of links. Medians over replicates."
    ]
    if let unloaded = loads.firstIndex(of: .closed(concurrency: 1)) {
      let finding = curve(unloaded, "response_p50_us", per: 1000)
        .finding(in: DocumentedNetwork.latencyMilliseconds, isGrowing: true)
      let words = finding.words(unmeasured: "unloaded", passed: "no round trip:", "already at") {
        Number.time(microseconds: $0 * 1000) ?? ""
      }
      notes.append("The documented 3-5 ms (unloaded, p50, \(unit)) would be true for \(words).")
    }
    let concurrency = DocumentedNetwork.impliedConcurrency
    if let full = loads.firstIndex(of: .closed(concurrency: concurrency)) {
      let finding = curve(full, "throughput_rps")
        .finding(in: DocumentedNetwork.throughputPerSecond, isGrowing: false)
      let words = finding.words(
        unmeasured: "so", passed: "no round trip here:", "is already the most, at",
        beside: "; at shorter ones it is more"
      ) { "\(Number.grouped($0) ?? "") req/s" }
      notes.append(
        "The documented 20K req/s (±10 %, \(concurrency) in flight, \(unit)) would be true for \(words).")
    }
    let stated = DocumentedNetwork.statedPerSecond
    let open = loads.firstIndex { if case .open(stated, _) = $0 { true } else { false } }
    if let points = open.map({ curve($0, "throughput_rps").points }), !points.isEmpty {
      let kept = points.filter { $0.value >= 0.98 * stated }
      let trips = kept.compactMap { Number.text($0.roundTripMilliseconds) }.joined(separator: ", ")
      notes.append(
        "At least 98 % of an open load of 20,000 requests/s (\(unit)) is answered at "
          + (kept.isEmpty ? "no round trip here." : "round trips of \(trips) ms."))
    }
    if rows.contains(where: { $0.groups.contains { $0?.isValid == false } }) {
      notes.append(
        "Invalid measurements are included, and conclusions from them are as weak as they are.")
    }
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
    let places = targets[0].links.map(\.between.rawValue).joined(separator: " and ")
    return ReportTable(
      "Over the network: \(unit), link \(places), by round trip", columns + figures, rows, notes: notes)
  }
}

/// A figure as a function of the network's round trip, interpolated linearly between a few measured points.
struct NetworkCurve {
  struct Point: Equatable {
    var roundTripMilliseconds: Double
    var value: Double
  }

  enum Finding: Equatable {
    case unknown
    /// No measured round trip: the figure is beyond the range even at the shortest.
    case passedAtLeast(Point)
    /// No measured round trip: the figure has not reached the range even at the longest.
    case notReachedAt(Point)
    /// A range of round trips in ms; an open end was not found within the measured ones.
    case between(from: Double, opensBelow: Bool, to: Double, opensAbove: Bool)

    /// Describes the round trips for which a documented figure would be true; `passed` precedes the figure.
    fileprivate func words(
      unmeasured: String, passed: String, _ already: String, beside: String = "",
      shown: (Double) -> String
    ) -> String {
      func trip(_ point: Point) -> String {
        "a round trip of \(Number.text(point.roundTripMilliseconds) ?? "") ms"
      }
      switch self {
      case .unknown: return "unknown round trips: nothing was measured \(unmeasured)"
      case .passedAtLeast(let point): return "\(passed) \(shown(point.value)) \(already) \(trip(point))"
      case .notReachedAt(let point):
        return "longer round trips than were measured: still \(shown(point.value)) at \(trip(point))"
      case .between(let from, let opensBelow, let to, let opensAbove):
        let (low, high) = (Number.significant(from, 3) ?? "", Number.significant(to, 3) ?? "")
        let words =
          switch (opensBelow, opensAbove) {
          case (true, true): "all measured round trips, \(low) to \(high) ms"
          case (true, false): "round trips up to \(high) ms"
          case (false, true): "round trips from \(low) ms to at least \(high) ms, the longest measured"
          case (false, false): "round trips of \(low) to \(high) ms"
          }
        return words + beside
      }
    }
  }

  let points: [Point]

  init(_ points: [Point]) {
    self.points = points.sorted { $0.roundTripMilliseconds < $1.roundTripMilliseconds }
  }

  /// Finds the round trips for which a growing or falling figure lies in a range.
  func finding(in range: ClosedRange<Double>, isGrowing: Bool) -> Finding {
    guard let first = points.first, let last = points.last else { return .unknown }
    let sign = isGrowing ? 1.0 : -1
    let ends = [range.lowerBound * sign, range.upperBound * sign].sorted()
    if first.value * sign > ends[1] { return .passedAtLeast(first) }
    guard let from = crossing(ends[0], sign) else { return .notReachedAt(last) }
    let to = crossing(ends[1], sign)
    return .between(
      from: from, opensBelow: first.value * sign >= ends[0],
      to: to ?? last.roundTripMilliseconds, opensAbove: to == nil)
  }

  /// The shortest round trip, in ms, at which the figure times the sign reaches a value; nil when there is
  /// none.
  private func crossing(_ value: Double, _ sign: Double) -> Double? {
    if let first = points.first, first.value * sign >= value { return first.roundTripMilliseconds }
    return zip(points, points.dropFirst()).first { $1.value * sign >= value }.map { a, b in
      let share = (value * sign - a.value) / (b.value - a.value)
      return a.roundTripMilliseconds + share * (b.roundTripMilliseconds - a.roundTripMilliseconds)
    }
  }
}
