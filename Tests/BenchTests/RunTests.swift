@testable import Engine
import Foundation
@testable import Lab
import Nylon
import Report
@testable import Results
@testable import Scenario
import Testing

@testable import Bench

private func target(
  _ name: String, loads: [LoadShape] = [.closed(concurrency: 1)], phases: [Phase] = Phase.session
) -> Target {
  Target(
    name: name, plugin: "p", handler: "noop", transport: .ffi(FFISpec(file: "NullPlugin")), phases: phases,
    loads: loads)
}

private func pool(_ name: String, phases: [Phase] = Phase.session) -> Target {
  Target(
    name: name, plugin: "p", handler: "noop", transport: .nats(NATSSpec(servers: [])), phases: phases,
    loads: [.closed(concurrency: 1)])
}

/// A replicate of a closed load in which every request took so long.
private func replicate(
  _ step: Step, microseconds: UInt64, invalid: [InvalidReason.Code] = [], windows: [UInt64] = []
) -> Engine.Measurement {
  var histogram = LatencyHistogram()
  histogram.record(microseconds * 1000, times: 2000)
  var counts = OutcomeCounts()
  (counts.sent, counts.ok) = (2000, 2000)
  return Measurement(
    target: step.target.name, transport: .ffi, handler: "noop", load: step.load.label, concurrency: 1,
    payloadBytes: 0, replicate: step.replicate, durationSeconds: 1,
    scopes: [
      ScopeMeasurement(
        scope: "request", counts: counts, okInWindow: 2_000_000 / microseconds, response: histogram,
        service: histogram, sendLag: LatencyHistogram())
    ],
    windows: windows.enumerated().map {
      MeasurementWindow(
        startSeconds: Double($0), durationSeconds: 1, completed: 10, p50Nanoseconds: $1, p99Nanoseconds: nil,
        maxNanoseconds: nil)
    },
    invalidReasons: invalid.map { InvalidReason(code: $0, detail: "d") })
}

private func names(_ steps: [Step]) -> [String] {
  steps.map { "\($0.target.name) \($0.load.label) \($0.replicate)" }
}

/// Makes rounds of made-up measurements of 2.5 s until they end; what each round measured.
private func play(
  _ plan: Plan, budgetSeconds: Double? = nil, measure: (Step) -> Engine.Measurement
) -> (rounds: [[String]], end: Rounds.End?, document: RunDocument, schedule: Rounds) {
  var rounds = Rounds(plan: plan, budgetSeconds: budgetSeconds)
  var document = RunDocument(
    runID: "r", toolVersion: "0", commandLine: [], scenario: plan, machine: MachineFacts(),
    started: UTCSecond(epochSeconds: 0))
  var played: [[String]] = []
  while played.count < 20 {
    let steps = rounds.nextRound()
    played.append(names(steps))
    document.measurements += steps.map(measure)
    let seconds = Double(document.measurements.count) * 2.5
    if let end = rounds.finishRound(&document, checks: [], elapsedSeconds: seconds) {
      return (played, end, document, rounds)
    }
  }
  return (played, nil, document, rounds)
}

@Suite("The rounds of a run")
struct RoundTests {
  private let loads: [LoadShape] = [.closed(concurrency: 1), .closed(concurrency: 8)]
  private var plan: Plan {
    var other = target("b", loads: loads)
    // Two equal targets would be an A/A pair, which is no question.
    other.handler = "work"
    return Plan(name: "p", targets: [target("a", loads: loads), other], loads: loads)
  }

