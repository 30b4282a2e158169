import Engine
import Foundation
import Lab
import Nylon
import Scenario

/// Tries a plugin against the interface, each rule in a process of its own.
final class PluginExamination: Examination {
  private let path, configJSON: String

  init(
    path: String, handler: String, configJSON: String, limitSeconds: Double,
    progress: @escaping (String) -> Void
  ) {
    (self.path, self.configJSON) = (path, configJSON)
    super.init(of: path, handler: handler, limitSeconds: limitSeconds, progress: progress)
  }

  private func trial(_ steps: [TrialStep], readsAreEmpty: Bool = false) throws -> Trial {
    try Trial.run(
      TrialOrder(
        pluginPath: path, configJSON: configJSON, steps: [.load] + steps, readsAreEmpty: readsAreEmpty,
        limitSeconds: limitSeconds))
  }

  /// Tries every rule. Throws ``PluginError`` for what is no plugin, or cannot be loaded here.
  func examine() throws -> Conformance {
    try PluginLibrary.checkFile(path)
    report.isCut = try !examineOpening()
    if !report.isCut { try examineSessions() }
    return report
  }

  /// Whether sessions can be opened, which all that follows needs.
  private func examineOpening() throws -> Bool {
    let handler = report.handler
    let opening = [TrialStep.initialize, .open(handler), .close]
    return try rule("symbols", try symbols(try trial([])))
      && rule(
        "initialize", try trial([.initialize]).finding { _ in .ok("returns; its JSON has no NUL at its end") }
      )
      && rule(
        "entry",
        try trial(opening).finding { trial in
          trial.isDone(.open(handler))
            ? .ok("'\(handler)' is accepted")
            : .refused("'\(handler)' is refused", "name a handler that the plugin has: --handler NAME.")
        })
  }

  private func symbols(_ trial: Trial) throws -> RuleFinding {
    switch trial.error {
    case .symbolsMissing(_, let names)?:
      .deviates("lacks \(names.listed())", "export all six, with the linkage of C.")
    case let error?: throw error
    case nil: trial.finding { _ in .ok("all six") }
    }
  }

  private func examineSessions() throws {
    let opened = [TrialStep.initialize, .open(report.handler)]
    let phases = Phase.session.map { TrialStep.phase($0.rawValue) }
    try rule(
      "wrong entry",
      try trial([.initialize, .open(Self.unknownEntry)]).finding { trial in
        trial.isDone(.open(Self.unknownEntry))
          ? .deviates(
            "'\(Self.unknownEntry)' is accepted", "register_session_stream returns false for an unknown name."
          )
          : .ok("refused")
      })
    let session = try trial(opened + phases + [.close])
    var seen = session
    for (phase, step) in zip(Phase.session, phases) {
      var own = session
      if session.reached(step) == nil {
        // An earlier phase has ended the process.
        own = try trial(opened + [step, .close])
        seen.records += own.records
      }
      rule(phase.subjectFragment, own.phase(phase.rawValue))
    }
    rule("session ids", seen.sessionIDs)
    rule("methods, payloads", seen.payloads)
    rule("threads", seen.threads)
    rule("order of calls", seen.order)
    try rule("after close", try trial(opened + phases + [.close, .event(1)]).finding(\.afterClose))
    try rule(
      "close in a read",
      try trial(opened + [.untilRead, .close, opened[1]] + phases + [.close]).finding(\.closedRead))
    try rule(
      "empty reads", try trial(opened + phases + [.close], readsAreEmpty: true).finding(\.emptyReads))
    // Whether or not it is answered, a phase that is known must still be.
    try rule(
      "unknown phase", try trial(opened + [.event(9), .phase(1), .close]).finding(\.unknownPhase))
    try examineMemory(handsOverBytes: seen.calls.contains(where: \.hasPointer))
    try rule("shutdown", try trial(opened + phases + [.close, .shutdown]).finding { _ in .ok("returns") })
  }

  // MARK: What stays of sessions, and who owns the bytes of a call

