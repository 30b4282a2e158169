import Foundation
import Lab
import Engine
import Results
import Report
import Scenario

/// Runs all measurements of a plan and keeps them in a run folder.
final class BenchRun {
  private let plan: Plan
  private let options: any RunOptions
  private let progress: ProgressLine
  private let trap: SignalTrap
  private var lab: Workbench
  private var document: RunDocument
  private let folder: RunFolder
  /// Documented claims to be judged on the run.
  var checks: [ClaimCheck] = []
  /// What is known about where they come from.
  var origins: [ClaimOrigin] = []
  /// Documented promises that are no figures, tried after the measurements.
  var promises: [BehaviourSpec] = []
  /// What to measure after the plan, when that depends on what was measured; nil ends it.
  var following: ((RunDocument) -> (target: Target, load: LoadShape)?)?
  /// False when the scenario's targets are not loaded: only promises are tried.
  var measuresTargets = true

  /// Checks what can be checked before a load: plugins, the broker, the results folder.
  init(plan: Plan, options: some RunOptions) throws {
    self.plan = plan
    self.options = options
    progress = ProgressLine(isDrawn: Console.drawsProgress && !options.quiet, verbose: options.verbose)
    for warning in plan.warnings where !options.quiet { Console.error("warning: \(warning)") }
    trap = try SignalTrap()
    lab = try Workbench(plan: plan)
    let started = UTCSecond()
    folder = try RunFolder.create(in: options.out, scenario: plan.name, at: started)
    var machine = MachineFacts.read(optimisedBuild: ToolVersion.isOptimised, versions: ToolVersion.all)
    machine.fitness = Doctor.fitness(machine)
    document = RunDocument(
      runID: folder.runID, toolVersion: ToolVersion.current,
      commandLine: CommandLine.arguments.map(Redaction.argument), scenario: plan.redacted(),
      scenarioSHA256: SHA256Text.ofFile(plan.file), plugins: lab.pluginFiles, seed: plan.seed,
      machine: machine,
      started: started)
    document.warnings = plan.warnings
    document.equivalence = options.equivalence / 100
  }

  /// The level that a search compares rates with.
  var serviceLevel: ServiceLevel? {
    get { document.serviceLevel }
    set { document.serviceLevel = newValue }
  }

  /// Measures everything; what was measured is saved after each measurement and at any end.
  func execute() throws -> RunDocument {
    defer { lab.tearDown() }
    do {
      var rounds = Rounds(plan: plan, budgetSeconds: options.budgetSeconds)
      let conditions = measuresTargets ? rounds.nextRound().count : 0
      try measureBaseline(steps: conditions * plan.replicates)
      if measuresTargets { try measureRounds(&rounds) }
      try measureFollowing(planned: document.measurements.count)
      try tryPromises()
    } catch {
      progress.clear()
      try keepWhatThereIs()
      throw error
    }
    progress.clear()
    if trap.isSprung, hasNothing {
      try? FileManager.default.removeItem(atPath: folder.path)
      Console.error("Interrupted before anything was measured.")
      throw ExitReason.interrupted
    }
    document.interrupted = trap.isSprung
    document.ended = UTCSecond()
    document = judged()
    try folder.save(document)
    if !options.quiet { Console.error("results: \(folder.path)") }
    return document
  }

  /// Plans that take less than this do without the baseline, which would take as long as they do.
  private static let secondsWorthABaseline = 20.0

  /// Measures this machine's own baseline before the loads, in the same run.
  private func measureBaseline(steps: Int) throws {
    let seconds = Double(steps) * (plan.warmupSeconds + plan.measureSeconds)
    guard seconds >= Self.secondsWorthABaseline, !options.quick, !trap.isSprung else { return }
    let calibration = Calibration(rounds: 3, seconds: 0.3) { [progress] in progress.say("baseline: \($0)") }
    document.baseline = try calibration.machineBaseline(transports: Set(plan.targets.map(\.transport.name)))
  }

