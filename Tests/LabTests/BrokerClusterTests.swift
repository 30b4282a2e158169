import TestSupport
@testable import Scenario
@testable import Engine
import Foundation
import NATS
import Testing

@testable import Lab

/// Clusters of real nats-servers on loopback.
@Suite(.serialized, .thread("cluster")) struct BrokerClusterTests {
  /// A raw client of one broker.
  final class Client {
    let socket: Descriptor
    private(set) var text = ""

    init(_ broker: Broker, _ lines: String = "") throws {
      socket = try TCPSocket.connected(to: broker.port)
      let hello = "CONNECT {\"protocol\":1,\"verbose\":false,\"auth_token\":\"\(broker.token ?? "")\"}\r\n"
      #expect(socket.send(Array((hello + lines + "PING\r\n").utf8)))
      #expect(hears("PONG"))
    }

    func says(_ line: String) { #expect(socket.send(Array("\(line)\r\n".utf8))) }

    /// Whether a text comes, or has come.
    func hears(_ words: String) -> Bool {
      eventually {
        if text.contains(words) { return true }
        _ = TCPSocket.ready([socket], milliseconds: 50)
        if case .bytes(let bytes) = socket.read() { text += String(decoding: bytes, as: UTF8.self) }
        return text.contains(words)
      }
    }
  }

  /// Whether a message on a subject goes from a client of one broker to one of another.
  static func carries(_ cluster: BrokerCluster, from: Int, to: Int) throws -> Bool {
    let subject = "over.\(UUID().uuidString)"
    let listener = try Client(cluster.nodes[to], "SUB \(subject) 1\r\n")
    let speaker = try Client(cluster.nodes[from])
    // The interest may still be on its way to the other broker.
    for _ in 0..<200 {
      speaker.says("PUB \(subject) 2\r\nhi")
      if !TCPSocket.ready([listener.socket], milliseconds: 50).isEmpty {
        return listener.hears("MSG \(subject)")
      }
    }
    return false
  }

  @Test func oneBrokerIsACluster() throws {
    let cluster = try BrokerCluster.start()
    defer { cluster.stop() }
    #expect(cluster.nodes.count == 1 && cluster.urls == [cluster.nodes[0].url])
    #expect(cluster.isWhole)
    #expect(try cluster.nodes[0].monitor.routes().isEmpty)
  }

  @Test func threeBrokersKnowEachOtherAndNobodyElseGetsIn() throws {
    let cluster = try BrokerCluster.start(count: 3)
    let pids = cluster.pids
    for (from, to) in [(0, 1), (1, 2), (2, 0)] { #expect(try Self.carries(cluster, from: from, to: to)) }
    for node in cluster.nodes {
      #expect(try node.monitor.routes().count == 2)
      // Clients go where they were told.
      let greeting = try Client(node).text
      #expect(!greeting.contains("connect_urls"))
      #expect(node.token == cluster.nodes[0].token)
    }
    // The cluster's own password is needed for a route, and seen nowhere.
    let secrets = cluster.nodes.flatMap { $0.setup.secretWords }
    for node in cluster.nodes {
      let title = FileManager.default.contents(atPath: "/proc/\(node.pid)/cmdline") ?? Data()
      for secret in secrets {
        #expect(!String(decoding: title, as: UTF8.self).contains(secret) && !node.lastWords.contains(secret))
      }
    }
    let stranger = try TCPSocket.connected(to: cluster.nodes[0].clusterPort)
    #expect(stranger.send(Array("CONNECT {\"name\":\"x\"}\r\nPING\r\n".utf8)))
    #expect(
      eventually {
        _ = TCPSocket.ready([stranger], milliseconds: 100)
        if case .end = stranger.read() { return true }
        return false
      })
    #expect(try cluster.nodes[0].monitor.routes().count == 2)
    cluster.stop()
    for pid in pids { #expect(!isAlive(pid)) }
  }

  @Test func aBrokerThatWasKilledComesBackOnItsPortsAndTheRoutesWithIt() throws {
    let cluster = try BrokerCluster.start(count: 3)
    defer { cluster.stop() }
    for index in [0, 2] {
      let before = cluster.nodes[index]
      before.kill()
      #expect(!cluster.isWhole && cluster.died.isEmpty)
      try cluster.restart(index)
      let after = cluster.nodes[index]
      #expect(after.port == before.port && after.clusterPort == before.clusterPort)
      #expect(after.monitor == before.monitor && after.pid != before.pid)
      try cluster.awaitRoutes(until: .after(.seconds(60)))
      #expect(cluster.isWhole)
      #expect(try Self.carries(cluster, from: index, to: 1))
    }
  }

  @Test func anEndThatNobodyAskedForIsADeath() throws {
    let cluster = try BrokerCluster.start(count: 2)
    defer { cluster.stop() }
    kill(cluster.pids[1], SIGKILL)
    #expect(eventually { cluster.died == [1] })
  }

  @Test func aStoppedBrokerIsNotWholeUntilItGoesOn() throws {
    let cluster = try BrokerCluster.start()
    defer { cluster.stop() }
    cluster.nodes[0].process.halt()
    #expect(eventually { !cluster.isWhole })
    #expect(cluster.nodes[0].isRunning)
    cluster.nodes[0].process.goOn()
    #expect(eventually { cluster.isWhole })
    try Broker.probe(url: cluster.urls[0])
  }

  @Test func aBrokerInLameDuckModeTellsItsClientsAndEnds() throws {
    let cluster = try BrokerCluster.start(count: 2)
    defer { cluster.stop() }
    let client = try Client(cluster.nodes[0])
    try cluster.nodes[0].lameDuck()
    #expect(!cluster.isWhole)
    #expect(client.hears("\"ldm\":true"))
    #expect(eventually { !cluster.nodes[0].isRunning })
    #expect(cluster.died.isEmpty)
    #expect(throws: LabError.self) { try cluster.nodes[0].lameDuck() }
  }

  @Test func aRouteCanBeResetAndSilencedAndTheOtherRoutesGoOn() throws {
    let cluster = try BrokerCluster.start(count: 3, relayed: [BrokerRoute(0, 1)])
    defer { cluster.stop() }
    /// The number that broker 2 has given the route to broker 1.
    func route() throws -> UInt64? {
      let first = try cluster.nodes[0].statistics().serverID
      return try cluster.nodes[1].monitor.routes().first { $0.remoteID == first }?.id
    }
    #expect(try Self.carries(cluster, from: 0, to: 1))
    let before = try route()
    cluster.relay(1, 0)?.reset()
    #expect(try eventually { try route().map { $0 != before } == true })
    try cluster.awaitRoutes(until: .after(.seconds(60)))
    #expect(try Self.carries(cluster, from: 0, to: 1))

    let listener = try Client(cluster.nodes[1], "SUB silent 1\r\n")
    let speaker = try Client(cluster.nodes[0])
    cluster.relay(0, 1)?.silence(true)
    // Until it has begun, messages still come.
    #expect(
      eventually {
        speaker.says("PUB silent 2\r\nhi")
        guard TCPSocket.ready([listener.socket], milliseconds: 300).isEmpty else {
          _ = listener.socket.read()
          return false
        }
        return true
      })
    #expect(try Self.carries(cluster, from: 0, to: 2))
    #expect(try Self.carries(cluster, from: 2, to: 1))
    cluster.relay(0, 1)?.silence(false)
    try cluster.awaitRoutes(until: .after(.seconds(60)))
    #expect(try Self.carries(cluster, from: 0, to: 1))
  }

  @Test func aBrokerWithARelayedRouteComesBackThroughIt() throws {
    let cluster = try BrokerCluster.start(count: 2, relayed: [BrokerRoute(0, 1)])
    defer { cluster.stop() }
    cluster.nodes[0].kill()
    try cluster.restart(0)
    try cluster.awaitRoutes(until: .after(.seconds(60)))
    #expect(try Self.carries(cluster, from: 1, to: 0))
  }

  @Test func aClusterThatCannotBeStartedLeavesNothing() throws {
    #expect(throws: LabError.self) { try BrokerCluster.start(count: 2, program: "/bin/cat") }
    #expect {
      try BrokerCluster.start(auth: NATSAuth(nkey: "/some/file"))
    } throws: { "\($0)".contains("--server") }
  }

  @Test func limitsReachTheBroker() throws {
    let limits = BrokerLimits(maxPendingBytes: 1 << 20, writeDeadlineSeconds: 0.5)
    let cluster = try BrokerCluster.start(limits: limits)
    defer { cluster.stop() }
    struct Facts: Decodable {
      var max_pending: Int
      var write_deadline: UInt64
    }
    let facts = try cluster.nodes[0].monitor.decode(Facts.self, path: "/varz", until: .after(.seconds(60)))
    #expect(facts.max_pending == 1 << 20 && facts.write_deadline == 500_000_000)
  }

  @Test func eachBrokersPartOfTheDeliveriesIsKnown() throws {
    let cluster = try BrokerCluster.start(count: 2)
    defer { cluster.stop() }
    let memory = LoadRecording(RecordingLayout(threads: 1, scopes: ["request"], windows: 1))
    let area = memory.area
    defer { withExtendedLifetime(memory) {} }
    let listeners = try cluster.nodes.map { try Client($0, "SUB part.\($0.port) 1\r\n") }
    let speaker = try Client(cluster.nodes[0])
    area.measureEnd = .max
    area.measureStart = MonotonicClock.nanoseconds
    let watch = BrokerWatch(cluster.monitors, area: area, seconds: 1)
    // The first look is over when the next one was made.
    struct Requests: Decodable { var http_req_stats: [String: Int] }
    #expect(
      try eventually {
        let monitor = cluster.monitors[1]
        let asked = try monitor.decode(Requests.self, path: "/varz", until: .after(.seconds(60)))
        return asked.http_req_stats["/connz"] ?? 0 > 1
      })
    for (index, listener) in listeners.enumerated() {
      for _ in 0...index { speaker.says("PUB part.\(cluster.nodes[index].port) 2\r\nhi") }
      #expect(listener.hears("MSG part"))
    }
    #expect(try eventually { try cluster.monitors[1].clients().contains { $0.deliveredMessages == 2 } })
    area.measureEnd = MonotonicClock.nanoseconds
    let findings = watch.finish()
    let nodes = try #require(findings.nodes)
    #expect(nodes.map(\.node) == [1, 2])
    #expect(nodes.map(\.workerDeliveries) == [1, 2])
    #expect(nodes.map(\.generatorDeliveries) == [0, 0])
    #expect(nodes.map(\.connections) == [2, 1])
    #expect(try #require(findings.activity).connections == 3)
  }
}
