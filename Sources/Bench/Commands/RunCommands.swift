// The `run` and `compare` commands, and the output of a run.
import ArgumentParser
import Foundation
import Report
import Results
import Scenario

struct RunCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs a scenario, or measures a plugin without one; writes a run folder; prints the answer.",
    discussion: """
      A plugin's library, or a plugin of a Nylon configuration, is measured unloaded, with 8 and 64 requests in \
      flight, and at a rate that it can sustain, in about a minute. The run folder has the scenario: \
      scenario.yaml.

      EXAMPLES
        nylon-bench run ./mine.so --handler authz
        nylon-bench run nylon.yaml                                list its plugins
        nylon-bench run nylon.yaml --plugin fast --handler authz
        nylon-bench run Scenarios/ffi-baseline.yaml
        nylon-bench run Scenarios/nats-local.yaml --server nats://127.0.0.1:4222
        nylon-bench run my.yaml --set measure_seconds=10 --seed 7 --json > run.json
      """)

  @Argument(
    help: ArgumentHelp(
      "A scenario, a plugin's shared library, or Nylon's own configuration.", valueName: "file"),
    completion: .file(extensions: ["yaml", "yml", "so"]))
  var file: String

  @Option(help: ArgumentHelp("The plugin of a Nylon configuration.", valueName: "name"))
  var plugin: String?

  @OptionGroup var handler: HandlerOption

  @OptionGroup var options: RunOptions

  func validate() throws {
    if plugin != nil, Drafts.isPlugin(file) {
      throw ValidationError("--plugin names a plugin of a Nylon configuration; \(file) is a plugin itself")
    }
  }

  func execute() throws {
    try Outcome.present(try BenchRun.searching(plan: plan(), options: options).execute(), options)
  }

  private func plan() throws -> Plan {
    if Drafts.isPlugin(file) {
      let draft = ScenarioDraft.library(try Drafts.library(file), handler: handler.name)
      return try Drafts.plan(draft, handler: handler.name, options)
    }
    if try ScenarioLoader.kind(ofFile: file) == .nylonConfiguration {
      let draft = try Drafts.configured(file, plugin: plugin, handler: handler.name)
      return try Drafts.plan(draft, handler: handler.name, options)
    }
    let needless = plugin.map { "--plugin \($0)" } ?? handler.name.map { "--handler \($0)" }
    if let needless {
      throw ScenarioError(
        at: .argument(needless),
        "is for a plugin's library or a Nylon configuration, and \(file) is a scenario",
        remedy: "write it into the scenario, or use for example --set targets.0.handler=authz")
    }
    return try options.plan(file)
  }
}

struct HandlerOption: ParsableArguments {
  @Option(
    name: .customLong("handler"),
    help: ArgumentHelp(
      "The handler (entry) of a plugin without a scenario (default: that of the configuration, else "
        + "\(ScenarioDraft.standardHandler)).", valueName: "name"))
  var name: String?

  func validate() throws {
    if name?.isEmpty == true {
      throw ValidationError("--handler is empty; write for example --handler authz")
    }
  }
}

