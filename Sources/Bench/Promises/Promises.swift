// The tests of documented promises, how they are run, and what they need from outside.
import Engine
import Foundation
import Lab
import NATS
import Nylon
import Results
import Scenario

/// One test of a documented promise that is no figure, by what `claims.yaml` calls it.
struct PromiseTest: Sendable {
  let name: String
  let run: @Sendable (PromiseBench) throws -> BehaviourResult
}

extension PromiseTest {
  /// Whose workers a promise is tried with.
  enum Pool { case underTest, standard, standardOfOnePhase }

  /// A test on a broker of its own.
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
  /// In the order in which they are run: the quick ones first.
  static let all: [PromiseTest] =
    BrokerPromises.all + SettingPromises.all + HandlerPromises.all + ChangePromises.all + ScalingPromises.all

  static var names: Set<String> { Set(all.map(\.name)) }

  /// Runs the tests that the statements name, each once. One that an interruption cut short has no result.
  /// `onStart` is told each test's place, how many there are, and its name.
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
      result = .of(.inconclusive, "the test could not be done: \(error)")
    }
    result.test = test.name
    return result
  }

  /// A row for each statement; those whose test has no result are left out.
  static func verdicts(_ specs: [BehaviourSpec], results: [BehaviourResult]) -> [ClaimVerdict] {
    specs.compactMap { spec in
      if let why = spec.notMeasured { return ClaimVerdict(of: spec, .notMeasured, why: why) }
      return results.first { $0.test == spec.test }.map { ClaimVerdict(of: spec, $0.verdict, why: $0.why) }
    }
  }
}

struct PromiseBench: Sendable {
  /// Runs a plan's one load on its one target, in a process of its own; the closure sees it some twenty times a second.
  typealias RunLoad = @Sendable (Plan, (LoadGlanceAt) throws -> Void) throws -> Engine.Measurement

  /// The pool under test: its own workers, group, prefix and dialect. It has workers to start.
  var pool: Target
  /// Why it is not the scenario's; nil when it is.
  let poolNote: String?
  let request: RequestSpec
  /// The nats-server to start; nil for the machine's.
  let broker: String?
  /// Whether that takes only clients with a token.
  let asksForToken: Bool
  /// Shorter loads and fewer requests: shows that it works, with less to go by.
  let isQuick: Bool
  let runLoad: RunLoad
  let isInterrupted: @Sendable () -> Bool

  /// A bench for the first NATS target of a plan that has workers to start, else for `nylon-worker`.
  init(
    plan: Plan?, isQuick: Bool, runLoad: @escaping RunLoad,
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
        // A fault is done between two looks, and its end is seen in them.
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

  var poolSpec: NATSSpec {
    if case .nats(let spec) = pool.transport { spec } else { NATSSpec(pool: "default") }
  }

  /// The pool under test on these brokers, with nothing of the scenario's that would get into the way of a promise. It
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

  /// The full value, or the one of `--quick`.
  func scaled<Value>(_ full: Value, quick: Value) -> Value { isQuick ? quick : full }

  /// Runs a load on a target. One that sent nothing says nothing about what was to be tried.
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
  /// Whether there were sessions, and each had its answer, with the content that was asked for.
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
