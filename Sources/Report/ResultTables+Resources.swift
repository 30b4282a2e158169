// Memory, context switches and the broker's own monitoring, for the reports: too wide for a terminal.
import Engine
import Lab
import Results

extension ResultTables {
  /// Memory and context switches: a row per target and load.
  package static func resources(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).map { group -> [Cell] in
      [Cell(group.target), Cell(group.load)]
        + ["generator", "broker", "workers"].map { memory(group, $0) }
        + ["generator", "broker", "workers"].map { switches(group, $0) }
    }
    return ReportTable(
      title: "Memory, and context switches for each answered request",
      columns: [
        "target", "load", "memory generator", "memory broker", "memory workers", "switches generator",
        "switches broker", "switches workers",
      ], textColumns: 2, rows: rows.filter { row in row.dropFirst(2).contains { $0.text != nil } },
      notes: [
        "Memory is resident memory at the start and at the end of the measured time; the generator's has its "
          + "histograms in it, and an FFI plugin. Switches are voluntary (a thread waited) + involuntary (the "
          + "kernel took the core away), over all threads. Threads of the broker and of workers that ended "
          + "within the measured time are not counted: the kernel forgets theirs."
      ])
  }

  /// What the broker said of itself: a row per target and load behind a broker of ours.
  package static func broker(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).compactMap { group -> [Cell]? in
      guard group.measurements.contains(where: { $0.brokerActivity != nil }) else { return nil }
      let slow = group.measurements.compactMap { $0.brokerActivity?.slowConsumers }.reduce(0, +)
      return [
        Cell(group.target), Cell(group.load), figure(group, "broker_in_messages"),
        figure(group, "broker_out_messages"), figure(group, "broker_in_bytes"),
        figure(group, "broker_out_bytes"), Cell(String(slow), slow == 0 ? .plain : .bad),
        Cell(Number.grouped(group.figures("broker_pending_most_bytes").max())),
        Cell(Number.grouped(group.median("broker_subscriptions"))),
      ]
    }
    return ReportTable(
      title: "The broker's own monitoring",
      columns: [
        "target", "load", "messages in / request", "out / request", "bytes in / request", "out / request",
        "slow consumers", "most pending bytes", "subscriptions",
      ], textColumns: 2, rows: rows,
      notes: [
        "From /varz at both ends of the measured time. Slow consumers are clients that the broker cut off, over "
          + "all replicates. Pending bytes wait in the broker for clients that have not read them (/connz); "
          + "they are looked at ten times in a measurement at most, so a short peak may be missed."
      ])
  }

  private static func memory(_ group: MeasurementGroup, _ side: String) -> Cell {
    let ends = ["start", "end"].map { end in
      Number.text(group.median("resident_\(side)_\(end)_bytes").map { $0 / 1_048_576 }, digits: 1)
    }
    guard let start = ends[0], let end = ends[1] else { return Cell(nil) }
    return Cell("\(start) to \(end) MiB")
  }

  private static func switches(_ group: MeasurementGroup, _ side: String) -> Cell {
    let kinds = ["voluntary", "involuntary"].map {
      Number.significant(group.median("\($0)_switches_\(side)"), 3)
    }
    guard let voluntary = kinds[0], let involuntary = kinds[1] else { return Cell(nil) }
    return Cell("\(voluntary) + \(involuntary)")
  }

  private static func figure(_ group: MeasurementGroup, _ column: String) -> Cell {
    Cell(Number.significant(group.median(column), 4))
  }
}
