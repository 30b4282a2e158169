// The validity of a measurement: rules that make it invalid or disturbed, late figures, and warnings.
import Engine

package enum Validity {
  /// A percentile of the response time is late when that of the send lag exceeds this share of it.
  static let lagShare = 0.1
  /// A send lag below this, in nanoseconds, cannot be distinguished from the cost of reading the clock.
  static let resolutionNanoseconds = 100.0
  /// An open load must reach this share of its rate.
  static let reachedShare = 0.98
  /// The greatest share of CPU time that the hypervisor may steal.
  static let stealShare = 0.05
  /// Little's law holds when the deviation is at most this.
  static let littleShare = 0.05
  /// A trend counts when its p is below this ...
  static let trendProbability = 0.01
  /// ... and it changes the figure by more than this share from the first to the last window.
  static let trendShare = 0.1
  /// Duplicate replies above this share of the phases indicate a dialect with several maps per phase.
  static let duplicateShare = 0.01

  /// Returns the reasons for invalidity and the warnings that follow from the measurement's own figures. The
  /// caller adds those that it alone knows (`broker_died`, `worker_died`, `plugin_crashed`, `interrupted`,
  /// `failed`).
  package static func assess(
    _ measurement: Measurement, optimisedBuild: Bool
  ) -> (reasons: [InvalidReason], warnings: [String]) {
    var reasons: [InvalidReason] = []
    if !optimisedBuild {
      reasons.append(
        InvalidReason(code: .unoptimisedBuild, detail: "built without optimisation; build with -c release"))
    }
    if let steal = measurement.stealShare, steal > stealShare {
      reasons.append(
        InvalidReason(code: .steal, detail: "the hypervisor took \(percent(steal)) of CPU time (over 5 %)"))
    }
    reasons += (measurement.faults ?? []).compactMap { fault in
      fault.error.map {
        InvalidReason(
          code: .faultFailed, detail: "fault \(fault.number), '\(fault.words)', could not be injected: \($0)")
      }
    }
    guard let request = measurement.request else { return (reasons, []) }
    if measurement.durationSeconds > 0, request.counts.ok == 0, request.okInWindow == 0,
      !measurement.failsByItsFaults
    {
      // Without answers there is nothing else to report.
      reasons.append(FailureWords.noAnswers(measurement))
      return (reasons + [otherDialect(measurement)].compactMap { $0 }, [])
    }
    reasons += [otherDialect(measurement)].compactMap { $0 }
    // Failures under a fault are expected.
    if measurement.hasFaults { return (reasons, FailureWords.warnings(measurement)) }
    reasons += [stall(measurement), saturation(request, measurement)].compactMap { $0 }
    return (
      reasons,
      [littleWarning(request, measurement)].compactMap { $0 } + FailureWords.warnings(measurement)
        + sampleWarnings(request, measurement)
    )
  }

  /// Detects answers in another dialect: the time to the first of several maps is not the time of the phase.
  private static func otherDialect(_ measurement: Measurement) -> InvalidReason? {
    guard measurement.transport == .nats, let counts = measurement.request?.counts else { return nil }
    let phases = measurement.scopes.dropFirst().reduce(UInt64(0)) { $0 + $1.counts.sent }
    let most = duplicateShare * Double(max(phases, 1))
    // A retried request may be answered more than once, and so may one that goes to an old and a new pool.
    let isOften = measurement.hasCallMaps || measurement.hasFaults
    let duplicates = isOften ? 0 : counts.duplicates - min(counts.duplicates, counts.retries)
    let foreign = measurement.evidence?.otherDialectMaps ?? 0
    let spoken = measurement.evidence?.spokenDialect?.rawValue
    guard Double(max(duplicates, foreign)) > most || spoken != nil else { return nil }
    if let spoken {
      let seen = measurement.evidence?.otherDialectClause ?? "no answer came in the target's dialect"
      return InvalidReason(
        code: .wrongDialect,
        detail: "this worker speaks \(spoken): \(seen). Write `dialect: \(spoken)` for the target")
    }
    let seen =
      measurement.evidence?.otherDialectClause
      ?? "\(duplicates) duplicate replies for \(phases) phases (over 1 %)"
    return InvalidReason(
      code: .wrongDialect,
      detail: "\(seen); the time to a phase's end is then unknown. Write the dialect that the workers "
        + "speak as the target's `dialect:`")
  }

  private static func stall(_ measurement: Measurement) -> InvalidReason? {
    guard let stall = measurement.stall else { return nil }
    let what = measurement.transport == .ffi ? "the plugin" : "the broker or the workers"
    let slowest = Number.time(microseconds: Double(stall.slowestBeforeNanoseconds) / 1000)
    return InvalidReason(
      code: .stalled,
      detail: "from \(decimal(stall.startSeconds, 2)) s of the measured time on, requests were in flight and "
        + "none was answered for \(decimal(stall.seconds, 2)) s (over 10 % of the measured time); the slowest "
        + "answer before took \(slowest ?? "?"). Find out what \(what) waited "
        + "for; a load that stands still for part of its time has no meaningful throughput or latency")
  }

  /// Compares the answers with the requests sent within the measured time, since the number of Poisson
  /// arrivals varies. When fewer were sent than chance explains (4 standard deviations), the generator itself
  /// fell short, and the nominal rate is used instead.
  private static func saturation(_ request: ScopeMeasurement, _ measurement: Measurement) -> InvalidReason? {
    // The purpose of a ramp is to find where answers fall behind, so falling behind is no defect.
    guard let rate = measurement.offeredRatePerSecond, measurement.ramp == nil else { return nil }
    let expected = rate * measurement.durationSeconds
    let sent = Double(request.counts.sent)
    let asked = sent < expected - 4 * expected.squareRoot() - 1 ? expected : sent
    let answered = Double(request.okInWindow + request.counts.handlerErrors)
    guard asked > 0, answered < reachedShare * asked else { return nil }
    // Requests in flight at either end make the answers differ from the requests by chance.
    let inFlight = asked / measurement.durationSeconds * (request.response.meanNanoseconds ?? 0) / 1e9
    guard asked - answered > 1 + 3 * (2 * inFlight).squareRoot() else { return nil }
    return InvalidReason(
      code: .saturated,
      detail: "answered \(percent(answered / asked)) of the offered rate (under 98 %): "
        + "if most replicates do, the rate is too high for the target or for the generator")
  }

  /// The share of a response time percentile due to a late generator, 0 to 1; nil when it is not late.
  static func lateShare(
    percentile: Double, lag: LatencyHistogram, response: LatencyHistogram
  ) -> Double? {
    guard let late = lag.value(atPercentile: percentile),
      let whole = response.value(atPercentile: percentile),
      Double(late) > lagShare * Double(whole), Double(late) > resolutionNanoseconds
    else { return nil }
    return min(1, Double(late) / Double(whole))
  }

  private static func littleWarning(_ request: ScopeMeasurement, _ measurement: Measurement) -> String? {
    guard measurement.offeredRatePerSecond == nil, measurement.durationSeconds > 0,
      measurement.concurrency > 0,
      let mean = request.response.meanNanoseconds
    else { return nil }
    // Throughput x mean response time is the number of requests in flight (Little 1961).
    let perSecond = Double(request.counts.ended) / measurement.durationSeconds
    let deviation = perSecond * mean / 1e9 / Double(measurement.concurrency) - 1
    guard abs(deviation) > littleShare else { return nil }
    return "Little's law: throughput x mean response time is "
      + "\(percent(abs(deviation))) \(deviation > 0 ? "over" : "under") the concurrency of "
      + "\(measurement.concurrency); "
      + (deviation < 0
        ? "the rest of the time passed between an answer and the next request"
        : "requests overlap more than the load allows, so a figure is wrong")
  }

  private static func sampleWarnings(_ request: ScopeMeasurement, _ measurement: Measurement) -> [String] {
    let perSecond = Double(request.response.count) / measurement.durationSeconds
    return [50, 90, 99, 99.9].compactMap { percentile in
      guard !request.response.isPrintable(percentile: percentile) else { return nil }
      let name = "p" + (percentile == 99.9 ? "99.9" : String(Int(percentile)))
      guard perSecond > 0, perSecond.isFinite else { return "\(name) has no samples" }
      let needed = 10 / (1 - percentile / 100)
      let more = (needed - Double(request.response.count)) / perSecond
      return "\(name) needs \(decimal(max(more, 0.1), 1)) s more: under 10 samples lie beyond it"
    }
  }

  private static func percent(_ share: Double) -> String { Number.percent(share) ?? "?" }
  private static func decimal(_ value: Double, _ digits: Int) -> String {
    Number.text(value, digits: digits) ?? "?"
  }
}

