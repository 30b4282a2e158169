import NATS
import Nylon
import Scenario

/// What a load process is told to do: one target under one load, once.
///
/// It goes to the load process's standard input and nowhere else: it may hold secrets.
package struct LoadOrder: Codable, Sendable, Equatable {
  /// The target, with its handler, phases, policies and way.
  package var target: Target
  package var load: LoadShape
  package var request: RequestSpec
  /// Seconds of load before the measured time, of the measured time, and at most of waiting for answers afterwards.
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
  /// The brokers' processes, when they are ours.
  package var brokerPIDs: [Int32] = []
  /// The workers' processes, when they are ours.
  package var workerPIDs: [Int32] = []
  /// Intervals of the measured time, where they are not as many as of other loads.
  package var intervals: Int?
  /// The room for notes of all phase requests; nil where they are not accounted for.
  package var ledger: LedgerLayout?
  /// Ids of this load's NATS sessions are greater: workers that keep running may keep what they know of a
  /// session, so ids must not repeat between loads.
  package var sessionIDsAfter = SessionNumbering.lastID(atUnixNanoseconds: MonotonicClock.unixNanoseconds)

  /// Intervals of the measured time: ten, or with faults one for every 100 ms, but no more than fit into memory.
  package var windows: Int {
    if let intervals { return intervals }
    guard hasFaults else { return 10 }
    return min(max(Int((measureSeconds * 10).rounded()), 1), 600)
  }

  package var hasFaults: Bool { !target.plannedFaults.isEmpty }

  /// Sessions that may be in flight at once.
  var placeCount: Int {
    switch load {
    case .closed(let concurrency): concurrency
    case .open, .ramp: target.maxInFlight
    }
  }

  /// Chunks that the response's body comes in, which only a plugin in this process is given one by one.
  var bodyChunks: Int {
    if case .ffi = target.transport { request.bodyChunks ?? 1 } else { 1 }
  }

  /// Load threads that have work: at least a place each, and over NATS a connection each.
  var effectiveThreads: Int {
    var count = min(threads, placeCount)
    if case .nats = target.transport { count = min(count, connections) }
    return max(1, count)
  }

  /// How the results lie in shared memory.
  package var layout: RecordingLayout {
    RecordingLayout(
      threads: effectiveThreads,
      scopes: ["request"] + target.phases.map(\.subjectFragment)
        + (target.behind.map { target.phases.map($0.scope) } ?? [])
        + (target.host == .nylon ? [Measurement.initializeScope] : []),
      windows: windows, parts: target.isDecomposed ? target.transport.partNames : [])
  }

  /// What the plugin in this process that a pool's requests pass first is told to do.
  func preceding(_ plugin: PrecedingPlugin) -> LoadOrder {
    var order = self
    (order.target.transport, order.target.handler) = (.ffi(plugin.spec), plugin.handler)
    (order.target.behind, order.target.verify) = (nil, Verification())
    order.request.bodyChunks = nil
    order.threads = effectiveThreads
    return order
  }

  /// A thread's part of all places, or of all NATS connections.
  func share(of total: Int, thread: Int) -> Range<Int> {
    thread * total / effectiveThreads..<(thread + 1) * total / effectiveThreads
  }
}

extension LoadOrder {
  /// One load of a plan; its processes and brokers are still to be named.
  package init(_ plan: Plan, target: Target, load: LoadShape, replicate: Int, pluginPath: String) {
    self.init(
      target: target, load: load, request: plan.request, warmupSeconds: plan.warmupSeconds,
      measureSeconds: load.overSeconds ?? plan.measureSeconds, drainSeconds: plan.drainSeconds,
      threads: plan.threads,
      connections: target.connections ?? plan.connections, seed: plan.seed, replicate: replicate,
      pluginPath: pluginPath)
  }
}

/// What a load process brings: a measurement, or why the load could not start.
package enum LoadReply: Codable, Sendable { case measurement(Measurement), failure(LoadFailure) }

/// Why a load could not start.
package struct LoadFailure: Codable, Sendable, Equatable, Error {
  /// What kind of fault it is, which decides the command's exit code.
  package enum Kind: String, Codable, Sendable {
    /// Something needed is missing or unusable: a plugin file, a broker.
    case missing
    /// The scenario is wrong: a handler that the plugin does not have.
    case scenario
    case failed
  }

  package var kind: Kind
  /// What is wrong and what to do about it, without secrets.
  package var message: String

  package init(kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }
  /// The failure that an error of a load means.
  package init(_ error: any Error) {
    switch error {
    case let failure as LoadFailure: self = failure
    case PluginError.noSuchEntry: self.init(kind: .scenario, message: "\(error)")
    case is PluginError, is BrokerError, is SecurityFileError: self.init(kind: .missing, message: "\(error)")
    default: self.init(kind: .failed, message: "\(error)")
    }
  }
}

/// The HTTP messages of a scenario, as every session of a load carries them.
package struct RequestContent: Sendable {
  package let request: HTTPRequest
  /// What the upstream answers before a plugin changed it.
  package let response: HTTPResponse

  /// Makes both; bodies are bytes from the seed, so that runs can be told apart and repeated.
  package init(_ spec: RequestSpec, seed: UInt64) {
    var random = SplitMix64(seed: seed)
    // Printable text: a plugin may take the body for a string.
    let body = (0..<spec.bodyBytes).map { _ in UInt8(97 + random.next() % 26) }
    (request, response) = spec.messages(body: body)
  }
}
