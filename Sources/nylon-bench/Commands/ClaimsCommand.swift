import ArgumentParser
import Report
import Scenario

/// `claims`.
struct ClaimsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "claims", abstract: "Measures and prints the verdict on every documented claim.",
    discussion: """
      Latency claims are tested unloaded (a), in an open loop at the documented throughput (b), and in a \
      closed loop at the concurrency that Little's law implies from the documented pair (c); each per \
      request of four phases and per phase request. HTTP is not part of it.

      EXAMPLES
        nylon-bench claims
        nylon-bench claims --gate                       for CI: exit 80 when a claim is worse
        nylon-bench claims --scenario my-headline.yaml  your own plugin and workers
      """)

  @Option(help: "The scenario that measures them (default: Scenarios/headline.yaml).")
  var scenario: String?

  @Option(help: "The file of claims (default: Scenarios/claims.yaml).")
  var claims: String?

  @OptionGroup var options: CommonOptions

  func run() throws {
    try Exit.guarding {
      let folder = try scenario == nil || claims == nil ? PackageFiles.scenarios() : ""
      let specs = try ClaimsFile.load(path: claims ?? "\(folder)/claims.yaml")
      let plan = try ScenarioLoader.load(
        path: scenario ?? "\(folder)/headline.yaml", options: options.loaderOptions)
      let run = try BenchRun(plan: plan, options: options)
      run.checks = ClaimChecks.make(specs, plan: plan)
      let document = try run.execute()
      try Outcome.present(
        document, options: options, tables: [.claims, .comparison, .results, .expectations])
    }
  }
}

/// Turns documented claims into checks on a plan's targets.
enum ClaimChecks {
  /// A check for each claim and each way in which the plan measures its transport: sessions of all
  /// phases, and single phases.
  static func make(_ specs: [ClaimSpec], plan: Plan) -> [ClaimCheck] {
    specs.flatMap { spec -> [ClaimCheck] in
      let targets = spec.notMeasured == nil ? targets(for: spec, in: plan) : []
      guard !targets.isEmpty else {
        return [
          check(
            spec, target: nil,
            reason: spec.notMeasured
              ?? "the scenario has no \(spec.target.rawValue) target; add one under `targets`")
        ]
      }
      return targets.map { check(spec, target: $0, reason: nil) }
    }
  }

  private static func targets(for spec: ClaimSpec, in plan: Plan) -> [Target] {
    plan.targets.filter { $0.transport.name == spec.target.rawValue }
  }

  private static func check(_ spec: ClaimSpec, target: Target?, reason: String?) -> ClaimCheck {
    let isPhase = target?.phases.count == 1
    return ClaimCheck(
      id: isPhase ? "\(spec.id)-per-phase" : spec.id,
      subject: isPhase ? nil : "\(spec.target.rawValue) \(spec.better == .lower ? "latency" : "throughput")",
      document: spec.document, line: spec.line, words: spec.words, low: spec.low, high: spec.high,
      unit: spec.unit.rawValue, metric: spec.metric, lowerIsBetter: spec.better == .lower,
      conditions: target.map { target in
        spec.conditions.map { .init(letter: $0.circumstance.rawValue, target: target.name, load: $0.load) }
      } ?? [],
      notMeasuredReason: reason)
  }
}
