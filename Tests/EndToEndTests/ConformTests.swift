import Foundation
import Lab
import Nylon
import TestSupport
import Testing

extension EndToEnd {
  @Suite("conform tries plugins and pools against the interface") struct ConformTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// What conform found.
    private struct Found: Decodable {
      struct Finding: Decodable {
        var rule, result, seen: String
      }
      var findings: [Finding]
      var is_cut: Bool
      var payloads, dialect: String?

      var bad: [String] { findings.filter { $0.result != "ok" }.map(\.rule) }
      func seen(_ rule: String) -> String { findings.first { $0.rule == rule }?.seen ?? "" }
      func result(_ rule: String) -> String? { findings.first { $0.rule == rule }?.result }
    }

    private func conform(_ arguments: [String], code: Int32) throws -> Found {
      let finished = try sandbox.start(["conform", "--json", "--timeout", "1"] + arguments).finish(
        within: 300)
      #expect(finished.code == code, "\(finished.out)\(finished.err)")
      #expect(sandbox.processes().allSatisfy { !Self.isTrial($0) })
      return try JSONDecoder().decode(Found.self, from: Data(finished.out.utf8))
    }

    private static func isTrial(_ pid: Int32) -> Bool { Sandbox.commandLine(pid).contains("__conform") }

    private func expectOK(_ arguments: [String], rules: Int) throws -> Found {
      let found = try conform(arguments, code: 0)
      #expect(found.findings.count == rules && found.bad.isEmpty && !found.is_cut, "\(found.findings)")
      return found
    }

    // MARK: Plugins

    private static let pluginRules = 19

    @Test(
      "The package's plugins keep every rule",
      arguments: [("ExamplePlugin", "api"), ("NullPlugin", "noop"), ("ThreadedPlugin", "noop")])
    func products(plugin: String, handler: String) throws {
      let found = try expectOK([plugin, "--handler", handler], rules: Self.pluginRules)
      #expect(found.payloads == "plugin")
      let own = plugin == "NullPlugin" ? "inside event_stream" : "of its own"
      #expect(found.seen("threads").contains(own), "\(found.seen("threads"))")
      #expect(found.seen("empty reads").contains("reads nothing") == (handler == "noop"))
    }

    @Test("A plugin in C keeps every rule", arguments: ["work"])
    func c(handler: String) throws {
      let plugin = try CPlugin.compile(
        Sandbox.package + "/Plugins/c/plugin.c", to: "plugin-c.so", in: sandbox,
        options: [
          "-shared", "-fPIC", "-O2", "-pthread", "-I\(Sandbox.package)/Sources/Nylon/ABI/include",
        ])
      _ = try expectOK(
        [plugin, "--handler", handler, "--config", #"{"work_us": 5}"#], rules: Self.pluginRules)
    }

    @Test("Plugins in Rust and Go keep every rule, where they are built", arguments: ["rust", "go"])
    func languages(language: String) throws {
      let plugin = Sandbox.package + "/.build/plugins/plugin-\(language).so"
      guard FileManager.default.fileExists(atPath: plugin) else { return }
      _ = try expectOK([plugin, "--handler", "authz"], rules: Self.pluginRules)
    }

    /// A plugin that breaks a rule, or keeps all in a way of its own.
    struct Case: CustomTestStringConvertible {
      var testDescription: String
      var plugin = CPlugin()
      /// The rules that it breaks, with the result and what is seen.
      var breaks: [String: (result: String, seen: String)]
      var payloads: String? = "plugin"
      var isCut = false

      init(
        _ name: String, initialize: String = "", register: String = Self.register, event: String = Self.next,
        close: String = "", without: String? = nil, payloads: String? = "plugin", isCut: Bool = false,
        breaks: [String: (result: String, seen: String)]
      ) {
        (testDescription, self.breaks, self.payloads, self.isCut) = (name, breaks, payloads, isCut)
        plugin = CPlugin(
          initialize: initialize, register: register, event: event, close: close, without: without)
      }

      private static let next = "answer(event, 1);"
      private static let register =
        "host = callback; return callback && length == 4 && memcmp(entry, \"noop\", 4) == 0;"

      static let all = [
        Case(
          "a symbol is missing", without: "plugin_free", payloads: nil, isCut: true,
          breaks: ["symbols": ("deviates", "plugin_free")]),
        Case(
          "the configuration is read as a C string", initialize: "if (strlen(config) > 1000) abort();",
          payloads: nil, isCut: true, breaks: ["initialize": ("deviates", "SIGSEGV")]),
        Case(
          "entries are compared as C strings",
          register: "host = callback; return strcmp(entry, \"noop\") == 0;",
          payloads: nil, isCut: true, breaks: ["entry": ("deviates", "SIGSEGV")]),
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
            "wrong entry": ("deviates", "is accepted"),
            "response_filter": ("deviates", "ended 2 times: next, next"),
            "session ids": ("deviates", "set_response_full_body for session"),
            "methods, payloads": ("deviates", "set_response_header: 1 bytes are no HeaderKeyValue; "),
            "order of calls": ("deviates", "set_response_full_body after next in request_filter"),
            "after close": ("deviates", "next after close_session_stream"),
          ]),
        Case(
          "the end names another phase",
          event: "call(event->sid, event->phase == 2 ? 3 : event->phase, 1, NULL, 0);", payloads: nil,
          breaks: [
            "response_filter": ("deviates", "its next names phase 3"), "after close": ("hangs", ""),
            "close in a read": ("hangs", ""), "empty reads": ("hangs", "response_filter did not end"),
            "memory": ("hangs", "no session"),
          ]),
        Case(
          "80 bytes stay of each session",
          event: """
            static char *volatile lost;
            if (event->phase == 1) { lost = malloc(80); memset(lost, 1, 80); }
            answer(event, 1);
            """,
          breaks: ["memory": ("deviates", "B stay of each of")]),
        Case(
          "bytes that the host gives back",
          event: """
            if (event->phase == 1) set_header(event, malloc(80));
            answer(event, 1);
            """,
          payloads: "host", breaks: [:]),
        Case(
          "bytes that the plugin frees itself",
          event: """
            if (event->phase == 1) { uint8_t *own = malloc(80); set_header(event, own); free(own); }
            answer(event, 1);
            """,
          breaks: [:]),
      ]
    }

