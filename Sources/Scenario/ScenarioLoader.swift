import Foundation
import Nylon

/// Turns a scenario file into a validated ``Plan``. It is the only reader of scenarios.
package struct ScenarioLoader: Sendable {
  /// Command-line options that take precedence over the file.
  package struct Options: Sendable, Equatable {
    /// The numeric columns of summary.csv, which `expect:` and claims may name.
    package var metrics: [String]
    /// Arguments of `--set`, such as `loads.0.concurrency=8`, in order; the last one wins.
    package var overrides: [String] = []
    /// `--seed`; nil leaves the file's.
    package var seed: UInt64?
    /// `--quick`: see ``Plan/quick()``. Applied after all other options.
    package var quick = false
    /// `--server`: one broker URL, or several separated by commas, to replace all `servers:`.
    package var server: String?

    package init(metrics: [String]) { self.metrics = metrics }
  }

  /// Reads, validates and completes a scenario. Throws all problems that one pass finds.
  package static func load(path: String, options: Options) throws(ScenarioError) -> Plan {
    try load(SourceFile(path: path), options: options)
  }

  /// Reads a draft as if it were a file.
  package static func load(_ draft: ScenarioDraft, options: Options) throws(ScenarioError) -> Plan {
    var plan = try load(SourceFile(draft), options: options)
    plan.file = ""
    plan.text = draft.storedText()
    return plan
  }

  private static func load(_ file: SourceFile, options: Options) throws(ScenarioError) -> Plan {
    let problems = ProblemCollector()
    let plan = try read(file, options: options, problems: problems)
    guard let plan, !problems.hasErrors else { throw ScenarioError(problems: problems.sorted) }
    return plan
  }

  /// Reads as much of the plan as possible; problems are added to the collector.
  private static func read(
    _ file: SourceFile, options: Options, problems: ProblemCollector
  ) throws(ScenarioError) -> Plan? {
    let written = try file.tree(what: "a scenario")
    try refuseOtherKinds(written, file)
    let tree = Override.apply(options.overrides, to: written, problems)
    guard let root = Block(tree, path: "", rows: Plan.keys.rows, in: problems, folder: file.folder) else {
      return nil
    }
    var plan = Plan(name: name(root, file), summary: file.summary, file: file.path, targets: [], loads: [])
    Plan.keys.read(root, into: &plan)
    plan.seed = options.seed ?? plan.seed
    let loads = LoadReader.loads(of: root)
    plan.loads = (loads ?? []).map(\.load)
    plan.targets = TargetsReader(
      configuration: configuration(root), loads: loads, faults: FaultReader.faults(of: root),
      measureSeconds: plan.measureSeconds, phases: plan.phases, decompose: root.flag("decompose"),
      objective: ServiceLevel.read(root, columns: options.metrics), metrics: options.metrics,
      server: options.server.map { servers($0, problems: problems) }, brokers: plan.brokerCount
    ).targets(of: root)
    let known = Set((root.get("targets")?.items ?? []).compactMap { $0["name"]?.text ?? $0["plugin"]?.text })
    plan.expectations = ExpectationReader(
      targets: plan.targets, knownNames: known, metrics: options.metrics
    ).expectations(of: root)
    warn(of: plan, root)
    plan.warnings = problems.warnings.map(\.description)
    return options.quick ? plan.quick() : plan
  }

  /// Reports a file of another kind as such, rather than reporting all its keys.
  private static func refuseOtherKinds(_ tree: YAMLValue, _ file: SourceFile) throws(ScenarioError) {
    let names = Set((tree.entries ?? []).map(\.key))
    guard names.isDisjoint(with: ["targets", "loads", "config"]) else { return }
    if names.contains("claims") {
      throw ScenarioError(
        at: .file(file.path), "is a file of claims, not a scenario",
        remedy: "'nylon-bench claims' measures them")
    }
    if !names.isDisjoint(with: NylonConfiguration.otherTopLevelKeys) {
      throw ScenarioError(
        at: .file(file.path), "is Nylon's own configuration, not a scenario",
        remedy:
          "'nylon-bench run' measures one of its plugins, and 'nylon-bench init' writes a scenario for them")
    }
  }

  private static func name(_ root: Block, _ file: SourceFile) -> String {
    guard root.get("name") != nil, let name = root.text("name") else { return slug(file.stem) }
    if slug(name) != name {
      root.fail(
        "name", "must be 1 to 64 of a-z, 0-9 and '-', beginning with a letter or digit: it names a folder",
        suggestion: slug(name))
    }
    return name
  }

  /// Returns a valid folder name: lowercase letters, digits, and single dashes between them.
  static func slug(_ text: String) -> String {
    let words = text.lowercased().split(whereSeparator: { !($0.isASCII && ($0.isLetter || $0.isNumber)) })
    let joined = String(words.joined(separator: "-").prefix(64))
    return joined.isEmpty ? "scenario" : joined
  }

  private static func configuration(_ root: Block) -> NylonConfiguration {
    var configuration = NylonConfiguration()
    if let path = root.text("config"), !path.isEmpty {
      do throws(ScenarioError) {
        try readNylon(SourceFile(path: root.resolve(path)), into: &configuration, problems: root.problems)
      } catch {
        root.fail("config", "cannot be used; the reason follows")
        for problem in error.problems { root.problems.add(problem) }
      }
    } else if root.get("plugins") == nil {
      root.fail(
        "plugins", "is missing", remedy: "write plugins: here, or config: with the path of Nylon's own file")
    }
    configuration.read(root)
    configuration.checkReferences()
    return configuration
  }

  /// Reads Nylon's own file. Only `plugins:` and `messaging:` are used; other keys concern only Nylon.
  private static func readNylon(
    _ file: SourceFile, into configuration: inout NylonConfiguration, problems: ProblemCollector
  ) throws(ScenarioError) {
    let tree = try file.tree(what: "a Nylon configuration")
    let rows = (tree.entries ?? []).map { Row(name: $0.key) }
    let root = Block(tree, path: "", rows: rows, in: problems, folder: file.folder, isLenient: true)
    if let root { configuration.read(root) }
    configuration.noteEntries(of: tree)
  }

  /// Returns the plugins of Nylon's own file, in file order.
  package static func plugins(ofNylon path: String) throws(ScenarioError) -> [ConfiguredPlugin] {
    let problems = ProblemCollector()
    let configuration = try nylon(SourceFile(path: path), problems: problems)
    if problems.hasErrors { throw ScenarioError(problems: problems.sorted) }
    return configuration.plugins.map { ConfiguredPlugin($0, of: configuration) }
  }

  private static func nylon(
    _ file: SourceFile, problems: ProblemCollector
  ) throws(ScenarioError) -> NylonConfiguration {
    var configuration = NylonConfiguration()
    try readNylon(file, into: &configuration, problems: problems)
    configuration.checkReferences()
    return configuration
  }

  private static func servers(_ text: String, problems: ProblemCollector) -> [String] {
    let argument = Item(
      value: .empty(at: .argument("--server \(Redaction.redactedURL(text))")), path: "", problems: problems)
    let words = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    if words.isEmpty {
      argument.fail("names no broker", remedy: "write --server nats://127.0.0.1:4222")
    }
    return words.map { word in
      NylonConfiguration.server(word) {
        argument.fail($0, remedy: "write for example --server nats://127.0.0.1:4222")
      } ?? word
    }
  }

  /// The default maximum payload of a broker, in bytes.
  private static let brokerPayloadBytes = 1_048_576

  /// Adds warnings about settings that are allowed but probably unintended.
  private static func warn(of plan: Plan, _ root: Block) {
    for (index, target) in plan.targets.enumerated() {
      guard let spec = target.nats else { continue }
      if (spec.dialect ?? .reply).traits.sendsContext { checkSize(of: plan, target, spec, root) }
      func warn(_ key: String, _ message: String) {
        root.problems.add(.warning, at: root.value.place, key: "targets.\(index).\(key)", message)
      }
      if let trip = target.roundTripMilliseconds,
        let phase = target.phases.first(where: {
          Double(target.policies[$0]?.timeoutMilliseconds ?? .max) <= trip
        })
      {
        warn(
          "link", "takes \(Block.short(trip)) ms there and back, so every \(phase.subjectFragment) times out")
      }
    }
    for load in plan.loads + plan.targets.flatMap(\.loads) {
      if case .closed(let concurrency) = load, concurrency < plan.threads {
        root.warn("threads", "\(plan.threads) threads share the load \(load.label), so some are idle")
      }
    }
  }
}

