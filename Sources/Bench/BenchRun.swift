import Engine
import Foundation
import Lab
import Report
import Results
import Scenario

/// Runs all measurements of a plan and keeps them in a run folder.
final class BenchRun {
  private let plan: Plan
  private let options: RunOptions
  private let progress: ProgressLine
  private let trap: SignalTrap
  private let lab: Workbench
  /// What is known so far; a command may note in it what the run is for.
  var document: RunDocument
  private let folder: RunFolder
  /// Documented claims to be judged on the run.
  var checks: [ClaimCheck] = []
  /// Documented promises that are no figures, tried after the measurements.
  var promises: [BehaviourSpec] = []
  /// What to measure after the plan, when that depends on what was measured; nil ends it.
  var following: (RunDocument) -> (target: Target, load: LoadShape)? = { _ in nil }
  /// False when the scenario's targets are not loaded: only promises are tried.
  var measuresTargets = true

  /// Checks what can be checked before a load: plugins, the broker, the results folder.
  init(plan: Plan, options: RunOptions) throws {
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
      machine: machine, started: started)
    document.warnings = plan.warnings
  }

  /// Measures everything; what was measured is saved after each measurement and at any end.
  func execute() throws -> RunDocument {
    defer { lab.tearDown() }
    do {
      let steps = measuresTargets ? Step.all(of: plan) : []
      try measureBaseline(steps: steps.count)
      try measure(steps)
      try tryPromises()
    } catch {
      progress.clear()
      // When it cannot be saved either, the error that is told says so.
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
    if !options.quiet { Console.error("results: \(folder.path)") }
    return document
  }

  /// Saves the run as ended. False when it has nothing, and then goes: an empty run folder would only mislead.
  private func end(interrupted: Bool) throws -> Bool {
    if interrupted, document.measurements.isEmpty, document.behaviours?.isEmpty != false {
      try? FileManager.default.removeItem(atPath: folder.path)
      return false
    }
    document.interrupted = interrupted
    document.ended = UTCSecond()
    try save()
    return true
  }

  private func save() throws {
    document.judge()
    document.claims = []
    if !checks.isEmpty {
      document.claims = ClaimEvaluator.verdicts(checks, measurements: document.measurements, seed: plan.seed)
      document.implied = ImpliedPair.pairs(checks, measurements: document.measurements)
    }
    document.claims += Promises.verdicts(promises, results: document.behaviours ?? [])
    try folder.save(document)
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

  /// Makes the planned measurements, and then those that follow from them.
  private func measure(_ steps: [Step]) throws {
    for place in 0... {
      let step =
        place < steps.count
        ? steps[place] : following(document).map { Step(target: $0.target, load: $0.load, replicate: 1) }
      guard !trap.isSprung, let step else { return }
      progress.begin(
        place: place, of: max(steps.count, place + 1),
        secondsEach: plan.warmupSeconds + plan.measureSeconds + 1,
        "\(step.target.name) \(step.load.label) #\(step.replicate)")
      try measure(step)
      try save()
    }
  }

  private func measure(_ step: Step) throws {
    var measurement = try lab.measure(
      target: step.target, load: step.load, replicate: step.replicate,
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
    let name = "\(measurement.target) \(measurement.load)"
    if options.verbose {
      progress.clear()
      for reason in measurement.invalidReasons { Console.error("invalid: \(name): \(reason)") }
      for warning in measurement.warnings { Console.error("warning: \(name): \(warning)") }
    }
    for scope in measurement.scopes where !scope.counts.closes {
      throw CountsDoNotClose(
        description: "internal error: \(measurement.target) under \(measurement.load), \(scope.scope): "
          + "\(scope.counts.sent) sent but \(scope.counts.ended) ended. "
          + "The run is saved; please report it with its run.json.")
    }
  }

  /// Tries the documented promises one after the other; each is saved as soon as it is known.
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

/// The sum of all ends is not the number of requests, which is a defect of nylon-bench.
struct CountsDoNotClose: Error, CustomStringConvertible { let description: String }

struct Step {
  let target: Target
  let load: LoadShape
  let replicate: Int

  /// The measurements of a plan in their order: for each replicate and load the targets in turn, A B then
  /// B A, so that drift cancels.
  static func all(of plan: Plan) -> [Step] {
    let mostLoads = plan.targets.map(\.loads.count).max() ?? 0
    return (1...max(1, plan.replicates)).flatMap { replicate in
      (0..<mostLoads).flatMap { place in
        let targets = replicate % 2 == 1 ? plan.targets : plan.targets.reversed()
        return targets.filter { place < $0.loads.count }.map {
          Step(target: $0, load: $0.loads[place], replicate: replicate)
        }
      }
    }
  }
}
