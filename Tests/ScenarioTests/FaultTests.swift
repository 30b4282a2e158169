import Foundation
import Testing

@testable import Scenario

/// A change to the small scenario that makes it wrong, and what the message must say.
struct Wrong: Sendable, CustomTestStringConvertible {
  var from: String
  var to: String
  var parts: [String]

  /// Replaces a part of the small scenario.
  init(_ from: String, _ to: String, _ parts: String...) {
    (self.from, self.to, self.parts) = (from, to, parts)
  }

  /// Adds a line to the small scenario, as line 13.
  init(add line: String, _ parts: String...) {
    (from, to) = ("rate_per_second: 5000}\n", "rate_per_second: 5000}\n" + line + "\n")
    self.parts = parts
  }

  var text: String { small.replacingOccurrences(of: from, with: to) }
  var testDescription: String { to }
}

@Suite("The error for a wrong scenario says what is wrong, where, and what to do")
struct FaultTests {
  @Test("Of very many wrong keys the first are named, with the number of the others")
  func manyKeys() throws {
    let keys = (0..<16_000).map { "zzzzzz\($0): 1\n" }.joined()
    let lines = try faults(small + keys).split(separator: "\n")
    #expect(lines.count == 21)
    #expect(lines[19].hasPrefix("test.yaml:32:1: zzzzzz19: is not a key of this block"))
    #expect(
      lines[20].hasPrefix(
        "test.yaml:33:1: has 15980 more unknown keys, starting here;"))
  }

  static let numbers: [Wrong] = [
    Wrong(add: "measure_seconds: 5s", "test.yaml:13:18: measure_seconds = '5s'", "write measure_seconds: 5"),
    Wrong(
      add: "measure_seconds: 500ms", "the unit is in the key's name, seconds", "write measure_seconds: 0.5"),
    Wrong(add: "measure_seconds: 0", "must be a number from 0.01 to 3600 (seconds)"),
    Wrong(add: "measure_seconds: .inf", "must be a number"),
    Wrong(add: "measure_seconds: .nan", "must be a number"),
    Wrong(add: "measure_seconds: '5'", "is quoted, so it is text", "remove the quotes"),
    Wrong(add: "measure_seconds: [5]", "is a list; must be a number"),
    Wrong(add: "measure_seconds: -1e400", "must be a number"),
    Wrong(add: "warmup_seconds: -1", "from 0 to 600"),
    Wrong(
      add: "measure_ms: 5", "test.yaml:13:1: measure_ms: is not a key",
      "did you mean 'measure_seconds'? It is in seconds"),
    Wrong(add: "warmup: 5", "did you mean 'warmup_seconds'?"),
    Wrong(add: "duration: 5", "did you mean 'measure_seconds'?"),
    Wrong(add: "thread: 1", "did you mean 'threads'?"),
    Wrong(add: "zzzzzz: 1", "zzzzzz: is not a key of this block; Allowed: name, config"),
    Wrong(add: "timeout_ms: 5", "timeout_ms: is not a key of this block; it is a key of a target"),
    Wrong(add: "threads: 65", "from 1 to 64"), Wrong(add: "replicates: 1.5", "must be a whole number"),
    Wrong(add: "rounds: 12..6", "write the fewest and the most rounds, such as 6..12"),
    Wrong(add: "rounds: many", "write the fewest and the most rounds, such as 6..12"),
    Wrong(add: "connections: 0", "connections = '0'"),
    Wrong(add: "seed: -1", "seed = '-1'", "0 to 18446744073709551615"),
    Wrong(
      "rate_per_second: 5000", "rate_per_second: 44K", "test.yaml:12:35: loads.1.rate_per_second = '44K'",
      "44000"),
    Wrong(
      "rate_per_second: 5000", "rate: 5000", "did you mean 'rate_per_second'?", "rate_per_second: is missing"),
    Wrong(
      "concurrency: 1}", "concurrency: 0}", "test.yaml:11:33: loads.0.concurrency = '0'", "from 1 to 65536"),
    Wrong(
      "concurrency: 1}", "concurrency: 2000}", "loads.0.concurrency = '2000'",
      "messaging.0.max_inflight (1024)", "'nats'"),
    Wrong("plugin: pool}", "plugin: pool, max_in_flight: 0}", "targets.1.max_in_flight = '0'"),
    Wrong("plugin: pool}", "plugin: pool, timeout_ms: 2s}", "milliseconds: write timeout_ms: 2000"),
    Wrong(add: "request: {body_bytes: 4kib}", "write body_bytes: 4096"),
  ]

  static let names: [Wrong] = [
    Wrong(
      "plugin: pool}", "plugin: pol}", "test.yaml:9:26: targets.1.plugin = 'pol'", "did you mean 'pool'?",
      "Known: in-process, pool"),
    Wrong(
      "messaging: default, group", "messaging: defalt, group",
      "test.yaml:4:29: plugins.1.messaging = 'defalt': is not an entry of messaging:",
      "did you mean 'default'?"),
    Wrong(
      "name: nats, plugin", "name: ffi, plugin", "test.yaml:9:12: targets.1.name = 'ffi'", "earlier target"),
    Wrong("name: nats, plugin", "name: a.b, plugin", "targets.1.name = 'a.b'", "1 to 64 letters"),
    Wrong("name: pool,", "name: in-process,", "earlier plugin"),
    Wrong("{name: ffi,", "{nam: ffi,", "targets.0.nam", "did you mean 'name'?"),
    Wrong(", handler: noop", "", "targets.0.handler: is missing", "entry_point"),
    Wrong("file: ExamplePlugin", "file: ExamplePlugn", "did you mean 'ExamplePlugin'?"),
    Wrong(", file: ExamplePlugin", "", "plugins.0.file: is missing"),
    Wrong("type: ffi", "type: wasm", "plugins.0.type = 'wasm'", "ffi or messaging"),
    Wrong("type: ffi", "type: messging", "did you mean 'messaging'?"),
    Wrong("type: ffi, ", "", "plugins.0.type: is missing"),
    Wrong(
      "handler: noop", "handler: noop, dialect: reply", "targets.0.dialect = 'reply': is for NATS targets"),
    Wrong("plugin: pool}", "plugin: pool, dispatch: queued}", "is for FFI targets"),
    Wrong("handler: noop", "handler: noop, host: nylon", "targets.0.host = 'nylon': is for NATS targets"),
    Wrong("plugin: pool}", "plugin: pool, host: nylom}", "lean or nylon", "did you mean 'nylon'?"),
    Wrong(
      "plugin: pool}", "plugin: pool, host: nylon, dialect: reply-sdk}",
      "test.yaml:9:38: targets.1.host = 'nylon': needs workers that answer to the subject in `headers.reply`, "
        + "those of dialect stream-sdk, but the target's dialect is reply-sdk; write dialect: stream-sdk"),
    Wrong("plugin: pool}", "plugin: pool, host: nylon, dialect: text-id}", "dialect is text-id"),
    Wrong(
      "plugin: pool}", "plugin: pool, host: nylon, workers: {command: nylon-worker}}", "dialect is reply;",
      "--dialect stream-sdk"),
    Wrong(
      "plugin: pool}", "plugin: pool, dialect: repy}",
      "reply or text-id or reply-sdk or stream-sdk or detect",
      "did you mean 'reply'?"),
    Wrong(
      "plugin: pool}", "plugin: pool, client: native}",
      "test.yaml:9:32: targets.1.client: was removed: the NATS connection is nylon-bench's own; "
        + "delete the line"),
    Wrong(
      "plugin: pool}", "plugin: pool, behind: {plugin: pool, handler: noop}}",
      "targets.1.behind.plugin = 'pool': is not loaded in-process", "name a plugin of `type: ffi`"),
    Wrong(
      "plugin: pool}", "plugin: pool, behind: {plugin: in-process}}", "targets.1.behind.handler: is missing"),
    Wrong(
      "plugin: pool}", "plugin: pool, behind: {plugin: in-process, handler: noop}, decompose: true}",
      "targets.1.behind: cannot be decomposed", "write decompose: false"),
    Wrong(
      "plugin: pool}",
      "plugin: pool, host: nylon, dialect: stream-sdk, behind: {plugin: in-process, handler: noop}}",
      "targets.1.behind: is not known to host: nylon"),
    Wrong(
      "handler: noop", "handler: noop, behind: {plugin: in-process, handler: noop}", "is for NATS targets"),
    Wrong("plugin: pool}", "plugin: pool, flush: immediate}", "targets.1.flush: was removed", "delete"),
    Wrong(
      "plugin: pool}", "plugin: pool, flsh: 1}", "flsh: is not a key of this block; Allowed: name, plugin"),
    Wrong("mode: closed", "mode: close", "closed or open", "did you mean 'closed'?"),
    Wrong("mode: closed", "mode: search", "is not a kind of load; allowed: closed, open"),
    Wrong("mode: closed, ", "", "loads.0.mode: is missing"),
    Wrong("mode: closed", "mode: open", "concurrency = '1': belongs to mode: closed"),
    Wrong("mode: open, rate_per_second: 5000", "mode: closed, concurrency: 1", "is in the list twice"),
    Wrong("5000}", "5000, arrivals: regular}", "poisson or uniform"),
    Wrong("mode: closed", "arrivals: uniform, mode: closed", "arrivals = 'uniform': belongs to mode: open"),
    Wrong(
      "mode: open, rate_per_second: 5000", "mode: ramp, from: 1, to_per_second: 5, over_seconds: 1",
      "loads.1.from: is not a key of this block; did you mean 'from_per_second'?"),
    Wrong(
      "mode: open, rate_per_second: 5000",
      "mode: ramp, from_per_second: 5, to_per_second: 5, over_seconds: 1",
      "loads.1.to_per_second = '5': is not more than from_per_second"),
    Wrong(
      "mode: open, rate_per_second: 5000", "mode: ramp, from_per_second: 5, to_per_second: 50",
      "loads.1.over_seconds: is missing; write how long the rate rises"),
    Wrong("mode: open", "mode: ramp", "rate_per_second = '5000': belongs to mode: open; a ramp has"),
    Wrong(
      add: "objective: p99 < 5", "objective = 'p99 < 5': is not a latency under a bound", "response_p99_us"),
    Wrong(add: "objective: throughput_rps < 5", "allowed: response_min_us, response_p50_us"),
    Wrong(add: "phases: [request_filtr]", "did you mean 'request_filter'?"),
    Wrong(add: "phases: [logging, request_filter]", "comes before 'logging'"),
    Wrong(add: "phases: [logging, logging]", "list twice"), Wrong(add: "phases: []", "phases: is empty"),
    Wrong(add: "phases: [zero]", "not a phase of a session"),
    Wrong(add: "name: A/../b", "name = 'A/../b'", "did you mean 'a-b'?"),
    Wrong(add: "expect: ['nat.open-5000.response_p99_us < 5']", "did you mean 'nats'?"),
    Wrong(
      add: "expect: ['nats.open-500.response_p99_us < 5']", "did you mean 'open-5000'?",
      "Its loads: closed-1, open-5000"),
    Wrong(add: "expect: ['nats.open-5000.response_p98_us < 5']", "did you mean 'response_p"),
    Wrong(add: "expect: ['nats.open-5000.valid < 5']", "not a numeric column"),
    Wrong(add: "expect: ['nats.open-5000.ok < 5ms']", "must end with a number, without a unit"),
    Wrong(add: "expect: ['nats.open-5000.ok']", "has no comparison; allowed: < <= > >= =="),
    Wrong(
      add: "expect: ['nats < 4', {a: b}]", "must name target, load and metric",
      "is a mapping, not a condition"),
    Wrong(add: "expect: ['ffi.closed-1.ok / ffi.closed-1.sent > 0']", "divides ok by sent"),
    Wrong(add: "expect: ['ffi.closed-1.ok / none.closed-1.ok > 0']", "names the target 'none'"),
    Wrong(add: "expect: ['ffi.closed-1.ok / ffi.closed-1.ok / 2 > 0']", "divides more than once"),
  ]

  static let blocks: [Wrong] = [
    Wrong(
      add: "request: {method: 'A B', path: x, client_ip: 1.2.3, body_bytes: 1e12, headers: [a]}",
      "request.method", "request.path = 'x': must begin with '/'", "not an IPv4 or IPv6 address",
      "body_bytes = '1e12'",
      "request.headers: is a list, not a mapping"),
    Wrong(
      add: "request: {headers: {'a b': c, d: {e: f}, g: \"h\\r\\ni\"}}", "is not a header name",
      "headers.d: is a mapping", "control character"),
    Wrong(add: "response: {status: 99}", "response.status = '99'", "100 to 599"),
    Wrong(
      "handler: noop", "handler: noop, verify: {status: 700, body: a, body_unchanged: maybe}",
      "verify.status", "must be true or false"),
    Wrong(
      "handler: noop", "handler: noop, verify: {body: a, body_unchanged: true}", "cannot be checked together"),
    Wrong("handler: noop", "handler: noop, workers: 3", "is for NATS targets"),
    Wrong(
      "plugin: pool}", "plugin: pool, workers: 3}",
      "targets.1.workers = '3': is a single value, not a mapping", "count, command"),
    Wrong(
      "plugin: pool}", "plugin: pool, workers: {count: 0, command: \"a 'b\", start_seconds: 0}}",
      "workers.count = '0'", "quote that is not closed", "start_seconds"),
    Wrong("servers: [nats://127.0.0.1:4222]", "servers: []", "workers: are not started here"),
    Wrong(
      "servers: [nats://127.0.0.1:4222]", "servers: [http://h, 'nats://', {a: b}, 'nats://h:70000']",
      "scheme 'http'", "servers.1 = 'nats://': names no host", "servers.2: is a mapping", "servers.3"),
    Wrong("servers: [nats://127.0.0.1:4222]", "servers: nats://h", "is a single value, not a list"),
    Wrong(
      "{name: default,",
      "{name: default, type: kafka, subject_prefix: a..b, overflow_policy: drop, max_inflight: 0, retry: {max: 0, backof_ms_max: 1},",
      "must be nats", "subject_prefix = 'a..b'", "queue or reject or shed", "max_inflight = '0'",
      "retry.max = '0'", "did you mean 'backoff_ms_max'?"),
    Wrong(
      "{name: default,", "{name: default, retry: {backoff_ms_initial: 9, backoff_ms_max: 3},",
      "is over messaging.0.retry.backoff_ms_max (3)"),
    Wrong(
      "{name: default,", "{name: default, tls: {cert_file: a}, auth: {user: a},", "tls.key_file: is missing",
      "auth.password: is missing"),
    Wrong(
      "{name: default,", "{name: default, auth: {enabled: true},",
      "no token, user, credentials or nkey is given"),
    Wrong(
      "group: workers",
      "group: 'a b', per_phase: {request_filer: {}, logging: {on_error: stop, timeout_ms: 0}}", "queue group",
      "did you mean 'request_filter'?", "retry or continue or end", "timeout_ms = '0'"),
    Wrong(
      "file: ExamplePlugin", "file: ExamplePlugin, per_phase: {logging: {on_error: retry}}",
      "plugins.0.per_phase.logging", "asks for retries"),
    Wrong(
      "file: ExamplePlugin", "file: ExamplePlugin, config: 3, group: x", "config = '3'",
      "is for plugins of type messaging"),
    Wrong("name: pool,", "name: 'po *',", "part of NATS subjects"),
    Wrong(
      "name: pool, m", "name: po.ol, m", "test.yaml:4:12: plugins.1.name = 'po.ol': contains a dot",
      "name it with letters"),
    Wrong("group: workers", "group: 'a.*'", "the queue group of the workers"),
    Wrong(
      "plugin: pool}", "plugin: pool, dialect: reply-sdk, verify: {status: 200}}",
      "test.yaml:9:60: targets.1.verify: cannot be checked with dialect: reply-sdk", "leave verify out"),
    Wrong(
      "servers: [nats://127.0.0.1:4222]}", "servers: [], auth: {nkey: a}, tls: {}}",
      "messaging.0.auth: names a file, but the broker that a run starts", "messaging.0.tls: is on",
      "--server"),
    Wrong(
      "servers: [nats://127.0.0.1:4222]}",
      "servers: [nats://h:1], auth: {credentials: a, credentials_file: b}}", "is the same as credentials"),
    Wrong("nats://127.0.0.1:4222", "nats://bücher:4222", "messaging.0.servers.0"),
    Wrong(
      "handler: noop}", "handler: noop, payloads: hosts, spin: of}", "did you mean 'host'?",
      "did you mean 'off'?"),
    Wrong("plugin: pool}", "plugin: pool, payloads: host}", "is for FFI targets"),
    Wrong(add: "request: {body_chunks: 0}", "request.body_chunks = '0'", "from 1 to 1024"),
    Wrong(add: "config: nowhere.yaml", "config = 'nowhere.yaml': cannot be used", "no such file"),
    Wrong(
      "loads:\n  - {mode: closed, concurrency: 1}\n  - {mode: open, rate_per_second: 5000}", "threads: 1",
      "targets.0.loads: is missing"),
    Wrong("targets:", "target:", "did you mean 'targets'?", "targets: is missing"),
  ]

  @Test("Numbers and units", arguments: numbers)
  func number(_ wrong: Wrong) throws { try check(wrong) }

  @Test("Names and references", arguments: names)
  func name(_ wrong: Wrong) throws { try check(wrong) }

  @Test("Blocks", arguments: blocks)
  func block(_ wrong: Wrong) throws { try check(wrong) }

  private func check(_ wrong: Wrong) throws {
    let text = try faults(wrong.text)
    for part in wrong.parts { #expect(text.contains(part), "'\(part)' is not in:\n\(text)") }
  }

  @Test(
    "A request that the broker of a run does not take is refused, and one that another may take is warned of")
  func largeRequest() throws {
    let own = small.replacingOccurrences(of: "servers: [nats://127.0.0.1:4222]", with: "servers: []")
      .replacingOccurrences(of: "plugin: pool}", with: "plugin: pool, workers: {command: nylon-worker}}")
    // Two bodies of 512 KiB are as much as the broker takes, and there is more in a request.
    for bytes in [524_288, 10_000_000] {
      let body = "request: {body_bytes: \(bytes)}\n"
      let told = try faults(own + body)
      #expect(told.contains("test.yaml:13:10: request: body_bytes \(bytes) travels twice"))
      #expect(told.contains("max_payload"))
      #expect(try load(small + body).warnings.count == 1)
    }
    let fits = try load(own + "request: {body_bytes: 523000}\n")
    #expect(fits.warnings.isEmpty)
  }

  @Test("All problems are reported in one pass")
  func all() throws {
    let text = try faults(
      small.replacingOccurrences(of: "pool}", with: "pol}") + "threads: 0\nsed: 1\nmeasure_seconds: x\n")
    let lines = text.split(separator: "\n").compactMap { $0.split(separator: ":").dropFirst().first }
    #expect(lines == ["9", "13", "14", "15"], "\(text)")
  }
}

