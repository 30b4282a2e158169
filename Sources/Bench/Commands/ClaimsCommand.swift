import ArgumentParser
import Report
import Results
import Scenario

struct ClaimsCommand: BenchCommand {
  enum Part: String, ExpressibleByArgument, CaseIterable { case figures, behaviours }

  static let configuration = CommandConfiguration(
    commandName: "claims", abstract: "Tests every documented figure and promise, and prints the verdicts.",
    discussion: """
      Latency claims are tested unloaded (a), in an open loop at the documented throughput (b), and in a \
      closed loop at the concurrency that Little's law implies from the documented pair (c); each per \
      request of four phases and per phase request. HTTP is not measured. Then every statement about \
      behaviour is tested with real processes, each on its own broker.

      The subjects are the example plugin and the example workers, handler authz. With --scenario they are \
      the first FFI and the first NATS target of that scenario, with its request, or those that --ffi and \
      --nats name; loads, phases and times stay those of Scenarios/headline.yaml.

      EXAMPLES
        nylon-bench claims
        nylon-bench claims --quick                              a quick look, one replicate
        nylon-bench claims --gate                               for CI: exit with 80 if a claim is worse
        nylon-bench claims --scenario my.yaml                   your own plugin and workers
        nylon-bench claims --scenario my.yaml --ffi fast --nats pool
        nylon-bench claims --only behaviours                    faults, scaling, defaults: two minutes
      """)

  @Option(
    help: "A scenario with your own FFI target, NATS target, or both (default: the example's).",
    completion: .file(extensions: ["yaml", "yml"]))
  var scenario: String?

  @Option(help: ArgumentHelp("The name of the FFI target to test.", valueName: "target"))
  var ffi: String?

  @Option(help: ArgumentHelp("The name of the NATS target to test.", valueName: "target"))
  var nats: String?

  @Option(
    help: "The scenario that defines the measurements (default: Scenarios/headline.yaml).",
    completion: .file(extensions: ["yaml", "yml"]))
  var headline: String?

  @Option(
    help: "The file of claims (default: Scenarios/claims.yaml).",
    completion: .file(extensions: ["yaml", "yml"]))
  var claims: String?

  @Option(help: "Test only these (default: both).")
  var only: Part?

  @OptionGroup var options: RunOptions

  func execute() throws {
    let folder = try headline == nil || claims == nil ? PackageFiles.scenarios() : ""
    let documented = try Self.documented(claims ?? "\(folder)/claims.yaml")
    var plan = try options.plan(headline ?? "\(folder)/headline.yaml")
    if scenario != nil || ffi != nil || nats != nil {
      var subjects = plan
      if let scenario {
        // --set changes the headline scenario; the subjects stay as their own file defines them.
        var options = options
        options.overrides = []
        subjects = try options.plan(scenario)
        plan.warnings += subjects.warnings
      }
      try Self.substitute(subjects, ffi: ffi, nats: nats, into: &plan)
    }
    try Self.test(plan, documented, only: only, options)
  }

  /// Reads the documented figures and promises from a file.
  fileprivate static func documented(_ file: String) throws -> ClaimsFile {
    try ClaimsFile(path: file, metrics: SummaryRow.numericColumns, tests: Promises.names)
  }

  fileprivate static func test(
    _ plan: Plan, _ documented: ClaimsFile, only: Part? = nil, checksCrossover: Bool = false,
    totalSeconds: Double? = nil, _ options: RunOptions
  ) throws {
    let run = try BenchRun(plan: plan, options: options)
    if only != .behaviours {
      run.checks = ClaimCheck.all(documented.claims, plan: plan)
      run.document.origins = documented.origins
    }
    if only != .figures { run.promises = documented.behaviours }
    run.measuresTargets = only != .behaviours
    run.totalSeconds = totalSeconds
    if checksCrossover {
      run.following = { document in
        Crossover.next(document, targets: plan.targets).map {
          Step(target: $0.target, load: .closed(concurrency: 1), replicate: $0.replicate)
        }
      }
    }
    let document = try run.execute()
    try Outcome.present(
      document, options,
      tables: [
        ResultTables.claims(document.claims), ResultTables.behaviours(document.behaviours ?? []),
        ResultTables.implied(document.implied ?? []),
      ] + Outcome.networkTables(document) + [
        ResultTables.comparison(document.comparisons), ResultTables.results(document),
        ResultTables.expectations(document.expectations),
      ])
  }

  /// Replaces the example's targets by those of another plan: the named ones, or the first of each transport.
  static func substitute(_ subjects: Plan, ffi: String?, nats: String?, into plan: inout Plan) throws {
    let inProcess = try subject(ffi, "--ffi", transport: .ffi, of: subjects)
    let pool = try subject(nats, "--nats", transport: .nats, of: subjects)
    plan.targets = plan.targets.compactMap { place in
      (place.transport.kind == .ffi ? inProcess : pool).map { place.filled(by: $0) }
    }
    plan.request = subjects.request
    plan.threads = subjects.threads
    plan.connections = subjects.connections
  }

  private static func subject(
    _ name: String?, _ option: String, transport: TransportKind, of plan: Plan
  ) throws -> Target? {
    let targets = plan.targets.filter { $0.transport.kind == transport }
    guard let name else { return targets.first }
    guard let target = targets.first(where: { $0.name == name }) else {
      let known = targets.map(\.name).joined(separator: ", ")
      throw ScenarioError(
        at: .argument("\(option) \(name)"), key: "targets",
        "is not \(transport == .ffi ? "an FFI" : "a NATS") target of \(plan.file)",
        remedy: known.isEmpty ? "it has none; name a scenario with --scenario" : "there are: \(known)")
    }
    return target
  }
}

extension Target {
  /// Combines this target's name, loads, phases and limits with the plugin and handler of `subject`.
  fileprivate func filled(by subject: Target) -> Target {
    var target = self
    target.plugin = subject.plugin
    target.handler = subject.handler
    target.transport = subject.transport
    if let links = nats?.links { target.nats?.links = links }
    target.policies = subject.policies
    // The subject's expected results of a session do not apply to other phases.
    target.verify = phases == subject.phases ? subject.verify : Verification()
    return target
  }
}

struct CanonicalCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measures FFI against NATS, every documented figure and promise in one run (the default).",
    discussion: """
      Takes at most ten minutes on two cores. `claims` also measures single phases and further round trips.

      EXAMPLES
        nylon-bench
        nylon-bench --quick       a quick look, one round
        nylon-bench --gate        for CI: exit with 80 if a documented figure or promise does not hold
      """)

  /// Ten minutes, less the time to look for a build and to write the report.
  private static let totalSeconds = 580.0

  @OptionGroup var options: RunOptions

  func execute() throws {
    let folder = try PackageFiles.scenarios()
    let file = "\(folder)/claims.yaml"
    try ClaimsCommand.test(
      try options.plan("\(folder)/canonical.yaml"), ClaimsCommand.documented(file), checksCrossover: true,
      totalSeconds: options.budget == nil ? Self.totalSeconds : nil, options)
  }
}
