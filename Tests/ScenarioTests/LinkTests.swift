import Foundation
import Nylon
import Testing

@testable import Scenario

@Suite("A network link in a scenario")
struct LinkTests {
  private func scenario(_ link: String, workers: String = "{command: nylon-worker}") -> String {
    small.replacingOccurrences(
      of: "plugin: pool}", with: "plugin: pool, workers: \(workers), link: \(link)}")
  }

  @Test("has its values, its defaults and its round trip")
  func values() throws {
    let whole = try load(
      scenario("{between: generator-broker, delay_ms: 0.5, jitter_ms: 0.1, bandwidth_mbit_per_second: 1000}"))
    #expect(
      whole.targets[1].links == [
        LinkSpec(
          between: .generatorBroker, delayMilliseconds: 0.5, jitterMilliseconds: 0.1,
          bandwidthMegabitPerSecond: 1000)
      ])
    #expect(whole.targets[1].roundTripMilliseconds == 1)
    #expect(whole.targets[0].links.isEmpty && whole.targets[0].roundTripMilliseconds == nil)
    let least = try load(scenario("{between: broker-workers, delay_ms: 2}")).targets[1]
    #expect(least.links == [LinkSpec(between: .brokerWorkers, delayMilliseconds: 2)])
    #expect(try load(small).targets[1].roundTripMilliseconds == nil)
  }

  @Test("may be on both sides of the broker, and is changed from the command line")
  func both() throws {
    let text = scenario(
      "[{between: generator-broker, delay_ms: 1}, {between: broker-workers, delay_ms: 0.25}]")
    let plan = try load(text, .init(overrides: ["targets.1.link.0.delay_ms=2"]))
    #expect(plan.targets[1].links.map(\.delayMilliseconds) == [2, 0.25])
    #expect(plan.targets[1].roundTripMilliseconds == 4.5)
    #expect(plan.warnings.isEmpty)
  }

  static let wrongLinks: [(String, [String])] = [
    ("{delay_ms: 1}", ["targets.1.link.between: is missing", "generator-broker or broker-workers"]),
    ("{between: generator-broker}", ["targets.1.link.delay_ms: is missing", "one way"]),
    (
      "{between: generator-brocker, delay_ms: 1}",
      ["targets.1.link.between", "did you mean 'generator-broker'?"]
    ),
    ("{between: generator-broker, delay_ms: 1ms}", ["targets.1.link.delay_ms = '1ms'", "write delay_ms: 1"]),
    ("{between: generator-broker, delay_ms: -1}", ["from 0 to 10000 (milliseconds)"]),
    (
      "{between: generator-broker, delay_ms: 1, jitter_ms: 2}",
      ["jitter_ms = '2'", "is over targets.1.link.delay_ms (1)"]
    ),
    (
      "{between: generator-broker, delay_ms: 1, bandwidth_mbit_per_second: 1Gbit/s}",
      ["from 1 to 100000 (megabits a second)", "write bandwidth_mbit_per_second: 1000"]
    ),
    ("{between: generator-broker, delay: 1}", ["targets.1.link.delay", "did you mean 'delay_ms'?"]),
    ("5", ["targets.1.link = '5'", "is a single value, not a mapping", "between"]),
    (
      "[{between: generator-broker, delay_ms: 1}, {between: generator-broker, delay_ms: 1}]",
      ["targets.1.link.1.between", "has a link already", "one link for each side"]
    ),
  ]

  @Test("that is wrong gives an error that says what is wrong", arguments: wrongLinks.indices)
  func wrong(place: Int) throws {
    let (link, parts) = Self.wrongLinks[place]
    let text = try faults(scenario(link))
    for part in parts { #expect(text.contains(part), "\(text)") }
  }

  @Test("is refused where it is impossible: with workers that run already, and in-process")
  func refused() throws {
    let running = small.replacingOccurrences(
      of: "plugin: pool}", with: "plugin: pool, link: {between: broker-workers, delay_ms: 1}}")
    let text = try faults(running)
    #expect(text.contains("targets.1.link.between") && text.contains("the workers already run"))
    let inProcess = small.replacingOccurrences(
      of: "handler: noop}", with: "handler: noop, link: {between: generator-broker, delay_ms: 1}}")
    #expect(try faults(inProcess).contains("targets.0.link: is for NATS targets"))
    let top = small + "bandwidth_mbit_per_second: 5\n"
    #expect(try faults(top).contains("it is a key of a target's link:"))
  }

  @Test("that is longer than a timeout is warned of")
  func timeout() throws {
    let plan = try load(scenario("{between: generator-broker, delay_ms: 100}"))
    #expect(
      plan.warnings.contains { $0.contains("targets.1.link") && $0.contains("every logging times out") })
  }

  @Test("is kept with the plan, and a plan of older versions, which has none, still opens")
  func coded() throws {
    let target = try load(scenario("{between: generator-broker, delay_ms: 0.5}")).targets[1]
    let data = try JSONEncoder().encode(target)
    #expect(try JSONDecoder().decode(Target.self, from: data) == target)
    let older = try load(small).targets[1]
    let text = String(decoding: try JSONEncoder().encode(older), as: UTF8.self)
    #expect(!text.contains("link"))
    #expect(try JSONDecoder().decode(Target.self, from: Data(text.utf8)) == older)
  }

  @Test("nats-net has sessions and single phases over the same round trips, told by the names")
  func shipped() throws {
    let plan = try ScenarioLoader.load(path: repository + "/Scenarios/nats-net.yaml", options: .init())
    let sessions = plan.targets.filter { $0.phases == Phase.session }
    let phases = plan.targets.filter { $0.phases == [.requestFilter] }
    #expect(sessions.count + phases.count == plan.targets.count)
    #expect(sessions.compactMap(\.roundTripMilliseconds) == [0, 0.25, 0.5, 1, 2, 5])
    #expect(sessions.map(\.links) == phases.map(\.links))
    for target in plan.targets {
      let trip = (target.roundTripMilliseconds ?? -1).formatted().replacingOccurrences(of: ".", with: "_")
      #expect(target.name.hasPrefix("nats-net-\(trip)ms"))
      #expect(target.loads.map(\.label) == ["closed-1", "open-20000", "closed-80"])
    }
  }
}
