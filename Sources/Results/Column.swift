import Scenario

/// A column of a file or of a report's table, described once: its name, the meaning of its values, and how to
/// read one from a row. Headers, cells, `expect:`, claims, comparisons and the manual all use this.
package struct Column<Row>: Sendable {
  package enum Better: String, Sendable { case less, more, neither }

  package var name: String
  /// Whether the column holds text instead of figures.
  package var isText = false
  /// The unit, such as `us`, `req/s` or `B`; empty without one.
  package var unit = ""
  package var better = Better.neither
  package var meaning = ""
  /// Returns the value of a numeric column, nil when missing.
  package var figure: @Sendable (Row) -> Double? = { _ in nil }
  package var cell: @Sendable (Row) -> Cell

  package static func text(
    _ name: String, _ meaning: String, _ value: @escaping @Sendable (Row) -> String?
  ) -> Column {
    Column(name: name, isText: true, meaning: meaning) { Cell(value($0)) }
  }

  package static func text(_ name: String, _ value: @escaping @Sendable (Row) -> String?) -> Column {
    text(name, "", value)
  }

  package static func count(
    _ name: String, _ meaning: String = "", unit: String = "", better: Better = .neither,
    _ value: @escaping @Sendable (Row) -> UInt64?
  ) -> Column {
    Column(
      name: name, unit: unit, better: better, meaning: meaning, figure: { value($0).map { Double($0) } },
      cell: { Cell(value($0).map(String.init)) })
  }

  package static func count(
    _ name: String, _ meaning: String = "", int value: @escaping @Sendable (Row) -> Int?
  ) -> Column {
    count(name, meaning) { value($0).map { UInt64(clamping: $0) } }
  }

  package static func number(
    _ name: String, _ meaning: String = "", unit: String = "", better: Better = .neither, digits: Int = 3,
    _ value: @escaping @Sendable (Row) -> Double?
  ) -> Column {
    Column(
      name: name, unit: unit, better: better, meaning: meaning, figure: value,
      cell: { Cell(Number.text(value($0), digits: digits)) })
  }

  package static func significant(
    _ name: String, _ meaning: String = "", digits: Int = 4, _ value: @escaping @Sendable (Row) -> Double?
  ) -> Column {
    Column(
      name: name, meaning: meaning, figure: value, cell: { Cell(Number.significant(value($0), digits)) })
  }

  // Columns of reports, whose figures use the most readable unit.

  /// Microseconds as `12.3 µs` or `4.56 ms`.
  package static func time(_ name: String, _ value: @escaping @Sendable (Row) -> Double?) -> Column {
    Column(name: name, figure: value) { Cell(Number.time(microseconds: value($0))) }
  }

  /// A whole number such as `1,234`.
  package static func grouped(_ name: String, _ value: @escaping @Sendable (Row) -> Double?) -> Column {
    Column(name: name, figure: value) { Cell(Number.grouped(value($0))) }
  }

  /// A text column among numeric ones.
  package static func other(_ name: String, _ value: @escaping @Sendable (Row) -> String?) -> Column {
    Column(name: name) { Cell(value($0)) }
  }

  /// A column of cells with a tone; `isText` as for `text`.
  package static func toned(
    _ name: String, isText: Bool = false, _ cell: @escaping @Sendable (Row) -> Cell
  ) -> Column {
    Column(name: name, isText: isText, cell: cell)
  }

  /// A figure of this column in the most readable unit.
  package func shown(_ value: Double?) -> String? {
    unit == "us" ? Number.time(microseconds: value) : Number.grouped(value)
  }
}

/// A cell of a table; a missing value is shown as "–".
package struct Cell: Sendable, Equatable {
  /// The meaning of a cell; only the terminal and HTML show it.
  package enum Tone: String, Sendable {
    case plain
    case good
    /// A bad verdict, or an invalid measurement.
    case bad
    case unsure
  }

  package var text: String?
  package var tone: Tone

  package init(_ text: String?, _ tone: Tone = .plain) {
    self.text = text
    self.tone = tone
  }

  /// The text on one line, without characters that could control a terminal.
  package var shown: String {
    guard let text, !text.isEmpty else { return "–" }
    return text.harmless()
  }
}
