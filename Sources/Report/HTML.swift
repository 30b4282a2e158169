import Results
import Scenario

/// `report.html`: a self-contained file with its style and charts, which loads nothing else. Also well-formed
/// XML.
///
/// The first screen is the answer, followed by charts and the documents' statements; other tables are folded.
enum HTMLReport {
  /// The limit that keeps the answer on the first screen.
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

  /// Escapes markup, and removes characters that HTML and XML forbid or that reverse the text direction.
  static func escaped(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
      let isForbidden = scalar.isSteering || scalar.properties.isNoncharacterCodePoint
      return isForbidden ? " " : marks[scalar] ?? String(scalar)
    }.joined()
  }

  private static let marks: [Unicode.Scalar: String] = [
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;", "'": "&#39;",
  ]

  /// An element whose parts are already markup.
  private static func element(_ name: String, kind: String = "", _ parts: [String]) -> String {
    let content = parts.joined()
    guard !content.isEmpty else { return "" }
    return "<\(name)\(kind.isEmpty ? "" : " class=\"\(kind)\"")>\(content)</\(name)>\n"
  }

  private static func element(_ name: String, kind: String = "", text: String) -> String {
    element(name, kind: kind, [prose(text)])
  }

  /// Escapes the text and keeps each number on one line with its unit.
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
      // Intervals are shown in the charts and below.
      var top =
        document.claims.isEmpty
        ? table : table.keeping { $0 != "interval" || table.title.contains("against") }
      top.rows = Array(top.rows.prefix(mostRows))
      let rest = table.rows.count - top.rows.count
      return element(
        "div", [render(top), paragraphs(rest > 0 ? ["\(rest) more rows are below."] : [], kind: "note")])
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
    // Series with the same appearance belong to the same target.
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
      promises("Promises that fail or are undecided", [.fails, .inconclusive]),
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
          "The first command repeats the measurement, with seed \(document.seed); the second renders this "
          + "page from the stored run, without measuring."),
      element("pre", text: ReportText.shell(document.commandLine)),
      element(
        "pre",
        text: ReportText.shell(["nylon-bench", "export", "results/\(document.runID)", "--format", "html"])
          + " > report.html"),
      element(
        "p", kind: "note print",
        text: "Sections that are collapsed on the screen may be missing in print: expand them first."),
    ]
    return element("section", parts)
  }
}

/// The style of `report.html`: light and dark, for screens of any width and for print.
///
/// Series use Okabe and Ito's colours, darkened or lightened for contrast with the background.
enum HTMLStyle {
  private static let light = """
    :root{--ink:#1d2329;--paper:#fff;--raised:#f5f7f9;--faint:#5b6670;--line:#dde2e7;
    --good:#00694f;--bad:#b3261e;--unsure:#7a5200;
    --c0:#0065a8;--c1:#c24e00;--c2:#00785a;--c3:#a3447f;--c4:#7a6a00;--c5:#4a5560}
    """

  private static let dark = """
    :root{--ink:#e6e9ec;--paper:#14181c;--raised:#1c2228;--faint:#9aa5af;--line:#333b43;
    --good:#4fc9a4;--bad:#ff9488;--unsure:#e5b94a;
    --c0:#62b5f0;--c1:#f5944d;--c2:#3cc79f;--c3:#e08bbd;--c4:#d9c84a;--c5:#aab4bd}
    """

