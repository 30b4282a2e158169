import Nylon

/// A target as written. Fields that are nil come from its plugin, its broker or the scenario.
struct TargetReader {
  var verify = Verification()
  var phases: [Phase]?
  var maxInFlight: Int?
  var overflow: OverflowPolicy?
  var decompose: Bool?
  var optional: Bool?
  var timeout: Int?
  var dispatch = Dispatch.queued
  var payloads = PayloadOwner.plugin
  var spin = Spin.auto
  var dialect: WrittenDialect?
  var host: NATSHost?
  var workers = WorkersSpec.none
  var links: [LinkSpec]?
  var nodes: NodeChoice?

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
        "max_in_flight", \.maxInFlight, .whole(inFlightRange), "maximum sessions in flight",
        default:
          "NATS: `max_inflight` of the plugin, else of the broker; FFI: 1024, or the highest concurrency of its loads"
      ),
      Key(
        "overflow_policy", \.overflow, .choice,
        "what happens to a request when all places are taken. `queue`: it waits and keeps its intended time; "
          + "`reject`, `shed`: it fails at once",
        default: "NATS: that of the plugin, else of the broker; FFI: `queue`"),
      Key("decompose", \.decompose, .flag, "instead of the scenario's", default: "the scenario's"),
      Key(
        "objective", "instead of the scenario's", default: "the scenario's",
        allowed: "as the scenario's `objective`"
      ).also("slo"),
      Key(
        "faults", "instead of the scenario's; an empty list is none", default: "the scenario's",
        allowed: "as the scenario's `faults`"),
      Key(
        "optional", \.optional, .flag,
        "whether the run skips the target, with a warning, when the file of its plugin or the program of its "
          + "workers does not exist", default: "`false`"),
      Key(
        "timeout_ms", \.timeout, .whole(PolicyOverride.timeoutRange),
        "timeout of every phase; overrides everything else", default: "see \"Timeouts and retries\""),
      Key(
        "dispatch", \.dispatch, .choice,
        "where a plugin's calls are handled. `queued`: by the session's thread, as Nylon does; `inline`: "
          + "inside the callback"
      ).only("FFI"),
      Key(
        "payloads", \.payloads, .choice,
        "who owns the bytes that the plugin passes to the callback. `plugin`: they are valid during the "
          + "callback only, as with the SDK before bdc0788; `host`: the host frees them with `plugin_free` "
          + "after it has used them, as with the SDK from bdc0788 (sdk-mvp) on. A plugin that leaks about 80 "
          + "bytes with each SetHeader needs `host`; `host` with an older SDK is a double free"
      ).only("FFI"),
      Key(
        "spin", \.spin, .choice,
        "how a load thread waits for a callback from another thread. `off`: asleep; `on`: awake for the first 60 µs, "
          + "as long as falling asleep and waking cost; `auto`: asleep with one session in flight, as Nylon does, and "
          + "awake with more, since a host under load has the other sessions' work to do. In an open load it is awake "
          + "for the last 60 µs before a request is due, with any setting"
      ).only("FFI"),
      Key(
        "dialect", \.dialect, .choice,
        "what the workers speak; `detect` asks one of them before the first load. `verify` cannot be used "
          + "with `text-id` and `reply-sdk`, whose replies do not carry what handlers change",
        default: "`reply` for `nylon-worker`, `detect` for other workers"
      ).only("NATS"),
      Key(
        "host", \.host, .choice,
        "how the host uses NATS. `lean`: one subscription for all answers; `nylon`: as Nylon's own host does, see "
          + "below; needs `dialect: stream-sdk`",
        default: "`lean`"
      ).only("NATS"),
      Key(
        "workers", \.workers, .block(WorkersSpec.keys, from: .none), "workers to start",
        default: "none: they are already running"
      ).only("NATS"),
      Key(
        "link", \.links, .links, "a simulated network between the parts",
        default: "none: all on this machine"
      ).only("NATS"),
      Key(
        "behind",
        "a plugin in the host's own process that handles each request first, phase by phase, as with two "
          + "plugins on a route. Each has its own timeouts and retries, and sees the response as the "
          + "upstream sent it",
        allowed: "see below"
      ).only("NATS"),
      Key(
        "nodes", \.nodes, .block(NodeChoice.keys, from: NodeChoice()),
        "which of the run's `brokers` each side connects to first",
        default: "the generator to the first, the workers spread over all"
      ).only("NATS"),
      Key(removed: "client", "the NATS connection is nylon-bench's own"),
      Key(removed: "flush", "nylon-bench's own NATS connection always writes at once"),
    ])

  static let inFlightRange = 1...65_536

  /// The dialect of a pool's workers; nil if one of them is probed, because of `detect` or by default.
  var spokenDialect: Dialect? { dialect.map(\.dialect) ?? (workers.isOwn ? .reply : nil) }
}

