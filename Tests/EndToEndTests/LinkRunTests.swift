import TestSupport
import Foundation
import Engine
import Lab
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("A network between the parts") struct LinkRunTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    private func pool(_ link: String, times: String = Small.times) -> String {
      Small.pool(workers: "{count: 2, command: nylon-worker}", times: times, target: ", link: \(link)")
    }

    /// Every phase request took at least so long, ms, and a session of four at least four times that.
    private func expectAtLeast(_ milliseconds: Double, _ document: RunDocument) throws {
      let scopes = try #require(document.measurements.first).scopes
      #expect(scopes.count == 5)
      for scope in scopes {
        let least = milliseconds * (scope.scope == "request" ? 4 : 1)
        #expect(scope.counts.ok > 0)
        #expect(Double(scope.response.leastNanoseconds) >= least * 1e6, "\(scope.scope)")
      }
    }

    @Test("delays every phase request there and back, and the report says how exactly")
    func delay() throws {
      let finished = try sandbox.run(
        pool("{between: generator-broker, delay_ms: 2}"), "--set", "loads.0.concurrency=1")
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      try expectAtLeast(4, document)
      let link = try #require(document.links?.first)
      #expect(document.links?.count == 1 && link.delayMicroseconds == 2000)
      #expect(try #require(link.oneWay.leastMicroseconds) >= 2000)
      #expect(try #require(link.roundTrip.p99Microseconds) >= 4000)
      for name in ["report.md", "report.html"] {
        let report = try String(contentsOfFile: "\(sandbox.results)/latest/\(name)", encoding: .utf8)
        #expect(report.contains("Network link") && report.contains("Over the network"))
      }
      #expect(finished.out.contains("Over the network") && finished.out.contains("would be true for"))
      #expect(sandbox.processes().isEmpty)
    }

    @Test("may be on both sides of the broker; replicates share it")
    func bothSides() throws {
      let links = "[{between: generator-broker, delay_ms: 0.5}, {between: broker-workers, delay_ms: 1.5}]"
      let finished = try sandbox.run(pool(links), "--set", "replicates=2")
      let document = try sandbox.latest()
      expectHonest(finished, document)
      #expect(document.measurements.count == 2)
      try expectAtLeast(4, document)
      #expect(document.links?.map(\.between) == ["generator-broker", "broker-workers"])
    }

    @Test("stands in front of a broker that runs already")
    func server() throws {
      let port = Int.random(in: 20000...29999)
      let broker = try sandbox.start(
        program: "/usr/bin/env", ["nats-server", "-a", "127.0.0.1", "-p", "\(port)"])
      defer { kill(broker.pid, SIGKILL) }
      #expect(eventually { broker.err.contains("Server is ready") })
      let finished = try sandbox.run(
        pool("{between: generator-broker, delay_ms: 1}"), "--server", "nats://127.0.0.1:\(port)")
      let document = try sandbox.latest()
      expectHonest(finished, document)
      try expectAtLeast(2, document)
      #expect(broker.isRunning)
    }

    @Test("whose relay is killed under load breaks the replicate, and the next has a new one")
    func relayDies() throws {
      let times = "warmup_seconds: 0.1\nmeasure_seconds: 1\ndrain_seconds: 0.3\nreplicates: 2\n"
      let command = try sandbox.start(run: pool("{between: generator-broker, delay_ms: 0.5}", times: times))
      try sandbox.waitForLoad()
      for pid in sandbox.processes("/nylon-link") { kill(pid, SIGKILL) }
      let finished = command.finish()
      let document = try sandbox.latest()
      // The other replicate is sound, so the condition is valid, unless the hypervisor took time from it.
      let isStolenFrom = document.measurements.last?.invalidReasons.contains { $0.code == .steal } ?? false
      #expect(finished.code == (isStolenFrom ? 81 : 0), "\(finished.err)")
      #expect(finished.err.contains("link_died"), "\(finished.err)")
      let reasons = document.measurements.map { $0.invalidReasons.map(\.code.rawValue) }
      #expect(reasons.count == 2 && reasons[0].contains("link_died") && !reasons[1].contains("link_died"))
      #expect(document.measurements.last?.request?.counts.ok ?? 0 > 0)
      #expect(document.links?.count == 2)
      #expect(sandbox.processes().isEmpty)
    }

    @Test("leaves nothing behind when the command is killed", .tags(.besideOthers), arguments: [false, true])
    func kill9(underLoad: Bool) throws {
      let times = "warmup_seconds: 1\nmeasure_seconds: 15\n"
      let command = try sandbox.start(run: pool("{between: broker-workers, delay_ms: 1}", times: times))
      #expect(eventually { !sandbox.processes("/nylon-link").isEmpty })
      if underLoad { try sandbox.waitForLoad(.warmup) }
      kill(command.pid, SIGKILL)
      #expect(command.finish().code == nil)
      #expect(eventually { sandbox.processes().isEmpty })
      #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.temporary).isEmpty)
    }
  }
}
