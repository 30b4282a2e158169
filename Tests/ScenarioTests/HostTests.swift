import Foundation
import Nylon
import Testing

@testable import Scenario

/// A configuration as a Nylon host reads it, with every key that it has.
private let hosted = """
  runtime: {threads: 4}
  messaging:
    - name: default
      type: nats
      servers: [nats://127.0.0.1:4222, nats://127.0.0.1:4223]
      subject_prefix: edge.plugin
      request_timeout_ms: 10000
      max_inflight: 2048
      overflow_policy: queue
      retry: {max: 2, backoff_ms_initial: 50, backoff_ms_max: 250}
      default_headers: {x-env: test, x-api-key: hunter2, entry: other, nylon-bench-stamps: "0"}
      tls: {enabled: true}
      auth: {enabled: true, credentials_file: user.creds}
    - {name: plain, servers: [nats://127.0.0.1:4222], subject_prefix: nylon.plugin, tls: {enabled: false}}
  plugins:
    - {name: pool, type: messaging, messaging: default, group: workers, entry_point: authz, max_inflight: 512, overflow_policy: reject}
    - {name: other, type: messaging, messaging: plain, entry_point: authz}
    - {name: with.dots, type: messaging, messaging: plain}

  """

@Suite("The configuration of a real host")
struct HostTests {
  private func load(
    _ targets: String = "[{plugin: pool}, {plugin: other}]", hosted: String = hosted
  ) throws -> (plan: Plan, folder: String) {
    let folder = try Folder()
    defer { folder.remove() }
    _ = try folder.write(hosted, as: "nylon.yaml")
    let text = "config: nylon.yaml\ntargets: \(targets)\nloads: [{mode: closed, concurrency: 1}]\n"
    return (try ScenarioLoader.load(path: folder.write(text), options: .init()), folder.path)
  }

  private func spec(_ target: Target) throws -> NATSSpec {
    guard case .nats(let spec) = target.transport else { throw ScenarioError(problems: []) }
    return spec
  }

