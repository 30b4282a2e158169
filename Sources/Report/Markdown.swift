import Results
import Foundation

extension ExportFormat {
  static let markdown = ExportFormat("markdown", isInRunFolder: true) {
    [RenderedFile(name: "report.md", contents: MarkdownReport.render($0))]
  }
}

enum MarkdownReport {
  static func render(_ document: RunDocument) -> String {
    var blocks = ["# \(escaped(document.scenario.name))"]
    for section in ReportText.sections(document) {
      blocks.append("## \(section.title)")
      blocks += section.tables.map(render)
      let isList = section.paragraphs.count > 3
      let paragraphs = section.paragraphs.map { (isList ? "* " : "") + escaped($0) }
      blocks.append(paragraphs.joined(separator: isList ? "\n" : "\n\n"))
    }
    return blocks.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  /// A table with its title above and its notes below.
  static func render(_ table: ReportTable) -> String {
    (["**\(escaped(table.title))**", body(table)] + table.notes.map(escaped)).joined(separator: "\n\n")
  }

  /// Its head and its rows.
  static func body(_ table: ReportTable) -> String {
    let alignments = table.columns.indices.map { $0 < table.textColumns ? ":--" : "--:" }
    let lines =
      [table.columns.map(escaped), alignments]
      + table.rows.map { $0.map { escaped($0.shown) } }
    return lines.map { "| " + $0.joined(separator: " | ") + " |" }.joined(separator: "\n")
  }

  /// A text in which nothing is markup, on one line.
  static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case _ where character.isNewline: result += " "
      case "|", "\\", "`", "*", "_", "[", "]", "#", "~": result += "\\" + String(character)
      default: result.append(character)
      }
    }
    return result
  }
}
