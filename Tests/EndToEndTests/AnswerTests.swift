import TestSupport
import Foundation
import Report
import Results
import Testing

extension EndToEnd {
  @Suite("One command gives a firm answer on one screen, and no wrong one") struct AnswerTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// At most 40 lines of at most 100 columns; the text ends with a newline.
    private func expectFitsOneScreen(_ text: String) {
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count <= 41, "\(text)")
      // The sandbox's own path is long.
      #expect(lines.allSatisfy { $0.count <= 100 || $0.hasPrefix("Report: ") }, "\(text)")
    }

    @Test("Without arguments: FFI against NATS, every documented figure and every promise in one run")
    func canonical() throws {
      let finished = try sandbox.start([
        "--quick", "--set", "measure_seconds=0.2", "--set", "warmup_seconds=0.1", "--set",
        "drain_seconds=0.2",
        "--out", sandbox.results,
      ]).finish(within: 240)
      let document = try sandbox.latest()
      expectFitsOneScreen(finished.out)
      for scope in document.measurements.flatMap(\.scopes) { #expect(scope.counts.closes) }
      for words in ["Subjects:", "ffi against nats", "The documented figures", "Promises:", "report.html"] {
        #expect(finished.out.contains(words), "\(words) is not in\n\(finished.out)")
      }
      let overall = document.claims.filter(\.isOverall)
      #expect(overall.count { !$0.documented.isEmpty } == 12)
      // One round gives no interval, so nothing firm can be said of a figure.
      let figures = overall.filter { !$0.documented.isEmpty }.map(\.verdict)
      #expect(figures.allSatisfy { $0 == .inconclusive || $0 == .notMeasured }, "\(figures)")
      #expect(overall.filter { $0.documented.isEmpty }.count { $0.verdict == .holds } > 30)
      #expect(document.comparisons.allSatisfy { $0.verdict != .different })
      try expectPromises(document.behaviours ?? [])
      #expect(sandbox.processes().isEmpty)
    }

    /// A worker and the broker die under load and are survived; defaults, overrides and limits do what the guide says;
    /// and there is a table for each size of the pool.
    private func expectPromises(_ results: [BehaviourResult]) throws {
      for test in [
        "dead-worker", "dead-broker", "smart-defaults", "per-phase-overrides", "request-timeout",
        "max-inflight",
      ] {
        let result = try #require(results.first { $0.test == test }, "\(test)")
        #expect(result.verdict == .holds, "\(test): \(result.why)")
      }
      let scaling = try #require(results.first { $0.test == "unlimited-workers" })
      // On a machine that others use the verdict may be open; the rule for it has tests of its own.
      #expect([.holds, .inconclusive].contains(scaling.verdict), "\(scaling.why)")
      #expect(scaling.rows.filter { $0[0] == "wait" }.map { $0[1] } == ["1", "2", "4", "8", "16"])
      #expect(scaling.rows.allSatisfy { $0.count == scaling.columns.count && (Double($0[2]) ?? 0) > 0 })
    }

    @Test(
      "A generator that stands still for 5 ms every 100 ms on one side: equal plugins are not called different"
    )
    func lateOnOneSide() throws {
      let plugins = try ["one", "two"].map { name in
        let built = try CPlugin().build(in: sandbox)
        let path = "\(sandbox.folder)/\(name).so"
        try FileManager.default.copyItem(atPath: built, toPath: path)
        return path
      }
      let path = try sandbox.write(
        """
        name: late
        plugins: [{name: one, type: ffi, file: \(plugins[0])}, {name: two, type: ffi, file: \(plugins[1])}]
        targets: [{name: one, plugin: one, handler: main}, {name: two, plugin: two, handler: main}]
        loads: [{mode: open, rate_per_second: 2000}]
        warmup_seconds: 0.1
        measure_seconds: 0.6
        drain_seconds: 0.2
        rounds: 6
        """, as: "late.yaml")
      var different = try differencesWhenStopped(path, plugins[1])
      // A verdict is wrong by chance in at most 5 % of comparisons: one that is wrong for a reason is wrong again.
      if !different.isEmpty { different.formIntersection(try differencesWhenStopped(path, plugins[1])) }
      #expect(different.isEmpty)
    }

    /// Compares while the load process of one plugin is stopped for 5 ms every 100 ms; the times that are called different.
    private func differencesWhenStopped(_ scenario: String, _ plugin: String) throws -> Set<String> {
      let command = try sandbox.start(["compare", scenario, "--out", sandbox.results])
      while command.isRunning {
        let late = sandbox.processes("__measure").filter { pid in
          let maps = FileManager.default.contents(atPath: "/proc/\(pid)/maps") ?? Data()
          return String(decoding: maps, as: UTF8.self).contains(plugin)
        }
        for pid in late { kill(pid, SIGSTOP) }
        usleep(5_000)
        for pid in late { kill(pid, SIGCONT) }
        // As long for both plugins: what looks for processes takes time from the one that is measured.
        usleep(95_000)
      }
      _ = command.finish()
      expectFitsOneScreen(command.out)
      let document = try sandbox.latest()
      let times = document.comparisons.filter {
        $0.metric.hasPrefix("response_") || $0.metric.hasPrefix("service_")
      }
      #expect(!times.isEmpty)
      let late = try sandbox.summary().filter { $0["target"] == "two" && $0["phase"] == "request" }
      #expect(late.count == 6 && late.allSatisfy { $0["late_figures"]?.contains("p99 ") == true }, "\(late)")
      return Set(times.filter { $0.verdict == .different }.map(\.metric))
    }
  }
}
