import Report
import Results
import Scenario

/// What all measuring commands are told.
package protocol RunOptions {
  /// The folder that gets the run's folder.
  var out: String { get }
  var quick: Bool { get }
  var seed: UInt64? { get }
  /// Scenario keys and their values, as `key=value`.
  var overrides: [String] { get }
  var server: String? { get }
  var json: Bool { get }
  var noColor: Bool { get }
  var quiet: Bool { get }
  var verbose: Bool { get }
  var gate: Bool { get }
  /// The fewest and the most rounds, such as `6..12`; nil for the scenario's.
  var rounds: String? { get }
  /// The time that the measurements may take, such as `10m`; nil without a limit.
  var budget: TimeBudget? { get }
  /// How far two targets may be apart and still be called the same, percent.
  var equivalence: Double { get }
}

/// A time such as `90s`, `10m` or `1h`.
package struct TimeBudget: Sendable, Equatable {
  package let seconds: Double

  package init?(_ text: String) {
    let units = ["s": 1.0, "m": 60, "h": 3600]
    guard let unit = text.last, let factor = units[String(unit)], let value = Double(text.dropLast()),
      value > 0, value * factor <= 86_400
    else { return nil }
    seconds = value * factor
  }
}

extension RunOptions {
  var budgetSeconds: Double? { budget?.seconds }

  var loaderOptions: ScenarioLoader.Options {
    ScenarioLoader.Options(
      metrics: SummaryRow.numericColumns,
      overrides: overrides + (rounds.map { ["rounds=\($0)"] } ?? []), seed: seed, quick: quick, server: server
    )
  }
}

/// The commands `run` and `compare`.
package enum Runs {
  package static func run(_ path: String, options: some RunOptions) throws {
    let plan = try ScenarioLoader.load(path: path, options: options.loaderOptions)
    let document = try BenchRun(plan: plan, options: options).execute()
    try Outcome.present(
      document, options: options,
      tables: [.results, .parts, .floor, .network, .costs, .comparison, .expectations])
  }

  /// Measures a scenario's targets and compares them.
  package static func compare(targetsOf path: String, options: some RunOptions) throws {
    let plan = try ScenarioLoader.load(path: path, options: options.loaderOptions)
    guard plan.targets.count > 1 else {
      throw ScenarioError(problems: [
        ScenarioProblem(
          place: .file(path), key: "targets", message: "compare needs two targets or more",
          remedy: "add the other one, or use: nylon-bench run \(path)")
      ])
    }
    let document = try BenchRun(plan: plan, options: options).execute()
    try Outcome.present(
      document, options: options,
      tables: [.results, .parts, .floor, .network, .comparison, .costs, .expectations])
  }

  /// Compares two stored runs.
  package static func compare(
    _ older: String, _ newer: String, allowDifferences: Bool, options: some RunOptions
  ) throws {
    let a = try RunFolder.open(path: older).document
    let b = try RunFolder.open(path: newer).document
    let cautions = Comparison.cautions(a, b)
    for caution in cautions { Console.error("\(allowDifferences ? "warning" : "error"): \(caution)") }
    guard cautions.isEmpty || allowDifferences else {
      Console.error("The runs are not comparable. Use --allow-differences to compare them all the same.")
      throw ExitReason.badInput
    }
    let rows = Comparison.rows(a, b)
    if options.json {
      Console.result(try RunJSON.text(rows))
    } else {
      Console.result(ResultTables.comparison(rows).text(colour: Console.usesColour(!options.noColor)))
    }
    if options.gate, rows.contains(where: \.isRegression) { throw ExitReason.gateNotMet }
  }
}
