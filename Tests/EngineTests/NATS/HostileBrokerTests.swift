import TestSupport
import Foundation
import Lab
import Results
import NATS
import Scenario
import Synchronization
import Testing

@testable import Engine

/// The native client and brokers that break the protocol.
@Suite(.serialized, .thread("nats")) struct HostileBrokerTests {
  private func with(
    _ load: NATSLoad, until enough: (@Sendable (LoadGlance) -> Bool)? = nil,
    _ serve: @escaping @Sendable (ScriptedBroker.Peer) -> Void
  ) throws -> (Engine.Measurement, connections: Int) {
    let broker = try ScriptedBroker(serve)
    defer { broker.stop() }
    return (try load.run(broker.url, until: enough), broker.connections)
  }

  private var shortLoad: NATSLoad {
    var load = NATSLoad(load: .closed(concurrency: 2), measureSeconds: 0.6, drainSeconds: 0.2)
    load.policy.timeoutMilliseconds = 100
    return load
  }

  @Test(arguments: Lies.greetings)
  func whatDoesNotGreetAsABrokerIsAnError(greeting: String) throws {
    let broker = try ScriptedBroker { peer in
      peer.send(greeting)
      peer.receive(until: "never")
    }
    defer { broker.stop() }
    let error = try #require(throws: BrokerError.self) { try shortLoad.run(broker.url) }
    #expect(error.description.contains("does not speak the NATS protocol"))
  }

  @Test func aBrokerThatClosesAfterTheCredentialsRefusesThem() throws {
    let broker = try ScriptedBroker { peer in
      peer.send(#"INFO {"auth_required":true,"headers":true}"# + "\r\n")
      peer.receive(until: "PING\r\n")
    }
    defer { broker.stop() }
    var load = shortLoad
    load.auth = NATSAuth(token: "s3cret")
    let error = try #require(throws: BrokerError.self) { try load.run(broker.url) }
    #expect(error.description.contains("`auth:`") && !error.description.contains("s3cret"))
  }

  @Test func aBrokerThatAsksForTLSAndSpeaksNoneIsAnErrorThatHearsNoName() throws {
    let heard = Mutex<[String]>([])
    let broker = try ScriptedBroker { peer in
      peer.send(#"INFO {"tls_required":true,"headers":true,"max_payload":1048576}"# + "\r\n")
      let words = peer.receive(until: "PING\r\n")
      heard.withLock { $0.append(words) }
    }
    defer { broker.stop() }
    let error = try #require(throws: BrokerError.self) { try shortLoad.run(broker.url) }
    #expect(!error.description.contains("does not speak"))
    #expect(heard.withLock { $0.allSatisfy { !$0.contains("nylon-bench") } })
  }

  @Test func aPingIsAnsweredWhileNothingElseHappens() throws {
    let answered = Mutex(0)
    _ = try with(shortLoad) { peer in
      peer.welcome()
      for _ in 0..<3 {
        peer.send("PING\r\nPING\r\n")
        let words = peer.receive(until: "PONG\r\nPONG\r\n")
        if words.contains("PONG\r\nPONG\r\n") { answered.withLock { $0 += 1 } }
      }
      peer.receive(until: "never")
    }
    #expect(answered.withLock { $0 } == 3)
  }

  @Test(arguments: Lies.words + ["-ERR 'Stale Connection'\r\n"])
  func aConnectionThatBreaksTheProtocolIsMadeAgain(words: String) throws {
    let (measurement, connections) = try with(shortLoad) { peer in
      peer.welcome()
      peer.receive(until: "PUB ")
      peer.send(words)
      // What the client finds unreadable it ends itself; a complaint is followed by the broker's end.
      if !words.hasPrefix("-ERR") { peer.receive(until: "never") }
    }
    let request = try #require(measurement.request)
    #expect(connections >= 2)
    #expect(request.counts.timeouts > 0 && request.counts.ok == 0 && request.counts.closes)
    #expect(measurement.warnings.contains { $0.contains("lost and made again") })
    #expect(measurement.warnings.contains { $0.hasPrefix("the broker at 127.0.0.1:") })
  }

  @Test func messagesToNobodyAreUnexpectedAndDoNoHarm() throws {
    let (measurement, connections) = try with(shortLoad) { peer in
      peer.welcome()
      let words = peer.receive(until: "PUB ")
      let inbox =
        words.split(separator: " ").first { $0.hasPrefix("_INBOX") }.map(String.init) ?? "_INBOX.a.b.00000000"
      let root = inbox.split(separator: "\r")[0].dropLast(8)
      for subject in ["x", "\(root)0000ffff", "\(root)ffffffff", "\(root)zzzzzzzz", "\(root)1"] {
        peer.send("MSG \(subject) 1 2\r\nhi\r\n")
      }
      peer.send("MSG \(inbox) 7 2\r\nhi\r\nHMSG \(root)00000100 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
      peer.receive(until: "never")
    }
    #expect(connections == 1)
    #expect(try #require(measurement.request).counts.unexpected == 7)
  }

  /// The first broker takes requests in part and goes; the next one must get whole ones, and all.
  @Test func requestsThatTheKernelHadNotTakenGoOutAgainAndWhole() throws {
    let seen = Mutex<(kinds: Set<Substring>, sizes: Set<Int>, count: Int)>(([], [], 0))
    let isAll = Atomic(false)
    var load = NATSLoad(load: .closed(concurrency: 32), drainSeconds: 0.1)
    load.request.bodyBytes = 400_000
    load.policy.timeoutMilliseconds = 60_000
    let (measurement, connections) = try with(load, until: { _ in isAll.load(ordering: .relaxed) }) { peer in
      peer.welcome()
      if peer.number == 1 {
        // The client sends 25 MB, more than both sockets can buffer, so it stalls.
        var last = 0
        _ = eventually {
          let untaken = TCPConnection.all(to: peer.port).map(\.untakenBytes).reduce(0, +)
          defer { last = untaken }
          return untaken > 0 && untaken == last
        }
        return
      }
      var bytes: [UInt8] = []
      while true {
        let more = peer.receive(1 << 20)
        if more.isEmpty { break }
        bytes += more
        while let end = bytes.firstIndex(of: 10) {
          let words = String(decoding: bytes[..<end], as: UTF8.self).split(separator: " ")
          let size = words.last.flatMap { Int($0.dropLast()) } ?? 0
          guard bytes.count >= end + 1 + size + 2 else { break }
          let isEnded = Array(bytes[(end + 1 + size)..<(end + 3 + size)]) == [13, 10]
          seen.withLock {
            $0.kinds.insert(isEnded ? words[0] : "cut")
            $0.sizes.insert(size)
            $0.count += 1
          }
          bytes.removeFirst(end + 3 + size)
        }
      }
      isAll.store(true, ordering: .relaxed)
      peer.waitForEnd()
    }
    let (kinds, sizes, count) = seen.withLock { $0 }
    #expect(connections == 2)
    #expect(kinds == ["PUB"])
    #expect(sizes.count == 1 && sizes.first ?? 0 > 800_000)
    #expect(count > 4 && count < 32)
    #expect(measurement.warnings.contains { $0.contains("made again once") })
  }
}
