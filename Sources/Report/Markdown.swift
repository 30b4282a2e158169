import Engine
import Results

enum MarkdownReport {
  static func render(_ document: RunDocument) -> String {
    var blocks = ["# \(escaped(document.scenario.name))"]
    for section in ReportText.sections(document) {
      blocks.append("## \(section.title)")
      blocks += section.tables.map { table in
        (["**\(escaped(table.title))**", body(table)] + table.notes.map(escaped)).joined(separator: "\n\n")
      }
      let paragraphs = section.paragraphs.map { (section.isList ? "* " : "") + escaped($0) }
      blocks.append(paragraphs.joined(separator: section.isList ? "\n" : "\n\n"))
    }
    return blocks.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  private static func body(_ table: ReportTable) -> String {
    let alignments = table.columns.indices.map { $0 < table.textColumns ? ":--" : "--:" }
    let lines =
      [table.columns.map(escaped), alignments]
      + table.rows.map { $0.map { escaped($0.shown) } }
    return lines.map { "| " + $0.joined(separator: " | ") + " |" }.joined(separator: "\n")
  }

  /// A text in which nothing is markup, on one line.
  static func escaped(_ text: String) -> String {
    text.map { character in
      switch character {
      case "&": "&amp;"
      case "<": "&lt;"
      case ">": "&gt;"
      case "|", "\\", "`", "*", "_", "[", "]", "#", "~": "\\\(character)"
      default: character.isNewline ? " " : String(character)
      }
    }.joined()
  }

  // MARK: The tables of README.md and docs/results.md; a test compares the committed pages with them

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
      .other("FFI") { $0.shown($0.aValue) }, .other("NATS") { $0.shown($0.bValue) },
      .other("NATS / FFI (95 % interval)") { row in
        Number.significant(row.ratio, 3).map { ratio in
          ratio + (Number.range(row.ratioLow, row.ratioHigh).map { " (\($0))" } ?? "")
        }
      },
    ]
    return body(ReportTable("", columns, median + rate)) + "\n"
  }

  /// A run's section of docs/results.md: where it was measured, then the tables that say most.
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
    ].filter { !$0.rows.isEmpty }.map(body)
    let origin = "`\(document.runID)`, nylon-bench \(document.toolVersion): \(facts)."
    return ([origin] + tables).joined(separator: "\n\n") + "\n"
  }
}