extension ScenarioLoader {
  /// Reports a body that makes a request exceed the broker's maximum payload. It is an error if the run
  /// starts the broker, whose limit is known, and a warning otherwise.
  private static func checkSize(of plan: Plan, _ target: Target, _ spec: NATSSpec, _ root: Block) {
    let bodies = plan.request.bodyBytes * 2
    var bytes = bodies
    if bodies <= brokerPayloadBytes {
      let messages = plan.request.messages(body: Array(repeating: 0, count: plan.request.bodyBytes))
      let context = HTTPContext(request: messages.request, response: messages.response)
      let stamps = target.isDecomposed ? [WorkerStamps.question] : []
      let template = try? RequestTemplate(
        Dialect.reply.traits, phase: .requestFilter, entry: target.handler, context: context.encoded(),
        reply: "",
        headers: stamps + (spec.defaultHeaders ?? []))
      bytes = template?.bytes.count ?? bodies
    }
    guard bytes > brokerPayloadBytes else { return }
    let message =
      "body_bytes \(plan.request.bodyBytes) travels twice in a message of '\(target.name)', over the "
      + "\(brokerPayloadBytes) bytes that a broker accepts by default"
    if spec.servers.isEmpty {
      root.fail(
        "request", message, remedy: "lower body_bytes, or name a broker with a higher max_payload in servers:"
      )
    } else {
      root.warn("request", message)
    }
  }
}

