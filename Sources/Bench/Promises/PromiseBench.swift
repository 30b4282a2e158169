import Foundation
import Lab
import Engine
import Results
import NATS
import Nylon
import Scenario

/// A load that a promise is tried under.
struct PromiseLoad: Sendable {
  /// What is loaded; over NATS it names its servers, and its workers run already.
  var target: Target
  /// When requests are sent.
  var shape: LoadShape
  /// What each request is.
  var request: RequestSpec
  /// Seconds before the recorded time.
  var warmupSeconds: Double
  /// Seconds of the recorded time.
  var measureSeconds: Double
  /// The most seconds to wait for answers afterwards.
  var drainSeconds: Double
}

/// A look at a load under way.
struct LoadSample: Sendable, Equatable {
  /// Seconds of the recorded time so far; 0 before it.
  var measuredSeconds: Double
  /// Requests that were answered in it so far.
  var answered: UInt64
}

/// Runs a load in a process of its own; the closure sees it about twenty times a second, and ends it
/// early by false.
typealias RunPromiseLoad =
  @Sendable (PromiseLoad, (LoadSample) throws -> Bool) throws -> Engine.Measurement

/// What the tests of promises need from outside.
struct PromiseBench: Sendable {
  /// The pool under test: its own workers, group, prefix and dialect. It has workers to start.
  var pool: Target
  /// Why it is not the scenario's; nil when it is.
  var poolNote: String?
  var request: RequestSpec
  /// Shorter loads and fewer requests: shows that it works, with less to go by.
  var isQuick: Bool
  /// The program that serves as `nylon-bench`, for its worker in C.
  var program: String
  var runLoad: RunPromiseLoad
  /// Whether the user has interrupted the command.
  var isInterrupted: @Sendable () -> Bool

  /// A bench for the first NATS target of a plan that has workers to start, else for `nylon-worker`.
  init(
    plan: Plan?, isQuick: Bool, program: String, runLoad: @escaping RunPromiseLoad,
    isInterrupted: @escaping @Sendable () -> Bool = { false }
  ) {
    let own = plan?.targets.first { target in
      guard case .nats(let spec) = target.transport else { return false }
      return spec.workers != nil && !spec.tls.enabled && spec.auth == NATSAuth()
    }
    pool = own ?? Self.standardPool
    poolNote =
      own == nil && plan?.targets.contains { $0.transport.name == "nats" } == true
      ? "tried with nylon-worker: the scenario's pool has no workers to start, or needs credentials" : nil
    request = plan?.request ?? RequestSpec(to: "/")
    self.isQuick = isQuick
    self.program = program
    self.runLoad = runLoad
    self.isInterrupted = isInterrupted
  }

  /// A bench whose loads run in load processes of this command.
  init(plan: Plan, isQuick: Bool, trap: SignalTrap) {
    self.init(
      plan: plan, isQuick: isQuick, program: Executables.ownPath,
      runLoad: { load, onSample in
        let bench = try Workbench(
          plan: Plan(
            "promise", load.target, request: load.request, loads: [load.shape],
            warmupSeconds: load.warmupSeconds, measureSeconds: load.measureSeconds,
            drainSeconds: load.drainSeconds, seed: plan.seed))
        defer { bench.tearDown() }
        // A fault is done between two looks, and its end is seen in them.
        bench.glanceInterval = .milliseconds(40)
        var failure: (any Error)?
        let measurement = try bench.measure(target: load.target, load: load.shape, replicate: 1) { at in
          guard failure == nil, !trap.isSprung else { return false }
          do {
            return try onSample(
              LoadSample(measuredSeconds: at.measuredSeconds, answered: at.glance.answered))
          } catch let error {
            failure = error
            return false
          }
        }
        if let failure { throw failure }
        return measurement
      },
      isInterrupted: { trap.isSprung })
  }

  /// Whose workers a promise is tried with.
  enum Pool { case underTest, standard, standardOfOnePhase }

  /// This bench with another pool.
  func with(_ pool: Pool) -> PromiseBench {
    guard pool != .underTest else { return self }
    var bench = self
    bench.pool = Self.standardPool
    if pool == .standardOfOnePhase { bench.pool.phases = [.requestFilter] }
    return bench
  }

  /// This package's own workers.
  static let standardPool = Target(
    "nats", plugin: "example", handler: "authz",
    .nats(
      NATSSpec(pool: "workers", workers: .own)),
    loads: [.closed(concurrency: 1)])

  /// The pool's settings; the initialiser chooses a target behind NATS.
  var poolSpec: NATSSpec {
    if case .nats(let spec) = pool.transport { spec } else { NATSSpec(pool: "default") }
  }

  /// The full value, or the one of `--quick`.
  func scaled<Value>(_ full: Value, quick: Value) -> Value { isQuick ? quick : full }

