import Foundation
import Nylon
@testable import Report
import Scenario
import Testing

@testable import Bench

@Suite("What conform finds") struct ConformanceTests {
  // MARK: A plugin's calls

  private func call(
    _ method: UInt32, phase: UInt8 = 1, sid: UInt32 = 7, thread: UInt64 = 0, fault: String? = nil
  ) -> PluginCall {
    PluginCall(
      sid: sid, session: 7, phase: phase, method: method, hasPointer: false, thread: thread, fault: fault)
  }

  private func trial(_ calls: [PluginCall], result: Bool = true) throws -> Trial {
    try told([.begin(.phase(1))] + calls.map(TrialNote.call) + [.end(result), .over(nil)])
  }

  /// What becomes of a process that tells this and then ends.
  private func told(_ notes: [TrialNote], end: Trial.End = .whole, torn: Int = 0) throws -> Trial {
    let lines = try notes.map { try JSONEncoder().encode($0) + Data([10]) }.reduce(Data(), +)
    return Trial(notes: [UInt8](lines.dropLast(torn)), end: end)
  }

  @Test("A phase ends once, with NEXT, END or the end of the stream, and names itself or none")
  func phases() throws {
    for method: UInt32 in [1, 2, 105] {
      for phase: UInt8 in [0, 1] {
        #expect(try trial([call(100), call(method, phase: phase)]).phase(1).result == .ok)
      }
    }
    #expect(try trial([call(1), call(2)]).phase(1) == .deviates("ended 2 times: next, end"))
    #expect(try trial([call(1, phase: 2)], result: false).phase(1) == .deviates("its next names phase 2"))
    #expect(try trial([call(1, sid: 8)], result: false).phase(1).result == .hangs)
    #expect(try trial([], result: false).phase(1).result == .hangs)
  }