  @Test("Targets take turns within a load, and the turn is reversed with each round")
  func interleaving() {
    let played = play(plan) { replicate($0, microseconds: $0.target.name == "a" ? 10 : 1000) }
    #expect(
      played.rounds[..<2] == [
        ["a closed-1 1", "b closed-1 1", "a closed-8 1", "b closed-8 1"],
        ["b closed-1 2", "a closed-1 2", "b closed-8 2", "a closed-8 2"],
      ])
    // All is answered at the first look.
    #expect(played.rounds.count == 6 && played.end == .answered)
    #expect(played.schedule.questions.count > 3)
  }

  @Test("A target with fewer loads is left out where it has none")
  func fewerLoads() {
    let plan = Plan(name: "p", targets: [target("a"), target("b", loads: loads)], loads: loads)
    #expect(names(Rounds(plan: plan).nextRound()) == ["a closed-1 1", "b closed-1 1", "b closed-8 1"])
  }

  /// Under closed-1 the two targets are as far apart as their replicates.
  private func openUnderOneLoad(_ step: Step) -> Engine.Measurement {
    let isApart = step.load.label == "closed-8" && step.target.name == "b"
    let noise =
      step.load.label == "closed-1" && step.target.name == "b" ? UInt64(step.replicate % 2) * 40 : 0
    return replicate(step, microseconds: isApart ? 1000 : 100 + noise)
  }

  /// The same, and a trend under the other load until it is warmed up for longer.
  private func openAndRising(_ step: Step) -> Engine.Measurement {
    let isRising = step.load.label == "closed-8" && step.target.name == "b" && step.warmupSeconds < 2
    var one = openUnderOneLoad(step)
    one.windows = replicate(step, microseconds: 100, windows: isRising ? [1, 2, 3, 4, 5, 6] : []).windows
    return one
  }

  @Test("Rounds after the fewest measure only what an open question needs, until the most")
  func openQuestions() throws {
    let played = play(plan, measure: openUnderOneLoad)
    #expect(played.end == .mostRounds)
    try #require(played.rounds.count == 12)
    #expect(played.rounds[6] == ["a closed-1 7", "b closed-1 7"])
    let open = played.schedule.questions.filter(\.isOpen)
    #expect(!open.isEmpty)
  }

  @Test("A disturbed replicate is measured again, and its condition only")
  func disturbed() throws {
    let alone = Plan(name: "p", targets: [target("a", loads: loads)], loads: loads)
    let played = play(alone) {
      replicate(
        $0, microseconds: 100, invalid: $0.replicate == 2 && $0.load.label == "closed-8" ? [.steal] : [])
    }
    #expect(played.end == .answered)
    try #require(played.rounds.count == 8)
    #expect(played.rounds[6] == ["a closed-8 7"])
  }

  @Test("What a disturbed replicate is compared with is measured again, too, since pairs are of one round")
  func disturbedPair() throws {
    let played = play(plan) {
      let isStolen = $0.target.name == "b" && $0.load.label == "closed-8" && $0.replicate == 2
      return replicate(
        $0, microseconds: $0.target.name == "a" ? 10 : 1000, invalid: isStolen ? [.steal] : [])
    }
    #expect(played.end == .answered)
    #expect(played.rounds.dropFirst(6).first == ["a closed-8 7", "b closed-8 7"])
    let rows = played.document.comparisons.filter { $0.metric == "response_p50_us" }
    #expect(rows.count == 2 && rows.allSatisfy { $0.ratioLow != nil })
  }

  @Test("A condition of which every replicate is broken is not tried again after the second")
  func broken() {
    let played = play(plan) {
      replicate($0, microseconds: 100, invalid: $0.target.name == "b" ? [.pluginCrashed] : [])
    }
    #expect(played.rounds.count == 6 && played.end == .answered)
    #expect(played.rounds[2] == ["a closed-1 3", "a closed-8 3"])
  }

  @Test("A condition whose replicates agree on a trend is measured anew with twice the warm-up, once")
  func warmup() {
    let alone = Plan(name: "p", targets: [target("a")], loads: [.closed(concurrency: 1)])
    var warmups: [Double] = []
    let played = play(alone) { step in
      warmups.append(step.warmupSeconds)
      return replicate(
        step, microseconds: 100, windows: step.warmupSeconds < 2 ? [1, 2, 3, 4, 5, 6] : [3, 2, 4, 3, 2, 4])
    }
    #expect(warmups == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    #expect(played.end == .answered)
    let marked = played.document.measurements.filter { $0.has(.shortWarmup) }
    #expect(marked.count == 6 && played.document.isValid)
  }

  @Test("A condition with a trend keeps its replicates where no time is left to measure it anew")
  func warmupWithoutTime() {
    let alone = Plan(name: "p", targets: [target("a")], loads: [.closed(concurrency: 1)])
    // Six replicates take 15 s, and six with twice the warm-up 21 s.
    let played = play(alone, budgetSeconds: 35) { step in
      replicate(step, microseconds: 100, windows: [1, 2, 3, 4, 5, 6])
    }
    let measurements = played.document.measurements
    #expect(measurements.count == 6 && !measurements.contains { $0.has(.shortWarmup) })
    #expect(!played.document.isValid && measurements.allSatisfy { $0.has(.neverSteady) })
  }

  @Test(
    "A condition that is measured anew too few times is judged by all its replicates",
    arguments: [
      (later: [1, 2, 3, 4, 5, 6], isSteady: false), (later: [6, 5, 4, 3, 2, 1], isSteady: true),
    ] as [(later: [UInt64], isSteady: Bool)])
  func warmupBeyondReach(later: [UInt64], isSteady: Bool) {
    let alone = Plan(name: "p", targets: [target("a")], loads: [.closed(concurrency: 1)])
    // Of the 12 rounds that are left, five are undisturbed.
    let played = play(alone) { step in
      let isNew = step.warmupSeconds > 1
      let isStolen = isNew && step.replicate > 11
      return replicate(
        step, microseconds: 100, invalid: isStolen ? [.steal] : [],
        windows: isNew ? later : [1, 2, 3, 4, 5, 6])
    }
    let measurements = played.document.measurements
    #expect(played.end == .mostRounds && measurements.count == 18)
    #expect(!measurements.contains { $0.has(.shortWarmup) })
    #expect(measurements.count { !$0.isDisturbed } == 11)
    #expect(played.document.isValid == isSteady)
  }

  @Test("A disturbed replicate does not wait for what is measured anew")
  func disturbedBesideAnew() throws {
    let played = play(plan, budgetSeconds: 115) { step in
      let isStolen = step.load.label == "closed-1" && step.target.name == "b" && step.replicate == 6
      var one = openAndRising(step)
      if isStolen { one.invalidReasons = [InvalidReason(code: .steal, detail: "d")] }
      return one
    }
    try #require(played.rounds.count > 9)
    #expect(played.rounds[6...7].map(\.count) == [4, 4])
    #expect(played.rounds[8] == ["a closed-8 9", "b closed-8 9"])
  }

  @Test("Other open questions are measured beside what is measured anew as far as the time lasts")
  func questionsBesideAnew() throws {
    // Six rounds take 60 s, six of one load another 30 s, and two of the other 10 s.
    let played = play(plan, budgetSeconds: 105, measure: openAndRising)
    try #require(played.rounds.count > 9)
    #expect(played.rounds[6..<10].map(\.count) == [4, 4, 2, 2])
    #expect(played.rounds[8] == ["a closed-8 9", "b closed-8 9"])
  }

  @Test("A condition that is disturbed to the end ends the run at its last round, with little time left too")
  func disturbedToTheEnd() {
    // Six rounds take 60 s, and six of two conditions another 30 s.
    let played = play(plan, budgetSeconds: 100) { step in
      let isStolen = step.load.label == "closed-8" && step.target.name == "b"
      return replicate(
        step, microseconds: step.target.name == "a" ? 100 : 1000, invalid: isStolen ? [.steal] : [])
    }
    #expect(played.end == .mostRounds && played.rounds.count == 12)
    #expect(played.rounds[11] == ["b closed-8 12", "a closed-8 12"])
  }

  @Test("What is measured anew goes before other open questions where the time does not last for all")
  func warmupBeforeOtherQuestions() throws {
    // Six rounds take 60 s, six of both loads another 60 s, and six of one load half of that.
    let played = play(plan, budgetSeconds: 100, measure: openAndRising)
    try #require(played.rounds.count > 11)
    for round in 6..<12 {
      #expect(Set(played.rounds[round]) == ["a closed-8 \(round + 1)", "b closed-8 \(round + 1)"])
    }
    let rows = played.document.comparisons.filter {
      $0.condition == "closed-8" && $0.metric == "response_p50_us"
    }
    #expect(rows.map(\.verdict) == [.different])
  }

  @Test("The budget ends a run before a round that it would not last for")
  func budget() {
    let played = play(plan, budgetSeconds: 35) { replicate($0, microseconds: 100) }
    #expect(played.rounds.count == 3 && played.end == .budget)
    // A round of two conditions takes half as long.
    let later = play(plan, budgetSeconds: 70, measure: openUnderOneLoad)
    #expect(later.rounds.count == 8 && later.end == .budget)
  }

  @Test("A time budget has a unit and is at most a day")
  func timeBudget() throws {
    #expect(try RunOptions.seconds("90s") == 90 && RunOptions.seconds("1.5m") == 90)
    for text in ["", "10", "m", "-1m", "25h", "0s", "1d"] {
      #expect(throws: (any Error).self, "\(text)") { try RunOptions.seconds(text) }
    }
  }

  @Test("The time left includes the rest of this measurement and all later ones")
  func timeLeft() {
    let progress = ProgressLine(quiet: true)
    progress.begin(place: 0, of: 3, secondsEach: 30, "ffi closed-1", now: 0)
    #expect(progress.line("warm-up", now: 10_000_000_000) == "[1/3] ffi closed-1  warm-up  1:20 left")
    // One that takes longer than planned takes nothing from the others' time.
    #expect(progress.line("warm-up", now: 99_000_000_000).hasSuffix("1:00 left"))
  }
}

