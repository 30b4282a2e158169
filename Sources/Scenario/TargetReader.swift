import Nylon

/// Reads `targets:` against the plugins and brokers that are configured.
struct TargetReader {
  static let keys = [
    "name", "plugin", "handler", "dispatch", "dialect", "flush", "client", "workers", "loads", "phases",
    "verify", "max_in_flight", "overflow_policy", "timeout_ms", "link", "decompose",
  ]
  static let workersKeys = ["count", "command", "environment", "start_seconds"]
  static let inFlightRange = 1...65_536

  let problems: ProblemCollector
  /// The folder that relative paths start from.
  let folder: String
  let configuration: NylonConfiguration
  /// The scenario's own loads and phases.
  let loads: [(load: LoadShape, path: String, item: YAMLValue)]?
  let phases: [Phase]
  /// The scenario's own `decompose:`.
  let decompose: Bool?
  /// `--server`: replaces the servers of every broker.
  let server: [String]?

  /// The targets; their names are unique.
  func targets(of root: Block) -> [Target] {
    guard root.get("targets") != nil else {
      root.fail("targets", "is missing", remedy: "list what is loaded: {name: ffi, plugin: …, handler: …}")
      return []
    }
    guard let items = root.list("targets", of: "targets") else { return [] }
    if items.isEmpty { root.fail("targets", "is empty", remedy: "list at least one target") }
    var result: [Target] = []
    var names: Set<String> = []
    for (index, item) in items.enumerated() {
      guard let block = Block(item, path: "targets.\(index)", keys: Self.keys, in: problems) else { continue }
      if let name = item["name"]?.text ?? item["plugin"]?.text, !names.insert(name).inserted {
        block.fail("name", "is the name of an earlier target", remedy: "give each target a name of its own")
      }
      if let target = target(block) { result.append(target) }
    }
    return result
  }

  private func target(_ block: Block) -> Target? {
    let verify = RequestReader(problems: problems).verification(of: block)
    let ownLoads = LoadReader(problems: problems).loads(of: block)
    let ownPhases = LoadReader(problems: problems).phases(of: block)
    guard let plugin = plugin(block), let name = name(block, plugin) else { return nil }
    let broker = messaging(of: plugin)
    let limit = block.whole("max_in_flight", in: Self.inFlightRange)
    guard let transport = transport(block, plugin, broker) else { return nil }
    if ownLoads == nil, loads == nil {
      block.fail("loads", "is missing", remedy: "write loads: here or for the whole scenario")
    }
    let used = ownLoads ?? loads ?? []
    let target = Target(
      name: name, plugin: plugin.name, handler: handler(block, plugin) ?? "", transport: transport,
      phases: ownPhases ?? phases, loads: used.map(\.load),
      policies: policies(plugin, broker, timeout: block.whole("timeout_ms", in: PolicyOverride.timeoutRange)),
      maxInFlight: limit ?? broker?.maxInFlight ?? Self.defaultLimit(used.map(\.load)),
      overflow: block.choice("overflow_policy", of: OverflowPolicy.self) ?? broker?.overflow ?? .queue,
      verify: verify, decompose: block.flag("decompose") ?? decompose)
    let limitKey = limit != nil ? block.childPath("max_in_flight") : broker?.maxInFlightKey
    if let limitKey { check(used, of: target, limitKey: limitKey) }
    return target
  }

  private static func defaultLimit(_ loads: [LoadShape]) -> Int {
    loads.reduce(1024) { most, load in
      if case .closed(let concurrency) = load { return max(most, concurrency) }
      return most
    }
  }

  private func check(
    _ loads: [(load: LoadShape, path: String, item: YAMLValue)], of target: Target, limitKey: String
  ) {
    for (load, path, item) in loads {
      guard case .closed(let concurrency) = load, concurrency > target.maxInFlight else { continue }
      problems.add(
        at: item["concurrency"]?.place ?? item.place, key: "\(path).concurrency", value: String(concurrency),
        "is over \(limitKey) (\(target.maxInFlight)) of the target '\(target.name)'",
        remedy: "lower the one or raise the other")
    }
  }

  // MARK: Names

  private func plugin(_ block: Block) -> NylonConfiguration.Plugin? {
    guard let name = block.required("plugin", "name an entry of plugins:") else { return nil }
    let names = configuration.plugins.map(\.name)
    guard let plugin = configuration.plugins.first(where: { $0.name == name }) else {
      block.fail(
        "plugin", "is not an entry of plugins:", suggestion: Suggestion.nearest(to: name, among: names),
        remedy: names.isEmpty ? "There are none" : "Known: \(names.joined(separator: ", "))")
      return nil
    }
    return plugin
  }

