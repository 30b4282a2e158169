// CSV (RFC 4180), safe for spreadsheets: text that looks like a formula gets an apostrophe inside its quotes.
import Engine
import Results
import Scenario

/// The CSV files of a run, each a pure function of it.
enum CSV {
  /// The five files, and those that only some runs have rows for.
  static func files(_ document: RunDocument) -> [ReportTable] {
    all.map { $0.table(document) }.filter { !optional.contains($0.title) || !$0.rows.isEmpty }
  }

  private static let optional: Set = ["parts.csv", "faults.csv", "accounting.csv"]

  /// The manual's list of columns, which is part of docs/columns.md.
  static var manual: String {
    let head =
      "# The columns of the CSV files\n\nAn empty cell is a figure that was not measured, or a percentile "
      + "with fewer than 10 samples beyond it. New columns are added at the end.\n"
    return ([head] + all.map(\.manual)).joined(separator: "\n")
  }

  private typealias File = (manual: String, table: (RunDocument) -> ReportTable)

  private static var all: [File] {
    [
      file("summary.csv", "A row per target, load, phase and replicate", SummaryRow.columns, SummaryRow.all),
      file(
        "percentiles.csv", "A row per percentile; 100 is the exact maximum", PercentileRow.columns,
        PercentileRow.all),
      file("timeline.csv", "A row per target, load, replicate and interval", IntervalRow.columns) {
        document in
        document.measurements.flatMap { one in
          one.windows.enumerated().map { IntervalRow(measurement: one, place: $0, window: $1) }
        }
      },
      file(
        "comparison.csv", "A row per pair of targets, load and metric", ComparisonRow.columns, \.comparisons),
      file("claims.csv", "A row per claim and condition", ClaimVerdict.columns, \.claims),
      file(
        "faults.csv", "With `faults:`, a row per target, load, fault and replicate, and over all replicates",
        FaultRow.columns, FaultRow.all),
      file(
        "parts.csv", "With `decompose:`, a row per phase, replicate and part", PartRow.columns, PartRow.all),
      file(
        "accounting.csv",
        "With `accounting:` or `faults:`, a row per phase, replicate and way that requests ended",
        AccountingRow.columns, AccountingRow.all),
    ]
  }

  private static func file<Row>(
    _ name: String, _ rows: String, _ columns: [Column<Row>], _ all: @escaping (RunDocument) -> [Row]
  ) -> File {
    let cells = columns.map { column in
      [
        "`\(column.name)`", column.isText ? "text" : column.unit,
        column.better == .neither ? "" : column.better.rawValue,
        column.meaning,
      ]
    }
    let lines = [["column", "unit", "better", "meaning"], Array(repeating: "---", count: 4)] + cells
    return (
      "## \(name)\n\n\(rows).\n\n" + lines.map { "| " + $0.joined(separator: " | ") + " |\n" }.joined(),
      { ReportTable(name, columns, all($0)) }
    )
  }

  static func render(_ table: ReportTable) -> String {
    let rows = table.rows.map { row in
      row.enumerated().map { table.isText[$0] ? field($1.text ?? "") : $1.text ?? "" }
    }
    return ([table.columns] + rows).map { $0.joined(separator: ",") + "\r\n" }.joined()
  }

  static func field(_ text: String) -> String {
    let text = text.harmless(keeping: ["\t", "\r", "\n"])
    let isFormula = text.unicodeScalars.first.map("=+-@\t\r\n".unicodeScalars.contains) ?? false
    let safe = isFormula ? "'" + text : text
    let needsQuotes =
      isFormula || safe.unicodeScalars.contains { "\",\r\n".unicodeScalars.contains($0) }
    return needsQuotes ? "\"" + safe.replacing(scalars: ["\"": "\"\""]) + "\"" : safe
  }
}

/// A row of percentiles.csv. Replicate `all` merges all valid replicates, or all when none is valid.
private struct PercentileRow {
  let group: MeasurementGroup
  let scope: String
  let metric: String
  let replicate: String
  let histogram: LatencyHistogram
  let percentile: Double

  static let columns: [Column<PercentileRow>] = [
    .text("target", "the target's name", \.group.target),
    .text("load", "such as `closed-64`", \.group.load),
    .text("phase", "`request` for whole sessions, else the phase", \.scope),
    .text("metric", "`response`, `service` or `send_lag`", \.metric),
    .text("replicate", "its number, or `all` for the valid ones merged", \.replicate),
    .number("percentile", "50 to 100", unit: "%", \.percentile),
    .number("value_us", "the time", unit: "us", better: .less) { row in
      guard row.percentile == 100 else { return row.histogram.printableMicroseconds(row.percentile) }
      return row.histogram.isEmpty ? nil : Double(row.histogram.greatestNanoseconds) / 1000
    },
    .count("count", "samples of the histogram", \.histogram.count),
  ]

