import TestSupport
import Foundation
import Lab
import Results
import NATS
import Scenario
import Synchronization
import Testing

@testable import Engine
@testable import Nylon

/// How the clients meet brokers that refuse, vanish, come back, or are no brokers at all.
@Suite(.serialized, .thread("nats")) struct NativeTests {
  private func answering(_ url: String, auth: NATSAuth = NATSAuth()) throws -> Responder {
    try Responder(url, auth: auth) { request, to in [Publication(subject: to, bytes: reply(to: request))] }
  }

  @Test
  func aWrongTokenIsAnErrorThatDoesNotShowIt() throws {
    let broker = try Broker.start(auth: NATSAuth(token: "right-s3cret"))
    defer { broker.stop() }
    for wrong in ["", "wrong-s3cret"] {
      var load = NATSLoad()
      load.auth = NATSAuth(token: wrong.isEmpty ? nil : wrong)
      let error = try #require(throws: BrokerError.self) { try load.run(broker.url) }
      #expect(error.description.contains(":\(broker.port)"))
      #expect(error.description.contains("`auth:`"))
      #expect(!error.description.contains("s3cret"))
    }
  }

  @Test(
    arguments: [NATSAuth(token: "t0/k€n"), NATSAuth(user: "ann", password: "p@ss/ w")], [false, true])
  func credentialsLetInFromTheScenarioAndFromTheURL(auth: NATSAuth, inURL: Bool) throws {
    let broker = try Broker.start(auth: auth)
    defer { broker.stop() }
    let words = [auth.token, auth.user, auth.password].compactMap {
      $0?.addingPercentEncoding(withAllowedCharacters: .alphanumerics)
    }
    let url = "nats://\(words.joined(separator: ":"))@127.0.0.1:\(broker.port)"
    let responder = try answering(broker.url, auth: auth)
    defer { responder.stop() }
    var load = NATSLoad()
    if !inURL { load.auth = auth }
    try expectOnlyAnswers(try load.run(inURL ? url : broker.url))
  }

  @Test
  func serversThatAreNotThereArePassedOver() throws {
    let broker = try Broker.start(asksForToken: false)
    defer { broker.stop() }
    let responder = try answering(broker.url)
    defer { responder.stop() }
    let load = NATSLoad(load: .closed(concurrency: 8), connections: 3)
    try expectOnlyAnswers(try load.run("nats://127.0.0.1:1", "nats://localhost:\(broker.port)"))
  }

  @Test func whereNobodyListensIsAnError() throws {
    let error = try #require(throws: BrokerError.self) {
      try NATSLoad().run("nats://s3cret@127.0.0.1:1", "nats://[::1]:1")
    }
    #expect(error.description.contains("Start one (nats-server)"))
    #expect(!error.description.contains("s3cret"))
  }

  @Test
  func aBrokerThatDiesAndComesBackIsUsedAgainAndNothingHangs() throws {
    let first = try Broker.start()
    let responder = try answering(first.url)
    let back = Mutex<(broker: Broker?, responder: Responder?)>((nil, nil))
    let askedBefore = Atomic(Int.max)
    let restarted = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      _ = eventually { responder.requests.count > 100 }
      first.kill()
      // Until each client has found its connection broken.
      _ = eventually {
        !TCPConnection.all(to: first.port).contains { $0.state == .established || $0.state == .ended }
      }
      askedBefore.store(responder.requests.count, ordering: .relaxed)
      let second = try? first.again()
      back.withLock { $0 = (second, second.flatMap { try? self.answering($0.url) }) }
      restarted.signal()
    }
    var load = NATSLoad(load: .closed(concurrency: 8), connections: 2)
    load.policy = PhasePolicy(
      timeoutMilliseconds: 300, onError: .retry, attempts: 2, backoffFirstMilliseconds: 5,
      backoffMostMilliseconds: 10)
    let measurement = try load.run(first.url) { glance in
      let before = askedBefore.load(ordering: .relaxed)
      return before < .max && glance.answered > before + 100
    }
    restarted.wait()
    responder.stop()
    back.withLock {
      $0.responder?.stop()
      $0.broker?.stop()
    }
    let request = try #require(measurement.request)
    #expect(request.counts.closes)
    #expect(request.counts.timeouts + request.counts.retries > 0)
    // More answers than were asked for until the broker died: the others came through the next one.
    let before = askedBefore.load(ordering: .relaxed)
    #expect(before > 100 && request.counts.ok > before)
    #expect(measurement.warnings.contains { $0.contains("lost and made again") })
  }

  @Test func bodiesThatFillTheSocketAreAllAnsweredThoughTheBrokerPauses() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let responder = try answering(broker.url)
    defer { responder.stop() }
    var load = NATSLoad(load: .closed(concurrency: 48), measureSeconds: 1, drainSeconds: 10)
    load.request.bodyBytes = 500_000  // it travels twice
    load.policy.timeoutMilliseconds = 60_000
    let paused = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      _ = eventually { responder.requests.count > 8 }
      kill(broker.pid, SIGSTOP)
      // How long it takes nothing and gives nothing.
      usleep(300_000)
      kill(broker.pid, SIGCONT)
      paused.signal()
    }
    let measurement = try load.run(broker.url)
    paused.wait()
    try expectOnlyAnswers(measurement)
    #expect(measurement.warnings.filter { $0.contains("lost") }.isEmpty)
  }

  @Test
  func aRequestOverTheBrokersLimitIsAnErrorBeforeTheLoad() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    var load = NATSLoad()
    load.request.bodyBytes = 600_000
    let error = try #require(throws: BrokerError.self) { try load.run(broker.url) }
    #expect(error.description.contains("1048576") && error.description.contains("max_payload"))
  }

  @Test
  func aRequestThatGrowsOverTheBrokersLimitFailsAlone() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let body = [UInt8](repeating: 7, count: 700_000)
    let responder = try Responder(broker.url) { request, to in
      let change: HTTPContextChange? =
        switch request.phase {
        case .requestFilter: HTTPContextChange(request: HTTPRequestChange(body: body))
        case .responseFilter: HTTPContextChange(response: HTTPResponseChange(body: body))
        default: nil
        }
      return [Publication(subject: to, bytes: reply(to: request, data: change?.encoded()))]
    }
    defer { responder.stop() }
    var load = NATSLoad(load: .closed(concurrency: 1), phases: Phase.session)
    load.drainSeconds = 5
    load.policy.timeoutMilliseconds = 30_000
    let measurement = try load.run(broker.url)
    let request = try #require(measurement.request)
    #expect(request.counts.sent > 0 && request.counts.handlerErrors == request.counts.sent)
    #expect(request.counts.protocolErrors == request.counts.sent)
    #expect(measurement.scopes[2].counts.ok == request.counts.sent)
    #expect(measurement.scopes[3].counts.handlerErrors == request.counts.sent)
  }

  @Test func manyConnectionsOfSeveralThreadsAreAllUsed() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let inboxes = Mutex<Set<String>>([])
    let responder = try Responder(broker.url) { request, to in
      inboxes.withLock { _ = $0.insert(String(to.dropLast(8))) }
      return [Publication(subject: to, bytes: reply(to: request))]
    }
    defer { responder.stop() }
    let load = NATSLoad(load: .closed(concurrency: 200), threads: 3, connections: 100)
    try expectOnlyAnswers(try load.run(broker.url))
    #expect(inboxes.withLock(\.count) == 100)
  }

  @Test(arguments: [1, 40], Dialect.allCases)
  func theLoadThreadAllocatesNothing(concurrency: Int, dialect: Dialect) throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let responder = try Responder(broker.url) { request, to in
      answers(to: request, in: dialect).map { Publication(subject: to, bytes: $0) }
    }
    defer { responder.stop() }
    var load = NATSLoad(load: .closed(concurrency: concurrency), phases: Phase.session)
    load.dialect = dialect
    // A busy machine may delay a thread for seconds, and a retry would be no defect of the engine.
    load.policy.timeoutMilliseconds = 30_000
    let measurement = try load.run(broker.url, isWarm: true) { $0.answered > 400 }
    try expectNoAllocations(measurement, debugBytesPerRequest: 5_000)
  }
}

/// What a worker of a dialect answers whose handler sets a header and goes on.
private func answers(to request: WorkerMessage, in dialect: Dialect) -> [[UInt8]] {
  let change = HTTPContextChange(
    response: HTTPResponseChange(headers: [KeyValue(key: "x-new", value: "1")]))
  switch dialect.traits.end {
  case .action: return [reply(to: request, data: request.phase == .logging ? nil : change.encoded())]
  case .map:
    let encoder = ReplyEncoder()
    let bytes = (try? request.encoded()) ?? []
    let answer = bytes.withUnsafeBytes { bytes in
      let id = (try? MessageView(request: bytes))?.requestID
      let map = encoder.encode(requestID: dialect.traits.idIsText ? id?.asText : id, sessionID: nil)
      return withExtendedLifetime(encoder) { [UInt8](map) }
    }
    return [answer]
  case .call:
    let header = HeaderKeyValueCodec.encode(key: "x-new", value: "1")
    return [
      callMap(of: request, nil), callMap(of: request, .setResponseHeader, header),
      callMap(of: request, .next),
    ]
  }
}
