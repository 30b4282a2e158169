// Compares Nylon's configuration with the requests seen by a worker that replies late or never.
import Engine
import Foundation
import Nylon
import Results
import Scenario

enum SettingPromises {
  static let all: [PromiseTest] = [
    PromiseTest("smart-defaults") { stage in
      // The defaults of the middle two phases take 3 s each, so a quick run shortens them.
      let shorter = stage.bench.scaled(nil, quick: 300)
      let target = try target(stage)
      return judge(
        try zip(Phase.session, [100, shorter, shorter, nil]).map { phase, timeoutMilliseconds in
          let policy = target.policies[phase] ?? .standard(for: phase)
          let timeout = timeoutMilliseconds ?? policy.timeoutMilliseconds
          let (worker, measurement) = try silence(stage, target, phase, timeout)
          let median = measurement.request?.response.value(atPercentile: 50).map { Double($0) / 1e6 }
          return Seen(
            phase: phase, policy: policy, timeoutMilliseconds: timeout, attempts: attempts(worker.arrivals),
            tookMilliseconds: policy.onError == .retry ? nil : median)
        })
    },
    PromiseTest("per-phase-overrides") { stage in
      let target = try target(
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
      let arrivals = try silence(stage, target, .requestFilter, 50, group: "production-workers").0.arrivals
      let attempts = attempts(arrivals)
      let first = arrivals.filter { $0.requestID == arrivals.first?.requestID }.map(\.at)
      let gaps = zip(first.dropFirst(), first).map { shown(Double($0 - $1) / 1e6, 0) }
      let timeouts = Phase.session.map { target.policies[$0]?.timeoutMilliseconds ?? 0 }
      return .of(
        attempts == [5] && timeouts == [8000, 10000, 10000, 10000] && target.maxInFlight == 2048,
        "the guide's overrides: timeouts of the four phases are \(timeouts.listed()) ms, "
          + "max_inflight is \(target.maxInFlight), and a request that is never answered was seen "
          + "\(attempts.listed(" or ")) times (retry max 5; tested with a timeout of 50 ms, gaps "
          + "\(gaps.listed()) ms)")
    },
    PromiseTest("request-timeout") { stage in
      let seen = try [100, 2000].map { milliseconds in
        try load(
          stage, try target(stage, messaging: "    request_timeout_ms: \(milliseconds)"), .responseFilter,
          .closed(concurrency: 2), answerAfterMilliseconds: 300,
          measureSeconds: stage.bench.scaled(1, quick: 0.4), drainSeconds: 2
        ).measurement.counts
      }
      let (short, long) = (seen[0], seen[1])
      return .of(
        short.timeouts > 0 && short.timeouts == short.sent && long.ok > 0 && long.ok == long.sent,
        "a worker that takes 300 ms: with request_timeout_ms 100, \(short.timeouts) of \(short.sent) "
          + "requests timed out (\(short.late) answers came late), with 2000, \(long.ok) of \(long.sent) "
          + "were answered")
    },
    PromiseTest("max-inflight") { stage in
      let most = try ["", "    max_inflight: 8"].map { messaging in
        try load(
          stage, try target(stage, messaging: messaging), .responseFilter,
          .open(ratePerSecond: 400, arrivals: .uniform), answerAfterMilliseconds: 100,
          measureSeconds: stage.bench.scaled(1, quick: 0.5), drainSeconds: 0.3
        ).worker.mostWaiting
      }
      return .of(
        most[0] > 8 && most[1] == 8,
        "400 requests a second to a worker that takes 100 ms: at most \(most[0]) in flight without "
          + "max_inflight, and \(most[1]) with max_inflight 8")
    },
  ]

  /// Loads the only target of the guide's configuration, with this broker and optional extra keys.
  private static func target(_ stage: Stage, messaging: String = "", plugin: String = "") throws -> Target {
    let text = """
      messaging:
        - name: default
          servers:
            - nats://127.0.0.1:\(stage.broker.port)
      \(messaging)
      plugins:
        - name: my-plugin
          messaging: default
          entry_point: authz
      \(plugin)
      targets: [{plugin: my-plugin, dialect: reply}]
      loads: [{mode: closed, concurrency: 1}]
      """
    let path = NSTemporaryDirectory() + "/nylon-promise-\(UUID().uuidString).yaml"
    try text.write(toFile: path, atomically: false, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: path) }
    var target = try ScenarioLoader.load(
      path: path, options: .init(metrics: SummaryRow.numericColumns)
    ).targets[0]
    // The URL contains a token, so it is not written to the file, which other users may read.
    target.nats?.servers = [stage.broker.url]
    return target
  }