  static let text = """
    \(light)
    @media(prefers-color-scheme:dark){\(dark)}
    *{box-sizing:border-box}
    body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
    main{max-width:1200px;margin:0 auto;padding:1.25rem 1.5rem 4rem}
    h1{font-size:1.8rem;line-height:1.2;letter-spacing:-.015em;margin:.3rem 0 .5rem;text-wrap:balance}
    h2{font-size:1.35rem;line-height:1.3;margin:3rem 0 1rem}
    h3{font-size:1.1rem;line-height:1.3;margin:0 0 .6rem}
    p{margin:.4rem 0;max-width:80ch;overflow-wrap:break-word;text-wrap:pretty}
    .run{color:var(--faint);font-size:.85rem;margin:0}
    .lead{font-size:1rem;max-width:125ch}
    .note{color:var(--faint);font-size:.85rem;max-width:110ch}
    .cards{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin:1rem 0}
    .card{background:var(--raised);border-radius:8px;padding:.8rem 1rem;min-width:0;font-size:.92rem}
    .card h2{font-size:1rem;margin:0 0 .3rem}.card p{margin:.3rem 0}
    .badge{display:inline-block;border:1px solid var(--line);border-radius:99px;background:var(--paper);
    padding:.05rem .6rem;margin:.15rem .3rem .15rem 0;font-size:.85rem;white-space:nowrap}
    .pair{display:grid;grid-template-columns:1fr 1fr;gap:2rem;margin:-.4rem 0 1rem}.pair>*{min-width:0}
    .pair>:only-child{grid-column:1/-1}.pair table{font-size:.85rem}.pair td,.pair th{padding:.15rem .5rem .15rem 0}.pair td:first-child{white-space:nowrap}
    .good{color:var(--good)}.bad{color:var(--bad)}.unsure{color:var(--unsure)}
    td.good,td.bad,td.unsure{font-weight:600}
    .good::before{content:"✓\\a0"}.bad::before{content:"✗\\a0"}.unsure::before{content:"?\\a0"}
    .scroll{overflow-x:auto;margin:.8rem 0}
    table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.88rem}
    caption{text-align:left;font-weight:600;padding:.3rem 0;font-size:.95rem}
    th,td{padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
    th{font-weight:500;color:var(--faint)}.number{text-align:right;white-space:nowrap}th.number{white-space:normal}
    td:last-child,th:last-child{padding-right:0}
    figure{display:grid;grid-template-columns:minmax(0,640px) minmax(0,1fr);gap:2.5rem;margin:0;padding:1.75rem 0;
    border-top:1px solid var(--line)}
    figcaption{font-size:.92rem}
    .legend{list-style:none;padding:0;margin:0 0 .8rem}.legend li{margin:.1rem 0;overflow-wrap:anywhere}
    .key{width:28px;height:16px;margin-right:.5rem;vertical-align:-3px}
    dl{margin:1rem 0 0;font-size:.85rem;color:var(--faint);display:grid;grid-template-columns:auto 1fr;gap:.2rem .8rem}
    dt{font-weight:600;color:var(--ink)}dd{margin:0}
    .plot{display:block;width:100%;height:auto;margin-bottom:1rem}
    .plot text{fill:var(--ink);font-size:12.5px;font-variant-numeric:tabular-nums}
    .plot .tick{fill:var(--faint)}.plot .axis{fill:var(--faint);font-size:12.5px}
    .plot .row{font-weight:600}.plot .wide{font-size:11.5px;fill:var(--faint)}
    .grid{stroke:var(--line)}.reference{stroke:var(--ink);stroke-width:1.5}
    .s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}
    .doc{--c:var(--ink)}
    .line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}.dashed .line{stroke-dasharray:5 4}
    .mark{fill:var(--c);stroke:var(--paper)}.hollow{fill:var(--paper);stroke:var(--c);stroke-width:1.8}
    .whisker{stroke:var(--c);stroke-width:1.5;opacity:.55}.doc .whisker{stroke-width:3}
    .bar rect,.key rect{fill:var(--c)}.plot .inside{fill:var(--paper);font-weight:600}
    details{border-top:1px solid var(--line);padding:.6rem 0}summary{cursor:pointer;font-weight:600}
    ul{padding-left:1.2rem}li{margin:.25rem 0;overflow-wrap:break-word}
    pre{background:var(--raised);border-radius:6px;padding:.6rem .8rem;overflow-x:auto;font-size:.85rem}
    .print{display:none}
    @media(max-width:1000px){.cards,.pair,figure{grid-template-columns:minmax(0,1fr)}.pair{gap:.5rem}figure{gap:.8rem}}
    @media(max-width:600px){main{padding:1rem 1rem 3rem}h1{font-size:1.45rem}.lead{font-size:.92rem;line-height:1.4}.cards{gap:.6rem}
    .card{padding:.6rem .8rem;font-size:.88rem}.card p{line-height:1.4}
    .plot text,.plot .axis{font-size:20px}.plot .inside{font-size:16px}.plot .wide{display:none}
    .pair table{font-size:.78rem}.pair .number,.pair td:first-child{white-space:normal}
    td,th,.pair td,.pair th{padding-right:.4rem}dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}}
    @media print{\(light)
    body{font-size:10pt}main{max-width:none;padding:0}.print{display:block}
    figure,tr,.card{break-inside:avoid}h2,h3,caption{break-after:avoid}.scroll{overflow:visible}
    figure{grid-template-columns:60% 1fr;gap:1rem}details::details-content{content-visibility:visible;display:block}}
    """
}