  /// Runs a load on a target.
  func load(
    _ target: Target, _ shape: LoadShape, request: RequestSpec? = nil, warmupSeconds: Double = 0,
    measureSeconds: Double, drainSeconds: Double = 1, onSample: (LoadSample) throws -> Bool = { _ in true }
  ) throws -> Engine.Measurement {
    let measurement = try runLoad(
      PromiseLoad(
        target: target, shape: shape, request: request ?? self.request, warmupSeconds: warmupSeconds,
        measureSeconds: measureSeconds, drainSeconds: drainSeconds), onSample)
    guard (measurement.request?.counts.sent ?? 0) > 0 else {
      throw NothingSent(target: target.name, reasons: measurement.invalidReasons)
    }
    return measurement
  }
}

/// A load that sent nothing says nothing about what was to be tried.
struct NothingSent: Error, CustomStringConvertible {
  let target: String
  let reasons: [InvalidReason]

  var description: String {
    let why = reasons.map { "\($0)" }.joined(separator: "; ")
    return "no request was sent to \(target)" + (why.isEmpty ? "" : " (\(why))")
  }
}

/// A broker of its own for one test, and the pools and workers on it. All end with the test.
final class Stage {
  let bench: PromiseBench
  private(set) var broker: Broker
  private var pools: [WorkerPool] = []

  private init(_ bench: PromiseBench) throws {
    self.bench = bench
    broker = try Broker.start()
  }

  /// Runs a test on a fresh broker.
  static func with<Result>(_ bench: PromiseBench, _ body: (Stage) throws -> Result) throws -> Result {
    let stage = try Stage(bench)
    defer {
      // Nothing is asked of them any more: a graceful end would only take time.
      for pool in stage.pools { pool.stop(grace: .zero) }
      stage.broker.kill()
    }
    return try body(stage)
  }

  var monitor: BrokerMonitor { broker.monitor }

  /// The pool under test on this broker, with changes.
  func target(
    handler: String? = nil, group: String? = nil, plugin: String? = nil, phases: [Phase]? = nil,
    timeoutMilliseconds: Int? = nil, maxInFlight: Int = 1024
  ) -> Target {
    var target = bench.pool
    var spec = bench.poolSpec
    spec.servers = [broker.url]
    spec.links = nil
    spec.workers = nil
    if let group { spec.group = group }
    target.transport = .nats(spec)
    target.handler = handler ?? target.handler
    target.plugin = plugin ?? target.plugin
    target.phases = phases ?? target.phases
    target.verify = Verification()
    target.maxInFlight = maxInFlight
    target.overflow = .queue
    if let timeoutMilliseconds {
      for phase in Phase.session { target.policies[phase]?.timeoutMilliseconds = timeoutMilliseconds }
    }
    return target
  }

  /// Starts workers of the pool under test, and returns when they are subscribed.
  @discardableResult
  func start(_ count: Int, group: String? = nil, plugin: String? = nil) throws -> WorkerPool {
    guard case .nats(var spec) = bench.pool.transport else {
      throw LabError.invalid("The pool under test is not behind NATS", remedy: "Name a NATS target.")
    }
    spec.servers = [broker.url]
    spec.links = nil
    if let group { spec.group = group }
    spec.workers?.count = count
    var target = bench.pool
    target.plugin = plugin ?? target.plugin
    target.transport = .nats(spec)
    let pool = try WorkerPool.start(for: target, servers: spec.servers, monitor: broker.monitor)
    pools.append(pool)
    return pool
  }

  /// The subjects of a plugin.
  func subject(plugin: String? = nil) throws -> Subject {
    try Subject(prefix: bench.poolSpec.subjectPrefix, plugin: plugin ?? bench.pool.plugin)
  }

  /// Clients that subscribe to the first phase of the pool under test in a group, in the order in
  /// which they connected.
  func workerIDs(group: String? = nil, plugin: String? = nil) throws -> [UInt64] {
    let wanted = try subject(plugin: plugin).phase(bench.pool.phases.first ?? .requestFilter)
    let group = group ?? bench.poolSpec.group
    let ids = try monitor.subscriptions().filter { $0.subject == wanted && $0.group == group }.map(\.clientID)
    return Set(ids).sorted()
  }

  /// Messages that were delivered to each of these clients; 0 for one that is gone.
  func delivered(to ids: [UInt64]) throws -> [UInt64] {
    let all = try monitor.clients()
    return ids.map { id in all.first { $0.id == id }?.deliveredMessages ?? 0 }
  }

  /// As `delivered`, once the counts stand still.
  func settledDeliveries(to ids: [UInt64]) throws -> [UInt64] {
    var last = try delivered(to: ids)
    for _ in 0..<100 {
      usleep(20_000)
      let now = try delivered(to: ids)
      if now == last { return now }
      last = now
    }
    return last
  }

  /// Kills the broker, and starts another on its port after a while.
  func killBroker(backAfterSeconds: Double) throws {
    let port = broker.port
    broker.kill()
    usleep(UInt32(backAfterSeconds * 1e6))
    broker = try Broker.start(port: port)
  }
}
