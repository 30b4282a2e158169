// The commands that measure a scenario as it is written, and what they print of a run.
import ArgumentParser
import Report
import Results
import Scenario

struct RunCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Runs one scenario; writes a run folder; prints the tables.",
    discussion: """
      EXAMPLES
        nylon-bench run Scenarios/ffi-baseline.yaml
        nylon-bench run Scenarios/nats-local.yaml --server nats://127.0.0.1:4222
        nylon-bench run my.yaml --set measure_seconds=10 --seed 7 --json > run.json
      """)

  @Argument(help: "The scenario's file.", completion: .file(extensions: ["yaml", "yml"]))
  var scenario: String

  @OptionGroup var options: RunOptions

  func execute() throws {
    try Outcome.present(try BenchRun(plan: options.plan(scenario), options: options).execute(), options)
  }
}

struct CompareCommand: BenchCommand {
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

  @OptionGroup var options: RunOptions

  func execute() throws {
    if let second { return try compareStored(first, second) }
    let plan = try options.plan(first)
    guard plan.targets.count > 1 else {
      throw ScenarioError(
        at: .file(first), key: "targets", "compare needs two targets or more",
        remedy: "add the other one, or use: nylon-bench run \(first)")
    }
    try Outcome.present(try BenchRun(plan: plan, options: options).execute(), options)
  }

  private func compareStored(_ older: String, _ newer: String) throws {
    let a = try RunFolder.open(path: older).document
    let b = try RunFolder.open(path: newer).document
    let cautions = Comparison.cautions(a, b)
    for caution in cautions { Console.error("\(allowDifferences ? "warning" : "error"): \(caution)") }
    guard cautions.isEmpty || allowDifferences else {
      Console.error("The runs are not comparable. Use --allow-differences to compare them all the same.")
      throw ExitReason.badInput
    }
    let rows = Comparison.rows(a, b, equivalence: options.equivalence / 100)
    if options.json {
      Console.result(try RunJSON.text(rows))
    } else {
      Console.result(ResultTables.comparison(rows).text(colour: Console.usesColour(!options.noColor)))
    }
    if options.gate, rows.contains(where: \.isRegression) { throw ExitReason.gateNotMet }
  }
}

/// What a command prints of a run, and the exit code that follows from it.
enum Outcome {
  /// Prints a run, and throws the reason when the exit code is not 0.
  ///
  /// - Parameters:
  ///   - hasAnswer: whether the answer stands there instead of the tables, unless `--details` asks for them.
  ///   - tables: of which those with rows are printed; nil for those of `run` and `compare`.
  static func present(
    _ document: RunDocument, _ options: RunOptions, hasAnswer: Bool = true, tables: [ReportTable]? = nil
  ) throws {
    let colour = Console.usesColour(!options.noColor)
    if options.json {
      Console.result(try document.json())
    } else if hasAnswer, !options.details {
      Console.result(
        Answer.text(document, folder: "\(options.out)/\(document.runID)", colour: colour))
    } else {
      Console.result(
        (tables ?? self.tables(document)).filter { !$0.rows.isEmpty }.map { $0.text(colour: colour) }
          .joined(separator: "\n"))
    }
    if !options.json { reasons(document, all: options.details).forEach(Console.error) }
    if let reason = reason(document, gate: options.gate) { throw reason }
  }

  private static func tables(_ document: RunDocument) -> [ReportTable] {
    [ResultTables.results(document), ResultTables.parts(document), ResultTables.baseline(document)]
      + networkTables(document) + [
        ResultTables.comparison(document.comparisons), ResultTables.costs(document),
        ResultTables.costsOverLength(document), ResultTables.expectations(document.expectations),
      ]
  }

  static func networkTables(_ document: RunDocument) -> [ReportTable] {
    [ResultTables.links(document)] + ResultTables.network(document)
  }

  /// Why replicates or conditions could not be used, a line each: what is broken, and what is true of a condition.
  /// Disturbed replicates were measured again, where others were left to use; `all` has them, too.
  private static func reasons(_ document: RunDocument, all: Bool) -> [String] {
    let unusable = Set(MeasurementGroup.all(document).filter { !$0.isValid }.map { [$0.target, $0.load] })
    return document.measurements.flatMap { one in
      one.invalidReasons.compactMap { reason -> String? in
        switch reason.code.level {
        case .broken: "invalid: \(one.target) \(one.load) #\(one.replicate): \(reason)"
        case .condition: "\(one.target) \(one.load): \(reason)"
        case .disturbed, .figure:
          all || unusable.contains([one.target, one.load])
            ? "disturbed: \(one.target) \(one.load) #\(one.replicate): \(reason)" : nil
        }
      }
    }.uniqued()
  }

  static func reason(_ document: RunDocument, gate: Bool) -> ExitReason? {
    let verdicts = document.claims.filter(\.isOverall).map(\.verdict)
    let expectations = document.expectations.map(\.verdict)
    if document.interrupted { return .interrupted }
    if expectations.contains(.notMet) { return .gateNotMet }
    if gate, verdicts.contains(.worse) || verdicts.contains(.fails) { return .gateNotMet }
    if gate, verdicts.contains(.inconclusive) { return .inconclusive }
    if expectations.contains(.unmeasured) || !document.isValid { return .invalid }
    return nil
  }
}
