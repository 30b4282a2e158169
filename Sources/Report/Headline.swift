// The headline of a report: the cost of each target, which one to use, and whether the documents are right.
import Engine
import Results
import Scenario

struct Headline {
  /// A question and its answer.
  struct Card {
    var question: String
    /// Counts with their tones.
    var counts: [Cell]
    var sentences: [String]
  }

  /// The answer in one sentence.
  var sentence: String
  /// The reasons for the answer.
  var reasons: [String]
  var cards: [Card]

  init(_ document: RunDocument) {
    let rows = Answer.comparisons(document)
    let first = rows.first { $0.row.metric == "response_p50_us" } ?? rows.first
    let pair =
      first.map { first in rows.filter { [$0.row.a, $0.row.b] == [first.row.a, first.row.b] } } ?? []
    (sentence, reasons) = first.map { Self.compared($0, pair, document) } ?? Self.alone(document)
    if document.interrupted { reasons.append("The run was interrupted.") }
    cards = [first.map { Self.choice($0.row, pair.map(\.row), document) }, Self.documents(document)]
      .compactMap { $0 }
  }

  // MARK: Cost

  /// The names of both sides: FFI and NATS when their transports differ.
  private static func names(_ row: ComparisonRow, _ document: RunDocument) -> (a: String, b: String) {
    let transports = [row.a, row.b].map { name in
      document.scenario.targets.first { $0.name == name }?.transport.kind
    }
    return transports == [.ffi, .nats] ? ("FFI", "a NATS plugin") : ("'\(row.a)'", "'\(row.b)'")
  }

  private static func compared(
    _ first: Answer.Row, _ rows: [Answer.Row], _ document: RunDocument
  ) -> (String, [String]) {
    let row = first.row
    let (a, b) = names(row, document)
    let values = "\(first.name): \(a) \(row.shown(row.aValue) ?? "–"), \(b) \(row.shown(row.bValue) ?? "–")."
    let isUnloaded = row.condition == "closed-1" && row.metric == "response_p50_us"
    let phases = Double(document.scenario.targets.first { $0.name == row.a }?.phases.count ?? 1)
    var (sentence, reason) = ("No firm answer whether \(b) or \(a) is faster.", "\(values) Why: \(row.why).")
    if row.verdict == .same {
      sentence = "On this machine \(b) does as well as \(a)."
      reason = "\(values) The same: \(row.why)."
    } else if row.verdict == .different, isUnloaded, let extra = ExtraTime(row.a, row.b, document) {
      let way = extra.middle < 0 ? "less" : "more"
      let ends = [extra.interval.low, extra.interval.high].map { abs($0 * phases) }.sorted().map(time)
      sentence = "On this machine \(b) costs \(time(abs(extra.middle) * phases)) \(way) a request than \(a)."
      reason =
        "Measured with one request of \(Number.text(phases) ?? "") phase\(phases == 1 ? "" : "s") in flight, without "
        + "HTTP: \(ends[0]) to \(ends[1]) \(way), with at least 95 % confidence."
    } else if row.verdict == .different {
      sentence =
        "On this machine \(b) has \(Number.significant(row.ratio, 3) ?? "–") times the \(first.name) of \(a)."
      reason = values
    }
    let different = rows.map(\.row).filter { $0.verdict == .different }
    let rate = different.last { $0.metric == "throughput_rps" }.map {
      "With \($0.condition.dropFirst(7)) in flight \(a) answers \($0.shown($0.aValue) ?? "–") requests a second, \(b) "
        + "\($0.shown($0.bValue) ?? "–")."
    }
    let cost = different.first { $0.metric == "cpu_total_us" }.map {
      "\(b.prefix(1).uppercased() + b.dropFirst()) takes \(Number.significant($0.ratio, 3) ?? "–") times the CPU time "
        + "(\($0.condition)): \($0.shown($0.bValue) ?? "–") instead of \($0.shown($0.aValue) ?? "–")."
    }
    return (sentence, [reason, rate, cost].compactMap { $0 })
  }