  private func examineMemory(handsOverBytes: Bool) throws {
    let growth: Growth
    do {
      growth = try grown(.plugin)
    } catch let failure as FailedLoad {
      rule("memory", failure.finding)
      return
    }
    let refusal = handsOverBytes ? try refusalOfFree() : nil
    let freed = growth.isLeak && handsOverBytes && refusal == nil ? try? grown(.host) : nil
    let owner = freed?.isLeak == false ? PayloadOwner.host : .plugin
    let kept = owner == .host ? freed ?? growth : growth
    rule(
      "memory",
      kept.isLeak
        ? .deviates("\(kept)", "free what belongs to a session in close_session_stream, its place as well.")
        : .ok("\(kept)"))
    let why =
      owner == .host
      ? "else \(growth)"
      : refusal.map { "with host \($0)" }
        ?? (handsOverBytes ? "plugin_free is not needed" : "no bytes are handed over")
    report.payloads = owner
    rule("ownership", .ok("payloads: \(owner.rawValue); \(why)"))
  }

  /// What grows with each session; looked at twice before it is called a leak.
  private func grown(_ payloads: PayloadOwner) throws -> Growth {
    let first = try load(payloads, seconds: 1)
    guard first.isLeak || first.sessions < 10_000 else { return first }
    let second = try load(payloads, seconds: 4)
    return second.isLeak && first.bytesPerSession < second.bytesPerSession ? first : second
  }

  /// What happens when the host frees the bytes of calls; nil when nothing does. With malloc and new of the system,
  /// which notice a double free; jemalloc, which replaces them in loads, does not.
  private func refusalOfFree() throws -> String? {
    for owner in [PayloadOwner.plugin, .host] {
      do {
        _ = try load(owner, seconds: 0.2, environment: ["LD_PRELOAD": "libc.so.6 libstdc++.so.6"])
      } catch let failure as FailedLoad {
        let words = failure.finding.seen.components(separatedBy: "last words: ").last ?? ""
        return owner == .host ? words : "not tried, as it fails without: \(words)"
      }
    }
    return nil
  }

  private struct FailedLoad: Error { let finding: RuleFinding }

  private func load(
    _ payloads: PayloadOwner, seconds: Double, environment: [String: String] = [:]
  ) throws -> Growth {
    let spec = FFISpec(file: path, configJSON: configJSON, payloads: payloads)
    let plan = plan("plugin", .ffi(spec), seconds: seconds)
    let bench = try Workbench(plan: plan)
    bench.loadEnvironment.merge(environment) { $1 }
    let measurement = try bench.measure(
      target: plan.targets[0], load: .closed(concurrency: 16), replicate: 1
    ) { _ in true }
    let failure = measurement.invalidReasons.first { [.pluginCrashed, .pluginHung].contains($0.code) }
    if let failure {
      throw FailedLoad(
        finding: failure.code == .pluginHung
          ? .hangs("under load a call did not return") : .deviates(failure.detail))
    }
    guard let growth = Growth(measurement) else {
      throw FailedLoad(finding: .hangs("under load no session came to its end"))
    }
    return growth
  }
}

/// How much larger a process became with its sessions.
struct Growth: Sendable, Equatable, CustomStringConvertible {
  var bytes: Double
  var sessions: UInt64

  var bytesPerSession: Double { bytes / Double(sessions) }
  /// Less than either is what memory does by itself.
  var isLeak: Bool { bytesPerSession > 64 && bytes > 256 * 1024 }
  var description: String {
    "\(Int(max(0, bytesPerSession).rounded())) B stay of each of \(sessions.formatted()) sessions"
  }
}

extension Growth {
  /// Nil when no session came to its end.
  init?(_ measurement: Engine.Measurement) {
    guard measurement.counts.ok > 0, let start = measurement.generator?.residentStartBytes,
      let end = measurement.generator?.residentEndBytes
    else { return nil }
    self.init(bytes: Double(end) - Double(start), sessions: measurement.counts.ok)
  }
}