@Suite("A sweep")
struct SweepTests {
  @Test("Numbers are listed or doubled, and anything else is refused")
  func numbers() {
    #expect(SweepCommand.numbers("8", in: 1...64) == [8])
    #expect(SweepCommand.numbers("4,1,2,4", in: 1...64) == [1, 2, 4])
    #expect(SweepCommand.numbers("1..64", in: 1...64) == [1, 2, 4, 8, 16, 32, 64])
    #expect(SweepCommand.numbers("3..20", in: 1...64) == [3, 6, 12, 20])
    for text in ["", "0", "65", "8..4", "1..2..3", "x", "1,,2", "1..128"] {
      #expect(SweepCommand.numbers(text, in: 1...64) == nil, "\(text)")
    }
  }

  @Test("The loads are the requests in flight, each target can have them, and old conditions are dropped")
  func plan() throws {
    let sweep = try SweepCommand.parse(["s.yaml", "--in-flight", "1,2048"])
    let plan = Plan(name: "compare", targets: [target("a")], loads: [.closed(concurrency: 1)])
    let swept = try sweep.swept(plan)
    #expect(swept.name == "compare-sweep")
    #expect(swept.targets.map(\.loads) == [[.closed(concurrency: 1), .closed(concurrency: 2048)]])
    #expect(swept.targets[0].maxInFlight == 2048)
    #expect(swept.expectations.isEmpty)
  }

