import Engine
import Nylon
import Report
import Results
import Scenario

/// The result of checking one rule.
struct RuleFinding: Codable, Sendable, Equatable, Error {
  enum Result: String, Codable, Sendable { case ok, deviates, refused, hangs }

  var rule = ""
  var result: Result
  /// What was observed.
  var seen: String
  /// How to fix a deviation; nil when there is nothing to fix or `seen` already says it.
  var remedy: String?

  static func ok(_ seen: String) -> RuleFinding { RuleFinding(result: .ok, seen: seen) }
  static func deviates(_ seen: String, _ remedy: String? = nil) -> RuleFinding {
    RuleFinding(result: .deviates, seen: seen, remedy: remedy)
  }
  static func refused(_ seen: String, _ remedy: String) -> RuleFinding {
    RuleFinding(result: .refused, seen: seen, remedy: remedy)
  }
  /// Something did not happen in time. `Examination.rule` appends the time limit to the text.
  static func hangs(_ seen: String) -> RuleFinding { RuleFinding(result: .hangs, seen: seen) }
}

/// The result of `conform`, which `--json` prints.
struct Conformance: Codable, Sendable, Equatable {
  /// The plugin's path, or the pool's name.
  var subject: String
  var handler: String
  var findings: [RuleFinding] = []
  /// Whether the examination ended at a rule that all remaining rules depend on.
  var isCut = false
  /// The value for `payloads:` in a scenario; nil when unknown or not applicable to the transport.
  var payloads: PayloadOwner?
  var dialect: Dialect?

  var reason: ExitReason? {
    let results = Set(findings.map(\.result))
    if results.contains(.deviates) || results.contains(.hangs) { return .gateNotMet }
    return results.contains(.refused) ? .badInput : nil
  }

  /// The verdict, and the keys to write in a scenario.
  var summary: String {
    let bad = findings.filter { $0.result != .ok }.map(\.rule)
    let verb = bad.count == 1 ? "deviates" : "deviate"
    let keys = [payloads.map { "payloads: \($0.rawValue)" }, dialect.map { "dialect: \($0.rawValue)" }]
    let lines = [
      bad.isEmpty
        ? "conforms: \(findings.count) ok"
        : "\(bad.count) of \(findings.count) rules \(verb): \(bad.listed())",
      isCut ? "All other rules need \(findings.last?.rule ?? "") and were not tested." : nil,
      isCut ? nil : "In a scenario's target: " + (["handler: \(handler)"] + keys.compactMap { $0 }).listed(),
    ]
    return lines.compactMap { $0 }.flatMap(Answer.wrapped).joined(separator: "\n") + "\n"
  }

  /// - Parameter onlyBad: whether to leave out the rules that hold.
  func table(onlyBad: Bool) -> ReportTable {
    let tones: [RuleFinding.Result: Cell.Tone] = [.ok: .good, .refused: .unsure]
    let shown = findings.filter { !onlyBad || $0.result != .ok }
    let columns: [Column<RuleFinding>] = [
      .text("rule") { $0.rule },
      .toned("result", isText: true) { Cell($0.result.rawValue, tones[$0.result] ?? .bad) },
      // The width of a line that remains beside the longest rule name.
      .text("seen") { $0.seen.count > 68 ? String($0.seen.prefix(67)) + "…" : $0.seen },
    ]
    return ReportTable(
      subject, columns, shown,
      notes: shown.compactMap { finding in finding.remedy.map { "\(finding.rule): \($0)" } })
  }
}

/// Checks rules one after the other.
class Examination {
  static let unknownEntry = "nylon-bench.no-such-entry"

  /// The time limit of a call, a phase or a reply.
  let limitSeconds: Double
  var report: Conformance
  let progress: (String) -> Void

  init(of subject: String, handler: String, limitSeconds: Double, progress: @escaping (String) -> Void) {
    (self.limitSeconds, self.progress) = (limitSeconds, progress)
    report = Conformance(subject: subject, handler: handler)
  }

  /// Checks one rule and returns whether it holds.
  @discardableResult
  func rule(_ name: String, _ find: @autoclosure () throws -> RuleFinding) rethrows -> Bool {
    progress(name)
    var finding = try find()
    finding.rule = name
    if finding.result == .hangs { finding.seen += " within \(shown(limitSeconds, 1)) s" }
    report.findings.append(finding)
    return finding.result == .ok
  }

  /// Creates a plan whose only target is the one under examination.
  func plan(_ name: String, _ transport: TransportSpec, phases: [Phase] = Phase.session) -> Plan {
    var target = Target(name, plugin: name, handler: report.handler, transport, phases: phases, loads: [])
    for phase in Phase.session { target.policies[phase]?.timeoutMilliseconds = Int(limitSeconds * 1000) }
    return Plan(
      name, target, request: .trial, loads: [], warmupSeconds: 0.2, measureSeconds: 10, drainSeconds: 0.5)
  }
}

extension RequestSpec {
  /// The request used in every session of an examination.
  static var trial: RequestSpec {
    RequestSpec(
      to: "/api/users?page=1", headers: [KeyValue(key: "host", value: "example.test")], bodyBytes: 64)
  }
}
