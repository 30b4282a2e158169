import Foundation
import Nylon
import TestSupport
import Testing

@testable import Engine
@testable import Lab
@testable import Results

extension EndToEnd {
  @Suite("Every wire dialect is spoken, by the generator and by nylon-worker", .tags(.besideOthers))
  struct DialectTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// What a worker is started with.
    struct Worker: CustomTestStringConvertible {
      let dialect: Dialect
      var writesNilData = false
      var testDescription: String { dialect.rawValue + (writesNilData ? " with data: nil" : "") }

      var environment: String {
        "NYLON_DIALECT: \(dialect.rawValue), NYLON_NIL_DATA: \"\(writesNilData ? 1 : 0)\""
      }

      static let all =
        Dialect.allCases.map { Worker(dialect: $0) } + [
          Worker(dialect: .streamSDK, writesNilData: true)
        ]
    }

    private static let pauses = "{wait_us: 20000}"

    /// One phase of a handler that sets a header, waits 20 ms, and says Next; with workers to start, or without.
    private func scenario(
      _ dialect: String, workers: String, config: String? = pauses, handler: String = "pause",
      servers: String = "", target: String = ""
    ) -> String {
      let config = config.map { ", config: \($0)" } ?? ""
      return """
        name: dialects
        messaging: [{name: default, servers: [\(servers)]}]
        plugins: [{name: example, messaging: default, group: workers\(config)}]
        targets:
          - {name: nats, plugin: example, handler: \(handler), phases: [request_filter], timeout_ms: 300,
             dialect: \(dialect), workers: \(workers)\(target)}
        loads: [{mode: closed, concurrency: 1}]
        warmup_seconds: 0
        measure_seconds: 0.3
        drain_seconds: 0.2
        """
    }

    private func pool(_ worker: Worker, count: Int = 1, more: String = "") -> String {
      "{count: \(count), command: nylon-worker, environment: {\(worker.environment)\(more)}}"
    }

    /// An honest run in that dialect, whose requests were all answered after 20 ms.
    private func expectPauses(_ finished: Finished, _ dialect: Dialect) throws {
      let document = try sandbox.latest()
      expectCounts(document)
      let one = try #require(document.measurements.first)
      // On a busy machine a load of 15 requests may stand still for a moment.
      let spoiled: Set<InvalidReason.Code> = [.unoptimisedBuild, .steal, .stalled]
      #expect(one.invalidReasons.allSatisfy { spoiled.contains($0.code) }, "\(one.invalidReasons)")
      #expect(finished.code == (one.isValid ? 0 : 81), "\(finished.err)")
      let request = try #require(one.request)
      #expect(request.counts.ok == request.counts.sent)
      #expect(request.counts.duplicates + request.counts.late + request.counts.protocolErrors == 0)
      #expect(request.response.leastNanoseconds >= 20_000_000)
      #expect(one.dialect == dialect && one.warnings.allSatisfy { !$0.contains("config") }, "\(one.warnings)")
      guard case .nats(let spec) = document.scenario.targets[0].transport else { return }
      #expect(spec.dialect == dialect)
    }

    @Test(
      "A handler that sets a header and waits 20 ms takes 20 ms and a little, named or asked",
      arguments: Worker.all, [true, false])
    func right(worker: Worker, isNamed: Bool) throws {
      let name = isNamed ? worker.dialect.rawValue : "detect"
      // More than one worker, so that each must have got its configuration.
      let finished = try sandbox.run(scenario(name, workers: pool(worker, count: 2)))
      try expectPauses(finished, worker.dialect)
      #expect(
        isNamed || finished.err.contains("its workers speak \(worker.dialect.rawValue)"), "\(finished.err)")
      #expect(finished.out.contains("(\(worker.dialect.rawValue))"), "\(finished.out)")
    }

    @Test(
      "Every wrong dialect is refused, and the right one is named", arguments: Worker.all, Dialect.allCases)
    func wrong(worker: Worker, dialect: Dialect) throws {
      guard worker.dialect != dialect else { return }
      let more = ", NYLON_PLUGIN_CONFIG: '{\"wait_us\": 20000}'"
      let finished = try sandbox.run(
        scenario(dialect.rawValue, workers: pool(worker, more: more), config: nil, handler: "pause"))
      #expect(finished.code == 81 || finished.code == 65, "\(finished.out)\(finished.err)")
      let said = finished.out + finished.err
      #expect(said.contains("this worker speaks \(worker.dialect.rawValue)"), "\(said)")
    }

    @Test("A configuration that the workers of another dialect do not find is refused, and theirs is named")
    func wrongWithConfiguration() throws {
      let finished = try sandbox.run(
        scenario("reply", workers: pool(Worker(dialect: .replySDK)), config: Self.pauses))
      #expect(finished.code == 65 && finished.err.contains("this worker speaks reply-sdk"), "\(finished.err)")
    }

    @Test("A second run against workers that keep running counts as the first", arguments: Worker.all)
    func again(worker: Worker) throws {
      let broker = try RunningBroker(in: sandbox)
      let running = try sandbox.start(
        program: Sandbox.command("nylon-worker"), ["--name", "example", "--group", "workers"],
        environment: [
          "NATS_SERVERS": broker.url, "NYLON_DIALECT": worker.dialect.rawValue,
          "NYLON_NIL_DATA": worker.writesNilData ? "1" : "0", "NYLON_PLUGIN_CONFIG": "{\"wait_us\": 20000}",
        ])
      #expect(eventually { running.err.contains("started successfully") })
      for _ in 0..<2 {
        let finished = try sandbox.run(
          scenario("detect", workers: "{count: 1}", config: nil, servers: "\"\(broker.url)\""))
        try expectPauses(finished, worker.dialect)
      }
      kill(running.pid, SIGTERM)
      #expect(running.finish().code == 0)
      broker.stop()
    }

    @Test("What handlers call is verified, and their reads are answered", arguments: [false, true])
    func calls(writesNilData: Bool) throws {
      let worker = Worker(dialect: .streamSDK, writesNilData: writesNilData)
      let reading = scenario(
        "stream-sdk", workers: pool(worker), config: nil, handler: "api",
        target: ", verify: {response_headers: {X-Seen: \"\"}}")
      _ = try sandbox.run(reading)
      let document = try sandbox.latest()
      expectCounts(document)
      let counts = try #require(document.measurements[0].request).counts
      #expect(counts.ok == counts.sent)
      let wrong = try sandbox.run(reading.replacingOccurrences(of: "X-Seen", with: "X-Other"))
      #expect(wrong.code == 81 && (wrong.out + wrong.err).contains("header 'X-Other' is missing"))
    }

    @Test(
      "Where changes do not come back `verify:` is refused, named or asked",
      arguments: ["reply-sdk", "detect"])
    func unverifiable(dialect: String) throws {
      let finished = try sandbox.run(
        scenario(
          dialect, workers: pool(Worker(dialect: .replySDK)), config: nil, handler: "noop",
          target: ", verify: {status: 200}"))
      #expect(finished.code == 65 && finished.err.contains("verify: cannot be checked"), "\(finished.err)")
    }
  }
}
