import Foundation
import TestSupport
import Testing

@testable import Engine
@testable import Lab
@testable import Results

extension EndToEnd {
  @Suite("`host: nylon` uses NATS as Nylon's own host does")
  struct NylonHostTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    private func scenario(
      _ handler: String, targets: [String], workers: String, servers: String = "", more: String = ""
    ) -> String {
      let lines = targets.map { "  - {plugin: example, handler: \(handler), workers: \(workers), \($0)}" }
      return """
        name: hosts
        messaging: [{name: default, servers: [\(servers)]}]
        plugins: [{name: example, messaging: default, group: workers}]
        targets:
        \(lines.joined(separator: "\n"))
        loads: [{mode: closed, concurrency: 1}]
        warmup_seconds: 0.2
        measure_seconds: 1
        drain_seconds: 1
        \(more)
        """
    }

    private func pool(dialect: String = "stream-sdk", writesNilData: Bool = false) -> String {
      "{command: nylon-worker --dialect \(dialect), environment: {NYLON_NIL_DATA: \"\(writesNilData ? 1 : 0)\"}}"
    }

    private static let nylon = "name: nylon, host: nylon, dialect: stream-sdk"

    private func expectAnswers(_ document: RunDocument) throws {
      expectCounts(document)
      for one in document.measurements {
        let counts = try #require(one.request).counts
        #expect(counts.ok == counts.sent, "\(one.target)")
        #expect(counts.duplicates + counts.late + counts.unexpected + counts.protocolErrors == 0)
        for scope in one.scopes { #expect(scope.counts.ok == scope.counts.sent, "\(scope.scope)") }
      }
    }

    @Test(
      "Each session is five messages and four phases more than the maps of the handler",
      arguments: [false, true])
    func messages(writesNilData: Bool) throws {
      let finished = try sandbox.run(
        scenario(
          "noop", targets: ["name: lean, dialect: stream-sdk", Self.nylon],
          workers: pool(writesNilData: writesNilData)))
      let document = try sandbox.latest()
      expectHonest(finished, document)
      try expectAnswers(document)
      #expect(finished.out.contains("host: nylon"), "\(finished.out)")
      let rows = try sandbox.summary()
      // Four requests and eight maps; besides, the message to the lifecycle, four requests and their answers.
      for (target, wanted) in [("lean", 12.0), ("nylon", 21.0)] {
        let row = try #require(rows.first { $0["target"] == target && $0["phase"] == "request" })
        let seen = try #require(row["broker_in_messages"].flatMap { Double($0) })
        #expect(abs(seen - wanted) < 1.5, "\(target): \(seen)")
      }
      let phases = rows.filter { $0["target"] == "nylon" }.compactMap { $0["phase"] }
      #expect(phases.dropFirst(5) == ["initialize"])
      let nylon = try #require(document.measurements.first { $0.target == "nylon" })
      let initialize = try #require(nylon.scopes.last)
      #expect(initialize.counts.sent == 4 * (nylon.request?.counts.sent ?? 0))
    }

    @Test("A handler that waits 20 ms takes 20 ms and a little in its phase, and its reads are answered")
    func waits() throws {
      let finished = try sandbox.run(
        scenario(
          "wait", targets: [Self.nylon], workers: pool(),
          more: "phases: [request_filter, logging]\nrequest: {headers: {x-wait-us: 20000}}"))
      let document = try sandbox.latest()
      try expectAnswers(document)
      let one = try #require(document.measurements.first)
      let spoiled: Set<InvalidReason.Code> = [.unoptimisedBuild, .steal, .stalled]
      #expect(one.invalidReasons.allSatisfy { spoiled.contains($0.code) }, "\(one.invalidReasons)")
      #expect(finished.code == (one.isValid ? 0 : 81), "\(finished.err)")
      let least = Dictionary(
        uniqueKeysWithValues: one.scopes.map { ($0.scope, $0.response.leastNanoseconds) })
      #expect(least["request_filter"] ?? 0 >= 20_000_000)
      #expect(least["logging"] ?? .max < 20_000_000 && least["initialize"] ?? .max < 20_000_000)
      #expect(least["request"] ?? 0 > least["request_filter"] ?? .max)
    }

    @Test(
      "Without a worker a request is a timeout after all waits, and never an answer", .tags(.besideOthers),
      arguments: [false, true])
    func nobody(isAsked: Bool) throws {
      let broker = try RunningBroker(in: sandbox)
      let target = isAsked ? "name: nylon, host: nylon, dialect: detect" : Self.nylon
      let finished = try sandbox.run(
        scenario(
          "noop", targets: [target + ", timeout_ms: 50"], workers: "{count: 1}",
          servers: "\"\(broker.url)\""))
      broker.stop()
      #expect(finished.code == 81, "\(finished.out)\(finished.err)")
      let one = try #require(try sandbox.latest().measurements.first)
      let request = try #require(one.request)
      #expect(request.counts.sent > 0 && request.counts.timeouts == request.counts.sent)
      // The request filter waits three times.
      #expect(request.response.leastNanoseconds >= 6 * 50_000_000)
      let reason = try #require(one.invalidReasons.first { $0.code == .noAnswers })
      #expect(reason.detail.contains("request_filter: timeouts"), "\(reason)")
      #expect(reason.detail.contains("nobody is subscribed to nylon.plugin.example.request_filter"))
    }

    @Test("Workers that are asked and speak another dialect are refused", .tags(.besideOthers))
    func otherDialect() throws {
      let finished = try sandbox.run(
        scenario(
          "noop", targets: ["name: nylon, host: nylon, dialect: detect"], workers: pool(dialect: "reply-sdk"))
      )
      #expect(finished.code == 65, "\(finished.out)\(finished.err)")
      #expect(finished.err.contains("these speak reply-sdk") && finished.err.contains("host: lean"))
      let found = try sandbox.run(
        scenario("noop", targets: ["name: nylon, host: nylon, dialect: detect"], workers: pool()))
      #expect(found.err.contains("its workers speak stream-sdk"), "\(found.err)")
      try expectAnswers(try sandbox.latest())
    }
  }
}
