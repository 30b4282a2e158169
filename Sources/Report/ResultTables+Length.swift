// Whether a request costs more at the end of a long load than at its beginning.
import Engine
import Lab
import Results

/// A measurement's first fifth held against its last.
struct LengthCosts {
  /// In a shorter time a ratio says more about the machine than about the load.
  static let leastSeconds = 60.0

  /// One fifth of the measured time.
  struct Fifth {
    /// The generator's CPU time per request, microseconds; nil when an interval of it was not measured.
    var cost: Double?
    /// Requests that ended, per second; nil where there was no time.
    var rate: Double?

    init(_ windows: some Collection<MeasurementWindow>) {
      // As floating point: a stored run may hold counts whose sum does not fit.
      let completed = windows.reduce(0) { $0 + Double($1.completed) }
      let seconds = windows.reduce(0) { $0 + $1.durationSeconds }
      let times = windows.compactMap(\.cpuGeneratorNanoseconds)
      if times.count == windows.count, completed > 0 {
        cost = times.reduce(0) { $0 + Double($1) } / 1000 / completed
      }
      rate = seconds > 0 ? completed / seconds : nil
    }
  }

  var first: Fifth
  var last: Fifth
  /// The generator's resident memory at both ends of the measured time, bytes; nil when not measured.
  var memoryAtStart: Double?
  var memoryAtEnd: Double?

  /// Nil for a measurement that is too short, or of too few intervals.
  init?(_ one: Measurement) {
    guard one.durationSeconds >= Self.leastSeconds, one.windows.count >= 5 else { return nil }
    first = Fifth(one.windows.prefix(one.windows.count / 5))
    last = Fifth(one.windows.suffix(one.windows.count / 5))
    memoryAtStart = one.generator?.residentStartBytes.map { Double($0) }
    memoryAtEnd = one.generator?.residentEndBytes.map { Double($0) }
  }

  /// What the last is of the first; 1 is a figure that does not change.
  func ratio(_ figure: (Fifth) -> Double?) -> Double? {
    guard let before = figure(first), let after = figure(last), before > 0 else { return nil }
    return after / before
  }

  /// Bytes that the generator has more at the end.
  var growth: Double? { memoryAtStart.flatMap { start in memoryAtEnd.map { $0 - start } } }
}

extension ResultTables {
  /// Cost, throughput and memory at both ends of long loads: a row per target and load; no rows without one.
  package static func costsOverLength(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).compactMap { group -> [Cell]? in
      let all = group.used.compactMap(LengthCosts.init)
      guard !all.isEmpty else { return nil }
      func median(_ figure: (LengthCosts) -> Double?) -> Double? { Statistics.median(all.compactMap(figure)) }
      func time(_ figure: (LengthCosts) -> Double?) -> Cell {
        Cell(Number.time(microseconds: median(figure)))
      }
      func ratio(_ figure: (LengthCosts.Fifth) -> Double?) -> Cell {
        Cell(Number.significant(median { $0.ratio(figure) }, 4))
      }
      func memory(_ figure: (LengthCosts) -> Double?) -> Cell {
        Cell(Number.text(median(figure).map { $0 / 1_048_576 }, digits: 2).map { "\($0) MiB" })
      }
      return [
        Cell(group.target), Cell(group.load), time(\.first.cost), time(\.last.cost), ratio(\.cost),
        Cell(Number.grouped(median(\.first.rate))), Cell(Number.grouped(median(\.last.rate))), ratio(\.rate),
        memory(\.memoryAtStart), memory(\.memoryAtEnd), memory(\.growth),
      ]
    }
    return ReportTable(
      title: "Cost over the run's length",
      columns: [
        "target", "load", "CPU generator, first fifth", "last fifth", "ratio", "req/s, first fifth",
        "last fifth", "ratio", "memory generator, start", "end", "growth",
      ], textColumns: 2, rows: rows,
      notes: [
        "The first and the last fifth of the measured time, for each request that ended in it, of measurements "
          + "of at least \(Int(LengthCosts.leastSeconds)) s; a ratio of 1 is a figure that does not change. "
          + "timeline.csv has every interval."
      ])
  }
}