  @Test(
    "A wrong argument is named with what it must be",
    arguments: ["--in-flight", "--workers", "--connections", "--slo"])
  func wrong(argument: String) throws {
    let error = #expect(throws: (any Error).self) { try SweepCommand.parse(["s.yaml", argument, "many"]) }
    #expect(SweepCommand.message(for: try #require(error)).hasPrefix("\(argument) must be"))
  }
}

@Suite("The search for the highest rate that keeps an objective")
struct ObjectiveSearchTests {
  private static let level = ServiceLevel(metric: "response_p50_us", microseconds: 1000)

  /// Searches to the end; `serves` says of a rate and a replicate whether it keeps the objective, nil where a
  /// disturbance hides that. Closed loads reach 20,000 requests a second.
  private func search(
    closedLoads: Int = 1, confirms: Bool = true, objective: ServiceLevel? = Self.level,
    serves: (Double, Int) -> Bool?
  ) -> RunDocument {
    var subject = target("a")
    subject.objective = objective
    let plan = Plan(name: "p", targets: [target("other"), subject], loads: [.closed(concurrency: 1)])
    var run = RunDocument(
      runID: "r", toolVersion: "0", commandLine: [], scenario: plan, machine: MachineFacts(),
      started: UTCSecond(epochSeconds: 0))
    run.measurements = (0..<closedLoads).map {
      replicate(Step(target: subject, load: .closed(concurrency: 1), replicate: $0 + 1), microseconds: 100)
    }
    let search = RateSearch(confirms: confirms)
    while let step = search.next(run) {
      #expect(step.isOfSearch && step.target.name == "a")
      guard run.measurements.count < 80 else {
        Issue.record("no end: \(names([step]))")
        break
      }
      var isServed: Bool? = true
      if case .open(let rate, _) = step.load { isServed = serves(rate, step.replicate) }
      var one = replicate(
        step, microseconds: step.load.isOpen ? (isServed == true ? 500 : 3000) : 100,
        invalid: isServed == nil ? [.steal] : [])
      if case .open(let rate, _) = step.load { one.offeredRatePerSecond = rate }
      one.search = true
      run.measurements.append(one)
    }
    run.judge()
    return run
  }

