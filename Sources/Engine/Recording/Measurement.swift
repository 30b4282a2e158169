import Nylon
import Scenario

/// What a load thread counts, for whole sessions and for each phase. The order is that of the words in
/// shared memory and of the columns in summary.csv: a new counter goes before `okInWindow`.
package enum Counter: Int, CaseIterable, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case sent, ok, handlerErrors, timeouts, rejected, shed, lost
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case late, duplicates, unexpected, protocolErrors, noResponders, retries, wrongContent
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case okInWindow, withoutStamps, impossibleStamps

  /// The counters of `OutcomeCounts`, which are columns of summary.csv.
  package static let outcomes = Array(allCases.prefix { $0 != .okInWindow })
  /// The ways in which a request ends; together they are `sent`.
  package static let ends: [Counter] = [.ok, .handlerErrors, .timeouts, .rejected, .shed, .lost]

  package var meaning: String {
    switch self {
    case .sent: "requests that the schedule wanted within the measured time"
    case .ok: "answered, with the right content"
    case .handlerErrors: "answered with an error, or with wrong content"
    case .timeouts: "not answered within the timeout"
    case .rejected: "refused by the host because all places were taken"
    case .shed: "dropped by the host because all places were taken"
    case .lost: "no answer when the drain ended, no worker subscribed, or the connection or plugin died"
    case .late: "replies that came after their timeout"
    case .duplicates: "replies that came again"
    case .unexpected: "replies to nothing that was asked"
    case .protocolErrors: "messages that broke the protocol: unknown methods, malformed maps"
    case .noResponders: "\"no responders\" answers of the broker; also in `lost` unless a retry succeeded"
    case .retries: "attempts after the first"
    case .wrongContent: "answers that differ from the scenario's `verify:`; also in `handler_errors`"
    case .okInWindow: "answers that came within the measured time, whenever they were asked for"
    case .withoutStamps: "replies without the worker's stamps"
    case .impossibleStamps: "replies whose stamps cannot be true"
    }
  }
}

/// How requests ended. `sent` closes: it is the sum of the six ends.
@dynamicMemberLookup
package struct OutcomeCounts: Codable, Sendable, Equatable {
  private var values = [UInt64](repeating: 0, count: Counter.outcomes.count)

  package init() {}

  /// One of `Counter.outcomes`.
  package subscript(counter: Counter) -> UInt64 {
    get { values[counter.rawValue] }
    set { values[counter.rawValue] = newValue }
  }

  /// Short forms, such as `counts.sent`, for the code that tells these counters apart; a new one does without.
  package struct ShortForms {
    package let sent = Counter.sent, ok = Counter.ok, handlerErrors = Counter.handlerErrors
    package let timeouts = Counter.timeouts, rejected = Counter.rejected
    package let shed = Counter.shed, lost = Counter.lost, late = Counter.late
    package let duplicates = Counter.duplicates, unexpected = Counter.unexpected
    package let protocolErrors = Counter.protocolErrors, noResponders = Counter.noResponders
    package let retries = Counter.retries, wrongContent = Counter.wrongContent
  }

  package subscript(dynamicMember form: KeyPath<ShortForms, Counter>) -> UInt64 {
    get { self[ShortForms()[keyPath: form]] }
    set { self[ShortForms()[keyPath: form]] = newValue }
  }

  package mutating func add(_ other: OutcomeCounts) {
    for place in values.indices { values[place] &+= other.values[place] }
  }

  /// The sum of the six ends.
  package var ended: UInt64 { Counter.ends.reduce(0) { $0 &+ self[$1] } }
  package var closes: Bool { self[.sent] == ended }
  /// More than any load counts, and little enough that no sum of such counts overflows: ten million requests a second
  /// for twenty days.
  package static let most: UInt64 = 1 << 44

  package init(from decoder: any Decoder) throws {
    let named = try [String: UInt64](from: decoder)
    for counter in Counter.outcomes {
      // A run of before a counter lacks it; without the others its counts do not close.
      guard let value = named["\(counter)"] ?? (counter.rawValue > Counter.wrongContent.rawValue ? 0 : nil)
      else {
        throw DecodingError.keyNotFound(
          "\(counter)".codingKey, .init(codingPath: decoder.codingPath, debugDescription: ""))
      }
      self[counter] = value
    }
  }

  package func encode(to encoder: any Encoder) throws {
    try Dictionary(uniqueKeysWithValues: Counter.outcomes.map { ("\($0)", self[$0]) }).encode(to: encoder)
  }
}