  /// Measures round by round until every question is answered, the rounds are made or the time is spent.
  private func measureRounds(_ rounds: inout Rounds) throws {
    let begun = MonotonicClock.nanoseconds
    var end: Rounds.End?
    while end == nil, !trap.isSprung {
      let steps = rounds.nextRound()
      let left = steps.count * max(1, plan.replicates - rounds.made)
      progress.plan(count: left, secondsEach: plan.warmupSeconds + plan.measureSeconds + 1)
      for (place, step) in steps.enumerated() where !trap.isSprung {
        progress.begin(
          place: place,
          label: "round \(step.replicate) of \(plan.roundsText)\(rounds.answered): "
            + "\(step.target.name) \(step.load.label)")
        try measure(step)
      }
      let seconds = Double(MonotonicClock.nanoseconds - begun) / 1e9
      end = rounds.finishRound(&document, checks: checks, elapsedSeconds: seconds)
      try folder.save(judged())
    }
    document.rounds = RoundsMade(
      made: rounds.made, open: rounds.questions.count(where: \.isOpen), questions: rounds.questions.count,
      end: end.map { "\($0)" })
  }

  private func measureFollowing(planned: Int) throws {
    var count = planned
    while !trap.isSprung, let next = following?(document) {
      count += 1
      progress.plan(count: count, secondsEach: plan.warmupSeconds + plan.measureSeconds + 1)
      progress.begin(place: count - 1, label: "\(next.target.name) \(next.load.label)")
      try measure(
        Step(target: next.target, load: next.load, replicate: 1, warmupSeconds: plan.warmupSeconds))
      try folder.save(judged())
    }
  }

  private var hasNothing: Bool { document.measurements.isEmpty && document.behaviours?.isEmpty != false }

  /// Tries the documented promises one after the other; each is saved as soon as it is known.
  private func tryPromises() throws {
    guard !promises.isEmpty else { return }
    let bench = PromiseBench(plan: plan, isQuick: options.quick, trap: trap)
    try Promises.run(
      promises, bench: bench,
      onStart: { place, count, name in
        progress.plan(count: count, secondsEach: options.quick ? 2 : 4)
        progress.begin(place: place, label: name)
      },
      onResult: { result in
        document.behaviours = (document.behaviours ?? []) + [result]
        if options.verbose {
          progress.clear()
          Console.error("\(result.verdict.rawValue): \(result.test): \(result.why)")
        }
        try folder.save(judged())
      })
  }

  private func keepWhatThereIs() throws {
    document.ended = UTCSecond()
    document.interrupted = true
    if hasNothing {
      // Nothing was measured: an empty run folder would only mislead.
      try? FileManager.default.removeItem(atPath: folder.path)
    } else {
      // When this cannot be saved either, the error that is told says so.
      guard (try? folder.save(judged())) != nil else { return }
      Console.error("What was measured before the error is in \(folder.path).")
    }
  }

  private func judged() -> RunDocument {
    var judged = document
    judged.judge()
    judged.judgeClaims(checks)
    if !checks.isEmpty { judged.origins = origins }
    judged.claims += Promises.verdicts(promises, results: judged.behaviours ?? [])
    return judged
  }

  private func measure(_ step: Step) throws {
    var measurement = try lab.measure(
      target: step.target, load: step.load, replicate: step.replicate, warmupSeconds: step.warmupSeconds,
      onGlance: { [trap, progress] glance in
        progress.show(glance)
        return !trap.isSprung
      })
    if trap.isSprung {
      measurement.invalidReasons.append(
        InvalidReason(code: .interrupted, detail: "interrupted after \(measurement.durationSeconds) s"))
    }
    document.measurements.append(measurement)
    document.links = lab.linkMeasurements.isEmpty ? nil : lab.linkMeasurements
    if options.verbose { report(measurement) }
    try checkCounts(measurement)
  }

  private func report(_ measurement: Engine.Measurement) {
    progress.clear()
    for reason in measurement.invalidReasons {
      Console.error("invalid: \(measurement.target) \(measurement.load): \(reason)")
    }
    for warning in measurement.warnings {
      Console.error("warning: \(measurement.target) \(measurement.load): \(warning)")
    }
  }

  private func checkCounts(_ measurement: Engine.Measurement) throws {
    for scope in measurement.scopes where !scope.counts.closes {
      throw CountsDoNotClose(
        target: measurement.target, load: measurement.load, scope: scope.scope, sent: scope.counts.sent,
        ended: scope.counts.ended)
    }
  }
}
