// The effects of a load's faults, as pure functions of the recorded windows.
import Engine
import Scenario

/// The effect of one fault in one measurement.
package struct FaultOutcome: Sendable {
  /// Whether the request rate recovered.
  package enum Recovery: String, Sendable {
    /// The rate never fell below 95 %.
    case atOnce = "at once"
    case later
    case never
  }

  package let record: FaultRecord
  /// Requests and other events from the window in which the fault began to that of the next fault, or the
  /// end.
  package let counts: OutcomeCounts
  /// Seconds from the fault's start to that of the next fault, or the end.
  package let spanSeconds: Double
  /// The longest time without an answer while requests were in flight, or were lost after the load process was
  /// killed.
  package let longestGapSeconds: Double?
  /// The median and the maximum of the response times of the span's windows. A request that timed out counts
  /// with the time that it had waited.
  package let p50Microseconds, mostMicroseconds: Double?
  /// Seconds from the fault's start to the first failed attempt or lost connection; nil when there was none.
  package let detectedSeconds: Double?
  /// Seconds from the fault's start to the end of the last window with a failure; nil when none failed.
  package let failingSeconds: Double?
  /// Successful answers per second before the fault; nil when the time before it was too short.
  package let ratePerSecondBefore: Double?
  /// Nil when the span is too short or the rate before is not known.
  package let recovery: Recovery?
  /// Seconds from the fault's start to the first half second from which on every half second of the span has
  /// at least 95 % of the rate before it. 0 when the rate never fell below that, nil when it never recovered
  /// or when this is not known.
  package let recoveredSeconds: Double?

  package var failed: UInt64 { counts.ended - counts[.ok] }

  // For medians: an event that never happened sorts last, an absent failure sorts first.
  package var detection: Double { detectedSeconds ?? .infinity }
  package var failing: Double { failingSeconds ?? -.infinity }
  package var gap: Double { longestGapSeconds ?? -.infinity }
  /// Nil when not known.
  package var comeback: Double? { recovery == nil ? nil : recoveredSeconds ?? .infinity }

  /// The share of the rate before a fault that counts as recovered.
  static let recoveredShare = 0.95
  /// The period over which a rate is computed; a window of 100 ms holds too few requests.
  static let rateSeconds = 0.5
  /// The rate before a fault is that of at most these seconds, and at least of `rateSeconds`.
  static let mostSecondsBefore = 2.0

  /// The outcomes of a measurement's injected faults, in the order in which they began.
  package static func all(_ measurement: Measurement) -> [FaultOutcome] {
    let done = (measurement.faults ?? []).filter { $0.begunSeconds != nil }
      .sorted { ($0.begunSeconds ?? 0) < ($1.begunSeconds ?? 0) }
    let windows = measurement.windows.filter { $0.counts != nil }
    guard windows.count == measurement.windows.count, !windows.isEmpty else { return [] }
    let starts = done.map { fault in
      windows.lastIndex { $0.startSeconds <= fault.begunSeconds ?? 0 } ?? 0
    }
    return done.indices.map { place in
      let isLast = place + 1 == done.count
      let end = isLast ? windows.count : max(starts[place + 1], starts[place])
      return FaultOutcome(
        done[place], windows, span: starts[place]..<end, from: place > 0 ? starts[place - 1] : 0,
        until: isLast ? measurement.durationSeconds : done[place + 1].begunSeconds ?? 0)
    }
  }

  /// - Parameters:
  ///   - span: The windows from the fault's start on.
  ///   - from: The first window of the time before the fault.
  private init(
    _ record: FaultRecord, _ windows: [MeasurementWindow], span: Range<Int>, from: Int, until end: Double
  ) {
    let begun = record.begunSeconds ?? 0
    self.record = record
    spanSeconds = max(0, end - begun)
    counts = windows[span].reduce(into: OutcomeCounts()) { $0.add($1.counts ?? OutcomeCounts()) }
    p50Microseconds = Statistics.median(
      windows[span].compactMap { $0.p50Nanoseconds.map { Double($0) / 1000 } })
    mostMicroseconds = windows[span].compactMap(\.maxNanoseconds).max().map { Double($0) / 1000 }
    longestGapSeconds = windows[span].compactMap(\.longestGapNanoseconds).max().map { Double($0) / 1e9 }
    detectedSeconds = windows[span].compactMap(\.firstTroubleSeconds).first { $0 >= begun }.map { $0 - begun }
    failingSeconds = windows[span].last { ($0.counts?.ended ?? 0) > ($0.counts?[.ok] ?? 0) }.map {
      max(0, $0.endSeconds - begun)
    }
    let rates = FaultRates(windows)
    let before = (from..<span.lowerBound).suffix(max(rates.count, Int(Self.mostSecondsBefore / rates.step)))
    let known = before.count >= rates.count ? rates.answersPerSecond(before) : nil
    ratePerSecondBefore = known
    guard let rate = known, rate > 0, span.count >= rates.count else {
      (recovery, recoveredSeconds) = (nil, nil)
      return
    }
    // The rate has recovered after the last low half second.
    let halves = span.lowerBound...(span.upperBound - rates.count)
    switch halves.last(where: { rates.isLow($0, against: rate) }) {
    case nil: (recovery, recoveredSeconds) = (.atOnce, 0)
    case halves.upperBound: (recovery, recoveredSeconds) = (.never, nil)
    case let low?: (recovery, recoveredSeconds) = (.later, max(0, windows[low + 1].startSeconds - begun))
    }
  }
}

