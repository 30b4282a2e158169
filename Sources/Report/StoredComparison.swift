// A comparison of two stored runs: the terminal output, at most 40 lines of at most 100 columns.
import Results

package struct StoredComparison: Sendable {
  let older, newer: RunDocument
  let rows: [ComparisonRow]
  /// Nil without a gate.
  let gate: Gate?
  /// Differences between the runs that do not affect the comparison, one sentence each.
  let notes: [String]

  package init(
    older: RunDocument, newer: RunDocument, rows: [ComparisonRow], gate: Gate?, notes: [String]
  ) {
    (self.older, self.newer, self.rows, self.gate, self.notes) = (older, newer, rows, gate, notes)
  }

  private static let mostRows = 14
  private static let mostReasons = 5
  private static let longestName = 16

  /// The answer first, followed by its evidence.
  package func answer(colour: Bool) -> String {
    let table = gate.map { judged($0.byVerdict) } ?? figures(Answer.askedRows(rows))
    var shown = table
    shown.rows = Array(table.rows.prefix(Self.mostRows))
    let rest = table.rows.count - shown.rows.count
    var lines = Answer.wrapped(sentence) + [""] + Answer.table(shown, colour)
    if rest > 0 {
      lines.insert("… and \(rest) more: --details", at: lines.count - (shown.rows.isEmpty ? 0 : 1))
    }
    let reasons = gate.map { Self.reasons($0) } ?? []
    lines += reasons.prefix(Self.mostReasons).flatMap { Answer.wrapped($0).prefix(2) }
    if reasons.count > Self.mostReasons {
      lines.append("… \(reasons.count - Self.mostReasons) more: --details")
    }
    if !reasons.isEmpty { lines.append("") }
    lines += foot.flatMap { Answer.wrapped($0).prefix(2) }
    return lines.prefix(Answer.mostLines).map(Answer.shortened).joined(separator: "\n") + "\n"
  }

  /// All tables.
  package func details(colour: Bool) -> String {
    let reasons =
      gate.map { [judged($0.rows).text(colour: colour)] + Self.reasons($0).map { "\($0)\n" } } ?? []
    return
      ([sentence + "\n"] + reasons + [ResultTables.comparison(rows).text(colour: colour)]
      + foot.map { "\($0)\n" })
      .joined()
  }

  // MARK: The answer

  private var sentence: String {
    guard let gate else {
      let figures = Answer.askedRows(rows).map(\.row)
      let worse = figures.count(where: \.isRegression)
      func count(_ verdict: ComparisonRow.Verdict) -> Int { figures.count { $0.verdict == verdict } }
      return figures.isEmpty
        ? "The runs have no figure in common."
        : "Of \(figures.count) figures \(worse) are worse than in the older run, \(count(.different) - worse) better, "
          + "\(count(.same)) the same, \(count(.unclear)) unclear."
    }
    let count = gate.rows.count
    let limit = "over \(Number.percent(gate.margin) ?? "?") worse than in the older run"
    func some(_ verdict: GateRow.Verdict) -> String {
      count == 1 ? "the one condition" : "\(gate.count(verdict)) of \(count) conditions"
    }
    func verb(_ verdict: GateRow.Verdict) -> String { gate.count(verdict) == 1 ? "is" : "are" }
    switch gate.verdict {
    case .kept:
      return count == 1
        ? "PASSED: the one condition is not \(limit)." : "PASSED: none of \(count) conditions is \(limit)."
    case .regressed:
      return "REGRESSED: \(some(.regressed)) \(verb(.regressed)) \(limit), or newly fails."
    case .unclear: return "UNCLEAR: \(some(.unclear)) may be \(limit); none certainly is."
    case .invalid where count == 0: return "NOT JUDGED: the runs have no condition in common."
    case .invalid: return "NOT JUDGED: \(some(.invalid)) cannot be used; nothing else regressed."
    }
  }

  private static func reasons(_ gate: Gate) -> [String] {
    gate.byVerdict.filter { $0.verdict != .kept }.map {
      "\($0.target) \($0.load): \($0.verdict.rawValue), \($0.why)."
    }
  }

  // MARK: The tables

  private func judged(_ rows: [GateRow]) -> ReportTable {
    @Sendable func shown(_ row: GateRow, _ figure: Double?) -> String? {
      SummaryRow.column(row.metric)?.shown(figure)
    }
    let columns: [Column<GateRow>] = [
      .toned("verdict", isText: true) { Cell($0.verdict.rawValue, $0.tone) },
      .text("target") { Self.short($0.target) }, .text("load") { Self.short($0.load) },
      .text("figure") { $0.metric == "throughput_rps" ? "req/s" : "p50" },
      .other("older") { shown($0, $0.older) }, .other("newer") { shown($0, $0.newer) },
      .other("worse by") { Number.percent($0.worse) },
      .other("interval") { row in
        Number.text(row.worseLow.map { $0 * 100 }, digits: 1).flatMap { low in
          Number.percent(row.worseHigh).map { "\(low) to \($0)" }
        }
      },
    ]
    return ReportTable("", columns, rows)
  }

  private func figures(_ rows: [Answer.Row]) -> ReportTable {
    let columns: [Column<Answer.Row>] = [
      .toned("verdict", isText: true) { one in
        let row = one.row
        return Cell(
          row.verdict.rawValue, row.isRegression ? .bad : row.verdict == .unclear ? .unsure : .plain)
      },
      .text("target") { Self.short(String($0.row.b.dropFirst(newer.runID.count + 1))) },
      .text("figure", \.name),
      .other("older") { $0.row.shown($0.row.aValue) }, .other("newer") { $0.row.shown($0.row.bValue) },
      .other("ratio") { Number.significant($0.row.ratio, 3) },
      .other("interval") { Number.range($0.row.ratioLow, $0.row.ratioHigh) },
    ]
    return ReportTable("", columns, rows)
  }

  private static func short(_ name: String) -> String {
    name.count <= longestName ? name : "\(name.prefix(longestName - 1))…"
  }

  // MARK: Notes

  private var foot: [String] {
    var lines = [
      "Older: \(older.runID), \(older.started). Newer: \(newer.runID), \(newer.started).",
      "p50, p99: response time. The intervals are those of a shift between two samples, of at least 95 %.",
    ]
    if let gate {
      let machine = gate.rows.compactMap { Number.significant($0.machine, 3) }.uniqued()
      lines.append(
        machine.isEmpty
          ? "Bare C was not measured with both runs (not in runs under 20 s): a slower machine looks like a "
            + "regression."
          : "Bare C on this machine took \(machine.joined(separator: ", ")) times as long as during the older run."
      )
      let faster = gate.rows.compactMap(\.machine).filter { $0 < 1 / (1 + gate.margin) }.min()
      if let faster {
        lines.append(
          "The machine itself was faster than during the older run, by up to \(Number.percent(1 / faster - 1) ?? "?"): "
            + "that may hide a regression. Store a new baseline.")
      }
      for (name, all) in [("older", gate.onlyOlder), ("newer", gate.onlyNewer)] where !all.isEmpty {
        lines.append("In the \(name) run only: \(all.joined(separator: ", ")).")
      }
    }
    return lines + notes.prefix(4).map { "Note: \($0)." }
      + (notes.count > 4 ? ["… and \(notes.count - 4) more differences."] : [])
  }
}

extension GateRow {
  fileprivate var tone: Cell.Tone {
    switch verdict {
    case .kept: .good
    case .regressed: .bad
    case .unclear, .invalid: .unsure
    }
  }
}
