import Engine
import Foundation
import Lab
import Nylon
import Scenario

/// Checks a plugin against the interface, in separate processes.
final class PluginExamination: Examination {
  private let path, configJSON: String
  private let program: String?
  /// Whether `shutdown` crashes the process; a crash at the end of a load is then not a new finding.
  private var crashesAtItsEnd = false

  /// - Parameter program: the executable of the host processes; nil for the running one.
  init(
    path: String, handler: String, configJSON: String, limitSeconds: Double, program: String? = nil,
    progress: @escaping (String) -> Void
  ) {
    (self.path, self.configJSON, self.program) = (path, configJSON, program)
    super.init(of: path, handler: handler, limitSeconds: limitSeconds, progress: progress)
  }

  private var open: TrialStep { .open(report.handler) }

  private func order(
    _ steps: [TrialStep], readsAreEmpty: Bool = false, payloads: PayloadOwner? = nil
  ) -> TrialOrder {
    TrialOrder(
      pluginPath: path, configJSON: configJSON, steps: [.load, .initialize] + steps,
      readsAreEmpty: readsAreEmpty, payloads: payloads, limitSeconds: limitSeconds)
  }

  /// Runs trials concurrently. Trials in which no session could be opened are repeated on their own: the
  /// plugin may need a port or a file that only one process can use.
  private func trials(_ orders: [TrialOrder]) throws -> [Trial] {
    try zip(orders, try Trial.run(orders, program: program)).map { order, trial in
      let isOpened = [.initialize, open].allSatisfy { !order.steps.contains($0) || trial.isDone($0) }
      return isOpened || orders.count == 1 ? trial : try Trial.run([order], program: program)[0]
    }
  }

  /// Checks every rule. Throws ``PluginError`` when the file is not a plugin or cannot be loaded here.
  func examine() throws -> Conformance {
    try PluginLibrary.checkFile(path)
    progress("a session")
    let phases = Phase.session.map { TrialStep.phase($0.rawValue) }
    let session = try trials([order([open] + phases.flatMap { [$0, .settle] } + [.close, .shutdown])])[0]
    report.isCut = try !examineOpening(session)
    if !report.isCut { try examineSessions(session, phases) }
    return report
  }

  /// Checks that sessions can be opened, which all later rules depend on.
  private func examineOpening(_ trial: Trial) throws -> Bool {
    let handler = report.handler
    return try rule("symbols", try symbols(trial))
      && rule(
        "initialize",
        trial.finding(after: .initialize) { _, _ in .ok("returns; its JSON has no NUL at its end") })
      && rule(
        "entry",
        trial.finding(after: open) { _, isOpen in
          isOpen
            ? .ok("'\(handler)' is accepted")
            : .refused("'\(handler)' is refused", "name a handler that the plugin has: --handler NAME.")
        })
  }

  private func symbols(_ trial: Trial) throws -> RuleFinding {
    switch trial.error {
    case .symbolsMissing(_, let names)?:
      .deviates("lacks \(names.listed())", "export all six, with C linkage.")
    case let error?: throw error
    case nil: trial.finding(after: .load) { _, _ in .ok("all six") }
    }
  }

  private func examineSessions(_ session: Trial, _ phases: [TrialStep]) throws {
    // Steps that were not reached because of a crash or a hanging phase each run in a new process.
    let rest = (phases + [.shutdown]).filter { session.reached($0) == nil }
    let own = Dictionary(
      uniqueKeysWithValues: zip(rest, try trials(rest.map { order([open, $0, .settle]) })))
    func trial(of step: TrialStep) -> Trial { own[step] ?? session }
    var seen = session
    seen.records += rest.flatMap { trial(of: $0).records }
    for (phase, step) in zip(Phase.session, phases) {
      rule(phase.subjectFragment, trial(of: step).phase(phase.rawValue))
    }
    rule("session ids", seen.sessionIDs)
    rule("methods, payloads", seen.payloads)
    rule("threads", seen.threads)
    rule("order of calls", seen.order)

    // A phase that does not end is already reported, so the other rules leave it out.
    let good = zip(Phase.session, phases).filter { trial(of: $1).isDone($1) }.map { $0.0 }
    let (start, end) = ([open], [TrialStep.close])
    let whole = start + good.map { TrialStep.phase($0.rawValue) }
    let late = TrialStep.event(good.first?.rawValue ?? 1)
    let reading = start + good.map { TrialStep.untilRead($0.rawValue) }
    let rules: [(name: String, order: TrialOrder, judge: (Trial) -> RuleFinding)] = [
      ("wrong entry", order([.open(Self.unknownEntry)]), \.wrongEntry),
      ("after close", order(whole + [.settle, .close, .settle, late]), \.afterClose),
      ("close in a read", order(reading + end + whole + end), \.closedRead),
      ("empty reads", order(whole + end, readsAreEmpty: true), \.emptyReads),
      // Whether or not the unknown phase is answered, known phases must still be.
      ("unknown phase", order([open, .event(9)] + whole.dropFirst() + end), \.unknownPhase),
    ]
    let handsOverBytes = seen.calls.contains(where: \.hasPointer)
    let owners: [PayloadOwner] = handsOverBytes ? [.plugin, .host] : []
    let sessions = (0..<8).flatMap { _ in whole + end }
    progress("entries, close, reads")
    let tried = try trials(rules.map { $0.order } + owners.map { order(sessions, payloads: $0) })
    for (one, trial) in zip(rules, tried) { rule(one.name, trial.finding(one.judge)) }
    progress("memory")
    let shutdown = trial(of: .shutdown).finding(after: .shutdown) { _, _ in .ok("returns") }
    if good.isEmpty {
      rule("memory", trial(of: phases[0]).phase(1))
    } else if shutdown.result == .hangs {
      // A load would hang in `shutdown` as well.
      rule("memory", shutdown)
    } else {
      crashesAtItsEnd = shutdown.result != .ok
      try examineMemory(good, frees: Array(tried.dropFirst(rules.count)))
    }
    rule("shutdown", shutdown)
  }

