// The least that this machine allows, to stand beside what was measured.
import Measure
import Scenario

/// What bare C does on the run's machine, measured before its loads.
package struct MachineFloor: Codable, Sendable, Equatable {
  /// Request-reply of one phase through a bare socket, with a bare echo worker.
  package struct Bare: Codable, Sendable, Equatable {
    /// Phase requests in flight.
    package var inFlight: Int
    /// Phase requests a second.
    package var ratePerSecond: Double
    /// Median response time, microseconds.
    package var p50Microseconds: Double

    package init(inFlight: Int, ratePerSecond: Double, p50Microseconds: Double) {
      self.inFlight = inFlight
      self.ratePerSecond = ratePerSecond
      self.p50Microseconds = p50Microseconds
    }
  }

  /// When it was measured.
  package var measured: UTCSecond
  /// Nanoseconds per phase request of the smallest plugin in a bare C loop.
  package var ffiNanoseconds: Double
  /// The bare-socket client, a row per number in flight.
  package var nats: [Bare]

  package init(measured: UTCSecond, ffiNanoseconds: Double, nats: [Bare]) {
    self.measured = measured
    self.ffiNanoseconds = ffiNanoseconds
    self.nats = nats
  }

  /// A figure that lies within so many times its floor says more of the machine than of the target.
  package static let nearness = 2.0

  /// The least median response time of a request that is alone, microseconds: its phases one after
  /// the other, each as fast as the floor; nil when the floor does not know the transport.
  func leastMicroseconds(transport: String, phases: Int) -> Double? {
    guard phases > 0 else { return nil }
    if transport == "ffi" { return ffiNanoseconds * Double(phases) / 1000 }
    return nats.first { $0.inFlight == 1 }.map { $0.p50Microseconds * Double(phases) }
  }

  /// The most requests a second that the floor reached at this concurrency (the nearest that it knows
  /// from above); nil when it does not know it.
  func mostPerSecond(transport: String, phases: Int, concurrency: Int) -> Double? {
    guard phases > 0 else { return nil }
    if transport == "ffi" { return ffiNanoseconds > 0 ? 1e9 / ffiNanoseconds / Double(phases) : nil }
    return nats.sorted { $0.inFlight < $1.inFlight }.first { $0.inFlight >= concurrency }
      .map { $0.ratePerSecond / Double(phases) }
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
