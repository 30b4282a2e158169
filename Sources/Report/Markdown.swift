import Engine
import Results
import Scenario

enum MarkdownReport {
  static func render(_ document: RunDocument) -> String {
    var blocks = ["# \(escaped(document.scenario.name))"]
    for section in ReportText.sections(document) {
      blocks.append("## \(section.title)")
      blocks += section.tables.map { table in
        (["**\(escaped(table.title))**", body(table)] + table.notes.map(paragraph)).joined(separator: "\n\n")
      }
      let paragraphs = section.paragraphs.map { (section.isList ? "* " : "") + paragraph($0) }
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

  /// The text on one line, with all markup escaped.
  static func escaped(_ text: String) -> String {
    text.harmless().replacing(scalars: marks)
  }

  /// The same for the beginning of a line, where more characters start a list or a rule.
  private static func paragraph(_ text: String) -> String {
    let isList = text.unicodeScalars.first.map("-+=".unicodeScalars.contains) ?? false
    return (isList ? "\\" : "") + escaped(text)
  }

  private static let marks: [Unicode.Scalar: String] = [
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "\\": "\\\\", "`": "\\`", "*": "\\*", "_": "\\_",
    "[": "\\[", "]": "\\]", "#": "\\#", "~": "\\~",
  ]

  // MARK: The tables of README.md and docs/results.md; a test compares the committed pages with them

  static func readme(_ document: RunDocument) -> String {
    let answer = Answer.section(document)
    let rule = escaped(
      (Answer.otherHosts(document) + Answer.ruleOfThumb(document)).filter { !$0.isEmpty }.joined(
        separator: " "))
    return (answer.tables.prefix(1).map(body) + [rule]).joined(separator: "\n\n") + "\n"
  }

  /// A run's section of docs/results.md: the machine, then the most important tables.
  static func results(_ document: RunDocument) -> String {
    let machine = document.machine
    let facts = [
      machine.cpuModel, machine.cores.map { "\($0) core\($0 == 1 ? "" : "s")" },
      machine.hypervisor.map { "under \($0)" },
      machine.operatingSystem, machine.kernel.map { "Linux \($0)" },
    ].compactMap { $0 }.joined(separator: ", ")
    let answer = Answer.section(document)
    let failing = document.claims.filter { $0.isOverall && $0.verdict == .fails && $0.documented.isEmpty }
    let tables =
      answer.tables + [
        ResultTables.results(document), ResultTables.costsOverLength(document), ResultTables.claims(failing),
      ]
    let blocks = answer.paragraphs.map(paragraph) + tables.filter { !$0.rows.isEmpty }.map(body)
    let run = document.runID.harmless().replacing(scalars: ["`": "'", "<": "&lt;", ">": "&gt;"])
    let origin = "`\(run)`, nylon-bench \(escaped(document.toolVersion)): \(escaped(facts))."
    return ([origin] + blocks).joined(separator: "\n\n") + "\n"
  }
}
