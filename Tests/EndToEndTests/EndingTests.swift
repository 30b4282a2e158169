import TestSupport
import Foundation
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("However it ends, nothing is left behind and no secret is shown") struct EndingTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// The contents of all files below a folder.
    private static func files(_ folder: String) throws -> [Data] {
      let names = try #require(FileManager.default.enumerator(atPath: folder))
      return names.compactMap { FileManager.default.contents(atPath: "\(folder)/\($0)") }
    }

    private static func environment(_ pid: Int32) -> [String: String] {
      let bytes = FileManager.default.contents(atPath: "/proc/\(pid)/environ") ?? Data()
      let pairs = bytes.split(separator: 0).map {
        String(decoding: $0, as: UTF8.self).split(separator: "=", maxSplits: 1).map(String.init)
      }
      return Dictionary(pairs.filter { $0.count == 2 }.map { ($0[0], $0[1]) }) { $1 }
    }

    /// A run that goes on until it is ended. One that would last 20 s or longer begins with the machine's baseline.
    private func startLongRun(measureSeconds: Int = 15) throws -> RunningCommand {
      let times = "warmup_seconds: 1\nmeasure_seconds: \(measureSeconds)\ndrain_seconds: 0.3"
      return try sandbox.start(run: Small.pool(workers: "{count: 2, command: nylon-worker}", times: times))
    }

    @Test(
      "Ctrl-C saves what was measured and ends with 130", .tags(.besideOthers), arguments: [SIGINT, SIGTERM])
    func interrupt(signal: Int32) throws {
      let command = try startLongRun()
      try sandbox.waitForLoad()
      // The token that the broker was given is known to the workers, and to nobody else.
      let worker = try #require(sandbox.processes("/nylon-worker").first)
      let token = try #require(Self.environment(worker)["NATS_TOKEN"])
      #expect(token.count == 32)
      #expect(!sandbox.processes().flatMap(Sandbox.commandLine).contains { $0.contains(token) })
      kill(command.pid, signal)
      let finished = command.finish(within: 40)
      #expect(!finished.out.contains(token) && !finished.err.contains(token))
      #expect(try Self.files(sandbox.folder).allSatisfy { $0.range(of: Data(token.utf8)) == nil })
      #expect(finished.code == 130, "\(finished.err)")
      let document = try sandbox.latest()
      #expect(document.interrupted)
      expectCounts(document)
      #expect(document.measurements.first?.invalidReasons.contains { $0.code == .interrupted } == true)
      #expect(sandbox.processes().isEmpty)
    }

    @Test("A run that ends before anything is measured leaves no run folder, and no link to one")
    func interruptedEarly() throws {
      let command = try startLongRun()
      try sandbox.waitForLoad(.warmup)
      kill(command.pid, SIGQUIT)
      let finished = command.finish(within: 40)
      #expect(finished.code == 130 && finished.err.contains("Interrupted before anything was measured."))
      #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.results).isEmpty)
      #expect(sandbox.processes().isEmpty)
    }

    /// When the command is killed.
    enum Moment: String, CaseIterable { case atOnce, baseline, startup, warmup, measuring }

    @Test("What was measured is in run.json when the command is killed within a round", .tags(.besideOthers))
    func killedWithinARound() throws {
      // The second measurement of the round is under way when the command dies.
      let scenario = """
        name: within
        plugins: [{name: floor, type: ffi, file: NullPlugin}]
        targets:
          - {name: first, plugin: floor, handler: noop}
          - {name: second, plugin: floor, handler: noop}
        loads: [{mode: closed, concurrency: 1}]
        warmup_seconds: 0
        measure_seconds: 2
        drain_seconds: 0
        """
      let path = try sandbox.write(scenario, as: "within.yaml")
      let command = try sandbox.start(["run", path, "--out", sandbox.results])
      #expect(eventually { (try? sandbox.latest().measurements.count) == 1 })
      kill(command.pid, SIGKILL)
      _ = command.finish()
      let kept = try sandbox.latest().measurements
      #expect(kept.map(\.target) == ["first"] && (kept.first?.request?.counts.ok ?? 0) > 0)
      #expect(eventually { sandbox.processes().isEmpty })
    }

    @Test("kill -9 leaves no process and no temporary file", .tags(.besideOthers), arguments: Moment.allCases)
    func kill9(moment: Moment) throws {
      let command = try startLongRun(measureSeconds: moment == .baseline ? 60 : 15)
      switch moment {
      case .atOnce: break
      case .baseline, .startup: #expect(eventually { !sandbox.processes("/nats-server").isEmpty })
      case .warmup: try sandbox.waitForLoad(.warmup)
      case .measuring: try sandbox.waitForLoad()
      }
      kill(command.pid, SIGKILL)
      #expect(command.finish().code == nil)
      #expect(eventually { sandbox.processes().isEmpty })
      #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.temporary).isEmpty)
      // What there is of a run can be read.
      for name in try FileManager.default.contentsOfDirectory(atPath: sandbox.results) {
        _ = try RunFolder.open(path: "\(sandbox.results)/\(name)")
      }
    }

    @Test("Secrets are in no file, no message and no command line")
    func secrets() throws {
      let secret = "hidden-\(UUID().uuidString)"
      let scenario = Small.pool(
        workers: "{count: 1, command: nylon-worker, environment: {MY_PASSWORD: \(secret)}}",
        auth: ", auth: {token: \(secret)}", times: "warmup_seconds: 0.1\nmeasure_seconds: 1")
      let command = try sandbox.start(run: scenario, ["--json", "-v"])
      var seen = 0
      var told: [String] = []
      let hasEnded = eventually {
        let all = sandbox.processes()
        seen = max(seen, all.count)
        told += all.flatMap(Sandbox.commandLine).filter { $0.contains(secret) }
        return !command.isRunning
      }
      #expect(hasEnded)
      #expect(told.isEmpty)
      let finished = command.finish()
      // The command, and at least the broker, a worker and the load process with their keepers.
      #expect(seen >= 7)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(!finished.out.contains(secret) && !finished.err.contains(secret))
      let files = try #require(FileManager.default.enumerator(atPath: sandbox.results))
      var count = 0
      for case let name as String in files {
        guard let bytes = FileManager.default.contents(atPath: "\(sandbox.results)/\(name)") else { continue }
        count += 1
        #expect(bytes.range(of: Data(secret.utf8)) == nil, "\(name)")
      }
      #expect(count >= 9)
    }
  }
}
