import Foundation
@testable import Lab
import Nylon
@testable import Scenario
import TestSupport
import Testing

@testable import Bench

/// A folder for what a test compiles; gone with this value.
private final class Folder: Sendable {
  let path = NSTemporaryDirectory() + "/nylon-bench-conform-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Where the built commands are: of a release build, which is faster, when scripts/test has made one.
let builtCommands = ProcessInfo.processInfo.environment["NYLON_BENCH_BIN_DIR"] ?? Executables.ownFolder

extension Conformance {
  fileprivate var bad: [String] { findings.filter { $0.result != .ok }.map(\.rule) }
  fileprivate func seen(_ rule: String) -> String { findings.first { $0.rule == rule }?.seen ?? "" }
  fileprivate func result(_ rule: String) -> RuleFinding.Result? {
    findings.first { $0.rule == rule }?.result
  }

  fileprivate func expectOK(rules: Int) {
    #expect(findings.count == rules && bad.isEmpty && !isCut, "\(findings)")
  }
}

@Suite("conform tries plugins against the interface") struct PluginExaminationTests {
  private let folder: Folder
  private static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path
  private static let rules = 19

  init() throws { folder = try Folder() }

  private func conform(_ plugin: String, handler: String = "noop", config: String = "{}") throws
    -> Conformance
  {
    try PluginExamination(
      path: plugin, handler: handler, configJSON: config, limitSeconds: 1,
      program: "\(builtCommands)/nylon-bench"
    ) { _ in }.examine()
  }

  @Test(
    "The package's plugins keep every rule",
    arguments: [("ExamplePlugin", "api"), ("NullPlugin", "noop"), ("ThreadedPlugin", "noop")])
  func products(plugin: String, handler: String) throws {
    let found = try conform("\(builtCommands)/lib\(plugin).so", handler: handler)
    found.expectOK(rules: Self.rules)
    #expect(found.payloads == .plugin)
    let own = plugin == "NullPlugin" ? "inside event_stream" : "of its threads"
    #expect(found.seen("threads").contains(own), "\(found.seen("threads"))")
    #expect(found.seen("empty reads").contains("reads nothing") == (handler == "noop"))
  }

