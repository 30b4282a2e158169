import Foundation
import Lab
import Results
import Scenario
import Synchronization
import TestSupport
import Testing

@testable import Engine
@testable import Nylon

/// Workers that send a map for each call, scripted, behind a real broker.
@Suite(.serialized, .thread("nats")) struct CallMapTests {
  private func run(
    phases: [Phase] = [.requestFilter, .logging], verify: Verification = Verification(),
    _ maps: @escaping @Sendable (WorkerMessage) -> [[UInt8]]
  ) throws -> (ScopeMeasurement, [WorkerMessage]) {
    let broker = try Broker.start()
    defer { broker.stop() }
    let responder = try Responder(broker.url) { request, to in
      // The reply subject stands in the map as well; the answer to a read has it nowhere.
      let named = request.headers.first { $0.key == "reply" }?.value
      if request.phase != .zero, named != to { Issue.record("headers.reply is \(named ?? "missing")") }
      return maps(request).map { Publication(subject: to, bytes: $0) }
    }
    defer { responder.stop() }
    var load = NATSLoad(phases: phases)
    load.dialect = .streamSDK
    load.verify = verify
    let measurement = try load.run(broker.url) { $0.answered + $0.errors > 20 }
    let request = try #require(measurement.request)
    #expect(request.counts.closes && request.counts.sent > 4)
    return (request, responder.requests)
  }

  private static let header = HeaderKeyValueCodec.encode(key: "x-new", value: "1")

  @Test(arguments: [true, false]) func anAcknowledgementBeforeOrBehindNextIsNoAnswer(isBefore: Bool) throws {
    let verify = Verification(status: 203, responseHeaders: [KeyValue(key: "X-New", value: "1")], body: "new")
    let (request, requests) = try run(verify: verify) { request in
      let calls = [
        callMap(of: request, .setResponseHeader, Self.header),
        callMap(of: request, .setResponseStatus, [0, 203]),
        callMap(of: request, .setResponseFullBody, Array("new".utf8)), callMap(of: request, .next),
      ]
      let acknowledgement = [callMap(of: request, nil)]
      return isBefore ? acknowledgement + calls : calls + acknowledgement
    }
    #expect(request.counts.ok == request.counts.sent)
    #expect(
      request.counts.duplicates + request.counts.late + request.counts.unexpected
        + request.counts.protocolErrors
        == 0)
    #expect(requests.allSatisfy { $0.method == 0 && $0.data == nil })
  }

  @Test func callsBehindNextAreLateAndASecondNextIsADuplicate() throws {
    let (request, requests) = try run { request in
      [
        callMap(of: request, .next), callMap(of: request, .setResponseHeader, Self.header),
        callMap(of: request, .next), callMap(of: request, nil),
      ]
    }
    #expect(request.counts.ok == request.counts.sent)
    for count in [request.counts.late, request.counts.duplicates] {
      // The very last ones may come when nobody reads any more.
      #expect((requests.count - 4...requests.count).contains(Int(count)))
    }
  }

  @Test func theEndOfAStreamEndsThePhaseAndAnErrorIsTheHandlers() throws {
    let (ended, _) = try run { request in
      [
        callMap(of: request, .setResponseStreamHeader), callMap(of: request, .setResponseStreamData, [65]),
        callMap(of: request, .setResponseStreamEnd),
      ]
    }
    #expect(ended.counts.ok == ended.counts.sent)
    let (failed, _) = try run { [callMap(of: $0, nil), callMap(of: $0, nil, error: "broken")] }
    #expect(failed.counts.handlerErrors == failed.counts.sent && failed.counts.protocolErrors == 0)
  }

  @Test func whatDiffersFromVerifyIsWrongContent() throws {
    let (request, _) = try run(verify: Verification(status: 204)) { [callMap(of: $0, .next)] }
    #expect(request.counts.wrongContent == request.counts.sent)
  }

  @Test func aReadIsAnsweredOnThePhasesSubject() throws {
    let (request, requests) = try run(phases: [.requestFilter]) { request in
      request.phase == .zero
        ? []
        : [
          callMap(of: request, .readRequestPath), callMap(of: request, .readResponseStatus),
          callMap(of: request, .next),
        ]
    }
    #expect(request.counts.ok == request.counts.sent)
    let asked = requests.filter { $0.phase != .zero }
    let answers = requests.filter { $0.phase == .zero }
    #expect(answers.count >= 2 * (asked.count - 4))
    let sessions = Dictionary(uniqueKeysWithValues: asked.map { ($0.sessionID, $0.requestID) })
    for answer in answers {
      #expect(sessions[answer.sessionID] == answer.requestID)
      let text = String(decoding: answer.data ?? [], as: UTF8.self)
      #expect(text == (answer.method == Nylon.Method.readRequestPath.rawValue ? "/" : "200"))
    }
  }

  @Test func unknownCallsBreakTheProtocolAndDoNotEndThePhase() throws {
    let (request, _) = try run { request in
      [
        callMap(of: request, Nylon.Method(rawValue: 300)), callMap(of: request, .setResponseStatus, [1]),
        callMap(of: request, .next),
      ]
    }
    #expect(request.counts.ok == request.counts.sent)
    #expect(request.counts.protocolErrors >= request.counts.sent)
  }
}
