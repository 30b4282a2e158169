import Lab
import Results
import Testing

@testable import Scenario
@testable import Engine
@testable import Nylon

/// Loads made at random from a seed, with plugins that do everything that a plugin can do.
@Suite struct RandomLoadTests {
  @Test(arguments: 0..<40) func countsCloseAndNothingIsRecordedTwice(tens: Int) {
    for seed in UInt64(tens * 10)..<UInt64(tens * 10 + 10) {
      var script = RandomScript(seed: seed)
      let result = script.run()
      check(result, script, "seed \(seed)")
    }
  }

  private func check(_ result: SimulatedResult, _ script: RandomScript, _ seed: Comment) {
    let plugin = result.simulation
    #expect(plugin.openSessions == 0, seed)
    #expect(plugin.mostOpenSessions <= script.load.order.placeCount, seed)
    for scope in result.measurement.scopes {
      checkScope(scope, script, seed)
      if script.load.phases.count > 1, scope.scope != "request" {
        #expect(scope.counts.rejected + scope.counts.shed == 0, seed)
      }
    }
    let phases = result.measurement.scopes.dropFirst()
    #expect(phases.reduce(0) { $0 + $1.counts.ok } <= UInt64(plugin.goodEnds), seed)
    #expect(
      result.counts.retries <= UInt64(plugin.started.count { $0.attempt > 1 }), seed)
    #expect(phases.reduce(0) { $0 + $1.counts.retries } == result.counts.retries, seed)
    #expect(phases.reduce(0) { $0 + $1.counts.noResponders } == result.counts.noResponders, seed)
    #expect(result.counts.wrongContent <= result.counts.handlerErrors, seed)
    let windows = result.memory.area.layout.windows
    let recorder = result.memory.area.threadRecorder(0)
    let recorded = (0...windows).reduce(0) { $0 + recorder.response(window: $1).snapshot().count }
    #expect(recorded == result.request.response.count, seed)
    let records = (0...windows).map { recorder.record(window: $0) }
    for counter in Counter.outcomes where counter != .sent && counter != .ok {
      #expect(records.reduce(0) { $0 + $1.value(counter) } == result.counts[counter], "\(seed) \(counter)")
    }
    if script.load.warmup == 0, phases.count > 1 {
      let first = UInt64(plugin.started.count { $0.attempt == 1 })
      #expect(phases.reduce(0) { $0 + $1.counts.sent } <= first, seed)
    }
  }

  @Test(arguments: 0..<40) func theLedgerSaysWhatTheCountersSayAndEveryAttemptIsOneOfANotedRequest(tens: Int)
    throws
  {
    for seed in UInt64(tens * 10)..<UInt64(tens * 10 + 10) {
      var script = RandomScript(seed: seed)
      script.load.ledgerEntries = 50_000
      let result = script.run()
      let accounting = try #require(result.accounting)
      #expect(accounting.defects(of: result.measurement).isEmpty, "seed \(seed)")
      #expect(accounting.gap == nil && accounting.outside == 0, "seed \(seed)")
      #expect(!accounting.requests.contains { $0.end == "sent" || $0.never > 0 }, "seed \(seed)")
      for row in accounting.requests { #expect(row.handled == row.count + row.retries, "seed \(seed)") }
      let noted = accounting.requests.reduce(0) { $0 + $1.count }
      #expect(noted == UInt64(result.simulation.started.count { $0.attempt == 1 }), "seed \(seed)")
    }
  }

  private func checkScope(_ scope: ScopeMeasurement, _ script: RandomScript, _ seed: Comment) {
    let counts = scope.counts
    #expect(counts.closes, "\(seed) \(scope.scope) \(counts)")
    let answered = counts.ok + counts.timeouts
    // What the broker refused looks fast and is in no histogram; all else that has no answer is.
    if script.hasNoResponders {
      #expect(scope.response.count >= answered, seed)
      #expect(scope.response.count <= answered + counts.lost, seed)
    } else {
      #expect(scope.response.count == answered + counts.lost, "\(seed) \(scope.scope)")
    }
    #expect(scope.service.count <= scope.response.count, seed)
    guard script.load.load.isOpen else {
      #expect(scope.sendLag.isEmpty, seed)
      #expect(scope.service == scope.response, seed)
      return
    }
    #expect(scope.sendLag.count == scope.service.count, seed)
    if scope.service.count == scope.response.count {
      #expect(
        scope.response.sumNanoseconds == scope.service.sumNanoseconds + scope.sendLag.sumNanoseconds, seed)
    }
  }
}