/// The rate of successful answers per half second.
private struct FaultRates {
  /// Successful answers in each window. Those after the last window are in `drained`.
  private let answers: [Double]
  private let drained: Double
  /// The length of a window in seconds; `count` windows make half a second.
  let step: Double
  let count: Int

  init(_ windows: [MeasurementWindow]) {
    let each = windows.map { Double($0.answers ?? $0.completed) }
    answers = each
    drained = (windows.last?.counts).map { Double($0[.ok]) - (each.last ?? 0) } ?? 0
    step = windows[0].durationSeconds
    count = max(1, Int((FaultOutcome.rateSeconds / step).rounded()))
  }

  func answersPerSecond(_ places: Range<Int>) -> Double {
    places.reduce(0) { $0 + answers[$1] } / (Double(places.count) * step)
  }

  /// Whether fewer than 95 % of a rate was answered in the half second that begins with a window.
  ///
  /// The next window's excess over the rate counts too, up to a full window at that rate: a pause of the
  /// machine for some milliseconds at the end of a half second only delays answers, and is not the fault.
  func isLow(_ first: Int, against rate: Double) -> Bool {
    let end = first + count
    let own = (first..<end).reduce(0) { $0 + answers[$1] }
    let late = end < answers.count ? answers[end] - rate * step : drained
    return own + min(max(late, 0), rate * step) < FaultOutcome.recoveredShare * rate * Double(count) * step
  }
}

/// One fault of a target over all replicates.
package struct FaultFigures: Sendable {
  package let target: String
  package let load: String
  /// The number of the fault within the target, from 1.
  package let number: Int
  /// The action, such as `worker killed`.
  package let words: String
  /// The outcomes by replicate, over the used replicates.
  package let outcomes: [(replicate: Int, outcome: FaultOutcome)]

  /// The faults of a run, ordered by target and fault.
  package static func all(_ document: RunDocument) -> [FaultFigures] {
    MeasurementGroup.all(document).filter(\.hasFaults).flatMap { group -> [FaultFigures] in
      let specs = document.scenario.targets.first { $0.name == group.target }?.plannedFaults ?? []
      let each = group.used.flatMap { one in
        FaultOutcome.all(one).map { (replicate: one.replicate, outcome: $0) }
      }
      let numbers = Set(group.measurements.flatMap { $0.faults ?? [] }.map(\.number)).sorted()
      return numbers.map { number in
        let mine = each.filter { $0.outcome.record.number == number }
        let words =
          specs.indices.contains(number - 1) ? specs[number - 1].words : mine.first?.outcome.record.words
        return FaultFigures(
          target: group.target, load: group.load, number: number, words: words ?? "fault \(number)",
          outcomes: mine)
      }
    }
  }

  /// The median, over the replicates in which the figure is known, and its interval of at least 95 %.
  package func summary(
    _ value: (FaultOutcome) -> Double?
  ) -> (median: Double, low: Double?, high: Double?)? {
    let values = outcomes.compactMap { value($0.outcome) }.sorted()
    guard let median = Statistics.median(values) else { return nil }
    let rank = Statistics.medianRank(values.count)
    return (median, rank.map { values[$0 - 1] }, rank.map { values[values.count - $0] })
  }
}

