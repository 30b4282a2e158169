import Foundation
import Report
import Results
import Testing

extension EndToEnd {
  @Suite("Ramps, objectives and the gate between stored runs") struct RateTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    @Test("A ramp is shown step by step, and an objective is searched after the rounds")
    func rampAndObjective() throws {
      let path = try sandbox.write(
        """
        name: rates
        plugins: [{name: floor, type: ffi, file: NullPlugin}]
        targets: [{name: ffi, plugin: floor, handler: noop}]
        loads:
          - {mode: ramp, from_per_second: 1000, to_per_second: 6000, over_seconds: 1, arrivals: uniform}
        warmup_seconds: 0.05
        measure_seconds: 0.15
        drain_seconds: 0.2
        objective: response_p50_us < 1e6
        expect: ["ffi.ramp-1000-6000-uniform.followed_rps >= 0"]
        """, as: "rates.yaml")
      let finished = try sandbox.bench("run", path, "--out", sandbox.results, "--quick")
      let run = try sandbox.latest()
      #expect(finished.code == (run.isValid ? 0 : 81), "\(finished.err)")
      let ramp = try #require(run.measurements.first)
      // The area under the rate, whatever the machine does: 3,500 within a second.
      #expect(ramp.load == "ramp-1000-6000-uniform" && ramp.request?.counts.sent == 3500)
      #expect(ramp.windows.count == 10 && ramp.durationSeconds == 1)
      #expect(run.measurements.dropFirst().first?.load == "closed-64")
      #expect(run.measurements.dropFirst().allSatisfy { $0.isOfSearch })
      #expect(run.measurements.allSatisfy { $0.scopes.allSatisfy(\.counts.closes) })
      #expect(run.objectives?.count == 1 && run.objectives?[0].verdict != .notSearched)
      #expect(finished.out.contains("Ramp of ffi, ramp-1000-6000-uniform"), "\(finished.out)")
      #expect(finished.out.contains("1 s at p50"), "\(finished.out)")
      #expect(sandbox.processes().isEmpty)
    }

    @Test(
      "compare --gate lets pass a run beside itself, and stops one whose handlers work half as long again")
    func gate() throws {
      let reference = Sandbox.package + "/results/reference/known-work"
      let same = try sandbox.bench("compare", reference, reference, "--gate")
      #expect(same.code == 0, "\(same.err)")
      #expect(same.out.hasPrefix("PASSED: none of 6 conditions is over 10 % worse"), "\(same.out)")
      // In the place of each handler that works for 400 us stands the one that works for 600; without their twins, which
      // would now show a bias.
      var slower = try RunFolder.open(path: reference).document
      slower.measurements.removeAll { $0.target.hasSuffix("-again") }
      let names = [
        "ffi-400": "ffi-600", "ffi-600": "ffi-400", "nats-400": "nats-600", "nats-600": "nats-400",
      ]
      for place in slower.measurements.indices {
        let name = slower.measurements[place].target
        slower.measurements[place].target = names[name] ?? name
      }
      try RunFolder.create(in: sandbox.results, scenario: "slower").save(slower, onlyRun: true)
      let stopped = try sandbox.bench("compare", reference, sandbox.results, "--gate")
      #expect(stopped.code == 80 && stopped.out.hasPrefix("REGRESSED: 2 of 4 conditions"), "\(stopped.out)")
      let lines = stopped.out.split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count <= 41 && lines.allSatisfy { $0.count <= 100 }, "\(stopped.out)")
      for words in [["--json"], ["--details"], ["--max-regression", "200%"]] {
        let again = try sandbox.start(["compare", reference, sandbox.results, "--gate"] + words).finish()
        #expect(again.code == (words.count == 1 ? 80 : 0), "\(again.out)")
        #expect(again.out.hasPrefix("[") == (words == ["--json"]))
      }
      for words in [["--gate", "--max-regression", "fast"], ["--max-regression", "20%"]] {
        #expect(try sandbox.start(["compare", reference, reference] + words).finish().code == 64)
      }
    }
  }
}
