// RFC 4180 as far as it goes, and a little for spreadsheets: text that they would take for a
// formula gets an apostrophe in front, inside quotes.
import Foundation
import Engine
import Lab
import Results

/// The CSV files of a run, each a pure function of it.
package enum CSV {
  /// `summary.csv`: a row per target, load, phase (`request` first) and replicate.
  package static func summary(_ document: RunDocument) -> String {
    let rows = document.measurements.flatMap { measurement in
      measurement.scopes.map {
        SummaryRow(
          runID: document.runID, scenario: document.scenario.name, measurement: measurement, scope: $0)
      }
    }
    return file(
      SummaryRow.columns.map(\.name),
      rows.map { row in SummaryRow.columns.map { text($0.cell(row)) } })
  }

  /// The percentiles of `percentiles.csv`; 100 is the exact greatest.
  package static let percentiles: [Double] = [50, 75, 90, 95, 99, 99.9, 99.99, 100]

  /// `percentiles.csv`: microseconds; a value is empty where under 10 samples lie beyond.
  ///
  /// `count` is the histogram's number of samples. Replicate `all` is all valid replicates merged,
  /// or all replicates where none is valid.
  package static func percentiles(_ document: RunDocument) -> String {
    let rows = MeasurementGroup.all(document).flatMap { group in
      group.scopeNames.flatMap { scope in
        HistogramKind.allCases.flatMap { kind -> [[String]] in
          let each = group.measurements.compactMap { one in
            one.scopes.first { $0.scope == scope }.map { (String(one.replicate), kind.of($0)) }
          }
          return (each + [("all", group.merged(scope: scope, kind: kind))]).flatMap { replicate, histogram in
            percentileRows(histogram).map { percentile, value in
              [
                field(group.target), field(group.load), field(scope), kind.rawValue, replicate, percentile,
                value, String(histogram.count),
              ]
            }
          }
        }
      }
    }
    return file(
      ["target", "load", "phase", "metric", "replicate", "percentile", "value_us", "count"], rows)
  }

  /// `timeline.csv`: a row per target, load, replicate and interval; times are of responses, CPU times for
  /// each request that ended in the interval, and memory is that of the interval's end.
  package static func timeline(_ document: RunDocument) -> String {
    func micro(_ nanoseconds: UInt64?) -> String {
      Number.text(nanoseconds.map { Double($0) / 1000 }) ?? ""
    }
    func cost(_ window: MeasurementWindow, _ nanoseconds: UInt64?) -> String {
      guard let nanoseconds, window.completed > 0 else { return "" }
      return Number.text(Double(nanoseconds) / 1000 / Double(window.completed)) ?? ""
    }
    let rows = document.measurements.flatMap { one in
      one.windows.enumerated().map { place, window in
        [
          field(one.target), field(one.load), String(one.replicate), String(place + 1),
          Number.text(window.startSeconds) ?? "", Number.text(window.durationSeconds) ?? "",
          String(window.completed),
          window.durationSeconds > 0
            ? Number.text(Double(window.completed) / window.durationSeconds) ?? "" : "",
          micro(window.p50Nanoseconds), micro(window.p99Nanoseconds), micro(window.maxNanoseconds),
          cost(window, window.cpuGeneratorNanoseconds), cost(window, window.cpuBrokerNanoseconds),
          cost(window, window.cpuWorkersNanoseconds), window.residentGeneratorBytes.map(String.init) ?? "",
        ]
      }
    }
    return file(
      [
        "target", "load", "replicate", "interval", "start_s", "duration_s", "completed", "completed_rps",
        "response_p50_us", "response_p99_us", "response_max_us", "cpu_generator_us", "cpu_broker_us",
        "cpu_workers_us", "resident_generator_bytes",
      ], rows)
  }

  /// `comparison.csv`: ratios are b / a; `noise_floor` is a share, 0.03 is 3 %.
  package static func comparison(_ document: RunDocument) -> String {
    comparison(document.comparisons)
  }

  /// `comparison.csv` of these rows.
  package static func comparison(_ rows: [ComparisonRow]) -> String {
    file(
      [
        "metric", "condition", "a", "b", "a_value", "b_value", "unit", "ratio", "ratio_low", "ratio_high",
        "p_value", "noise_floor", "verdict",
      ],
      rows.map { row in
        [
          field(row.metric), field(row.condition), field(row.a), field(row.b), Number.text(row.aValue) ?? "",
          Number.text(row.bValue) ?? "", field(row.unit),
        ]
          + [row.ratio, row.ratioLow, row.ratioHigh, row.pValue, row.noiseFloor].map {
            Number.significant($0) ?? ""
          } + [row.verdict.rawValue]
      })
  }

  /// `claims.csv`: measured, low and high are in the row's unit.
  package static func claims(_ document: RunDocument) -> String {
    file(
      [
        "id", "document", "line", "claim", "documented", "unit", "condition", "measured", "low", "high",
        "verdict", "why",
      ],
      document.claims.map { row in
        [
          field(row.id), field(row.document), String(row.line), field(row.claim), field(row.documented),
          field(row.unit), field(row.condition),
        ]
          + [row.measured, row.low, row.high].map { Number.significant($0, 6) ?? "" }
          + [row.verdict.rawValue, field(row.why)]
      })
  }

  private static func percentileRows(_ histogram: LatencyHistogram) -> [(String, String)] {
    percentiles.map { percentile in
      let value =
        percentile == 100
        ? (histogram.isEmpty ? nil : Double(histogram.greatestNanoseconds) / 1000)
        : histogram.printableMicroseconds(percentile)
      return (Number.text(percentile) ?? "", Number.text(value) ?? "")
    }
  }

  static func file(_ header: [String], _ rows: [[String]]) -> String {
    ([header] + rows).map { $0.joined(separator: ",") + "\r\n" }.joined()
  }

  private static func text(_ cell: SummaryRow.Cell) -> String {
    switch cell {
    case .text(let text): field(text ?? "")
    case .number(let value, let digits): Number.text(value, digits: digits) ?? ""
    case .count(let count): count.map(String.init) ?? ""
    }
  }

  /// A text as a field.
  static func field(_ text: String) -> String {
    let first = text.unicodeScalars.first
    let isFormula = first.map { "=+-@\t\r\n".unicodeScalars.contains($0) } ?? false
    let safe = isFormula ? "'" + text : text
    let needsQuotes =
      isFormula || safe.unicodeScalars.contains { "\",\r\n".unicodeScalars.contains($0) }
    return needsQuotes ? "\"" + safe.replacingOccurrences(of: "\"", with: "\"\"") + "\"" : safe
  }
}
