import Nylon

/// A target as it is written. What is nil here comes from its plugin, its broker or the scenario.
struct TargetReader {
  var verify = Verification()
  var phases: [Phase]?
  var maxInFlight: Int?
  var overflow: OverflowPolicy?
  var decompose: Bool?
  var timeout: Int?
  var dispatch = Dispatch.queued
  var dialect: WrittenDialect?
  var workers = WorkersSpec.none
  var links: [LinkSpec]?

  static let keys = Keys<TargetReader>(
    "targets", home: "a target", of: TargetReader(),
    [
      Key(
        "name", "name in results", default: "the plugin's name",
        allowed: "1-64 letters, digits, `-`, `_`; unique"),
      Key("plugin", "an entry of `plugins:`", default: "required"),
      Key("handler", "name of the handler", default: "the plugin's `entry_point`").also("entry_point"),
      Key(
        "loads", "instead of the scenario's", default: "the scenario's", allowed: "as the scenario's `loads`"),
      Key(
        "phases", \.phases, .phases, "instead of the scenario's", default: "the scenario's",
        allowed: "as the scenario's `phases`"),
      Key(
        "verify", \.verify, Verification.keys, "what the response must look like after a session",
        default: "nothing"),
      Key(
        "max_in_flight", \.maxInFlight, .whole(inFlightRange), "most sessions in flight",
        default: "NATS: the broker's `max_inflight`; FFI: 1024, or the highest concurrency of its loads"),
      Key(
        "overflow_policy", \.overflow, .choice,
        "what happens to a request when all places are taken. `queue`: it waits, its intended time stands; "
          + "`reject`, `shed`: it fails at once", default: "NATS: the broker's; FFI: `queue`"),
      Key("decompose", \.decompose, .flag, "instead of the scenario's", default: "the scenario's"),
      Key(
        "timeout_ms", \.timeout, .whole(PolicyOverride.timeoutRange),
        "timeout of every phase, over everything else", default: "see \"Timeouts and retries\""),
      Key(
        "dispatch", \.dispatch, .choice,
        "where a plugin's calls are handled. `queued`: by the session's thread, as Nylon does; `inline`: "
          + "inside the callback"
      ).only("FFI"),
      Key(
        "dialect", \.dialect, .choice,
        "what the workers speak; `detect` asks one of them before the first load. `verify` cannot be used where "
          + "what handlers change does not come back: `text-id`, `reply-sdk`",
        default: "`reply` for `nylon-worker`, `detect` for other workers"
      ).only("NATS"),
      Key(
        "workers", \.workers, .block(WorkersSpec.keys, from: .none), "workers to start",
        default: "none: they run already"
      ).only("NATS"),
      Key(
        "link", \.links, .links, "a network that is put between the parts",
        default: "none: all on this machine"
      ).only("NATS"),
      Key(removed: "client", "the NATS connection is nylon-bench's own"),
      Key(removed: "flush", "nylon-bench's own NATS connection always writes at once"),
    ])

  static let inFlightRange = 1...65_536
}

/// What `dialect:` may say: a dialect, or that a worker is asked.
struct WrittenDialect: RawRepresentable, CaseIterable, Sendable {
  /// nil when a worker is asked.
  let dialect: Dialect?

  private static let question = "detect"

  init(dialect: Dialect?) { self.dialect = dialect }

  init?(rawValue: String) {
    dialect = Dialect(rawValue: rawValue)
    if dialect == nil, rawValue != Self.question { return nil }
  }

  var rawValue: String { dialect?.rawValue ?? Self.question }

  static var allCases: [WrittenDialect] { (Dialect.allCases + [nil]).map(WrittenDialect.init(dialect:)) }
}

/// Reads `targets:` with the plugins and brokers that are configured.
struct TargetsReader {
  let configuration: NylonConfiguration
  /// The scenario's own loads, phases and `decompose:`.
  let loads: [LoadReader.Placed]?
  let phases: [Phase]
  let decompose: Bool?
  /// `--server`: replaces the servers of every broker.
  let server: [String]?

  /// The targets; their names are unique.
  func targets(of root: Block) -> [Target] {
    if root.get("targets") == nil {
      root.fail("targets", "is missing", remedy: "list what is loaded: {name: ffi, plugin: …, handler: …}")
    } else if root.get("targets")?.items?.isEmpty == true {
      root.fail("targets", "is empty", remedy: "list at least one target")
    }
    var result: [Target] = []
    var names: Set<String> = []
    for block in root.blocks("targets", of: "targets", rows: TargetReader.keys.rows) ?? [] {
      if let name = block.get("name")?.text ?? block.get("plugin")?.text, !names.insert(name).inserted {
        block.fail("name", "is the name of an earlier target", remedy: "give each target a name of its own")
      }
      if let target = target(block) { result.append(target) }
    }
    return result
  }

