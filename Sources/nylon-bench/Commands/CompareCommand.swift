import ArgumentParser
import Foundation
import Results
import Report
import Scenario

/// `compare SCENARIO`, or `compare RUN_A RUN_B`.
struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compares targets side by side, such as FFI and NATS; or two stored runs.",
    discussion: """
      With a scenario, its targets are measured alternately and compared: FFI and NATS, two \
      plugins, or a target twice, which shows the noise floor. With two run folders nothing is measured.

      EXAMPLES
        nylon-bench compare Scenarios/compare.yaml
        nylon-bench compare results/20260101T120000Z-compare results/latest
      """)

  @Argument(help: "A scenario's file, or the older run.")
  var first: String

  @Argument(help: "The newer run.")
  var second: String?

  @Flag(name: .customLong("allow-differences"), help: "Compare runs although machine or scenario differ.")
  var allowDifferences = false

  @OptionGroup var options: CommonOptions

  func run() throws {
    try Exit.guarding {
      if let second {
        try compareRuns(first, second)
      } else {
        try compareTargets(first)
      }
    }
  }

  private func compareTargets(_ path: String) throws {
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

  private func compareRuns(_ pathA: String, _ pathB: String) throws {
    let a = try RunFolder.open(path: pathA).document
    let b = try RunFolder.open(path: pathB).document
    let cautions = Comparison.cautions(a, b)
    if !cautions.isEmpty {
      for caution in cautions { Console.error("\(allowDifferences ? "warning" : "error"): \(caution)") }
      guard allowDifferences else {
        Console.error("The runs are not comparable. Use --allow-differences to compare them all the same.")
        throw Exit.badInput
      }
    }
    let rows = Comparison.rows(a, b)
    if options.json {
      Console.result(try RunJSON.text(rows))
    } else {
      Console.result(ResultTables.comparison(rows).text(colour: Console.usesColour(!options.noColor)))
    }
    if options.gate, rows.contains(where: \.isRegression) { throw Exit.gateNotMet }
  }
}