extension Measurement {
  /// Whether faults may explain a load without any successful answer: they began before any answer could
  /// come.
  fileprivate var failsByItsFaults: Bool {
    let first = faults?.compactMap(\.begunSeconds).min()
    return first.map { $0 < windows.first?.durationSeconds ?? 0 } ?? false
  }
}

/// Describes requests that did not succeed: their outcome, the evidence, and a remedy.
enum FailureWords {
  static func noAnswers(_ measurement: Measurement) -> InvalidReason {
    let sent = measurement.request?.counts.sent ?? 0
    let clauses = endings(measurement) + (measurement.evidence?.clauses ?? [])
    let seen = clauses.isEmpty ? "" : ": " + clauses.joined(separator: "; ")
    return InvalidReason(
      code: .noAnswers,
      detail: (sent == 0 ? "no request was sent and answered" : "none of \(sent) requests succeeded")
        + "\(seen). \(remedy(measurement))")
  }

  /// The failures besides successful requests.
  static func warnings(_ measurement: Measurement) -> [String] {
    guard let counts = measurement.request?.counts else { return [] }
    let failed = counts.ended - counts.ok
    let isOverload = failed == counts.rejected + counts.shed
    let clauses = (isOverload ? [] : endings(measurement)) + (measurement.evidence?.clauses ?? [])
    let again =
      measurement.transport == .ffi
      ? "calls ended a phase that had already ended: the plugin calls Next or End twice"
      : "duplicate replies came for requests that were already answered"
    return [
      clauses.isEmpty
        ? nil : "\(failed) of \(counts.sent) requests failed: \(clauses.joined(separator: "; "))",
      counts.duplicates > 0 ? "\(counts.duplicates) \(again)" : nil,
    ].compactMap { $0 }
  }