/// Numbers that look random and are the same in every run.
private struct Sequence: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ (state >> 33)
  }
}

@Suite("A file that is no scenario is refused, without a crash and without a hang")
struct BrokenFileTests {
  static let broken: [(String, String)] = [
    ("runtime: {threads: 1}\nplugins: []\n", "is Nylon's own configuration"),
    ("claims: []", "is a file of claims"),
    ("\"a\\e[31m\": 1", "a?[31m: is not a key"), ("", "is empty"), ("# only a comment\n", "is empty"),
    ("---\n", "is empty"), ("~", "is empty"),
    ("- a\n- b\n", "test.yaml:1:1: is a list, not a mapping"), ("hello", "is a single value, not a mapping"),
    ("a:\n\tb: 1\n", "a tab where YAML wants spaces"), ("a: [1\nb: 2", "not valid YAML"),
    ("a: 'x", "not valid YAML"),
    ("a: 1\na: 2\n", "the key 'a' is given twice"), ("targets: {x: 1, x: 2}", "test.yaml:1:11: the key 'x'"),
    ("a: 1\n---\nb: 1\n", "second YAML document"), ("a: *x\n", "undefined alias"),
    ("? [a, b]\n: 1\n", "plain words"),
    ("a: &a [*a]\n", "not valid YAML"), ("a: \u{1}", "character that YAML does not allow"),
    ("a: \"\\uD800\"", "not valid YAML"), ("!!x a: !<tag> b", "is not a key"),
    ("%YAML 9.9\n---\na: 1", "not valid YAML"),
    (String(repeating: "[", count: 100_000), "levels deep"),
    (String(repeating: "{a: ", count: 100_000), "levels deep"),
    (String(repeating: "- ", count: 100_000), "levels deep"),
    (String(repeating: "? ", count: 5_000), "levels deep"),
    ((0..<900).map { String(repeating: " ", count: $0) + "a:\n" }.joined(), "levels deep"),
    (String(repeating: "- - ", count: 30) + "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", "levels deep"),
    ("a: [" + String(repeating: "x,", count: 200_000) + "]", "values"),
    (String(repeating: "#", count: (1 << 20) + 1), "at most 1048576 are read"),
    (bomb(key: false), "aliases that could multiply"), (bomb(key: true), "aliases that could multiply"),
  ]

