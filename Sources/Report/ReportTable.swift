import Results
import Scenario

/// A table that can be rendered for the terminal, CSV, Markdown and HTML.
package struct ReportTable: Sendable, Equatable {
  package var title: String
  package var columns: [String]
  var isText: [Bool]
  package var rows: [[Cell]]
  package var notes: [String]

  package init<Row>(_ title: String, _ columns: [Column<Row>], _ rows: [Row], notes: [String] = []) {
    self.title = title
    self.columns = columns.map(\.name)
    isText = columns.map(\.isText)
    self.rows = rows.map { row in columns.map { $0.cell(row) } }
    self.notes = notes
  }

  /// Keeps only the columns whose names pass.
  func keeping(_ isKept: (String) -> Bool) -> ReportTable {
    let places = columns.indices.filter { isKept(columns[$0]) }
    var table = self
    table.columns = places.map { columns[$0] }
    table.isText = places.map { isText[$0] }
    table.rows = rows.map { row in places.map { row[$0] } }
    return table
  }

  /// Leaves out those of the named columns that have the same text in every row.
  func without(constant names: String...) -> ReportTable {
    keeping { name in
      guard names.contains(name), let place = columns.firstIndex(of: name) else { return true }
      return Set(rows.map { $0[place].shown }).count > 1
    }
  }

  /// The number of columns, from the left, that are aligned as text.
  var textColumns: Int { isText.prefix { $0 }.count }

  /// The table for a terminal, ending with a line end; `colour` adds ANSI colours.
  package func text(colour: Bool = false) -> String {
    // Names and messages come from users, plugins and workers, so they may contain control characters.
    let heads = columns.map { $0.harmless() }
    let shown = rows.map { $0.map { $0.shown.harmless() } }
    let widths = columns.indices.map { column in
      ([heads[column]] + shown.map { $0[column] }).map(Self.width).max() ?? 0
    }
    func padded(_ text: String, _ column: Int) -> String {
      let space = String(repeating: " ", count: widths[column] - Self.width(text))
      return column < textColumns ? text + space : space + text
    }
    func line(_ cells: [String]) -> String {
      let whole = cells.joined(separator: "  ")
      return String(whole.reversed().drop { $0 == " " }.reversed())
    }
    let head =
      (title.isEmpty ? [] : [colour ? "\u{1b}[1m\(title.harmless())\u{1b}[0m" : title.harmless()]) + [
        line(columns.indices.map { padded(heads[$0], $0) }),
        widths.map { String(repeating: "─", count: $0) }.joined(separator: "  "),
      ]
    let codes: [Cell.Tone: Int] = [.good: 32, .bad: 31, .unsure: 33]
    let body = zip(rows, shown).map { row, texts in
      line(
        row.enumerated().map { column, cell in
          let text = padded(texts[column], column)
          guard colour, let code = codes[cell.tone] else { return text }
          return "\u{1b}[\(code)m\(text)\u{1b}[0m"
        })
    }
    let foot = notes.flatMap { $0.harmless(keeping: ["\n"]).split(separator: "\n") }
    return (head + body + foot.flatMap { Answer.wrapped(String($0)) }).joined(separator: "\n") + "\n"
  }

  /// The number of terminal columns of a text: East Asian wide characters and emoji take two.
  static func width(_ text: String) -> Int {
    text.reduce(0) { sum, character in
      guard let scalar = character.unicodeScalars.first else { return sum }
      let isWide =
        scalar.properties.isEmojiPresentation
        || [0x1100...0x115f, 0x2e80...0xa4cf, 0xac00...0xd7a3, 0xf900...0xfaff, 0xff00...0xff60]
          .contains { $0.contains(Int(scalar.value)) }
      return sum + (isWide ? 2 : 1)
    }
  }
}