  private func result(_ run: RunDocument) throws -> ObjectiveResult {
    try #require(run.objectives?.first { $0.target == "a" })
  }

  @Test(
    "begins at half of what closed loads reach, and closes in within eight tries",
    arguments: [1400.0, 10_600, 18_000])
  func closesIn(capacity: Double) throws {
    let run = search(confirms: false) { rate, _ in rate <= capacity }
    let rates = run.measurements.compactMap(\.offeredRatePerSecond)
    #expect(rates.first == 10_000 && rates.count <= 8)
    let best = try #require(try result(run).rate?.ratePerSecond)
    #expect(best <= capacity && best > capacity * 0.9, "\(rates)")
  }

  @Test(
    "tries a rate three times of which nothing can be said, and then what lies under it, as its answer does",
    arguments: [(9000.0, 12_000.0), (11_000, 14_000)])
  func hidden(lastServed: Double, firstFailed: Double) throws {
    let run = search { rate, _ in rate <= lastServed ? true : rate >= firstFailed ? false : nil }
    let found = try result(run)
    let (rate, above) = (try #require(found.rate), try #require(found.above))
    #expect(found.verdict == .atLeast && rate.held == 6 && rate.ratePerSecond <= lastServed)
    #expect(above.said == 0 && above.measured == 3 && above.ratePerSecond < firstFailed)
    #expect(above.ratePerSecond / rate.ratePerSecond <= 1.06)
    let trials = RateBracket(run.measurements, "a", Self.level).trials
    #expect(trials.contains { $0.said == 0 })
    #expect(
      trials.allSatisfy { $0.measured == ($0.said == 0 ? 3 : $0.ratePerSecond == rate.ratePerSecond ? 6 : 1) }
    )
  }

  @Test("tries no rate that gives too few samples for a percentile")
  func samples() throws {
    let level = ServiceLevel(metric: "response_p99_us", microseconds: 1000)
    let run = search(objective: level) { _, _ in false }
    let rates = run.measurements.compactMap(\.offeredRatePerSecond)
    let lowest = try #require(rates.min())
    #expect(lowest * run.scenario.measureSeconds >= 1000 && lowest > 200, "\(rates)")
    #expect(try result(run).verdict == .notHeld)
  }

