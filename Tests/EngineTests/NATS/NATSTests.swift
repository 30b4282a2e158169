import Foundation
import Lab
import Results
@testable import Scenario
import Synchronization
import TestSupport
import Testing

@testable import Engine
@testable import Nylon

/// The NATS transport with a real broker and workers that the tests script.
@Suite(.serialized, .thread("nats")) struct NATSTests {
  private func with(
    _ load: NATSLoad, phases: [Phase] = Phase.session, until enough: (@Sendable (LoadGlance) -> Bool)? = nil,
    respond: @escaping Respond
  ) throws -> (Engine.Measurement, [WorkerMessage]) {
    let broker = try Broker.start()
    defer { broker.stop() }
    let responder = try Responder(broker.url, phases: phases, respond: respond)
    defer { responder.stop() }
    return (try load.run(broker.url, until: enough), responder.requests)
  }

  @Test(arguments: [(1, 1), (1, 3), (2, 2), (2, 5)])
  func everyRequestIsAnsweredOnceOverAllConnections(shape: (Int, Int)) throws {
    let load = NATSLoad(
      load: .closed(concurrency: 16), phases: Phase.session, threads: shape.0, connections: shape.1)
    let inboxes = Mutex<Set<String>>([])
    let (measurement, requests) = try with(load) { request, to in
      inboxes.withLock { _ = $0.insert(String(to.dropLast(8))) }
      return [Publication(subject: to, bytes: reply(to: request))]
    }
    #expect(inboxes.withLock(\.count) == shape.1)
    try expectOnlyAnswers(measurement)
    #expect(try #require(measurement.request).counts.sent >= 16)
    #expect(Set(requests.map(\.requestID)).count == requests.count)
    #expect(requests.allSatisfy { $0.headers == [KeyValue(key: "entry", value: "h")] })
    let sessions = Dictionary(grouping: requests, by: \.sessionID)
    #expect(sessions.values.allSatisfy { $0.map(\.phase) == Phase.session })
  }

  @Test(arguments: [false, true]) func defaultHeadersComeWithEachRequest(decompose: Bool) throws {
    var load = NATSLoad(phases: Phase.session, decompose: decompose)
    load.defaultHeaders = [KeyValue(key: "x-env", value: "test")]
    let (measurement, requests) = try with(load) { request, to in
      [Publication(subject: to, bytes: reply(to: request))]
    }
    try expectOnlyAnswers(measurement)
    let stamps = decompose ? [WorkerStamps.question] : []
    let wanted = [KeyValue(key: "entry", value: "h")] + stamps + [KeyValue(key: "x-env", value: "test")]
    #expect(!requests.isEmpty && requests.allSatisfy { $0.headers == wanted })
  }

  @Test(arguments: [true, false])
  func endInTheRequestFilterSendsTheHandlersOwnResponseThroughTheOtherPhases(answers: Bool) throws {
    var load = NATSLoad(phases: Phase.session)
    let upstream = [KeyValue(key: "server", value: "up")]
    let own = [KeyValue(key: "x-own", value: "1")]
    load.request.responseStatus = 201
    load.request.responseHeaders = upstream
    load.request.bodyBytes = 10
    load.verify = answers ? Verification(status: 403, body: "no") : Verification(status: 200, body: "")
    // As a worker does: all headers, those of the upstream that it was given among them.
    let change = HTTPContextChange(
      response: HTTPResponseChange(status: 403, headers: upstream + own, body: Array("no".utf8)))
    let (measurement, requests) = try with(load) { request, to in
      let isFirst = request.phase == .requestFilter
      let data = isFirst && answers ? change.encoded() : nil
      return [Publication(subject: to, bytes: reply(to: request, isFirst ? .end : .next, data: data))]
    }
    try expectOnlyAnswers(measurement)
    for scope in measurement.scopes { #expect(scope.counts.ok == measurement.scopes[0].counts.ok) }
    let later = requests.filter { $0.phase != .requestFilter }
    #expect(!later.isEmpty)
    let wanted = answers ? HTTPResponse(status: 403, headers: own, body: Array("no".utf8)) : HTTPResponse()
    for request in later {
      let seen = try #require(request.data).withUnsafeBytes { try HTTPContextChange(decoding: $0) }
      #expect(HTTPContext().applying(seen).response == wanted)
    }
  }

  @Test func aReplyWithAnothersRequestIDIsAnErrorAndNotAnAnswer() throws {
    let (measurement, _) = try with(NATSLoad()) { request, to in
      [Publication(subject: to, bytes: reply(to: request, id: RequestID(high: 1, low: 2)))]
    }
    try expectErrors(measurement, protocolErrors: true)
  }

  @Test(
    arguments: [[], [0xC1], [0x93, 1, 2, 3], Array("next".utf8), [0x81, 0xA6]] as [[UInt8]])
  func malformedBytesAreAnErrorAndNotAnAnswer(bytes: [UInt8]) throws {
    let (measurement, _) = try with(NATSLoad()) { _, to in
      [Publication(subject: to, bytes: bytes)]
    }
    try expectErrors(measurement, protocolErrors: true)
  }

  @Test func aReplyWhoseContextIsNoneIsAnError() throws {
    let (measurement, _) = try with(NATSLoad()) { request, to in
      [Publication(subject: to, bytes: reply(to: request, data: [1, 2, 3, 4, 5]))]
    }
    try expectErrors(measurement, protocolErrors: true)
  }

  @Test(arguments: [ReplyAction.error, .empty])
  func anErrorOfTheHandlerIsAnErrorAndNoBreachOfTheProtocol(action: ReplyAction) throws {
    let (measurement, _) = try with(NATSLoad()) { request, to in
      [Publication(subject: to, bytes: reply(to: request, action, error: "broken"))]
    }
    try expectErrors(measurement, protocolErrors: false)
  }

  @Test func unknownAndMissingActionsBreakTheProtocol()
    throws
  {
    for action in [ReplyAction.unknown, .missing] {
      let (measurement, _) = try with(NATSLoad()) { request, to in
        [Publication(subject: to, bytes: reply(to: request, action))]
      }
      try expectErrors(measurement, protocolErrors: true)
    }
  }

  @Test func withoutAWorkerEveryRequestIsLostAfterItsRetries() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    var load = NATSLoad()
    load.policy.onError = .retry
    let measurement = try load.run(broker.url) { $0.errors > 8 }
    let request = try #require(measurement.request)
    #expect(request.counts.sent > 8)
    #expect(request.counts.lost == request.counts.sent)
    #expect(request.counts.noResponders == 3 * request.counts.sent)
    #expect(request.counts.retries == 2 * request.counts.sent)
    #expect(request.counts.timeouts == 0)
    #expect(request.response.isEmpty)
    #expect(request.okInWindow == 0)
  }

  @Test func aPhaseWithoutAWorkerIsLostWhileTheOthersAreAnswered() throws {
    var load = NATSLoad(
      load: .closed(concurrency: 8), phases: [.requestFilter, .responseFilter, .logging])
    load.policy.onError = .continue
    load.policy.attempts = 1
    let (measurement, _) = try with(
      load, phases: [.requestFilter, .logging], until: { $0.errors > 8 }
    ) { request, to in [Publication(subject: to, bytes: reply(to: request))] }
    let request = try #require(measurement.request)
    #expect(request.counts.sent > 8)
    #expect(request.counts.lost == request.counts.sent)
    #expect(measurement.scopes[1].counts.ok == request.counts.sent)
    #expect(measurement.scopes[2].counts.lost == request.counts.sent)
    #expect(measurement.scopes[2].counts.noResponders == request.counts.sent)
    #expect(measurement.scopes[3].counts.ok == request.counts.sent)
    #expect(request.counts.duplicates + request.counts.late + request.counts.unexpected == 0)
  }

  @Test func aReplyAfterTheTimeoutIsLate() throws {
    let first = Mutex(true)
    var load = NATSLoad(load: .closed(concurrency: 1), measureSeconds: 0.4)
    load.policy.timeoutMilliseconds = 60
    let (measurement, _) = try with(load) { request, to in
      let isFirst = first.withLock { value in
        defer { value = false }
        return value
      }
      return [Publication(subject: to, bytes: reply(to: request), delayMilliseconds: isFirst ? 90 : 0)]
    }
    let request = try #require(measurement.request)
    #expect(request.counts.timeouts >= 1)
    #expect(request.counts.late >= 1)
    #expect(request.counts.late <= request.counts.timeouts)
    #expect(request.counts.ok > 0)
    #expect(request.counts.duplicates == 0)
    #expect(request.counts.closes)
    #expect(request.response.count == request.counts.sent)
  }

  @Test func aReplyThatComesTwiceIsADuplicate() throws {
    let (measurement, requests) = try with(NATSLoad()) { request, to in
      let bytes = reply(to: request)
      return [Publication(subject: to, bytes: bytes), Publication(subject: to, bytes: bytes)]
    }
    let request = try #require(measurement.request)
    #expect(request.counts.ok == request.counts.sent)
    #expect(request.counts.duplicates > 0)
    // The very last ones may come when nobody reads any more.
    #expect(Int(request.counts.duplicates) <= requests.count)
    #expect(Int(request.counts.duplicates) >= requests.count - 4)
    #expect(request.counts.late == 0)
    #expect(request.counts.unexpected == 0)
  }

  @Test func aReplyToNothingThatWasAskedIsUnexpected()
    throws
  {
    let (measurement, requests) = try with(NATSLoad()) { request, to in
      let root = to.dropLast(8)
      return ["fffe0000", "12345678", "0001fff0", "zz000000", "1"].map {
        Publication(subject: root + $0, bytes: reply(to: request))
      } + [Publication(subject: to, bytes: reply(to: request))]
    }
    let request = try #require(measurement.request)
    #expect(request.counts.ok == request.counts.sent)
    #expect(Int(request.counts.unexpected) == 5 * requests.count)
    #expect(request.counts.duplicates == 0)
  }

  @Test func whatAHandlerChangedTravelsToTheNextPhaseAndIsVerified() throws {
    var load = NATSLoad(phases: Phase.session)
    load.request = RequestSpec(
      method: "POST", path: "/a?b=c", headers: [KeyValue(key: "host", value: "h")], bodyBytes: 10,
      responseStatus: 200, responseHeaders: [KeyValue(key: "via", value: "up")])
    load.verify = Verification(
      status: 203, responseHeaders: [KeyValue(key: "X-New", value: "1")], body: "gone")
    let (measurement, requests) = try with(load) { request, to in
      let change: HTTPContextChange? =
        switch request.phase {
        case .requestFilter: HTTPContextChange(request: HTTPRequestChange(path: "/z"))
        case .responseFilter:
          HTTPContextChange(
            response: HTTPResponseChange(status: 203, headers: [KeyValue(key: "x-new", value: "1")]))
        case .responseBodyFilter: HTTPContextChange(response: HTTPResponseChange(body: Array("gone".utf8)))
        default: nil
        }
      return [Publication(subject: to, bytes: reply(to: request, data: change?.encoded()))]
    }
    try expectOnlyAnswers(measurement)
    let first = RequestContent(load.request, seed: 1)
    for request in requests {
      let context = try (try #require(request.data)).withUnsafeBytes {
        HTTPContext().applying(try HTTPContextChange(decoding: $0))
      }
      var wanted = HTTPContext(request: first.request, response: first.response)
      if request.phase != .requestFilter { wanted.request?.path = "/z" }
      if [.responseBodyFilter, .logging].contains(request.phase) {
        wanted.response?.status = 203
        wanted.response?.headers = [KeyValue(key: "x-new", value: "1")]
      }
      if request.phase == .logging { wanted.response?.body = Array("gone".utf8) }
      #expect(context == wanted)
    }
  }

  @Test func manyDifferentContextsStayApart() throws {
    // More contexts than sessions may share: each session's own must come back to it.
    var load = NATSLoad(
      load: .closed(concurrency: 8), phases: [.requestFilter, .logging])
    load.verify = Verification(responseHeaders: [KeyValue(key: "x-session", value: "")])
    let mixed = Mutex(0)
    let enough = UInt64(2 * ContextStates.mostShared)
    let (measurement, requests) = try with(load, until: { $0.answered > enough }) { request, to in
      if request.phase == .logging {
        let context = request.data.flatMap { data in
          data.withUnsafeBytes { try? HTTPContext().applying(HTTPContextChange(decoding: $0)) }
        }
        let own = KeyValue(key: "x-session", value: String(request.sessionID ?? 0))
        if context?.response?.headers != [own] { mixed.withLock { $0 += 1 } }
        return [Publication(subject: to, bytes: reply(to: request))]
      }
      let change = HTTPContextChange(
        response: HTTPResponseChange(headers: [
          KeyValue(key: "x-session", value: String(request.sessionID ?? 0))
        ]))
      return [Publication(subject: to, bytes: reply(to: request, data: change.encoded()))]
    }
    try expectOnlyAnswers(measurement)
    #expect(requests.count > 2 * ContextStates.mostShared)
    #expect(mixed.withLock { $0 } == 0)
  }

  @Test func aRetryIsTheSameRequestAgain() throws {
    var load = NATSLoad(load: .closed(concurrency: 1))
    load.policy.onError = .retry
    let count = Mutex(0)
    let (measurement, requests) = try with(load) { request, to in
      let number = count.withLock { value in
        value += 1
        return value
      }
      return [Publication(subject: to, bytes: reply(to: request, number % 3 == 0 ? .next : .error))]
    }
    let request = try #require(measurement.request)
    #expect(request.counts.ok == request.counts.sent)
    #expect(request.counts.retries == 2 * request.counts.sent)
    for place in stride(from: 0, to: requests.count - 2, by: 3) {
      #expect(Set(requests[place..<place + 3].map(\.requestID)).count == 1)
      #expect(Set(requests[place..<place + 3].map(\.sessionID)).count == 1)
    }
    #expect(Set(requests.map(\.requestID)).count == requests.count / 3)
  }

  private func expectErrors(_ measurement: Engine.Measurement, protocolErrors: Bool) throws {
    let request = try #require(measurement.request)
    #expect(request.counts.sent > 0)
    #expect(request.counts.handlerErrors == request.counts.sent)
    #expect(request.counts.protocolErrors == (protocolErrors ? request.counts.sent : 0))
    #expect(request.counts.closes)
    #expect(request.response.isEmpty)
    #expect(request.okInWindow == 0)
  }
}
