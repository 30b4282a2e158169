import Foundation
import Testing

@testable import Scenario
@testable import Nylon

@Suite("A scenario becomes a plan")
struct LoadingTests {
  @Test("A small scenario gets all defaults")
  func defaults() throws {
    let plan = try load(small)
    #expect(plan.name == "test")
    #expect(plan.summary == "What for.")
    #expect(plan.phases == Phase.session)
    #expect(plan.loads == [.closed(concurrency: 1), .open(ratePerSecond: 5000, arrivals: .poisson)])
    #expect(plan.warmupSeconds == 1 && plan.measureSeconds == 5 && plan.drainSeconds == 2)
    #expect(plan.rounds == 6...12 && plan.threads == 1 && plan.connections == 1 && plan.seed == 1)
    #expect(plan.request == RequestSpec())
    #expect(plan.targets.map(\.name) == ["ffi", "nats"])
    #expect(plan.warnings.isEmpty)
    guard case .nats(let nats) = plan.targets[1].transport else {
      Issue.record("not NATS")
      return
    }
    #expect(nats == NATSSpec(servers: ["nats://127.0.0.1:4222"], group: "workers", dialect: nil))
    #expect(plan.targets[1].handler == "authz")
    #expect(plan.targets[1].maxInFlight == 1024)
    #expect(plan.targets[1].overflow == .queue)
    #expect(plan.targets[1].policies == Target.standardPolicies)
  }

  @Test("decompose is no by default, the scenario's for all targets, and a target's own over it")
  func decompose() throws {
    #expect(try load(small).targets.map(\.isDecomposed) == [false, false])
    #expect(try load(small + "decompose: true\n").targets.map(\.isDecomposed) == [true, true])
    let one = small.replacingOccurrences(of: "handler: noop}", with: "handler: noop, decompose: true}")
    #expect(try load(one).targets.map(\.isDecomposed) == [true, false])
    let not = small.replacingOccurrences(of: "handler: noop}", with: "handler: noop, decompose: false}")
    #expect(try load(not + "decompose: true\n").targets.map(\.isDecomposed) == [false, true])
    #expect(try faults(small + "decompose: 1\n").contains("decompose"))
    #expect(try faults(small + "decompose: 1\n").contains("true or false"))
  }

