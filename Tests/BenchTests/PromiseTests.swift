import ExampleHandlers
import Foundation
@testable import struct Engine.InvalidReason
@testable import struct Engine.Measurement
@testable import Lab
import NylonPlugin
@testable import Results
import Report
@testable import Scenario
import TestSupport
import Testing

@testable import Bench

/// The tests that need no load process, on real brokers and workers.
@Suite("Behaviour of real parts", .serialized, .thread("promises"))
struct PromiseTests {
  private struct NoLoad: Error {}

  private func bench(isInterrupted: @escaping @Sendable () -> Bool = { false }) -> PromiseBench {
    PromiseBench(
      plan: nil, isQuick: true, runLoad: { _, _ in throw NoLoad() }, isInterrupted: isInterrupted)
  }

  private func specs(_ tests: [String]) -> [BehaviourSpec] {
    tests.enumerated().map {
      BehaviourSpec(id: "claim-\($0.offset)", document: "d.md", line: 1, words: "w", test: $0.element)
    }
  }

  private func results(_ tests: [String]) -> [BehaviourResult] {
    var results: [BehaviourResult] = []
    Promises.run(specs(tests), bench: bench()) { results.append($0) }
    return results
  }

  @Test("A queue group gives each request to one worker, at random and not in turn")
  func order() throws {
    let results = results(["one-worker-per-request", "round-robin", "even-load"])
    #expect(results.map(\.verdict) == [.holds, .fails, .holds], "\(results.map(\.why))")
  }

  @Test(
    "Workers of one group share, those of two groups each get everything, whatever the configuration says")
  func groups() throws {
    let results = results(["same-queue-group", "different-groups", "group-name-in-config"])
    #expect(results.map(\.verdict) == [.holds, .holds, .fails], "\(results.map(\.why))")
  }

  @Test("A plain subscriber only listens; one in the group receives requests instead of the workers")
  func listeners() throws {
    let results = results(["wildcard-subscriber", "queue-group-check"])
    #expect(results.map(\.verdict) == [.holds, .fails], "\(results.map(\.why))")
  }

  @Test("Subjects, names, monitoring and languages are as documented, but for the monitoring port")
  func layout() throws {
    let names = ["subject-layout", "plugin-name", "monitoring", "monitoring-default", "any-language"]
    let results = results(names)
    #expect(results.map(\.test) == names)
    #expect(results.map(\.verdict) == [.holds, .holds, .holds, .fails, .holds], "\(results.map(\.why))")
  }

  @Test("A test that cannot be done is inconclusive and says why")
  func undone() throws {
    let all = results(["ffi-crash"])
    let result = try #require(all.first)
    #expect(result.verdict == .inconclusive)
    #expect(result.why.contains("NoLoad"))
  }

  @Test("A load that sent nothing, because it died at once, is no evidence for a crash or anything else")
  func nothingSent() throws {
    let bench = PromiseBench(
      plan: nil, isQuick: true,
      runLoad: { load, _ in
        Measurement(
          target: load.targets[0].name, transport: .ffi, handler: "", load: "", concurrency: 1,
          payloadBytes: 0,
          replicate: 1, durationSeconds: 1,
          invalidReasons: [InvalidReason(code: .pluginCrashed, detail: "at the start")])
      })
    var results: [BehaviourResult] = []
    Promises.run(specs(["ffi-crash", "ffi-languages", "ffi-single-process"]), bench: bench) {
      results.append($0)
    }
    #expect(results.map(\.verdict) == [.inconclusive, .inconclusive, .inconclusive])
    #expect(results.count { $0.why.contains("plugin_crashed: at the start") } == 3)
  }

  @Test("Each test is run once for all its statements, and every statement gets a row")
  func rows() throws {
    var specs = specs(["same-queue-group", "same-queue-group", "different-groups"])
    specs.append(
      BehaviourSpec(id: "docker", document: "d.md", line: 9, words: "w", notMeasured: "install Docker"))
    var results: [BehaviourResult] = []
    Promises.run(specs, bench: bench()) { results.append($0) }
    #expect(results.count == 2)
    let rows = Promises.verdicts(specs, results: Array(results.prefix(1)))
    // The third statement's test has no result, as after an interruption.
    #expect(rows.map(\.id) == ["claim-0", "claim-1", "docker"])
    #expect(rows.map(\.verdict) == [.holds, .holds, .notMeasured])
    #expect(rows.last?.why == "install Docker")
    #expect(rows.map(\.condition) == ["overall", "overall", "overall"])
  }

  @Test("After an interruption nothing more is tried")
  func interrupted() throws {
    var count = 0
    Promises.run(specs(["same-queue-group"]), bench: bench(isInterrupted: { true })) { _ in count += 1 }
    #expect(count == 0)
  }

  @Test(
    "A scripted worker answers what is sent one by one and together, and one that never answers only listens")
  func scriptedWorker() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let worker = try ScriptedWorker(
      broker.url, subjects: ["answered"], group: "g", answerAfterMilliseconds: 20)
    let listener = try ScriptedWorker(broker.url, subjects: ["answered"], group: nil)
    defer {
      worker.stop()
      listener.stop()
    }
    let client = try RequestClient(broker.url)
    let message = try client.message(
      PromiseBench.standardPool, .requestFilter, RequestSpec())
    #expect(client.request("answered", message))
    #expect(!client.request("nobody", message))
    #expect(try client.gather("answered", [message, message]) == [[true], [true]])
    #expect(worker.arrivals.count == 3 && listener.arrivals.count == 3)
  }

  @Test("Every example handler is served both ways in a test")
  func handlers() {
    let tried = Set(HandlerPromises.cases.map(\.handler)).union(["crash"])
    #expect(Set(ExampleHandlers.makePlugin().entries) == tried)
  }

  @Test("A pool that the scenario does not start is replaced by the package's own, and the output says so")
  func standardPool() throws {
    var target = PromiseBench.standardPool
    target.transport = .nats(NATSSpec(servers: ["nats://127.0.0.1:1"]))
    let plan = Plan(name: "p", targets: [target], loads: [.closed(concurrency: 1)])
    let bench = PromiseBench(
      plan: plan, isQuick: true, runLoad: { _, _ in throw NoLoad() })
    #expect(bench.pool == PromiseBench.standardPool)
    #expect(bench.poolNote?.contains("nylon-worker") == true)
  }
}
