import TestSupport
import Foundation
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("Commands that measure") struct RunTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// The columns that are promised, in their order.
    static let promised =
      "run_id,scenario,target,transport,handler,phase,load,offered_rps,concurrency,workers,payload_bytes,"
      + "replicate,duration_s,sent,ok,handler_errors,timeouts,rejected,shed,lost,late,duplicates,"
      + "throughput_rps,response_min_us,response_p50_us,response_p90_us,response_p99_us,response_p999_us,"
      + "response_max_us,response_mean_us,service_p50_us,service_p99_us,send_lag_p99_us,cpu_generator_us,"
      + "cpu_broker_us,cpu_workers_us,allocated_bytes,valid,invalid_reason"

    private func file(_ name: String) throws -> String {
      try String(contentsOfFile: "\(sandbox.results)/latest/\(name)", encoding: .utf8)
    }

    @Test("An FFI run leaves all promised files, and counts that close")
    func ffi() throws {
      let finished = try sandbox.run(Small.ffi)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(finished.out.contains("closed-1"))
      #expect(!finished.err.contains("\u{1b}"))
      for name in [
        "run.json", "summary.csv", "percentiles.csv", "timeline.csv", "comparison.csv", "claims.csv",
        "report.md", "report.html", "histograms.hlog",
      ] {
        #expect(try !file(name).isEmpty, "\(name)")
      }
      let lines = try file("summary.csv").components(separatedBy: "\r\n").filter { !$0.isEmpty }
      #expect(lines[0] == Self.promised || lines[0].hasPrefix(Self.promised + ","))
      // The session and its four phases.
      #expect(lines.count == 6)
      #expect(lines[1].contains(",small-ffi,ffi,ffi,noop,request,closed-1,"))
    }

    @Test(
      "With --json --quiet the run is all of standard output, and standard error is silent",
      .tags(.besideOthers))
    func json() throws {
      let finished = try sandbox.run(Small.ffi, "--json", "--quiet")
      let printed = try RunDocument(json: Data(finished.out.utf8), path: "standard output")
      #expect(printed == (try sandbox.latest()))
      #expect(finished.err.isEmpty)
    }

    private static func configured(_ value: String) -> String {
      Small.pool(workers: "{count: 2, command: nylon-worker}", target: ", phases: [request_filter]")
        .replacingOccurrences(of: "group: workers}", with: "group: workers, config: {work_us: \(value)}}")
        .replacingOccurrences(of: "handler: noop", with: "handler: work")
    }

    @Test("Workers get the plugin's configuration before the first request", .tags(.besideOthers))
    func configuration() throws {
      _ = try sandbox.run(Self.configured("20000"))
      let document = try sandbox.latest()
      expectCounts(document)
      // The handler works as long as its configuration says.
      #expect((document.measurements.first?.request?.response.leastNanoseconds ?? 0) >= 20_000_000)
    }

    @Test("A configuration that a worker refuses is a fault of the scenario", .tags(.besideOthers))
    func refusedConfiguration() throws {
      let finished = try sandbox.run(Self.configured("soon"))
      #expect(finished.code == 65)
      #expect(finished.err.contains("refused `config:` of plugin 'example'"), "\(finished.err)")
    }

    @Test("A NATS run starts broker and workers, and ends them")
    func nats() throws {
      let finished = try sandbox.run(Small.nats)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(document.measurements.first?.workers == 2)
      #expect(document.measurements.first?.cpuBrokerNanoseconds ?? 0 > 0)
      #expect(sandbox.processes().isEmpty)
      let one = try #require(document.measurements.first)
      for side in [one.generator, one.broker, one.workerProcesses] {
        let costs = try #require(side)
        #expect(costs.residentStartBytes ?? 0 > 1_000_000)
        #expect(costs.residentEndBytes ?? 0 > 1_000_000)
        #expect(costs.voluntarySwitches ?? 0 > 0)
        #expect(costs.involuntarySwitches != nil)
      }
      let activity = try #require(one.brokerActivity)
      // A request and a reply for each phase; the two readings are not the very ends of the measured time.
      let answered = try #require(one.request?.okInWindow)
      let phases = UInt64(one.scopes.count - 1)
      #expect((answered * phases...answered * phases * 4).contains(activity.inMessages))
      #expect(activity.slowConsumers == 0)
      #expect(activity.subscriptions >= phases)
      #expect(try file("report.md").contains("The broker's own monitoring"))
    }

    @Test("With --server a broker is used that runs already, and left alone")
    func server() throws {
      let broker = try RunningBroker(in: sandbox)
      let finished = try sandbox.run(Small.nats, "--server", broker.url)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(sandbox.processes() == [broker.command.pid])
      // Of a broker that is not ours neither process nor monitoring is known: nothing, and not 0.
      #expect(document.measurements.allSatisfy { $0.broker == nil && $0.brokerActivity == nil })
      #expect(document.measurements.allSatisfy { $0.generator != nil && $0.workerProcesses != nil })
      broker.stop()
    }

    @Test("compare has both transports in its files, and compares stored runs too")
    func compare() throws {
      let path = try sandbox.write(Small.both, as: "both.yaml")
      let finished = try sandbox.bench("compare", path, "--out", sandbox.results)
      let document = try sandbox.latest()
      expectHonest(finished, document, loads: "closed-")
      expectCounts(document)
      let summary = try file("summary.csv")
      for words in [",ffi,ffi,authz,request,closed-2,", ",nats,nats,authz,request,open-200,"] {
        #expect(summary.contains(words))
      }
      let rows = document.comparisons
      #expect(rows.contains { $0.metric == "response_p50_us" && $0.a == "ffi" && $0.b == "nats" })
      #expect(try file("comparison.csv").hasPrefix("metric,condition,a,b,a_value,b_value,unit,ratio,"))
      let again = try sandbox.bench("compare", "\(sandbox.results)/latest", "\(sandbox.results)/latest")
      #expect(again.code == 0)
      #expect(again.out.contains("response"))
    }

    @Test("calibrate measures its baselines, with all documented fields of its JSON")
    func calibrate() throws {
      let finished = try sandbox.bench("calibrate", "--json", "--rounds", "1", "--seconds", "0.1")
      try #require(finished.code == 0, "\(finished.err)")
      let floor = try JSONDecoder().decode(Floor.self, from: Data(finished.out.utf8))
      #expect(floor.nats.map(\.in_flight) == [1, 64, 256])
      #expect(floor.clock_ns > 0 && floor.record_ns > 0 && floor.timer_overshoot_us > 0)
      #expect(floor.ffi.bare_ns > 0 && floor.ffi.engine_ns > 0 && floor.ffi.ratio > 0)
      #expect(floor.nats.allSatisfy { $0.bare_rps > 0 && $0.engine_rps > 0 && $0.ratio > 0 })
      #expect(floor.nats.allSatisfy { $0.bare_p50_us > 0 && $0.engine_p50_us > 0 })
      #expect(floor.goals.count == 10)
      for goal in floor.goals {
        // A goal without a figure is neither reached nor missed.
        #expect((goal.measured == nil) == (goal.is_reached == nil), "\(goal.goal)")
        let isKept = goal.measured.map { goal.is_most ? $0 <= goal.must_reach : $0 >= goal.must_reach }
        #expect(isKept == goal.is_reached, "\(goal.goal)")
      }
      #expect([0, 81].contains(finished.code))
      #expect(sandbox.processes().isEmpty)
    }

    @Test("calibrate measures the requested parts, and --gate ends with 80 if a goal is missed")
    func calibrateParts() throws {
      // Nothing can be late by less than nothing: this part has no goals, so its gate is open.
      let steps = try sandbox.bench("calibrate", "--only", "steps", "--gate", "--rounds", "1", "--json")
      #expect(steps.code == 0)
      #expect(!steps.out.contains("\"ffi\"") && steps.out.contains("\"clock_ns\""))
      let gated = try sandbox.bench(
        "calibrate", "--only", "memory, ffi", "--gate", "--rounds", "1", "--seconds", "0.1", "--json")
      try #require([0, 80].contains(gated.code), "\(gated.err)")
      struct Parts: Decodable { var goals: [Floor.Goal] }
      let goals = try JSONDecoder().decode(Parts.self, from: Data(gated.out.utf8)).goals
      #expect(goals.map(\.goal).contains { $0.contains("resident memory with 2048") })
      #expect(gated.code == (goals.allSatisfy { $0.is_reached == true } ? 0 : 80))
      let wrong = try sandbox.bench("calibrate", "--only", "everything")
      #expect(wrong.code == 64)
      #expect(wrong.err.contains("steps, ffi, queue, pacing, nats, worker, memory"))
    }

    /// What is promised of `calibrate --json`.
    private struct Floor: Decodable {
      var clock_ns, record_ns, timer_overshoot_us: Double
      var ffi: FFI
      var nats: [NATS]
      var goals: [Goal]

      struct Goal: Decodable {
        var goal: String
        var measured: Double?
        var must_reach, aim: Double
        var is_most: Bool
        var is_reached, is_aim_reached: Bool?
      }
      struct FFI: Decodable { var bare_ns, engine_ns, ratio: Double }
      struct NATS: Decodable {
        var in_flight: Int
        var bare_rps, engine_rps, ratio, bare_p50_us, engine_p50_us: Double
      }
    }

    @Test("compare wants two targets", .tags(.besideOthers))
    func compareOfOne() throws {
      let path = try sandbox.write(Small.ffi, as: "one.yaml")
      let finished = try sandbox.bench("compare", path, "--out", sandbox.results)
      #expect(finished.code == 65)
      #expect(finished.err.contains("two targets or more"))
    }

    @Test("sweep loads with more and more in flight, other pools too, and searches the highest rate")
    func sweep() throws {
      let path = try sandbox.write(Small.nats, as: "pool.yaml")
      let finished = try sandbox.bench(
        "sweep", path, "--out", sandbox.results, "--in-flight", "1..4", "--workers", "1", "--connections",
        "2",
        "--slo", "response_p50_us < 1e6", "--quick", "--set", "measure_seconds=0.2", "--set",
        "drain_seconds=0.1")
      let document = try sandbox.latest()
      // The search goes on to rates that cannot be reached.
      expectHonest(finished, document, loads: "closed-")
      expectCounts(document)
      let closed = document.measurements.filter { $0.offeredRatePerSecond == nil }
      let seen = closed.map { "\($0.target) \($0.workers ?? 0) \($0.connections ?? 0) \($0.concurrency)" }
      let wanted = ["nats 2 1", "nats-1w 1 1", "nats-2c 2 2", "nats-1w-2c 1 2"].flatMap { target in
        [1, 2, 4].map { "\(target) \($0)" }
      }
      #expect(Set(seen) == Set(wanted) && seen.count == 12)
      #expect(document.measurements.contains { $0.target == "nats-2c" && $0.offeredRatePerSecond != nil })
      #expect(finished.out.contains("Of 4 combinations of workers and connections"), "\(finished.out)")
      #expect(finished.out.contains("knee at"), "\(finished.out)")
      let objectives = try #require(document.objectives)
      #expect(!objectives.isEmpty && objectives.allSatisfy { $0.rate != nil || $0.above != nil })
      let words = finished.out.split(whereSeparator: \.isWhitespace).joined(separator: " ")
      for objective in objectives { #expect(words.contains("\(objective.sentence)"), "\(finished.out)") }
      #expect(sandbox.processes().isEmpty)
      for words in [
        ["--in-flight", "0"], ["--slo", "fast"], ["--workers", "4..1"], ["--connections", "x"],
      ] {
        #expect(try sandbox.start(["sweep", path] + words).finish().code == 64)
      }
      let unknown = try sandbox.bench("sweep", path, "--target", "pool")
      #expect(unknown.code == 65 && unknown.err.contains("there are: nats"))
    }

    @Test(
      "claims takes its subjects from a scenario of the user's, and names who is not there",
      .tags(.besideOthers))
    func claimsOnOwnTargets() throws {
      let scenario = Small.both.replacingOccurrences(of: "handler: authz", with: "handler: noop")
      let path = try sandbox.write(scenario, as: "own.yaml")
      let unknown = try sandbox.bench(
        "claims", "--quick", "--out", sandbox.results, "--scenario", path, "--ffi", "fast")
      #expect(unknown.code == 65)
      #expect(unknown.err.contains("--ffi fast") && unknown.err.contains("there are: ffi"), "\(unknown.err)")
      let headline = try sandbox.write(
        """
        plugins: [{name: p, type: ffi, file: NullPlugin}]
        targets: [{name: ffi, plugin: p, handler: authz}]
        loads: [{mode: closed, concurrency: 1}]
        \(Small.times)
        """, as: "headline.yaml")
      let finished = try sandbox.bench(
        "claims", "--only", "figures", "--out", sandbox.results, "--scenario", path, "--headline", headline)
      let document = try sandbox.latest()
      #expect(finished.code == (document.isValid ? 0 : 81), "\(finished.err)")
      #expect(document.measurements.map(\.handler) == ["noop"])
      let report = try file("report.md")
      #expect(report.contains("Tested on: plugin 'ExamplePlugin', handler 'noop', in-process."))
      let absent = document.claims.first { $0.id == "nats-local-latency" }
      #expect(absent?.verdict == .notMeasured && absent?.why.contains("no nats target") == true)
    }

    @Test(
      "claims gives a verdict on every documented figure, and ends with 0 whatever it is, or 81",
      .tags(.besideOthers))
    func claims() throws {
      let finished = try sandbox.start([
        "claims", "--only", "figures", "--quick", "--out", sandbox.results, "--set", "warmup_seconds=0.1",
        "--set", "measure_seconds=0.4", "--set", "drain_seconds=0.2",
      ]).finish(within: 240)
      let document = try sandbox.latest()
      #expect(finished.code == (document.isValid ? 0 : 81), "\(finished.err)")
      let verdicts = document.claims
      let shipped = try String(contentsOfFile: Sandbox.package + "/Scenarios/claims.yaml", encoding: .utf8)
      let figures = shipped.components(separatedBy: "\nbehaviours:")[0]
      let ids = figures.components(separatedBy: "- id: ").dropFirst().map { $0.prefix { !$0.isNewline } }
      #expect(ids.count >= 8)
      for id in ids { #expect(verdicts.contains { $0.id == id }, "\(id)") }
      let network = verdicts.filter { $0.id.hasPrefix("nats-network") }
      // Over each round trip, by a relay of the run's own.
      #expect(network.contains { $0.condition == "a closed-1 nats-net-1ms" && $0.measured != nil })
      #expect(network.allSatisfy { $0.verdict != .notMeasured && !$0.why.isEmpty })
      let header = "id,document,line,claim,documented,unit,condition,measured,low,high,verdict,why"
      #expect(try file("claims.csv").hasPrefix(header))
      try expectSchema(sandbox)
    }

    @Test("export renders a stored run again, in every format, without a load", .tags(.besideOthers))
    func export() throws {
      _ = try sandbox.run(Small.ffi)
      let run = "\(sandbox.results)/latest"
      for (format, stored) in [
        ("csv", "summary.csv"), ("json", "run.json"), ("markdown", "report.md"), ("html", "report.html"),
        ("hlog", "histograms.hlog"),
      ] {
        let finished = try sandbox.bench("export", run, "--format", format)
        #expect(finished.code == 0)
        let text = try file(stored)
        #expect(finished.out == (text.hasSuffix("\n") ? text : text + "\n"), "\(format)")
      }
      #expect(try sandbox.bench("export", run, "--format", "hgrm").out.contains("Percentile"))
      let folder = "\(sandbox.folder)/csv"
      #expect(try sandbox.bench("export", run, "--format", "csv", "--to", folder).code == 0)
      for name in ["summary", "percentiles", "timeline", "comparison", "claims"] {
        let exported = try String(contentsOfFile: "\(folder)/\(name).csv", encoding: .utf8)
        #expect(exported == (try file("\(name).csv")))
      }
      try expectSchema(sandbox)
    }

    @Test(
      "export writes the same bytes again in every format: elsewhere, without a broker, in another language and zone"
    )
    func exportRepeats() throws {
      let stored = Sandbox.package + "/results/reference/soak/run.json"
      let moved = try sandbox.write(try String(contentsOfFile: stored, encoding: .utf8), as: "moved.json")
      let libraries = ProcessInfo.processInfo.environment.filter { $0.key == "LD_LIBRARY_PATH" }
      func exported(_ run: String, _ format: ExportFormat, to name: String, _ more: [String: String]) throws
        -> [String: Data]
      {
        let folder = "\(sandbox.folder)/\(name)/\(format.rawValue)"
        // Nothing of this process's environment, such as where nats-server is.
        let environment = libraries.merging(["PATH": ""]) { $1 }.merging(more) { $1 }
        let ended = try Ended(
          Sandbox.command("nylon-bench"), ["export", run, "--format", format.rawValue, "--to", folder],
          environment: environment, folder: sandbox.temporary)
        #expect(ended.code == 0 && ended.out.isEmpty, "\(ended.err)")
        // One line, however many files there are.
        #expect(ended.err.split(separator: "\n").count == 1, "\(ended.err)")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder)
        return Dictionary(
          uniqueKeysWithValues: names.map {
            ($0, FileManager.default.contents(atPath: "\(folder)/\($0)") ?? Data())
          })
      }
      for format in ExportFormat.allCases {
        let first = try exported(stored, format, to: "first", ["LC_ALL": "C", "TZ": "UTC"])
        let second = try exported(
          moved, format, to: "second",
          ["LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Pacific/Auckland"])
        #expect(!first.isEmpty && first == second, "\(format.rawValue)")
      }
    }

    @Test("--set changes any key, --seed the seed; both are kept in the run", .tags(.besideOthers))
    func overrides() throws {
      _ = try sandbox.run(
        Small.ffi, "--set", "loads.0.concurrency=3", "--set", "targets.0.name=renamed", "--seed", "77")
      let document = try sandbox.latest()
      #expect(document.measurements.map(\.load) == ["closed-3"])
      #expect(document.measurements.map(\.target) == ["renamed"])
      #expect(document.seed == 77)
      let wrong = try sandbox.run(Small.ffi, "--set", "loads.0.concurency=3")
      #expect(wrong.code == 65)
      #expect(wrong.err.contains("concurency"))
    }

    @Test("On a terminal, a run shows its rate and response times while it measures, and ends well")
    func terminal() throws {
      let scenario = try sandbox.write(Small.ffi + "rounds: 2\n", as: "scenario.yaml")
      let command = [try Sandbox.command("nylon-bench"), "run", scenario, "--out", sandbox.results]
      // `script` runs the command on a terminal of its own.
      let finished = try sandbox.start(
        program: "/usr/bin/script",
        ["-qec", command.joined(separator: " "), "/dev/null"], environment: ["TERM": "xterm"]
      ).finish()
      expectHonest(finished, try sandbox.latest())
      let times = #/round 2 of 2: ffi closed-1  [\d,]+ req/s  p50 [\d.]+ .?s  p99 [\d.]+ .?s  /#
      #expect(finished.out.contains(times), "\(finished.out)")
    }

    @Test("An expectation that is not met ends with 80, and says so")
    func expectation() throws {
      let finished = try sandbox.run(Small.ffi + "expect: [ffi.closed-1.ok < 1]\n")
      #expect(finished.code == 80)
      #expect(finished.out.contains("ffi.closed-1.ok < 1"))
    }

    /// The README's only block of code in this language.
    private func readmeCode(in language: String) throws -> String {
      let page = try String(contentsOfFile: Sandbox.package + "/README.md", encoding: .utf8)
      let blocks = page.components(separatedBy: "```\(language)\n").dropFirst()
      return try #require(blocks.count == 1 ? blocks.first?.components(separatedBy: "```").first : nil)
    }

    private func readmePlugin() throws -> String {
      try CPlugin.compile(
        try sandbox.write(try readmeCode(in: "c"), as: "mine.c"), to: "mine.so", in: sandbox)
    }

    /// Compares a plugin with a pool by one command, and expects both to be measured.
    private func compareQuickly(
      _ plugin: String, pool: String, workers: String, handler: String
    ) throws -> (finished: Finished, document: RunDocument) {
      let finished = try sandbox.bench(
        "compare", "--ffi", plugin, "--nats", pool, "--workers", workers, "--handler", handler, "--quick",
        "--set", "loads=[{mode: closed, concurrency: 2}]", "--set", "measure_seconds=0.2", "--out",
        sandbox.results)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(Set(document.measurements.map(\.target)) == ["ffi", "nats"])
      return (finished, document)
    }

    @Test(
      "The README's plugin and worker are compared by one command, and every answer is right",
      .enabled(if: ForeignReaders.areThere, Comment(rawValue: ForeignReaders.absence)))
    func readmePair() throws {
      let plugin = try readmePlugin()
      let worker = try sandbox.write(try readmeCode(in: "python"), as: "worker.py")
      let (_, document) = try compareQuickly(
        plugin, pool: "mine", workers: "\(ForeignReaders.python) \(worker)", handler: "authz")
      for measurement in document.measurements {
        let counts = try #require(measurement.request?.counts)
        #expect(counts.ok == counts.sent, "\(measurement.target): \(counts)")
      }
    }

    @Test(
      "The README's plugin is measured by one command, and its run folder has the scenario that repeats it")
    func readme() throws {
      let plugin = try readmePlugin()
      let finished = try sandbox.bench(
        "run", plugin, "--quick", "--set", "measure_seconds=0.2", "--out", sandbox.results)
      let document = try sandbox.latest()
      // Its open load asks for answers of a microsecond on time, which is beyond an ordinary machine.
      expectHonest(finished, document, loads: "closed-")
      expectCounts(document)
      #expect(document.measurements.map(\.load).prefix(3) == ["closed-1", "closed-8", "closed-64"])
      #expect(document.measurements.last?.offeredRatePerSecond ?? 0 >= 1)
      #expect(finished.err.contains("handler 'authz'; --handler NAME chooses another"))
      let stored = "\(sandbox.results)/latest/scenario.yaml"
      #expect(try file("scenario.yaml") == document.scenario.text)
      #expect(document.scenarioSHA256 == SHA256Text.ofFile(stored))
      #expect(try sandbox.bench("validate", stored).code == 0)
      // A model keeps to the interface.
      #expect(try sandbox.bench("conform", plugin).code == 0)
      let written = try sandbox.bench("init", plugin, "\(sandbox.folder)/mine.yaml")
      #expect(written.code == 0 && written.out.contains("nylon-bench run \(sandbox.folder)/mine.yaml"))
      #expect(try sandbox.bench("validate", "\(sandbox.folder)/mine.yaml").code == 0)
      let again = try sandbox.bench("init", plugin, "\(sandbox.folder)/mine.yaml")
      #expect(again.code == 65 && again.err.contains("replace it with --force"))
      let refusing = try CPlugin(register: "return false;").build(in: sandbox)
      let refused = try sandbox.bench("run", refusing, "--handler", "check")
      #expect(refused.code == 65 && refused.err.contains("no handler 'check'"))
      #expect(refused.err.contains("--handler"))
    }

    @Test(
      "A plugin and a pool of one's own are compared by one command, and a Nylon configuration lists what it has"
    )
    func ownPair() throws {
      let plugin = try CPlugin().build(in: sandbox)
      let worker = try ForeignWorker.build(in: sandbox)
      let (finished, document) = try compareQuickly(
        plugin, pool: "example", workers: "\(worker) half 100000", handler: "main")
      #expect(document.measurements.allSatisfy { $0.handler == "main" })
      #expect(finished.out.contains("foreign-worker") && sandbox.processes().isEmpty)
      let nylon = try sandbox.write(
        "plugins: [{name: fast, type: ffi, file: \(plugin)}]\nroutes: [{middleware: [{plugin: fast, entry: check}]}]",
        as: "nylon.yaml")
      let listed = try sandbox.bench("run", nylon)
      #expect(listed.code == 64 && listed.out.isEmpty)
      for words in ["fast", "ffi", plugin, "check", "--plugin fast"] { #expect(listed.err.contains(words)) }
      let other = try sandbox.bench("run", nylon, "--plugin", "fats")
      #expect(other.code == 65 && other.err.contains("there are: fast"))
    }

    @Test("A plugin that was written by hand from the interface's description works")
    func pluginByHand() throws {
      // Reads the path of the request, sets status 201, and goes on; answers later calls at once.
      let plugin = CPlugin(
        event: """
          static uint8_t phase;
          if (event->phase == 1) { phase = 1; call(event->sid, 0, 203, NULL, 0); }
          else if (event->phase == 0 && event->method == 203) {
            if (event->len == 10 && memcmp(event->ptr, "/by/hand?x", 10) == 0) {
              const uint8_t status[2] = {0, 201};
              call(event->sid, 0, 102, status, 2);
            }
            call(event->sid, phase, 1, NULL, 0);
          } else answer(event, 1);
          """)
      let scenario = """
        name: by-hand
        plugins: [{name: given, type: ffi, file: \(try plugin.build(in: sandbox))}]
        targets: [{name: given, plugin: given, handler: main, verify: {status: 201}}]
        request: {path: "/by/hand?x"}
        loads: [{mode: closed, concurrency: 1}]
        \(Small.times)
        """
      let finished = try sandbox.run(scenario)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(document.measurements.allSatisfy { $0.request?.counts.handlerErrors == 0 })
    }
  }
}