  private func name(_ block: Block, _ plugin: NylonConfiguration.Plugin) -> String? {
    guard let name = block.get("name") == nil ? plugin.name : block.text("name") else { return nil }
    let allowed = name.unicodeScalars.allSatisfy {
      $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || $0 == "-" || $0 == "_")
    }
    guard allowed, !name.isEmpty, name.utf8.count <= 64 else {
      block.fail(
        "name", "must be 1 to 64 letters, digits, '-' and '_': it is a column and a part of expect: lines")
      return nil
    }
    return name
  }

  private func handler(_ block: Block, _ plugin: NylonConfiguration.Plugin) -> String? {
    if block.get("handler") == nil, let entry = plugin.entryPoint { return entry }
    return block.required("handler", "name the handler, here or as the plugin's entry_point")
  }

  private func messaging(of plugin: NylonConfiguration.Plugin) -> NylonConfiguration.Messaging? {
    guard case .messaging(let name, _, _) = plugin.kind else { return nil }
    return configuration.messaging.first { $0.name == name }
  }

  // MARK: Transports

  private func transport(
    _ block: Block, _ plugin: NylonConfiguration.Plugin, _ broker: NylonConfiguration.Messaging?
  ) -> TransportSpec? {
    switch plugin.kind {
    case .ffi(let file, let configJSON):
      for key in ["dialect", "flush", "client", "workers", "link"] where block.get(key) != nil {
        block.fail(key, "is for NATS targets; the plugin '\(plugin.name)' is loaded in-process")
      }
      let dispatch = block.choice("dispatch", of: Dispatch.self) ?? .queued
      return .ffi(FFISpec(file: file, configJSON: configJSON, dispatch: dispatch))
    case .messaging(_, let group, let configJSON):
      if block.get("dispatch") != nil {
        block.fail("dispatch", "is for FFI targets; the plugin '\(plugin.name)' is reached over NATS")
      }
      let workers = workers(block)
      guard let broker else { return nil }  // noted by checkReferences
      return .nats(nats(block, broker, group: group, workers: workers, configJSON: configJSON))
    case .other(let type):
      block.fail("plugin", "is of the type '\(type)', which cannot be loaded; allowed: ffi, messaging")
      return nil
    case .broken: return nil
    }
  }

  private func nats(
    _ block: Block, _ broker: NylonConfiguration.Messaging, group: String, workers: WorkersSpec?,
    configJSON: String
  ) -> NATSSpec {
    let servers = server ?? broker.servers
    if servers.isEmpty, !broker.hasServers, block.get("workers")?["command"] == nil {
      block.fail(
        "workers",
        "are not started here, and with no servers a broker of our own is, where nobody would answer",
        remedy: "give workers a command, such as nylon-worker, or name the servers they are at")
    }
    return NATSSpec(
      servers: servers, subjectPrefix: broker.subjectPrefix, group: group,
      dialect: block.choice("dialect", of: Dialect.self) ?? .reply,
      flush: block.choice("flush", of: FlushMode.self) ?? .immediate,
      client: block.choice("client", of: NATSClient.self), auth: broker.auth, tls: broker.tls,
      workers: workers, configJSON: configJSON,
      links: LinkReader(problems: problems).links(of: block, workers: workers))
  }

  private func workers(_ block: Block) -> WorkersSpec? {
    guard let workers = block.block("workers", keys: Self.workersKeys) else { return nil }
    let count = workers.whole("count", in: 1...1024) ?? 1
    let start = workers.number("start_seconds", in: 0.1...600) ?? 10
    let environment = environment(workers)
    guard let command = command(workers), !command.isEmpty else { return nil }
    return WorkersSpec(count: count, command: command, environment: environment, startSeconds: start)
  }

  /// The command's words; a program with a `/` in it is found from the scenario's folder.
  private func command(_ block: Block) -> [String]? {
    guard let value = block.get("command") else { return nil }
    var words: [String]
    if let items = value.items {
      words = items.compactMap(\.text)
      if words.count != items.count { block.fail("command", "holds something that is not text") }
    } else {
      guard let text = block.text("command") else { return nil }
      guard let split = ShellWords.split(text) else {
        problems.add(
          at: value.place, key: block.childPath("command"),
          "has a quote that is not closed, or ends with '\\'",
          remedy: "close it, or write the command as a list")
        return nil
      }
      words = split
    }
    guard let program = words.first, !program.isEmpty else {
      block.fail("command", "is empty", remedy: "leave it out when the workers run already")
      return nil
    }
    if program.contains("/") { words[0] = NylonConfigurationReader.resolve(program, from: folder) }
    return words
  }

  private func environment(_ block: Block) -> [String: String] {
    var result: [String: String] = [:]
    for (name, value) in block.pairs("environment") ?? [] {
      let path = "\(block.childPath("environment")).\(name)"
      if name.isEmpty || name.contains("=") || name.contains("\0") {
        problems.add(at: value.place, key: path, "is not a name of an environment variable")
      } else if value.isNull {
        result[name] = ""
      } else if let text = value.text, !text.contains("\0") {
        result[name] = text
      } else {
        problems.add(at: value.place, key: path, "is not text; write a single value")
      }
    }
    return result
  }

  // MARK: Policies

  /// The policies of all four phases: the target's timeout over the plugin's per_phase over its
  /// broker's over the defaults. In-process there is no retry: a failed phase ends the session.
  private func policies(
    _ plugin: NylonConfiguration.Plugin, _ broker: NylonConfiguration.Messaging?, timeout: Int?
  ) -> [Phase: PhasePolicy] {
    var result: [Phase: PhasePolicy] = [:]
    for phase in Phase.session {
      var policy = PhasePolicy.standard(for: phase)
      if case .ffi = plugin.kind {
        policy = PhasePolicy(
          timeoutMilliseconds: policy.timeoutMilliseconds, onError: .end, attempts: 1,
          backoffFirstMilliseconds: 0, backoffMostMilliseconds: 0)
      }
      if let broker { policy = broker.policy.over(policy) }
      if let own = plugin.perPhase[phase] { policy = own.over(policy) }
      if case .ffi = plugin.kind {
        policy.attempts = 1
        if policy.onError == .retry { policy.onError = .end }
      }
      policy.timeoutMilliseconds = timeout ?? policy.timeoutMilliseconds
      result[phase] = policy
    }
    return result
  }
}