/// The kind of a file and the results of its validation.
package struct ValidationSummary: Sendable {
  package enum Kind: String, Sendable {
    case scenario
    case nylonConfiguration = "nylon configuration"
    case claims
  }

  package var kind: Kind
  package var name = ""
  /// One line for each target, plugin, broker or claim, without secrets.
  package var items: [String] = []
  package var problems: [ScenarioProblem] = []

  package var isValid: Bool { !problems.contains { $0.severity == .error } }
}

extension ScenarioLoader {
  /// Validates a file of any kind without running anything.
  package static func validate(
    path: String, options: Options
  ) throws(ScenarioError) -> ValidationSummary {
    let file = try SourceFile(path: path)
    switch try kind(of: file) {
    case .claims: return claims(path, metrics: options.metrics)
    case .nylonConfiguration: return try nylon(file)
    case .scenario: break
    }
    let problems = ProblemCollector()
    let plan = try read(file, options: options, problems: problems)
    return ValidationSummary(
      kind: .scenario, name: plan?.name ?? "", items: (plan?.targets ?? []).map(line),
      problems: problems.sorted)
  }

  package static func kind(ofFile path: String) throws(ScenarioError) -> ValidationSummary.Kind {
    try kind(of: SourceFile(path: path))
  }

  /// Determines a file's kind from its top-level keys: `targets` or `loads` for a scenario, `claims` for a
  /// claims file, and `plugins`, `messaging` or any other key of Nylon for a configuration.
  private static func kind(of file: SourceFile) throws(ScenarioError) -> ValidationSummary.Kind {
    let keys = Set((try file.tree(what: "a scenario or a Nylon configuration").entries ?? []).map(\.key))
    let ofNylon = Set(NylonConfiguration.otherTopLevelKeys + ["plugins", "messaging"])
    let ofScenario = Set(Plan.keys.rows.map(\.name)).subtracting(["plugins", "messaging", "name"])
    if keys.contains("claims") { return .claims }
    return keys.isDisjoint(with: ofScenario) && !keys.isDisjoint(with: ofNylon)
      ? .nylonConfiguration : .scenario
  }

  private static func claims(_ path: String, metrics: [String]) -> ValidationSummary {
    var summary = ValidationSummary(kind: .claims)
    do throws(ScenarioError) {
      let file = try ClaimsFile(path: path, metrics: metrics)
      summary.items = file.claims.map { "claim \($0.id): \($0.words)" }
      summary.items += file.behaviours.map { "behaviour \($0.id): \($0.words)" }
    } catch {
      summary.problems = error.problems
    }
    return summary
  }

  private static func nylon(_ file: SourceFile) throws(ScenarioError) -> ValidationSummary {
    let problems = ProblemCollector()
    let configuration = try nylon(file, problems: problems)
    if configuration.plugins.isEmpty, !problems.hasErrors {
      problems.add(
        .warning, at: .file(file.path), key: "plugins", "has no entry, so there is nothing to load")
    }
    return ValidationSummary(
      kind: .nylonConfiguration,
      items: configuration.plugins.map(line) + configuration.messaging.map(line), problems: problems.sorted)
  }

