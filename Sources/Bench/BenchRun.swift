import Engine
import Foundation
import Lab
import Nylon
import Report
import Results
import Scenario

/// Runs all measurements of a plan and saves them in a run folder.
final class BenchRun {
  private let plan: Plan
  private let options: RunOptions
  private let progress: ProgressLine
  private let trap: SignalTrap
  private let lab: Workbench
  /// The results so far. A command may add what the run is for.
  var document: RunDocument
  private let folder: RunFolder
  private var encoder = RunEncoder()
  var checks: [ClaimCheck] = []
  /// Documented promises that are not figures, tested before the measurements.
  var promises: [BehaviourSpec] = []
  /// The time limit of the whole run, seconds; nil for none. `--budget` limits the measurements alone.
  var totalSeconds: Double?
  /// The part of the whole run's limit that is kept for the steps after the rounds.
  private static let followingSeconds = 75.0
  /// Returns the next step after the plan, based on the results so far; nil ends the run.
  var following: (RunDocument) -> Step? = { _ in nil }
  /// Whether the scenario's targets are measured; false when only promises are tested.
  var measuresTargets = true

  /// Checks what can be checked before a load: the plugins, the broker and the results folder.
  init(plan: Plan, options: RunOptions) throws {
    self.plan = plan
    self.options = options
    progress = ProgressLine(quiet: options.quiet, verbose: options.verbose)
    for warning in plan.warnings where !options.quiet { Console.error("warning: \(warning)") }
    trap = try SignalTrap()
    lab = try Workbench(plan: plan)
    let started = UTCSecond()
    var machine = MachineFacts.read(
      optimisedBuild: ToolVersion.isOptimised, versions: ToolVersion.all, broker: plan.broker)
    machine.fitness = Doctor.fitness(machine)
    folder = try RunFolder.create(in: options.out, scenario: plan.name, at: started)
    document = RunDocument(
      runID: folder.runID, toolVersion: ToolVersion.current,
      commandLine: CommandLine.arguments.map(Redaction.argument), scenario: plan.redacted(),
      scenarioSHA256: plan.text.map { SHA256Text.of($0.utf8) } ?? SHA256Text.ofFile(plan.file),
      plugins: lab.pluginFiles, machine: machine, started: started)
    document.warnings = plan.warnings
    document.equivalence = options.equivalence / 100
    // Ignore a failure: a disk that is full now may have space when there are results to save.
    try? folder.begin(document)
  }

  /// Creates a run that also searches for the highest rate of each target with an objective.
  static func searching(plan: Plan, options: RunOptions) throws -> BenchRun {
    let run = try BenchRun(plan: plan, options: options)
    let search = RateSearch(confirms: !options.quick)
    run.following = { search.next($0) ?? Soak.next($0) }
    return run
  }

  /// Saves run.json after each measurement, and all files when the run ends.
  func execute() throws -> RunDocument {
    defer { lab.tearDown() }
    do {
      let started = MonotonicClock.nanoseconds
      // The promises come first, so that the measurements get all the time that is left.
      try tryPromises()
      var rounds = Rounds(plan: plan)
      let conditions = measuresTargets ? rounds.nextRound().count : 0
      try measureBaseline(steps: conditions * plan.replicates)
      let begun = MonotonicClock.nanoseconds
      let left = totalSeconds.map { $0 - Double(begun - started) / 1e9 }
      rounds.budgetSeconds = options.budget ?? left.map { max(0, $0 - Self.followingSeconds) }
      if measuresTargets { try measureRounds(&rounds) }
      try measureFollowing(since: begun, limitSeconds: left)
    } catch {
      progress.clear()
      // A failure to save is ignored: the original error is the one to report.
      if (try? end(interrupted: true)) == true {
        Console.error("What was measured before the error is in \(folder.path).")
      }
      throw error
    }
    progress.clear()
    guard try end(interrupted: trap.isSprung) else {
      Console.error("Interrupted before anything was measured.")
      throw ExitReason.interrupted
    }
    if !options.quiet {
      Console.error("results: \(folder.path)")
      if plan.text != nil { Console.error("rerun: nylon-bench run \(folder.path)/\(RunFolder.scenarioName)") }
    }
    return document
  }

  /// Saves the finished run. Returns false and removes the folder when an interrupted run has no results: an
  /// empty run folder would only mislead.
  private func end(interrupted: Bool) throws -> Bool {
    if interrupted, isEmpty {
      try? FileManager.default.removeItem(atPath: folder.path)
      return false
    }
    document.interrupted = interrupted
    document.ended = UTCSecond()
    try save(isLast: true)
    return true
  }

  /// Whether the run has no results yet: no request sent in a measured time, and no promise tested.
  private var isEmpty: Bool {
    document.behaviours?.isEmpty != false && document.measurements.allSatisfy { $0.counts.sent == 0 }
  }

  private func save(isLast: Bool = false) throws {
    // An empty run must not become the latest one: its next step may fail.
    if isEmpty, !isLast { return }
    document.judge(checks)
    document.claims += Promises.verdicts(promises, results: document.behaviours ?? [])
    try folder.save(document, json: try encoder.json(document), onlyRun: !isLast)
  }

