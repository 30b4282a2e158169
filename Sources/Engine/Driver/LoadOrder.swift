import NATS
import Nylon
import Scenario

/// The instructions for a load process: one target under one load, once.
///
/// Passed only through the load process's standard input, because it may contain secrets.
package struct LoadOrder: Codable, Sendable, Equatable {
  /// The target, with its handler, phases, policies and transport.
  package var target: Target
  package var load: LoadShape
  package var request: RequestSpec
  /// Seconds of warm-up, of the measured time, and at most of waiting for answers afterwards.
  package var warmupSeconds, measureSeconds, drainSeconds: Double
  package var threads: Int
  /// NATS connections of all threads.
  package var connections: Int
  /// Seed of arrivals, ids and bodies.
  package var seed: UInt64
  /// 1 for the first replicate.
  package var replicate: Int
  /// The broker's URLs; empty for FFI.
  package var servers: [String] = []
  /// The shared library's path; empty for NATS.
  package var pluginPath: String = ""
  /// The process ids of the brokers that this run started.
  package var brokerPIDs: [Int32] = []
  /// The process ids of the workers that this run started.
  package var workerPIDs: [Int32] = []
  /// The number of intervals of the measured time; nil for the default.
  package var intervals: Int?
  /// The ledger's capacity for phase requests; nil when requests are not accounted for.
  package var ledger: LedgerLayout?
  /// The ids of this load's NATS sessions are greater than this one. Workers that keep running may keep state
  /// of a session, so ids must not repeat between loads.
  package var sessionIDsAfter = SessionNumbering.lastID(atUnixNanoseconds: MonotonicClock.unixNanoseconds)

  /// The number of intervals: ten, or with faults one per 100 ms up to a limit that keeps memory small.
  package var windows: Int {
    if let intervals { return intervals }
    guard hasFaults else { return 10 }
    return min(max(Int((measureSeconds * 10).rounded()), 1), 600)
  }

  package var hasFaults: Bool { !target.plannedFaults.isEmpty }

  /// The maximum number of sessions in flight.
  var placeCount: Int {
    switch load {
    case .closed(let concurrency): concurrency
    case .open, .ramp: target.maxInFlight
    }
  }

  /// The number of chunks of the response's body; only a plugin in this process gets the body in chunks.
  var bodyChunks: Int {
    if case .ffi = target.transport { request.bodyChunks ?? 1 } else { 1 }
  }

  /// The number of load threads with work: each needs at least one slot, and over NATS one connection.
  var effectiveThreads: Int {
    var count = min(threads, placeCount)
    if case .nats = target.transport { count = min(count, connections) }
    return max(1, count)
  }

  /// The layout of the results in shared memory.
  package var layout: RecordingLayout {
    RecordingLayout(
      threads: effectiveThreads,
      scopes: ["request"] + target.phases.map(\.subjectFragment)
        + (target.behind.map { target.phases.map($0.scope) } ?? [])
        + (target.host == .nylon ? [Measurement.initializeScope] : []),
      windows: windows, parts: target.isDecomposed ? target.transport.partNames : [])
  }

  /// The order for the plugin in this process that a pool's requests pass first.
  func preceding(_ plugin: PrecedingPlugin) -> LoadOrder {
    var order = self
    (order.target.transport, order.target.handler) = (.ffi(plugin.spec), plugin.handler)
    (order.target.behind, order.target.verify) = (nil, Verification())
    order.request.bodyChunks = nil
    order.threads = effectiveThreads
    return order
  }

  /// A thread's share of all slots, or of all NATS connections.
  func share(of total: Int, thread: Int) -> Range<Int> {
    thread * total / effectiveThreads..<(thread + 1) * total / effectiveThreads
  }

  /// The times at which a thread sends requests; nil for a closed load. The seed and the replicate fix them.
  func schedule(thread: Int) -> ArrivalSchedule? {
    ArrivalSchedule(
      load, warmupSeconds: warmupSeconds, seed: seed &+ UInt64(replicate), thread: thread,
      threads: effectiveThreads)
  }
}

extension LoadOrder {
  /// Creates one load of a plan; processes and brokers are set later.
  package init(_ plan: Plan, target: Target, load: LoadShape, replicate: Int, pluginPath: String) {
    self.init(
      target: target, load: load, request: plan.request, warmupSeconds: plan.warmupSeconds,
      measureSeconds: load.overSeconds ?? plan.measureSeconds, drainSeconds: plan.drainSeconds,
      threads: plan.threads,
      connections: target.connections ?? plan.connections, seed: plan.seed, replicate: replicate,
      pluginPath: pluginPath)
  }
}

/// The answer of a load process: a measurement, or the reason why the load could not start.
package enum LoadReply: Codable, Sendable { case measurement(Measurement), failure(LoadFailure) }

/// The reason why a load could not start.
package struct LoadFailure: Codable, Sendable, Equatable, Error {
  /// The kind of failure, which determines the command's exit code.
  package enum Kind: String, Codable, Sendable {
    /// Something required is missing or unusable: a plugin file, a broker.
    case missing
    /// The scenario is wrong: for example, the plugin does not have the handler.
    case scenario
    case failed
  }

  package var kind: Kind
  /// The problem and its remedy, without secrets.
  package var message: String

  package init(kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }
  /// Converts an error of a load into a failure.
  package init(_ error: any Error) {
    switch error {
    case let failure as LoadFailure: self = failure
    case PluginError.noSuchEntry: self.init(kind: .scenario, message: "\(error)")
    case is PluginError, is BrokerError, is SecurityFileError: self.init(kind: .missing, message: "\(error)")
    default: self.init(kind: .failed, message: "\(error)")
    }
  }
}

/// The HTTP messages of a scenario, the same for every session of a load.
package struct RequestContent: Sendable {
  package let request: HTTPRequest
  /// The upstream's response, before a plugin changes it.
  package let response: HTTPResponse

  /// Creates both; body bytes come from the seed, so that runs can be told apart and repeated.
  package init(_ spec: RequestSpec, seed: UInt64) {
    var random = SplitMix64(seed: seed)
    // Printable text, because a plugin may treat the body as a string.
    let body = (0..<spec.bodyBytes).map { _ in UInt8(97 + random.next() % 26) }
    (request, response) = spec.messages(body: body)
  }
}
