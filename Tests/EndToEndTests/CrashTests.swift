import Foundation
import Results
import struct Engine.Measurement
import Report
import TestSupport
import Testing

extension EndToEnd {
  @Suite("What dies or hangs under load is a result", .tags(.besideOthers)) struct CrashTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// Runs a plugin and then the smallest one; the plugin must be reported, the other measured.
    private func expectReport(
      _ plugin: CPlugin, code: String, times: String = Small.times
    ) throws -> RunDocument {
      let finished = try sandbox.run(Small.plugin(try plugin.build(in: sandbox), times: times))
      #expect(finished.code == 81, "\(finished.err)")
      #expect(finished.err.contains(code))
      let document = try sandbox.latest()
      let given = document.measurements.first { $0.target == "given" }
      #expect(
        given?.invalidReasons.contains { $0.code.rawValue == code } == true, "\(given?.invalidReasons ?? [])")
      for scope in given?.scopes ?? [] { #expect(scope.counts.closes) }
      #expect((document.measurements.first { $0.target == "floor" }?.request?.counts.ok ?? 0) > 0)
      #expect(!document.interrupted)
      #expect(sandbox.processes().isEmpty)
      return document
    }

    /// Without a warm-up the thousandth call is in the measured time, however slow the machine is.
    private static let measuredAtOnce = Small.times.replacing(
      "warmup_seconds: 0.1", with: "warmup_seconds: 0")

    @Test("A plugin crashes under load: the measured data is kept, and the run continues")
    func crash() throws {
      let document = try expectReport(
        CPlugin(
          event: """
            static int count;
            if (++count > 1000) { fputs("my last words\\n", stderr); *(volatile int *)8 = 1; }
            answer(event, 1);
            """), code: "plugin_crashed", times: Self.measuredAtOnce)
      let given = document.measurements.first { $0.target == "given" }
      #expect(given?.invalidReasons.first?.detail.contains("SIGSEGV") == true)
      #expect(given?.invalidReasons.first?.detail.contains("my last words") == true)
      #expect((given?.request?.counts.ok ?? 0) > 0)
    }

    @Test("A plugin that aborts while it is initialised")
    func crashAtInitialise() throws {
      let document = try expectReport(CPlugin(initialize: "abort();"), code: "plugin_crashed")
      #expect(document.measurements.first?.request?.counts.sent == 0)
    }

    @Test("A plugin that never answers: timeouts are counted")
    func silence() throws {
      let document = try expectReport(CPlugin(event: ""), code: "no_answers")
      let counts = document.measurements.first?.request?.counts
      #expect((counts?.timeouts ?? 0) > 0)
      #expect(counts?.ok == 0)
    }

    @Test("A plugin that never returns: the measurement ends and says so")
    func hang() throws {
      let document = try expectReport(
        CPlugin(
          event: """
            static int count;
            if (++count > 1000) while (1) pause();
            answer(event, 1);
            """), code: "plugin_hung", times: Self.measuredAtOnce)
      #expect((document.measurements.first?.request?.counts.lost ?? 0) > 0)
    }

    /// Kills a process of a pool under load; the measurement, whose counts close.
    private func expectInvalid(killing program: String, workers: Int) throws -> Measurement {
      let command = try sandbox.start(
        run: Small.pool(
          workers: "{count: \(workers), command: nylon-worker}",
          times: "warmup_seconds: 0.1\nmeasure_seconds: 2"))
      try sandbox.waitForLoad()
      // The program, not its keeper, which has no such command line.
      kill(try #require(sandbox.processes(program).first), SIGKILL)
      #expect(command.finish().code == 81)
      let measurement = try #require(try sandbox.latest().measurements.first)
      for scope in measurement.scopes { #expect(scope.counts.closes) }
      #expect(sandbox.processes().isEmpty)
      return measurement
    }

    @Test("A worker that dies under load")
    func worker() throws {
      let measurement = try expectInvalid(killing: "/nylon-worker", workers: 2)
      let death = measurement.invalidReasons.first { $0.code == .workerDied }
      #expect(death?.detail.contains("SIGKILL") == true)
    }

    @Test("A broker that dies under load")
    func broker() throws {
      let measurement = try expectInvalid(killing: "/nats-server", workers: 1)
      #expect(measurement.invalidReasons.contains { $0.code == .brokerDied })
    }
  }
}
