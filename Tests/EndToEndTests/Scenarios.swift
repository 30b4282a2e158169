import Foundation
import TestSupport

/// Small scenarios.
enum Small {
  static let times = "warmup_seconds: 0.1\nmeasure_seconds: 0.5\ndrain_seconds: 0.3\n"

  /// The smallest plugin, one request in flight.
  static let ffi = """
    name: small-ffi
    plugins: [{name: floor, type: ffi, file: NullPlugin}]
    targets: [{name: ffi, plugin: floor, handler: noop}]
    loads: [{mode: closed, concurrency: 1}]
    \(times)
    """

  /// Two workers behind a broker of the run's own.
  static let nats = pool(workers: "{count: 2, command: nylon-worker}")

  /// Both, with the same handler.
  static let both = """
    name: small-both
    messaging: [{name: default, servers: []}]
    plugins:
      - {name: in-process, type: ffi, file: ExamplePlugin}
      - {name: example, messaging: default, group: workers}
    targets:
      - {name: ffi, plugin: in-process, handler: authz}
      - {name: nats, plugin: example, handler: authz, workers: {count: 1, command: nylon-worker}}
    loads: [{mode: closed, concurrency: 2}, {mode: open, rate_per_second: 200}]
    replicates: 2
    \(times)
    """

  /// A pool behind a broker.
  static func pool(workers: String, auth: String = "", times: String = times, target: String = "") -> String {
    """
    name: small-nats
    messaging: [{name: default, servers: []\(auth)}]
    plugins: [{name: example, messaging: default, group: workers}]
    targets:
      - {name: nats, plugin: example, handler: noop, timeout_ms: 300, workers: \(workers)\(target)}
    loads: [{mode: closed, concurrency: 4}]
    \(times)
    """
  }

  /// A pool under 300 requests a second of one phase, with more keys at the target and at the margin.
  static func underLoad(
    workers: Int, timeoutMilliseconds: Int, seconds: Double, onError: String, target: String, margin: String
  ) -> String {
    """
    name: under-load
    messaging: [{name: default, servers: []}]
    plugins:
      - name: example
        messaging: default
        group: workers
        per_phase:
          request_filter: {on_error: \(onError), retry: {max: 5, backoff_ms_initial: 20, backoff_ms_max: 200}}
    targets:
      - {name: nats, plugin: example, handler: noop, phases: [request_filter], timeout_ms: \(timeoutMilliseconds),
         workers: {count: \(workers), command: nylon-worker}\(target)}
    loads: [{mode: open, rate_per_second: 300, arrivals: uniform}]
    warmup_seconds: 0.2
    measure_seconds: \(seconds)
    drain_seconds: 2
    \(margin)
    """
  }

  /// A plugin's file, and then the smallest plugin: what comes after a plugin that failed.
  static func plugin(_ path: String, times: String = times) -> String {
    """
    name: small-plugin
    plugins:
      - {name: given, type: ffi, file: \(path)}
      - {name: floor, type: ffi, file: NullPlugin}
    targets:
      - {name: given, plugin: given, handler: main, timeout_ms: 100}
      - {name: floor, plugin: floor, handler: noop}
    loads: [{mode: closed, concurrency: 1}]
    \(times)
    """
  }
}

extension CPlugin {
  func build(in sandbox: Sandbox) throws -> String { try build(in: sandbox.folder) }

  @discardableResult
  static func compile(
    _ file: String, to name: String, in sandbox: Sandbox, options: [String] = ["-shared", "-fPIC", "-O1"]
  ) throws -> String {
    try compile(file, to: name, in: sandbox.folder, options: options)
  }
}

extension ForeignWorker {
  static func build(in sandbox: Sandbox) throws -> String { try build(in: sandbox.folder) }

  /// A scenario with one such worker and one phase, one request in flight.
  static func scenario(
    _ program: String, _ mode: String, dialect: String = "reply", measureSeconds: Double = 0.5,
    target: String = ""
  ) -> String {
    """
    name: foreign
    messaging: [{name: default, servers: []}]
    plugins: [{name: example, messaging: default, group: workers}]
    targets:
      - {name: nats, plugin: example, handler: main, phases: [request_filter], timeout_ms: 400,
         dialect: \(dialect), workers: {count: 1, command: "\(program) \(mode)"}\(target)}
    loads: [{mode: closed, concurrency: 1}]
    warmup_seconds: 0.1
    measure_seconds: \(measureSeconds)
    drain_seconds: 0.2
    """
  }
}