  /// The headline of a run that compares nothing.
  private static func alone(_ document: RunDocument) -> (String, [String]) {
    let all = MeasurementGroup.all(document).filter { $0.median("throughput_rps") ?? 0 > 0 && !$0.isRamp }
    let faults = FaultFigures.all(document).map(\.sentence)
    if let first = faults.first { return (first, Array(faults.dropFirst())) }
    if all.isEmpty, let course = RampCourse.all(document).first {
      return ("On this machine \(course.sentence)", [RampCourse.caution])
    }
    let usable = all.filter(\.isValid)
    func rate(_ group: MeasurementGroup) -> Double { group.median("throughput_rps") ?? 0 }
    guard let best = (usable.isEmpty ? all : usable).max(by: { rate($0) < rate($1) }) else {
      return ("Nothing was answered in this run.", [])
    }
    let times = [("p50", "response_p50_us"), ("p99", "response_p99_us")].compactMap { name, column in
      best.median(column).map { "\(name) \(time($0))" }
    }
    return (
      "On this machine '\(best.target)' answers \(Number.grouped(rate(best)) ?? "–") requests a second.",
      [
        "Under \(best.load)\(all.count > 1 ? ", the most of this run" : ""): response time "
          + (times.isEmpty ? "not known." : times.joined(separator: ", ") + ".")
      ] + (usable.isEmpty ? ["No condition is valid, so do not rely on this figure."] : [])
    )
  }

  static func time(_ microseconds: Double) -> String {
    Number.time(microseconds: microseconds) ?? "–"
  }

  private static func counts(_ all: [(count: Int, word: String, tone: Cell.Tone)]) -> [Cell] {
    all.filter { $0.count > 0 }.map { Cell("\($0.count) \($0.word)", $0.tone) }
  }

  // MARK: Choice

  private static func choice(_ first: ComparisonRow, _ rows: [ComparisonRow], _ document: RunDocument) -> Card
  {
    let (a, b) = names(first, document)
    let worse = rows.count(where: \.isRegression)
    let subject = a == "FFI" ? "NATS" : b
    let all: [(count: Int, word: String, tone: Cell.Tone)] = [
      (worse, "worse", .bad), (rows.count { $0.verdict == .different } - worse, "better", .good),
      (rows.count { $0.verdict == .same }, "the same", .good),
      (rows.count { $0.verdict == .unclear }, "unclear", .unsure),
    ]
    let counts = counts(all.map { ($0.count, "of \(rows.count) figures: \(subject) \($0.word)", $0.tone) })
    var sentences: [String] = []
    if a == "FFI", let least = Crossover(document)?.leastMicroseconds, least.low > 0 {
      sentences = [
        "Use FFI where handlers take less than about \(time(least.middle)) a phase (\(time(least.low)) to "
          + "\(time(least.high))): NATS takes over 10 % longer there.",
        "Use either for slower handlers, and decide by what NATS promises besides speed.",
      ]
    }
    return Card(question: a == "FFI" ? "FFI or NATS?" : "\(a) or \(b)?", counts: counts, sentences: sentences)
  }

  // MARK: The documents

  private static func documents(_ document: RunDocument) -> Card? {
    let overall = document.claims.filter(\.isOverall)
    guard !overall.isEmpty else { return nil }
    let figures = overall.filter { !$0.documented.isEmpty }
    func count(_ verdict: ClaimVerdict.Verdict, _ word: String) -> (Int, String, Cell.Tone) {
      (figures.count { $0.verdict == verdict }, word, verdict.tone)
    }
    let counts = counts([
      count(.better, "better than stated"), count(.confirmed, "confirmed"),
      count(.worse, "worse than stated"),
      count(.inconclusive, "undecided"), count(.notMeasured, "not measured"),
    ])
    let kept = figures.count { $0.verdict == .confirmed || $0.verdict == .better }
    let worse = figures.filter { $0.verdict == .worse }.map(\.id)
    let disputes = document.claims.count { $0.condition == ClaimVerdict.disagreement }
    let sentences = [
      figures.isEmpty ? "" : "\(kept) of \(figures.count) documented figures are met or exceeded here.",
      worse.isEmpty ? "" : "Worse here than stated: \(worse.joined(separator: ", ")).",
      disputes == 0 ? "" : "The documents contradict each other in \(disputes) figures.",
    ]
    return Card(
      question: "Are the documents right?", counts: counts,
      sentences: [sentences.filter { !$0.isEmpty }.joined(separator: " ")]
        + Answer.promises(document).prefix(1))
  }
}
