/// How requests ended. `sent` closes: it is the sum of the six ends.
public struct OutcomeCounts: Codable, Sendable, Equatable {
  /// Requests that the schedule wanted within the measured time.
  public var sent: UInt64 = 0
  /// Answered, and the answer's content was right.
  public var ok: UInt64 = 0
  /// Answered with an error, or with content that was wrong.
  public var handlerErrors: UInt64 = 0
  /// Not answered within the timeout.
  public var timeouts: UInt64 = 0
  /// Refused by the host because all places were taken.
  public var rejected: UInt64 = 0
  /// Dropped by the host because all places were taken.
  public var shed: UInt64 = 0
  /// No answer when the drain ended, no worker subscribed, or the connection or plugin died.
  public var lost: UInt64 = 0

  /// Replies that came after their timeout.
  public var late: UInt64 = 0
  /// Replies that came again.
  public var duplicates: UInt64 = 0
  /// Replies to nothing that was asked.
  public var unexpected: UInt64 = 0
  /// Messages that broke the protocol: unknown methods, malformed maps.
  public var protocolErrors: UInt64 = 0
  /// "No responders" answers of the broker; each is also in `lost` unless a retry succeeded.
  public var noResponders: UInt64 = 0
  /// Attempts after the first.
  public var retries: UInt64 = 0
  /// Answers whose content was not what the scenario's `verify` asks; each is in `handlerErrors`.
  public var wrongContent: UInt64 = 0

  /// Nothing counted.
  public init() {}

  /// Adds another's counts.
  public mutating func add(_ other: OutcomeCounts) {
    sent += other.sent
    ok += other.ok
    handlerErrors += other.handlerErrors
    timeouts += other.timeouts
    rejected += other.rejected
    shed += other.shed
    lost += other.lost
    late += other.late
    duplicates += other.duplicates
    unexpected += other.unexpected
    protocolErrors += other.protocolErrors
    noResponders += other.noResponders
    retries += other.retries
    wrongContent += other.wrongContent
  }

  /// The sum of the six ends.
  public var ended: UInt64 { ok + handlerErrors + timeouts + rejected + shed + lost }
  /// Whether the counts close.
  public var closes: Bool { sent == ended }
}

/// Counts and times of whole sessions, or of one phase.
public struct ScopeMeasurement: Codable, Sendable, Equatable {
  /// `request` for the session, else the phase's subject fragment.
  public var scope: String
  /// How they ended.
  public var counts: OutcomeCounts
  /// Answers (ok) that came within the measured time, whenever they were asked: the throughput.
  public var okInWindow: UInt64
  /// done - intended.
  public var response: LatencyHistogram
  /// done - sent.
  public var service: LatencyHistogram
  /// sent - intended; empty in a closed load, where it is 0 by definition.
  public var sendLag: LatencyHistogram
  /// The service time in parts; nil where the scenario does not ask for it, and for the request.
  public var decomposition: Decomposition?

  /// A scope's results.
  public init(
    scope: String, counts: OutcomeCounts, okInWindow: UInt64, response: LatencyHistogram,
    service: LatencyHistogram, sendLag: LatencyHistogram
  ) {
    self.scope = scope
    self.counts = counts
    self.okInWindow = okInWindow
    self.response = response
    self.service = service
    self.sendLag = sendLag
  }
}

/// One interval of a measurement: sessions that ended in it.
public struct MeasurementWindow: Codable, Sendable, Equatable {
  /// Seconds from the start of the measured time.
  public var startSeconds: Double
  /// Length, seconds.
  public var durationSeconds: Double
  /// Sessions that ended in it with an answer (ok) or without one (timeout).
  public var completed: UInt64
  /// Percentiles of their response time, nanoseconds; nil when too few samples lie beyond.
  public var p50Nanoseconds: UInt64?
  /// As `p50Nanoseconds`.
  public var p99Nanoseconds: UInt64?
  /// Greatest response time, nanoseconds; nil when nothing ended.
  public var maxNanoseconds: UInt64?
  /// CPU time of the load process in it, nanoseconds; nil when not measured.
  public var cpuGeneratorNanoseconds: UInt64?
  /// CPU time of the broker, as above.
  public var cpuBrokerNanoseconds: UInt64?
  /// CPU time of all workers, as above.
  public var cpuWorkersNanoseconds: UInt64?
  /// Resident memory of the load process at its end, bytes; nil when not measured.
  public var residentGeneratorBytes: UInt64?

  /// A window, of which no costs are known.
  public init(
    startSeconds: Double, durationSeconds: Double, completed: UInt64, p50Nanoseconds: UInt64?,
    p99Nanoseconds: UInt64?, maxNanoseconds: UInt64?
  ) {
    self.startSeconds = startSeconds
    self.durationSeconds = durationSeconds
    self.completed = completed
    self.p50Nanoseconds = p50Nanoseconds
    self.p99Nanoseconds = p99Nanoseconds
    self.maxNanoseconds = maxNanoseconds
  }
}