    @Test("What a plugin does wrong is named, and nothing else", arguments: Case.all)
    func cases(one: Case) throws {
      let path = try one.plugin.build(in: sandbox)
      let found = try conform([path], code: one.breaks.isEmpty ? 0 : 80)
      expect(found, breaks: one.breaks)
      #expect(found.payloads == one.payloads && found.is_cut == one.isCut, "\(found.findings)")
      if one.testDescription == "bytes that the plugin frees itself" {
        #expect(found.seen("ownership").contains("double free"), "\(found.seen("ownership"))")
      }
      if one.payloads == "host" {
        #expect(found.seen("ownership").contains("B stay of each of"), "\(found.seen("ownership"))")
      }
    }

    private func expect(_ found: Found, breaks: [String: (result: String, seen: String)]) {
      #expect(Set(found.bad).isSubset(of: breaks.keys), "\(found.findings)")
      for (rule, wanted) in breaks {
        let seen = found.seen(rule)
        // A rule that an otherwise silent phase drags along may hold by itself.
        guard !wanted.seen.isEmpty else { continue }
        #expect(found.result(rule) == wanted.result && seen.contains(wanted.seen), "\(rule): \(seen)")
      }
    }

    @Test("What a plugin does to its process is a finding, and the next phase is tried in a new one")
    func crashes() throws {
      let (crash, hang, exit) = ("*(volatile int *)8 = 1;", "while (1) pause();", "exit(3);")
      for (deed, result, words) in [
        (crash, "deviates", "SIGSEGV"), (hang, "hangs", "response_filter did not return within 1.0 s"),
        (exit, "deviates", "exited with code 3"), ("return;", "hangs", "no next, end or"),
      ] {
        let plugin = CPlugin(
          register: "host = callback; return length == 4;",
          event: "if (event->phase == 2) { \(deed) } answer(event, 1);")
        let found = try conform([try plugin.build(in: sandbox)], code: 80)
        #expect(found.result("response_filter") == result && found.seen("response_filter").contains(words))
        for phase in ["request_filter", "response_body_filter", "logging", "order of calls", "unknown phase"]
        {
          #expect(found.result(phase) == "ok", "\(deed) \(phase): \(found.seen(phase))")
        }
        #expect(found.bad.contains("memory") && found.bad.contains("empty reads"))
      }
      let shut = try CPlugin(event: "if (event->phase == 9) abort(); answer(event, 1);").build(in: sandbox)
      let found = try conform([shut], code: 80)
      #expect(found.seen("unknown phase").contains("SIGABRT"))
    }