/// The value of `dialect:`: a dialect, or `detect`.
struct WrittenDialect: RawRepresentable, CaseIterable, Sendable {
  /// nil for `detect`.
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

/// Reads `targets:`, using the configured plugins and brokers.
struct TargetsReader {
  let configuration: NylonConfiguration
  /// The scenario's own loads, faults, phases, `decompose:` and `objective:`.
  let loads: [LoadReader.Placed]?
  let faults: [FaultReader.Placed]?
  let measureSeconds: Double
  let phases: [Phase]
  let decompose: Bool?
  let objective: ServiceLevel?
  /// The numeric columns of summary.csv, which an objective may name.
  let metrics: [String]
  /// `--server`: replaces the servers of every broker; nil if not given.
  let server: [String]?
  /// The number of brokers that the run starts.
  let brokers: Int

  /// Reads the targets and checks that their names are unique.
  func targets(of root: Block) -> [Target] {
    if root.get("targets") == nil {
      root.fail("targets", "is missing", remedy: "list what to load: {name: ffi, plugin: …, handler: …}")
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
    check(written, plugin, block)
    if ownLoads == nil, loads == nil {
      block.fail("loads", "is missing", remedy: "write loads: here or for the whole scenario")
    }
    let used = ownLoads ?? loads ?? []
    var target = Target(
      name: name, plugin: plugin.name, handler: handler(block, plugin) ?? "", transport: transport,
      phases: written.phases ?? phases, loads: used.map(\.load),
      policies: policies(plugin, broker, written),
      maxInFlight: written.maxInFlight ?? plugin.maxInFlight ?? broker?.maxInFlight
        ?? Self.defaultLimit(used),
      overflow: written.overflow ?? plugin.overflow ?? broker?.overflow ?? .queue, verify: written.verify,
      decompose: written.decompose ?? decompose, optional: written.optional,
      behind: plugin.kind == .messaging ? preceding(block) : nil,
      objective: ServiceLevel.read(block, columns: metrics) ?? objective)
    let limitKey =
      written.maxInFlight != nil
      ? block.childPath("max_in_flight")
      : (plugin.maxInFlight != nil ? plugin.block : broker?.block)?.childPath("max_inflight")
    if let limitKey { check(used, of: target, limitKey: limitKey) }
    if target.behind != nil { checkPreceded(target, block) }
    let planned = FaultCheck(target: target, block: block, measureSeconds: measureSeconds, brokers: brokers)
      .faults(FaultReader.faults(of: block) ?? faults ?? [])
    target.faults = planned.isEmpty ? nil : planned
    if target.objective != nil, !planned.isEmpty {
      block.fail(
        "objective", "cannot be searched for '\(name)' while it has faults",
        remedy: "remove one of the two")
    }
    return target
  }

  /// Reads the plugin that precedes a pool; reports its problems.
  private func preceding(_ block: Block) -> PrecedingPlugin? {
    guard let block = block.block("behind", rows: PrecedingPlugin.keys.rows), let plugin = plugin(block)
    else {
      return nil
    }
    guard plugin.kind == .ffi else {
      return block.refuse(
        "plugin", "is not loaded in-process",
        remedy: "name a plugin of `type: ffi`; the pool is the target's own")
    }
    guard let handler = handler(block, plugin) else { return nil }
    return PrecedingPlugin(
      plugin: plugin.name, handler: handler, spec: FFISpec(file: plugin.file, configJSON: plugin.configJSON),
      policies: policies(plugin, nil, TargetReader()))
  }

  /// Reports options that cannot be combined with `behind:`.
  private func checkPreceded(_ target: Target, _ block: Block) {
    if target.isDecomposed {
      block.fail(
        "behind", "cannot be decomposed: its phases consist of other parts",
        remedy: "write decompose: false for this target")
    }
    if target.host == .nylon {
      block.fail("behind", "is not known to host: nylon", remedy: "leave one of them out")
    }
  }

  /// Reports options that the generator cannot fully support, rather than measuring something else.
  private func check(_ written: TargetReader, _ plugin: NylonConfiguration.Plugin, _ block: Block) {
    if let why = written.dialect?.dialect.flatMap(written.verify.obstacle) {
      block.fail("verify", why, remedy: "leave verify out")
    }
    guard written.host == .nylon else { return }
    if let dialect = written.spokenDialect, !dialect.traits.namesReplySubject {
      block.fail(
        "host", "\(Target.nylonHostNeeds), but the target's dialect is \(dialect.rawValue)",
        remedy: "write dialect: stream-sdk, and start nylon-worker with --dialect stream-sdk")
    }
    if !plugin.configJSON.isEmpty {
      block.warn(
        "host", "sends workers a configuration of its own with each session, and never the plugin's `config`")
    }
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
    let isRight = name.unicodeScalars.allSatisfy { $0.isPlain(or: "-_") }
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
      return .ffi(
        FFISpec(
          file: plugin.file, configJSON: plugin.configJSON, dispatch: written.dispatch,
          payloads: written.payloads, spin: written.spin))
    case .messaging:
      guard let broker else { return nil }  // Reported by checkReferences.
      plugin.checkName(isTarget: true)
      let servers = server ?? broker.servers
      let listed = broker.block?.get("servers")?.items ?? []
      if servers.isEmpty, listed.isEmpty, block.get("workers")?["command"] == nil {
        block.fail(
          "workers",
          "are not started here, and without servers the run starts a broker that has no workers",
          remedy: "give workers a command, such as nylon-worker, or name the servers they are at")
      }
      if servers.isEmpty, listed.isEmpty { checkOwnBroker(broker) }
      if let nodes = written.nodes { check(nodes, block, isOwn: servers.isEmpty) }
      return .nats(
        NATSSpec(
          servers: servers, subjectPrefix: broker.subjectPrefix, group: plugin.group,
          dialect: written.spokenDialect, host: written.host,
          initializeTimeoutMilliseconds: written.host == .nylon ? broker.policy.timeoutMilliseconds : nil,
          auth: broker.auth, tls: broker.tls,
          workers: written.workers.command.isEmpty ? nil : written.workers, configJSON: plugin.configJSON,
          links: written.links, nodes: written.nodes,
          defaultHeaders: broker.defaultHeaders.isEmpty ? nil : broker.defaultHeaders))
    case .other(let type):
      return block.refuse(
        "plugin", "is of the type '\(type)', which cannot be loaded; allowed: ffi, messaging")
    case .broken: return nil
    }
  }

