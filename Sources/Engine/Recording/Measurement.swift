import Nylon
import Scenario

/// The counters of a load thread, for whole sessions and for each phase. Their order is that of the words in
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
  /// The ways in which a request ends; they add up to `sent`.
  package static let ends: [Counter] = [.ok, .handlerErrors, .timeouts, .rejected, .shed, .lost]

  package var meaning: String {
    switch self {
    case .sent: "requests scheduled within the measured time"
    case .ok: "answered, with the right content"
    case .handlerErrors: "answered with an error, or with wrong content"
    case .timeouts: "not answered within the timeout"
    case .rejected: "refused by the host because all places were taken"
    case .shed: "dropped by the host because all places were taken"
    case .lost: "no answer when the drain ended, no worker subscribed, or the connection or plugin died"
    case .late: "replies that arrived after their timeout"
    case .duplicates: "duplicate replies"
    case .unexpected: "replies that belong to no request"
    case .protocolErrors: "messages that broke the protocol: unknown methods, malformed maps"
    case .noResponders: "\"no responders\" answers of the broker; also in `lost` unless a retry succeeded"
    case .retries: "attempts after the first"
    case .wrongContent: "answers that differ from the scenario's `verify:`; also in `handler_errors`"
    case .okInWindow: "answers that arrived within the measured time, whenever they were requested"
    case .withoutStamps: "replies without the worker's stamps"
    case .impossibleStamps: "replies with impossible stamps"
    }
  }
}