  @Test("Its keys are taken, and a plugin's limits go over its broker's")
  func keys() throws {
    let (plan, folder) = try load()
    let target = plan.targets[0]
    #expect(target.maxInFlight == 512 && target.overflow == .reject)
    let pool = try spec(target)
    #expect(pool.auth.credentials == folder + "/user.creds")
    #expect(pool.subjectPrefix == "edge.plugin" && pool.tls.enabled)
    #expect(
      pool.defaultHeaders == [
        KeyValue(key: "x-env", value: "test"), KeyValue(key: "x-api-key", value: "hunter2"),
      ])
    #expect(plan.targets[1].maxInFlight == 1024 && plan.targets[1].overflow == .queue)
    #expect(try spec(plan.targets[1]).defaultHeaders == nil)
    let own = try load("[{plugin: pool, max_in_flight: 7, overflow_policy: shed}]").plan.targets[0]
    #expect(own.maxInFlight == 7 && own.overflow == .shed)
  }

  @Test("A secret among the default headers is not shown")
  func redaction() throws {
    let redacted = try spec(try load().plan.redacted().targets[0])
    #expect(redacted.defaultHeaders?.map(\.value) == ["test", "***"])
  }

  @Test("Each key that the host limits gives one warning, and a key that is off or standard gives none")
  func warnings() throws {
    let (plan, folder) = try load()
    let wanted = [
      "nylon.yaml:5:14: warning: messaging.0.servers: names several brokers",
      "nylon.yaml:6:21: warning: messaging.0.subject_prefix: is put before the whole subject",
      "nylon.yaml:7:25: warning: messaging.0.request_timeout_ms: is applied by Nylon's host to `initialize`",
      "nylon.yaml:8:19: warning: messaging.0.max_inflight: is applied",
      "nylon.yaml:9:22: warning: messaging.0.overflow_policy: is applied",
      "nylon.yaml:10:12: warning: messaging.0.retry: applies in Nylon's host only to phases that",
      "nylon.yaml:12:10: warning: messaging.0.tls: is read by Nylon's host but never used",
      "nylon.yaml:13:11: warning: messaging.0.auth: is read by Nylon's host but never used",
      "nylon.yaml:11:63: warning: messaging.0.default_headers.entry: has no effect",
      "nylon.yaml:11:90: warning: messaging.0.default_headers.nylon-bench-stamps: has no effect",
      "warning: plugins.0.max_inflight: is applied", "warning: plugins.0.overflow_policy: is applied",
      "nylon.yaml:18:12: warning: plugins.2.name = 'with.dots': contains a dot",
    ]
    let said = plan.warnings.map { $0.replacingOccurrences(of: folder + "/", with: "") }
    #expect(said.count == wanted.count, "\(said.joined(separator: "\n"))")
    for (line, part) in zip(said, wanted) { #expect(line.contains(part)) }
  }

  @Test("A scenario with its own blocks gets no warnings about a host's limits")
  func ownBlocks() throws {
    let blocks = hosted.components(separatedBy: "\n").dropFirst()
      .filter { !$0.contains("with.dots") && !$0.contains("default_headers") }.joined(separator: "\n")
    let text = blocks + "targets: [{plugin: pool}]\nloads: [{mode: closed, concurrency: 1}]\n"
    #expect(try ScenarioTests.load(text).warnings.isEmpty)
  }

  @Test("A plugin with a name that no subject can have is refused when a target names it")
  func dots() throws {
    #expect {
      _ = try load("[{name: dotted, plugin: with.dots, handler: h}]")
    } throws: { error in
      "\(error)".contains(
        "nylon.yaml:18:12: plugins.2.name = 'with.dots': contains a dot: it is part of NATS")
        && "\(error)".contains("letters, digits")
    }
  }

  @Test("A target that imitates the host has the host's timeouts, and waits instead of retrying")
  func nylonHost() throws {
    let text = small.replacingOccurrences(
      of: "servers: [nats://127.0.0.1:4222]}",
      with: "servers: [nats://127.0.0.1:4222], request_timeout_ms: 800, retry: {max: 4}}"
    ).replacingOccurrences(
      of: "entry_point: authz}",
      with: "entry_point: authz, per_phase: {logging: {timeout_ms: 100, on_error: retry}}}")
    func target(_ more: String) throws -> Target {
      try ScenarioTests.load(
        text.replacingOccurrences(of: "plugin: pool}", with: "plugin: pool, \(more)}")
      ).targets[1]
    }
    for dialect in ["stream-sdk", "detect"] {
      let nylon = try target("host: nylon, dialect: \(dialect)")
      let pool = try spec(nylon)
      #expect(pool.host == .nylon && pool.initializeTimeoutMilliseconds == 800)
      #expect(nylon.policies[.requestFilter] == PhasePolicy.standard(for: .requestFilter))
      let waits = Phase.session.map { nylon.policy(of: $0).timeoutMilliseconds }
      #expect(waits == [15_000, 3000, 3000, 400])
      #expect(Phase.session.allSatisfy { nylon.policy(of: $0).onError == .continue })
    }
    let hurried = try target("host: nylon, dialect: stream-sdk, timeout_ms: 70")
    #expect(Phase.session.map { hurried.policy(of: $0).timeoutMilliseconds } == [210, 70, 70, 280])
    let lean = try target("host: lean, dialect: stream-sdk")
    #expect(try spec(lean).host == .lean && spec(lean).initializeTimeoutMilliseconds == nil)
    #expect(Phase.session.allSatisfy { lean.policy(of: $0) == lean.policies[$0] })
    #expect(lean.policies[.requestFilter]?.timeoutMilliseconds == 800)
  }

  @Test("A configuration that the host would not send is a warning")
  func nylonHostConfiguration() throws {
    let text = small.replacingOccurrences(
      of: "entry_point: authz}", with: "entry_point: authz, config: {a: 1}}")
    let nylon = text.replacingOccurrences(
      of: "plugin: pool}", with: "plugin: pool, host: nylon, dialect: stream-sdk}")
    #expect(try ScenarioTests.load(text).warnings.isEmpty)
    let warnings = try ScenarioTests.load(nylon).warnings
    #expect(warnings.count == 1 && warnings[0].contains("targets.1.host") && warnings[0].contains("`config`"))
  }

  @Test("The limit of the plugin bounds the concurrency of its loads")
  func limit() throws {
    #expect {
      _ = try load("[{plugin: pool, loads: [{mode: closed, concurrency: 600}]}]")
    } throws: { "\($0)".contains("is over plugins.0.max_inflight (512)") }
  }
}