struct CompareCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compares targets side by side, such as FFI and NATS; or two stored runs.",
    discussion: """
      With a scenario, its targets are measured alternately and compared: FFI and NATS, two \
      plugins, or a target twice, which shows the noise floor. With two run folders nothing is measured.

      With --ffi and --nats your own plugin is compared with your own workers, without a scenario. --workers \
      is the command that starts one; two are started, which find the broker in NATS_SERVERS, their queue \
      group in NATS_GROUP and the plugin's name in NYLON_PLUGIN. Without it they must already be running, at \
      --server.

      EXAMPLES
        nylon-bench compare Scenarios/compare.yaml
        nylon-bench compare --ffi ./mine.so --nats mine --workers './my-worker mine' --handler authz
        nylon-bench compare --ffi ./mine.so --nats mine --server nats://127.0.0.1:4222
        nylon-bench compare results/20260101T120000Z-compare results/latest
        nylon-bench compare baseline newer --gate --max-regression 15%
      """)

  @Argument(
    help: "A scenario's file, or the older run: its folder, or the folder of --out.",
    completion: .file(extensions: ["yaml", "yml", "json"]))
  var first: String?

  @Argument(help: "The newer run.", completion: .file(extensions: ["json"]))
  var second: String?

  @Option(
    help: ArgumentHelp("Your plugin's shared library.", valueName: "file"),
    completion: .file(extensions: ["so"]))
  var ffi: String?

  @Option(help: ArgumentHelp("The name under which your workers serve.", valueName: "plugin"))
  var nats: String?

  @Option(help: ArgumentHelp("The program and arguments that start one worker.", valueName: "command"))
  var workers: String?

  @OptionGroup var handler: HandlerOption

  @Flag(name: .customLong("allow-differences"), help: "Compare runs although machine or scenario differ.")
  var allowDifferences = false

  @Option(
    name: .customLong("max-regression"),
    help: ArgumentHelp(
      "With two runs and --gate: how much worse a figure of the newer one may be (default: "
        + "\(Number.percent(Gate.standardMargin) ?? "")).", valueName: "percent"),
    transform: CompareCommand.share)
  var maxRegression: Double?

  @OptionGroup var options: RunOptions

  /// Parses a percentage such as `20%` or `20` into a fraction.
  private static func share(_ text: String) throws -> Double {
    let number = (text.hasSuffix("%") ? text.dropLast() : text[...]).trimmingCharacters(in: .whitespaces)
    guard let percent = Double(number), percent > 0, percent <= 1000 else {
      throw ValidationError("'\(text)' is not a percentage over 0; write for example 20%")
    }
    return percent / 100
  }

  func validate() throws {
    if maxRegression != nil, !options.gate || second == nil {
      throw ValidationError("--max-regression needs two runs and --gate")
    }
    let hasSubjects = [ffi, nats, workers, handler.name].contains { $0 != nil }
    if let first {
      guard hasSubjects else { return }
      throw ValidationError(
        "--ffi, --nats, --workers and --handler need no file; leave out \(first), or these options")
    }
    guard hasSubjects else {
      throw ValidationError(
        "name a scenario, two runs, or your own: --ffi ./mine.so --nats mine --workers './my-worker'")
    }
    guard ffi != nil, let nats else {
      throw ValidationError("--ffi and --nats are compared with each other; name both")
    }
    if workers == nil, options.server == nil {
      throw ValidationError(
        "--workers is missing: give the command that starts a worker of '\(nats)'; or, if workers are "
          + "already running, give their broker with --server"
      )
    }
  }

  func execute() throws {
    if let ffi, let nats { return try compareOwn(ffi, nats) }
    guard let first else { return }
    if let second { return try compareStored(first, second) }
    try present(options.plan(first), from: first)
  }

  private func present(_ plan: Plan, from file: String) throws {
    guard plan.targets.count > 1 else {
      throw ScenarioError(
        at: .file(file), key: "targets", "compare needs two targets or more",
        remedy: "add the other one, or use: nylon-bench run \(file)")
    }
    try Outcome.present(try BenchRun.searching(plan: plan, options: options).execute(), options)
  }

  private func compareOwn(_ ffi: String, _ nats: String) throws {
    let draft = ScenarioDraft.sideBySide(
      library: try Drafts.library(ffi), pool: nats,
      command: try workers.map { try ScenarioDraft.words(of: $0, option: "--workers") } ?? [],
      servers: options.server?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } ?? [],
      handler: handler.name)
    try present(Drafts.plan(draft, handler: handler.name, options), from: draft.origin)
  }

  private func compareStored(_ older: String, _ newer: String) throws {
    let a = try RunFolder.open(path: older).document
    let b = try RunFolder.open(path: newer).document
    let cautions = Comparison.cautions(a, b)
    let obstacles = options.gate ? Gate.obstacles(a, b) : cautions
    for obstacle in obstacles { Console.error("\(allowDifferences ? "warning" : "error"): \(obstacle)") }
    guard obstacles.isEmpty || allowDifferences else {
      Console.error("The runs are not comparable. Use --allow-differences to compare them anyway.")
      throw ExitReason.badInput
    }
    let rows = Comparison.rows(a, b, equivalence: options.equivalence / 100)
    let gate =
      options.gate
      ? Gate(a, b, comparisons: rows, margin: maxRegression ?? Gate.standardMargin) : nil
    if options.json {
      try Console.result(RunJSON.text(gate?.attached(to: rows, a, b) ?? rows))
    } else {
      let stored = StoredComparison(
        older: a, newer: b, rows: rows, gate: gate, notes: cautions.filter { !obstacles.contains($0) })
      let colour = Console.usesColour(!options.noColor)
      try Console.result(options.details ? stored.details(colour: colour) : stored.answer(colour: colour))
    }
    if let reason = gate.flatMap({ ExitReason($0.verdict) }) { throw reason }
  }
}