  @Test("A process that ends or hangs is reported with its step, and results of earlier phases are kept")
  func interruptions() throws {
    let first: [TrialNote] = [.begin(.phase(1)), .call(call(1)), .end(true)]
    let end = Trial.End.died("was ended by SIGSEGV (signal 11)")
    let died = try told(first + [.begin(.phase(2))], end: end)
    #expect(died.phase(1).result == .ok)
    #expect(died.phase(2) == .deviates("response_filter: the process was ended by SIGSEGV (signal 11)"))
    #expect(died.finding { _ in .ok("") } == died.phase(2))
    #expect(died.reached(.phase(3)) == nil)
    // A thread of the plugin's own, behind the end of the step.
    #expect(try told(first, end: end).phase(1).result == .deviates)
    #expect(
      try told([.begin(.phase(1))], end: .hung).phase(1) == .hangs("request_filter did not return"))
    let words = try told([], end: .died("was ended by SIGABRT", lastWords: "double free"))
    #expect(words.finding { _ in .ok("") }.seen == "dlopen: the process was ended by SIGABRT: double free")
    #expect(words.lastWords == "double free" && died.lastWords == died.phase(2).seen)
  }

  @Test("Notes are read as they came; a torn last one is left out")
  func notes() throws {
    let notes: [TrialNote] = [.begin(.load), .end(true), .begin(.open("noop")), .call(call(1)), .end(false)]
    let whole = try told(notes + [.over(nil)], end: .hung)
    #expect(whole.records.map(\.step) == [.load, .open("noop")] && whole.end == .whole)
    #expect(whole.records.map(\.result) == [true, false] && whole.calls == [call(1)])
    #expect(try told(notes, end: .hung, torn: 3).records.map(\.result) == [true, nil])
    #expect(try told([.over(.missing(path: "p"))]).error == .missing(path: "p"))
  }

  @Test("Calls behind the end, of other sessions and with faults are named; threads are a fact")
  func calls() throws {
    #expect(try trial([call(103), call(1)]).order.result == .ok)
    #expect(
      try trial([call(1), call(103)]).order
        == .deviates("set_response_full_body after next in request_filter"))
    #expect(try trial([call(1), call(1)]).order.result == .ok)
    #expect(
      try trial([call(1), call(103, sid: 9)]).sessionIDs.seen
        == "set_response_full_body for session 9 in session 7")
    #expect(
      try trial([call(77, fault: "a"), call(78, fault: "b"), call(77, fault: "a")]).payloads
        == .deviates("a; b"))
    #expect(try trial([call(1, thread: 4)]).threads.seen == "from 1 of its threads")
    #expect(
      try trial([call(1, thread: 4), call(1)]).threads.seen == "inside event_stream and from 1 of its threads"
    )
  }

  @Test("Each method has the payload that the interface says")
  func payloads() {
    func fault(_ method: UInt32, _ bytes: [UInt8], phase: UInt8 = 1) -> String? {
      bytes.withUnsafeBytes { Nylon.Method(rawValue: method).fault(phase: phase, payload: $0) }
    }
    #expect(fault(100, HeaderKeyValueCodec.encode(key: "a", value: "b")) == nil)
    #expect(fault(100, [1, 2])?.contains("HeaderKeyValue") == true)
    #expect(fault(102, [0, 200]) == nil && fault(102, [200])?.contains("2, big-endian") == true)
    #expect(
      fault(101, Array("via".utf8)) == nil && fault(101, []) != nil && fault(201, [0xff], phase: 0) != nil)
    #expect(fault(204, [], phase: 0) == nil && fault(204, [], phase: 1)?.contains("names phase 1") == true)
    #expect(fault(77, [])?.contains("unknown") == true && fault(351, [])?.contains("the host") == true)
    for method: UInt32 in [1, 2, 103, 104, 105, 106] { #expect(fault(method, []) == nil) }
  }

  @Test("What grows by over 64 bytes a session is a leak, unless it is next to nothing")
  func growth() {
    #expect(Growth(bytes: 800_000, sessions: 10_000).isLeak)
    #expect(!Growth(bytes: 600_000, sessions: 10_000).isLeak && !Growth(bytes: 100_000, sessions: 100).isLeak)
    let filled = [0.0, 900_000, 950_000, 1_000_000].enumerated().map {
      Growth(bytes: $1, sessions: UInt64($0) * 10_000 + 5)
    }
    #expect(Growth(filled) == Growth(bytes: 150_000, sessions: 30_000) && Growth([filled[0]]) == nil)
    #expect(Growth(bytes: 500_000, sessions: 10_000).mayBeLeak)
    #expect(!Growth(bytes: 300_000, sessions: 10_000).mayBeLeak)
    #expect("\(Growth(bytes: -5, sessions: 10))".hasPrefix("0 B left per session over 10 "))
  }

  // MARK: A pool's answers

  private let id = RequestID.bytes(Array(0..<16))

  private func exchange(_ dialect: Dialect, _ maps: [WorkerMessage]) throws -> Exchange {
    var exchange = Exchange(
      request: WorkerMessage(requestID: id, sessionID: 5, phase: .logging), dialect: dialect.traits)
    for map in maps { try map.encoded().withUnsafeBytes { exchange.take($0) } }
    return exchange
  }

  @Test("An answer has the request's id in its type, and arrives once")
  func answers() throws {
    let good = WorkerMessage(requestID: id, sessionID: 5, action: .next)
    let one = try exchange(.reply, [good])
    #expect(one.finding == .ok("answered") && one.faults.isEmpty && one.surplus == nil)
    #expect(try exchange(.reply, [good, good]).surplus == "a second answer")
    #expect(try exchange(.reply, []).finding == .hangs("no answer"))
    for id in [nil, RequestID.text("0"), .bytes(Array(1..<17))] {
      let other = try exchange(.reply, [WorkerMessage(requestID: id, sessionID: 5, action: .next)])
      let seen = "request_id \(id == nil ? "is missing" : "has another value or type")"
      #expect(other.finding.result == .deviates && other.finding.seen.hasPrefix(seen))
    }
    let failed = try exchange(
      .reply, [WorkerMessage(requestID: id, sessionID: 5, action: .error, error: "no")])
    #expect(failed.failure == nil && failed.error == "no")
    var refused = one
    refused.isRefused = true
    #expect(refused.finding.seen.contains("503"))
  }

  @Test("Keys and types that the dialect does not have are named")
  func keys() throws {
    let other = try exchange(.replySDK, [WorkerMessage(requestID: id, action: .next)])
    #expect(other.faults.count == 1 && other.faults[0].contains("`action`"))
    let session = try exchange(.reply, [WorkerMessage(requestID: id, sessionID: 6, action: .next)])
    #expect(session.faults == ["session_id is not the request's"])
    let table = try exchange(.reply, [WorkerMessage(requestID: id, sessionID: 5, action: .next, data: [1])])
    #expect(table.faults == ["data: 1 bytes are not a NylonHttpContext"])
    var torn = try exchange(.reply, [])
    [UInt8(0xc0)].withUnsafeBytes { torn.take($0) }
    #expect(torn.end == 0 && torn.finding.result == .deviates)
  }

  @Test("In stream-sdk a call ends the phase, and only an acknowledgement may follow it")
  func callMaps() throws {
    func map(_ method: UInt32?, _ data: [UInt8]? = nil) -> WorkerMessage {
      WorkerMessage(requestID: id, sessionID: 5, method: method, data: data)
    }
    let good = try exchange(.streamSDK, [map(nil), map(102, [0, 200]), map(1)])
    #expect(good.finding == .ok("3 maps") && good.faults.isEmpty && good.surplus == nil)
    #expect(try exchange(.streamSDK, [map(1), map(nil)]).surplus == nil)
    #expect(
      try exchange(.streamSDK, [map(1), map(103)]).surplus?.hasPrefix("set_response_full_body") == true)
    #expect(try exchange(.streamSDK, [map(nil), map(103)]).finding.result == .hangs)
    #expect(try exchange(.streamSDK, [map(102, [1]), map(1)]).faults.count == 1)
  }

  // MARK: What is printed

  @Test("The exit code follows from the findings, and the summary names what does not hold")
  func summary() {
    var found = Conformance(subject: "p.so", handler: "noop", findings: [.ok("")], payloads: .host)
    #expect(found.reason == nil)
    #expect(found.summary == "conforms: 1 ok\nIn a scenario's target: handler: noop, payloads: host\n")
    found.findings += [RuleFinding(rule: "entry", result: .refused, seen: "", remedy: "do this")]
    found.isCut = true
    #expect(found.reason == .badInput)
    #expect(found.summary.hasPrefix("1 of 2 rules deviates: entry\nAll other rules need entry"))
    found.findings += [RuleFinding(rule: "memory", result: .hangs, seen: String(repeating: "x", count: 200))]
    #expect(found.reason == .gateNotMet)
    let table = found.table(onlyBad: true)
    #expect(table.rows.count == 2 && table.notes == ["entry: do this"])
    #expect(table.text().split(separator: "\n").allSatisfy { $0.count <= 100 })
  }
}
