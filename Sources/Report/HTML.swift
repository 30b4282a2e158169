import Foundation
import Engine
import Lab
import Results

extension ExportFormat {
  static let html = ExportFormat("html", isInRunFolder: true) {
    [RenderedFile(name: "report.html", contents: HTMLReport.render($0))]
  }
}

/// `report.html`: one file, with its style and charts inside, and nothing fetched from elsewhere.
enum HTMLReport {
  static func render(_ document: RunDocument) -> String {
    let title = escaped("\(document.scenario.name) – nylon-bench")
    var body = "<h1>\(escaped(document.scenario.name))</h1>\n"
    for section in ReportText.sections(document) {
      body += "<section>\n<h2>\(escaped(section.title))</h2>\n"
      body += section.tables.map(render).joined()
      if section.hasCharts { body += PercentileChart.all(document) }
      let isList = section.paragraphs.count > 3
      let tag = isList ? "li" : "p"
      let paragraphs = section.paragraphs.map { "<\(tag)>\(escaped($0))</\(tag)>\n" }.joined()
      body += isList ? "<ul>\n\(paragraphs)</ul>\n" : paragraphs
      body += "</section>\n"
    }
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <title>\(title)</title>
      <style>
      \(style)
      </style>
      </head>
      <body>
      <main>
      \(body)</main>
      </body>
      </html>

      """
  }

  /// A text in which nothing is markup.
  static func escaped(_ text: String) -> String {
    var result = ""
    for character in text.unicodeScalars {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  private static func render(_ table: ReportTable) -> String {
    func cells(_ tag: String, _ cells: [Cell]) -> String {
      cells.enumerated().map { column, cell in
        let classes = [
          column < table.textColumns ? "" : "number", cell.tone == .plain ? "" : cell.tone.rawValue,
        ]
        .filter { !$0.isEmpty }.joined(separator: " ")
        let attribute = classes.isEmpty ? "" : " class=\"\(classes)\""
        return "<\(tag)\(attribute)>\(escaped(cell.shown))</\(tag)>"
      }.joined()
    }
    let head = "<tr>\(cells("th", table.columns.map { Cell($0) }))</tr>"
    let rows = table.rows.map { "<tr>\(cells("td", $0))</tr>" }.joined(separator: "\n")
    let notes = table.notes.map { "<p class=\"note\">\(escaped($0))</p>\n" }.joined()
    return """
      <div class="scroll"><table>
      <caption>\(escaped(table.title))</caption>
      <thead>\(head)</thead>
      <tbody>
      \(rows)
      </tbody>
      </table></div>
      \(notes)
      """
  }

  private static let style = """
    :root{--ink:#1c1f23;--paper:#fff;--faint:#6a737d;--line:#d8dde2;--good:#116329;--bad:#b3261e;--unsure:#8a5a00;
    --c0:#0b62c4;--c1:#c2410c;--c2:#15803d;--c3:#9333ea;--c4:#0e7490;--c5:#be185d}
    @media(prefers-color-scheme:dark){:root{--ink:#e4e7ea;--paper:#15181b;--faint:#98a2ac;--line:#373d43;
    --good:#5ac577;--bad:#ff8a80;--unsure:#e3b341;
    --c0:#6cb2ff;--c1:#ff9a62;--c2:#5ac577;--c3:#c792ff;--c4:#4fc3d9;--c5:#ff7eb6}}
    body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
    main{max-width:1180px;margin:0 auto;padding:1rem}
    h1{font-size:1.6rem}h2{font-size:1.2rem;border-bottom:1px solid var(--line);margin-top:2rem}
    .scroll{overflow-x:auto}table{border-collapse:collapse;margin:.8rem 0;font-variant-numeric:tabular-nums}
    caption{text-align:left;font-weight:600;padding:.3rem 0}
    th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
    th{font-weight:600;color:var(--faint)}.number{text-align:right}.note{color:var(--faint);font-size:.87rem;margin:.2rem 0}
    .good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.unsure{color:var(--unsure)}
    li{overflow-wrap:anywhere}svg{max-width:100%;height:auto}svg text{fill:var(--ink);font:12px system-ui,sans-serif}
    svg .faint{fill:var(--faint)}svg .grid{stroke:var(--line)}
    """
}