    @Test("The summary comes first, every line fits, and --quiet leaves out what holds")
    func output() throws {
      let good = try sandbox.bench("conform", "ExamplePlugin", "--handler", "authz")
      #expect(good.code == 0 && good.err.isEmpty)
      #expect(
        good.out.hasPrefix(
          "conforms: \(Self.pluginRules) ok\nIn a scenario's target: handler: authz, payloads: plugin\n"))
      #expect(good.out.split(separator: "\n").allSatisfy { $0.count <= 100 }, "\(good.out)")
      let plugin = try CPlugin().build(in: sandbox)
      let bad = try sandbox.bench("conform", plugin, "--quiet", "--handler", "some handler")
      #expect(bad.code == 80 && bad.out.hasPrefix("1 of \(Self.pluginRules) rules deviates: wrong entry\n"))
      #expect(!bad.out.contains(" ok ") && bad.out.contains("register_session_stream returns false"))
      #expect(bad.out.split(separator: "\n").allSatisfy { $0.count <= 100 }, "\(bad.out)")
    }

    @Test("What is no plugin, is not there, or does not have the handler, ends with the promised code")
    func codes() throws {
      let text = try sandbox.write("not a library", as: "text.so")
      for (arguments, code, words) in [
        ([text], 65, "is not a shared library"), ([sandbox.folder + "/none.so"], 69, "no such file"),
        (["--nats", "example", "--server", "nats://127.0.0.1:1"], 69, "does not answer"),
        (["--nats", "a.b"], 65, "contains a dot"),
      ] as [([String], Int32, String)] {
        let finished = try sandbox.start(["conform"] + arguments).finish()
        #expect(finished.code == code && finished.err.contains(words), "\(finished.err)")
      }
      let refused = try conform(["ExamplePlugin", "--handler", "nope"], code: 65)
      #expect(refused.bad == ["entry"] && refused.is_cut && refused.result("entry") == "refused")
    }

    // MARK: Pools

    private func withBroker(_ body: (RunningBroker) throws -> Void) throws {
      let broker = try RunningBroker(in: sandbox, port: try FreePort.find())
      defer { broker.stop() }
      try body(broker)
    }

    @Test("nylon-worker keeps every rule in every dialect, found or named", arguments: Dialect.allCases)
    func workers(dialect: Dialect) throws {
      try withBroker { broker in
        let worker = try sandbox.start(
          program: Sandbox.command("nylon-worker"), ["--name", "example", "--group", "workers"],
          environment: ["NATS_SERVERS": broker.url, "NYLON_DIALECT": dialect.rawValue])
        #expect(eventually { worker.err.contains("started successfully") })
        let rules = dialect == .textID ? 14 : 15
        let pool = ["--nats", "example", "--server", broker.url]
        #expect(try expectOK(pool + ["--handler", "authz"], rules: rules).dialect == dialect.rawValue)
        _ = try expectOK(pool + ["--dialect", dialect.rawValue], rules: rules)
        let other = Dialect.allCases.first { $0 != dialect }?.rawValue ?? ""
        let named = try conform(pool + ["--dialect", other], code: 80)
        #expect(named.bad == ["dialect"] && named.seen("dialect") == "\(dialect.rawValue), not \(other)")
        let refused = try conform(pool + ["--handler", "nope"], code: 65)
        #expect(refused.bad == ["entry"] && refused.seen("entry").contains("no entry 'nope'"))
        kill(worker.pid, SIGTERM)
        #expect(worker.finish().code == 0)
        let nobody = try conform(pool, code: 80)
        #expect(nobody.bad == ["subscribers"] && nobody.seen("subscribers").contains("503"))
      }
    }

    @Test(
      "What a worker does wrong is named",
      arguments: [
        ("twice", ["after the end": "a second answer"]),
        ("retyped", ["request_filter": "another type", "id as 16 bytes": "another type"]),
        ("malformed", ["keys and types": "2 bytes are no NylonHttpContext"]),
        ("mute", ["dialect": "no answer within"]), ("stream-bare", [:]), ("stream-late", [:]),
      ])
    func misbehaving(mode: String, wanted: [String: String]) throws {
      try withBroker { broker in
        let worker = try sandbox.start(
          program: try ForeignWorker.build(in: sandbox), [mode],
          environment: ["NATS_SERVERS": broker.url, "NATS_GROUP": "workers"])
        #expect(eventually { worker.out.contains("started successfully") })
        let found = try conform(["--nats", "example", "--server", broker.url, "--handler", "main"], code: 80)
        for (rule, words) in wanted {
          #expect(found.bad.contains(rule) && found.seen(rule).contains(words), "\(found.findings)")
        }
        // It takes every entry for its own.
        #expect(found.is_cut != found.bad.contains("wrong entry"))
        kill(worker.pid, SIGKILL)
        _ = worker.finish()
      }
    }

    @Test("A worker whose handler fails is refused, with its own words")
    func failing() throws {
      try withBroker { broker in
        let worker = try sandbox.start(
          program: try ForeignWorker.build(in: sandbox), ["error"],
          environment: ["NATS_SERVERS": broker.url, "NATS_GROUP": "workers"])
        #expect(eventually { worker.out.contains("started successfully") })
        let found = try conform(["--nats", "example", "--server", broker.url], code: 65)
        #expect(found.seen("entry").contains("the user store is empty"))
        kill(worker.pid, SIGKILL)
        _ = worker.finish()
      }
    }
  }
}