  /// Sends requests of one phase to a worker that replies after a delay, or never.
  private static func load(
    _ stage: Stage, _ target: Target, _ phase: Phase, _ shape: LoadShape, group: String = "default",
    answerAfterMilliseconds: Int? = nil, measureSeconds: Double, drainSeconds: Double
  ) throws -> (worker: ScriptedWorker, measurement: Engine.Measurement) {
    let subject = try Subject(prefix: "nylon.plugin", plugin: "my-plugin")
    let worker = try ScriptedWorker(
      stage.broker.url, subjects: Phase.session.map(subject.phase), group: group,
      answerAfterMilliseconds: answerAfterMilliseconds)
    defer { worker.stop() }
    var target = target
    target.phases = [phase]
    let measurement = try stage.bench.load(
      target, shape, measureSeconds: measureSeconds, drainSeconds: drainSeconds)
    return (worker, measurement)
  }

  private static func silence(
    _ stage: Stage, _ target: Target, _ phase: Phase, _ timeoutMilliseconds: Int, group: String = "default"
  ) throws -> (worker: ScriptedWorker, measurement: Engine.Measurement) {
    var target = target
    target.policies[phase]?.timeoutMilliseconds = timeoutMilliseconds
    return try load(
      stage, target, phase, .closed(concurrency: 1), group: group, measureSeconds: 0.15,
      drainSeconds: Double(timeoutMilliseconds) / 1000 + 3)
  }

  private static func attempts(_ arrivals: [ScriptedWorker.Arrival]) -> [Int] {
    Dictionary(grouping: arrivals, by: \.requestID).values.map(\.count).sorted()
  }

  /// The documented default of a phase, and the attempts seen by a worker that never replies.
  struct Seen {
    var phase: Phase
    var policy: PhasePolicy
    /// The timeout used, ms: the default, or a shorter one when the default takes too long.
    var timeoutMilliseconds: Int
    var attempts: [Int]
    /// The median time of a phase that timed out, ms; nil for phases that are retried.
    var tookMilliseconds: Double?

    /// Whether the behaviour matches section 5 of the interface. On a busy machine a timeout may be late by
    /// half its length plus 100 ms, but never early.
    var isRight: Bool {
      guard policy == PhasePolicy.standard(for: phase), !attempts.isEmpty else { return false }
      let wanted = policy.onError == .retry ? policy.attempts : 1
      guard attempts.allSatisfy({ $0 == wanted }) else { return false }
      guard let tookMilliseconds else { return true }
      let least = Double(timeoutMilliseconds)
      return tookMilliseconds >= least * 0.999 && tookMilliseconds <= least * 1.5 + 100
    }
  }

  static func judge(_ seen: [Seen]) -> BehaviourResult {
    func name(_ one: Seen) -> String { one.phase.subjectFragment }
    let wrong = seen.filter { !$0.isRight }.map(name)
    let tries = seen.map { "\(name($0)) \(Set($0.attempts).sorted().listed(" or "))" }
    let took = seen.compactMap { one in
      one.tookMilliseconds.map { "\(name(one)) \(shown($0, 0)) of \(one.timeoutMilliseconds) ms" }
    }
    return .of(
      wrong.isEmpty,
      "the guide's configuration without per_phase, and a worker that never answers: attempts "
        + "\(tries.listed()); timed out after \(took.listed())"
        + (wrong.isEmpty ? "" : "; not as documented: \(wrong.listed())"),
      columns: [
        "phase", "timeout ms", "on_error", "attempts", "timeout tried ms", "attempts seen",
        "timed out after ms",
      ],
      rows: seen.map { one in
        [
          name(one), "\(one.policy.timeoutMilliseconds)", one.policy.onError.rawValue,
          "\(one.policy.attempts)", "\(one.timeoutMilliseconds)", "\(Set(one.attempts).sorted())",
          one.tookMilliseconds.map { shown($0, 0) } ?? "",
        ]
      })
  }
}
