import Foundation
import Testing

@testable import Scenario

@Suite("The brokers of a run, and the clients of each")
struct NodeTests {
  /// A scenario whose brokers the run starts.
  private func scenario(_ nodes: String?, _ more: String = "") -> String {
    small.replacingOccurrences(of: "servers: [nats://127.0.0.1:4222]", with: "servers: []")
      .replacingOccurrences(
        of: "plugin: pool}",
        with: "plugin: pool, workers: {command: nylon-worker}\(nodes.map { ", nodes: \($0)" } ?? "")}") + more
  }

  @Test("are one unless the scenario says otherwise, and everybody is spread")
  func values() throws {
    let one = try load(scenario(nil))
    #expect(one.brokerCount == 1 && one.brokerLimits == BrokerLimits())
    #expect(one.targets[1].nodes == NodeChoice())
    #expect(one.targets[1].nodes.homes(of: 3) == [0, 1, 2])
    let three = try load(
      scenario(
        "{generator: 2, workers: [1, 3]}",
        "brokers: 3\nbroker_max_pending_bytes: 1048576\nbroker_write_deadline_seconds: 0.5\n"))
    #expect(three.brokerCount == 3)
    #expect(three.brokerLimits == BrokerLimits(maxPendingBytes: 1_048_576, writeDeadlineSeconds: 0.5))
    #expect(three.targets[1].nodes == NodeChoice(generator: 2, workers: [1, 3]))
    #expect(three.targets[1].nodes.homes(of: 3) == [0, 2])
    #expect(try load(scenario("{workers: 2}", "brokers: 2\n")).targets[1].nodes.homes(of: 2) == [1])
  }

  @Test("are tried from that one on")
  func order() {
    #expect(NodeChoice.order(["a", "b", "c"], first: 1) == ["b", "c", "a"])
    #expect(NodeChoice.order(["a"], first: 5) == ["a"])
    #expect(NodeChoice.order([String](), first: 1) == [])
  }

  @Test("that do not exist are errors, and so are nodes of brokers that run already")
  func wrong() throws {
    let missing = try faults(scenario("{generator: 3}", "brokers: 2\n"))
    #expect(missing.contains("targets.1.nodes") && missing.contains("names broker 3, but brokers is 2"))
    #expect(missing.contains("write brokers: 3"))
    #expect(try faults(scenario("{workers: [1, 2]}")).contains("names broker 2, but brokers is 1"))
    #expect(try faults(scenario("{workers: [one]}")).contains("must be numbers of brokers"))
    #expect(try faults(scenario(nil, "brokers: 0\n")).contains("from 1 to 9"))
    let running = small.replacingOccurrences(
      of: "plugin: pool}", with: "plugin: pool, nodes: {generator: 1}}")
    #expect(try faults(running).contains("is for brokers that the run starts"))
    let inProcess = small.replacingOccurrences(
      of: "handler: noop}", with: "handler: noop, nodes: {generator: 1}}")
    #expect(try faults(inProcess).contains("targets.0.nodes"))
  }

  @Test("are kept with the plan, and a plan of older versions, which has none, still opens")
  func coded() throws {
    let plan = try load(scenario("{generator: 2}", "brokers: 3\n"))
    let data = try JSONEncoder().encode(plan)
    #expect(try JSONDecoder().decode(Plan.self, from: data) == plan)
    let older = try load(scenario(nil))
    let text = String(decoding: try JSONEncoder().encode(older), as: UTF8.self)
    #expect(!text.contains("nodes") && !text.contains("\"brokers\""))
    #expect(try JSONDecoder().decode(Plan.self, from: Data(text.utf8)) == older)
  }

  @Test("cluster has a target with workers at all brokers, and one whose requests all cross a route")
  func shipped() throws {
    let plan = try ScenarioLoader.load(path: repository + "/Scenarios/cluster.yaml", options: .init())
    #expect(plan.brokerCount == 3)
    #expect(plan.targets.map(\.nodes.workers) == [[1, 2, 3], [2, 3]])
    #expect(plan.targets.allSatisfy { $0.nodes.generator == 1 })
  }
}