  @Test("ends with six replicates of the highest rate that keeps it, and of the next one that does not")
  func found() throws {
    let run = search { rate, _ in rate <= 9000 }
    let found = try result(run)
    let (rate, above) = (try #require(found.rate), try #require(found.above))
    #expect(found.verdict == .held)
    #expect(rate.ratePerSecond <= 9000 && above.ratePerSecond > 9000)
    #expect(above.ratePerSecond / rate.ratePerSecond <= 1.06)
    #expect(rate.held == 6 && rate.said == 6 && above.held == 0 && above.said == 6)
    #expect(run.measurements.count <= 1 + 8 + 10)
  }

  @Test("steps down from a rate that does not keep it when it is measured again")
  func stepsDown() throws {
    let found = try result(search { rate, replicate in rate <= (replicate == 1 ? 12_000 : 9000) })
    let (rate, above) = (try #require(found.rate), try #require(found.above))
    #expect(found.verdict == .held && rate.held == 6 && rate.ratePerSecond <= 9000)
    #expect(rate.ratePerSecond > 8000 && above.said == 6 && above.held < 6)
  }

  @Test("says when everything holds up to what closed loads reach, and when nothing does")
  func ends() throws {
    let all = try result(search { _, _ in true })
    #expect(all.verdict == .unbounded && all.rate?.ratePerSecond == 20_000 && all.rate?.held == 6)
    let none = try result(search { _, _ in false })
    #expect(none.verdict == .notHeld && none.rate == nil && none.above?.said == 6)
    #expect((none.above?.ratePerSecond ?? 0) <= 400)
  }

  @Test("confirms nothing in a short look, and searches nothing without an objective")
  func short() throws {
    let quick = search(confirms: false) { rate, _ in rate <= 9000 }
    #expect(try result(quick).verdict == .unconfirmed && quick.measurements.allSatisfy { $0.replicate == 1 })
    let none = search(objective: nil) { _, _ in true }
    #expect(none.measurements.count == 1 && none.objectives == nil)
  }

  @Test("measures a closed load first where the scenario has none, and a disturbed replicate again")
  func beginnings() throws {
    let run = search(closedLoads: 0) { rate, replicate in replicate == 1 ? nil : rate <= 9000 }
    #expect(run.measurements.first?.load == "closed-64")
    let found = try result(run)
    #expect(found.verdict == .held && found.rate?.held == 6 && found.rate?.measured == 7)
    let hopeless = try result(search { _, _ in nil })
    #expect(hopeless.verdict == .notSearched && hopeless.above?.doubt == "steal")
  }
}

@Suite("Claims on a plan's targets")
struct ClaimCheckTests {
  private func spec(
    _ role: ClaimSpec.Role, against: ClaimSpec.Role? = nil, notMeasured: String? = nil
  ) -> ClaimSpec {
    ClaimSpec(
      id: "c", document: "d.md", line: 1, words: "w", low: 1, high: 2, unit: .milliseconds,
      metric: "response_p50_us",
      better: .lower, target: role, against: against,
      conditions: [ClaimSpec.Condition(circumstance: .unloaded, load: "closed-1")], notMeasured: notMeasured)
  }

  private func plan(_ targets: [Target]) -> Plan {
    Plan(name: "p", targets: targets, loads: [.closed(concurrency: 1)])
  }

  @Test("A claim is checked on whole sessions, and apart from them on single phases")
  func ways() {
    let checks = ClaimCheck.all(
      [spec(.ffi)], plan: plan([target("all"), target("one", phases: [.requestFilter]), pool("nats")]))
    #expect(checks.map(\.id) == ["c", "c-per-phase"])
    #expect(checks.map { $0.conditions.map(\.target) } == [["all"], ["one"]])
    #expect(checks.allSatisfy { $0.notMeasured == nil })
  }

  @Test("A claim that nothing can be measured for says why")
  func missing() {
    let only = plan([target("ffi")])
    #expect(
      ClaimCheck.all([spec(.nats)], plan: only)[0].notMeasured?.contains("no nats target") == true)
    #expect(
      ClaimCheck.all([spec(.ffi, notMeasured: "needs X")], plan: only)[0].notMeasured == "needs X")
    let alone = ClaimCheck.all([spec(.ffi, against: .nats)], plan: plan([target("ffi")]))
    #expect(alone[0].notMeasured?.contains("no nats target with the same phases") == true)
  }

