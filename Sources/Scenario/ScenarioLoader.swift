import Foundation
import Nylon

/// Turns a scenario file into a validated ``Plan``: the only reader of scenarios.
package struct ScenarioLoader: Sendable {
  /// What the command line says over the file.
  package struct Options: Sendable, Equatable {
    /// The numeric columns of summary.csv, which `expect:` and claims may name.
    package var metrics: [String]
    /// Arguments of `--set`, such as `loads.0.concurrency=8`, in order; the last one wins.
    package var overrides: [String]
    /// `--seed`; nil leaves the file's.
    package var seed: UInt64?
    /// `--quick`: see ``Plan/quick()``. It comes after everything else.
    package var quick: Bool
    /// `--server`: one broker URL, or several joined by commas, in place of all `servers:`.
    package var server: String?

    /// Options; by default the file alone counts.
    package init(
      metrics: [String], overrides: [String] = [], seed: UInt64? = nil, quick: Bool = false,
      server: String? = nil
    ) {
      self.metrics = metrics
      self.overrides = overrides
      self.seed = seed
      self.quick = quick
      self.server = server
    }
  }

  /// Top-level keys of a scenario.
  static let keys = [
    "name", "config", "plugins", "messaging", "targets", "request", "response", "phases", "loads",
    "warmup_seconds", "measure_seconds", "drain_seconds", "replicates", "threads", "connections", "seed",
    "expect", "decompose",
  ]

  /// Reads, checks and completes a scenario.
  ///
  /// - Throws: ``ScenarioError`` with everything that was found wrong in one pass.
  package static func load(path: String, options: Options) throws(ScenarioError) -> Plan {
    let problems = ProblemCollector()
    let file = try SourceFile(path: path)
    let plan = try read(file, options: options, problems: problems)
    guard let plan, !problems.hasErrors else { throw ScenarioError(problems: problems.sorted) }
    return plan
  }

  /// The plan as far as it could be read; the problems are noted in the collector.
  static func read(
    _ file: SourceFile, options: Options, problems: ProblemCollector
  ) throws(ScenarioError) -> Plan? {
    let written = try file.tree(what: "a scenario")
    try refuseOtherKinds(written, file)
    let tree = Overrides(problems: problems).apply(options.overrides, to: written)
    guard let root = Block(tree, path: "", keys: keys, in: problems) else { return nil }
    let folder = file.folder
    let configuration = configuration(root, folder: folder, problems: problems)
    let loadReader = LoadReader(problems: problems)
    let loads = loadReader.loads(of: root)
    let phases = loadReader.phases(of: root) ?? Phase.session
    let targets = TargetReader(
      problems: problems, folder: folder, configuration: configuration, loads: loads, phases: phases,
      decompose: root.flag("decompose"), server: options.server.map { servers($0, problems: problems) }
    ).targets(of: root)
    let known = Set((root.get("targets")?.items ?? []).compactMap { $0["name"]?.text ?? $0["plugin"]?.text })
    var plan = Plan(
      name: name(root, file), summary: file.summary, file: file.path, targets: targets,
      request: RequestReader(problems: problems).request(of: root), phases: phases,
      loads: (loads ?? []).map(\.load), seed: options.seed ?? seed(root) ?? 1,
      expectations: ExpectationReader(
        problems: problems, targets: targets, knownNames: known, metrics: options.metrics
      ).expectations(of: root))
    readTimes(root, into: &plan)
    PlanWarnings(problems: problems, root: root).check(plan)
    plan.warnings = problems.warnings.map(\.description)
    return options.quick ? plan.quick() : plan
  }

  /// Says so when a file is of another kind, rather than that all its keys are wrong.
  private static func refuseOtherKinds(_ tree: YAMLValue, _ file: SourceFile) throws(ScenarioError) {
    let names = Set((tree.entries ?? []).map(\.key))
    guard names.isDisjoint(with: ["targets", "loads", "config"]) else { return }
    let message: String
    let remedy: String
    if names.contains("claims") {
      message = "is a file of claims, not a scenario"
      remedy = "'nylon-bench claims' measures them"
    } else if !names.isDisjoint(with: NylonConfiguration.otherTopLevelKeys) {
      message = "is Nylon's own configuration, not a scenario"
      remedy = "write a scenario with 'config: \(file.stem).yaml', targets: and loads:"
    } else {
      return
    }
    throw ScenarioError(problems: [
      ScenarioProblem(place: .file(file.path), message: message, remedy: remedy)
    ])
  }

  private static func readTimes(_ root: Block, into plan: inout Plan) {
    plan.warmupSeconds = root.number("warmup_seconds", in: 0...600) ?? plan.warmupSeconds
    plan.measureSeconds = root.number("measure_seconds", in: 0.01...3600) ?? plan.measureSeconds
    plan.drainSeconds = root.number("drain_seconds", in: 0...600) ?? plan.drainSeconds
    plan.replicates = root.whole("replicates", in: 1...1000) ?? plan.replicates
    plan.threads = root.whole("threads", in: 1...64) ?? plan.threads
    plan.connections = root.whole("connections", in: 1...1024) ?? plan.connections
  }

  private static func seed(_ root: Block) -> UInt64? {
    guard root.get("seed") != nil, let text = root.text("seed") else { return nil }
    if let seed = UInt64(text) { return seed }
    root.fail("seed", "must be a whole number from 0 to \(UInt64.max)")
    return nil
  }

  // MARK: Name

  private static func name(_ root: Block, _ file: SourceFile) -> String {
    guard root.get("name") != nil, let name = root.text("name") else { return slug(file.stem) }
    if slug(name) != name {
      root.fail(
        "name", "must be 1 to 64 of a-z, 0-9 and '-', beginning with a letter or digit: it names a folder",
        suggestion: slug(name))
    }
    return name
  }

  /// A name fit for a folder: lower case letters, digits, single dashes between.
  static func slug(_ text: String) -> String {
    let words = text.lowercased().split(whereSeparator: { !($0.isASCII && ($0.isLetter || $0.isNumber)) })
    let joined = String(words.joined(separator: "-").prefix(64))
    return joined.isEmpty ? "scenario" : joined
  }

  // MARK: Nylon's configuration

  private static func configuration(
    _ root: Block, folder: String, problems: ProblemCollector
  ) -> NylonConfiguration {
    var configuration = NylonConfiguration()
    if let path = root.text("config"), !path.isEmpty {
      let resolved = NylonConfigurationReader.resolve(path, from: folder)
      do throws(ScenarioError) {
        try readNylon(SourceFile(path: resolved), into: &configuration, problems: problems)
      } catch {
        root.fail("config", "cannot be used; the reason follows")
        for problem in error.problems { problems.add(problem) }
      }
    } else if root.get("plugins") == nil {
      root.fail(
        "plugins", "is missing", remedy: "write plugins: here, or config: with the path of Nylon's own file")
    }
    NylonConfigurationReader(problems: problems, folder: folder, lenient: false)
      .read(root, into: &configuration)
    configuration.checkReferences(problems)
    return configuration
  }

  /// Reads Nylon's own file: only `plugins:` and `messaging:` count, other keys are its own affair.
  static func readNylon(
    _ file: SourceFile, into configuration: inout NylonConfiguration, problems: ProblemCollector
  ) throws(ScenarioError) {
    let tree = try file.tree(what: "a Nylon configuration")
    let keys = (tree.entries ?? []).map(\.key)
    guard let root = Block(tree, path: "", keys: keys, in: problems) else { return }
    NylonConfigurationReader(problems: problems, folder: file.folder, lenient: true)
      .read(root, into: &configuration)
  }

  private static func servers(_ text: String, problems: ProblemCollector) -> [String] {
    let place = ScenarioProblem.Place.argument("--server \(redactedURL(text))")
    let words = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    if words.isEmpty {
      problems.add(at: place, key: "", "names no broker", remedy: "write --server nats://127.0.0.1:4222")
    }
    return words.map { word in
      switch NylonConfigurationReader.server(word) {
      case .success(let url): return url
      case .failure(let fault):
        problems.add(
          at: place, key: "", fault.message, remedy: "write for example --server nats://127.0.0.1:4222")
        return word
      }
    }
  }
}