  /// Reports brokers that do not exist.
  private func check(_ nodes: NodeChoice, _ block: Block, isOwn: Bool) {
    guard isOwn else {
      return block.fail(
        "nodes", "is for brokers that the run starts, but the target's broker has servers",
        remedy: "leave nodes out: the order of servers: says where the generator begins")
    }
    guard let wrong = ([nodes.generator] + (nodes.workers ?? [])).first(where: { $0 > brokers }) else {
      return
    }
    block.fail(
      "nodes", "names broker \(wrong), but brokers is \(brokers)",
      remedy: "write brokers: \(wrong) at the scenario's left margin, or name one that the run starts")
  }

  /// Reports settings that a broker started by the run does not support.
  private func checkOwnBroker(_ broker: NylonConfiguration.Messaging) {
    let remedy = "name a running broker in servers: or with --server"
    if broker.auth.credentials != nil || broker.auth.nkey != nil {
      broker.block?.fail(
        "auth",
        "names a file, but the broker that a run starts supports neither nkeys nor credentials files",
        remedy: "\(remedy), or use a token")
    }
    if broker.tls.enabled {
      broker.block?.fail(
        "tls", "is on, but the broker that a run starts does not support TLS",
        remedy: "\(remedy), or remove tls")
    }
  }

  /// Returns the policies of all four phases. In order of precedence: the target's timeout, the plugin's
  /// `per_phase`, its broker's policy, the defaults. There are no retries in-process: a failed phase ends the
  /// session. Nylon's own host applies the broker's retries only to phases that `per_phase` names, and its
  /// timeout to none.
  private func policies(
    _ plugin: NylonConfiguration.Plugin, _ broker: NylonConfiguration.Messaging?, _ written: TargetReader
  ) -> [Phase: PhasePolicy] {
    let isInProcess = plugin.kind == .ffi
    var shared = broker?.policy
    if written.host == .nylon { shared?.timeoutMilliseconds = nil }
    return Target.standardPolicies.reduce(into: [:]) { result, standard in
      var policy = standard.value
      if isInProcess {
        policy.onError = .end
        policy.backoffFirstMilliseconds = 0
        policy.backoffMostMilliseconds = 0
      }
      let own = plugin.perPhase[standard.key]
      if let shared, written.host != .nylon || own != nil { policy = shared.over(policy) }
      if let own { policy = own.over(policy) }
      if isInProcess {
        policy.attempts = 1
        if policy.onError == .retry { policy.onError = .end }
      }
      policy.timeoutMilliseconds = written.timeout ?? policy.timeoutMilliseconds
      result[standard.key] = policy
    }
  }
}