  // MARK: Memory kept per session, and ownership of payloads

  /// - Parameter frees: a trial in which the plugin kept ownership of payloads and one in which the host
  ///   freed them; empty when the plugin passes no payloads.
  private func examineMemory(_ phases: [Phase], frees: [Trial]) throws {
    let growth: Growth
    do {
      growth = try grown(.plugin, phases)
    } catch let finding as RuleFinding {
      rule("memory", finding)
      return
    }
    // The reason why the host must not free payloads; nil when it may.
    let refusal =
      frees.first?.lastWords.map { "not tested, since it fails without: \($0)" } ?? frees.last?.lastWords
    let freed = growth.isLeak && !frees.isEmpty && refusal == nil ? try? grown(.host, phases) : nil
    let owner = freed?.isLeak == false ? PayloadOwner.host : .plugin
    let kept = owner == .host ? freed ?? growth : growth
    let isWhole = phases == Phase.session
    let seen = "\(kept)" + (isWhole ? "" : " of \(phases.map(\.subjectFragment).listed())")
    rule(
      "memory",
      kept.isLeak
        ? .deviates(seen, "free what belongs to a session in close_session_stream, including its slot.")
        : .ok(seen))
    let why =
      owner == .host
      ? "else \(growth)"
      : refusal.map { "with host \($0)" }
        ?? (frees.isEmpty ? "no bytes are handed over" : "plugin_free is not needed")
    report.payloads = owner
    rule("ownership", .ok("payloads: \(owner.rawValue); \(why)"))
  }

  /// Measures the memory growth per session under load, with more sessions as long as it may be a leak.
  /// Throws a ``RuleFinding`` when the plugin fails under the load.
  private func grown(_ payloads: PayloadOwner, _ phases: [Phase]) throws -> Growth {
    let spec = FFISpec(file: path, configJSON: configJSON, payloads: payloads)
    let plan = plan("plugin", .ffi(spec), phases: phases)
    let bench = try Workbench(plan: plan)
    (bench.loadProgram, bench.glanceInterval) = (program, .milliseconds(20))
    // Return freed pages to the system at once; otherwise leaking sessions would reuse them unnoticed.
    bench.loadEnvironment["MALLOC_CONF"] = "dirty_decay_ms:0,muzzy_decay_ms:0"
    var goesOn = true
    var samples: [Growth] = []
    let measurement: Engine.Measurement
    do {
      measurement = try bench.measure(
        target: plan.targets[0], load: .closed(concurrency: 64), replicate: 1
      ) { at in
        // Draining and reporting allocate memory of their own.
        guard goesOn, at.glance.state != .draining, at.glance.state != .done else { return false }
        let sessions = at.glance.answered
        guard sessions > 0, let bytes = ProcessClock.anonymousBytes(pid: at.pid) else {
          return at.measuredSeconds < limitSeconds
        }
        samples.append(Growth(bytes: Double(bytes), sessions: sessions))
        let growth = samples[samples.count - 1] - samples[0]
        goesOn = growth.sessions < 10_000 || growth.mayBeLeak && growth.sessions < 80_000
        return goesOn
      }
    } catch let failure as LoadFailure {
      throw RuleFinding.deviates("under load: \(failure.message)")
    }
    for reason in measurement.invalidReasons {
      if reason.code == .pluginHung { throw RuleFinding.hangs("under load a call did not return") }
      if reason.code == .pluginCrashed, !crashesAtItsEnd {
        throw RuleFinding.deviates("under load \(reason.detail)")
      }
    }
    guard let growth = Growth(samples) else { throw RuleFinding.hangs("under load no session ended") }
    return growth
  }
}

/// The memory growth of a process over a number of sessions.
struct Growth: Sendable, Equatable, CustomStringConvertible {
  private static let mostBytesPerSession = 64.0
  /// Growth up to this size is noise.
  private static let noiseBytes = 256.0 * 1024

  var bytes: Double
  var sessions: UInt64

  static func - (end: Growth, start: Growth) -> Growth {
    Growth(bytes: end.bytes - start.bytes, sessions: end.sessions - min(end.sessions, start.sessions))
  }

  var bytesPerSession: Double { bytes / Double(sessions) }
  var isLeak: Bool { bytesPerSession > Self.mostBytesPerSession && bytes > Self.noiseBytes }
  /// Whether more sessions are needed to tell a leak from noise.
  var mayBeLeak: Bool { bytes + Self.noiseBytes > Self.mostBytesPerSession * Double(sessions) }
  var description: String {
    "\(Int(max(0, bytesPerSession).rounded())) B left per session over \(sessions.formatted()) sessions"
  }
}

extension Growth {
  /// The growth between the first and the last of cumulative samples. It is capped at the rate of the second
  /// half, since caches that fill during the first sessions are no leak. Nil when no session ended.
  init?(_ samples: [Growth]) {
    guard let first = samples.first, let last = samples.last, last.sessions > first.sessions else {
      return nil
    }
    let whole = last - first
    let middle = samples.last { $0.sessions &- first.sessions <= whole.sessions / 2 } ?? first
    let late = (last - middle).bytesPerSession * Double(whole.sessions)
    self.init(bytes: min(whole.bytes, late), sessions: whole.sessions)
  }
}
