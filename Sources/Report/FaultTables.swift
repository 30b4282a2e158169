// Fault reports: a sentence for each target, and a table of its figures beside those of other targets.
import Engine
import Results

extension FaultFigures {
  /// The outcomes of failed requests, in the order of the sentence.
  private static let kinds: [(counter: Counter, words: String)] = [
    (.timeouts, "timed out"), (.lost, "lost"), (.handlerErrors, "errors"), (.rejected, "rejected"),
    (.shed, "shed"),
  ]

  /// The kinds of failures that occurred.
  fileprivate var failures: [(counter: Counter, words: String)] {
    Self.kinds.filter { kind in outcomes.contains { $0.outcome.counts[kind.counter] > 0 } }
  }

  fileprivate func has(_ counter: Counter) -> Bool { outcomes.contains { $0.outcome.counts[counter] > 0 } }

  fileprivate func median(_ value: (FaultOutcome) -> Double?) -> Double? { summary(value)?.median }

  private func count(_ counter: Counter) -> String {
    Self.number(median { Double($0.counts[counter]) } ?? 0)
  }

  fileprivate static func number(_ number: Double) -> String {
    (number < 10 ? Number.text(number, digits: 1) : Number.grouped(number)) ?? "?"
  }

  fileprivate static func time(_ seconds: Double) -> String {
    Number.time(microseconds: seconds * 1e6) ?? (seconds > 0 ? "never" : "none")
  }

  /// A sentence such as `'retry', worker killed: none of 2,000 requests failed; 3 were retried; the longest
  /// time without an answer was 5.1 ms; the rate never fell under 95 %.`
  package var sentence: String {
    let name = "'\(target)', \(words)"
    guard !outcomes.isEmpty else { return "\(name): not injected in any usable replicate." }
    let all = count(.sent)
    let failed = median { Double($0.failed) } ?? 0
    var clauses: [String] = []
    if failures.isEmpty {
      clauses.append("none of \(all) requests failed")
    } else {
      let each = failures.map { "\(count($0.counter)) \($0.words)" }.joined(separator: ", ")
      let until = median(\.failing).flatMap { $0 > 0 && $0.isFinite ? ", none after \(Self.time($0))" : nil }
      clauses.append("\(Self.number(failed)) of \(all) requests failed (\(each))\(until ?? "")")
    }
    if has(.retries) { clauses.append("attempts that were retries: \(count(.retries))") }
    if has(.duplicates) { clauses.append("duplicate replies: \(count(.duplicates))") }
    if let gap = median(\.gap), gap > 0 {
      clauses.append("the longest time without an answer was \(Self.time(gap))")
    }
    return "\(name): \(clauses.joined(separator: "; ")); \(recovery)."
  }

  private var recovery: String {
    switch median(\.comeback) {
    case nil: "whether the rate came back is not known"
    case 0?: "the rate never fell under 95 %"
    case let seconds? where seconds.isFinite: "the rate was back to 95 % after \(Self.time(seconds))"
    default: "the rate never came back"
    }
  }
}

extension ResultTables {
  /// The limit that fits a terminal's line.
  private static let mostSideBySide = 3

  private struct Line: Sendable {
    let name: String
    let text: @Sendable (FaultFigures) -> String?
  }

  /// A table for each fault, with the targets side by side.
  package static func faults(_ document: RunDocument) -> [ReportTable] {
    let all = FaultFigures.all(document)
    let keys = all.map { [$0.load, $0.words, "\($0.number)"] }.uniqued()
    return keys.flatMap { key -> [ReportTable] in
      let mine = all.filter { [$0.load, $0.words, "\($0.number)"] == key && !$0.outcomes.isEmpty }
      let count = mine.map(\.outcomes.count).max() ?? 0
      let over = count == 1 ? "one round" : "medians of \(count) rounds"
      return stride(from: 0, to: mine.count, by: mostSideBySide).map { start in
        let shown = Array(mine[start..<min(start + mostSideBySide, mine.count)])
        let columns =
          [Column<Line>.text("figure", \.name)]
          + shown.map { one -> Column<Line> in .other(one.target) { $0.text(one) } }
        return ReportTable(
          "\(key[1].prefix(1).uppercased() + key[1].dropFirst()), \(key[0]) (\(over))", columns,
          lines(of: shown),
          notes: count >= Statistics.fewestReplicates ? [interval] : [])
      }
    }
  }

  private static let interval =
    "In brackets: the interval of the median over replicates, of at least 95 %. Times start with the fault."

