import Foundation
import Lab
import Report
import Results
import Testing

extension EndToEnd {
  @Suite("The nats-server of one's choice") struct BrokerChoiceTests {
    let sandbox: Sandbox
    private let variable = "NYLON_BENCH_NATS_SERVER"

    init() throws { sandbox = try Sandbox() }

    /// A nats-server of that name in the sandbox, which notes that it was started.
    private func server(_ name: String) throws -> String {
      let installed = try Executables.broker()
      let path = try sandbox.write(
        "#!/bin/sh\necho \"$@\" >> \"$0.started\"\nexec \(installed) \"$@\"\n", as: name)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
      return path
    }

    /// How often it was started as a broker, and not to ask its version.
    private func starts(_ path: String) -> Int {
      let said = (try? String(contentsOfFile: path + ".started", encoding: .utf8)) ?? ""
      return said.split(separator: "\n").count { $0.contains("-c") }
    }

    @Test("broker: of the scenario is started, before that of the environment, and the run names it")
    func choice() throws {
      let (scenarios, environments) = (try server("scenario-nats"), try server("environment-nats"))
      let named = try sandbox.write("broker: scenario-nats\n" + Small.nats, as: "named.yaml")
      let plain = try sandbox.write(Small.nats, as: "plain.yaml")
      for (path, broker) in [(named, scenarios), (plain, environments)] {
        let finished = try sandbox.bench(
          "run", path, "--out", sandbox.results, environment: [variable: environments])
        let document = try sandbox.latest()
        expectHonest(finished, document)
        expectCounts(document)
        let version = try #require(document.machine.versions["nats-server"])
        #expect(version.first?.isNumber == true && version.hasSuffix(", \(broker)"))
        let report = try String(contentsOfFile: "\(sandbox.results)/latest/report.md", encoding: .utf8)
        #expect(report.contains(version))
        #expect(starts(scenarios) == 1)
      }
      #expect(starts(environments) == 1)
      let doctor = try sandbox.bench("doctor", environment: [variable: environments])
      #expect(doctor.out.contains(", \(environments)"))
    }

    @Test(
      "It asks for a token that workers are given, and with broker_token: false for none",
      .tags(.besideOthers), arguments: [true, false])
    func token(isAskedFor: Bool) throws {
      let worker = try Sandbox.command("nylon-worker")
      let words = "echo \"token $NATS_TOKEN at $NATS_SERVERS\" >> \"$0\"; exec \"\(worker)\" --name example"
      let said = sandbox.folder + "/said"
      let command = "{count: 1, command: [sh, -c, \(String(reflecting: words)), \(said)]}"
      _ = try sandbox.run("broker_token: \(isAskedFor)\n" + Small.pool(workers: command))
      expectCounts(try sandbox.latest())
      let environment = try String(contentsOfFile: said, encoding: .utf8)
      #expect(environment.hasPrefix("token  at nats://127.0.0.1:") == !isAskedFor)
      #expect(environment.contains("@127.0.0.1:") == isAskedFor)
    }

    @Test(
      "One that is not there, or is no program, ends with 69, the place and what to do", .tags(.besideOthers))
    func missing() throws {
      let text = try sandbox.write("text", as: "text")
      for path in [sandbox.folder + "/none", text, sandbox.folder] {
        let named = try sandbox.write("broker: \(path)\n" + Small.nats, as: "named.yaml")
        let plain = try sandbox.write(Small.nats, as: "plain.yaml")
        for (file, environment, place) in [(named, [:], "`broker:`"), (plain, [variable: path], variable)] {
          let finished = try sandbox.bench("run", file, "--out", sandbox.results, environment: environment)
          #expect(finished.code == 69)
          #expect(finished.err.contains("The nats-server '\(path)' of \(place) is "))
          #expect(finished.err.contains("Correct \(place), or leave it out"))
        }
        #expect(try sandbox.bench("doctor", environment: [variable: path]).code == 69)
      }
    }
  }
}
