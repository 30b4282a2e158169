import Lab
import Testing

@testable import Engine
@testable import Report
@testable import Results
@testable import Scenario

/// A run of both transports under the loads of the canonical run, with claims and promises.
private func canonical() -> RunDocument {
  let loads = ["closed-1", "closed-8", "closed-64", "open-2000"]
  let measurements = loads.flatMap { load in
    replicates("ffi", load: load, around: 5_000, transport: .ffi)
      + replicates("nats", load: load, around: 600_000)
  }
  var run = document(
    measurements, targets: [ffiTarget("ffi"), natsTarget("nats")])
  run.judge(
    (0..<12).map { place in
      ClaimCheck(
        spec: claim("figure-\(place)", low: 0.5, high: 0.7),
        conditions: [.init(circumstance: .unloaded, target: "nats", load: "closed-1")])
    })
  run.claims += (0..<60).map { place in
    ClaimVerdict(
      of: BehaviourSpec(id: "promise-\(place)", document: "guide.md", line: place, words: "It works"),
      place < 9 ? .fails : .holds, why: "seen")
  }
  run.rounds = RoundsMade(made: 8, open: 1, questions: 40, end: "mostRounds")
  return run
}

@Suite("The answer of a run")
struct AnswerTests {
  private func lines(_ run: RunDocument, colour: Bool = false) -> [String] {
    Answer.text(run, folder: "results/\(run.runID)", colour: colour).split(
      separator: "\n", omittingEmptySubsequences: false
    ).dropLast().map(String.init)
  }