  /// Text such as `request_filter: timeouts 64, handler errors 3`, one for each phase with failures.
  private static func endings(_ measurement: Measurement) -> [String] {
    let phases = measurement.scopes.dropFirst().compactMap { scope -> String? in
      let kinds = kinds(scope.counts)
      return kinds.isEmpty ? nil : "\(scope.scope): \(kinds.joined(separator: ", "))"
    }
    // A whole session can have wrong content although each of its phases was answered.
    let wrong = measurement.request.map { $0.counts.wrongContent } ?? 0
    return phases + (wrong > 0 ? ["\(wrong) responses differ from `verify:`"] : [])
  }

  private static func kinds(_ counts: OutcomeCounts) -> [String] {
    // Requests without a responder are also counted as lost.
    let lost = counts.lost - min(counts.lost, counts.noResponders)
    let all: [(count: UInt64, name: String)] = [
      (counts.timeouts, "timeouts"), (lost, "unanswered at the end"),
      (min(counts.lost, counts.noResponders), "without a subscriber"),
      (counts.handlerErrors, "handler errors"), (counts.protocolErrors, "replies that break the protocol"),
      (counts.rejected, "rejected"), (counts.shed, "shed"),
    ]
    return all.filter { $0.count > 0 }.map { "\($0.name) \($0.count)" }
  }

  private static func remedy(_ measurement: Measurement) -> String {
    let evidence = measurement.evidence ?? FailureEvidence()
    if let spoken = evidence.spokenDialect { return "Write `dialect: \(spoken.rawValue)`." }
    if evidence.otherDialect != nil { return "Write the dialect that the workers speak as `dialect:`." }
    if evidence.contentDifference != nil { return "Correct `verify:`, or the handler." }
    if evidence.workerError != nil { return "Correct the error that the worker reports." }
    if evidence.subjectWithoutSubscriber != nil {
      return "Start the workers, and compare the plugin's name and `subject_prefix:` with theirs."
    }
    let counts = measurement.request?.counts ?? OutcomeCounts()
    let isSilent = counts.timeouts + counts.lost > 0 || counts.sent == 0
    if measurement.transport == .ffi {
      return isSilent
        ? "The plugin must call back with NEXT (1), END (2) or 105 for each phase; check that it does, and "
          + "how long the handler runs."
        : "The plugin refuses sessions of this handler: check what register_session_stream returns."
    }
    if counts[.late] > 0 {
      return
        "Replies came after their timeout (\(counts[.late])): ask for a lower rate, start more workers, or "
        + "allow a longer timeout."
    }
    return isSilent
      ? "Workers must publish a reply to each request's reply subject: check their log, and whether they "
        + "wait for something."
      : "Check the log of the workers."
  }
}
