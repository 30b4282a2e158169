import Engine
import Foundation
import Results

/// `report.html`: one file, with its style and charts inside, and nothing fetched from elsewhere.
enum HTMLReport {
  static func render(_ document: RunDocument) -> String {
    var body = "<h1>\(escaped(document.scenario.name))</h1>\n"
    for section in ReportText.sections(document) {
      body += "<section>\n<h2>\(escaped(section.title))</h2>\n"
      body += section.tables.map(render).joined()
      if section.hasCharts { body += PercentileChart.all(document) }
      let tag = section.isList ? "li" : "p"
      let paragraphs = section.paragraphs.map { "<\(tag)>\(escaped($0))</\(tag)>\n" }.joined()
      body += section.isList ? "<ul>\n\(paragraphs)</ul>\n" : paragraphs
      body += "</section>\n"
    }
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <title>\(escaped("\(document.scenario.name) – nylon-bench"))</title>
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

  static func escaped(_ text: String) -> String {
    text.unicodeScalars.map { marks[$0] ?? String($0) }.joined()
  }

  private static let marks: [Unicode.Scalar: String] = [
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;", "'": "&#39;",
  ]

  private static func render(_ table: ReportTable) -> String {
    func cells(_ tag: String, _ cells: [Cell]) -> String {
      cells.enumerated().map { column, cell in
        let classes = [
          column < table.textColumns ? nil : "number", cell.tone == .plain ? nil : cell.tone.rawValue,
        ].compactMap { $0 }.joined(separator: " ")
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

/// Charts of response time by percentile, a chart per load, as inline SVG.
private enum PercentileChart {
  private static let (width, height) = (760.0, 320.0)
  private static let (left, right, top, bottom) = (70.0, 20.0, 34.0, 34.0)

  private typealias Curve = (name: String, points: [(percentile: Double, microseconds: Double)])

  static func all(_ document: RunDocument) -> String {
    let groups = MeasurementGroup.all(document)
    return groups.map(\.load).uniqued().map { load in
      chart(load, groups.filter { $0.load == load }.map(curve).filter { $0.points.count > 1 })
    }.joined()
  }

  private static func curve(_ group: MeasurementGroup) -> Curve {
    let histogram = group.merged("request", \.response)
    // Ten steps per tenth of the samples that are left.
    let points = (0...40).compactMap { step -> (Double, Double)? in
      let percentile = 100 * (1 - pow(10, -Double(step) / 10))
      return histogram.printableMicroseconds(percentile).map { (percentile, max($0, 0.001)) }
    }
    return (name: group.target + (group.isValid ? "" : " (invalid)"), points: points)
  }

  private static func chart(_ load: String, _ curves: [Curve]) -> String {
    let times = curves.flatMap { $0.points.map(\.microseconds) }
    guard let least = times.min(), let most = times.max() else { return "" }
    let lowest = log10(least).rounded(.down)
    let highest = max(lowest + 1, log10(most).rounded(.up))
    func height(of time: Double) -> Double {
      top + (Self.height - top - bottom) * (1 - (log10(time) - lowest) / (highest - lowest))
    }
    var svg = "<svg viewBox=\"0 0 \(Int(width)) \(Int(Self.height))\" width=\"\(Int(width))\" role=\"img\" "
    svg += "aria-label=\"Response time by percentile, \(HTMLReport.escaped(load))\">\n"
    svg += label("Response time by percentile, \(load), replicates merged", left, 14)
    for power in stride(from: lowest, through: highest, by: 1) {
      let time = pow(10, power)
      let y = height(of: time)
      svg += line("class=\"grid\"", (left, width - right), (y, y))
      svg += label(Number.time(microseconds: time) ?? "", left - 6, y + 4, anchor: "end")
    }
    for percentile in [0, 50, 90, 99, 99.9, 99.99] {
      svg += line("class=\"grid\"", (x(percentile), x(percentile)), (top, Self.height - bottom))
      let name = "\(Number.text(percentile) ?? "") %"
      svg += label(name, x(percentile), Self.height - bottom + 18, anchor: "middle")
    }
    for (place, curve) in curves.enumerated() {
      let stroke = "stroke=\"var(--c\(place % 6))\" stroke-width=\"2\""
      let points = curve.points.map { "\(text(x($0.percentile))),\(text(height(of: $0.microseconds)))" }
      svg += "<polyline fill=\"none\" \(stroke) points=\"\(points.joined(separator: " "))\"/>\n"
      let row = top + 14 + Double(place) * 16
      svg += line("", (left + 10, left + 34), (row - 4, row - 4), stroke)
      svg += label(curve.name, left + 40, row)
    }
    return svg + "</svg>\n"
  }

  /// The place of a percentile: each tenth of what is left of the samples takes the same width.
  private static func x(_ percentile: Double) -> Double {
    left + (width - left - right) * (-log10(max(1 - percentile / 100, 1e-4)) / 4)
  }

  private static func line(
    _ first: String, _ x: (Double, Double), _ y: (Double, Double), _ last: String = ""
  ) -> String {
    let places = "x1=\"\(text(x.0))\" x2=\"\(text(x.1))\" y1=\"\(text(y.0))\" y2=\"\(text(y.1))\""
    return "<line \([first, places, last].filter { !$0.isEmpty }.joined(separator: " "))/>\n"
  }

  private static func label(_ name: String, _ x: Double, _ y: Double, anchor: String = "start") -> String {
    "<text x=\"\(text(x))\" y=\"\(text(y))\" text-anchor=\"\(anchor)\">\(HTMLReport.escaped(name))</text>\n"
  }

  private static func text(_ number: Double) -> String { Number.text(number, digits: 1) ?? "0" }
}