  @Test("A ramp is a load with its own measured time, which a short look shortens without another label")
  func ramp() throws {
    let text = small.replacingOccurrences(
      of: "{mode: open, rate_per_second: 5000}",
      with: "{mode: ramp, from_per_second: 1e3, to_per_second: 50_000, over_seconds: 10, arrivals: uniform}")
    let ramp = try load(text).loads[1]
    #expect(
      ramp == .ramp(Ramp(fromPerSecond: 1000, toPerSecond: 50_000, overSeconds: 10, arrivals: .uniform)))
    #expect(ramp.label == "ramp-1000-50000-uniform" && ramp.isOpen && ramp.overSeconds == 10)
    let quick = try load(text, .init(quick: true))
    #expect(quick.targets[1].loads.map(\.label) == ["closed-1", "ramp-1000-50000-uniform"])
    #expect(quick.targets[1].loads[1].overSeconds == 1 && quick.loads[1].overSeconds == 1)
    let twice =
      text
      + "  - {mode: ramp, from_per_second: 1000, to_per_second: 50000, over_seconds: 5, arrivals: uniform}\n"
    #expect(try faults(twice).contains("is in the list twice"))
    let figure = "expect: ['nats.ramp-1000-50000-uniform.followed_rps > 3e4']\n"
    #expect(try load(text + figure).expectations[0].metric == "followed_rps")
    #expect(
      try faults(text + figure.replacingOccurrences(of: "followed_rps", with: "response_p99_us")).contains(
        "names response_p99_us of a ramp, which covers all its rates together; name followed_rps"))
  }

  @Test("An objective is the scenario's for all targets, and a target's own over it")
  func objective() throws {
    #expect(try load(small).targets.map(\.objective) == [nil, nil])
    let both = small + "objective: response_p99_us < 5000\n"
    let level = ServiceLevel(metric: "response_p99_us", microseconds: 5000)
    #expect(try load(both).targets.map(\.objective) == [level, level])
    let own = both.replacingOccurrences(of: "handler: noop}", with: "handler: noop, objective: p50<=800us}")
    let other = ServiceLevel(metric: "response_p50_us", microseconds: 800, orEqual: true)
    #expect(try load(own).targets.map(\.objective) == [other, level])
  }

  @Test("An in-process plugin has the phases' timeouts and no retry")
  func ffiPolicies() throws {
    let target = try load(small).targets[0]
    for phase in Phase.session {
      let policy = try #require(target.policies[phase])
      #expect(policy.timeoutMilliseconds == PhasePolicy.standard(for: phase).timeoutMilliseconds)
      #expect(policy.onError == .end && policy.attempts == 1)
    }
    #expect(
      target.transport == .ffi(FFISpec(file: "ExamplePlugin", payloads: .plugin, spin: .auto)))
  }

  @Test("per_phase overrides the broker's settings, those the defaults, the target's timeout all of them")
  func precedence() throws {
    var text = small.replacingOccurrences(
      of: "servers: [nats://127.0.0.1:4222]}",
      with: "servers: [nats://127.0.0.1:4222], request_timeout_ms: 10000, max_inflight: 2048, "
        + "overflow_policy: shed, retry: {max: 2, backoff_ms_initial: 50, backoff_ms_max: 250}}")
    text = text.replacingOccurrences(
      of: "entry_point: authz}",
      with:
        "entry_point: authz, per_phase: {request_filter: {timeout_ms: 8000, on_error: retry, retry: {max: 5}}}}"
    )
    let target = try load(text).targets[1]
    #expect(target.maxInFlight == 2048 && target.overflow == .shed)
    #expect(
      target.policies[.requestFilter]
        == PhasePolicy(
          timeoutMilliseconds: 8000, onError: .retry, attempts: 5, backoffFirstMilliseconds: 50,
          backoffMostMilliseconds: 250))
    #expect(
      target.policies[.logging]
        == PhasePolicy(
          timeoutMilliseconds: 10000, onError: .continue, attempts: 2, backoffFirstMilliseconds: 50,
          backoffMostMilliseconds: 250))
    text = text.replacingOccurrences(of: "plugin: pool}", with: "plugin: pool, timeout_ms: 70}")
    #expect(try load(text).targets[1].policies.values.allSatisfy { $0.timeoutMilliseconds == 70 })
  }

  @Test("Where one end of the backoff is set, the other gives way")
  func backoff() throws {
    let base = PhasePolicy.standard(for: .requestFilter)
    #expect(PolicyOverride(backoffFirst: 5000).over(base).backoffMostMilliseconds == 5000)
    #expect(PolicyOverride(backoffMost: 20).over(base).backoffFirstMilliseconds == 20)
  }

  @Test("Nylon's own file is read for plugins and messaging only, and its paths start from its folder")
  func nylonFile() throws {
    let folder = try Folder()
    defer { folder.remove() }
    try FileManager.default.createDirectory(atPath: folder.path + "/etc", withIntermediateDirectories: true)
    _ = try folder.write(
      """
      runtime: {threads: 4}
      services: [{name: x}]
      messaging:
        - {name: default, servers: [nats://a:1], newer_key: 1, auth: {user: u, password: pw}}
      plugins:
        - {name: fast, type: ffi, file: ./plugin.so, config: {debug: true, list: [1, "2", 0.5, ~], text: 0b}}
        - {name: other, type: wasm, file: x.wasm}
        - {name: pool, messaging: default, entry_point: authz}
      """, as: "etc/nylon.yaml")
    let path = try folder.write(
      """
      config: etc/nylon.yaml
      targets:
        - {plugin: fast, handler: a}
        - {plugin: pool}
      loads: [{mode: closed, concurrency: 1}]
      """)
    let plan = try ScenarioLoader.load(path: path, options: .init())
    #expect(plan.targets.map(\.name) == ["fast", "pool"])
    guard case .ffi(let ffi) = plan.targets[0].transport else {
      Issue.record("not FFI")
      return
    }
    #expect(ffi.file == folder.path + "/etc/plugin.so")
    #expect(ffi.configJSON == #"{"debug":true,"list":[1,"2",0.5,null],"text":"0b"}"#)
    #expect(plan.warnings.count == 2 && plan.warnings[0].contains("newer_key"))
    #expect(plan.warnings[1].contains("auth: is read by Nylon's host but never used"))
    let summary = try ScenarioLoader.validate(path: folder.path + "/etc/nylon.yaml", options: .init())
    #expect(summary.kind == .nylonConfiguration && summary.isValid)
    #expect(summary.items.count == 4)
    let scenario = try ScenarioLoader.validate(path: path, options: .init())
    #expect(scenario.kind == .scenario && scenario.items.count == 2 && scenario.isValid)
  }

  @Test("Workers are started by a command that is split as a shell does")
  func workers() throws {
    let text = small.replacingOccurrences(
      of: "plugin: pool}",
      with: "plugin: pool, workers: {count: 3, command: \"./worker --name 'a b'\", environment: {A: 1}}}")
    guard case .nats(let spec) = try load(text).targets[1].transport, let workers = spec.workers else {
      Issue.record("no workers")
      return
    }
    #expect(workers.count == 3 && workers.startSeconds == 10 && workers.environment == ["A": "1"])
    #expect(workers.command.count == 3 && workers.command[2] == "a b")
    #expect(workers.command[0].hasPrefix("/") && workers.command[0].hasSuffix("/worker"))
    #expect(Kind<[String]>.words(of: #"a "b c"d '' \"e"#) == ["a", "b cd", "", "\"e"])
    #expect(Kind<[String]>.words(of: "a 'b") == nil)
  }

  @Test("Merge keys and aliases are understood")
  func merging() throws {
    let text =
      small + """
        request: &r {method: POST, headers: {a: 1, b: [x, y]}}
        response: {status: 201, headers: {<<: {c: d}, e: ""}}

        """
    let plan = try load(text)
    #expect(plan.request.method == "POST")
    #expect(plan.request.headers.map(\.value) == ["1", "x", "y"])
    #expect(plan.request.responseStatus == 201)
    #expect(Set(plan.request.responseHeaders.map(\.key)) == ["c", "e"])
  }

  @Test("A plan survives coding")
  func coding() throws {
    let plan = try load(small + "expect: ['nats.open-5000.response_p99_us < 5000']\n")
    let data = try JSONEncoder().encode(plan)
    #expect(try JSONDecoder().decode(Plan.self, from: data) == plan)
    #expect(
      plan.expectations == [
        Expectation(
          text: "nats.open-5000.response_p99_us < 5000", target: "nats", load: "open-5000",
          metric: "response_p99_us", comparison: "<", bound: 5000)
      ])
  }

  @Test("A plain file name gives a name that is fit for a folder")
  func slugs() {
    #expect(ScenarioLoader.slug("My  Scenario_2!") == "my-scenario-2")
    #expect(ScenarioLoader.slug("…") == "scenario")
  }
}

