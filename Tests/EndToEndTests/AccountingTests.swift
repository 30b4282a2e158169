import Foundation
import Results
import TestSupport
import Testing

@testable import Engine

extension EndToEnd {
  @Suite("Each phase request is accounted for", .tags(.besideOthers)) struct AccountingTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    private func scenario(
      workers: String = "nylon-worker", handler: String = "noop", policy: String = "", more: String = ""
    ) -> String {
      """
      name: accounting
      messaging: [{name: default, servers: []}]
      plugins: [{name: example, messaging: default, group: workers\(policy)}]
      targets:
        - {name: nats, plugin: example, handler: \(handler), timeout_ms: 300,
           workers: {count: 2, command: "\(workers)"}}
      loads: [{mode: open, rate_per_second: 100}]
      warmup_seconds: 0.2
      measure_seconds: 2
      drain_seconds: 1
      \(more)
      """
    }

    /// The sums over all rows of the newest run's only measurement.
    private func expectClosed() throws -> (accounting: Accounting, measurement: Engine.Measurement) {
      let measurement = try #require(try sandbox.latest().measurements.first)
      let accounting = try #require(measurement.accounting)
      #expect(accounting.gap == nil && accounting.unnoted == 0 && accounting.unknown == 0)
      #expect(accounting.defects(of: measurement).isEmpty)
      #expect(FileManager.default.fileExists(atPath: "\(sandbox.results)/latest/accounting.csv"))
      #expect(sandbox.processes().isEmpty)
      return (accounting, measurement)
    }

    private func sum(_ figure: (AccountedRequests) -> UInt64, _ rows: [AccountedRequests]) -> UInt64 {
      rows.reduce(0) { $0 + figure($1) }
    }

    @Test("Where nothing fails, handlers saw every request once, those of the warm-up too")
    func once() throws {
      let finished = try sandbox.run(scenario(more: "accounting: true"))
      #expect([0, 81].contains(finished.code), "\(finished.err)")
      #expect(finished.out.contains("once, 0 never") && finished.out.contains("the sums close"))
      let (accounting, measurement) = try expectClosed()
      let measured = accounting.requests.filter(\.measured)
      let ok = measurement.scopes.dropFirst().reduce(0) { $0 + $1.counts.ok }
      #expect(sum(\.once, measured.filter { $0.end == "ok" }) == ok && ok > 0)
      #expect(sum(\.count, accounting.requests.filter { !$0.measured }) > 0)
      #expect(accounting.handled == sum(\.handled, accounting.requests) + accounting.outside)
    }

    @Test("A retry has the id of the first attempt, and is a request that handlers saw twice")
    func twice() throws {
      // The handler takes longer than the timeout, so there is a retry, and the answer to the first attempt is one to both.
      let finished = try sandbox.run(
        scenario(
          workers: "nylon-worker --max-workers 64 --config '{\\\"wait_us\\\": 500000}'", handler: "wait",
          policy: ", per_phase: {request_filter: {on_error: retry, retry: {max: 2}}}",
          more: "accounting: true\nphases: [request_filter]"))
      #expect([0, 81].contains(finished.code), "\(finished.err)")
      let (accounting, _) = try expectClosed()
      let rows = accounting.requests.filter(\.measured)
      #expect(sum(\.twice, rows) > 0 && sum(\.retries, rows) > 0)
      #expect(sum(\.handled, rows) > sum(\.count, rows))
    }

    @Test("A worker that is killed with requests in hand: those were seen, and failed")
    func killed() throws {
      let finished = try sandbox.run(
        scenario(
          workers: "nylon-worker --max-workers 64 --config '{\\\"wait_us\\\": 100000}'", handler: "wait",
          policy: ", per_phase: {request_filter: {on_error: end}}",
          more: "phases: [request_filter]\nfaults: [{at_seconds: 1, what: kill, whom: worker}]"))
      #expect([0, 81].contains(finished.code), "\(finished.err)")
      let (accounting, _) = try expectClosed()
      let failed = accounting.requests.filter { $0.measured && $0.end == "timeouts" }
      #expect(sum(\.once, failed) > 0)
      #expect(sum(\.once, accounting.requests.filter { $0.measured && $0.end == "ok" }) > 0)
    }

    @Test("With workers that keep no ledger it says that nothing is known")
    func foreign() throws {
      let worker = try ForeignWorker.build(in: sandbox)
      let finished = try sandbox.run(ForeignWorker.scenario(worker, "next") + "\naccounting: true\n")
      #expect([0, 81].contains(finished.code), "\(finished.err)")
      #expect(finished.out.contains("nothing is known, since the workers are not those of this package"))
      let accounting = try #require(try sandbox.latest().measurements.first?.accounting)
      #expect(accounting.requests.isEmpty && accounting.gap != nil)
    }

    @Test("Three runs with random faults keep what scripts/faults holds them against")
    func randomFaults() throws {
      let command = try sandbox.start(
        program: Sandbox.package + "/scripts/faults", ["--runs", "3", "--seed", "1"],
        environment: [
          "NYLON_BENCH_BIN_DIR": (try Sandbox.command("nylon-bench") as NSString).deletingLastPathComponent
        ])
      let finished = command.finish(within: 600)
      #expect(finished.code == 0, "\(finished.out)\(finished.err)")
      #expect(finished.out.contains("3 of 3 runs ok"))
    }

    @Test("A process of a run that is killed at random leaves nothing")
    func randomKill() throws {
      let command = try sandbox.start(
        program: Sandbox.package + "/scripts/kill", ["--runs", "2", "--seed", "7"],
        environment: [
          "NYLON_BENCH_BIN_DIR": (try Sandbox.command("nylon-bench") as NSString).deletingLastPathComponent
        ])
      let finished = command.finish(within: 600)
      #expect(finished.code == 0, "\(finished.out)\(finished.err)")
    }

    @Test("A soak says whether memory, rate and times stay as they are")
    func soak() throws {
      let finished = try sandbox.run(
        scenario(more: "soak_seconds: 6").replacing(
          "{mode: open, rate_per_second: 100}", with: "{mode: closed, concurrency: 2}"))
      // A machine that is busy may well change meanwhile.
      #expect([0, 80, 81].contains(finished.code), "\(finished.err)")
      #expect(finished.out.contains("checks of the soak hold"))
      let document = try sandbox.latest()
      let soak = try #require(document.measurements.first { $0.soak == true })
      #expect(soak.offeredRatePerSecond != nil && soak.windows.count == SoakResult.windows)
      #expect(document.expectations.count == 7)
      #expect(
        document.expectations.first { $0.text.hasSuffix("counts close") }?.why.contains("one end") == true)
    }
  }
}
