import Foundation
import NATS
import Scenario

/// The brokers that a run starts: a single one, or several with loopback routes between all of them.
///
/// Clients of every broker reach those of all others. A broker advertises no other broker to its clients, so
/// that they cannot bypass a link in front of it.
package final class BrokerCluster: Sendable {
  private let state: Guarded<[Broker]>
  /// The relays on the routes that faults can cut.
  private let relays: [BrokerRoute: Relay]

  private init(_ brokers: [Broker], _ relays: [BrokerRoute: Relay]) {
    state = Guarded(brokers)
    self.relays = relays
  }

  /// Starts brokers, and returns when each has routes to all others.
  ///
  /// - Parameters:
  ///   - asksForToken: Whether to generate a token, the same for all, when no credentials are given.
  ///   - relayed: Routes that go through a relay, so that they can be reset and silenced.
  package static func start(
    count: Int = 1, auth: NATSAuth = NATSAuth(), asksForToken: Bool = true,
    limits: BrokerLimits = .standard,
    relayed: Set<BrokerRoute> = [], program: String? = nil
  ) throws(LabError) -> BrokerCluster {
    var shared = BrokerSetup(auth: auth, asksForToken: asksForToken, program: program)
    shared.limits = limits
    let (user, password) = (Broker.secret(), Broker.secret())
    var brokers: [Broker] = []
    var relays: [BrokerRoute: Relay] = [:]
    do {
      for node in 0..<max(1, count) {
        var setup = shared
        if count > 1 {
          var cluster = ClusterSetup(
            node: node, user: user, password: password, hidesItself: !relayed.isEmpty)
          for (earlier, broker) in brokers.enumerated() {
            var port = broker.clusterPort
            let route = BrokerRoute(earlier, node)
            if relayed.contains(route) {
              let relay = try Relay(to: ["127.0.0.1:\(port)"])
              relays[route] = relay
              port = relay.ports[0]
            }
            cluster.routes.append(port)
          }
          setup.cluster = cluster
        }
        brokers.append(try Broker.start(setup))
      }
      let cluster = BrokerCluster(brokers, relays)
      try cluster.awaitRoutes(until: .after(.seconds(15)))
      return cluster
    } catch {
      for broker in brokers { broker.kill() }
      throw error
    }
  }

  /// The brokers, in order; a restarted broker replaces the old one.
  package var nodes: [Broker] { state.withLock { $0 } }
  /// The URLs for clients, in order. Secrets: never print them.
  package var urls: [String] { nodes.map(\.url) }
  package var monitors: [BrokerMonitor] { nodes.map(\.monitor) }
  package var pids: [Int32] { nodes.map(\.pid) }
  package var isRunning: Bool { nodes.allSatisfy(\.isRunning) }
  /// Whether all brokers run, and none is stopped or ending.
  package var isWhole: Bool {
    nodes.allSatisfy { $0.isRunning && !$0.isEnding && !ProcessClock.isStopped($0.pid) }
  }
  /// The indices of brokers that ended without being asked to.
  package var died: [Int] { nodes.indices.filter { !nodes[$0].isRunning && !nodes[$0].isEnding } }

  /// Restarts an ended broker on all its ports, and returns when it answers. Its routes reconnect on their
  /// own.
  package func restart(_ index: Int) throws(LabError) {
    let all = nodes
    var setup = all[index].setup
    // Brokers started later reconnect to it once a second, through the relays if there are any. It must
    // connect to the earlier ones itself, and need not wait for the later ones when no relay is between them.
    let known = setup.cluster?.routes ?? []
    let later = all.indices.filter { $0 > index && relays[BrokerRoute(index, $0)] == nil }
    setup.cluster?.routes += later.map { all[$0].clusterPort }.filter { !known.contains($0) }
    let broker = try Broker.start(setup)
    state.withLock { $0[index] = broker }
  }

  /// The relay on the route between two brokers, which reconnect after a reset; nil for a direct route.
  package func relay(_ a: Int, _ b: Int) -> Relay? { relays[BrokerRoute(a, b)] }

  /// Ends all brokers and relays.
  package func stop() {
    for broker in nodes { broker.process.askToEnd() }
    for broker in nodes { broker.stop() }
    for relay in relays.values { relay.stop() }
  }

  // MARK: Routes

  /// Waits until every pair of running brokers has a route, through its relay if there is one.
  package func awaitRoutes(until deadline: Deadline) throws(LabError) {
    guard nodes.count > 1 else { return }
    while let missing = try missingRoute() {
      guard !deadline.isPast else {
        throw .notReady(
          "The cluster of \(nodes.count) brokers",
          why: "brokers \(missing) found no route to each other in time",
          lastWords: nodes[missing.last].lastWords)
      }
      usleep(10_000)
    }
  }

  private func missingRoute() throws(LabError) -> BrokerRoute? {
    let running = nodes.enumerated().filter { $1.isRunning }
    var ids: [Int: String] = [:]
    var routes: [Int: [BrokerRouteFacts]] = [:]
    for (node, broker) in running {
      ids[node] = try broker.statistics().serverID
      routes[node] = try broker.monitor.routes()
    }
    for (node, _) in running {
      for (other, _) in running where other > node {
        let route = BrokerRoute(node, other)
        // The later broker made the route, so it knows the port that it connected to.
        let found = routes[other, default: []].contains { facts in
          facts.remoteID == ids[node] && (relays[route].map { facts.port == $0.ports[0] } ?? true)
        }
        if !found || !routes[node, default: []].contains(where: { $0.remoteID == ids[other] }) {
          return route
        }
      }
    }
    return nil
  }
}

/// The route between two brokers of a cluster, numbered from 0, the lower first.
package struct BrokerRoute: Hashable, Sendable, CustomStringConvertible {
  package let first, last: Int

  package init(_ a: Int, _ b: Int) { (first, last) = (min(a, b), max(a, b)) }

  /// The name in a scenario, numbered from 1.
  package var description: String { "\(first + 1)-\(last + 1)" }
}

extension Broker {
  /// The port for routes; 0 outside a cluster.
  var clusterPort: UInt16 { setup.cluster?.port ?? 0 }
}