  private func measureBaseline(steps: Int) throws {
    // Skip the baseline for short plans: it would take as long as the plan itself.
    let seconds = Double(steps) * (plan.warmupSeconds + plan.measureSeconds)
    // Nothing is compared with the baseline when all targets have faults.
    let isUsed = plan.targets.contains { $0.plannedFaults.isEmpty }
    guard seconds >= 20, isUsed, !options.quick, !trap.isSprung else { return }
    let calibration = Calibration(rounds: 3, seconds: 0.3, program: plan.broker) { [progress] in
      progress.say("baseline: \($0)")
    }
    document.baseline = try calibration.machineBaseline(transports: Set(plan.targets.map(\.transport.kind)))
  }

  /// Measures in rounds until every question is answered, the rounds are done or the budget is spent.
  private func measureRounds(_ rounds: inout Rounds) throws {
    let begun = MonotonicClock.nanoseconds
    var end: Rounds.End?
    while end == nil, !trap.isSprung {
      let steps = rounds.nextRound()
      for (place, step) in steps.enumerated() where !trap.isSprung {
        progress.begin(
          place: place, of: steps.count * max(1, plan.replicates - rounds.made),
          secondsEach: plan.warmupSeconds + plan.measureSeconds + 1,
          "round \(step.replicate) of \(plan.roundsText)\(rounds.answered): \(step.target.name) \(step.load.label)"
        )
        try measure(step)
        try save()
      }
      let seconds = Double(MonotonicClock.nanoseconds - begun) / 1e9
      end = rounds.finishRound(&document, checks: checks, elapsedSeconds: seconds)
    }
    document.rounds = RoundsMade(
      made: rounds.made, open: rounds.questions.count(where: \.isOpen), questions: rounds.questions.count,
      end: end.map { "\($0)" })
  }

  private func measureFollowing(since begun: UInt64, limitSeconds: Double?) throws {
    while !trap.isSprung, var next = following(document) {
      let limit = next.isOfSearch ? options.budget ?? limitSeconds : limitSeconds
      let seconds = Double(MonotonicClock.nanoseconds - begun) / 1e9
      if let limit, seconds > limit { return }
      // Targets in the document are redacted, so use the plan's target of that name.
      next.target = plan.targets.first { $0.name == next.target.name } ?? next.target
      next.warmupSeconds = plan.warmupSeconds
      if !document.scenario.targets.contains(where: { $0.name == next.target.name }) {
        document.scenario.targets.append(next.target.redacted())
      }
      progress.begin(
        place: document.measurements.count, of: document.measurements.count + 1,
        secondsEach: plan.warmupSeconds + (next.soakSeconds ?? plan.measureSeconds) + 1,
        "\(next.target.name) \(next.load.label)")
      try measure(next)
      try save()
    }
  }

  private func measure(_ step: Step) throws {
    var measurement = try lab.measure(
      target: step.target, load: step.load, replicate: step.replicate, warmupSeconds: step.warmupSeconds,
      soakSeconds: step.soakSeconds,
      onGlance: { [trap, progress] glance in
        progress.show(glance)
        return !trap.isSprung
      })
    if step.isOfSearch { measurement.search = true }
    if step.soakSeconds != nil { measurement.soak = true }
    if trap.isSprung {
      measurement.invalidReasons.append(
        InvalidReason(code: .interrupted, detail: "interrupted after \(measurement.durationSeconds) s"))
    }
    document.measurements.append(measurement)
    noteDialect(of: measurement)
    document.links = lab.linkMeasurements.isEmpty ? nil : lab.linkMeasurements
    let name = "\(measurement.target) \(measurement.load)"
    if options.verbose {
      progress.clear()
      for reason in measurement.invalidReasons { Console.error("invalid: \(name): \(reason)") }
      for warning in measurement.warnings { Console.error("warning: \(name): \(warning)") }
    }
    let open = measurement.scopes.first { !$0.counts.closes }.map {
      ", \($0.scope): \($0.counts.sent) sent but \($0.counts.ended) ended"
    }
    let defect = measurement.accounting?.defects(of: measurement).first
    guard let why = defect.map({ ": \($0)" }) ?? open else { return }
    throw CountsDoNotClose(
      description: "internal error: \(measurement.target) under \(measurement.load)\(why). "
        + "The run is saved; please report it with its run.json.")
  }

  /// Records the detected dialect of a target's workers in the run, and prints it once.
  private func noteDialect(of measurement: Engine.Measurement) {
    for place in document.scenario.targets.indices
    where document.scenario.targets[place].name == measurement.target {
      guard let spec = document.scenario.targets[place].nats, spec.dialect == nil,
        let dialect = lab.detectedDialects[measurement.target]
      else { continue }
      document.scenario.targets[place].nats?.dialect = dialect
      guard !options.quiet else { continue }
      progress.clear()
      Console.error("target '\(measurement.target)': its workers speak \(dialect.rawValue)")
    }
  }

  /// Tests the documented promises one after the other and saves each result as soon as it is known.
  private func tryPromises() throws {
    guard !promises.isEmpty else { return }
    try Promises.run(
      promises, bench: PromiseBench(plan: plan, isQuick: options.quick, trap: trap),
      onStart: { place, count, name in
        progress.begin(place: place, of: count, secondsEach: options.quick ? 2 : 4, name)
      },
      onResult: { result in
        document.behaviours = (document.behaviours ?? []) + [result]
        if options.verbose {
          progress.clear()
          Console.error("\(result.verdict.rawValue): \(result.test): \(result.why)")
        }
        try save()
      })
  }
}

/// The outcomes do not add up to the number of requests sent, which is a bug in nylon-bench.
struct CountsDoNotClose: Error, CustomStringConvertible { let description: String }
