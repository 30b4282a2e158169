// One handler served both ways: the same requests must leave the same responses.
import Foundation
import Lab
import Engine
import Results
import Nylon
import Report
import Scenario

/// The example handlers in the host's process and behind NATS.
enum HandlerPromises {
  static let all = [
    PromiseTest(
      "same-handler-code", pool: .standard,
      onBroker: { stage in
        try bothWays(stage, cases.filter { !$0.handler.hasPrefix("api") })
      }),
    PromiseTest(
      "identical-api", pool: .standard,
      onBroker: { stage in
        try bothWays(stage, cases.filter { $0.handler.hasPrefix("api") })
      }),
    PromiseTest("mix-ffi-nats", pool: .standard, onBroker: mix),
    PromiseTest("ffi-languages", ffiLanguages),
  ]

  /// A handler, a path, and the response that it must leave, whichever way it is served.
  struct Case {
    var handler: String
    var path = "/api/users"
    var verify: Verification
  }

  /// All example handlers but `crash`, which has a test of its own.
  static let cases = [
    Case(handler: "noop", verify: Verification(status: 200, bodyUnchanged: true)),
    Case(
      handler: "authz",
      verify: Verification(
        status: 200,
        responseHeaders: ["X-Plugin-Transport", "X-Processed-By"].map { KeyValue(key: $0, value: "") },
        bodyUnchanged: true)),
    Case(handler: "echo", verify: Verification(status: 200, bodyUnchanged: true)),
    Case(handler: "work", verify: Verification(status: 200, bodyUnchanged: true)),
    Case(handler: "wait", verify: Verification(status: 200, bodyUnchanged: true)),
    Case(
      handler: "api",
      verify: Verification(
        status: 201,
        responseHeaders: [
          KeyValue(key: "X-Seen", value: "/api/users 3 64"), KeyValue(key: "X-Custom", value: "value"),
          KeyValue(key: "Content-Type", value: "application/json"),
        ], body: #"{"method":"GET"}"#)),
    Case(
      handler: "api", path: "/deny",
      verify: Verification(
        status: 403,
        responseHeaders: [
          KeyValue(key: "X-Seen", value: "/deny 3 64"),
          KeyValue(key: "Content-Type", value: "application/json"),
        ], body: #"{"denied":true}"#)),
  ]

  /// The in-process plugin.
  static func ffiTarget(_ handler: String, file: String = "ExamplePlugin", phases: [Phase] = Phase.session)
    -> Target
  {
    var policies = Target.standardPolicies
    for phase in Phase.session {
      policies[phase]?.onError = .end
      policies[phase]?.attempts = 1
    }
    return Target(
      "ffi", plugin: "in-process", handler: handler, .ffi(FFISpec(file: file)),
      phases: phases,
      loads: [.closed(concurrency: 1)], policies: policies)
  }

  /// Requests that went well on one way.
  struct Way {
    var name: String
    var counts: OutcomeCounts

    var isRight: Bool { counts.sent > 0 && counts.ok == counts.sent && counts.wrongContent == 0 }
  }

  private static func bothWays(_ stage: Stage, _ cases: [Case]) throws -> BehaviourResult {
    try stage.start(1)
    var rows: [[String]] = []
    var wrong: [String] = []
    var answered: UInt64 = 0
    for one in cases where !stage.bench.isInterrupted() {
      for var target in [ffiTarget(one.handler), stage.target(handler: one.handler)] {
        target.verify = one.verify
        let request = RequestSpec(
          to: one.path,
          headers: [("host", "example.test"), ("x-work-us", "50"), ("x-wait-us", "50")].map {
            KeyValue(key: $0.0, value: $0.1)
          }, bodyBytes: 64)
        let measurement = try stage.bench.load(
          target, .closed(concurrency: 2), request: request,
          measureSeconds: stage.bench.scaled(0.4, quick: 0.15))
        let way = Way(
          name: target.transport.name, counts: measurement.request?.counts ?? OutcomeCounts())
        if !way.isRight { wrong.append("\(one.handler) \(one.path) by \(way.name)") }
        answered += way.counts.ok
        rows.append([
          one.handler, one.path, way.name, "\(way.counts.sent)", "\(way.counts.ok)",
          "\(way.counts.wrongContent)",
        ])
      }
    }
    return .of(
      wrong.isEmpty,
      "\(Set(cases.map(\.handler)).sorted().joined(separator: ", ")), built from one source as shared library and "
        + "as worker, over all four phases: \(answered) sessions both ways, each checked for status, headers and body"
        + (wrong.isEmpty ? ", all as they must be" : "; wrong: \(wrong.joined(separator: ", "))")
        + ". The SDK tried is this package's, not the Go SDK",
      columns: ["handler", "path", "way", "sessions", "right", "wrong content"], rows: rows)
  }

  /// One FFI plugin and one NATS plugin, loaded at the same time.
  private static func mix(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(1)
    let inProcess = ffiTarget("authz")
    let behindNATS = stage.target()
    let other = Concurrently { [bench = stage.bench] in
      try bench.load(
        inProcess, .open(ratePerSecond: 200, arrivals: .uniform), measureSeconds: 1
      ).request?.counts
    }
    let nats = try stage.bench.load(
      behindNATS, .open(ratePerSecond: 200, arrivals: .uniform), measureSeconds: 1
    ).request?.counts
    let ways = [
      Way(name: "ffi", counts: try other.wait() ?? OutcomeCounts()),
      Way(name: "nats", counts: nats ?? OutcomeCounts()),
    ]
    return .of(
      ways.allSatisfy(\.isRight),
      "an FFI plugin and a NATS plugin at the same time: "
        + ways.map { "\($0.counts.ok) of \($0.counts.sent) sessions right by \($0.name)" }.joined(
          separator: ", "))
  }

  /// Plugins in languages that the guide does not name.
  private static func ffiLanguages(_ bench: PromiseBench) throws -> BehaviourResult {
    let seen = try [("C", "NullPlugin"), ("Swift", "ExamplePlugin")].map { language, file in
      let counts = try bench.load(
        ffiTarget("noop", file: file), .closed(concurrency: 1), measureSeconds: 0.2
      ).request?.counts
      return (language: language, way: Way(name: file, counts: counts ?? OutcomeCounts()))
    }
    return .of(
      !seen.contains { $0.way.isRight },
      "the interface is six C symbols: "
        + seen.map {
          "a plugin in \($0.language) answered \($0.way.counts.ok) of \($0.way.counts.sent) sessions"
        }
        .joined(separator: ", ") + ". The rule: holds if neither works. Go and Rust were not tried")
  }
}

/// Work on a thread of its own, whose result is waited for.
final class Concurrently<Value: Sendable>: @unchecked Sendable {
  // @unchecked: `result` is written before `done` is signalled and read after it.
  private var result: Result<Value, any Error>?
  private let done = DispatchSemaphore(value: 0)

  init(_ work: @escaping @Sendable () throws -> Value) {
    let thread = Thread { [self] in
      result = Result { try work() }
      done.signal()
    }
    thread.stackSize = 4 << 20
    thread.start()
  }

  /// The result, when it is there; called once.
  func wait() throws -> Value {
    done.wait()
    guard let result else { throw CancellationError() }
    return try result.get()
  }
}