/// The outcomes of requests. The counts close when `sent` is the sum of the six outcomes.
@dynamicMemberLookup
package struct OutcomeCounts: Codable, Sendable, Equatable {
  private var values = [UInt64](repeating: 0, count: Counter.outcomes.count)

  package init() {}

  /// One of `Counter.outcomes`.
  package subscript(counter: Counter) -> UInt64 {
    get { values[counter.rawValue] }
    set { values[counter.rawValue] = newValue }
  }

  /// Short forms, such as `counts.sent`, for code that names these counters; a new counter does not need one.
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

  /// The sum of the six outcomes.
  package var ended: UInt64 { Counter.ends.reduce(0) { $0 &+ self[$1] } }
  package var closes: Bool { self[.sent] == ended }
  /// More than any load counts, and small enough that no sum of such counts overflows: ten million requests
  /// per second for twenty days.
  package static let most: UInt64 = 1 << 44

  package init(from decoder: any Decoder) throws {
    let named = try [String: UInt64](from: decoder)
    for counter in Counter.outcomes {
      // Older runs lack newer counters; without the others, counts do not close.
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
  /// `request` for the session, otherwise the phase's subject fragment.
  package var scope: String
  package var counts: OutcomeCounts
  /// Answers (ok) that arrived within the measured time, whenever they were requested: the throughput.
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

/// One interval of a measurement, with the sessions that ended in it.
package struct MeasurementWindow: Codable, Sendable, Equatable {
  /// Seconds from the start of the measured time.
  package var startSeconds: Double
  /// Length, seconds.
  package var durationSeconds: Double
  /// Sessions that ended in the interval with an answer (ok) or without one (timeout).
  package var completed: UInt64
  /// Percentiles of the response time, nanoseconds; nil when too few samples lie beyond.
  package var p50Nanoseconds, p99Nanoseconds: UInt64?
  /// The greatest response time, nanoseconds; nil when nothing ended.
  package var maxNanoseconds: UInt64?
  /// CPU time of the load process, the broker and all workers in it, nanoseconds; nil when not measured.
  package var cpuGeneratorNanoseconds, cpuBrokerNanoseconds, cpuWorkersNanoseconds: UInt64?
  /// Resident memory of the load process at the interval's end, bytes; nil when not measured.
  package var residentGeneratorBytes: UInt64?
  /// Sessions that failed in the interval, and those that timed out; nil in runs that did not keep them.
  package var failed, timeouts: UInt64?
  /// Outcomes and events in the interval, the last one including the drain; nil in loads without faults.
  package var counts: OutcomeCounts?
  /// The longest time over 1 ms without an answer, while requests were in flight, that ended in the interval,
  /// nanoseconds; nil when there was none, and in loads without faults.
  package var longestGapNanoseconds: UInt64?
  /// The time of the first failed attempt, including retried ones, or lost connection in the interval,
  /// seconds from the start of the measured time; nil when there was none, and in loads without faults.
  package var firstTroubleSeconds: Double?

  package var endSeconds: Double { startSeconds + durationSeconds }
  /// Sessions answered without error in the interval; nil when unknown.
  package var answers: UInt64? { timeouts.map { completed - min(completed, $0) } }
  /// Nil when unknown.
  package var answersPerSecond: Double? {
    durationSeconds > 0 ? answers.map { Double($0) / durationSeconds } : nil
  }
}

/// One target under one load, once.
package struct Measurement: Codable, Sendable, Equatable {
  package var target: String
  package var transport: TransportKind
  package var handler: String
  /// The load's label, such as `closed-64`.
  package var load: String
  /// The rate of an open load, or the average rate of a ramp, in requests per second; nil in a closed load.
  package var offeredRatePerSecond: Double?
  /// Sessions in flight of a closed load, or the maximum of an open one.
  package var concurrency: Int
  /// Workers of the pool; nil when there is no pool or the run did not start its workers.
  package var workers: Int?
  /// The size of the request's body, bytes.
  package var payloadBytes: Int
  /// 1 for the first replicate.
  package var replicate: Int
  /// Seconds of the measured time.
  package var durationSeconds: Double
  /// `request` first, then each phase in order, then `initialize` if the host sends such requests.
  package var scopes: [ScopeMeasurement] = []
  /// The measured time in equal intervals.
  package var windows: [MeasurementWindow] = []
  /// CPU time of the load process, the broker and all workers during the measured time, nanoseconds; nil when
  /// not measured.
  package var cpuGeneratorNanoseconds, cpuBrokerNanoseconds, cpuWorkersNanoseconds: UInt64?
  /// Bytes allocated by the load threads during the measured time (jemalloc); nil when not measured.
  package var allocatedBytes: UInt64?
  /// Memory and context switches of the load process, of the broker and of all workers together, if the run
  /// started them; nil when not measured.
  package var generator, broker, workerProcesses: ProcessCosts?
  /// The activity that the broker's monitoring reported; nil when unknown.
  package var brokerActivity: BrokerActivity?
  /// The activity of each broker of a cluster, in order; nil when the run started no cluster.
  package var nodes: [NodeActivity]?
  /// The share of CPU time that the hypervisor stole during the measured time, 0-1; nil when unknown.
  package var stealShare: Double?
  /// Empty when the measurement is valid.
  package var invalidReasons: [InvalidReason] = []
  /// Remarks that do not make the measurement invalid.
  package var warnings: [String] = []
  /// The generator's NATS client: `native`, or `libnats` in older runs; nil for FFI, and when unknown.
  package var client: String?
  /// NATS connections of the generator; nil for FFI, and when unknown.
  package var connections: Int?
  /// The dialect that the workers spoke; nil for FFI, and when unknown.
  package var dialect: Dialect?
  /// The longest time within the measured time in which requests were in flight and none was answered; nil
  /// when no such time was long enough to count.
  package var stall: MeasuredStall?
  /// The first evidence of each kind of failure; nil when nothing failed, and when unknown.
  package var evidence: FailureEvidence?
  /// The rising rate of the load; nil for other loads.
  package var ramp: Ramp?
  /// The host's and the handlers' accounts of the same requests; nil when not requested.
  package var accounting: Accounting?
  /// Whether a rate search made the measurement, whose load the scenario does not name; nil means no.
  package var search: Bool?
  /// Whether it is the long load of a soak, or its control, which is replicate 2; nil means no.
  package var soak: Bool?
  /// The faults injected under load; nil for a load without faults.
  package var faults: [FaultRecord]?
  package var isOfSearch: Bool { search == true }

  /// The name of this package's own NATS client.
  package static let nativeClient = "native"

  /// The scope name of the `initialize` requests that a host sends before a session's phases.
  package static let initializeScope = "initialize"

  /// Whether a scope is a phase of the target's own plugin; the scope of a preceding plugin has its name
  /// before the phase's.
  package static func isOwnPhase(_ scope: String) -> Bool {
    scope != "request" && scope != initializeScope && !scope.contains(".")
  }

  /// Whether the workers send a map for each call, so that several maps per phase are normal.
  package var hasCallMaps: Bool { dialect?.traits.end == .call }
  package var request: ScopeMeasurement? { scopes.first { $0.scope == "request" } }
  /// Whether there is no reason to reject the measurement.
  package var isValid: Bool { invalidReasons.isEmpty }
  /// Whether the measurement says nothing about the target.
  package var isBroken: Bool { invalidReasons.contains { $0.code.level == .broken } }
  /// Whether the measurement must be repeated, through no fault of the target.
  package var isDisturbed: Bool { invalidReasons.contains { $0.code.level == .disturbed } }
  package func has(_ code: InvalidReason.Code) -> Bool { invalidReasons.contains { $0.code == code } }
  /// Answered requests per second within the measured time; nil when nothing was measured.
  package var throughputPerSecond: Double? {
    guard let request, durationSeconds > 0 else { return nil }
    return Double(request.okInWindow) / durationSeconds
  }
}

extension Measurement {
  /// Describes figures that a load of this order cannot have recorded; nil when there are none. A plugin
  /// shares the load process's memory and may have overwritten the record.
  package func damage(order: LoadOrder) -> String? {
    guard target == order.target.name, load == order.load.label, replicate == order.replicate,
      scopes.map(\.scope) == order.layout.scopes
    else { return "it is the record of another load" }
    // A load thread may finish late.
    guard durationSeconds >= 0, durationSeconds <= order.measureSeconds + 1 else {
      return "the measured time is \(durationSeconds) s instead of \(order.measureSeconds) s"
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
    return counts.closes ? nil : "\(scope) has \(counts.sent) sent, but \(counts.ended) that ended"
  }
}

/// The first evidence of each kind of failure. The counts say how often something failed; this says how.
package struct FailureEvidence: Codable, Sendable, Equatable {
  /// The first error text that a worker sent.
  package var workerError: String?
  /// The first difference between a response and what `verify:` asks for.
  package var contentDifference: String?
  /// The subject of the first request for which the broker found no subscriber.
  package var subjectWithoutSubscriber: String?
  /// The form of a map of another dialect, and the dialect that has such maps.
  package var otherDialect: String?
  /// Maps of another dialect, including those during the warm-up and the drain.
  package var otherDialectMaps: UInt64 = 0
  /// The dialect that a worker reported after the load, if it differs from the target's; nil otherwise.
  package var spokenDialect: Dialect?
  /// The first message that violates the protocol, in words.
  var protocolError: String?

  package init() {}

  package var isEmpty: Bool { self == FailureEvidence() }

  /// Merges the evidence of another load thread.
  package mutating func add(_ other: FailureEvidence) {
    workerError = workerError ?? other.workerError
    contentDifference = contentDifference ?? other.contentDifference
    subjectWithoutSubscriber = subjectWithoutSubscriber ?? other.subjectWithoutSubscriber
    otherDialect = otherDialect ?? other.otherDialect
    otherDialectMaps += other.otherDialectMaps
    spokenDialect = spokenDialect ?? other.spokenDialect
    protocolError = protocolError ?? other.protocolError
  }

  /// The number of maps in another dialect and their form; nil when there are none.
  package var otherDialectClause: String? {
    otherDialect.map { "\(otherDialectMaps) maps arrived in another dialect: one \($0)" }
  }

  /// One clause for each piece of evidence.
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

/// A stall, as a measurement stores it.
package struct MeasuredStall: Codable, Sendable, Equatable {
  /// Seconds from the start of the measured time.
  package var startSeconds: Double
  /// Length, seconds.
  package var seconds: Double
  /// The service time of the slowest phase answered before the stall, nanoseconds.
  package var slowestBeforeNanoseconds: UInt64
}

/// The reason why a measurement is invalid.
package struct InvalidReason: Codable, Sendable, Equatable, Hashable {
  package var code: Code
  /// The figures behind the reason, in words.
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

    /// The scope of what a reason invalidates.
    package enum Level: Sendable {
      /// The replicate: it is shown but never used.
      case broken
      /// The replicate, through no fault of the target: it is repeated.
      case disturbed
      /// The condition, when its replicates agree.
      case condition
      /// Single figures only; runs before 2026-11-27 marked the whole measurement.
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
