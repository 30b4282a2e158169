// The tables of what follows from the figures: implied pairs, the baseline, the curve of a sweep.
import Engine
import Results

extension ResultTables {
  /// What documented pairs imply: a row per pair and target.
  package static func implied(_ pairs: [ImpliedPair]) -> ReportTable {
    ReportTable(
      title: "What the documented pairs imply",
      columns: [
        "claim", "target", "documented", "at", "in flight", "measured, unloaded", "plugin work for it",
        "for each phase",
      ], textColumns: 2,
      rows: pairs.map { pair in
        let work = pair.workMicroseconds
        let isSlower = work.map { $0 <= 0 } ?? false
        return [
          Cell(pair.claim), Cell(pair.target), Cell(Number.time(microseconds: pair.latencyMicroseconds)),
          Cell(Number.grouped(pair.ratePerSecond).map { "\($0) req/s" }),
          Cell(Number.significant(pair.inFlight, 3)),
          Cell(Number.time(microseconds: pair.unloadedMicroseconds)),
          isSlower ? Cell("none: it takes longer already") : Cell(Number.time(microseconds: work)),
          isSlower || pair.phases < 1
            ? Cell(nil) : Cell(Number.time(microseconds: work.map { $0 / Double(pair.phases) })),
        ]
      },
      notes: [
        "In flight: what Little's law gives for the documented latency and throughput together. Plugin work: how "
          + "long the handlers would have to work in a request for the documented latency to be that of an "
          + "unloaded request here."
      ])
  }
}

extension ResultTables {
  /// The floor beside the figures: a row per target and load; empty when the floor is not known.
  package static func floor(_ document: RunDocument) -> ReportTable {
    let rows = document.floor.map { floor in
      MeasurementGroup.all(document).compactMap { row($0, floor) }
    }
    let when = document.floor.map { "Measured \($0.measured) on this machine" } ?? ""
    return ReportTable(
      title: "Beside this machine's own floor",
      columns: ["target", "load", "figure", "measured", "floor", "times the floor", "what that means"],
      textColumns: 3, rows: rows ?? [],
      notes: [
        "\(when), with bare C: the smallest plugin in a loop, and a bare-socket client with a bare echo worker "
          + "behind the same broker, times the phases of a request. Nothing is subtracted. A figure within "
          + "\(Number.text(MachineFloor.nearness) ?? "") times its floor is mostly the machine's."
      ])
  }

  /// A sentence for each figure within twice its floor.
  static func nearFloor(_ document: RunDocument) -> [String] {
    guard let floor = document.floor else { return [] }
    return MeasurementGroup.all(document).compactMap { group in
      guard let figure = FloorFigure(group, floor), figure.isNear else { return nil }
      return "\(group.target), \(group.load): \(figure.name) is within "
        + "\(Number.significant(figure.times, 3) ?? "") times this machine's floor, so it says more of the "
        + "machine and the transport than of the target"
    }
  }

  private static func row(_ group: MeasurementGroup, _ floor: MachineFloor) -> [Cell]? {
    guard let figure = FloorFigure(group, floor) else { return nil }
    return [
      Cell(group.target), Cell(group.load), Cell(figure.name), Cell(figure.shown(figure.measured)),
      Cell(figure.shown(figure.floor)), Cell(Number.significant(figure.times, 3)),
      Cell(
        figure.isNear ? "near the floor: mostly machine and transport" : "", figure.isNear ? .unsure : .plain),
    ]
  }
}

/// A figure of a target and its floor: the median of a request that is alone or in an open load, the
/// throughput of a closed one.
private struct FloorFigure {
  let isTime: Bool
  let measured: Double
  let floor: Double

  init?(_ group: MeasurementGroup, _ floor: MachineFloor) {
    guard let first = group.measurements.first else { return nil }
    let phases = group.phaseNames.count
    isTime = first.concurrency == 1 || first.offeredRatePerSecond != nil
    let least =
      isTime
      ? floor.leastMicroseconds(transport: first.transport, phases: phases)
      : floor.mostPerSecond(transport: first.transport, phases: phases, concurrency: first.concurrency)
    guard let measured = group.median(isTime ? "response_p50_us" : "throughput_rps"), let least, measured > 0,
      least > 0
    else { return nil }
    self.measured = measured
    self.floor = least
  }

