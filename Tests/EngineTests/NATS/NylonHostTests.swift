import Foundation
import Lab
import NATS
import Results
import Scenario
import Synchronization
import TestSupport
import Testing

@testable import Engine
@testable import Nylon

/// The way in which Nylon's own host uses NATS, with a real broker and workers that the tests script.
@Suite(.serialized, .thread("nats")) struct NylonHostTests {
  private static func load(
    _ phases: [Phase] = Phase.session, concurrency: Int = 4, threads: Int = 1, connections: Int = 1
  ) -> NATSLoad {
    var load = NATSLoad(
      load: .closed(concurrency: concurrency), phases: phases, threads: threads, connections: connections)
    load.dialect = .streamSDK
    load.host = .nylon
    return load
  }

  private static func isInitialize(_ request: WorkerMessage) -> Bool {
    request.headers.contains(KeyValue(key: "method", value: "initialize"))
  }

  /// Maps to the subject that a phase's request names in its headers.
  private static func answer(_ request: WorkerMessage, _ maps: [[UInt8]]) -> [Publication] {
    let subject = request.headers.first { $0.key == "reply" }?.value ?? "nowhere"
    return maps.map { Publication(subject: subject, bytes: $0) }
  }

  /// What a worker does whose handlers only say Next: nobody waits for an answer to the lifecycle's message.
  private static func next(_ request: WorkerMessage, _ to: String) -> [Publication] {
    guard isInitialize(request) else {
      return answer(request, [callMap(of: request, nil), callMap(of: request, .next)])
    }
    return to.isEmpty ? [] : [Publication(subject: to, bytes: callMap(of: request, nil))]
  }

  private func run(
    _ load: NATSLoad, isWarm: Bool = false, until enough: (@Sendable (LoadGlance) -> Bool)? = nil,
    _ respond: @escaping Respond
  ) throws -> (measurement: Engine.Measurement, requests: [WorkerMessage]) {
    let broker = try Broker.start()
    defer { broker.stop() }
    let responder = try Responder(broker.url, hearsLifecycle: true, respond: respond)
    defer { responder.stop() }
    let measurement = try load.run(broker.url, isWarm: isWarm, until: enough)
    for scope in measurement.scopes { #expect(scope.counts.closes) }
    return (measurement, responder.requests)
  }

  private func scope(_ name: String, _ measurement: Engine.Measurement) throws -> ScopeMeasurement {
    try #require(measurement.scopes.first { $0.scope == name })
  }

  @Test(arguments: [(1, 1), (2, 5)])
  func aSessionBeginsWithFiveMessagesAndItsPhasesHaveNoReplySubject(shape: (Int, Int)) throws {
    var load = Self.load(concurrency: 16, threads: shape.0, connections: shape.1)
    // A closed load may begin sessions just behind the measured time, which are not counted; an open one begins none.
    load.load = .open(ratePerSecond: 400, arrivals: .uniform)
    // Beside other tests the worker may be slow.
    load.initializeTimeoutMilliseconds = 30_000
    load.defaultHeaders = [KeyValue(key: "x-env", value: "test")]
    let seen = Mutex<[(message: WorkerMessage, to: String)]>([])
    let (measurement, _) = try run(load) { request, to in
      seen.withLock { $0.append((request, to)) }
      return Self.next(request, to)
    }
    try expectOnlyAnswers(measurement)
    let sent = try #require(measurement.request).counts.sent
    #expect(try scope(Measurement.initializeScope, measurement).counts.sent == 4 * sent)
    let sessions = Dictionary(grouping: seen.withLock { $0 }, by: \.message.sessionID)
    #expect(sessions.count == Int(sent))
    #expect(sent >= 16)
    for (id, messages) in sessions {
      let first = messages.filter { Self.isInitialize($0.message) }
      #expect(first.count == 5 && first.filter { $0.to.isEmpty }.count == 1)
      for (message, _) in first {
        #expect(message.phase == .zero && message.method == 0)
        #expect(String(decoding: message.data ?? [], as: UTF8.self) == #"{"debug":true,"plugin_name":"p"}"#)
        #expect(message.headers.last == load.defaultHeaders?.first)
      }
      let phases = messages.filter { !Self.isInitialize($0.message) }
      let digits = String(id ?? 0)
      let reply = "nylon.plugin.p.reply." + String(repeating: "0", count: 10 - digits.count) + digits
      #expect(phases.map(\.message.phase) == Phase.session)
      for (message, to) in phases {
        #expect(to.isEmpty && message.method == 0 && message.data == nil)
        #expect(
          message.headers == [
            KeyValue(key: "entry", value: "h"), KeyValue(key: "reply", value: reply),
            KeyValue(key: "x-env", value: "test"),
          ])
      }
      let ids = Set(phases.map(\.message.requestID) + first.map(\.message.requestID))
      #expect(ids.count == 8)
    }
  }

  @Test(arguments: [1, 40]) func theLoadThreadAllocatesNothing(concurrency: Int) throws {
    var load = Self.load(concurrency: concurrency)
    // On a busy machine an answer may take long, which is no matter of this test.
    load.policy.timeoutMilliseconds = 30_000
    load.initializeTimeoutMilliseconds = 30_000
    load.drainSeconds = 30
    let (measurement, _) = try run(load, isWarm: true, until: { $0.answered > 400 }, Self.next)
    try expectNoAllocations(measurement, debugBytesPerRequest: 15_000)
  }

  @Test func withoutAWorkerEveryPhaseWaitsAllItsAttemptsAndTheRequestIsATimeout() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    var load = Self.load([.requestFilter, .logging])
    load.policy.timeoutMilliseconds = 40
    load.policy.onError = .retry
    load.drainSeconds = 5
    let measurement = try load.run(broker.url)
    let request = try #require(measurement.request)
    #expect(request.counts.sent > 0 && request.counts.timeouts == request.counts.sent)
    #expect(request.counts.ok == 0 && request.counts.retries == 0 && request.counts.closes)
    // Three waits in each of two phases.
    #expect(request.response.leastNanoseconds >= 240_000_000)
    for phase in measurement.scopes[1...2] { #expect(phase.counts.timeouts == request.counts.sent) }
    // These are requests with a reply subject, of which the broker says that nobody is there.
    let initialize = try scope(Measurement.initializeScope, measurement)
    #expect(initialize.counts.lost == 4 * request.counts.sent && initialize.counts.closes)
    #expect(initialize.counts.noResponders == initialize.counts.lost)
    #expect(measurement.evidence?.subjectWithoutSubscriber == "nylon.plugin.p.request_filter")
  }

  @Test func aRetryOnlyWaitsAgainAndAnAnswerInItsTimeCounts() throws {
    var load = Self.load([.requestFilter], concurrency: 1)
    load.policy.timeoutMilliseconds = 100
    load.policy.onError = .retry
    let (measurement, requests) = try run(load) { request, to in
      var publications = Self.next(request, to)
      if !Self.isInitialize(request) { publications[0].delayMilliseconds = 150 }
      return publications
    }
    try expectOnlyAnswers(measurement)
    let request = try #require(measurement.request)
    #expect(requests.filter { !Self.isInitialize($0) }.count == Int(request.counts.sent))
    #expect(try scope("request_filter", measurement).response.leastNanoseconds >= 150_000_000)
  }

  @Test(arguments: [ErrorAction.end, .continue, .retry])
  func afterTheLastTimeoutTheSessionGoesOn(onError: ErrorAction) throws {
    var load = Self.load([.requestFilter, .logging])
    load.policy.timeoutMilliseconds = 30
    load.policy.onError = onError
    let (measurement, requests) = try run(load) { request, to in
      request.phase == .requestFilter ? [] : Self.next(request, to)
    }
    let request = try #require(measurement.request)
    #expect(request.counts.sent > 0 && request.counts.timeouts == request.counts.sent)
    #expect(try scope("request_filter", measurement).counts.timeouts == request.counts.sent)
    let logging = try scope("logging", measurement)
    #expect(logging.counts.sent == request.counts.sent && logging.counts.ok > 0)
    #expect(requests.filter { $0.phase == .requestFilter }.count == Int(request.counts.sent))
  }

  @Test func anInitializationThatIsNotAnsweredOrRefusedDelaysTheSessionAndDoesNotFailIt() throws {
    var load = Self.load([.requestFilter])
    load.initializeTimeoutMilliseconds = 30
    let silent = try run(load) { request, to in
      Self.isInitialize(request) ? [] : Self.next(request, to)
    }.measurement
    let request = try #require(silent.request)
    #expect(request.counts.sent > 0 && request.counts.ok == request.counts.sent)
    #expect(request.response.leastNanoseconds >= 120_000_000)
    #expect(try scope(Measurement.initializeScope, silent).counts.timeouts == 4 * request.counts.sent)
    // The phase itself was answered at once: nothing of the wait is in its row.
    #expect(try scope("request_filter", silent).response.count == request.counts.ok)
    #expect(
      try scope("request_filter", silent).response.leastNanoseconds < request.response.leastNanoseconds)

    load.initializeTimeoutMilliseconds = nil
    let refusing = try run(load) { request, to in
      Self.isInitialize(request) && !to.isEmpty
        ? [Publication(subject: to, bytes: callMap(of: request, nil, error: "broken"))]
        : Self.next(request, to)
    }.measurement
    let sessions = try #require(refusing.request).counts
    #expect(sessions.sent > 0 && sessions.ok == sessions.sent)
    #expect(try scope(Measurement.initializeScope, refusing).counts.handlerErrors == 4 * sessions.sent)
    #expect(refusing.evidence?.workerError == "broken")
  }

  @Test func aBrokerThatDiesAndComesBackIsUsedAgain() throws {
    let first = try Broker.start()
    let responder = try Responder(first.url, respond: Self.next)
    let back = Mutex<(broker: Broker?, responder: Responder?)>((nil, nil))
    let askedBefore = Atomic(Int.max)
    let restarted = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      _ = eventually { responder.requests.count > 200 }
      first.kill()
      askedBefore.store(responder.requests.count, ordering: .relaxed)
      let second = try? first.again()
      back.withLock { $0 = (second, second.flatMap { try? Responder($0.url, respond: Self.next) }) }
      restarted.signal()
    }
    var load = Self.load(concurrency: 8, connections: 2)
    load.policy.timeoutMilliseconds = 200
    load.initializeTimeoutMilliseconds = 100
    let measurement = try load.run(first.url) { glance in
      let before = askedBefore.load(ordering: .relaxed)
      // A session is eight requests to a worker.
      return before < .max && glance.answered > before / 8 + 100
    }
    restarted.wait()
    responder.stop()
    back.withLock {
      $0.responder?.stop()
      $0.broker?.stop()
    }
    let request = try #require(measurement.request)
    #expect(request.counts.closes && request.counts.ok > askedBefore.load(ordering: .relaxed) / 8)
    #expect(measurement.warnings.contains { $0.contains("lost and made again") })
  }
}