/// A row of faults.csv.
package struct FaultRow: Sendable {
  /// The statistic that a row shows.
  package enum Kind: String, Sendable { case median, low, high }

  let figures: FaultFigures
  /// The outcome of one replicate; nil for a row over all replicates.
  let one: (replicate: Int, outcome: FaultOutcome)?
  /// The statistic over all replicates; nil for a row of one replicate.
  let kind: Kind?

  package static func all(_ document: RunDocument) -> [FaultRow] {
    FaultFigures.all(document).flatMap { figures -> [FaultRow] in
      let each = figures.outcomes.map { FaultRow(figures: figures, one: $0, kind: nil) }
      let hasInterval = figures.outcomes.count >= Statistics.fewestReplicates
      let kinds: [Kind] = figures.outcomes.isEmpty ? [] : hasInterval ? [.median, .low, .high] : [.median]
      return each + kinds.map { FaultRow(figures: figures, one: nil, kind: $0) }
    }
  }

  /// A figure of the row; nil when it is not known, or when the timed event never happened.
  fileprivate func figure(_ value: (FaultOutcome) -> Double?) -> Double? {
    let summary = kind == nil ? nil : figures.summary(value)
    let figure =
      switch kind {
      case .median: summary?.median
      case .low: summary?.low
      case .high: summary?.high
      case nil: one.flatMap { value($0.outcome) }
      }
    return figure.flatMap { $0.isFinite ? $0 : nil }
  }

  // New columns are appended, also those of new counters.
  package static let columns =
    identity + counts[...Counter.wrongContent.rawValue] + [failed] + times
    + counts[(Counter.wrongContent.rawValue + 1)...]

  private static let identity: [Column<FaultRow>] =
    [
      .text("target", "the target's name", \.figures.target),
      .text("load", "such as `open-500-uniform`", \.figures.load),
      .count("fault", "which of the target's faults, 1 for the first", int: \.figures.number),
      .text("what", "the injected fault; for a replicate, with its actual target") {
        $0.one?.outcome.record.words ?? $0.figures.words
      },
      .text(
        "replicate",
        "its number, or `median` over the replicates used, or `low` and `high`, the ends of the median's "
          + "interval of at least 95 %"
      ) { row in row.kind?.rawValue ?? row.one.map { String($0.replicate) } },
      seconds("begun_s", "when the fault began, from the start of the measured time", \.record.begunSeconds),
      seconds(
        "over_s", "when the fault ended: continued, replaced, restarted; empty if it never ended",
        \.record.overSeconds),
      seconds("span_s", "from its beginning to that of the next fault, or to the end", \.spanSeconds),
      .number("before_rps", "successful answers before the fault, over at most 2 s", unit: "req/s") {
        $0.figure(\.ratePerSecondBefore)
      },
    ]

  private static let counts: [Column<FaultRow>] =
    Counter.outcomes.map { counter in
      count(
        counter == .sent ? "requests" : RunKeys.stored("\(counter)"),
        counter == .sent ? "requests that ended in the span" : "in the span: \(counter.meaning)",
        better: counter == .sent || counter == .ok ? .neither : .less
      ) { Double($0.counts[counter]) }
    }
  private static let failed = count("failed", "requests that failed in the span, for any reason") {
    Double($0.failed)
  }

  private static let times: [Column<FaultRow>] =
    [
      seconds(
        "longest_gap_s",
        "longest time over 1 ms without an answer while requests were in flight, or were lost after a crash; "
          + "empty if there was none",
        \.gap),
      seconds(
        "detected_s",
        "from its beginning to the first attempt that failed, even if it was retried, or the first "
          + "connection that was lost; empty if nothing failed", \.detection),
      seconds(
        "failing_s",
        "from its beginning to the end of the last interval in which a request failed; empty if none did",
        \.failing),
      seconds(
        "recovered_s",
        "from its beginning to the first half second in which 95 % of `before_rps` is answered again, and "
          + "after which no half second falls below that; 0 if none ever does, empty if the rate does not "
          + "recover",
        \.comeback),
      .text("recovered", "`at once`, `later` or `never`; empty if it is not known") { row in
        row.one?.outcome.recovery?.rawValue
      },
      .number(
        "response_p50_us", "median over the span's intervals of their median response time", unit: "us",
        better: .less
      ) { $0.figure(\.p50Microseconds) },
      .number("response_max_us", "maximum response time in the span", unit: "us", better: .less) {
        $0.figure(\.mostMicroseconds)
      },
    ]

  private static func count(
    _ name: String, _ meaning: String, better: Column<FaultRow>.Better = .less,
    _ value: @escaping @Sendable (FaultOutcome) -> Double?
  ) -> Column<FaultRow> {
    .number(name, meaning, better: better, digits: 1) { $0.figure(value) }
  }

  private static func seconds(
    _ name: String, _ meaning: String, _ value: @escaping @Sendable (FaultOutcome) -> Double?
  ) -> Column<FaultRow> {
    .number(name, meaning, unit: "s", better: .less, digits: 6) { $0.figure(value) }
  }
}
