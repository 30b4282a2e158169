// The tests of documented promises, their runner and their dependencies.
import Engine
import Foundation
import Lab
import NATS
import Nylon
import Results
import Scenario

/// A test of a documented promise that is not a figure. The name is the one used in `claims.yaml`.
struct PromiseTest: Sendable {
  let name: String
  let run: @Sendable (PromiseBench) throws -> BehaviourResult
}

extension PromiseTest {
  /// The workers that a promise is tested with.
  enum Pool { case underTest, standard, standardOfOnePhase }

  /// Creates a test with its own broker.
  init(
    _ name: String, pool: Pool = .underTest,
    onBroker run: @escaping @Sendable (Stage) throws -> BehaviourResult
  ) {
    self.init(name: name) { bench in
      var bench = bench
      if pool != .underTest { bench.pool = PromiseBench.standardPool }
      if pool == .standardOfOnePhase { bench.pool.phases = [.requestFilter] }
      return try Stage.with(bench, run)
    }
  }
}

enum Promises {
  /// All tests in the order in which they run, the quick ones first.
  static let all: [PromiseTest] =
    BrokerPromises.all + SettingPromises.all + HandlerPromises.all + ChangePromises.all + ScalingPromises.all

  static var names: Set<String> { Set(all.map(\.name)) }

  /// Runs each test named by the statements once. An interrupted test has no result.
  ///
  /// - Parameter onStart: receives the index, the number of tests and the name of the test.
  static func run(
    _ specs: [BehaviourSpec], bench: PromiseBench, onStart: (Int, Int, String) -> Void = { _, _, _ in },
    onResult: (BehaviourResult) throws -> Void
  ) rethrows {
    let wanted = Set(specs.compactMap(\.test))
    let tests = all.filter { wanted.contains($0.name) }
    for (place, test) in tests.enumerated() where !bench.isInterrupted() {
      onStart(place, tests.count, test.name)
      let result = result(of: test, bench)
      if !bench.isInterrupted() { try onResult(result) }
    }
  }

  private static func result(of test: PromiseTest, _ bench: PromiseBench) -> BehaviourResult {
    var result: BehaviourResult
    do {
      result = try test.run(bench)
      if let note = bench.poolNote { result.why += "; \(note)" }
    } catch let error as LabError where error.isMissing {
      result = .of(.notMeasured, "\(error)")
    } catch {
      result = .of(.inconclusive, "the test could not be run: \(error)")
    }
    result.test = test.name
    return result
  }

  /// Returns a row for each statement, except those whose test has no result.
  static func verdicts(_ specs: [BehaviourSpec], results: [BehaviourResult]) -> [ClaimVerdict] {
    specs.compactMap { spec in
      if let why = spec.notMeasured { return ClaimVerdict(of: spec, .notMeasured, why: why) }
      return results.first { $0.test == spec.test }.map { ClaimVerdict(of: spec, $0.verdict, why: $0.why) }
    }
  }
}

struct PromiseBench: Sendable {
  /// Runs the only load of a plan on its only target, in its own process. The closure gets regular glances.
  typealias RunLoad = @Sendable (Plan, (LoadGlanceAt) throws -> Void) throws -> Engine.Measurement

  /// The pool under test, which has a command to start its workers.
  var pool: Target
  /// The reason why the pool is not the scenario's; nil when it is.
  let poolNote: String?
  let request: RequestSpec
  /// The nats-server executable; nil for the installed one.
  let broker: String?
  /// Whether the broker requires a token.
  let asksForToken: Bool
  /// Whether to use shorter loads and fewer requests, which gives weaker evidence.
  let isQuick: Bool
  let runLoad: RunLoad
  let isInterrupted: @Sendable () -> Bool

  /// Creates a bench for the plan's first NATS target that starts its workers and needs no credentials or
  /// TLS, or else for `nylon-worker`.
  init(
    plan: Plan?, isQuick: Bool, runLoad: @escaping RunLoad,
    isInterrupted: @escaping @Sendable () -> Bool = { false }
  ) {
    let own = plan?.targets.first {
      $0.nats?.workers != nil && $0.nats?.tls.enabled == false && $0.nats?.auth == NATSAuth()
    }
    pool = own ?? Self.standardPool
    poolNote =
      own == nil && plan?.targets.contains { $0.transport.kind == .nats } == true
      ? "tested with nylon-worker: the scenario's pool has no workers to start, or needs credentials" : nil
    request = plan?.request ?? RequestSpec(to: "/")
    broker = plan?.broker
    asksForToken = plan?.asksForToken ?? true
    self.isQuick = isQuick
    self.runLoad = runLoad
    self.isInterrupted = isInterrupted
  }