/// Counts and times of whole sessions, or of one phase.
package struct ScopeMeasurement: Codable, Sendable, Equatable {
  /// `request` for the session, else the phase's subject fragment.
  package var scope: String
  package var counts: OutcomeCounts
  /// Answers (ok) that came within the measured time, whenever they were asked: the throughput.
  package var okInWindow: UInt64
  /// Response time: done - intended.
  package var response: LatencyHistogram
  /// Service time: done - sent.
  package var service: LatencyHistogram
  /// Send lag: sent - intended; empty in a closed load, where it is 0 by definition.
  package var sendLag: LatencyHistogram
  /// The service time in parts; nil where the scenario does not ask for it, and for the request.
  package var decomposition: Decomposition?
}

/// One interval of a measurement: sessions that ended in it.
package struct MeasurementWindow: Codable, Sendable, Equatable {
  /// Seconds from the start of the measured time.
  package var startSeconds: Double
  /// Length, seconds.
  package var durationSeconds: Double
  /// Sessions that ended in it with an answer (ok) or without one (timeout).
  package var completed: UInt64
  /// Percentiles of their response time, nanoseconds; nil when too few samples lie beyond.
  package var p50Nanoseconds, p99Nanoseconds: UInt64?
  /// Greatest response time, nanoseconds; nil when nothing ended.
  package var maxNanoseconds: UInt64?
  /// CPU time of the load process, the broker and all workers in it, nanoseconds; nil when not measured.
  package var cpuGeneratorNanoseconds, cpuBrokerNanoseconds, cpuWorkersNanoseconds: UInt64?
  /// Resident memory of the load process at its end, bytes; nil when not measured.
  package var residentGeneratorBytes: UInt64?
  /// Sessions that ended in it and not well, and those of them that timed out; nil in runs that did not keep it.
  package var failed, timeouts: UInt64?
  /// What ended or happened in it, and in the last one also in the drain; nil in loads without faults.
  package var counts: OutcomeCounts?
  /// The longest time over 1 ms without an answer, while requests were in flight, that ended in it, nanoseconds; nil when
  /// there was none, and in loads without faults.
  package var longestGapNanoseconds: UInt64?
  /// When an attempt failed first in it, also one that was retried, or a connection was lost, seconds from the start of the
  /// measured time; nil when nothing was, and in loads without faults.
  package var firstTroubleSeconds: Double?

  /// Sessions that were answered well in it, per second; nil where that is not known.
  package var answeredPerSecond: Double? {
    guard durationSeconds > 0, let timeouts else { return nil }
    return (Double(completed) - Double(timeouts)) / durationSeconds
  }
}

