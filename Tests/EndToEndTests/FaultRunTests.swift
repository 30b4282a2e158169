import Foundation
import Report
import TestSupport
import Testing

import struct Engine.Measurement
@testable import Engine
@testable import Results

extension EndToEnd {
  @Suite("Faults under load", .tags(.besideOthers)) struct FaultRunTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// A pool of two workers under 300 requests a second, and what is done to it.
    private func pool(_ faults: String, onError: String = "end", seconds: Double = 2, target: String = "")
      -> String
    {
      Small.underLoad(
        workers: 2, timeoutMilliseconds: 200, seconds: seconds, onError: onError, target: target,
        margin: "faults: \(faults)")
    }

    /// Runs it; the one measurement, in which the fault was done, nothing else speaks against it, and all counts close.
    private func measure(_ scenario: String) throws -> Measurement {
      let finished = try sandbox.run(scenario)
      let one = try #require(try sandbox.latest().measurements.first, "\(finished.err)")
      #expect(
        one.invalidReasons.allSatisfy { $0.code == .unoptimisedBuild || $0.code == .steal },
        "\(one.invalidReasons)")
      #expect(finished.code == (one.isValid ? 0 : 81), "\(finished.err)")
      let done = try #require(one.faults)
      #expect(!done.isEmpty && done.allSatisfy { $0.error == nil && $0.begunSeconds != nil }, "\(done)")
      for scope in one.scopes { #expect(scope.counts.closes) }
      var sum = OutcomeCounts()
      for window in one.windows { sum.add(window.counts ?? OutcomeCounts()) }
      let total = try #require(one.request?.counts)
      for counter in Counter.ends { #expect(sum[counter] == total[counter], "\(counter)") }
      #expect(finished.out.contains("'\(one.target)', "), "\(finished.out)")
      #expect(sandbox.processes().isEmpty)
      return one
    }

    private func file(_ name: String) throws -> String {
      try String(contentsOfFile: "\(sandbox.results)/latest/\(name)", encoding: .utf8)
    }

    @Test(
      "A worker that is killed and replaced is no death, and what came of it is in faults.csv, answer and report"
    )
    func killedWorker() throws {
      let one = try measure(pool("[{at_seconds: 0.5, what: kill, whom: worker 1, for_seconds: 0.5}]"))
      // One worker's time is not the pool's.
      #expect(one.cpuWorkersNanoseconds == nil && one.cpuBrokerNanoseconds ?? 0 > 0)
      #expect(one.windows.count == 20 && one.request?.counts[.ok] ?? 0 > 300)
      let fault = try #require(one.faults?.first)
      #expect(fault.words == "worker 1 killed" && fault.begunSeconds ?? 0 >= 0.5)
      #expect(fault.overSeconds ?? 0 >= (fault.begunSeconds ?? 0) + 0.5)
      let rows = try file("faults.csv").components(separatedBy: "\r\n").filter { !$0.isEmpty }
      #expect(rows.count == 3 && rows[1].hasPrefix("nats,open-300-uniform,1,worker 1 killed,1,"))
      #expect(rows[2].hasPrefix("nats,open-300-uniform,1,worker 1 killed for 0.5 s,median,"))
      #expect(try file("report.html").contains("class=\"event\""))
    }

    @Test("The share of a stopped worker times out, and the worker answers again once it continues")
    func stoppedWorker() throws {
      let one = try measure(pool("[{at_seconds: 0.5, what: stop, whom: worker, for_seconds: 0.6}]"))
      let counts = try #require(one.request?.counts)
      #expect(counts.timeouts > 0 && counts.timeouts + counts[.ok] == counts.sent)
      let outcome = try #require(FaultOutcome.all(one).first)
      #expect(outcome.detectedSeconds != nil && outcome.counts.timeouts == counts.timeouts)
      // It answers all that lay in its socket when it goes on.
      #expect(counts.late > 0)
    }

    @Test("A broker that is killed and started again is no death, and the generator connects again")
    func killedBroker() throws {
      let one = try measure(
        pool("[{at_seconds: 0.5, what: kill, whom: broker, for_seconds: 0.3}]", onError: "retry", seconds: 4))
      #expect(one.warnings.contains { $0.contains("was lost and made again") }, "\(one.warnings)")
      let outcome = try #require(FaultOutcome.all(one).first)
      #expect(outcome.detectedSeconds != nil && outcome.longestGapSeconds != nil)
      #expect(outcome.record.words == "broker killed" && outcome.record.overSeconds != nil)
    }

    @Test("After a plugin is killed all later requests are lost, and all of them are counted")
    func killedPlugin() throws {
      let one = try measure(plugin("[{at_seconds: 0.5, what: kill, whom: plugin}]"))
      let counts = try #require(one.request?.counts)
      #expect(counts.sent == 750 && counts.ok > 0 && counts.lost > 0)
      #expect(one.durationSeconds == 1.5 && one.windows.count == 15)
      #expect(one.windows[14].counts?.lost == 50 && one.windows[14].completed == 0)
      #expect(FaultOutcome.all(one).first?.recovery == .never)
    }

    @Test("A stopped plugin hangs nothing, and waiting requests are answered once it continues")
    func stoppedPlugin() throws {
      let one = try measure(plugin("[{at_seconds: 0.3, what: stop, whom: plugin, for_seconds: 0.4}]"))
      #expect(one.request?.counts.ok == 750)
      #expect(FaultOutcome.all(one).first?.longestGapSeconds ?? 0 >= 0.3)
    }

    private func plugin(_ faults: String) -> String {
      """
      name: faulty-plugin
      plugins: [{name: floor, type: ffi, file: NullPlugin}]
      targets: [{name: ffi, plugin: floor, handler: noop, phases: [request_filter]}]
      loads: [{mode: open, rate_per_second: 500, arrivals: uniform}]
      faults: \(faults)
      warmup_seconds: 0.1
      measure_seconds: 1.5
      drain_seconds: 0.5
      """
    }

    @Test("Connections over a link that is reset are made again, through a relay for this fault alone")
    func resetLink() throws {
      let one = try measure(
        pool("[{at_seconds: 0.5, what: reset, whom: link generator-broker}]", onError: "retry"))
      #expect(one.warnings.contains { $0.contains("was lost and made again") }, "\(one.warnings)")
      #expect(FaultOutcome.all(one).first?.detectedSeconds != nil)
    }

    @Test("Workers that are added and drained lose nothing, nor does a switch to another group")
    func elastic() throws {
      let one = try measure(
        pool(
          "[{at_seconds: 0.3, what: add, whom: worker, count: 2}, {at_seconds: 1, what: drain, whom: worker 1}, "
            + "{at_seconds: 1.5, what: switch, whom: pool}]", seconds: 3))
      #expect(one.request?.counts.ok == 900, "\(one.request?.counts.sent ?? 0)")
      #expect(
        one.faults?.map(\.words) == ["2 workers added", "worker 1 drained", "pool switched to 2 new workers"])
    }

    @Test("A fault that cannot be done breaks the replicate, and says why")
    func undone() throws {
      let finished = try sandbox.run(
        pool(
          "[{at_seconds: 0.3, what: kill, whom: worker 1}, {at_seconds: 0.6, what: stop, whom: worker 1, for_seconds: 0.2}]"
        ))
      #expect(finished.code == 81, "\(finished.err)")
      #expect(
        finished.err.contains("fault_failed: fault 2, 'worker 1 stopped for 0.2 s', could not be injected"))
      #expect(finished.err.contains("worker 1 is not running at that moment"))
      #expect(sandbox.processes().isEmpty)
    }
  }
}
