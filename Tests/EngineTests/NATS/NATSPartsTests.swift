import Foundation
import Lab
import Results
import Nylon
import Scenario
import Synchronization
import TestSupport
import Testing

@testable import Engine

private func monotonicNanoseconds() -> UInt64 {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Where the time goes behind NATS, with a real broker and workers that the tests script.
@Suite(.serialized, .thread("nats")) struct NATSPartsTests {
  static let names = ["to_worker", "worker_wait", "handler", "worker_reply", "to_host"]

  private func run(
    phases: [Phase] = [.requestFilter, .logging], decompose: Bool = true,
    _ stamps: @escaping @Sendable (_ received: UInt64) -> String?
  ) throws -> (Engine.Measurement, [WorkerMessage]) {
    let broker = try Broker.start()
    defer { broker.stop() }
    let responder = try Responder(broker.url, phases: phases) { request, to in
      let headers = stamps(monotonicNanoseconds()).map {
        [KeyValue(key: "other", value: "x"), KeyValue(key: "nylon-bench-stamps", value: $0)]
      }
      let reply = WorkerMessage(
        requestID: request.requestID, sessionID: request.sessionID, action: .next, headers: headers ?? [])
      return [Publication(subject: to, bytes: (try? reply.encoded()) ?? [])]
    }
    defer { responder.stop() }
    var load = NATSLoad(load: .closed(concurrency: 4), phases: phases)
    load.decompose = decompose
    let measurement = try load.run(broker.url)
    try expectOnlyAnswers(measurement)
    return (measurement, responder.requests)
  }

  @Test(arguments: [[Phase.requestFilter], [.requestFilter, .logging]])
  func thePartsOfEveryPhaseAddUpToItsServiceTime(phases: [Phase]) throws {
    let (measurement, requests) = try run(phases: phases) {
      "\($0),\($0),\($0 + 1),\($0 + 2)"
    }
    try expectParts(measurement, names: Self.names)
    let asks = [KeyValue(key: "entry", value: "h"), KeyValue(key: "nylon-bench-stamps", value: "1")]
    #expect(requests.allSatisfy { $0.headers == asks })
    let handler = try #require(measurement.scopes[1].decomposition?.parts[2].time)
    #expect(handler.leastNanoseconds == 1 && handler.greatestNanoseconds == 1)
  }

  @Test(arguments: [
    nil, "", "1,2,3", "1,2,3,4,5", "1,2,,4", "a,b,c,d", "-1,2,3,4", "1,2,3,99999999999999999999999",
    "1 2 3 4",
  ])
  func anAnswerWithoutStampsIsCountedAndNotCutUp(text: String?) throws {
    let (measurement, _) = try run { _ in text }
    for scope in measurement.scopes.dropFirst() {
      let cut = try #require(scope.decomposition)
      #expect(cut.withoutStamps == scope.counts.ok)
      #expect(cut.impossibleStamps == 0)
      #expect(cut.parts.allSatisfy { $0.time.isEmpty })
      #expect(cut.meanNanoseconds == nil)
    }
    #expect(measurement.decompositionWarnings.count == 1)
  }

  @Test func stampsOfAnotherClockAreCountedAndNotUsed() throws {
    let hour: UInt64 = 3_600_000_000_000
    for wrong in [
      { "\($0 + hour),\($0 + hour),\($0 + hour),\($0 + hour)" }, { _ in "1,2,3,4" },
      { "\($0),\($0 - 1),\($0),\($0)" }, { "\($0),\($0 + 5),\($0 + 4),\($0 + 6)" },
    ] as [@Sendable (UInt64) -> String] {
      let (measurement, _) = try run { wrong($0) }
      for scope in measurement.scopes.dropFirst() {
        let cut = try #require(scope.decomposition)
        #expect(cut.impossibleStamps == scope.counts.ok)
        #expect(cut.withoutStamps == 0)
        #expect(cut.parts.allSatisfy { $0.time.isEmpty })
      }
      #expect(measurement.decompositionWarnings.count == 1)
    }
  }

  @Test func withoutTheKeyNobodyIsAskedAndStampsAreNotRead() throws {
    let (measurement, requests) = try run(decompose: false) { "\($0),\($0),\($0),\($0)" }
    #expect(requests.allSatisfy { $0.headers == [KeyValue(key: "entry", value: "h")] })
    #expect(measurement.scopes.allSatisfy { $0.decomposition == nil })
  }
}