/// A load and a plugin, made from a seed.
struct RandomScript {
  var load = SimulatedLoad()
  var hasNoResponders = false
  private var random: SplitMix64

  init(seed: UInt64) {
    random = SplitMix64(seed: seed &* 7919)
    let phases = Phase.session.filter { _ in Bool.random(using: &random) }
    load.phases = phases.isEmpty ? [.requestFilter] : phases
    load.policy = PhasePolicy(
      timeoutMilliseconds: Int.random(in: 1...50, using: &random),
      onError: ErrorAction.allCases.randomElement(using: &random) ?? .end,
      attempts: Int.random(in: 1...4, using: &random),
      backoffFirstMilliseconds: Int.random(in: 0...20, using: &random),
      backoffMostMilliseconds: Int.random(in: 0...40, using: &random))
    let places = Int.random(in: 1...12, using: &random)
    load.maxInFlight = places
    load.load =
      switch Int.random(in: 0..<4, using: &random) {
      case 0: .closed(concurrency: places)
      case 1: .open(ratePerSecond: Double.random(in: 20...2000, using: &random), arrivals: .poisson)
      case 2: .open(ratePerSecond: Double.random(in: 20...2000, using: &random), arrivals: .uniform)
      default:
        .ramp(
          Ramp(
            fromPerSecond: Double.random(in: 1...100, using: &random),
            toPerSecond: Double.random(in: 200...4000, using: &random), overSeconds: 0.2,
            arrivals: Arrivals.allCases.randomElement(using: &random) ?? .poisson))
      }
    load.overflow = OverflowPolicy.allCases.randomElement(using: &random) ?? .queue
    load.warmup = Bool.random(using: &random) ? 0 : 40 * millisecond
    load.measure = 200 * millisecond
    load.drain = UInt64.random(in: 0...100, using: &random) * millisecond
    load.windows = 2
    load.seed = seed
    hasNoResponders = Bool.random(using: &random)
  }

  mutating func run() -> SimulatedResult {
    let ends: [PhaseEnd] =
      [.next, .next, .next, .next, .end, .handlerError, .malformed] + (hasNoResponders ? [.noResponders] : [])
    let slowest = UInt64(load.policy.timeoutMilliseconds) * 3 / 2 * millisecond
    let isWithin = Bool.random(using: &random)
    let sleepiness = Bool.random(using: &random) ? 0 : 30 * millisecond
    let stopAt =
      Bool.random(using: &random)
      ? UInt64.max : load.start + UInt64.random(in: 0...240, using: &random) * millisecond
    var dice = random
    let inProcess = Bool.random(using: &random)
    return load.run { plugin, area in
      plugin.isInProcess = inProcess
      plugin.tick = 1
      plugin.answer = { _ in
        let end = ends.randomElement(using: &dice) ?? .next
        switch Int.random(in: 0..<20, using: &dice) {
        case 0: return .never
        case 1...8 where isWithin: return .within(UInt64.random(in: 0...millisecond, using: &dice), end)
        case 9: return .within(UInt64.random(in: 0...slowest, using: &dice), end)
        default: return .later(UInt64.random(in: 0...slowest, using: &dice), end)
        }
      }
      plugin.accepts = { _ in Int.random(in: 0..<10, using: &dice) > 0 }
      plugin.isRight = { _ in Int.random(in: 0..<10, using: &dice) > 0 }
      plugin.oversleep = {
        Int.random(in: 0..<10, using: &dice) == 0 ? UInt64.random(in: 0...sleepiness, using: &dice) : 0
      }
      plugin.onWait = { now in if now >= stopAt { area.measureEnd = min(area.measureEnd, now) } }
    }
  }
}
