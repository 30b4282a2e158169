import Foundation
import Nylon
import Testing

@testable import Scenario

@Suite("The faults of a scenario")
struct FaultKeyTests {
  /// A pool that the run starts, and a plugin without faults, under an open load.
  private func scenario(_ faults: String, target: String = "", more: String = "") -> String {
    """
    plugins:
      - {name: in-process, type: ffi, file: ExamplePlugin}
      - {name: pool, messaging: default, group: workers}
    messaging: [{name: default, servers: []}]
    targets:
      - {name: ffi, plugin: in-process, handler: noop, faults: []}
      - {name: nats, plugin: pool, handler: noop, workers: {count: 3, command: nylon-worker}\(target)}
    loads: [{mode: open, rate_per_second: 500, arrivals: uniform}]
    measure_seconds: 6
    faults: \(faults)
    \(more)
    """
  }

  @Test("have their values, and a target's own list replaces the scenario's")
  func values() throws {
    let plan = try load(
      scenario(
        "[{at_seconds: 2, what: kill, whom: worker}, {at_seconds: 2..3.5, what: stop, whom: worker 2, for_seconds: 1}]"
      ))
    #expect(plan.targets[0].faults == nil && plan.targets[0].plannedFaults.isEmpty)
    #expect(
      plan.targets[1].faults == [
        FaultSpec(.kill, .worker(nil), atSeconds: 2...2),
        FaultSpec(.stop, .worker(1), atSeconds: 2...3.5, forSeconds: 1),
      ])
    #expect(plan.targets[1].plannedFaults.map(\.words) == ["worker killed", "worker 2 stopped for 1 s"])
    let own = try load(scenario("[]", target: ", faults: [{at_seconds: 1, what: switch, whom: pool}]"))
    #expect(own.targets[1].faults == [FaultSpec(.switchPool, .pool, atSeconds: 1...1, count: 3)])
    #expect(try load(small).targets.allSatisfy { $0.faults == nil })
  }

  static let victims: [(String, FaultVictim)] = [
    ("worker", .worker(nil)), ("worker 3", .worker(2)), ("workers", .workers), ("broker", .broker(.any)),
    ("broker 2", .broker(.number(1))), ("broker own", .broker(.own)), ("broker other", .broker(.other)),
    ("plugin", .plugin), ("pool", .pool), ("link generator-broker", .link(.generatorBroker)),
    ("link broker-workers", .link(.brokerWorkers)), ("route 1-2", .route(0, 1)), ("route 1-3", .route(0, 2)),
  ]

  @Test("name their target, and are stored by that name", arguments: victims.indices)
  func names(place: Int) throws {
    let (text, victim) = Self.victims[place]
    #expect(FaultVictim(text) == victim && "\(victim)" == text)
    let data = try JSONEncoder().encode([victim])
    #expect(try JSONDecoder().decode([FaultVictim].self, from: data) == [victim])
  }

  @Test(
    "are refused if the text names no target",
    arguments: ["", "worker 0", "worker x", "workers 2", "route 1-1", "route 2", "link", "broker mine"])
  func nobody(text: String) { #expect(FaultVictim(text) == nil) }

  static let wrong: [(String, [String])] = [
    ("[{what: kill, whom: worker}]", ["faults.0.at_seconds: is missing", "at_seconds: 2"]),
    ("[{at_seconds: 2, whom: worker}]", ["faults.0.what: is missing", "lame_duck"]),
    ("[{at_seconds: 2, what: kill}]", ["faults.0.whom: is missing"]),
    ("[{at_seconds: 2s, what: kill, whom: worker}]", ["write at_seconds: 2"]),
    (
      "[{at_seconds: 3..2, what: kill, whom: worker}]",
      ["at_seconds = '3..2'", "write for example at_seconds: 2..3"]
    ),
    ("[{at_seconds: 2, what: kil, whom: worker}]", ["did you mean 'kill'?"]),
    ("[{at_seconds: 2, what: kill, whom: wroker}]", ["did you mean 'worker'?", "broker own"]),
    (
      "[{at_seconds: 2, what: drain, whom: broker}]",
      ["cannot be combined with what: drain", "kill worker|broker|plugin", "switch pool"]
    ),
    ("[{at_seconds: 2, what: stop, whom: worker}]", ["faults.0.for_seconds: is missing", "for_seconds: 1"]),
    (
      "[{at_seconds: 2, what: reset, whom: link generator-broker, for_seconds: 1}]",
      ["this fault has no end"]
    ),
    ("[{at_seconds: 2, what: kill, whom: worker, count: 2}]", ["is for add and switch only"]),
    ("[{at_seconds: 2, what: add, whom: worker 2}]", ["must be worker"]),
    (
      "[{at_seconds: 2, what: kill, whom: worker 9}]",
      ["is not a part of target 'nats'", "it has 3 workers"]
    ),
    (
      "[{at_seconds: 2, what: kill, whom: broker 2}]",
      ["is not a part of target 'nats'", "starts one broker"]
    ),
    (
      "[{at_seconds: 2, what: kill, whom: plugin}]",
      ["is not a part of target 'nats'", "it is reached over NATS"]
    ),
    ("[{at_seconds: 6, what: kill, whom: worker}]", ["is not before the end of the measured time (6 s)"]),
    (
      "[{at_seconds: 5, what: kill, whom: worker, for_seconds: 2}]",
      ["end after the end of the measured time (6 s)"]
    ),
    ("[{at_seconds: 2, what: kill, whom: worker, since: 2}]", ["faults.0.since: is not a key of this block"]),
    ("3", ["faults", "is a single value, not a list"]),
  ]

  @Test("that are wrong give an error that says what is wrong", arguments: wrong.indices)
  func faulty(place: Int) throws {
    let (list, parts) = Self.wrong[place]
    let text = try faults(scenario(list))
    for part in parts { #expect(text.contains(part), "\(text)") }
  }

  @Test(
    "are refused where the target cannot have them: with another load, in-process, and with parts that run already"
  )
  func refused() throws {
    let kill = "[{at_seconds: 2, what: kill, whom: worker}]"
    let closed = try faults(scenario(kill, target: ", loads: [{mode: closed, concurrency: 1}]"))
    #expect(closed.contains("need open loads, but 'nats' has closed-1") && closed.contains("faults: []"))
    let ramp = ", loads: [{mode: ramp, from_per_second: 1, to_per_second: 5, over_seconds: 3}]"
    #expect(try faults(scenario(kill, target: ramp)).contains("need open loads, but 'nats' has ramp-1-5"))
    let inProcess = scenario(kill).replacing(", faults: []", with: "")
    #expect(try faults(inProcess).contains("is not a part of target 'ffi': it is loaded in-process"))
    let running = scenario(kill).replacing("servers: []", with: "servers: [nats://127.0.0.1:4222]")
    #expect(try load(running).targets[1].plannedFaults.count == 1)
    let broker = running.replacing("whom: worker", with: "whom: broker")
    #expect(try faults(broker).contains("its servers are already running"))
    let searched = scenario(kill, more: "objective: response_p99_us < 5000")
    #expect(try faults(searched).contains("cannot be searched for 'nats' while it has faults"))
  }

  @Test("insert a link without delay if a fault needs one, and no second one if there is one")
  func links() throws {
    let fault = ", faults: [{at_seconds: 2, what: reset, whom: link generator-broker}]"
    let cut = try load(scenario("[]", target: fault)).targets[1]
    #expect(
      cut.links.isEmpty && cut.wiredLinks == [LinkSpec(between: .generatorBroker, delayMilliseconds: 0)])
    let linked = try load(scenario("[]", target: fault + ", link: {between: generator-broker, delay_ms: 1}"))
    #expect(linked.targets[1].wiredLinks == [LinkSpec(between: .generatorBroker, delayMilliseconds: 1)])
  }

  @Test("shrink with the measured time of a quick run")
  func quick() throws {
    let text = scenario("[{at_seconds: 2..4, what: kill, whom: worker, for_seconds: 2}]")
    let plan = try load(text, .init(quick: true))
    #expect(plan.measureSeconds == 3)
    #expect(plan.targets[1].faults == [FaultSpec(.kill, .worker(nil), atSeconds: 1...2, forSeconds: 1)])
  }
}