/// One target under one load, once.
public struct Measurement: Codable, Sendable, Equatable {
  /// The target's name.
  public var target: String
  /// `ffi` or `nats`.
  public var transport: String
  /// The handler's name.
  public var handler: String
  /// Such as `closed-64`.
  public var load: String
  /// Requests per second asked of an open load; nil in a closed one.
  public var offeredRatePerSecond: Double?
  /// Sessions in flight of a closed load, or the most of an open one.
  public var concurrency: Int
  /// Workers of the pool; nil where there is none or it is not ours.
  public var workers: Int?
  /// Body bytes of the request.
  public var payloadBytes: Int
  /// 1 for the first replicate.
  public var replicate: Int
  /// Seconds of the measured time.
  public var durationSeconds: Double
  /// `request` first, then each phase in order.
  public var scopes: [ScopeMeasurement]
  /// The measured time in equal intervals.
  public var windows: [MeasurementWindow]
  /// CPU time of the load process during the measured time, nanoseconds; nil when not measured.
  public var cpuGeneratorNanoseconds: UInt64?
  /// CPU time of the broker, as above.
  public var cpuBrokerNanoseconds: UInt64?
  /// CPU time of all workers, as above.
  public var cpuWorkersNanoseconds: UInt64?
  /// Bytes allocated by the load threads during the measured time (jemalloc); nil when not measured.
  public var allocatedBytes: UInt64?
  /// Memory and context switches of the load process; nil when not measured.
  public var generator: ProcessCosts?
  /// Those of the broker, when it is ours.
  public var broker: ProcessCosts?
  /// Those of all workers together, when they are ours.
  public var workerProcesses: ProcessCosts?
  /// What the broker's own monitoring said; nil where it is not known.
  public var brokerActivity: BrokerActivity?
  /// Share of CPU time that the hypervisor took during the measured time, 0-1; nil when unknown.
  public var stealShare: Double?
  /// Empty when the measurement is valid.
  public var invalidReasons: [InvalidReason]
  /// Things to know that do not make it invalid.
  public var warnings: [String]
  /// The generator's NATS client, `native` or `libnats`; nil for FFI, and where it is not known.
  public var client: String?
  /// NATS connections of the generator; nil for FFI, and where it is not known.
  public var connections: Int?
  /// The longest time of the measured time in which requests were in flight and none was answered; nil
  /// when there was none that counts.
  public var stall: MeasuredStall?
  /// What was seen first of each way to fail; nil when nothing failed, and where it is not known.
  public var evidence: FailureEvidence?

  /// A measurement.
  public init(
    target: String, transport: String, handler: String, load: String,
    offeredRatePerSecond: Double? = nil, concurrency: Int, workers: Int? = nil, payloadBytes: Int,
    replicate: Int, durationSeconds: Double, scopes: [ScopeMeasurement] = [],
    windows: [MeasurementWindow] = [], cpuGeneratorNanoseconds: UInt64? = nil,
    cpuBrokerNanoseconds: UInt64? = nil, cpuWorkersNanoseconds: UInt64? = nil,
    allocatedBytes: UInt64? = nil, stealShare: Double? = nil, invalidReasons: [InvalidReason] = [],
    warnings: [String] = [], client: String? = nil, connections: Int? = nil
  ) {
    self.target = target
    self.transport = transport
    self.handler = handler
    self.load = load
    self.offeredRatePerSecond = offeredRatePerSecond
    self.concurrency = concurrency
    self.workers = workers
    self.payloadBytes = payloadBytes
    self.replicate = replicate
    self.durationSeconds = durationSeconds
    self.scopes = scopes
    self.windows = windows
    self.cpuGeneratorNanoseconds = cpuGeneratorNanoseconds
    self.cpuBrokerNanoseconds = cpuBrokerNanoseconds
    self.cpuWorkersNanoseconds = cpuWorkersNanoseconds
    self.allocatedBytes = allocatedBytes
    self.stealShare = stealShare
    self.invalidReasons = invalidReasons
    self.warnings = warnings
    self.client = client
    self.connections = connections
  }

  /// The whole sessions' results.
  public var request: ScopeMeasurement? { scopes.first { $0.scope == "request" } }
  /// Whether nothing speaks against the measurement.
  public var isValid: Bool { invalidReasons.isEmpty }
  /// Answered requests per second within the measured time; nil when nothing was measured.
  public var throughputPerSecond: Double? {
    guard let request, durationSeconds > 0 else { return nil }
    return Double(request.okInWindow) / durationSeconds
  }
}