extension ExitReason {
  /// The exit reason of a gate verdict; nil when the gate is passed.
  init?(_ verdict: GateRow.Verdict) {
    switch verdict {
    case .kept: return nil
    case .regressed: self = .gateNotMet
    case .invalid: self = .invalid
    case .unclear: self = .inconclusive
    }
  }
}

/// The output of a run and the resulting exit code.
enum Outcome {
  /// Prints a run, and throws the reason when the exit code is nonzero.
  ///
  /// - Parameters:
  ///   - hasAnswer: whether to print the answer instead of the tables unless `--details` is given.
  ///   - tables: the tables to print, except empty ones; nil for the tables of `run` and `compare`.
  static func present(
    _ document: RunDocument, _ options: RunOptions, hasAnswer: Bool = true, tables: [ReportTable]? = nil
  ) throws {
    let colour = Console.usesColour(!options.noColor)
    if options.json {
      try Console.result(document.json())
    } else if hasAnswer, !options.details {
      try Console.result(Answer.text(document, folder: "\(options.out)/\(document.runID)", colour: colour))
    } else {
      try Console.result(
        (tables ?? self.tables(document)).filter { !$0.rows.isEmpty }.map { $0.text(colour: colour) }
          .joined(separator: "\n"))
    }
    if options.details, !options.json { for line in Answer.anomalies(document) { try Console.result(line) } }
    if !options.json { reasons(document, all: options.details).forEach(Console.error) }
    if let reason = reason(document, gate: options.gate) { throw reason }
  }

  private static func tables(_ document: RunDocument) -> [ReportTable] {
    ResultTables.faults(document)
      + [ResultTables.results(document), ResultTables.parts(document), ResultTables.baseline(document)]
      + networkTables(document) + [
        ResultTables.comparison(document.comparisons), ResultTables.costs(document),
        ResultTables.costsOverLength(document), ResultTables.nodes(document),
        ResultTables.objectives(document), ResultTables.expectations(document.expectations),
      ] + ResultTables.ramps(document)
  }

  static func networkTables(_ document: RunDocument) -> [ReportTable] {
    [ResultTables.links(document)] + ResultTables.network(document)
  }

  /// Lists why replicates are broken and conditions unusable: a line for each reason of a condition, in the
  /// words of its first replicate; when `all` is true, a line for each replicate with a reason.
  static func reasons(_ document: RunDocument, all: Bool) -> [String] {
    MeasurementGroup.all(document).flatMap { group -> [String] in
      let isUnusable = !group.isValid || group.isSaturated
      let measured = group.measurements.filter { all || !$0.isOfSearch }
      let reasons = measured.flatMap { one in
        one.invalidReasons.map { (replicate: one.replicate, reason: $0) }
      }.filter { all || isUnusable || $0.reason.code.level == .broken }
      var unseen = Set(reasons.map(\.reason.code))
      let shown = reasons.filter { all || unseen.remove($0.reason.code) != nil }
      return shown.flatMap { replicate, reason in
        let count = reasons.count { $0.reason.code == reason.code }
        let which = all || count == 1 ? "#\(replicate)" : "\(count) of \(measured.count) replicates"
        let level =
          switch reason.code.level {
          case .broken: "invalid: "
          case .condition: ""
          case .disturbed, .figure: "disturbed: "
          }
        let line = "\(level)\(group.target) \(group.load) \(which): \(reason)"
        // An error stays on its line; what is said of a condition belongs to the answer's screen.
        return reason.code.level == .broken ? [line] : Answer.wrapped(line)
      }
    }
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