  @Test(
    "The user's targets take the example's places with their own plugins, and keep those loads and phases")
  func substitution() throws {
    var subject = target("mine")
    subject.handler = "auth"
    subject.verify = Verification(status: 200)
    var plan = plan([target("all"), target("one", phases: [.requestFilter]), pool("nats")])
    try ClaimsCommand.substitute(self.plan([subject]), ffi: nil, nats: nil, into: &plan)
    // Without a NATS target of the user's there is none to test.
    #expect(plan.targets.map(\.name) == ["all", "one"])
    #expect(plan.targets.map(\.handler) == ["auth", "auth"])
    #expect(plan.targets.map { $0.verify.isEmpty } == [false, true])
    #expect(throws: ScenarioError.self) {
      try ClaimsCommand.substitute(self.plan([subject]), ffi: "other", nats: nil, into: &plan)
    }
  }
}

@Suite("Exit codes")
struct ExitReasonTests {
  private struct Unknown: Error {}

  @Test("An error ends a command with the code that is promised for it")
  func errors() {
    func code(_ error: any Error) -> Int32 { ExitReason(error).rawValue }
    #expect(code(ScenarioError(problems: [])) == 65)
    #expect(code(LabError.invalid("x", remedy: "y")) == 65)
    #expect(code(LabError.missing("x", remedy: "y")) == 69)
    #expect(code(LabError.system("x", errno: 1)) == 1)
    #expect(code(LoadFailure(kind: .missing, message: "m")) == 69)
    #expect(code(LoadFailure(kind: .scenario, message: "m")) == 65)
    #expect(code(LoadFailure(kind: .failed, message: "m")) == 1)
    #expect(code(RunFolderError(kind: .invalid, path: "p", problem: "x", remedy: "y")) == 65)
    #expect(code(RunFolderError(kind: .unwritable, path: "p", problem: "x", remedy: "y")) == 1)
    #expect(code(CountsDoNotClose(description: "d")) == 70)
    #expect(code(ExitReason.inconclusive) == 82)
    #expect(code(Unknown()) == 1)
  }

  private func document(
    _ verdicts: [ClaimVerdict.Verdict] = [], isValid: Bool = true, interrupted: Bool = false
  ) -> RunDocument {
    var document = RunDocument(
      runID: "r", toolVersion: "0", commandLine: [],
      scenario: Plan(name: "p", targets: [target("a")], loads: [.closed(concurrency: 1)]),
      machine: MachineFacts(), started: UTCSecond(epochSeconds: 0))
    document.interrupted = interrupted
    document.measurements = [
      Measurement(
        target: "a", transport: .ffi, handler: "", load: "closed-1", concurrency: 1, payloadBytes: 0,
        replicate: 1, durationSeconds: 1,
        invalidReasons: isValid ? [] : [InvalidReason(code: .workerDied, detail: "d")])
    ]
    document.claims = verdicts.map {
      ClaimVerdict(of: BehaviourSpec(id: "i", document: "d", line: 1, words: "w"), $0, why: "")
    }
    return document
  }

  @Test("Verdicts decide with --gate only, an interruption before all, an invalid condition last")
  func runs() {
    func code(_ document: RunDocument, gate: Bool = true) -> Int32 {
      Outcome.reason(document, gate: gate)?.rawValue ?? 0
    }
    #expect(code(document([.holds])) == 0)
    #expect(code(document([.fails]), gate: false) == 0)
    #expect(code(document([.inconclusive, .worse])) == 80)
    #expect(code(document([.holds, .inconclusive])) == 82)
    #expect(code(document([.holds], isValid: false)) == 81)
    #expect(code(document([.fails], isValid: false)) == 80)
    #expect(code(document([.fails], isValid: false, interrupted: true)) == 130)
  }

