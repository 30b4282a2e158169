import TestSupport
import Foundation
import Lab
import Nylon
import Scenario
import Synchronization
import Testing

@testable import Engine

/// How connections come back and move, between real brokers of a cluster and scripted ones.
@Suite(.serialized, .thread("nats")) struct MoveTests {
  /// A pool of nylon-worker, all of which begin at the broker with this place.
  private func pool(at home: Int, of cluster: BrokerCluster, workers: Int = 2) throws -> WorkerPool {
    var target = NATSLoad().order("").target
    target.handler = "noop"
    target.nats?.workers = .own
    target.nats?.workers?.count = workers
    return try WorkerPool.start(
      for: target, servers: cluster.urls, homes: [home], monitors: cluster.monitors)
  }

  /// Subscriptions to the phase of the load at a broker.
  private func workers(at broker: Broker) throws -> Int {
    try broker.monitor.subscribers(of: "nylon.plugin.p.request_filter", group: "default").count
  }

  private func load(retries: Bool = false) -> NATSLoad {
    var load = NATSLoad(load: .closed(concurrency: 8), handler: "noop", connections: 2)
    guard retries else { return load }
    var policy = PhasePolicy.standard(for: .requestFilter)
    (policy.timeoutMilliseconds, policy.onError, policy.attempts) = (300, .retry, 5)
    (policy.backoffFirstMilliseconds, policy.backoffMostMilliseconds) = (5, 50)
    load.policy = policy
    return load
  }

  @Test func aGeneratorLeavesABrokerInLameDuckModeAndLosesNothing() throws {
    let cluster = try BrokerCluster.start(count: 2)
    defer { cluster.stop() }
    let pool = try pool(at: 1, of: cluster)
    defer { pool.stop() }
    let leaving = Atomic(UInt64.max)
    let measurement = try load().run(servers: cluster.urls) { glance in
      if glance.answered > 200, leaving.load(ordering: .relaxed) == .max {
        leaving.store(glance.answered, ordering: .relaxed)
        try? cluster.nodes[0].lameDuck()
      }
      // Behind the broker's grace nobody is left there.
      return !cluster.nodes[0].isRunning
        && glance.answered > leaving.load(ordering: .relaxed) + 200
    }
    let counts = try #require(measurement.request).counts
    #expect(counts.ok == counts.sent && counts.duplicates == 0 && counts.unexpected == 0, "\(counts)")
    #expect(measurement.warnings.contains { $0.contains("moved to another broker once") })
    #expect(!measurement.warnings.contains { $0.contains("lost and made again") })
  }

  @Test func workersLeaveABrokerInLameDuckModeBeforeItEnds() throws {
    let cluster = try BrokerCluster.start(count: 2)
    defer { cluster.stop() }
    let pool = try pool(at: 1, of: cluster)
    defer { pool.stop() }
    #expect(try workers(at: cluster.nodes[1]) == 2)
    let leaving = Atomic(UInt64.max)
    // A request on a route is lost when the last worker at its end takes its subscription back just then.
    let measurement = try load(retries: true).run(servers: cluster.urls) { glance in
      if glance.answered > 200, leaving.load(ordering: .relaxed) == .max {
        leaving.store(glance.answered, ordering: .relaxed)
        try? cluster.nodes[1].lameDuck()
      }
      return !cluster.nodes[1].isRunning
        && glance.answered > leaving.load(ordering: .relaxed) + 200
    }
    let counts = try #require(measurement.request).counts
    #expect(counts.ok == counts.sent && counts.duplicates == 0, "\(counts)")
    #expect(try workers(at: cluster.nodes[0]) == 2)
    #expect(pool.deaths().isEmpty)
    #expect(pool.lastWords.allSatisfy { $0.contains("Moved to NATS") })
  }

  @Test func whoseBrokerIsKilledGoesToTheOtherOne() throws {
    let cluster = try BrokerCluster.start(count: 2)
    defer { cluster.stop() }
    // Both sides are at the broker that goes.
    let pool = try pool(at: 0, of: cluster)
    defer { pool.stop() }
    let killed = Atomic(UInt64.max)
    let measurement = try load(retries: true).run(servers: cluster.urls) { glance in
      if glance.answered > 200, killed.load(ordering: .relaxed) == .max {
        killed.store(glance.answered, ordering: .relaxed)
        cluster.nodes[0].kill()
      }
      let before = killed.load(ordering: .relaxed)
      return before < .max && glance.answered > before + 200
    }
    #expect(try #require(measurement.request).counts.closes)
    #expect(measurement.warnings.contains { $0.contains("lost and made again") })
    #expect(try workers(at: cluster.nodes[1]) == 2)
  }

  @Test func theServersAreTriedInOrderBehindTheLostOne() throws {
    let seen = Mutex<[Int]>([])
    /// Greets the first client, and closes when it has asked something; says which broker was reached.
    func scripted(_ name: Int, closes: Bool) throws -> ScriptedBroker {
      try ScriptedBroker { peer in
        peer.welcome()
        seen.withLock { $0.append(name) }
        if closes { peer.receive(until: "PUB") } else { peer.waitForEnd() }
      }
    }
    let brokers = try [scripted(1, closes: true), scripted(2, closes: true), scripted(3, closes: false)]
    defer { for broker in brokers { broker.stop() } }
    var load = NATSLoad(load: .closed(concurrency: 1), measureSeconds: 3, drainSeconds: 0.2)
    load.policy.timeoutMilliseconds = 50
    // The URLs of what is no cluster: nobody says that there are others.
    _ = try load.run(servers: brokers.map(\.url)) { _ in seen.withLock { $0.count } >= 3 }
    #expect(seen.withLock { $0 } == [1, 2, 3])
  }

  @Test func aBrokerThatAnnouncesItsEndAndIsTheOnlyOneIsKept() throws {
    let broker = try ScriptedBroker { peer in
      peer.welcome()
      peer.send(#"INFO {"server_id":"t","headers":true,"max_payload":1048576,"ldm":true}"# + "\r\n")
      peer.waitForEnd()
    }
    defer { broker.stop() }
    var load = NATSLoad(load: .closed(concurrency: 1), measureSeconds: 0.3, drainSeconds: 0.2)
    load.policy.timeoutMilliseconds = 50
    _ = try load.run(broker.url)
    #expect(broker.connections == 1)
  }
}
