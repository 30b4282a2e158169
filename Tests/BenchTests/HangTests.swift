@testable import Engine
import Foundation
@testable import Lab
import Nylon
@testable import Scenario
import TestSupport
import Testing

@testable import Bench

@Suite("A plugin whose call does not return outside the load") struct HangTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let plugin: CPlugin
    /// What the reason names.
    let words: String
    /// Whether the load was measured before.
    var isMeasured = false

    static let all = [
      Case(
        testDescription: "a constructor",
        plugin: CPlugin(
          initialize: "} __attribute__((constructor)) static void first(void) { while (1) pause();"),
        words: "`dlopen` did not return within 1 s"),
      Case(
        testDescription: "initialize", plugin: CPlugin(initialize: "while (1) pause();"),
        words: "`initialize` did not return within 1 s"),
      Case(
        testDescription: "register", plugin: CPlugin(register: "while (1) pause();"),
        words: "`register_session_stream` did not return within 1 s"),
      Case(
        testDescription: "close", plugin: CPlugin(close: "while (1) pause();"),
        words: "`close_session_stream` did not return within 1 s"),
      Case(
        testDescription: "shutdown", plugin: CPlugin(shutdown: "while (1) pause();"),
        words: "`shutdown` did not return within 1 s", isMeasured: true),
      Case(
        testDescription: "a stop in initialize", plugin: CPlugin(initialize: "raise(SIGSTOP);"),
        words: "a signal (SIGSTOP) stopped the load process for 1 s, in `initialize`"),
      Case(
        testDescription: "a stop under load",
        plugin: CPlugin(
          event: "static int count; if (++count == 10) raise(SIGSTOP); answer(event, 1);"),
        words: "a signal (SIGSTOP) stopped the load process for 1 s, in `event_stream`"),
      Case(
        testDescription: "a call under load",
        plugin: CPlugin(close: "static int count; while (++count > 10) pause();"),
        words: "`close_session_stream` did not return under load"),
    ]
  }

  @Test("It is said to hang, with the call's name, and what was measured is kept", arguments: Case.all)
  func hangs(one: Case) throws {
    let measurement = try measure(one.plugin, hangs: true)
    let reasons = measurement.invalidReasons.filter { $0.code == .pluginHung }
    #expect(reasons.count == 1 && reasons[0].detail.contains(one.words), "\(measurement.invalidReasons)")
    #expect(!measurement.has(.pluginCrashed))
    #expect(measurement.scopes.allSatisfy { $0.counts.closes })
    guard one.isMeasured else { return }
    #expect(measurement.counts.ok > 0 && measurement.counts.areAllRight)
    #expect(measurement.cpuGeneratorNanoseconds != nil)
  }

  @Test("One that crashes in shutdown is said to crash there, and what was measured is kept")
  func crashes() throws {
    let measurement = try measure(CPlugin(shutdown: "abort();"))
    let reason = try #require(measurement.invalidReasons.first { $0.code == .pluginCrashed })
    #expect(reason.detail.contains("was ended by SIGABRT (signal 6) in `shutdown`"), "\(reason)")
    #expect(measurement.counts.areAllRight && measurement.cpuGeneratorNanoseconds != nil)
  }
}

/// One measurement of a plugin, in a load process.
///
/// - Parameter hangs: whether the plugin hangs, so that the measurement gives up after a second. Other plugins get
///   longer, because a busy machine may delay a call for that long.
func measure(_ plugin: CPlugin, hangs: Bool = false) throws -> Engine.Measurement {
  let folder = NSTemporaryDirectory() + "/nylon-bench-hang-\(UUID().uuidString)"
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  var target = Target(
    "given", plugin: "given", handler: "main", .ffi(FFISpec(file: try plugin.build(in: folder))),
    loads: [.closed(concurrency: 1)])
  let timeoutMilliseconds = hangs ? 1000 : 10_000
  for phase in target.phases { target.policies[phase]?.timeoutMilliseconds = timeoutMilliseconds }
  let plan = Plan(
    "hang", target, request: RequestSpec(to: "/"), loads: target.loads, warmupSeconds: 0, measureSeconds: 0.5,
    drainSeconds: Double(timeoutMilliseconds) / 1000)
  let bench = try Workbench(plan: plan)
  defer { bench.tearDown() }
  bench.loadProgram = builtCommands + "/nylon-bench"
  if hangs {
    bench.hangLimits = LoadVigil.Limits(loading: .seconds(1), calling: .seconds(1), stopped: .seconds(1))
  }
  return try bench.measure(
    target: target, load: target.loads[0], replicate: 1, onGlance: { _ in true })
}
