import Foundation
import Nylon
import TestSupport
import Testing

extension EndToEnd {
  /// What it finds of plugins and pools is the matter of the Bench room's tests.
  @Suite("conform prints what it finds, and ends with the promised code", .tags(.besideOthers))
  struct ConformTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// Runs commands beside each other.
    private func conform(_ commands: [[String]]) throws -> [Finished] {
      try commands.map { try sandbox.start(["conform"] + $0) }.map { $0.finish() }
    }

    @Test("The summary comes first, every line fits, and --quiet leaves out what holds")
    func output() throws {
      let plugin = try CPlugin().build(in: sandbox)
      let finished = try conform([
        ["ExamplePlugin", "--handler", "authz"], [plugin, "--quiet", "--handler", "some handler"],
      ])
      let (good, bad) = (finished[0], finished[1])
      #expect(good.code == 0 && good.err.isEmpty)
      #expect(
        good.out.hasPrefix("conforms: 19 ok\nIn a scenario's target: handler: authz, payloads: plugin\n"))
      #expect(good.out.split(separator: "\n").allSatisfy { $0.count <= 100 }, "\(good.out)")
      #expect(bad.code == 80 && bad.out.hasPrefix("1 of 19 rules deviates: wrong entry\n"), "\(bad.out)")
      #expect(!bad.out.contains(" ok ") && bad.out.contains("return false from register_session_stream"))
      #expect(bad.out.split(separator: "\n").allSatisfy { $0.count <= 100 }, "\(bad.out)")
    }

    @Test("A file that is not a plugin, is missing, or lacks the handler ends with the documented code")
    func codes() throws {
      let text = try sandbox.write("not a library", as: "text.so")
      let cases: [([String], Int32, String)] = [
        ([text], 65, "is not a shared library"), ([sandbox.folder + "/none.so"], 69, "no such file"),
        (["--nats", "example", "--server", "nats://127.0.0.1:1"], 69, "does not answer"),
        (["--nats", "a.b"], 65, "contains a dot"), (["NullPlugin", "--handler", "nope"], 65, "refused"),
      ]
      for (finished, wanted) in zip(try conform(cases.map { $0.0 }), cases) {
        #expect(finished.code == wanted.1 && (finished.err + finished.out).contains(wanted.2), "\(finished)")
      }
    }

    /// The document of --json.
    private struct Found: Decodable {
      struct Finding: Decodable {
        var rule, result, seen: String
      }
      var findings: [Finding]
      var is_cut: Bool
      var payloads, dialect: String?

      init(_ finished: Finished) throws {
        self = try JSONDecoder().decode(Found.self, from: Data(finished.out.utf8))
      }

      var bad: [String] { findings.filter { $0.result != "ok" }.map { "\($0.rule) \($0.result)" } }
    }

    @Test("A plugin that crashes or stops itself is a document, and leaves no process behind")
    func crash() throws {
      let deeds = "if (event->phase == 2) abort(); if (event->phase == 3) raise(SIGSTOP); answer(event, 1);"
      let plugin = try CPlugin(
        register: "host = callback; return length == 4;", event: deeds
      ).build(in: sandbox)
      let finished = try conform([[plugin, "--handler", "noop", "--json", "--timeout", "0.5"]])[0]
      let found = try Found(finished)
      #expect(
        finished.code == 80 && found.findings.count == 19 && !found.is_cut && found.payloads == "plugin")
      #expect(found.bad == ["response_filter deviates", "response_body_filter hangs"])
      #expect(sandbox.processes().allSatisfy { !Sandbox.commandLine($0).contains("__conform") })
    }

    @Test("A pool is examined, and a wrong dialect or a missing pool is reported")
    func pool() throws {
      let broker = try RunningBroker(in: sandbox)
      defer { broker.stop() }
      let worker = try sandbox.start(
        program: Sandbox.command("nylon-worker"), ["--name", "example"],
        environment: ["NATS_SERVERS": broker.url])
      #expect(eventually { worker.err.contains("started successfully") })
      let pool = ["--nats", "example", "--server", broker.url, "--json"]
      let finished = try conform([pool + ["--handler", "authz"], pool + ["--dialect", "stream-sdk"]])
      #expect(finished[0].code == 0 && finished[1].code == 80)
      let (good, other) = (try Found(finished[0]), try Found(finished[1]))
      #expect(good.findings.count == 15 && good.bad.isEmpty && good.dialect == "reply", "\(good.findings)")
      #expect(other.bad == ["dialect deviates"], "\(other.findings)")
      kill(worker.pid, SIGTERM)
      #expect(worker.finish().code == 0)
      let nobody = try conform([pool])[0]
      #expect(nobody.code == 80)
      let found = try Found(nobody)
      #expect(found.bad == ["subscribers deviates"] && found.is_cut, "\(found.findings)")
    }
  }
}