  private static func lines(of all: [FaultFigures]) -> [Line] {
    func counted(_ name: String, _ value: @escaping @Sendable (FaultOutcome) -> Double) -> Line {
      Line(name: name) { $0.shown(value, as: FaultFigures.number) }
    }
    func timed(
      _ name: String, none: String, never: String, _ value: @escaping @Sendable (FaultOutcome) -> Double?
    ) -> Line {
      Line(name: name) { figures in
        figures.shown(value) { $0 <= 0 ? none : $0.isFinite ? FaultFigures.time($0) : never }
      }
    }
    func has(_ counter: Counter) -> Bool { all.contains { $0.has(counter) } }
    let kinds = all.flatMap(\.failures).map(\.words).uniqued()
    let failures = kinds.compactMap { words in all.flatMap(\.failures).first { $0.words == words } }
    var lines = [counted("requests") { Double($0.counts[.sent]) }, counted("failed") { Double($0.failed) }]
    lines += failures.map { kind in counted("  \(kind.words)") { Double($0.counts[kind.counter]) } }
    let others: [(counter: Counter, words: String)] = [
      (.retries, "retried"), (.duplicates, "duplicates"), (.late, "late"),
    ]
    lines += others.filter { has($0.counter) }.map { kind in
      counted(kind.words) { Double($0.counts[kind.counter]) }
    }
    return lines + [
      timed("p50", none: "", never: "") { $0.p50Microseconds.map { $0 / 1e6 } },
      timed("slowest", none: "", never: "") { $0.mostMicroseconds.map { $0 / 1e6 } },
      timed("longest gap", none: "under 1 ms", never: "never", \.gap),
      timed("detected after", none: "at once", never: "never", \.detection),
      timed("recovered after", none: "at once", never: "never", \.comeback),
    ]
  }

  /// A row for each fault of each replicate.
  static func faultReplicates(_ document: RunDocument) -> ReportTable {
    typealias Row = (target: String, load: String, replicate: Int, outcome: FaultOutcome)
    func time(_ head: String, _ value: @escaping @Sendable (FaultOutcome) -> Double?) -> Column<Row> {
      .time(head) { value($0.outcome).map { $0 * 1e6 } }
    }
    let columns: [Column<Row>] = [
      .text("target", \.target), .text("load", \.load), .text("what") { $0.outcome.record.words },
      .other("replicate") { String($0.replicate) },
      .other("at, s") { Number.text($0.outcome.record.begunSeconds, digits: 2) },
      .count("requests", "") { $0.outcome.counts[.sent] },
      .toned("failed") { Cell(String($0.outcome.failed), $0.outcome.failed > 0 ? .bad : .plain) },
      .count("retried", "") { $0.outcome.counts[.retries] },
      .count("duplicates", "") { $0.outcome.counts[.duplicates] }, time("longest gap", \.longestGapSeconds),
      time("detected after", \.detectedSeconds), time("recovered after", \.recoveredSeconds),
      .other("recovered") { $0.outcome.recovery?.rawValue },
    ]
    let rows = FaultFigures.all(document).flatMap { figures in
      figures.outcomes.map { one -> Row in (figures.target, figures.load, one.replicate, one.outcome) }
    }
    return ReportTable("Faults, one by one", columns, rows)
  }
}

extension FaultFigures {
  /// The median and, when it adds information, its interval, such as `3 (2 to 4)`; nil when not known.
  fileprivate func shown(
    _ value: (FaultOutcome) -> Double?, as text: (Double) -> String
  ) -> String? {
    guard let summary = summary(value) else { return nil }
    let middle = text(summary.median)
    guard let low = summary.low.map(text), let high = summary.high.map(text), low != middle || high != middle
    else { return middle }
    // A unit that is the same throughout is written once.
    let unit = middle.lastIndex(of: " ").map { String(middle[$0...]) } ?? ""
    let isShared = !unit.isEmpty && low.hasSuffix(unit) && high.hasSuffix(unit)
    let ends = [low, high].map { isShared ? String($0.dropLast(unit.count)) : $0 }
    return "\(middle) (\(ends[0]) to \(ends[1]))"
  }
}

extension ResultTables {
  /// The number of times handlers saw the phase requests of the measured time, by outcome.
  static func accounting(_ document: RunDocument) -> ReportTable {
    struct Row {
      let group: MeasurementGroup
      let requests: AccountedRequests
    }
    let rows = MeasurementGroup.all(document).flatMap { group -> [Row] in
      let sum = Accounting.sum(group.measurements.compactMap(\.accounting))
      return (sum?.requests ?? []).filter(\.measured).map { Row(group: group, requests: $0) }
    }
    func count(_ head: String, _ value: @escaping @Sendable (AccountedRequests) -> UInt64) -> Column<Row> {
      .grouped(head) { Double(value($0.requests)) }
    }
    let columns: [Column<Row>] = [
      .text("target", \.group.target), .text("load", \.group.load), .text("phase", \.requests.phase),
      .text("the host says", \.requests.end), count("requests") { $0.count },
      count("never seen") { $0.never },
      count("once") { $0.once }, count("twice") { $0.twice }, count("more often") { $0.more },
      count("retries") { $0.retries },
    ]
    return ReportTable(
      "Accounting: the outcomes of phase requests, and how often handlers saw them", columns, rows,
      notes: Accounting.sentences(document))
  }
}