  private static func line(_ target: Target) -> String {
    let loads = target.loads.map(\.label).joined(separator: ", ")
    let links = target.links.map { ", \(Block.short($0.delayMilliseconds)) ms \($0.between.rawValue)" }
    return "target \(target.name): \(target.transport.kind), plugin \(target.plugin), "
      + "handler \(target.handler), \(loads)\(links.joined())"
      + (target.host == .nylon ? ", host: nylon" : "")
      + target.plannedFaults.map { ", \($0.words)" }.joined()
  }

  private static func line(_ plugin: NylonConfiguration.Plugin) -> String {
    let fact =
      switch plugin.kind {
      case .ffi: "ffi, \(plugin.file)"
      case .messaging: "messaging \(plugin.messaging ?? ""), group \(plugin.group)"
      case .other(let type): "\(type), which cannot be loaded here"
      case .broken: "has errors"
      }
    return "plugin \(plugin.name): \(fact)"
  }

  private static func line(_ broker: NylonConfiguration.Messaging) -> String {
    let servers = broker.servers.map(Redaction.redactedURL).joined(separator: ", ")
    return "messaging \(broker.name): \(servers.isEmpty ? "no servers" : servers), "
      + "prefix \(broker.subjectPrefix), max_inflight \(broker.maxInFlight)"
  }
}

/// An argument `--set path.to.key=VALUE`, which changes the tree before it is validated.
private struct Override {
  let place: ScenarioProblem.Place
  let problems: ProblemCollector

  /// Returns the tree with all arguments applied in order; invalid arguments are reported and skipped.
  static func apply(_ arguments: [String], to root: YAMLValue, _ problems: ProblemCollector) -> YAMLValue {
    arguments.reduce(root) { root, argument in
      let place = ScenarioProblem.Place.argument("--set \(Redaction.assignment(argument))")
      return Override(place: place, problems: problems).apply(argument, to: root) ?? root
    }
  }

  /// Returns an empty item for messages about the argument at a path.
  private func item(_ path: [String] = []) -> Item {
    Item(value: .empty(at: place), path: path.joined(separator: "."), problems: problems)
  }

  private func apply(_ argument: String, to root: YAMLValue) -> YAMLValue? {
    guard let equals = argument.firstIndex(of: "="), equals != argument.startIndex else {
      return item().refuse(
        "is not of the form path.to.key=VALUE", remedy: "write for example --set loads.0.concurrency=8")
    }
    let path = argument[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    if path.contains("") {
      return item().refuse("has an empty name in its path", remedy: "write names between single dots")
    }
    var reader = YAMLReader { [place] _, _ in place }
    do {
      let value = try reader.read(String(argument[equals...].dropFirst()))
      return set(path[...], to: value ?? .empty(at: place), in: root, done: [])
    } catch {
      return item().refuse("has a value that is \(error.message)", remedy: "quote it, also for the shell")
    }
  }

  private func set(
    _ path: ArraySlice<String>, to value: YAMLValue, in tree: YAMLValue, done: [String]
  ) -> YAMLValue? {
    guard let name = path.first else { return value }
    let rest = path.dropFirst()
    func child(in tree: YAMLValue) -> YAMLValue? { set(rest, to: value, in: tree, done: done + [name]) }
    switch tree.content {
    case .mapping(var entries):
      let index = entries.firstIndex { $0.key == name }
      if let index, !entries[index].value.isNull || rest.isEmpty {
        guard let child = child(in: entries[index].value) else { return nil }
        entries[index].value = child
        return YAMLValue(content: .mapping(entries), place: tree.place)
      }
      if let next = rest.first, Int(next) != nil {
        return item(done + [name]).refuse(
          "does not exist, so it has no items",
          suggestion: Suggestion.nearest(to: name, among: entries.map(\.key)))
      }
      guard let child = child(in: YAMLValue(content: .mapping([]), place: place)) else { return nil }
      entries.removeAll { $0.key == name }
      entries.append(YAMLValue.Entry(key: name, place: place, value: child))
      return YAMLValue(content: .mapping(entries), place: tree.place)
    case .sequence(var items):
      guard let index = Int(name), items.indices.contains(index) else {
        return item(done).refuse(
          "has no item '\(name)'",
          remedy: items.isEmpty ? "the list is empty" : "its items are numbered 0 to \(items.count - 1)")
      }
      guard let child = child(in: items[index]) else { return nil }
      items[index] = child
      return YAMLValue(content: .sequence(items), place: tree.place)
    case .scalar: return item(done).refuse("is a single value and has no key '\(name)'")
    }
  }
}