  @Test("A plugin in C keeps every rule")
  func c() throws {
    let plugin = try CPlugin.compile(
      Self.package + "/Plugins/c/plugin.c", to: "plugin-c.so", in: folder.path,
      options: ["-shared", "-fPIC", "-O2", "-pthread", "-I\(Self.package)/Sources/Nylon/ABI/include"])
    try conform(plugin, handler: "work", config: #"{"work_us": 5}"#).expectOK(rules: Self.rules)
  }

  private static let builtLanguages = ["rust", "go"].map { "\(package)/.build/plugins/plugin-\($0).so" }
    .filter(FileManager.default.fileExists)

  @Test("Plugins in Rust and Go keep every rule, where they are built", arguments: builtLanguages)
  func languages(plugin: String) throws {
    try conform(plugin, handler: "authz").expectOK(rules: Self.rules)
  }

  /// A plugin that breaks one rule, or keeps all rules in an unusual way.
  struct Case: CustomTestStringConvertible {
    var testDescription: String
    var plugin: CPlugin
    /// The rules that it breaks, with the result and what is seen.
    var breaks: [String: (result: RuleFinding.Result, seen: String)]
    var payloads: PayloadOwner?
    var isCut: Bool
    /// What is seen of the ownership.
    var ownership: String?

    init(
      _ name: String, initialize: String = "", register: String = Self.register, event: String = Self.next,
      close: String = "", shutdown: String = "", without: String? = nil, payloads: PayloadOwner? = .plugin,
      isCut: Bool = false,
      ownership: String? = nil, breaks: [String: (result: RuleFinding.Result, seen: String)] = [:]
    ) {
      (testDescription, self.breaks, self.payloads, self.isCut) = (name, breaks, payloads, isCut)
      self.ownership = ownership
      plugin = CPlugin(
        initialize: initialize, register: register, event: event, close: close, shutdown: shutdown,
        without: without)
    }

    private static let next = "answer(event, 1);"
    private static let register =
      "host = callback; return callback && length == 4 && memcmp(entry, \"noop\", 4) == 0;"

    /// A plugin that does something in the second phase.
    private static func inResponseFilter(
      _ deed: String, _ result: RuleFinding.Result, _ seen: String
    ) -> Case {
      Case(
        "response_filter: \(deed)", event: "if (event->phase == 2) { \(deed) } answer(event, 1);",
        breaks: ["response_filter": (result, seen)])
    }

    static let all = [
      Case(
        "a symbol is missing", without: "plugin_free", payloads: nil, isCut: true,
        breaks: ["symbols": (.deviates, "plugin_free")]),
      Case(
        "the configuration is read as a C string", initialize: "if (strlen(config) > 1000) abort();",
        payloads: nil, isCut: true, breaks: ["initialize": (.deviates, "SIGSEGV")]),
      Case(
        "entries are compared as C strings",
        register: "host = callback; return strcmp(entry, \"noop\") == 0;",
        payloads: nil, isCut: true, breaks: ["entry": (.deviates, "SIGSEGV")]),
      Case(
        "several rules at once", register: "host = callback; return true;",
        event: """
          if (event->phase == 1) {
            call(event->sid + 7, 1, 103, "x", 1);
            call(event->sid, 1, 100, "x", 1);
            call(event->sid, 1, 102, "200", 3);
            call(event->sid, 1, 77, NULL, 0);
          }
          answer(event, 1);
          if (event->phase == 1) call(event->sid, 1, 103, "x", 1);
          if (event->phase == 2) answer(event, 1);
          """, close: "call(sid, 1, 1, NULL, 0);",
        breaks: [
          "wrong entry": (.deviates, "is accepted"),
          "response_filter": (.deviates, "ended 2 times: next, next"),
          "session ids": (.deviates, "set_response_full_body for session"),
          "methods, payloads": (.deviates, "set_response_header: 1 bytes are not a HeaderKeyValue; "),
          "order of calls": (.deviates, "set_response_full_body after next in request_filter"),
          "after close": (.deviates, "next after close_session_stream"),
        ]),
      Case(
        "the end names another phase",
        event: "call(event->sid, event->phase == 2 ? 3 : event->phase, 1, NULL, 0);",
        breaks: ["response_filter": (.deviates, "its next names phase 3")]),
      inResponseFilter("*(volatile int *)8 = 1;", .deviates, "SIGSEGV"),
      inResponseFilter("while (1) pause();", .hangs, "response_filter did not return within 1.0 s"),
      inResponseFilter("kill(getpid(), SIGSTOP);", .hangs, "response_filter did not return within 1.0 s"),
      inResponseFilter("exit(0);", .deviates, "exited with code 0"),
      inResponseFilter("for (int n = 0; n < 100; n++) close(n);", .deviates, "exited with code"),
      inResponseFilter("return;", .hangs, "no next, end or"),
      inResponseFilter("while (1) call(event->sid, 2, 103, \"x\", 1);", .hangs, "did not return"),
      Case(
        "no phase is answered", event: "", payloads: nil,
        breaks: Dictionary(
          uniqueKeysWithValues: (Phase.session.map(\.subjectFragment) + ["memory"]).map {
            ($0, (.hangs, "no next, end or"))
          })),
      Case(
        "a constructor that hangs",
        initialize: "} __attribute__((constructor)) static void early(void) { pause();",
        payloads: nil, isCut: true, breaks: ["symbols": (.hangs, "dlopen did not return")]),
      Case(
        "shutdown crashes", shutdown: "abort();", breaks: ["shutdown": (.deviates, "SIGABRT")]),
      Case(
        "shutdown hangs", shutdown: "pause();", payloads: nil,
        breaks: [
          "shutdown": (.hangs, "shutdown did not return"), "memory": (.hangs, "shutdown did not return"),
        ]),
      Case(
        "an unknown phase is fatal", event: "if (event->phase == 9) abort(); answer(event, 1);",
        breaks: ["unknown phase": (.deviates, "SIGABRT")]),
      Case(
        "an empty read is fatal",
        event: """
          if (event->phase == 1) { call(event->sid, 0, 204, NULL, 0); return; }
          if (event->phase != 0) { answer(event, 1); return; }
          if (event->len == 0) exit(4);
          call(event->sid, 1, 1, NULL, 0);
          """, breaks: ["empty reads": (.deviates, "exited with code 4")]),
      Case(
        "only one can be open",
        initialize: """
          int file = open("/proc/self/exe", O_RDONLY);
          if (flock(file, LOCK_EX | LOCK_NB) != 0) exit(5);
          """),
      Case(
        "160 bytes stay of each session",
        event: """
          static char *volatile lost;
          if (event->phase == 1) { lost = malloc(160); memset(lost, 1, 160); }
          answer(event, 1);
          """, breaks: ["memory": (.deviates, "B left per session over")]),
      Case(
        "bytes that the host gives back",
        event: """
          if (event->phase == 1) set_header(event, malloc(160));
          answer(event, 1);
          """, payloads: .host, ownership: "B left per session over"),
      Case(
        "bytes that the plugin frees itself",
        event: """
          if (event->phase == 1) { uint8_t *own = malloc(80); set_header(event, own); free(own); }
          answer(event, 1);
          """, ownership: "double free"),
    ]
  }

  @Test("What a plugin does wrong is named, and nothing else", arguments: Case.all)
  func cases(one: Case) throws {
    let found = try conform(try one.plugin.build(in: folder.path))
    #expect(Set(found.bad) == Set(one.breaks.keys), "\(found.findings)")
    for (rule, wanted) in one.breaks {
      let seen = found.seen(rule)
      #expect(found.result(rule) == wanted.result && seen.contains(wanted.seen), "\(rule): \(seen)")
    }
    #expect(found.payloads == one.payloads && found.isCut == one.isCut, "\(found.findings)")
    if let ownership = one.ownership { #expect(found.seen("ownership").contains(ownership)) }
  }
}

@Suite("conform tries pools against the interface") struct PoolExaminationTests {
  private let folder: Folder
  private let broker: Broker

  init() throws {
    folder = try Folder()
    broker = try Broker.start()
  }

  private func conform(handler: String = "main", dialect: Dialect? = nil) throws -> Conformance {
    var spec = NATSSpec(servers: [broker.url])
    spec.dialect = dialect
    return try PoolExamination(name: "example", handler: handler, spec: spec, limitSeconds: 1) { _ in }
      .examine()
  }

  /// Runs one worker while `body` does.
  private func withWorker(
    _ program: String, _ arguments: [String], environment: [String: String] = [:], _ body: () throws -> Void
  ) throws {
    let worker = try ChildProcess.start(
      Launch(
        program, arguments,
        environment: ["NATS_SERVERS": broker.url, "NATS_GROUP": "workers"].merging(environment) { $1 }))
    defer { worker.kill() }
    let isReady = worker.waitForWords(until: .after(.seconds(20))) {
      $0.contains("started successfully") ? true : nil
    }
    #expect(isReady == true, "\(worker.lastWords)")
    try body()
  }

  @Test("nylon-worker keeps every rule in every dialect, found or named", arguments: Dialect.allCases)
  func workers(dialect: Dialect) throws {
    try withWorker(
      "\(builtCommands)/nylon-worker", ["--name", "example"],
      environment: ["NYLON_DIALECT": dialect.rawValue]
    ) {
      let rules = dialect == .textID ? 14 : 15
      let found = try conform(handler: "authz")
      found.expectOK(rules: rules)
      #expect(found.dialect == dialect)
      try conform(handler: "noop", dialect: dialect).expectOK(rules: rules)
      let other = try #require(Dialect.allCases.first { $0 != dialect })
      let named = try conform(handler: "noop", dialect: other)
      #expect(named.bad == ["dialect"], "\(named.findings)")
      #expect(named.seen("dialect") == "\(dialect.rawValue), not \(other.rawValue)")
      let refused = try conform(handler: "nope")
      #expect(refused.bad == ["entry"] && refused.result("entry") == .refused, "\(refused.findings)")
      #expect(refused.seen("entry").contains("no entry 'nope'"))
    }
    let nobody = try conform()
    #expect(nobody.bad == ["subscribers"] && nobody.seen("subscribers").contains("503"))
  }

  /// What is wrong with a worker, by rule. All take every entry for their own.
  @Test(
    "What a worker does wrong is named",
    arguments: [
      ("twice", ["after the end": "a second answer", "wrong entry": "accepted"]),
      (
        "retyped",
        [
          "request_filter": "another value or type", "id as 16 bytes": "another value or type",
          "wrong entry": "another value or type",
        ]
      ),
      ("malformed", ["keys and types": "2 bytes are not a NylonHttpContext", "wrong entry": "accepted"]),
      ("mute", ["dialect": "no answer within"]),
      ("error", ["entry": "the user store is empty"]),
      ("stream-bare", ["wrong entry": "accepted"]), ("stream-late", ["wrong entry": "accepted"]),
    ])
  func misbehaving(mode: String, wanted: [String: String]) throws {
    try withWorker(try ForeignWorker.build(in: folder.path), [mode]) {
      let found = try conform()
      for (rule, words) in wanted {
        #expect(found.bad.contains(rule) && found.seen(rule).contains(words), "\(found.findings)")
      }
      #expect(found.isCut == !found.bad.contains("wrong entry"))
    }
  }
}
