import Foundation
import Lab
import Results
import Scenario
import Synchronization
import TestSupport
import Testing

@testable import Engine
@testable import Nylon

/// Workers that answer with whatever comes to their mind, behind a real broker.
@Suite(.serialized, .thread("nats")) struct HostileWorkerTests {
  /// An answer that is no answer, or one of another request, and sometimes the right one; the same for the same seed.
  private struct Chaos {
    var random: SplitMix64
    var earlier: [UInt8] = []

    mutating func answers(to request: WorkerMessage, in dialect: Dialect) throws -> [[UInt8]] {
      let action = dialect.traits.end == .action ? ReplyAction.next : .missing
      let right = try WorkerMessage(
        requestID: request.requestID, sessionID: dialect.traits.end == .map ? nil : request.sessionID,
        action: action, method: dialect.traits.end == .call ? Nylon.Method.next.rawValue : nil
      ).encoded()
      defer { earlier = right }
      func noise(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      }
      switch Int.random(in: 0..<8, using: &random) {
      case 0: return [noise(Int.random(in: 0...64, using: &random)), right]
      case 1: return [Array(right.prefix(Int.random(in: 0..<right.count, using: &random)))]
      case 2:
        var spoiled = right
        for _ in 0..<3 { spoiled[Int.random(in: 0..<right.count, using: &random)] = noise(1)[0] }
        return [spoiled, right]
      case 3: return [try WorkerMessage(requestID: .bytes(noise(16)), action: action).encoded()]
      case 4: return Array(repeating: right, count: 50)
      case 5: return [earlier, right]
      case 6:
        let wrong = WorkerMessage(
          requestID: request.requestID, sessionID: request.sessionID, action: .unknown, method: 9999,
          data: noise(40), error: nil, headers: [KeyValue(key: "nylon-bench-stamps", value: "1,2,3")])
        return [try wrong.encoded(), right]
      default: return [right]
      }
    }
  }

  // Where the workers are asked for their dialect first, such answers end the load before it begins.
  @Test(arguments: Dialect.allCases.filter { !$0.traits.isAskedFirst }, [1, 2])
  func whateverWorkersAnswerCountsCloseAndRightAnswersAreFound(dialect: Dialect, seed: UInt64) throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let chaos = Mutex(Chaos(random: SplitMix64(seed: seed)))
    let responder = try Responder(broker.url) { request, to in
      // The answer to a read that was asked for by chance.
      if request.phase == .zero { return [] }
      let answers = chaos.withLock { try? $0.answers(to: request, in: dialect) }
      return (answers ?? []).map { Publication(subject: to, bytes: $0) }
    }
    defer { responder.stop() }
    var load = NATSLoad(load: .closed(concurrency: 8), phases: [.requestFilter, .logging])
    load.dialect = dialect
    load.decompose = dialect == .reply
    load.policy.timeoutMilliseconds = 200
    load.policy.onError = .continue
    let measurement = try load.run(broker.url) { $0.answered > 200 && $0.errors > 20 }
    let request = try #require(measurement.request)
    #expect(request.counts.closes)
    #expect(request.counts.ok > 20)
    #expect(request.counts.sent > request.counts.ok)
    #expect(request.counts.duplicates + request.counts.late > 0)
    #expect(request.counts.protocolErrors > 0)
  }

  /// The broker takes nothing more, and the worker asks for more than there should be memory for.
  @Test func readsWithoutEndAreAnsweredOnlyAsFarAsThereIsMemory() throws {
    let broker = try ScriptedBroker { peer in
      peer.send("INFO {\"max_payload\":8388608,\"headers\":true}\r\n")
      for _ in 0..<2 {
        peer.receive(until: "PING\r\n")
        peer.send("PONG\r\n")
      }
      guard let (request, reply) = Self.request(to: peer) else { return }
      let call = callMap(of: request, .readResponseFullBody)
      for _ in 0..<200 { peer.send(Array("MSG \(reply) 1 \(call.count)\r\n".utf8) + call + [13, 10]) }
      peer.waitForEndWithoutReading()
    }
    defer { broker.stop() }
    var load = NATSLoad(load: .closed(concurrency: 1), drainSeconds: 0.1)
    load.dialect = .streamSDK
    load.request.bodyBytes = 4 << 20
    load.policy.timeoutMilliseconds = 60_000
    let measurement = try load.run(broker.url) { $0.errors > 0 }
    let request = try #require(measurement.request)
    #expect(request.counts.handlerErrors == 1 && request.counts.timeouts == 0 && request.counts.closes)
    #expect(measurement.evidence?.clauses.contains { $0.contains("too many answers are waiting") } == true)
  }

  /// The first request that a client publishes, and where its answers go.
  private static func request(to peer: ScriptedBroker.Peer) -> (WorkerMessage, reply: Substring)? {
    var bytes: [UInt8] = []
    while true {
      let more = peer.receive()
      if more.isEmpty { return nil }
      bytes += more
      guard let end = bytes.firstIndex(of: 10) else { continue }
      let words = String(decoding: bytes[..<end], as: UTF8.self).split(separator: " ")
      let payload = bytes[(end + 1)...].prefix(words.last.flatMap { Int($0.dropLast()) } ?? 0)
      guard words.count == 4, let request = try? payload.withUnsafeBytes({ try WorkerMessage(request: $0) })
      else { continue }
      return (request, words[2])
    }
  }
}