  static func all(_ document: RunDocument) -> [PercentileRow] {
    MeasurementGroup.all(document).flatMap { group in
      group.scopeNames.flatMap { scope in
        ScopeMeasurement.times.flatMap { metric, of -> [PercentileRow] in
          let each = group.measurements.compactMap { one in
            one.scopes.first { $0.scope == scope }.map { (String(one.replicate), of($0)) }
          }
          return (each + [("all", group.merged(scope, of))]).flatMap { replicate, histogram in
            [50, 75, 90, 95, 99, 99.9, 99.99, 100].map {
              PercentileRow(
                group: group, scope: scope, metric: metric, replicate: replicate, histogram: histogram,
                percentile: $0)
            }
          }
        }
      }
    }
  }
}

private struct IntervalRow {
  let measurement: Measurement
  let place: Int
  let window: MeasurementWindow

  static let columns: [Column<IntervalRow>] = [
    .text("target", "the target's name", \.measurement.target),
    .text("load", "such as `closed-64`", \.measurement.load),
    .count("replicate", "1 for the first", int: \.measurement.replicate),
    .count("interval", "1 for the first") { UInt64($0.place + 1) },
    .number("start_s", "from the start of the measured time", unit: "s", \.window.startSeconds),
    .number("duration_s", "the interval's length", unit: "s", \.window.durationSeconds),
    .count("completed", "requests that ended in the interval", \.window.completed),
    .number("completed_rps", "requests per second that ended in the interval", unit: "req/s", better: .more) {
      $0.window.durationSeconds > 0 ? Double($0.window.completed) / $0.window.durationSeconds : nil
    },
    time("response_p50_us", "response time, percentile 50", \.p50Nanoseconds),
    time("response_p99_us", "response time, percentile 99", \.p99Nanoseconds),
    time("response_max_us", "maximum response time", \.maxNanoseconds),
    cpu("cpu_generator_us", "load process", \.cpuGeneratorNanoseconds),
    cpu("cpu_broker_us", "broker", \.cpuBrokerNanoseconds),
    cpu("cpu_workers_us", "workers together", \.cpuWorkersNanoseconds),
    .count(
      "resident_generator_bytes", "resident memory of the load process at the interval's end", unit: "B",
      better: .less, \.window.residentGeneratorBytes),
    .count("failed", "requests that failed in the interval, for any reason", better: .less, \.window.failed),
    .number("offered_rps", "offered rate of an open load in the interval", unit: "req/s") { row in
      row.measurement.offeredPerSecond(in: row.window)
    },
  ]

  private static func time(
    _ name: String, _ meaning: String, _ value: @escaping @Sendable (MeasurementWindow) -> UInt64?
  ) -> Column<IntervalRow> {
    .number(name, meaning, unit: "us", better: .less) { value($0.window).map { Double($0) / 1000 } }
  }

  private static func cpu(
    _ name: String, _ of: String, _ value: @escaping @Sendable (MeasurementWindow) -> UInt64?
  ) -> Column<IntervalRow> {
    .number(
      name, "CPU time of the \(of) per request that ended in the interval", unit: "us", better: .less
    ) { row in
      guard let time = value(row.window), row.window.completed > 0 else { return nil }
      return Double(time) / 1000 / Double(row.window.completed)
    }
  }
}

/// A row of parts.csv. Part `service` is the phase's whole service time.
private struct PartRow {
  let measurement: Measurement
  let scope: String
  let name: String
  let time: LatencyHistogram

  static let columns: [Column<PartRow>] = [
    .text("target", "the target's name", \.measurement.target),
    .text("load", "such as `closed-64`", \.measurement.load),
    .text("phase", "the phase", \.scope),
    .count("replicate", "1 for the first", int: \.measurement.replicate),
    .text("part", "the part; `service` is the whole service time", \.name),
    .count("count", "samples", \.time.count),
    .number("mean_us", "mean time", unit: "us", better: .less) {
      $0.time.meanNanoseconds.map { $0 / 1000 }
    },
    .number("p50_us", "percentile 50", unit: "us", better: .less) { $0.time.printableMicroseconds(50) },
    .number("p99_us", "percentile 99", unit: "us", better: .less) { $0.time.printableMicroseconds(99) },
  ]

  static func all(_ document: RunDocument) -> [PartRow] {
    document.measurements.flatMap { one in
      one.scopes.flatMap { scope -> [PartRow] in
        scope.decomposition.map { $0.parts.map { ($0.name, $0.time) } + [("service", scope.service)] }?.map {
          PartRow(measurement: one, scope: scope.scope, name: $0, time: $1)
        } ?? []
      }
    }
  }
}