  @Test("says that more rounds decide an open question, and after a short run that it takes six")
  func open() {
    var run = canonical()
    #expect(
      lines(run).contains {
        $0.hasSuffix("more rounds help (--rounds 6..24 --budget 20m), or a quieter machine.")
      })
    run.rounds = RoundsMade(made: 1, open: 1, questions: 40, end: "mostRounds")
    #expect(
      lines(run).contains {
        $0.hasSuffix("a verdict needs 6 rounds or more (--rounds 6..12, without --quick).")
      })
  }

  @Test("says of a figure that one side lacks why it is not compared")
  func lacking() {
    let run = document(
      replicates("ffi", load: "closed-1", around: 5_000, transport: .ffi)
        + replicates("nats", load: "closed-1", around: 600_000, samples: 500),
      targets: [ffiTarget("ffi"), natsTarget("nats")])
    #expect(lines(run).contains { $0.hasPrefix("unloaded p99") && $0.hasSuffix("few samples") })
  }

  @Test("fits a screen of 40 lines of 100 columns, whatever was measured")
  func fits() {
    var many = canonical()
    many.claims += many.claims
    for run in [canonical(), many, document([]), document(replicates("nats", around: 1_000_000))] {
      let lines = lines(run)
      #expect(lines.count <= 40)
      for line in lines { #expect(ReportTable.width(line) <= 100, "\(line)") }
      #expect(lines.contains { $0.hasPrefix("Report: results/") })
    }
  }

  @Test("names what was counted that ended nothing, in the terminal and in the report")
  func anomalies() {
    var measurements =
      replicates("ffi", around: 5_000, transport: .ffi) + replicates("nats", around: 600_000)
    #expect(Answer.anomalies(document(measurements)).isEmpty)
    measurements[0].scopes[0].counts[.duplicates] = 4_800_000
    measurements[1].scopes[0].counts[.duplicates] = 7
    measurements[2].scopes[0].counts[.unexpected] = 2
    measurements[7].scopes[0].counts[.late] = 1
    let run = document(measurements)
    let words =
      "Replies or calls ending no phase: ffi open-1000 4,800,007 duplicates, 2 unexpected; nats open-1000 1"
    #expect(Answer.anomalies(run).joined(separator: " ").replacing("   ", with: " ") == words + " late.")
    #expect(
      lines(run).contains { $0.hasPrefix("Replies or calls ending no phase: ffi open-1000 4,800,007") })
    #expect(MarkdownReport.render(run).contains("ffi open-1000 4,800,007 duplicates, 2 unexpected"))
    // A dialect with several maps a phase.
    measurements[7].dialect = .streamSDK
    measurements[7].scopes[0].counts[.duplicates] = 9
    #expect(Answer.anomalies(document(measurements)).joined().replacing("  ", with: " ").contains("1 late"))
    #expect(!Answer.anomalies(document(measurements)).joined().contains("9 duplicates"))
  }

  @Test(
    "says how FFI and NATS differ, what a phase costs more, and which documented figures and promises hold")
  func answers() {
    let text = lines(canonical()).joined(separator: "\n")
    for part in [
      "unloaded p50", "req/s, closed-64", "p99, open-2000", "CPU per request", "different",
      "A phase behind NATS takes", "under 10 % for handler times",
      "figure-11", "confirmed", "Promises: 51 hold, 9 fail", "promise-8", "39 of 40 questions answered",
      "plugin ExamplePlugin, 2 x nylon-worker (reply)",
    ] {
      #expect(text.contains(part), "\(part)")
    }
  }

  @Test(
    "looks for the crossover with a handler that works, then with one that waits, and counts disturbed replicates when the rounds are spent",
    arguments: [170, 400], [false, true])
  func crossover(waitingPool: Double, isDisturbed: Bool) throws {
    var run = canonical()
    let targets = run.scenario.targets
    var order: [String] = []
    while let next = Crossover.next(run, targets: targets) {
      order.append("\(next.target.name) \(next.replicate)")
      let time = try #require(next.target.crossoverMicroseconds)
      if !run.scenario.targets.contains(where: { $0.name == next.target.name }) {
        run.scenario.targets.append(next.target)
      }
      // 70 µs longer, however long the handler works.
      let isPool = next.target.name.hasPrefix("nats")
      let pool = next.target.handler == "wait" ? waitingPool : 170
      var one = replicates(
        next.target.name, load: "closed-1", around: UInt64(1000 * (time + (isPool ? pool : 100))),
        transport: isPool ? .nats : .ffi,
        invalid: isDisturbed && next.replicate % 2 == 0 ? [.steal] : [])[0]
      one.replicate = next.replicate
      run.measurements.append(one)
    }
    let steps = order.map { $0.split(separator: "-").dropFirst().prefix(2).joined(separator: " ") }.uniqued()
    #expect(steps[0].hasPrefix("work") && steps[1].hasPrefix("work"))
    #expect(steps[2].hasPrefix("wait") && steps[2].dropFirst(4) == steps[1].dropFirst(4), "\(steps)")
    #expect(Array(steps.dropFirst(3)) == (waitingPool > 170 ? ["wait 3000us"] : []))
    #expect(order.count == (isDisturbed ? 16 : 12) * steps.count)
    let least = try #require(Crossover(run)?.leastMicroseconds.middle)
    #expect(abs(least / (10 * (waitingPool - 100)) - 1) < 0.1, "\(least)")
    #expect(order.prefix(4).map { $0.prefix(4) + $0.suffix(2) } == ["ffi- 1", "nats 1", "nats 2", "ffi- 2"])
    let text = lines(run).joined(separator: "\n")
    #expect(text.contains("Measured: working ") && text.contains("; waiting "))
    #expect(text.contains(" with disturbed replicates") == isDisturbed)
    #expect(!text.contains("-crossover"))
  }

  @Test("names the host where it is Nylon's own")
  func nylonHost() {
    var target = natsTarget("nats")
    guard case .nats(var spec) = target.transport else { return }
    spec.dialect = .streamSDK
    spec.host = .nylon
    target.transport = .nats(spec)
    var run = document(replicates("nats", around: 1_000_000), targets: [target])
    #expect(lines(run)[0] == "Subjects: 2 x nylon-worker (stream-sdk, host: nylon)")
    spec.dialect = nil
    spec.host = nil
    target.transport = .nats(spec)
    run.scenario.targets = [target]
    #expect(lines(run)[0] == "Subjects: 2 x nylon-worker")
    spec.workers?.command.append(String(repeating: "x", count: 60))
    spec.host = .nylon
    let others = ["a", "b"].map { natsTarget("nats", group: $0) }
    run.scenario.targets = others
    target.transport = .nats(spec)
    run.scenario.targets.append(target)
    #expect(lines(run)[0] == "Subjects: 2 x nylon-worker (reply),")
    #expect(lines(run)[1].hasPrefix("  2 x nylon-worker xxx") && lines(run)[1].hasSuffix("(host: nylon)"))
  }

  @Test("names a condition that never got steady, and says what that does to verdicts")
  func neverSteady() {
    let run = document(
      unsteady(replicates("nats", around: 1_000_000), change: 0.2), targets: [natsTarget("nats")])
    let text = lines(run).joined(separator: "\n")
    #expect(text.contains("Never steady: nats open-1000; verdicts allow for twice the change."))
    #expect(!text.contains("Not usable"))
  }

  @Test("of a run whose budget ended before there were verdicts says how many rounds they take")
  func shortBudget() {
    var run = document(
      replicates("ffi", around: 10_000, count: 4, transport: .ffi)
        + replicates("nats", around: 1_000_000, count: 4), targets: [ffiTarget("ffi"), natsTarget("nats")])
    run.rounds = RoundsMade(made: 4, open: 0, questions: 0, end: "budget")
    run.judge()
    let words = "No verdicts: they need 6 rounds or more, and --budget was too short."
    #expect(lines(run).contains(words))
    run.rounds?.end = "answered"
    #expect(!lines(run).contains(words))
  }

  @Test("of a single target is its figures, with what could not be used")
  func single() {
    let run = document(
      replicates("nats", around: 1_000_000, invalid: [.workerDied]), targets: [natsTarget("nats")])
    let text = lines(run).joined(separator: "\n")
    #expect(text.contains("Medians over rounds") && text.contains("nats"))
    #expect(text.contains("Not usable: nats open-1000 (NO: worker_died)"))
  }
  @Test(
    "is about pairs of up to four targets, and about each target by itself when there are more",
    arguments: 3...5)
  func manyTargets(count: Int) {
    let names = (1...count).map { "ffi-\($0)" }
    var run = document(
      names.flatMap { replicates($0, load: "closed-1", around: 5_000, transport: .ffi) },
      targets: names.map { ffiTarget($0, file: "/\($0).so") })
    run.judge([])
    let text = lines(run).joined(separator: "\n")
    #expect(text.contains("Side by side") == (count < 5))
    #expect(text.contains("Medians over rounds") == (count == 5))
    #expect(names.allSatisfy(text.contains))
  }
}
