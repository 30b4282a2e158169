// What Nylon's configuration says, compared with what a worker sees that answers late or never.
import Foundation
import Engine
import Lab
import Results
import Nylon
import Report
import Scenario

/// Defaults and overrides of timeouts, retries and requests in flight.
enum SettingPromises {
  static let all = [
    PromiseTest("smart-defaults", onBroker: smartDefaults),
    PromiseTest("per-phase-overrides", onBroker: overrides),
    PromiseTest("request-timeout", onBroker: requestTimeout),
    PromiseTest("max-inflight", onBroker: maxInFlight),
  ]

  /// The guide's configuration with this broker and, perhaps, more keys; its one target.
  private static func target(
    _ stage: Stage, messaging: String = "", plugin: String = "",
    loads: String = "{mode: closed, concurrency: 1}"
  ) throws -> Target {
    let text = """
      messaging:
        - name: default
          servers:
            - \(stage.broker.url)
      \(messaging)
      plugins:
        - name: my-plugin
          messaging: default
          entry_point: authz
      \(plugin)
      targets: [{plugin: my-plugin}]
      loads: [\(loads)]
      """
    let path = NSTemporaryDirectory() + "/nylon-promise-\(UUID().uuidString).yaml"
    try text.write(toFile: path, atomically: false, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let targets = try ScenarioLoader.load(path: path, options: .init(metrics: SummaryRow.numericColumns))
      .targets
    return targets[0]
  }

  private static func worker(_ stage: Stage, answerAfterMilliseconds: Int? = nil) throws -> ScriptedWorker {
    let subject = try Subject(prefix: "nylon.plugin", plugin: "my-plugin")
    return try ScriptedWorker(
      stage.broker.url, subjects: Phase.session.map(subject.phase), group: "default",
      answerAfterMilliseconds: answerAfterMilliseconds)
  }

  /// How often each request of a phase came.
  static func attempts(_ arrivals: [ScriptedWorker.Arrival], _ phase: Phase) -> [Int] {
    Dictionary(grouping: arrivals.filter { $0.phase == phase }, by: \.requestID).values.map(\.count).sorted()
  }

  /// Milliseconds between the attempts of the first request of a phase.
  static func gaps(_ arrivals: [ScriptedWorker.Arrival], _ phase: Phase) -> [Double] {
    let ofPhase = arrivals.filter { $0.phase == phase }
    let times = ofPhase.filter { $0.requestID == ofPhase.first?.requestID }.map(\.at)
    return zip(times.dropFirst(), times).map { Double($0 - $1) / 1e6 }
  }

  // MARK: Defaults

  /// One phase's documented default, and what a worker saw that never answers.
  struct Seen {
    var phase: Phase
    /// The policy that came of the configuration.
    var policy: PhasePolicy
    /// The timeout in force, ms: the default, or a shorter one where the default takes too long.
    var timeoutMilliseconds: Int
    /// Attempts of each request.
    var attempts: [Int]
    /// The median time that a timed-out phase took, ms; nil where the phase was not alone.
    var tookMilliseconds: Double?

    /// Whether it is what the interface's section 5 says; a timeout may be late by half of itself and
    /// 100 ms on a busy machine, and never early.
    var isRight: Bool {
      guard policy == PhasePolicy.standard(for: phase), !attempts.isEmpty else { return false }
      let wanted = policy.onError == .retry ? policy.attempts : 1
      guard attempts.allSatisfy({ $0 == wanted }) else { return false }
      guard let tookMilliseconds else { return true }
      let least = Double(timeoutMilliseconds)
      return tookMilliseconds >= least * 0.999 && tookMilliseconds <= least * 1.5 + 100
    }

    var row: [String] {
      [
        phase.subjectFragment, "\(policy.timeoutMilliseconds)", policy.onError.rawValue, "\(policy.attempts)",
        "\(timeoutMilliseconds)", "\(Set(attempts).sorted())", tookMilliseconds.map { shown($0, 0) } ?? "",
      ]
    }
  }

  private static func smartDefaults(_ stage: Stage) throws -> BehaviourResult {
    let target = try target(stage)
    // The middle two take 3 s each: in full where there is time.
    let seen = [
      try silence(stage, target, .requestFilter, timeoutMilliseconds: 100),
      try silence(stage, target, .responseFilter, timeoutMilliseconds: stage.bench.scaled(nil, quick: 300)),
      try silence(
        stage, target, .responseBodyFilter, timeoutMilliseconds: stage.bench.scaled(nil, quick: 300)),
      try silence(stage, target, .logging, timeoutMilliseconds: nil),
    ]
    return judge(seen)
  }

  static func judge(_ seen: [Seen]) -> BehaviourResult {
    let wrong = seen.filter { !$0.isRight }.map(\.phase.subjectFragment)
    let tries = seen.map {
      "\($0.phase.subjectFragment) \(Set($0.attempts).sorted().map(String.init).joined(separator: " or "))"
    }
    let took = seen.compactMap { one in
      one.tookMilliseconds.map {
        "\(one.phase.subjectFragment) \(shown($0, 0)) of \(one.timeoutMilliseconds) ms"
      }
    }
    return .of(
      wrong.isEmpty,
      "the guide's configuration without per_phase, and a worker that never answers: attempts "
        + "\(tries.joined(separator: ", ")); timed out after \(took.joined(separator: ", "))"
        + (wrong.isEmpty ? "" : "; not as documented: \(wrong.joined(separator: ", "))"),
      columns: [
        "phase", "timeout ms", "on_error", "attempts", "timeout tried ms", "attempts seen",
        "timed out after ms",
      ], rows: seen.map(\.row))
  }

  /// Sessions of one phase that nobody answers.
  private static func silence(
    _ stage: Stage, _ target: Target, _ phase: Phase, timeoutMilliseconds: Int?
  ) throws -> Seen {
    let worker = try worker(stage)
    defer { worker.stop() }
    let policy = target.policies[phase] ?? PhasePolicy.standard(for: phase)
    let timeout = timeoutMilliseconds ?? policy.timeoutMilliseconds
    var tried = target
    tried.phases = [phase]
    tried.policies[phase]?.timeoutMilliseconds = timeout
    let measurement = try stage.bench.load(
      tried, .closed(concurrency: 1), measureSeconds: 0.15, drainSeconds: Double(timeout) / 1000 + 3)
    let median = measurement.request?.response.value(atPercentile: 50).map { Double($0) / 1e6 }
    return Seen(
      phase: phase, policy: policy, timeoutMilliseconds: timeout,
      attempts: attempts(worker.arrivals, phase), tookMilliseconds: policy.onError == .retry ? nil : median)
  }

  // MARK: Overrides

  private static func overrides(_ stage: Stage) throws -> BehaviourResult {
    var target = try target(
      stage, messaging: "    request_timeout_ms: 10000\n    max_inflight: 2048",
      plugin: """
            group: production-workers
            per_phase:
              request_filter:
                timeout_ms: 8000
                on_error: retry
                retry:
                  max: 5
        """)
    let read = target.policies
    let worker = try ScriptedWorker(
      stage.broker.url, subjects: ["nylon.plugin.my-plugin.request_filter"], group: "production-workers")
    defer { worker.stop() }
    target.phases = [.requestFilter]
    target.policies[.requestFilter]?.timeoutMilliseconds = 50
    _ = try stage.bench.load(target, .closed(concurrency: 1), measureSeconds: 0.1, drainSeconds: 5)
    let attempts = attempts(worker.arrivals, .requestFilter)
    let timeouts = Phase.session.map { read[$0]?.timeoutMilliseconds ?? 0 }
    return .of(
      attempts == [5] && timeouts == [8000, 10000, 10000, 10000] && target.maxInFlight == 2048,
      "the guide's overrides: timeouts of the four phases are \(timeouts.map(String.init).joined(separator: ", ")) ms, "
        + "max_inflight is \(target.maxInFlight), and a request that is never answered was seen "
        + "\(attempts.map(String.init).joined(separator: " or ")) times (retry max 5; tried with a timeout of 50 ms, gaps "
        + "\(gaps(worker.arrivals, .requestFilter).map { shown($0, 0) }.joined(separator: ", ")) ms)")
  }

  private static func requestTimeout(_ stage: Stage) throws -> BehaviourResult {
    let worker = try worker(stage, answerAfterMilliseconds: 300)
    defer { worker.stop() }
    var seen: [OutcomeCounts] = []
    for milliseconds in [100, 2000] {
      var target = try target(stage, messaging: "    request_timeout_ms: \(milliseconds)")
      target.phases = [.responseFilter]
      let measurement = try stage.bench.load(
        target, .closed(concurrency: 2), measureSeconds: stage.bench.scaled(1, quick: 0.4), drainSeconds: 2)
      seen.append(measurement.request?.counts ?? OutcomeCounts())
    }
    let (short, long) = (seen[0], seen[1])
    return .of(
      short.timeouts > 0 && short.timeouts == short.sent && long.ok > 0 && long.ok == long.sent,
      "a worker that takes 300 ms: with request_timeout_ms 100 \(short.timeouts) of \(short.sent) requests timed "
        + "out (\(short.late) answers came late), with 2000 \(long.ok) of \(long.sent) were answered")
  }

  private static func maxInFlight(_ stage: Stage) throws -> BehaviourResult {
    let most = try [" ", "    max_inflight: 8"].map { messaging in
      let worker = try worker(stage, answerAfterMilliseconds: 100)
      defer { worker.stop() }
      var target = try target(stage, messaging: messaging)
      target.phases = [.responseFilter]
      _ = try stage.bench.load(
        target, .open(ratePerSecond: 400, arrivals: .uniform),
        measureSeconds: stage.bench.scaled(1, quick: 0.5),
        drainSeconds: 0.3)
      return worker.mostWaiting
    }
    return .of(
      most[0] > 8 && most[1] == 8,
      "400 requests a second to a worker that takes 100 ms: at most \(most[0]) at once without max_inflight, "
        + "and \(most[1]) with max_inflight 8")
  }
}
