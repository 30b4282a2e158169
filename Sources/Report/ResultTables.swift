// The tables of a run, for terminal, Markdown and HTML.
import Engine
import Lab
import Results

package enum ResultTables {
  typealias Cell = ReportTable.Cell

  /// Requests: a row per target and load, each figure the median over replicates.
  package static func results(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).map { group -> [Cell] in
      let failures = group.failures()
      let isValid = group.measurements.allSatisfy(\.isValid)
      let lag = group.measurements.contains { $0.offeredRatePerSecond != nil }
      return [
        Cell(group.target), Cell(group.load), Cell(group.validity, isValid ? .good : .bad),
        Cell(String(group.measurements.count)), Cell(Number.grouped(group.median("throughput_rps"))),
        time(group, "response_p50_us"), time(group, "response_p90_us"), time(group, "response_p99_us"),
        time(group, "response_p999_us"),
        Cell(Number.time(microseconds: group.figures("response_max_us").max())),
        time(group, "service_p50_us"), lag ? time(group, "send_lag_p99_us") : Cell(nil),
        Cell(Number.grouped(Double(failures)), failures == 0 ? .plain : .bad),
      ]
    }
    return ReportTable(
      title: "Requests: response time; closed loads do not state latency under load",
      columns: [
        "target", "load", "valid", "replicates", "req/s", "p50", "p90", "p99", "p99.9", "max",
        "service p50", "send lag p99", "errors",
      ], textColumns: 3, rows: rows,
      notes: [
        "A request is a session through all its phases. Each figure is the median over replicates, max the "
          + "greatest; –: not measured, or under 10 samples lie beyond it.",
        "Response time runs from when the schedule wanted the request, service time from when it was sent; "
          + "send lag is between the two. Errors are all requests that did not end well.",
      ] + clients(document))
  }

  /// Which NATS client the generator had, for each target; nothing where there is none.
  static func clients(_ document: RunDocument) -> [String] {
    let names = document.measurements.compactMap(\.client).uniqued()
    guard !names.isEmpty else { return [] }
    let parts = names.map { name in
      let targets = document.measurements.filter { $0.client == name }.map(\.target).uniqued()
      return "\(name) (\(targets.joined(separator: ", ")))"
    }
    return ["The generator's NATS client: \(parts.joined(separator: ", "))."]
  }

  /// Intervals of the figures that matter most, a row per target and load.
  package static func intervals(_ document: RunDocument) -> ReportTable {
    let columns = ["throughput_rps", "response_p50_us", "response_p99_us"]
    let rows = MeasurementGroup.all(document).map { group in
      [Cell(group.target), Cell(group.load)]
        + columns.map { column -> Cell in
          let values = group.figures(column)
          guard let interval = Statistics.bootstrapMedian(values, seed: document.seed),
            let low = shown(interval.low, column), let high = shown(interval.high, column)
          else { return Cell(nil) }
          return Cell("\(low) to \(high)")
        }
    }
    return ReportTable(
      title: "95 % bootstrap intervals of the medians over replicates",
      columns: ["target", "load", "req/s", "p50", "p99"], textColumns: 2, rows: rows,
      notes: [
        "–: under 3 replicates. From so few replicates an interval is about their range, and covers less "
          + "than 95 %: at most 75 % of 3, 87.5 % of 4, 93.75 % of 5."
      ])
  }

  /// Phases: a row per target, load and phase.
  package static func phases(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).flatMap { group in
      group.phaseNames.map { phase -> [Cell] in
        [
          Cell(group.target), Cell(group.load), Cell(phase),
          Cell(Number.time(microseconds: group.median("response_p50_us", scope: phase))),
          Cell(Number.time(microseconds: group.median("response_p99_us", scope: phase))),
          Cell(Number.time(microseconds: group.median("service_p50_us", scope: phase))),
          Cell(Number.grouped(Double(group.failures(scope: phase)))),
        ]
      }
    }
    return ReportTable(
      title: "Phase requests",
      columns: ["target", "load", "phase", "p50", "p99", "service p50", "errors"], textColumns: 3,
      rows: rows, notes: ["A phase request is one phase, started and ended. Medians over replicates."])
  }

  /// What a request costs: a row per target and load.
  package static func costs(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).map { group -> [Cell] in
      [
        Cell(group.target), Cell(group.load), time(group, "cpu_generator_us"), time(group, "cpu_broker_us"),
        time(group, "cpu_workers_us"), Cell(Number.grouped(group.median("allocated_bytes"))),
        time(group, "omission_gap_p99_us"),
        Cell(Number.text(group.median("steal_percent"), digits: 2).map { "\($0) %" }),
      ]
    }
    return ReportTable(
      title: "Costs, for each answered request",
      columns: [
        "target", "load", "CPU generator", "CPU broker", "CPU workers", "bytes allocated",
        "omission gap p99", "stolen CPU",
      ], textColumns: 2, rows: rows,
      notes: [
        "The generator's process holds an FFI plugin, so its CPU time is also the plugin's. The omission gap "
          + "is response minus service time: what a generator that waits for replies would not have seen.",
        "jemalloc replaces malloc in the load process and in every plugin it loads.",
      ])
  }

  /// Comparisons: a row per metric, load and pair.
  package static func comparison(_ rows: [ComparisonRow]) -> ReportTable {
    ReportTable(
      title: "Comparison: ratio b / a of paired replicates",
      columns: [
        "metric", "load", "a", "b", "verdict", "a's value", "b's value", "ratio", "95 % interval", "p",
        "noise floor",
      ], textColumns: 5,
      rows: rows.map { row in
        let low = Number.significant(row.ratioLow, 3)
        let high = Number.significant(row.ratioHigh, 3)
        let tone: ReportTable.Tone = row.isRegression ? .bad : row.verdict == .unclear ? .unsure : .plain
        let mark = row.why.hasPrefix("invalid") ? " (\(row.why))" : ""
        return [
          Cell(row.metric), Cell(row.condition), Cell(row.a), Cell(row.b),
          Cell(row.verdict.rawValue + mark, tone), Cell(shown(row.aValue, row.metric)),
          Cell(shown(row.bValue, row.metric)), Cell(Number.significant(row.ratio, 3)),
          Cell(low.flatMap { low in high.map { "\(low) to \($0)" } }),
          Cell(Number.significant(row.pValue, 2)),
          Cell(row.noiseFloor.flatMap { Number.text($0 * 100, digits: 1) }.map { "\($0) %" }),
        ]
      },
      notes: [
        "different: the interval leaves 1 and the difference is over the noise floor, which an A/A pair (the "
          + "same target twice) shows, the median distance of its replicates; without such a pair, over that of any two replicates of one target.",
        "same: the difference is not over the noise floor. unclear: neither can be said.",
      ])
  }

  /// Claims: a row per condition, and the overall row.
  package static func claims(_ rows: [ClaimVerdict]) -> ReportTable {
    ReportTable(
      title: "Documented claims",
      columns: ["claim", "where", "condition", "verdict", "documented", "measured", "95 % interval", "unit"],
      textColumns: 4,
      rows: rows.map { row in
        let low = Number.significant(row.low, 3)
        let high = Number.significant(row.high, 3)
        return [
          Cell(row.id), Cell("\(row.document):\(row.line)"), Cell(row.condition),
          Cell(row.verdict.rawValue, tone(row.verdict)), Cell(row.documented),
          Cell(Number.significant(row.measured, 3)),
          Cell(low.flatMap { low in high.map { "\(low) to \($0)" } }),
          Cell(row.unit),
        ]
      },
      notes: [
        "Conditions: a unloaded, b open loop at the documented rate, c closed loop at the concurrency that "
          + "Little's law implies. confirmed: the interval lies in the documented range; better, worse: wholly "
          + "beside it, or the documented rate cannot be reached; inconclusive: it straddles an end, or the "
          + "measurement is invalid."
      ])
  }

  /// What was seen of each documented behaviour: a row per test.
  package static func behaviours(_ results: [BehaviourResult]) -> ReportTable {
    ReportTable(
      title: "Documented behaviour, tried", columns: ["test", "verdict", "what was seen"], textColumns: 3,
      rows: results.map { [Cell($0.test), Cell($0.verdict.rawValue, tone($0.verdict)), Cell($0.why)] })
  }

  /// The details of each test that has some.
  static func behaviourDetails(_ results: [BehaviourResult]) -> [ReportTable] {
    results.filter { !$0.rows.isEmpty }.map { result in
      ReportTable(
        title: result.test, columns: result.columns, textColumns: 1,
        rows: result.rows.map { row in row.map { Cell($0) } })
    }
  }

  /// Results of `expect:`.
  package static func expectations(_ results: [ExpectationResult]) -> ReportTable {
    ReportTable(
      title: "Expectations", columns: ["expectation", "verdict", "why"], textColumns: 3,
      rows: results.map { result in
        let tone: ReportTable.Tone =
          switch result.verdict {
          case .met: .good
          case .notMet: .bad
          case .unmeasured: .unsure
          }
        return [Cell(result.text), Cell(result.verdict.rawValue, tone), Cell(result.why)]
      })
  }

  private static func tone(_ verdict: ClaimVerdict.Verdict) -> ReportTable.Tone {
    switch verdict {
    case .confirmed, .better, .holds: .good
    case .worse, .fails: .bad
    case .inconclusive, .notMeasured: .unsure
    }
  }

  private static func time(_ group: MeasurementGroup, _ column: String) -> Cell {
    Cell(Number.time(microseconds: group.median(column)))
  }

  private static func shown(_ value: Double?, _ metric: String) -> String? {
    metric.hasSuffix("_us") ? Number.time(microseconds: value) : Number.grouped(value)
  }
}
