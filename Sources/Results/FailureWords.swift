import Engine

/// Says of requests that were not answered well what became of them, what was seen, and what to do.
enum FailureWords {
  /// Why a measurement without a good answer is invalid.
  static func noAnswers(_ measurement: Measurement) -> InvalidReason {
    let sent = measurement.request?.counts.sent ?? 0
    let clauses = endings(measurement) + (measurement.evidence?.clauses ?? [])
    let seen = clauses.isEmpty ? "" : ": " + clauses.joined(separator: "; ")
    return InvalidReason(
      code: .noAnswers,
      detail: (sent == 0 ? "no request was sent and answered" : "none of \(sent) requests was answered well")
        + "\(seen). \(remedy(measurement))")
  }

  /// What failed beside the requests that were answered well.
  static func warnings(_ measurement: Measurement) -> [String] {
    guard let request = measurement.request?.counts else { return [] }
    let failed = request.ended - request.ok
    let isOverload = failed == request.rejected + request.shed
    let clauses = (isOverload ? [] : endings(measurement)) + (measurement.evidence?.clauses ?? [])
    guard !clauses.isEmpty else { return duplicates(measurement) }
    return ["\(failed) of \(request.sent) requests failed: \(clauses.joined(separator: "; "))"]
      + duplicates(measurement)
  }

  private static func duplicates(_ measurement: Measurement) -> [String] {
    guard let counts = measurement.request?.counts, counts.duplicates > 0 else { return [] }
    return [
      measurement.transport == "ffi"
        ? "\(counts.duplicates) calls ended a phase that had ended already: the plugin calls Next or End twice"
        : "\(counts.duplicates) replies came again for requests that were answered already"
    ]
  }

  /// `request_filter: timeouts 64, handler errors 3`, one for each phase in which something failed.
  private static func endings(_ measurement: Measurement) -> [String] {
    let phases = measurement.scopes.dropFirst().compactMap { scope -> String? in
      let kinds = kinds(scope.counts)
      return kinds.isEmpty ? nil : "\(scope.scope): \(kinds.joined(separator: ", "))"
    }
    // A whole session can be wrong though each of its phases was answered.
    let wrong = measurement.request.map { $0.counts.wrongContent } ?? 0
    return phases + (wrong > 0 ? ["\(wrong) responses differ from `verify:`"] : [])
  }

  private static func kinds(_ counts: OutcomeCounts) -> [String] {
    // Those without a responder are among the lost ones.
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
    if evidence.otherDialect != nil { return "Write the dialect that the workers speak as `dialect:`." }
    if evidence.contentDifference != nil { return "Correct `verify:`, or the handler." }
    if evidence.workerError != nil { return "Correct what the worker complains of." }
    if evidence.subjectWithoutSubscriber != nil {
      return "Start the workers, and compare the plugin's name and `subject_prefix:` with theirs."
    }
    let counts = measurement.request?.counts ?? OutcomeCounts()
    let isSilent = counts.timeouts + counts.lost > 0 || counts.sent == 0
    if measurement.transport == "ffi" {
      return isSilent
        ? "The plugin must call back with NEXT (1), END (2) or 105 for each phase; see that it does, and for "
          + "how long the handler runs."
        : "The plugin refuses sessions of this handler: see what register_session_stream answers."
    }
    return isSilent
      ? "Workers must publish a reply to each request's reply subject: see their log, and whether they wait "
        + "for something."
      : "See the log of the workers."
  }
}
