import TestSupport
import Foundation
import Results
import Report
import Testing

extension EndToEnd {
  /// The other statements are tried in the run of `AnswerTests` that has no arguments.
  @Suite("Documented behaviour is tried, and a verdict is kept") struct BehaviourTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// A file of claims with one statement for each test, and one that is not measured.
    private func file(_ tests: [String]) throws -> String {
      let figure = """
        claims:
          - {id: f, document: d.md, line: 1, words: w, documented: 1, unit: ms, metric: response_p50_us,
             better: lower, target: ffi, conditions: {a: closed-1}}
        behaviours:
          - {id: docker, document: d.md, line: 2, words: w, not_measured: needs Docker}
        """
      let lines = tests.map { "  - {id: \($0)-claim, document: d.md, line: 3, words: w, test: \($0)}" }
      return try sandbox.write(([figure] + lines).joined(separator: "\n"), as: "claims.yaml")
    }

    private func start(_ tests: [String], _ more: [String] = []) throws -> RunningCommand {
      try sandbox.start(
        [
          "claims", "--only", "behaviours", "--quick", "--claims", try file(tests), "--headline",
          Sandbox.package + "/Scenarios/headline.yaml", "--out", sandbox.results,
        ] + more)
    }

    @Test("A plugin's crash under load is not survived, and a gate is open where all statements hold")
    func faults() throws {
      let finished = try start(["ffi-crash", "ffi-single-process"], ["--gate"]).finish()
      #expect(finished.code == 0, "\(finished.out)\(finished.err)")
      let document = try sandbox.latest()
      #expect(document.measurements.isEmpty && !document.interrupted)
      #expect(document.claims.map(\.verdict) == [.notMeasured, .holds, .holds])
      #expect(document.claims.allSatisfy { $0.isOverall && !$0.why.isEmpty })
      #expect(sandbox.processes().isEmpty)
    }

    @Test("Workers come, go and are replaced under load; the configured group switches nothing")
    func changes() throws {
      let finished = try start(["dynamic-scaling", "blue-green", "blue-green-switch"], ["--gate"]).finish()
      #expect(finished.code == 80, "\(finished.err)")
      let document = try sandbox.latest()
      #expect(document.claims.map(\.verdict) == [.notMeasured, .holds, .holds, .fails], "\(document.claims)")
      #expect(document.behaviours?.first { $0.test == "blue-green-switch" }?.rows.count == 2)
      let csv = try String(contentsOfFile: "\(sandbox.results)/latest/claims.csv", encoding: .utf8)
      #expect(csv.contains("blue-green-switch-claim,d.md,3,w,,,overall,,,,fails,"))
      let report = try String(contentsOfFile: "\(sandbox.results)/latest/report.md", encoding: .utf8)
      #expect(report.contains("group in the configuration"))
    }

    @Test("The same handlers serve both ways, one beside the other, in languages that are not named")
    func handlers() throws {
      let finished = try start(
        ["same-handler-code", "identical-api", "mix-ffi-nats", "ffi-languages", "needs-broker"], ["--json"]
      ).finish()
      #expect(finished.code == 0, "\(finished.err)")
      let document = try RunDocument(json: Data(finished.out.utf8), path: "standard output")
      #expect(
        document.claims.map(\.verdict) == [.notMeasured, .holds, .holds, .holds, .fails, .holds],
        "\(document.behaviours ?? [])")
    }

    @Test("Ctrl-C in the middle keeps what was tried, and leaves nothing behind", .tags(.besideOthers))
    func interrupt() throws {
      let command = try start(["same-queue-group", "dead-broker", "blue-green"])
      #expect(
        eventually { FileManager.default.fileExists(atPath: "\(sandbox.results)/latest/run.json") })
      #expect(eventually { !sandbox.processes("__measure").isEmpty })
      kill(command.pid, SIGINT)
      let finished = command.finish(within: 40)
      #expect(finished.code == 130, "\(finished.err)")
      let document = try sandbox.latest()
      #expect(document.interrupted)
      #expect(document.behaviours?.map(\.test) == ["same-queue-group"])
      #expect(document.claims.map(\.id) == ["docker", "same-queue-group-claim"])
      #expect(sandbox.processes().isEmpty)
    }

    @Test("An unknown test is named, with the nearest one", .tags(.besideOthers))
    func unknownTest() throws {
      let finished = try start(["round-robbin"]).finish()
      #expect(finished.code == 65)
      #expect(finished.err.contains("behaviours.1.test = 'round-robbin'"))
      #expect(finished.err.contains("did you mean 'round-robin'?"))
    }
  }
}
