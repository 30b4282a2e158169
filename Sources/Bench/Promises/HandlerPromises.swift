// Handlers in the host's process, and handlers served both ways, which must produce the same responses.
import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

enum HandlerPromises {
  static let all: [PromiseTest] = [
    PromiseTest("same-handler-code", pool: .standard) { stage in
      try bothWays(stage, cases.filter { !$0.handler.hasPrefix("api") })
    },
    PromiseTest("identical-api", pool: .standard) { stage in
      try bothWays(stage, cases.filter { $0.handler.hasPrefix("api") })
    },
    // Each phase of a request passes through an FFI plugin and a NATS plugin.
    PromiseTest("mix-ffi-nats", pool: .standard) { stage in
      try stage.start(1)
      var target = stage.target()
      target.behind = PrecedingPlugin(ffiTarget("authz"))
      let measurement = try stage.bench.load(
        target, .open(ratePerSecond: 200, arrivals: .uniform), measureSeconds: 1)
      let passed = measurement.scopes.dropFirst().count { $0.counts.ok == measurement.counts.sent }
      return .of(
        measurement.counts.areAllRight && passed == 2 * target.phases.count,
        "each request passed an FFI plugin and then a NATS plugin in each of \(target.phases.count) phases: "
          + "\(measurement.counts.ok) of \(measurement.counts.sent) requests correct")
    },
    // Plugins written in languages that the guide does not mention.
    PromiseTest(name: "ffi-languages") { bench in
      let seen = try [("C", "NullPlugin"), ("Swift", "ExamplePlugin")].map { language, file in
        let target = ffiTarget("noop", file: file)
        return (language, try bench.load(target, .closed(concurrency: 1), measureSeconds: 0.2).counts)
      }
      return .of(
        !seen.contains { $0.1.areAllRight },
        "the interface is six C symbols: "
          + seen.map { "a plugin in \($0.0) answered \($0.1.ok) of \($0.1.sent) sessions" }.listed()
          + ". The promise holds if neither works; this test loads no Go or Rust plugin")
    },
    // Tests whether a crash of a handler in the host's process takes down the host.
    PromiseTest(name: "ffi-crash") { bench in
      let measurement = try bench.load(
        ffiTarget("crash"), .closed(concurrency: 1),
        request: RequestSpec(to: "/", headers: headers(["x-crash-after": "200"])), measureSeconds: 1)
      let crash = measurement.invalidReasons.first { $0.code == .pluginCrashed }
      let counts = measurement.counts
      return .of(
        crash != nil,
        "a handler that aborts at its 200th request: "
          + (crash.map { "\($0.detail); nothing was answered after it (\(counts.ok) before)" }
            ?? "the host went on, \(counts.ok) of \(counts.sent) requests answered")
          + ". The host was a load process, whose crash this run survives")
    },
    // Counts the processes that map the plugin, and tests whether its handlers run concurrently.
    PromiseTest(name: "ffi-single-process") { bench in
      var most = 0
      let rates = try [1, 8].map { concurrency in
        try bench.load(
          ffiTarget("wait"), .closed(concurrency: concurrency),
          request: RequestSpec(to: "/", headers: headers(["x-wait-us": "2000"])),
          measureSeconds: bench.scaled(0.8, quick: 0.4)
        ) { _ in most = max(most, descendants(holding: "libExamplePlugin.so")) }.throughputPerSecond ?? 0
      }
      let ratio = rates[0] > 0 ? rates[1] / rates[0] : 0
      return .of(
        most == 1,
        "\(most) process\(most == 1 ? "" : "es") held the plugin under load: the host's own. In it, a "
          + "handler that waits 2 ms gave \(shown(ratio, 1)) times as much throughput with 8 in flight as "
          + "with 1: this plugin's handlers run \(ratio < 1.5 ? "one at a time" : "concurrently")")
    },
  ]

  /// A handler, a path, and the response that it must produce over both transports.
  struct Case {
    var handler: String
    var path = "/api/users"
    var verify = Verification(status: 200, bodyUnchanged: true)
  }

  /// All example handlers except `crash`, which has its own test.
  static let cases =
    ["noop", "echo", "work", "wait"].map { Case(handler: $0) } + [
      Case(
        handler: "authz",
        verify: Verification(
          status: 200, responseHeaders: headers(["X-Plugin-Transport": "", "X-Processed-By": ""]),
          bodyUnchanged: true)),
      Case(
        handler: "pause",
        verify: Verification(status: 200, responseHeaders: headers(["X-Paused": "yes"]), bodyUnchanged: true)),
      Case(
        handler: "api",
        verify: Verification(
          status: 201,
          responseHeaders: headers([
            "X-Seen": "/api/users 3 64", "X-Custom": "value", "Content-Type": "application/json",
          ]), body: #"{"method":"GET"}"#)),
      Case(
        handler: "api", path: "/deny",
        verify: Verification(
          status: 403,
          responseHeaders: headers(["X-Seen": "/deny 3 64", "Content-Type": "application/json"]),
          body: #"{"denied":true}"#)),
    ]

  private static func ffiTarget(_ handler: String, file: String = "ExamplePlugin") -> Target {
    Target(
      "ffi", plugin: "in-process", handler: handler, .ffi(FFISpec(file: file)),
      loads: [.closed(concurrency: 1)],
      policies: Target.standardPolicies.mapValues { policy in
        var policy = policy
        policy.onError = .end
        policy.attempts = 1
        return policy
      })
  }

  private static func bothWays(_ stage: Stage, _ cases: [Case]) throws -> BehaviourResult {
    try stage.start(1)
    var rows: [[String]] = []
    var wrong: [String] = []
    var answered: UInt64 = 0
    for one in cases where !stage.bench.isInterrupted() {
      for var target in [ffiTarget(one.handler), stage.target(handler: one.handler)] {
        target.verify = one.verify
        let counts = try stage.bench.load(
          target, .closed(concurrency: 2),
          request: RequestSpec(
            to: one.path,
            headers: headers(["host": "example.test", "x-work-us": "50", "x-wait-us": "50"]), bodyBytes: 64),
          measureSeconds: stage.bench.scaled(0.4, quick: 0.15)
        ).counts
        let way = target.transport.kind.rawValue
        if !counts.areAllRight { wrong.append("\(one.handler) \(one.path) by \(way)") }
        answered += counts.ok
        rows.append(
          [one.handler, one.path, way] + [counts.sent, counts.ok, counts.wrongContent].map(String.init))
      }
    }
    return .of(
      wrong.isEmpty,
      "\(Set(cases.map(\.handler)).sorted().listed()), built from one source as a shared "
        + "library and as a worker, over all four phases: \(answered) sessions both ways, each checked for "
        + "status, headers and body"
        + (wrong.isEmpty ? ", all correct" : "; wrong: \(wrong.listed())")
        + ". The SDK tested is this package's, not the Go SDK",
      columns: ["handler", "path", "way", "sessions", "right", "wrong content"], rows: rows)
  }

  /// The number of descendants of this process that map a file with this name.
  private static func descendants(holding file: String) -> Int {
    ProcessClock.numbers(in: "/proc").count { pid in
      let maps = try? String(contentsOfFile: "/proc/\(pid)/maps", encoding: .utf8)
      return maps?.contains("/\(file)") == true
        && sequence(first: pid, next: ProcessClock.parent(of:)).dropFirst().contains(getpid())
    }
  }
}