/// One target under one load, once.
package struct Measurement: Codable, Sendable, Equatable {
  package var target: String
  /// `ffi` or `nats`.
  package var transport: String
  package var handler: String
  /// Such as `closed-64`.
  package var load: String
  /// Requests per second asked of an open load, on average of a ramp; nil in a closed one.
  package var offeredRatePerSecond: Double?
  /// Sessions in flight of a closed load, or the most of an open one.
  package var concurrency: Int
  /// Workers of the pool; nil where there is none or it is not ours.
  package var workers: Int?
  /// Body bytes of the request.
  package var payloadBytes: Int
  /// 1 for the first replicate.
  package var replicate: Int
  /// Seconds of the measured time.
  package var durationSeconds: Double
  /// `request` first, then each phase in order, then `initialize` where there is one.
  package var scopes: [ScopeMeasurement] = []
  /// The measured time in equal intervals.
  package var windows: [MeasurementWindow] = []
  /// CPU time of the load process, the broker and all workers during the measured time, nanoseconds; nil when not
  /// measured.
  package var cpuGeneratorNanoseconds, cpuBrokerNanoseconds, cpuWorkersNanoseconds: UInt64?
  /// Bytes allocated by the load threads during the measured time (jemalloc); nil when not measured.
  package var allocatedBytes: UInt64?
  /// Memory and context switches of the load process, of the broker, when it is ours, and of all workers together,
  /// when they are ours; nil when not measured.
  package var generator, broker, workerProcesses: ProcessCosts?
  /// What the broker's own monitoring said; nil where it is not known.
  package var brokerActivity: BrokerActivity?
  /// What the monitoring of each broker of a cluster said, in order; nil where there is no cluster of the run's own.
  package var nodes: [NodeActivity]?
  /// Share of CPU time that the hypervisor took during the measured time, 0-1; nil when unknown.
  package var stealShare: Double?
  /// Empty when the measurement is valid.
  package var invalidReasons: [InvalidReason] = []
  /// Things to know that do not make it invalid.
  package var warnings: [String] = []
  /// The generator's NATS client: `native`, or `libnats` in runs of before; nil for FFI, and where it is not
  /// known.
  package var client: String?
  /// NATS connections of the generator; nil for FFI, and where it is not known.
  package var connections: Int?
  /// What the workers spoke; nil for FFI, and where it is not known.
  package var dialect: Dialect?
  /// The longest time of the measured time in which requests were in flight and none was answered; nil
  /// when there was none that counts.
  package var stall: MeasuredStall?
  /// What was seen first of each way to fail; nil when nothing failed, and where it is not known.
  package var evidence: FailureEvidence?
  /// The rising rate of the load; nil of other loads.
  package var ramp: Ramp?
  /// What the host and the handlers say of the same requests; nil where it was not asked for.
  package var accounting: Accounting?
  /// Whether a search for a rate made it, which the scenario does not name; nil means no.
  package var search: Bool?
  /// Whether it is the long load of a soak; nil means no.
  package var soak: Bool?
  /// What was done to the target under load; nil of a load without faults.
  package var faults: [FaultRecord]?
  package var isOfSearch: Bool { search == true }

  /// What this package's own NATS client is called.
  package static let nativeClient = "native"

  /// The name of what is recorded of the `initialize` requests that a host sends before a session's phases.
  package static let initializeScope = "initialize"

  /// Whether a record is that of a phase of the target's own plugin: one that its requests pass first has its name before
  /// the phase's.
  package static func isOwnPhase(_ scope: String) -> Bool {
    scope != "request" && scope != initializeScope && !scope.contains(".")
  }

  /// Whether the workers send a map for each call, so that several maps a phase are as they should be.
  package var hasCallMaps: Bool { dialect?.traits.end == .call }
  package var request: ScopeMeasurement? { scopes.first { $0.scope == "request" } }
  /// Whether nothing speaks against the measurement.
  package var isValid: Bool { invalidReasons.isEmpty }
  /// Whether it says nothing about the target.
  package var isBroken: Bool { invalidReasons.contains { $0.code.level == .broken } }
  /// Whether it must be measured again, through no fault of the target.
  package var isDisturbed: Bool { invalidReasons.contains { $0.code.level == .disturbed } }
  package func has(_ code: InvalidReason.Code) -> Bool { invalidReasons.contains { $0.code == code } }
  /// Answered requests per second within the measured time; nil when nothing was measured.
  package var throughputPerSecond: Double? {
    guard let request, durationSeconds > 0 else { return nil }
    return Double(request.okInWindow) / durationSeconds
  }
}

extension Measurement {
  /// What a load of this order cannot have recorded; nil when there is nothing like that. A plugin shares the memory of
  /// its load process, and may have written over the record.
  package func damage(order: LoadOrder) -> String? {
    guard target == order.target.name, load == order.load.label, replicate == order.replicate,
      scopes.map(\.scope) == order.layout.scopes
    else { return "it is the record of another load" }
    // A load thread may be late at its end.
    guard durationSeconds >= 0, durationSeconds <= order.measureSeconds + 1 else {
      return "the measured time is \(durationSeconds) s, of \(order.measureSeconds) s that were asked for"
    }
    return scopes.lazy.compactMap(\.damage).first
  }
}

extension ScopeMeasurement {
  /// See ``Measurement/damage(order:)``.
  fileprivate var damage: String? {
    let figures: [(name: String, value: UInt64)] =
      Counter.outcomes.map { (name: "\($0)", value: counts[$0]) } + [
        ("okInWindow", okInWindow), ("values of the response time", response.count),
        ("values of the service time", service.count), ("values of the send lag", sendLag.count),
      ]
    if let figure = figures.first(where: { $0.value > OutcomeCounts.most }) {
      return "\(scope) has \(figure.value) \(figure.name)"
    }
    return counts.closes ? nil : "\(scope) has \(counts.sent) sent, and \(counts.ended) that ended"
  }
}

