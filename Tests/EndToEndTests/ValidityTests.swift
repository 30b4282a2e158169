import TestSupport
import Foundation
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("A figure that may not be believed is marked, in the output, in the CSV and by exit code 81")
  struct ValidityTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// The first measurement is invalid for this reason, everywhere where a figure is shown.
    private func expectInvalid(_ finished: Finished, _ code: String, exit: Int32 = 81) throws {
      #expect(finished.code == exit, "\(finished.err)")
      #expect(finished.err.contains(" \(code): "), "\(finished.err)")
      let document = try sandbox.latest()
      let first = try #require(document.measurements.first)
      #expect(first.invalidReasons.contains { $0.code.rawValue == code }, "\(first.invalidReasons)")
      for scope in first.scopes { #expect(scope.counts.closes) }
      let row = try #require(try sandbox.summary().first)
      #expect(row["valid"] == "false")
      #expect(row["invalid_reason"]?.components(separatedBy: ";").contains(code) == true)
      let report = try String(contentsOfFile: "\(sandbox.results)/latest/report.md", encoding: .utf8)
      // Markdown would take the underscores for emphasis.
      #expect(report.contains("\(code.replacingOccurrences(of: "_", with: "\\_")): "))
    }

    private static func open(_ rate: Int, seconds: Double, plugin: String) -> String {
      """
      name: open
      plugins: [{name: given, type: ffi, file: \(plugin)}]
      targets: [{name: given, plugin: given, handler: noop}]
      loads: [{mode: open, rate_per_second: \(rate)}]
      warmup_seconds: 0.1
      measure_seconds: \(seconds)
      drain_seconds: 0.5
      """
    }

    @Test("A late figure: the load process could not run when the schedule wanted requests")
    func late() throws {
      let command = try sandbox.start(run: Self.open(2000, seconds: 2, plugin: "NullPlugin"))
      let load = try sandbox.waitForLoad()
      kill(load, SIGSTOP)
      // How long it stands still: 15 % of the measured time.
      usleep(300_000)
      kill(load, SIGCONT)
      #expect(command.finish().code == 0)
      let late = try #require(try sandbox.summary().first?["late_figures"])
      #expect(late.contains("p99 "), "\(late)")
      let request = try #require(try sandbox.latest().measurements.first?.request)
      // Who waited is in the response time, not only in the lag; the plugin itself made nobody wait.
      let response = try #require(request.response.value(atPercentile: 90))
      #expect(response > 50_000_000)
      #expect(try #require(request.service.value(atPercentile: 90)) < response)
    }

    @Test("saturated: the plugin cannot do what is asked of it")
    func saturated() throws {
      let plugin = try CPlugin(event: "usleep(2000); answer(event, 1);").build(in: sandbox)
      try expectInvalid(sandbox.run(Self.open(2000, seconds: 1, plugin: plugin)), "saturated", exit: 0)
    }

    @Test("never_steady: the plugin becomes slower and slower")
    func unsteady() throws {
      let plugin = try CPlugin(
        event: """
          static double first;
          if (first == 0) first = seconds();
          usleep(200 + 2000 * (seconds() - first));
          answer(event, 1);
          """
      ).build(in: sandbox)
      let scenario = """
        name: unsteady
        plugins: [{name: given, type: ffi, file: \(plugin)}]
        targets: [{name: given, plugin: given, handler: main}]
        loads: [{mode: closed, concurrency: 1}]
        warmup_seconds: 0
        measure_seconds: 1
        rounds: 3
        """
      try expectInvalid(sandbox.run(scenario), "never_steady")
    }

    @Test("no_answers: nothing was answered well", .tags(.besideOthers))
    func noAnswers() throws {
      let plugin = try CPlugin(event: "").build(in: sandbox)
      let scenario = Self.open(50, seconds: 0.5, plugin: plugin)
        .replacingOccurrences(of: "handler: main", with: "handler: main, timeout_ms: 50")
      try expectInvalid(sandbox.run(scenario), "no_answers")
    }

    @Test("plugin_crashed, and what was measured until then is kept", .tags(.besideOthers))
    func crashed() throws {
      let plugin = try CPlugin(
        event: "static int count; if (++count > 2000) abort(); answer(event, 1);"
      ).build(in: sandbox)
      try expectInvalid(sandbox.run(Self.open(2000, seconds: 2, plugin: plugin)), "plugin_crashed")
    }

    @Test("plugin_hung: a call into the plugin does not return", .tags(.besideOthers))
    func hung() throws {
      let plugin = try CPlugin(
        event: "static int count; while (++count > 2000) pause(); answer(event, 1);"
      ).build(in: sandbox)
      let scenario = Self.open(2000, seconds: 1, plugin: plugin)
        .replacingOccurrences(of: "handler: main", with: "handler: main, timeout_ms: 100")
      try expectInvalid(sandbox.run(scenario), "plugin_hung")
    }

    @Test(
      "worker_died and broker_died", .tags(.besideOthers),
      arguments: [("/nylon-worker", "worker_died"), ("/nats-server", "broker_died")])
    func died(program: String, code: String) throws {
      let scenario = Small.pool(
        workers: "{count: 2, command: nylon-worker}", times: "warmup_seconds: 0.1\nmeasure_seconds: 1.5")
      let command = try sandbox.start(run: scenario)
      try sandbox.waitForLoad()
      kill(try #require(sandbox.processes(program).first), SIGKILL)
      try expectInvalid(command.finish(), code)
    }

    @Test("failed: the load process itself was killed", .tags(.besideOthers))
    func failed() throws {
      let scenario = Small.pool(
        workers: "{count: 1, command: nylon-worker}", times: "warmup_seconds: 0.1\nmeasure_seconds: 5")
      let command = try sandbox.start(run: scenario)
      kill(try sandbox.waitForLoad(), SIGKILL)
      try expectInvalid(command.finish(), "failed")
    }

    @Test("unoptimised_build: a debug build's figures", .tags(.besideOthers))
    func unoptimised() throws {
      let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      let debug = (own as NSString).deletingLastPathComponent + "/nylon-bench"
      #if DEBUG
        let path = try sandbox.write(Small.ffi, as: "scenario.yaml")
        let finished = try sandbox.start(program: debug, ["run", path, "--out", sandbox.results]).finish()
        try expectInvalid(finished, "unoptimised_build")
      #else
        #expect(FileManager.default.fileExists(atPath: debug))
      #endif
    }

    /// The hypervisor cannot be asked to take CPU time away, so the kernel's own account of it is
    /// replaced, for the command and what it starts, by a file that grows.
    @Test(
      "steal: the hypervisor took CPU time", .tags(.besideOthers),
      .enabled(if: geteuid() == 0, "mounting needs root"))
    func steal() throws {
      let file = try sandbox.write(Self.times(stolen: 0), as: "stat")
      let scenario = try sandbox.write(
        Small.ffi.replacingOccurrences(of: "measure_seconds: 0.5", with: "measure_seconds: 1"), as: "s.yaml")
      let command = try sandbox.start(
        program: "/usr/bin/unshare",
        [
          "-m", "--propagation", "private", "sh", "-c",
          "mount --bind \"$1\" /proc/stat && shift && exec \"$@\"",
          "sh", file, try Sandbox.command("nylon-bench"), "run", scenario, "--out", sandbox.results,
        ])
      let handle = try #require(FileHandle(forWritingAtPath: file))
      var stolen = 0
      let hasEnded = try eventually(every: 20_000) {
        stolen += 3
        // In place: a file moved here would not be the one that is mounted.
        try handle.seek(toOffset: 0)
        try handle.write(contentsOf: Data(Self.times(stolen: stolen).utf8))
        return !command.isRunning
      }
      #expect(hasEnded)
      try expectInvalid(command.finish(), "steal")
    }

    /// Ticks of one CPU of which a fifth is stolen; always as long.
    private static func times(stolen: Int) -> String {
      let numbers = [4 * stolen, 0, 0, 0, 0, 0, 0, stolen, 0, 0]
      return "cpu  " + numbers.map { String(format: "%08d", $0) }.joined(separator: " ") + "\n"
    }

    @Test("Too few samples: the cell is empty, and how many seconds are missing is said")
    func tooFew() throws {
      // At even times, and far longer than the machine's timers are late: the load is on time.
      let plugin = try CPlugin(event: "usleep(1200); answer(event, 1);").build(in: sandbox)
      let scenario = Self.open(100, seconds: 1, plugin: plugin)
        .replacingOccurrences(of: "rate_per_second: 100", with: "rate_per_second: 100, arrivals: uniform")
      let finished = try sandbox.run(scenario)
      expectHonest(finished, try sandbox.latest())
      let row = try #require(try sandbox.summary().first)
      #expect(row["response_p50_us"]?.isEmpty == false)
      #expect(row["response_p99_us"] == "" && row["response_p999_us"] == "")
      let report = try String(contentsOfFile: "\(sandbox.results)/latest/report.md", encoding: .utf8)
      #expect(report.contains("p99.9 needs") && report.contains("s more: under 10 samples lie beyond it"))
    }

    @Test(
      "A worker that stands still for a second shows in response p99, not in service p50",
      .tags(.besideOthers))
    func stalledWorker() throws {
      let scenario = """
        name: stalled
        messaging: [{name: default, servers: []}]
        plugins: [{name: example, messaging: default, group: workers}]
        # The timeout is longer than the stop: logging's own is 200 ms, and a request may be in that phase.
        targets:
          - {name: nats, plugin: example, handler: noop, timeout_ms: 10000, workers: {count: 1, command: nylon-worker}}
        loads: [{mode: open, rate_per_second: 200}]
        warmup_seconds: 0.3
        measure_seconds: 5
        """
      let command = try sandbox.start(run: scenario)
      try sandbox.waitForLoad()
      let worker = try #require(sandbox.processes("/nylon-worker").first)
      kill(worker, SIGSTOP)
      // How long it stands still: a fifth of the measured time.
      sleep(1)
      kill(worker, SIGCONT)
      _ = command.finish()
      let request = try #require(try sandbox.latest().measurements.first?.request)
      #expect(request.counts.closes && request.counts.sent == request.counts.ok)
      // A fifth of the requests were wanted in that second, so the 99th percentile waited for most of it.
      let response = try #require(request.response.value(atPercentile: 99))
      #expect(response > 500_000_000)
      #expect(try #require(request.service.value(atPercentile: 50)) < response)
    }
  }
}