  var name: String { isTime ? "p50" : "req/s" }
  /// How many times worse than the floor.
  var times: Double { isTime ? measured / floor : floor / measured }
  var isNear: Bool { times < MachineFloor.nearness }

  func shown(_ value: Double) -> String? {
    isTime ? Number.time(microseconds: value) : Number.grouped(value)
  }
}

extension ResultTables {
  /// Latency and throughput by workers, connections and requests in flight: a row per point; no rows
  /// without a curve.
  package static func sweep(_ document: RunDocument) -> ReportTable {
    let curves = SweepCurve.all(document)
    let rows = curves.flatMap { curve in
      curve.points.map { row($0, of: curve) }
    }
    return ReportTable(
      title: "Latency and throughput by requests in flight",
      columns: [
        "target", "workers", "connections", "in flight", "req/s", "p50", "p99", "CPU generator", "CPU broker",
        "CPU workers", "valid", "mark",
      ], textColumns: 1, rows: rows,
      notes: curves.map(sentence) + SweepSummary(curves).sentences + document.sentences)
  }

  private static func row(_ point: SweepCurve.Point, of curve: SweepCurve) -> [Cell] {
    let group = point.group
    let marks = [
      point.concurrency == curve.knee?.concurrency ? "knee" : nil,
      point.concurrency == curve.highest?.concurrency ? "highest rate" : nil,
    ].compactMap { $0 }
    let isValid = group.measurements.allSatisfy(\.isValid)
    func time(_ column: String) -> Cell { Cell(Number.time(microseconds: group.median(column))) }
    return [
      Cell(curve.target), Cell(curve.workers.map(String.init)), Cell(curve.connections.map(String.init)),
      Cell(String(point.concurrency)), Cell(Number.grouped(point.ratePerSecond)), time("response_p50_us"),
      time("response_p99_us"), time("cpu_generator_us"), time("cpu_broker_us"), time("cpu_workers_us"),
      Cell(group.validity, isValid ? .good : .bad),
      Cell(marks.joined(separator: ", ")),
    ]
  }

  private static func sentence(_ curve: SweepCurve) -> String {
    var parts: [String] = []
    if let knee = curve.knee {
      parts.append(
        "knee at \(knee.concurrency) in flight, \(Number.grouped(knee.ratePerSecond) ?? "?") req/s in "
          + "\(Number.time(microseconds: knee.meanMicroseconds) ?? "?") on average (greatest throughput / "
          + "response time, Kleinrock 1979)")
    }
    if let highest = curve.highest {
      parts.append(
        "highest rate \(Number.grouped(highest.ratePerSecond) ?? "?") req/s at \(highest.concurrency)")
    }
    if let growth = curve.costGrowth {
      parts.append(
        "the generator's CPU time per request with the most in flight is "
          + "\(Number.significant(growth, 3) ?? "?") times that of its cheapest load")
    }
    return "\(curve.target): \(parts.joined(separator: "; "))."
  }
}

extension RunDocument {
  /// The highest rate of each target that was searched under the run's service level.
  fileprivate var sentences: [String] {
    guard let serviceLevel else { return [] }
    let open = measurements.filter { $0.offeredRatePerSecond != nil }
    return open.map(\.target).uniqued().map { target in
      let mine = open.filter { $0.target == target }
      func most(_ served: Bool) -> [Double] {
        mine.filter { serviceLevel.isServed($0) == served }.compactMap(\.offeredRatePerSecond)
      }
      guard let best = most(true).max(), let shown = Number.grouped(best) else {
        return "\(target): no rate that was tried has \(serviceLevel.text)."
      }
      let worse = most(false).filter { $0 > best }.min()
      let above = worse.flatMap(Number.grouped).map { "; \($0) req/s has not" } ?? "; no higher one failed"
      return "\(target): \(shown) req/s is the highest rate that was tried with \(serviceLevel.text)\(above)."
    }
  }
}