  @Test("Reasons are listed once for a condition, and for each replicate only with details")
  func reasons() {
    var run = document()
    func measured(_ target: String, _ codes: [InvalidReason.Code?]) -> [Engine.Measurement] {
      codes.enumerated().map { place, code in
        var one = run.measurements[0]
        (one.target, one.replicate) = (target, place + 1)
        one.invalidReasons = code.map { [InvalidReason(code: $0, detail: "d\(place + 1)")] } ?? []
        return one
      }
    }
    run.measurements =
      measured("a", [.saturated, .steal, nil, nil, nil]) + measured("b", [nil, .saturated, .saturated])
      + measured("c", [nil, .workerDied]) + measured("d", [.steal])
    #expect(
      Outcome.reasons(run, all: false)
        == [
          "b  2 of 3 replicates: saturated: d2", "invalid: c  #2: worker_died: d2",
          "disturbed: d  #1: steal: d1",
        ].map { $0.replacing("  ", with: " closed-1 ") })
    #expect(Outcome.reasons(run, all: true).count == 6)
  }
}

@Suite("Calibration")
struct CalibrationTests {
  @Test("Programs are measured A B, then B A, and each keeps its own samples in the order of rounds")
  func turns() throws {
    var calls = ""
    func program(_ name: String) -> () throws -> Sample {
      {
        calls += name
        return [.rate: Double(calls.count)]
      }
    }
    let samples = try Calibration.inTurn(rounds: 3, [program("a"), program("b")])
    #expect(calls == "abbaab")
    #expect(samples.map { $0.compactMap { $0[.rate] } } == [[1, 4, 5], [2, 3, 6]])
  }

  private func row(_ inFlight: Double, bare: [Double], peer: [Double], p50: Double = 1) -> CalibrationRow {
    CalibrationRow(
      facts: ["in_flight": inFlight], bare: bare.map { [.rate: $0, .p50: 100] },
      peer: peer.map { [.rate: $0, .p50: 100 * p50, .allocated: 0] })
  }

  @Test("A ratio is the median of the rounds' ratios; without figures there is none")
  func ratio() {
    // The machine was slower by half in the last round, for both.
    #expect(row(64, bare: [100, 100, 50], peer: [90, 80, 45]).ratio(.rate)?.ratio == 0.9)
    #expect(row(64, bare: [100, 100], peer: [90, 90]).ratio(.lateness) == nil)
    #expect(row(64, bare: [0], peer: [90]).ratio(.rate) == nil)
  }

  @Test("Goals of what was measured are reached or not; one without a figure is neither")
  func goals() {
    var result = CalibrationResult(rounds: 1, secondsEach: 1)
    #expect(result.judged().isEmpty)
    result.nats = .nats([
      row(1, bare: [100], peer: [100], p50: 1.2), row(64, bare: [100], peer: [96]),
      row(256, bare: [100], peer: [80]),
    ])
    result.memory = CalibrationResult.Memory(inFlight: 2048)
    let goals = result.judged()
    #expect(goals.map(\.isReached) == [false, true, true, true, nil])
    #expect(goals.map(\.isAimReached) == [false, true, false, true, nil])
  }

  @Test("The JSON has a row's facts, both figures and their ratio, by their promised names")
  func json() throws {
    var result = CalibrationResult(rounds: 1, secondsEach: 1)
    result.nats = .nats([row(64, bare: [100], peer: [90])])
    result.natsLibnatsTuned = .libnats("tuned", [row(64, bare: [100], peer: [70])])
    result.worker = .worker(row(256, bare: [100], peer: [80]))
    let json = try JSONSerialization.jsonObject(with: Data(try RunJSON.text(result).utf8)) as? [String: Any]
    let nats = try #require((json?["nats"] as? [[String: Double]])?.first)
    #expect(
      nats == [
        "in_flight": 64, "bare_rps": 100, "engine_rps": 90, "ratio": 0.9, "bare_p50_us": 100,
        "engine_p50_us": 100, "p50_ratio": 1, "allocated_bytes": 0,
      ])
    #expect((json?["nats_libnats_tuned"] as? [[String: Double]])?.first?["libnats_rps"] == 70)
    #expect((json?["worker"] as? [String: Double])?["worker_rps"] == 80)
    #expect(json?["ffi"] == nil)
  }
}
