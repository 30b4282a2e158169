import ExampleHandlers
import Foundation
import Nylon
import Synchronization
import TestSupport
import Testing

@testable import NylonPlugin

@Suite("A worker whose broker lies", .serialized, .thread("worker"))
struct LyingBrokerTests {
  private func configuration(_ broker: ScriptedBroker, maxWorkers: Int = 1) -> NATSConfiguration {
    var configuration = NATSConfiguration(name: "p", url: broker.url, group: "g")
    configuration.maxWorkers = maxWorkers
    configuration.reconnectWaitMilliseconds = 10
    return configuration
  }

  @Test("does not start, and says why", arguments: Lies.greetings)
  func start(greeting: String) throws {
    let broker = try ScriptedBroker { peer in
      peer.send(greeting)
      peer.waitForEnd()
    }
    defer { broker.stop() }
    let worker = try NATSWorker(plugin: ExampleHandlers.makePlugin(), configuration: configuration(broker))
    defer { worker.close() }
    let error = try #require(throws: NATSWorkerError.self) { try worker.start() }
    #expect(error.description.contains("does not speak the NATS protocol"))
  }

  @Test("gives the connection up and serves over the next one", arguments: Lies.words, [1, 3])
  func serve(words: String, maxWorkers: Int) throws {
    let request = try WorkerMessage(
      requestID: RequestID(high: 1, low: 2), sessionID: 7, phase: .requestFilter, timestampMilliseconds: 1,
      headers: [KeyValue(key: "entry", value: "noop")]
    ).encoded()
    let answered = Mutex<[Int]>([])
    let broker = try ScriptedBroker { peer in
      peer.welcome()
      // A request before the lie is answered, or lost with the connection.
      peer.send(
        Array("MSG nylon.plugin.p.request_filter 1 back \(request.count)\r\n".utf8) + request + [13, 10])
      if peer.number > 1, peer.receive(until: "PUB back ").contains("PUB back ") {
        answered.withLock { $0.append(peer.number) }
      }
      peer.send(words)
      peer.waitForEnd()
    }
    defer { broker.stop() }
    let worker = try NATSWorker(
      plugin: ExampleHandlers.makePlugin(), configuration: configuration(broker, maxWorkers: maxWorkers))
    try worker.start()
    defer { worker.close() }
    #expect(eventually { answered.withLock { $0.count >= 2 } })
  }

  @Test(
    "answers a request that comes before the broker has agreed to the subscriptions",
    arguments: [["message", "PONG\r\n"], ["messagePONG\r\n"], ["message", "PONG\r\nmessage"]])
  func requestBeforeAgreement(writes: [String]) throws {
    let request = try WorkerMessage(
      requestID: RequestID(high: 1, low: 2), sessionID: 7, phase: .requestFilter, timestampMilliseconds: 1,
      headers: [KeyValue(key: "entry", value: "noop")]
    ).encoded()
    let message =
      Array("MSG nylon.plugin.p.request_filter 1 back \(request.count)\r\n".utf8) + request + [13, 10]
    let requestCount = writes.count { $0.contains("message") }
    let answers = Atomic(0)
    let broker = try ScriptedBroker { peer in
      // The first connection has to do.
      guard peer.number == 1 else { return }
      peer.greet()
      for write in writes {
        let words = write.split(separator: "message", omittingEmptySubsequences: false).map { Array($0.utf8) }
        peer.send(Array(words.joined(separator: message)))
        // Each is read before the next is written.
        if write.contains("message"), peer.receive(until: "PUB back ").contains("PUB back ") {
          answers.add(1, ordering: .relaxed)
        }
      }
    }
    defer { broker.stop() }
    let worker = try NATSWorker(plugin: ExampleHandlers.makePlugin(), configuration: configuration(broker))
    defer { worker.close() }
    try worker.start()
    #expect(eventually { answers.load(ordering: .relaxed) == requestCount })
  }

  @Test("drops requests that would wait in more than 64 MiB of memory, and serves on")
  func flood() throws {
    let isHeld = Atomic(true)
    let plugin = Plugin()
    plugin.addPhaseHandler("hold") { phase in
      phase.requestFilter { _ in
        while isHeld.load(ordering: .acquiring) { usleep(1000) }
      }
    }
    let box = try #require(ReplyBox())
    box.setTaken(false)
    let dialect = WorkerDialect(dialect: .reply, writesNilData: false)
    let pool = try #require(HandlerThreads(count: 1, plugin, plugin.handlerTable(), dialect, nil, box))
    defer { pool.stop() }
    func submit(bytes: Int) throws -> Bool {
      let request = try WorkerMessage(
        requestID: .bytes([1]), phase: .requestFilter,
        headers: [KeyValue(key: "x", value: String(repeating: "x", count: bytes))]
      ).encoded()
      return pool.submit(
        WireJob(payload: request, reply: [65], phase: .requestFilter, readAt: 0, most: 1 << 20))
    }
    var taken = 0
    while taken < 200, try submit(bytes: 1 << 20) { taken += 1 }
    // One of them is with the handler.
    #expect((63...65).contains(taken))
    isHeld.store(false, ordering: .releasing)
    #expect(eventually { pool.isIdle })
    #expect(try submit(bytes: 1))
  }
}