  static func bomb(key: Bool) -> String {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1...9 {
      let items = [String](repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(items)]\n"
    }
    return text + (key ? "? *a9\n: 1\n" : "")
  }

  @Test("Broken files", arguments: broken.indices)
  func file(_ index: Int) throws {
    let (text, part) = Self.broken[index]
    let told = try faults(text)
    #expect(told.contains(part), "\(told.prefix(300))")
  }

  @Test("Missing files, folders, devices and binary files are named")
  func unreadable() throws {
    let folder = try Folder()
    defer { folder.remove() }
    _ = try folder.write(small, as: "compare.yaml")
    let binary = folder.path + "/binary.yaml"
    try Data([0xff, 0xfe, 0x00, 0x61]).write(to: URL(fileURLWithPath: binary))
    let wanted = [
      (folder.path + "/compar.yaml", "did you mean 'compare.yaml'?"),
      (folder.path + "/compare", "did you mean 'compare.yaml'?"),
      (folder.path, "is a folder"), ("/dev/zero", "not a regular file"), (binary, "not UTF-8"),
      ("", "no file is named"),
    ]
    for (path, part) in wanted {
      #expect {
        _ = try ScenarioLoader.load(path: path, options: .init())
      } throws: { "\($0)".contains(part) }
      #expect(throws: ScenarioError.self) { try ScenarioLoader.validate(path: path, options: .init()) }
    }
  }

  @Test("A byte order mark and Windows line ends do no harm")
  func windows() throws {
    let plan = try load("\u{FEFF}" + small.replacingOccurrences(of: "\n", with: "\r\n"))
    #expect(plan.summary == "What for." && plan.targets.count == 2)
  }

  @Test("Any cut and any changed byte of a scenario gives a plan or an error")
  func mutations() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let bytes = Array(small.utf8)
    var random = Sequence(state: 7)
    for round in 0..<600 {
      var changed =
        round % 2 == 0 ? Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &random))) : bytes
      for _ in 0..<(round % 5) where !changed.isEmpty {
        changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 9...126, using: &random)
      }
      let path = folder.path + "/m.yaml"
      try Data(changed).write(to: URL(fileURLWithPath: path))
      do {
        _ = try ScenarioLoader.load(path: path, options: .init())
      } catch {
        #expect(!error.problems.isEmpty)
      }
    }
  }
}