  init(plan: Plan, isQuick: Bool, trap: SignalTrap) {
    self.init(
      plan: plan, isQuick: isQuick,
      runLoad: { load, onGlance in
        var load = load
        load.seed = plan.seed
        load.broker = plan.broker
        load.asksForToken = plan.asksForToken
        let bench = try Workbench(plan: load)
        defer { bench.tearDown() }
        // Glance often, because tests make and observe changes only at glances.
        bench.glanceInterval = .milliseconds(40)
        var failure: (any Error)?
        let measurement = try bench.measure(target: load.targets[0], load: load.loads[0], replicate: 1) {
          guard failure == nil, !trap.isSprung else { return false }
          do { try onGlance($0) } catch let error { failure = error }
          return failure == nil
        }
        if let failure { throw failure }
        return measurement
      },
      isInterrupted: { trap.isSprung })
  }

  static let standardPool = Target(
    "nats", plugin: "example", handler: "authz", .nats(NATSSpec(pool: "workers", workers: .own)),
    loads: [.closed(concurrency: 1)])

  var poolSpec: NATSSpec { pool.nats ?? NATSSpec(pool: "default") }

  /// The pool under test on these brokers, without scenario settings that would interfere with a promise. It
  /// starts no workers.
  func target(timeoutMilliseconds: Int? = nil, servers: [String]) -> Target {
    var spec = poolSpec
    (spec.servers, spec.links, spec.nodes, spec.workers) = (servers, nil, nil, nil)
    var target = pool
    target.transport = .nats(spec)
    (target.verify, target.maxInFlight, target.overflow) = (Verification(), 1024, .queue)
    (target.faults, target.objective) = (nil, nil)
    if let timeoutMilliseconds {
      for phase in Phase.session { target.policies[phase]?.timeoutMilliseconds = timeoutMilliseconds }
    }
    return target
  }

  func scaled<Value>(_ full: Value, quick: Value) -> Value { isQuick ? quick : full }

  /// Runs a load on a target. Throws when no request was sent, since such a load proves nothing.
  func load(
    _ target: Target, _ shape: LoadShape, request: RequestSpec? = nil, warmupSeconds: Double = 0,
    measureSeconds: Double, drainSeconds: Double = 1, brokers: Int = 1,
    onGlance: (LoadGlanceAt) throws -> Void = { _ in }
  ) throws -> Engine.Measurement {
    var plan = Plan(
      "promise", target, request: request ?? self.request, loads: [shape],
      warmupSeconds: warmupSeconds, measureSeconds: measureSeconds, drainSeconds: drainSeconds)
    plan.brokerCount = brokers
    let measurement = try runLoad(plan, onGlance)
    guard measurement.counts.sent > 0 else {
      let why = measurement.invalidReasons.listed("; ")
      throw NothingSent(
        description: "no request was sent to \(target.name)" + (why.isEmpty ? "" : " (\(why))"))
    }
    return measurement
  }

  private struct NothingSent: Error, CustomStringConvertible { let description: String }
}

extension Engine.Measurement {
  var counts: OutcomeCounts { request?.counts ?? OutcomeCounts() }
}

extension OutcomeCounts {
  /// Whether there were requests and every one was answered with the expected content.
  var areAllRight: Bool { self.sent > 0 && self.ok == self.sent && self.wrongContent == 0 }
}

extension BehaviourResult {
  static func of(
    _ holds: Bool, _ why: String, columns: [String] = [], rows: [[String]] = []
  ) -> BehaviourResult {
    .of(holds ? ClaimVerdict.Verdict.holds : .fails, why, columns: columns, rows: rows)
  }
}

extension Sequence {
  func listed(_ separator: String = ", ") -> String { map { "\($0)" }.joined(separator: separator) }
}

func headers(_ pairs: KeyValuePairs<String, String>) -> [KeyValue] {
  pairs.map { KeyValue(key: $0, value: $1) }
}

func shown(_ value: Double, _ digits: Int = 2) -> String { String(format: "%.\(digits)f", value) }