  private func target(_ block: Block) -> Target? {
    let plugin = plugin(block)
    var written = TargetReader()
    TargetReader.keys.read(block, into: &written, type: plugin?.kind.way) { row in
      let fact = row.only == "NATS" ? "loaded in-process" : "reached over NATS"
      return "is for \(row.only) targets; the plugin '\(plugin?.name ?? "")' is \(fact)"
    }
    let ownLoads = LoadReader.loads(of: block)
    guard let plugin, let name = name(block, plugin) else { return nil }
    let broker =
      plugin.kind == .messaging ? configuration.messaging.first { $0.name == plugin.messaging } : nil
    guard let transport = transport(block, written, plugin, broker) else { return nil }
    if ownLoads == nil, loads == nil {
      block.fail("loads", "is missing", remedy: "write loads: here or for the whole scenario")
    }
    let used = ownLoads ?? loads ?? []
    let target = Target(
      name: name, plugin: plugin.name, handler: handler(block, plugin) ?? "", transport: transport,
      phases: written.phases ?? phases, loads: used.map(\.load),
      policies: policies(plugin, broker, timeout: written.timeout),
      maxInFlight: written.maxInFlight ?? broker?.maxInFlight ?? Self.defaultLimit(used),
      overflow: written.overflow ?? broker?.overflow ?? .queue, verify: written.verify,
      decompose: written.decompose ?? decompose)
    let limitKey =
      written.maxInFlight == nil ? broker?.block?.childPath("max_inflight") : block.childPath("max_in_flight")
    if let limitKey { check(used, of: target, limitKey: limitKey) }
    return target
  }

  private static func defaultLimit(_ loads: [LoadReader.Placed]) -> Int {
    loads.reduce(1024) { if case .closed(let concurrency) = $1.load { max($0, concurrency) } else { $0 } }
  }

  private func check(_ loads: [LoadReader.Placed], of target: Target, limitKey: String) {
    for (load, block) in loads {
      guard case .closed(let concurrency) = load, concurrency > target.maxInFlight else { continue }
      block.fail(
        "concurrency", "is over \(limitKey) (\(target.maxInFlight)) of the target '\(target.name)'",
        remedy: "lower the one or raise the other")
    }
  }

  private func plugin(_ block: Block) -> NylonConfiguration.Plugin? {
    guard let name = block.required("plugin", "name an entry of plugins:") else { return nil }
    block.checkReference("plugin", to: "plugins:", among: configuration.plugins.map(\.name))
    return configuration.plugins.first { $0.name == name }
  }

  private func name(_ block: Block, _ plugin: NylonConfiguration.Plugin) -> String? {
    guard let name = block.get("name") == nil ? plugin.name : block.text("name") else { return nil }
    let isRight = name.unicodeScalars.allSatisfy {
      $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || $0 == "-" || $0 == "_")
    }
    if isRight, !name.isEmpty, name.utf8.count <= Target.longestName { return name }
    return block.refuse(
      "name", "must be 1 to 64 letters, digits, '-' and '_': it is a column and a part of expect: lines")
  }

  private func handler(_ block: Block, _ plugin: NylonConfiguration.Plugin) -> String? {
    if block.get("handler") == nil, let entry = plugin.entryPoint { return entry }
    return block.required("handler", "name the handler, here or as the plugin's entry_point")
  }

  private func transport(
    _ block: Block, _ written: TargetReader, _ plugin: NylonConfiguration.Plugin,
    _ broker: NylonConfiguration.Messaging?
  ) -> TransportSpec? {
    switch plugin.kind {
    case .ffi:
      return .ffi(FFISpec(file: plugin.file, configJSON: plugin.configJSON, dispatch: written.dispatch))
    case .messaging:
      guard let broker else { return nil }  // Noted by checkReferences.
      let servers = server ?? broker.servers
      let listed = broker.block?.get("servers")?.items ?? []
      if servers.isEmpty, listed.isEmpty, block.get("workers")?["command"] == nil {
        block.fail(
          "workers",
          "are not started here, and with no servers the run starts a broker, where nobody would answer",
          remedy: "give workers a command, such as nylon-worker, or name the servers they are at")
      }
      return .nats(
        NATSSpec(
          servers: servers, subjectPrefix: broker.subjectPrefix, group: plugin.group,
          // Explicitly none is to be asked, too.
          dialect: written.dialect.map(\.dialect) ?? (written.workers.isOwn ? .reply : nil),
          auth: broker.auth, tls: broker.tls,
          workers: written.workers.command.isEmpty ? nil : written.workers, configJSON: plugin.configJSON,
          links: written.links))
    case .other(let type):
      return block.refuse(
        "plugin", "is of the type '\(type)', which cannot be loaded; allowed: ffi, messaging")
    case .broken: return nil
    }
  }

  /// The policies of all four phases: the target's timeout over the plugin's per_phase over its
  /// broker's over the defaults. In-process there is no retry: a failed phase ends the session.
  private func policies(
    _ plugin: NylonConfiguration.Plugin, _ broker: NylonConfiguration.Messaging?, timeout: Int?
  ) -> [Phase: PhasePolicy] {
    let isInProcess = plugin.kind == .ffi
    return Target.standardPolicies.reduce(into: [:]) { result, standard in
      var policy = standard.value
      if isInProcess {
        policy.onError = .end
        policy.backoffFirstMilliseconds = 0
        policy.backoffMostMilliseconds = 0
      }
      if let broker { policy = broker.policy.over(policy) }
      if let own = plugin.perPhase[standard.key] { policy = own.over(policy) }
      if isInProcess {
        policy.attempts = 1
        if policy.onError == .retry { policy.onError = .end }
      }
      policy.timeoutMilliseconds = timeout ?? policy.timeoutMilliseconds
      result[standard.key] = policy
    }
  }
}