/// What was seen first of each way to fail. Counts say how often something failed; this says how.
package struct FailureEvidence: Codable, Sendable, Equatable {
  /// The first error text that a worker sent.
  package var workerError: String?
  /// The first difference between a response and what `verify:` asks for.
  package var contentDifference: String?
  /// The subject of the first request for which the broker found no subscriber.
  package var subjectWithoutSubscriber: String?
  /// What a map of another dialect looked like, and which dialect has such maps.
  package var otherDialect: String?
  /// Maps of another dialect, those during the warm-up and the drain included.
  package var otherDialectMaps: UInt64 = 0
  /// What a worker that was asked after the load speaks, when it is another dialect than the target's.
  package var spokenDialect: Dialect?
  /// The first message that breaks the protocol, in words.
  var protocolError: String?

  package init() {}

  package var isEmpty: Bool { self == FailureEvidence() }

  /// Adds what another load thread saw.
  package mutating func add(_ other: FailureEvidence) {
    workerError = workerError ?? other.workerError
    contentDifference = contentDifference ?? other.contentDifference
    subjectWithoutSubscriber = subjectWithoutSubscriber ?? other.subjectWithoutSubscriber
    otherDialect = otherDialect ?? other.otherDialect
    otherDialectMaps += other.otherDialectMaps
    spokenDialect = spokenDialect ?? other.spokenDialect
    protocolError = protocolError ?? other.protocolError
  }

  /// How many maps came in another dialect and how that shows; nil when none came.
  package var otherDialectClause: String? {
    otherDialect.map { "\(otherDialectMaps) maps came in another dialect: one \($0)" }
  }

  /// One clause for each thing that was seen.
  package var clauses: [String] {
    [
      otherDialectClause,
      spokenDialect.map { "this worker speaks \($0.rawValue)" },
      subjectWithoutSubscriber.map { "nobody is subscribed to \($0)" },
      workerError.map { "the first error of a worker: \"\($0)\"" },
      contentDifference.map { "verify: \($0)" },
      protocolError,
    ].compactMap { $0 }
  }
}

/// A stall as a measurement keeps it.
package struct MeasuredStall: Codable, Sendable, Equatable {
  /// Seconds from the start of the measured time.
  package var startSeconds: Double
  /// Length, seconds.
  package var seconds: Double
  /// The service time of the slowest phase that was answered before it, nanoseconds.
  package var slowestBeforeNanoseconds: UInt64
}

/// Why a measurement is invalid.
package struct InvalidReason: Codable, Sendable, Equatable, Hashable {
  package var code: Code
  /// The figures behind it, in words.
  package var detail: String

  package init(code: Code, detail: String) {
    self.code = code
    self.detail = detail
  }

  /// Every reason, as `summary.csv` spells it.
  package enum Code: String, Codable, Sendable, CaseIterable {
    case noAnswers = "no_answers"
    case stalled
    case wrongDialect = "wrong_dialect"
    case generatorLate = "generator_late"
    case saturated
    case neverSteady = "never_steady"
    case steal
    case shortWarmup = "short_warmup"
    case unoptimisedBuild = "unoptimised_build"
    case pluginCrashed = "plugin_crashed"
    case pluginHung = "plugin_hung"
    case workerDied = "worker_died"
    case brokerDied = "broker_died"
    case linkDied = "link_died"
    case faultFailed = "fault_failed"
    case recordingDamaged = "recording_damaged"
    case interrupted
    case failed

    /// How much a reason speaks against.
    package enum Level: Sendable {
      /// The replicate: it is shown and never used.
      case broken
      /// The replicate, through no fault of the target: it is measured again.
      case disturbed
      /// The condition, when its replicates agree.
      case condition
      /// Single figures only; runs of before 2026-11-27 marked the whole measurement.
      case figure
    }

    package var level: Level {
      switch self {
      case .steal, .shortWarmup: .disturbed
      case .saturated, .neverSteady: .condition
      case .generatorLate: .figure
      case .noAnswers, .stalled, .wrongDialect, .unoptimisedBuild, .pluginCrashed, .pluginHung, .workerDied,
        .brokerDied, .linkDied, .faultFailed, .recordingDamaged, .interrupted, .failed:
        .broken
      }
    }
  }
}

extension InvalidReason: CustomStringConvertible {
  /// `steal: the hypervisor took 7.1 % of CPU time`.
  package var description: String { "\(code.rawValue): \(detail)" }
}
