// The tables of README.md and docs/results.md, from stored runs; a test compares the committed pages with them.
import Engine
import Results

extension ExportFormat {
  /// FFI beside NATS in a few lines.
  static let readme = ExportFormat("readme") {
    [RenderedFile(name: "readme.md", contents: Pages.readme($0))]
  }

  /// A run's section of docs/results.md.
  static let results = ExportFormat("results") {
    [RenderedFile(name: "results.md", contents: Pages.results($0))]
  }
}

enum Pages {
  static func readme(_ document: RunDocument) -> String {
    let closed = document.comparisons.filter {
      $0.a == "ffi" && $0.b == "nats" && $0.condition.hasPrefix("closed-")
    }
    let median = closed.filter { $0.metric == "response_p50_us" }
    let rate = closed.filter { $0.metric == "throughput_rps" }.suffix(1)
    let columns: [Column<ComparisonRow>] = [
      .text("load") { row in
        let figure = row.metric == "throughput_rps" ? "requests/s" : "p50"
        return "\(row.condition.dropFirst("closed-".count)) in flight, \(figure)"
      },
      .other("FFI") { row in SummaryRow.column(row.metric)?.shown(row.aValue) },
      .other("NATS") { row in SummaryRow.column(row.metric)?.shown(row.bValue) },
      .other("NATS / FFI (95 % interval)") { row in
        Number.significant(row.ratio, 3).map { ratio in
          ratio + (Number.range(row.ratioLow, row.ratioHigh).map { " (\($0))" } ?? "")
        }
      },
    ]
    return MarkdownReport.body(ReportTable("", columns, median + rate)) + "\n"
  }

  /// Where it was measured, then the tables that say most.
  static func results(_ document: RunDocument) -> String {
    let machine = document.machine
    let facts = [
      machine.cpuModel, machine.cores.map { "\($0) core\($0 == 1 ? "" : "s")" },
      machine.hypervisor.map { "under \($0)" },
      machine.operatingSystem, machine.kernel.map { "Linux \($0)" },
    ].compactMap { $0 }.joined(separator: ", ")
    let metrics = ["response_p50_us", "throughput_rps"]
    let tables = [
      ResultTables.results(document),
      ResultTables.comparison(document.comparisons.filter { metrics.contains($0.metric) }),
      ResultTables.costsOverLength(document),
      ResultTables.claims(document.claims.filter { $0.isOverall && $0.verdict != .notMeasured }),
    ].filter { !$0.rows.isEmpty }.map(MarkdownReport.body)
    let origin = "`\(document.runID)`, nylon-bench \(document.toolVersion): \(facts)."
    return ([origin] + tables).joined(separator: "\n\n") + "\n"
  }
}
