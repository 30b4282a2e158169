import Results
import Scenario

/// What `claims` tests.
package enum ClaimsPart: String {
  case figures, behaviours
}

/// The command `claims`: every documented figure and promise, and the verdicts.
package enum Claims {
  /// - Parameters:
  ///   - scenario: the scenario of the user's own targets; nil for the example's.
  ///   - ffi: the name of the FFI target that is tested; nil for the first.
  ///   - nats: the name of the NATS target that is tested; nil for the first.
  ///   - headline: the scenario that says what is measured; nil for the one that comes with the package.
  ///   - claims: the file of claims; nil for the one that comes with the package.
  package static func run(
    scenario: String?, ffi: String?, nats: String?, headline: String?, claims: String?, only: ClaimsPart?,
    options: some RunOptions
  ) throws {
    let folder = try headline == nil || claims == nil ? PackageFiles.scenarios() : ""
    let file = claims ?? "\(folder)/claims.yaml"
    let specs = try ClaimsFile.load(path: file, metrics: SummaryRow.numericColumns)
    let promises = try BehavioursFile.load(path: file, tests: Promises.names)
    var plan = try ScenarioLoader.load(
      path: headline ?? "\(folder)/headline.yaml", options: options.loaderOptions)
    if scenario != nil || ffi != nil || nats != nil {
      var subjects = plan
      if let scenario {
        // --set is about what is measured; the subjects are as their file says.
        var loaderOptions = options.loaderOptions
        loaderOptions.overrides = []
        subjects = try ScenarioLoader.load(path: scenario, options: loaderOptions)
        plan.warnings += subjects.warnings
      }
      try substitute(subjects, ffi: ffi, nats: nats, into: &plan)
    }
    let run = try BenchRun(plan: plan, options: options)
    if only != .behaviours {
      run.checks = ClaimCheck.all(specs, plan: plan)
      run.origins = try ClaimsFile.origins(path: file, metrics: SummaryRow.numericColumns)
    }
    if only != .figures { run.promises = promises }
    run.measuresTargets = only != .behaviours
    let document = try run.execute()
    try Outcome.present(
      document, options: options,
      tables: [.claims, .behaviours, .implied, .network, .comparison, .results, .expectations])
  }

  /// Puts the targets of another plan, the named ones or the first, in the place of the example's.
  static func substitute(_ subjects: Plan, ffi: String?, nats: String?, into plan: inout Plan) throws {
    let inProcess = try subject(ffi, "--ffi", transport: "ffi", of: subjects)
    let pool = try subject(nats, "--nats", transport: "nats", of: subjects)
    plan.targets = plan.targets.compactMap { place in
      (place.transport.name == "ffi" ? inProcess : pool).map { place.filled(by: $0) }
    }
    plan.request = subjects.request
    plan.threads = subjects.threads
    plan.connections = subjects.connections
  }

  private static func subject(
    _ name: String?, _ option: String, transport: String, of plan: Plan
  ) throws -> Target? {
    let targets = plan.targets.filter { $0.transport.name == transport }
    guard let name else { return targets.first }
    guard let target = targets.first(where: { $0.name == name }) else {
      let known = targets.map(\.name).joined(separator: ", ")
      throw ScenarioError(problems: [
        ScenarioProblem(
          place: .argument("\(option) \(name)"), key: "targets",
          message: "is not a target over \(transport == "ffi" ? "FFI" : "NATS") of \(plan.file)",
          remedy: known.isEmpty ? "it has none; name a scenario with --scenario" : "there are: \(known)")
      ])
    }
    return target
  }
}

extension Target {
  /// This target's name, loads, phases and limits, with another's plugin and handler.
  fileprivate func filled(by subject: Target) -> Target {
    var target = self
    target.plugin = subject.plugin
    target.handler = subject.handler
    target.transport = subject.transport
    if case .nats(let mine) = transport, case .nats(var theirs) = subject.transport, mine.links != nil {
      theirs.links = mine.links
      target.transport = .nats(theirs)
    }
    target.policies = subject.policies
    // What a whole session must have done says nothing about one phase.
    target.verify = phases == subject.phases ? subject.verify : Verification()
    return target
  }
}
