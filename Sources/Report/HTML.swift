import Results
import Scenario

/// `report.html`: one file, with its style and charts inside, and nothing fetched from elsewhere. It is well-formed as
/// XML, too.
///
/// The first screen is the answer; charts follow, then what the documents say; every other table is folded.
enum HTMLReport {
  /// More rows would push the answer off the first screen.
  private static let mostRows = 12

  static func render(_ document: RunDocument) -> String {
    let body =
      answer(document) + charts(document) + documents(document)
      + ReportText.sections(document).dropFirst().map(render).joined() + reproduction(document)
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8"/>
      <meta name="viewport" content="width=device-width, initial-scale=1"/>
      <meta name="color-scheme" content="light dark"/>
      <title>\(escaped("\(document.scenario.name) – nylon-bench"))</title>
      <style>
      \(HTMLStyle.text)
      </style>
      </head>
      <body>
      <main>
      \(body)</main>
      </body>
      </html>

      """
  }

  /// The text without markup, and without characters that HTML and XML forbid or that turn the text around.
  static func escaped(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
      let isForbidden = scalar.isSteering || scalar.properties.isNoncharacterCodePoint
      return isForbidden ? " " : marks[scalar] ?? String(scalar)
    }.joined()
  }

  private static let marks: [Unicode.Scalar: String] = [
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;", "'": "&#39;",
  ]

  /// An element of parts that are markup already.
  private static func element(_ name: String, kind: String = "", _ parts: [String]) -> String {
    let content = parts.joined()
    guard !content.isEmpty else { return "" }
    return "<\(name)\(kind.isEmpty ? "" : " class=\"\(kind)\"")>\(content)</\(name)>\n"
  }

  private static func element(_ name: String, kind: String = "", text: String) -> String {
    element(name, kind: kind, [prose(text)])
  }

  /// The text without markup, no line of which ends between a number and its unit.
  private static func prose(_ text: String) -> String {
    escaped(text).replacing(#/(\d) (ns|µs|ms|s|%)(?!\w)/#) { "\($0.1)\u{a0}\($0.2)" }
  }

  private static func paragraphs(_ all: [String], kind: String = "") -> String {
    all.map { element("p", kind: kind, text: $0) }.joined()
  }

  private static func list(_ items: [String]) -> String {
    element("ul", items.map { element("li", text: $0) })
  }

  private static func folded(_ summary: String, _ content: [String]) -> String {
    content.joined().isEmpty ? "" : element("details", [element("summary", text: summary)] + content)
  }

  // MARK: The first screen

  private static func answer(_ document: RunDocument) -> String {
    let headline = Headline(document)
    let answer = Answer.section(document)
    let cards = headline.cards.map { card in
      let counts = card.counts.map { element("span", kind: "badge \($0.tone.rawValue)", text: $0.shown) }
      return element(
        "section", kind: "card",
        [element("h2", text: card.question), element("p", counts), paragraphs(card.sentences)])
    }
    let tables = answer.tables.map { table in
      // The interval has its place in the charts and below.
      var top =
        document.claims.isEmpty
        ? table : table.keeping { $0 != "interval" || table.title.contains("against") }
      top.rows = Array(top.rows.prefix(mostRows))
      let rest = table.rows.count - top.rows.count
      return element(
        "div", [render(top), paragraphs(rest > 0 ? ["\(rest) more rows stand below."] : [], kind: "note")])
    }
    let head = [
      element("p", kind: "run", text: "nylon-bench · \(document.scenario.name) · \(document.started)"),
      element("h1", text: headline.sentence),
      element("p", kind: "lead", text: headline.reasons.joined(separator: " ")),
    ]
    return [
      element("header", head), element("div", kind: "cards", cards), element("div", kind: "pair", tables),
      folded("All rows of these tables", answer.tables.filter { $0.rows.count > mostRows }.map(render)),
      paragraphs(answer.paragraphs, kind: "note"),
    ].joined()
  }

  // MARK: Charts

  private static func charts(_ document: RunDocument) -> String {
    let figures = ReportFigures(document)
    let leading = figures.leading
    let missing = leading.filter(\.charts.isEmpty).map { "No chart \"\($0.title)\": \($0.reason)." }
    let parts = [
      element("h2", text: "In charts"), leading.map(render).joined(), paragraphs(missing, kind: "note"),
      folded("Percentiles and timelines of the other loads", figures.others.map(render)),
    ]
    return element("section", parts)
  }

  private static func render(_ figure: ReportFigure) -> String {
    guard !figure.charts.isEmpty else { return "" }
    let series = figure.charts.flatMap(\.series)
    // A series that looks like an earlier one is of the same target.
    let keys = series.map(\.key).uniqued().compactMap { key in series.first { $0.key == key } }
    let terms = figure.terms.filter { !$0.meaning.isEmpty }
    let caption = [
      element("h3", text: figure.title),
      element("ul", kind: "legend", keys.map { element("li", [$0.key, escaped($0.name)]) }),
      paragraphs(figure.paragraphs),
      element("dl", terms.map { element("dt", text: $0.word) + element("dd", text: $0.meaning) }),
    ]
    return element(
      "figure", [element("div", figure.charts.map { $0.svg() }), element("figcaption", caption)])
  }

  // MARK: The documents

  private static func documents(_ document: RunDocument) -> String {
    let overall = document.claims.filter(\.isOverall)
    guard !overall.isEmpty else { return "" }
    let place: [Column<ClaimVerdict>] = [
      .text("claim", \.id), .text("the document says", \.claim),
      .text("where") { "\($0.document):\($0.line)" },
      .toned("verdict", isText: true) {
        Cell($0.verdict.rawValue.replacing("_", with: " "), $0.verdict.tone)
      },
    ]
    let measured: [Column<ClaimVerdict>] = [
      .other("stated", \.stated), .significant("measured", digits: 3, \.measured),
      .other("95 % interval") { Number.range($0.low, $0.high) },
    ]
    func promises(_ title: String, _ verdicts: [ClaimVerdict.Verdict]) -> ReportTable {
      let rows = overall.filter { $0.documented.isEmpty && verdicts.contains($0.verdict) }
      return ReportTable("\(title): \(rows.count)", place + [.text("what was seen", \.why)], rows)
    }
    let open = [
      ReportTable("Documented figures", place + measured, overall.filter { !$0.documented.isEmpty }),
      promises("Promises that fail, or are not decided", [.fails, .inconclusive]),
    ]
    let rest = [
      promises("Promises that hold", [.holds]),
      promises("Promises that were not measured", [.notMeasured]),
    ]
    let disputes = document.claims.filter { $0.condition == ClaimVerdict.disagreement }.map { "\($0.why)." }
    let parts =
      [element("h2", text: "What the documents say")] + open.filter { !$0.rows.isEmpty }.map(render)
      + rest.filter { !$0.rows.isEmpty }.map { folded($0.title, [render($0)]) }
      + [folded("Where the documents contradict each other: \(disputes.count)", [list(disputes)])]
    return element("section", parts)
  }

  // MARK: Everything else

  private static func render(_ section: ReportSection) -> String {
    let words = section.isList ? list(section.paragraphs) : paragraphs(section.paragraphs)
    let content = section.tables.map(render) + [words]
    guard section.isFolded else { return element("section", [element("h2", text: section.title)] + content) }
    let (tables, rows) = (section.tables.count, section.tables.reduce(0) { $0 + $1.rows.count })
    let size = ": \(tables) table\(tables == 1 ? "" : "s"), \(rows) row\(rows == 1 ? "" : "s")"
    return folded(section.title + (rows > 0 ? size : ""), content)
  }

  private static func render(_ table: ReportTable) -> String {
    func row(_ tag: String, _ cells: [Cell]) -> String {
      let all = cells.enumerated().map { column, cell in
        let classes = [
          column < table.textColumns ? nil : "number", cell.tone == .plain ? nil : cell.tone.rawValue,
        ].compactMap { $0 }.joined(separator: " ")
        let attribute = classes.isEmpty ? "" : " class=\"\(classes)\""
        return "<\(tag)\(attribute)>\(prose(cell.text == "" ? "" : cell.shown))</\(tag)>"
      }
      return element("tr", all)
    }
    let parts = [
      element("caption", text: table.title), element("thead", [row("th", table.columns.map { Cell($0) })]),
      element("tbody", table.rows.map { row("td", $0) }),
    ]
    return element("div", kind: "scroll", [element("table", parts)]) + paragraphs(table.notes, kind: "note")
  }

  private static func reproduction(_ document: RunDocument) -> String {
    let parts = [
      element("h2", text: "Reproduction"),
      element(
        "p",
        text:
          "The first command measures again, with seed \(document.seed); the second renders this page from "
          + "the stored run, without measuring."),
      element("pre", text: ReportText.shell(document.commandLine)),
      element(
        "pre",
        text: ReportText.shell(["nylon-bench", "export", "results/\(document.runID)", "--format", "html"])
          + " > report.html"),
      element(
        "p", kind: "note print",
        text: "Parts that were folded on the screen may be missing on paper: open them first."),
    ]
    return element("section", parts)
  }
}
