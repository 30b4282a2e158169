import Results

/// A table for people: the same for the terminal, Markdown and HTML.
package struct ReportTable: Sendable, Equatable {
  /// How a cell is meant; only the terminal and HTML show it.
  package enum Tone: String, Sendable {
    case plain
    /// A good verdict.
    case good
    /// A bad verdict, or an invalid measurement.
    case bad
    /// Nothing can be said.
    case unsure
  }

  /// A cell; a missing value is shown as "–".
  package struct Cell: Sendable, Equatable {
    /// The text; nil when there is no value.
    package var text: String?
    /// How it is meant.
    package var tone: Tone

    package init(_ text: String?, _ tone: Tone = .plain) {
      self.text = text
      self.tone = tone
    }

    /// The text to show: on one line, without control characters, which could command a terminal.
    var shown: String {
      guard let text, !text.isEmpty else { return "–" }
      return String(
        String.UnicodeScalarView(
          text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
    }
  }

  package var title: String
  /// Heads of the columns.
  package var columns: [String]
  /// How many columns, from the left, hold text and not numbers.
  package var textColumns: Int
  /// The rows, each with a cell for each column.
  package var rows: [[Cell]]
  /// Lines below it that explain it.
  package var notes: [String]

  package init(
    title: String, columns: [String], textColumns: Int, rows: [[Cell]], notes: [String] = []
  ) {
    self.title = title
    self.columns = columns
    self.textColumns = textColumns
    self.rows = rows
    self.notes = notes
  }

  /// The table for a terminal, with a line end at its end; `colour` adds ANSI colours.
  package func text(colour: Bool = false) -> String {
    let widths = columns.indices.map { column in
      ([columns[column]] + rows.map { $0[column].shown }).map(Self.width).max() ?? 0
    }
    func padded(_ text: String, _ column: Int) -> String {
      let space = String(repeating: " ", count: widths[column] - Self.width(text))
      return column < textColumns ? text + space : space + text
    }
    func line(_ cells: [String]) -> String {
      let whole = cells.joined(separator: "  ")
      return String(whole.reversed().drop { $0 == " " }.reversed())
    }
    var lines = [colour ? "\u{1b}[1m\(title)\u{1b}[0m" : title]
    lines.append(line(columns.indices.map { padded(columns[$0], $0) }))
    lines.append(widths.map { String(repeating: "─", count: $0) }.joined(separator: "  "))
    for row in rows {
      lines.append(
        line(
          row.enumerated().map { column, cell in
            let text = padded(cell.shown, column)
            return colour ? Self.coloured(text, cell.tone) : text
          }))
    }
    return (lines + notes).joined(separator: "\n") + "\n"
  }

  private static func coloured(_ text: String, _ tone: Tone) -> String {
    switch tone {
    case .plain: text
    case .good: "\u{1b}[32m\(text)\u{1b}[0m"
    case .bad: "\u{1b}[31m\(text)\u{1b}[0m"
    case .unsure: "\u{1b}[33m\(text)\u{1b}[0m"
    }
  }

  /// Columns of a terminal that a text takes: two for East Asian wide characters and emoji.
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
