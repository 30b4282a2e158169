// Where the time goes: the parts of each phase's service time.
import Engine
import Lab
import Results

/// The parts of one phase over the replicates of a target and load.
struct PartsOfPhase {
  var phase: String
  var cut: Decomposition
  /// The phase's service time in the same replicates.
  var service: LatencyHistogram
}

extension MeasurementGroup {
  /// The phases that were decomposed, in order.
  var partsOfPhases: [PartsOfPhase] {
    scopeNames.compactMap { phase in
      let scopes = used.compactMap { one in one.scopes.first { $0.scope == phase } }
      let all = scopes.compactMap(\.decomposition)
      guard let first = all.first else { return nil }
      let cut = Decomposition(
        parts: first.parts.map(\.name).map { name in
          PhasePart(name: name, time: .merged(all.compactMap { $0.parts.first { $0.name == name }?.time }))
        },
        withoutStamps: all.reduce(0) { $0 + $1.withoutStamps },
        impossibleStamps: all.reduce(0) { $0 + $1.impossibleStamps })
      return PartsOfPhase(
        phase: phase, cut: cut,
        service: .merged(scopes.filter { $0.decomposition != nil }.map(\.service)))
    }
  }
}

extension ResultTables {
  /// Parts: a row per target, load, phase and part, and one for their sum; empty when nothing was
  /// decomposed.
  package static func parts(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).flatMap { group in
      group.partsOfPhases.flatMap { partRows($0, of: group) }
    }
    return ReportTable(
      title: "Where the time goes: the service time of each phase in parts",
      columns: ["target", "load", "phase", "part", "p50", "p99", "mean", "share of mean"], textColumns: 4,
      rows: rows, notes: rows.isEmpty ? [] : partNotes(document))
  }

  private static func partRows(_ phase: PartsOfPhase, of group: MeasurementGroup) -> [[Cell]] {
    let mean = phase.service.meanNanoseconds
    func share(_ nanoseconds: Double?) -> Cell {
      guard let nanoseconds, let mean, mean > 0 else { return Cell(nil) }
      return Cell(Number.text(100 * nanoseconds / mean, digits: 1).map { "\($0) %" })
    }
    func time(_ nanoseconds: Double?) -> Cell {
      Cell(Number.time(microseconds: nanoseconds.map { $0 / 1000 }))
    }
    let parts = phase.cut.parts.map { part -> [Cell] in
      [
        Cell(group.target), Cell(group.load), Cell(phase.phase), Cell(label(part.name)),
        Cell(Number.time(microseconds: part.time.printableMicroseconds(50))),
        Cell(Number.time(microseconds: part.time.printableMicroseconds(99))),
        time(part.time.meanNanoseconds), share(part.time.meanNanoseconds),
      ]
    }
    let sum = phase.cut.meanNanoseconds
    let shown = Number.time(microseconds: mean.map { $0 / 1000 }) ?? "–"
    return parts + [
      [
        Cell(group.target), Cell(group.load), Cell(phase.phase), Cell("sum (service time \(shown))"),
        Cell(nil), Cell(nil), time(sum), share(sum),
      ]
    ]
  }

  /// What a part is called for people.
  private static func label(_ name: String) -> String {
    switch name {
    case "before_call": "host, before event_stream"
    case "in_event_stream": "in event_stream"
    case "until_callback": "plugin's own threads"
    case "until_return": "callback until return"
    case "host": "host, after the callback"
    case "to_worker": "host to worker"
    case "worker_wait": "waiting in the worker"
    case "handler": "handler"
    case "worker_reply": "worker packs the reply"
    case "to_host": "worker to host"
    default: name
    }
  }

  private static func partNotes(_ document: RunDocument) -> [String] {
    let transports = Set(
      document.measurements.filter { $0.scopes.contains { $0.decomposition != nil } }.map(\.transport))
    var notes = [
      "The parts of a phase request add up to its service time, sent to done. The sum of their means is held "
        + "against the mean of all answered and timed-out ones; only answered ones are cut up. Replicates are "
        + "merged. The stamps themselves cost time: figures without decompose: are a little lower."
    ]
    if transports.contains("ffi") {
      notes.append(
        "FFI: before event_stream is, in the first phase, the opening of the session. In event_stream: "
          + "until it returned, or the callback came that ended the phase. Plugin's own threads: from "
          + "its return until that callback, also with reads that the host answers. After the callback: queueing "
          + "and handling by the host; with dispatch: inline the phase is complete within the callback.")
    }
    if transports.contains("nats") {
      notes.append(
        "NATS: host to worker is from sent until the worker reads its socket: the client's writing, the "
          + "broker, both sockets, and earlier attempts of a retried phase. Waiting: behind other requests of the "
          + "same read, and unpacking. Worker to host: until the host has read and checked the reply.")
    }
    return notes
  }
}

extension CSV {
  /// `parts.csv`: a row per target, load, phase, replicate and part of a decomposed load; p50 and p99 are
  /// empty where under 10 samples lie beyond. Part `service` is the phase's whole service time.
  package static func parts(_ document: RunDocument) -> String {
    let rows = document.measurements.flatMap { one in
      one.scopes.flatMap { scope -> [[String]] in
        guard let cut = scope.decomposition else { return [] }
        return (cut.parts + [PhasePart(name: "service", time: scope.service)]).map { part in
          [
            field(one.target), field(one.load), field(scope.scope), String(one.replicate), field(part.name),
            String(part.time.count), Number.text(part.time.meanNanoseconds.map { $0 / 1000 }) ?? "",
            Number.text(part.time.printableMicroseconds(50)) ?? "",
            Number.text(part.time.printableMicroseconds(99)) ?? "",
          ]
        }
      }
    }
    return file(
      ["target", "load", "phase", "replicate", "part", "count", "mean_us", "p50_us", "p99_us"], rows)
  }
}