@Suite("The command line overrides the file")
struct OptionTests {
  @Test("--set changes values, adds keys, and reaches into lists")
  func overrides() throws {
    let plan = try load(
      small,
      .init(overrides: [
        "loads.0.concurrency=8", "targets.1.workers.count=4", "targets.1.workers.command=[nylon-worker, -v]",
        "measure_seconds=0.5", "request={path: /x?y=z}", "request.headers.host=h",
        "targets.0.loads=[{mode: closed, concurrency: 3}]",
      ]))
    #expect(plan.loads[0] == .closed(concurrency: 8))
    #expect(plan.measureSeconds == 0.5)
    #expect(plan.request.path == "/x?y=z" && plan.request.headers == [KeyValue(key: "host", value: "h")])
    #expect(plan.targets[0].loads == [.closed(concurrency: 3)])
    guard case .nats(let spec) = plan.targets[1].transport else {
      Issue.record("not NATS")
      return
    }
    #expect(spec.workers?.count == 4 && spec.workers?.command == ["nylon-worker", "-v"])
  }

  @Test(
    "A wrong --set names the argument",
    arguments: [
      (
        "loads.0.concurrency=0",
        ["--set loads.0.concurrency=0: loads.0.concurrency = '0'", "from 1 to 65536"]
      ),
      ("loads.7.concurrency=1", ["--set loads.7.concurrency=1: loads: has no item '7'", "numbered 0 to 1"]),
      ("loads.first=1", ["--set loads.first=1", "has no item 'first'"]),
      (
        "load.0.concurrency=1",
        ["--set load.0.concurrency=1", "load: does not exist", "did you mean 'loads'?"]
      ),
      ("measure_second=1", ["--set measure_second=1: measure_second", "did you mean 'measure_seconds'?"]),
      ("measure_seconds", ["--set measure_seconds", "path.to.key=VALUE"]),
      ("=3", ["path.to.key=VALUE"]), ("a..b=3", ["--set a..b=3", "empty name"]),
      ("targets.0.name.x=1", ["single value and has no key 'x'"]),
      ("loads=[1", ["--set loads=[1", "not valid YAML"]),
      (
        "messaging.0.auth={token: hunter2, tokn: hunter2}",
        ["--set messaging.0.auth=***", "did you mean 'token'?"]
      ),
      (
        "messaging.0.servers=[http://u:hunter2@h:1]",
        ["--set messaging.0.servers=[http://***@h:1]", "scheme 'http'"]
      ),
    ])
  func wrongOverrides(_ argument: String, _ parts: [String]) throws {
    let text = try faults(small, .init(overrides: [argument]))
    for part in parts { #expect(text.contains(part), "\(text)") }
    #expect(!text.contains("hunter2"))
  }

  @Test("--seed, --server and --quick are applied")
  func others() throws {
    let plan = try load(
      small + "replicates: 5\nwarmup_seconds: 0.1\n",
      .init(seed: 42, quick: true, server: "h:1,nats://u:p@i:2"))
    #expect(plan.seed == 42 && plan.rounds == 1...1)
    #expect(plan.warmupSeconds == 0.1 && plan.measureSeconds == 1 && plan.drainSeconds == 1)
    guard case .nats(let spec) = plan.targets[1].transport else {
      Issue.record("not NATS")
      return
    }
    #expect(spec.servers == ["nats://h:1", "nats://u:p@i:2"])
    let fault = try faults(small, .init(server: "http://u:hunter2@h"))
    #expect(fault.contains("--server http://***@h") && !fault.contains("hunter2"))
  }
}
