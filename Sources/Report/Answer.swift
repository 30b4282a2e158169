// The answer of a run: the first output on a terminal, at most 40 lines of at most 100 columns.
import Engine
import Foundation
import Lab
import Results
import Scenario

package enum Answer {
  static let mostLines = 40
  static let mostColumns = 100
  /// The number of pairs of four targets.
  private static let mostPairs = 6

  /// - Parameter folder: The run's folder, shown in the last lines.
  package static func text(_ document: RunDocument, folder: String, colour: Bool) -> String {
    var parts = [head(document)]
    let hasClaims = !document.claims.isEmpty
    let timeParts = ResultTables.requestParts(document)
    let network = hasClaims ? [] : ResultTables.narrowNetwork(document)
    parts += [table(timeParts, colour)]
    for series in network {
      // The first note explains a column.
      parts += [table(series, colour).dropLast() + series.notes.dropFirst().flatMap(wrapped) + [""]]
    }
    let findings = findings(document)
    let ramps = ResultTables.ramps(document)
    let faults = ResultTables.faults(document)
    parts += [findings.isEmpty ? [] : findings.flatMap { wrapped($0) } + [""]]
    parts += faults.map { table($0, colour) }
    let hasMore =
      hasClaims || !timeParts.rows.isEmpty || !network.isEmpty || !ramps.isEmpty || !faults.isEmpty
    if network.isEmpty || !comparisons(document).isEmpty {
      let most = (results: hasMore ? 6 : 20, comparisons: hasClaims ? 12 : hasMore ? 6 : 16)
      parts += [table(figures(document, most: most), colour)]
    }
    parts += [
      otherHosts(document) + furtherSubjects(document), ruleOfThumb(document),
      table(claims(document), colour).dropLast() + promises(document),
    ]
    parts += ramps.map { table($0, colour) }
    let accounts = Accounting.sentences(document).flatMap { wrapped($0) }
    parts += [accounts.isEmpty ? [] : accounts + [""]]
    parts.append(table(ResultTables.expectations(document.expectations), colour))
    // Lines that do not fit are left to the report; the last lines say where that is.
    let last = foot(document, folder)
    let lines = parts.flatMap { $0 } + last
    let kept =
      lines.count <= mostLines ? lines : Array(lines.prefix(mostLines - last.count - 1)) + ["…"] + last
    // The folder's name must stay whole, so that it can be copied.
    return (kept.dropLast().map(shortened) + kept.suffix(1)).joined(separator: "\n") + "\n"
  }

  /// The answer as the first section of a report.
  static func section(_ document: RunDocument) -> ReportSection {
    let tables = [figures(document, most: (.max, .max)), claims(document)]
    let about = head(document).filter { !$0.isEmpty }.reduce("") { text, line in
      text.isEmpty ? line : text + (line.hasPrefix("  ") ? line.dropFirst() : ". " + line)
    }
    let words = [
      [about + "."], findings(document), otherHosts(document), furtherSubjects(document),
      ruleOfThumb(document), Accounting.sentences(document), promises(document), anomalies(document),
    ].map { lines in lines.map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: " ") }
    return ReportSection(
      title: "The answer",
      paragraphs: words.filter { !$0.isEmpty },
      tables: tables.filter { !$0.rows.isEmpty })
  }

  /// Returns the line, truncated if it does not fit.
  static func shortened(_ line: String) -> String {
    // A coloured line is as wide as its table, which fits.
    line.contains("\u{1b}") || ReportTable.width(line) <= mostColumns
      ? line : String(line.prefix(mostColumns - 1)) + "…"
  }

  /// The limit on sentences about faults; further ones appear only in the tables.
  private static let mostFaults = 6

  /// The findings of ramps, rate searches and faults, one sentence each.
  private static func findings(_ document: RunDocument) -> [String] {
    let courses = RampCourse.all(document)
    return FaultFigures.all(document).prefix(mostFaults).map(\.sentence)
      + ObjectiveResult.all(document).map(\.sentence) + SoakResult.all(document).map(\.sentence)
      + courses.map(\.sentence) + (courses.isEmpty ? [] : [RampCourse.caution]) + clusters(document)
  }

  /// A table's lines followed by an empty one, without its notes.
  static func table(_ table: ReportTable, _ colour: Bool) -> [String] {
    guard !table.rows.isEmpty else { return [] }
    var bare = table
    bare.notes = []
    // Saves a line when the title can move into the empty head of the first column.
    if bare.columns[0].isEmpty { (bare.columns[0], bare.title) = (bare.title, "") }
    return bare.text(colour: colour).split(separator: "\n").map(String.init) + [""]
  }

  private static func head(_ document: RunDocument) -> [String] {
    let targets = document.scenario.targets
    let plugins = targets.compactMap(\.inProcess).map { fileName($0.file) }.uniqued()
    let pools = targets.compactMap { target -> [String]? in
      guard let spec = target.nats else { return nil }
      let workers = spec.workers.map { "\($0.count) x \($0.command.map(fileName).joined(separator: " "))" }
      return [workers ?? "already running workers of '\(target.plugin)'", manner(spec)]
    }.uniqued()
    var subjects = plugins.enumerated().map { place, name in
      place > 0 ? name : (plugins.count > 1 ? "plugins " : "plugin ") + name
    }
    // A manner that all pools share is stated once.
    let isShared = Set(pools.map { $0[1] }).count == 1
    subjects += pools.enumerated().map { place, pool in
      pool[0] + (isShared && place + 1 < pools.count ? "" : pool[1])
    }
    let facts = document.machine
    let cores = facts.cores.map { "\($0) cores" }
    let machine = [facts.cpuModel, cores, facts.hypervisor].compactMap { $0 }.joined(separator: ", ")
    // Two lines at most: the second one is truncated.
    let about = lines(
      of: subjects.enumerated().map { place, subject in
        (place == 0 ? "Subjects: " : "") + subject + (place + 1 < subjects.count ? "," : "")
      })
    let rest = about.dropFirst().map { $0.dropFirst(2) }.joined(separator: " ")
    var last = "Machine: \(machine)"
    if let rounds = document.rounds {
      last += "; \(rounds.made) \(rounds.made == 1 ? "round" : "rounds")"
      if rounds.questions > 0 {
        last += ", \(rounds.questions - rounds.open) of \(rounds.questions) questions answered"
      }
      if rounds.end == "budget" { last += "; --budget was spent" }
    }
    return about.prefix(1) + (rest.isEmpty ? [] : ["  " + rest]) + wrapped(last) + [""]
  }

  private static func fileName(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }

  /// The dialect of a pool's workers and the way its host uses NATS, such as ` (stream-sdk, host: nylon)`.
  private static func manner(_ spec: NATSSpec) -> String {
    let words = [spec.dialect?.rawValue, spec.host == .nylon ? "host: nylon" : nil].compactMap { $0 }
    return words.isEmpty ? "" : " (\(words.joined(separator: ", ")))"
  }

  // MARK: Side by side

  /// The first questions of a reader, in this order, with the metrics that suit each load.
  private static let asked: [(metric: String, name: String, loads: String)] = [
    ("response_p50_us", "unloaded p50", "closed-1 "), ("response_p99_us", "unloaded p99", "closed-1 "),
    ("throughput_rps", "req/s", "closed-"), ("response_p50_us", "p50", "open-"),
    ("response_p99_us", "p99", "open-"), ("cpu_total_us", "CPU per request", "closed-64 "),
  ]

  /// The metrics that answer these questions; the others explain them.
  package static let metrics = Set(asked.map(\.metric))

  typealias Row = (name: String, row: ComparisonRow)

  static func comparisons(_ document: RunDocument) -> [Row] {
    let rows = document.comparisons.filter { row in
      !Comparison.isAA(row, document.scenario.targets)
        && !Crossover.isPart(row.a) && !Crossover.isPart(row.b)
    }
    guard let first = rows.first else { return [] }
    // The canonical run is about its first pair; the other pairs belong to claims.
    let pairs = document.claims.isEmpty ? rows.map { [$0.a, $0.b] }.uniqued() : [[first.a, first.b]]
    return askedRows(rows).filter { pairs.contains([$0.row.a, $0.row.b]) }.map { one -> Row in
      pairs.count > 1 ? ("\(one.row.a), \(one.row.b): \(one.name)", one.row) : one
    }
  }

  /// The rows that answer these questions, in the order of the questions.
  static func askedRows(_ rows: [ComparisonRow]) -> [Row] {
    asked.flatMap { metric, name, loads in
      rows.filter {
        $0.metric == metric && "\($0.condition) ".hasPrefix(loads)
          && !(metric == "throughput_rps" && $0.condition == "closed-1")
      }.map { row -> Row in
        let isPlain = loads.hasSuffix(" ") && metric != "cpu_total_us"
        return (isPlain ? name : "\(name), \(row.condition)", row)
      }
    }
  }

  /// The targets side by side, or one by one when there is nothing to compare or too many pairs to read.
  private static func figures(
    _ document: RunDocument, most: (results: Int, comparisons: Int)
  ) -> ReportTable {
    let rows = comparisons(document)
    let pairs = rows.map { [$0.row.a, $0.row.b] }.uniqued()
    guard (1...mostPairs).contains(pairs.count) else { return results(document, most: most.results) }
    let names = pairs.count == 1 ? (a: pairs[0][0], b: pairs[0][1]) : (a: "a", b: "b")
    let columns: [Column<Row>] = [
      .text("", \.name), .other(names.a) { $0.row.shown($0.row.aValue) },
      .other(names.b) { $0.row.shown($0.row.bValue) },
      .other("ratio") { Number.significant($0.row.ratio, 3) },
      .other("interval") { Number.range($0.row.ratioLow, $0.row.ratioHigh) },
      .toned("verdict") { one in
        let row = one.row
        if row.aValue == nil || row.bValue == nil {
          return Cell(SummaryRow.column(row.metric)?.percentile == nil ? "not known" : "few samples", .unsure)
        }
        return Cell(row.verdictText, row.verdict == .unclear ? .unsure : .plain)
      },
    ]
    return ReportTable(
      pairs.count == 1 ? "\(names.a) against \(names.b)" : "Side by side, a and b", columns,
      Array(rows.prefix(most.comparisons)))
  }

  private static func results(_ document: RunDocument, most: Int) -> ReportTable {
    let groups = MeasurementGroup.all(document).filter { !$0.isRamp && !$0.isOfSearch && !$0.hasFaults }
    return ReportTable(
      "Medians over rounds",
      GroupColumn.name + [
        .median("req/s", "throughput_rps"), .median("p50", "response_p50_us"),
        .median("p99", "response_p99_us"), .median("CPU", "cpu_total_us"),
        .count("errors") { $0.failures() }, .text("valid", \.validity),
      ], Array(groups.prefix(most)))
  }

  /// The unloaded latency of hosts that wait for the plugin in another way than the first target's host.
  static func otherHosts(_ document: RunDocument) -> [String] {
    guard !document.claims.isEmpty else { return [] }
    let targets = document.scenario.targets.filter { $0.spin != nil }
    return MeasurementGroup.all(document).filter { $0.load == "closed-1" }.compactMap { group in
      guard let target = targets.first(where: { $0.name == group.target }), target.spin != targets[0].spin,
        let p50 = group.median("response_p50_us")
      else { return nil }
      let way = target.spin == .on ? "stays awake while it waits" : "sleeps while it waits, as Nylon does,"
      return "\(target.name): a host that \(way) has an unloaded p50 of \(time(p50))."
    }
  }

  /// The results of optional targets in claims, such as a plugin in another language.
  static func furtherSubjects(_ document: RunDocument) -> [String] {
    guard !document.claims.isEmpty else { return [] }
    let groups = MeasurementGroup.all(document)
    return document.scenario.targets.filter(\.isOptional).compactMap { target in
      let mine = groups.filter { $0.target == target.name }
      guard let unloaded = mine.first?.median("response_p50_us"), let last = mine.last,
        let rate = SummaryRow.column("throughput_rps")?.shown(last.median("throughput_rps"))
      else { return nil }
      let verdicts = document.claims.filter { $0.isAbout(target.name) }.map(\.verdict)
        .filter { $0 != .inconclusive && $0 != .notMeasured }
      let counts = verdicts.uniqued().map { one in "\(verdicts.count { $0 == one }) \(one.rawValue)" }
      let place = mine[0].load == "closed-1" ? "unloaded" : "at \(mine[0].load)"
      return "\(target.name): p50 \(time(unloaded)) \(place), \(rate) req/s at \(last.load)"
        + (counts.isEmpty ? "." : "; verdicts: \(counts.joined(separator: ", ")).")
    }
  }

  // MARK: The rule of thumb

  /// The extra time of a NATS phase, and the handler time from which on the difference is below 10 %.
  static func ruleOfThumb(_ document: RunDocument) -> [String] {
    guard let crossover = Crossover(document) else { return [] }
    let (unloaded, least) = (crossover.unloaded, crossover.leastMicroseconds)
    var lines = [
      "A phase behind NATS takes \(time(unloaded.middle)) (\(time(unloaded.interval.low)) to "
        + "\(time(unloaded.interval.high))) longer than in process, unloaded"
        + (unloaded.includesDisturbed ? ", with disturbed replicates." : "."),
      "That is under 10 % for handler times above about \(time(least.middle)) a phase "
        + "(\(time(least.low)) to \(time(least.high))).",
    ]
    let points = [("working", crossover.working), ("waiting", crossover.waiting)].compactMap { name, point in
      point.flatMap { point in
        point.extra.map { extra in
          let shares = [extra.middle, extra.interval.low, extra.interval.high]
            .map { Number.percent($0 / point.handlerMicroseconds) ?? "?" }
          return "\(name) \(time(point.handlerMicroseconds)): \(shares[0]) (\(shares[1]) to \(shares[2]))"
            + (extra.includesDisturbed ? " with disturbed replicates" : "")
        }
      }
    }
    if !points.isEmpty { lines.append("Measured: \(points.joined(separator: "; ")).") }
    return lines + [""]
  }

  private static func time(_ microseconds: Double) -> String {
    Number.time(microseconds: microseconds) ?? "?"
  }

  // MARK: The documents

  private static func claims(_ document: RunDocument) -> ReportTable {
    let overall = document.claims.filter { $0.isOverall && $0.verdict != .holds && $0.verdict != .fails }
      .filter { !$0.documented.isEmpty }
    let columns: [Column<ClaimVerdict>] = [
      .text("", \.id), .other("documented", \.stated),
      .other("measured") { Number.significant($0.measured, 3).map { "\($0)" } },
      .other("interval") { Number.range($0.low, $0.high) },
      .toned("verdict") { Cell($0.verdict.rawValue, $0.verdict.tone) },
    ]
    return ReportTable("The documented figures", columns, overall)
  }

  static func promises(_ document: RunDocument) -> [String] {
    let all = document.claims.filter { $0.isOverall && $0.documented.isEmpty }
    guard !all.isEmpty else { return [] }
    func ids(_ verdict: ClaimVerdict.Verdict) -> [String] { all.filter { $0.verdict == verdict }.map(\.id) }
    let fails = ids(.fails)
    var lines = [
      "Promises: \(ids(.holds).count) hold, \(fails.count) fail, \(ids(.inconclusive).count) inconclusive, "
        + "\(ids(.notMeasured).count) not measured."
    ]
    for (name, list) in [("Fail: ", fails), ("Inconclusive: ", ids(.inconclusive))] where !list.isEmpty {
      lines += wrapped(name + list.joined(separator: ", "))
    }
    return lines
  }

  /// Wraps the text into lines that fit.
  package static func wrapped(_ text: String) -> [String] {
    lines(of: text.split(separator: " ").map(String.init))
  }

  /// Joins the words into lines that fit.
  private static func lines(of words: [String]) -> [String] {
    words.reduce(into: [String]()) { lines, word in
      if let last = lines.last, last.count + 1 + word.count <= mostColumns {
        lines[lines.count - 1] = last + " " + word
      } else {
        lines.append(lines.isEmpty ? word : "  " + word)
      }
    }
  }

  /// Counted anomalies other than request outcomes, such as duplicate calls; empty when there were none.
  package static func anomalies(_ document: RunDocument) -> [String] {
    let kinds: [(counter: Counter, name: String)] = [
      (.duplicates, "duplicates"), (.late, "late"), (.unexpected, "unexpected"),
      (.protocolErrors, "protocol errors"),
    ]
    let groups = MeasurementGroup.all(document).compactMap { group -> String? in
      // Several maps per phase are normal in some dialects.
      let isMany = group.measurements.contains { $0.hasCallMaps }
      let words = kinds.filter { !isMany || $0.counter != .duplicates }.compactMap { kind -> String? in
        let count = group.measurements.reduce(UInt64(0)) { $0 &+ ($1.request?.counts[kind.counter] ?? 0) }
        return count > 0 ? "\(Number.grouped(Double(count)) ?? "") \(kind.name)" : nil
      }
      return words.isEmpty ? nil : "\(group.target) \(group.load) \(words.joined(separator: ", "))"
    }
    guard !groups.isEmpty else { return [] }
    let more = groups.count > 2 ? "; \(groups.count - 2) more in summary.csv" : ""
    return wrapped("Replies or calls ending no phase: \(groups.prefix(2).joined(separator: "; "))\(more).")
  }

  private static func foot(_ document: RunDocument, _ folder: String) -> [String] {
    var lines = anomalies(document)
    let invalid = MeasurementGroup.all(document).filter { !$0.isValid && !$0.isOfSearch }
    let unusable = invalid.filter { !$0.isDrifting }.map { "\($0.target) \($0.load) (\($0.validity))" }
    if !unusable.isEmpty { lines.append("Not usable: \(unusable.listed(atMost: 2)).") }
    let drifting = invalid.filter(\.isDrifting).map { "\($0.target) \($0.load)" }
    if !drifting.isEmpty {
      lines.append("Never steady: \(drifting.listed(atMost: 2)); verdicts allow for twice the change.")
    }
    if let remedy = remedy(document) { lines.append(remedy) }
    let report = "Report: \(folder)/report.html"
    let hint = " (all tables here: --details)"
    lines.append(report.count + hint.count <= mostColumns ? report + hint : report)
    return lines
  }

  /// How to get more verdicts; nil when there are all.
  private static func remedy(_ document: RunDocument) -> String? {
    guard let rounds = document.rounds else { return nil }
    let fewest = Statistics.fewestReplicates
    // A run that ends before its first check of the questions does not know which are open.
    if rounds.made < fewest, rounds.end == "budget", !document.comparisons.isEmpty || !document.claims.isEmpty
    {
      return "No verdicts: they need \(fewest) rounds or more, and --budget was too short."
    }
    guard rounds.open > 0 else { return nil }
    return "Inconclusive or unclear: "
      + (rounds.made < fewest
        ? "a verdict needs \(fewest) rounds or more (--rounds \(fewest)..12, without --quick)."
        : "more rounds help (--rounds 6..\(max(12, rounds.made) * 2) --budget 20m), or a quieter machine.")
  }
}

extension [String] {
  /// The first few elements and the number of the others: `a, b and 3 more`.
  package func listed(atMost shown: Int) -> String {
    prefix(shown).joined(separator: ", ") + (count > shown ? " and \(count - shown) more" : "")
  }
}
