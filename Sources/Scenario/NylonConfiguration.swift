import Foundation
import NATS
import Nylon

/// Nylon's own `messaging:` and `plugins:` blocks, as read from a scenario or from Nylon's file.
struct NylonConfiguration {
  private(set) var messaging: [Messaging] = []
  private(set) var plugins: [Plugin] = []
  /// The entries that Nylon's own file refers to, by plugin: those of middleware, then those of services.
  private(set) var entries: [String: [String]] = [:]

  /// Records the entries that Nylon's own file refers to: middleware has the key `plugin` for its plugin, and
  /// a service has `name`.
  mutating func noteEntries(of root: YAMLValue) {
    for key in ["plugin", "name"] { noteEntries(in: root, of: key) }
  }

  private mutating func noteEntries(in value: YAMLValue, of key: String) {
    if let plugin = value[key]?.text, let entry = value["entry"]?.text {
      entries[plugin, default: []].append(entry)
    }
    for child in value.items ?? value.entries?.map(\.value) ?? [] { noteEntries(in: child, of: key) }
  }

  /// Adds the entries of both blocks; names must be unique across all calls.
  mutating func read(_ root: Block) {
    func isNew(_ name: String, among known: [String], what: String, _ block: Block) -> Bool {
      guard known.contains(name) else { return !name.isEmpty }
      block.fail("name", "is the name of an earlier \(what)", remedy: "names are unique")
      return false
    }
    for block in root.blocks("messaging", of: "brokers", rows: Messaging.keys.rows) ?? [] {
      var entry = Messaging(block: block)
      Messaging.keys.read(block, into: &entry)
      if isNew(entry.name, among: messaging.map(\.name), what: "messaging entry", block) {
        messaging.append(entry)
      }
    }
    for block in root.blocks("plugins", of: "plugins", rows: Plugin.keys.rows) ?? [] {
      let entry = Plugin.read(block)
      if isNew(entry.name, among: plugins.map(\.name), what: "plugin", block) { plugins.append(entry) }
    }
  }

  /// Reports plugins that refer to an undefined broker.
  func checkReferences() {
    for plugin in plugins where plugin.kind == .messaging {
      plugin.block?.checkReference("messaging", to: "messaging:", among: messaging.map(\.name))
    }
  }

  /// Top-level keys of Nylon's file that do not concern plugins.
  static let otherTopLevelKeys = [
    "runtime", "pingora", "proxy", "services", "routes", "middleware_groups", "header_selector", "tls",
    "acme", "config_dir", "http", "https", "metrics", "websocket", "websocket_adapter", "logging", "log",
  ]

  /// How Nylon's host applies the limits of a broker and of a plugin.
  private static let onlyOnInitialize =
    "is applied by Nylon's host to `initialize` messages only; nylon-bench applies it to every phase request"

  /// Whether a block is enabled, which is the default.
  @Sendable private static func isEnabled(_ block: YAMLValue) -> Bool {
    block["enabled"]?.text?.lowercased() != "false"
  }

  /// An entry of `messaging:`, which configures a broker and its use.
  struct Messaging {
    enum Broker: String, CaseIterable { case nats }

    /// The block that defines the broker, for messages.
    var block: Block?
    var name = ""
    var type = Broker.nats
    var servers: [String] = []
    var subjectPrefix = "nylon.plugin"
    /// The timeout and retries of all phases of its plugins, unless a phase has its own.
    var policy = PolicyOverride()
    var maxInFlight = 1024
    var overflow = OverflowPolicy.queue
    var defaultHeaders: [KeyValue] = []
    var tls = NATSTLS()
    var auth = NATSAuth()

    static let keys = Keys<Messaging>(
      "messaging", home: "an entry of messaging:", of: Messaging(),
      [
        Key(
          "name", \.name, .text.required("name the broker; plugins refer to it"),
          "name that plugins refer to", allowed: "unique"),
        Key("type", \.type, .choice, "the broker's kind"),
        Key(
          "servers", \.servers, .servers, "broker URLs",
          default: "none: the run starts a broker on a free loopback port"
        ).also("url", "urls").inHost(
          "names several brokers, of which Nylon's host dials the first only; nylon-bench spreads its connections "
            + "over all of them"
        ) { $0.items?.count ?? 0 > 1 },
        Key(
          "subject_prefix", \.subjectPrefix,
          .text(
            "words joined by dots",
            fault: "must be words joined by single dots, without spaces, '*' and '>'"
          ) { (try? Subject.check($0, what: "prefix")) != nil },
          "first part of the subjects"
        ).also("prefix").inHost(
          "is put before the whole subject by Nylon's host but replaces '\(Subject.standardPrefix)' in the "
            + "SDK's workers, so their subjects differ; nylon-bench does as the workers do"
        ) { $0.text != Subject.standardPrefix },
        Key(
          "request_timeout_ms", \.policy.timeoutMilliseconds, .whole(PolicyOverride.timeoutRange),
          "timeout of all phases", default: "the phase's"
        ).inHost(onlyOnInitialize),
        Key(
          "max_inflight", \.maxInFlight, .whole(TargetReader.inFlightRange),
          "maximum requests in flight for each of its plugins"
        ).inHost(onlyOnInitialize),
        Key(
          "overflow_policy", \.overflow, .choice, "what happens to requests over that, as for a target"
        ).inHost(onlyOnInitialize),
        Key(
          "retry", \.policy, PolicyOverride.retryKeys, "how a phase is retried", default: "the phase's"
        ).inHost(
          "applies in Nylon's host only to phases that the plugin's `per_phase` names; in nylon-bench it "
            + "applies to all phases"),
        Key(
          "default_headers", \.defaultHeaders, .params,
          "headers added to every message to the workers; those that nylon-bench sets itself take precedence"
        ),
        Key("tls", \.tls, NATSTLS.keys, "TLS to the broker", default: "off").inHost(
          "is read by Nylon's host but never used; nylon-bench uses it", when: isEnabled),
        Key(
          "auth", \.auth, NATSAuth.keys, "credentials for the broker", default: "off"
        ).secret.inHost("is read by Nylon's host but never used; nylon-bench uses it", when: isEnabled),
      ]
    ) { block, messaging in
      messaging.defaultHeaders.removeAll { header in
        guard WorkerMessage.hostHeaders.contains(header.key) else { return false }
        block.problems.add(
          .warning, at: block.get("default_headers")?[header.key]?.place ?? block.value.place,
          key: block.childPath("default_headers.\(header.key)"),
          "has no effect: nylon-bench sets this header itself")
        return true
      }
    }
  }

  /// Returns a validated broker URL, with `nats://` added to a bare host. Passes problems to `fail`.
  static func server(_ text: String, fail: (_ message: String) -> Void) -> String? {
    let full = text.contains("://") ? text : "nats://" + text
    let scheme = full.prefix { $0 != ":" }.lowercased()
    let parts = URLComponents(string: full)
    let faults = [
      (
        !["nats", "tls"].contains(scheme),
        "has the scheme '\(scheme)'; a broker's URL begins with nats:// or tls://"
      ),
      (text.contains(","), "contains a comma; write each server as an item of its own"),
      (text.contains(where: \.isWhitespace), "contains a space"),
      (
        parts?.host?.isEmpty != false,
        "names no host, or has a character in its user part that must be %-encoded"
      ),
      (!(1...65535).contains(parts?.port ?? 1), "has a port that is not from 1 to 65535"),
    ]
    guard let fault = faults.first(where: \.0)?.1 ?? addressFault(full) else { return full }
    fail(fault)
    return nil
  }

  private static func addressFault(_ url: String) -> String? {
    do throws(BrokerError) {
      _ = try BrokerAddress(url)
      return nil
    } catch {
      return "cannot be used: \(error.why)"
    }
  }

  /// An entry of `plugins:`.
  struct Plugin {
    enum Kind: Equatable {
      case ffi, messaging
      /// A type that nylon-bench does not load, such as `wasm`; occurs only in Nylon's own file.
      case other(String)
      /// Invalid; the problem has been reported.
      case broken

      /// The name of the kind in rows.
      var way: String? { self == .ffi ? "FFI" : self == .messaging ? "NATS" : nil }
    }

    /// The block that defines the plugin, for messages.
    var block: Block?
    var kind = Kind.broken
    var name = ""
    var file = ""
    var configJSON = ""
    var messaging: String?
    var group = "default"
    var entryPoint: String?
    /// The plugin's own limits; nil for those of its broker.
    var maxInFlight: Int?
    var overflow: OverflowPolicy?
    var perPhase: [Phase: PolicyOverride] = [:]

    /// The products of this package, which `file` may name without a path.
    private static let products = ["ExamplePlugin", "NullPlugin", "ThreadedPlugin"]

    static let keys = Keys<Plugin>(
      "plugins", home: "an entry of plugins:", of: Plugin(),
      [
        Key(
          "name", \.name, .text.required("name the plugin; targets refer to it"),
          "name that targets refer to; over NATS also part of the subjects",
          allowed: "unique; over NATS without dots, spaces, `*` and `>`"),
        Key(
          "type", "how the plugin is reached", default: "`messaging` when `messaging:` is set",
          allowed: "`ffi`, `messaging`"),
        Key(
          "file", \.file, .text.required("name the shared library, or a product such as ExamplePlugin"),
          "the shared library: a path, or a product of this package",
          allowed: products.map { "`\($0)`, " }.joined() + "or a path"
        ).only("FFI").also("path"),
        Key(
          "config", \.configJSON, .json,
          "the plugin's configuration, passed as JSON to `initialize` of an FFI plugin, or in the "
            + "`initialize` message to workers", default: "none"),
        Key(
          "messaging", \.messaging, .text.required("name an entry of messaging:"), "an entry of `messaging:`"
        ).only("NATS"),
        Key(
          "group", \.group, .text, "the queue group", allowed: "no spaces"
        ).only("NATS").also("queue_group"),
        Key(
          "entry_point", \.entryPoint, .text, "the handler, unless the target names one"
        ).also("handler"),
        Key(
          "max_inflight", \.maxInFlight, .whole(TargetReader.inFlightRange), "maximum requests in flight",
          default: "the broker's"
        ).only("NATS").inHost(onlyOnInitialize),
        Key(
          "overflow_policy", \.overflow, .choice, "what happens to requests over that, as for a target",
          default: "the broker's"
        ).only("NATS").inHost(onlyOnInitialize),
        Key(
          "per_phase", \.perPhase, PolicyOverride.perPhaseKeys,
          "a block for each phase, such as `logging: {timeout_ms: 100}`"),
      ])

    static func read(_ block: Block) -> Plugin {
      var plugin = Plugin(block: block)
      let type = block.text("type") ?? (block.get("messaging") == nil ? nil : "messaging")
      switch type {
      case "ffi": plugin.kind = .ffi
      case "messaging": plugin.kind = .messaging
      case let other? where block.isLenient: plugin.kind = .other(other)
      case let other?:
        block.fail(
          "type", "must be ffi or messaging",
          suggestion: Suggestion.nearest(to: other, among: ["ffi", "messaging"]))
      case nil where block.get("type") == nil:
        block.fail(
          "type", "is missing", remedy: "write type: ffi with a file, or messaging: with a broker's name")
      case nil: break
      }
      let way = plugin.kind.way
      keys.read(block, into: &plugin, type: way ?? "") { row in
        guard !block.isLenient, way != nil, let type else { return nil }
        return "is for plugins of type \(row.only == "FFI" ? "ffi" : "messaging"); this one is \(type)"
      }
      switch plugin.kind {
      case .ffi: plugin.resolveFile(block)
      case .messaging: plugin.checkPool(block)
      case .other, .broken: break
      }
      return plugin
    }

    private mutating func resolveFile(_ block: Block) {
      for (phase, override) in perPhase where override.onError == .retry || override.attempts ?? 1 > 1 {
        block.problems.add(
          block.isLenient ? .warning : .error,
          at: block.get("per_phase")?[phase.subjectFragment]?.place ?? block.value.place,
          key: block.childPath("per_phase.\(phase.subjectFragment)"),
          "asks for retries, which an in-process plugin does not have; a failed phase ends the session",
          remedy: "remove them")
      }
      if file.isEmpty || Self.products.contains(file) { return }
      if !file.contains("/"), !file.contains("."),
        let near = Suggestion.nearest(to: file, among: Self.products)
      {
        block.fail("file", "is neither a path nor a product of this package", suggestion: near)
      }
      let written = file
      file = block.resolve(written)
      // Nylon resolves a relative path against the folder in which it is started.
      let files = FileManager.default
      if block.isLenient, !files.fileExists(atPath: file), files.fileExists(atPath: written) {
        file = ScenarioDraft.absolute(written)
      }
    }

    private func checkPool(_ block: Block) {
      checkName()
      if (try? Subject.check(group, what: "group")) == nil {
        block.fail("group", "must be a word without spaces, '*' and '>': the queue group of the workers")
      }
    }

    /// Reports a name that cannot be part of NATS subjects. In Nylon's own file, this is an error only if a
    /// target uses the plugin.
    func checkName(isTarget: Bool = false) {
      guard let block, !name.isEmpty else { return }
      do throws(MessageError) {
        _ = try Subject(plugin: name)
      } catch {
        guard case .badSubjectToken(_, _, let reason) = error else { return }
        block.problems.add(
          block.isLenient && !isTarget ? .warning : .error, at: block.get("name")?.place ?? block.value.place,
          key: block.childPath("name"), value: name,
          "\(reason): it is part of NATS subjects",
          remedy: "name it with letters, digits, '-' and '_'")
      }
    }
  }
}

extension Kind<[String]> {
  /// Broker URLs.
  static var servers: Kind {
    Kind(allowed: "`nats://host:port`, `tls://…`; `nats://` may be left out") { block, key in
      block.items(key, of: "broker URLs")?.compactMap { item in
        guard let text = item.value.text else { return item.refuse("is \(item.value.kind), not a URL") }
        return NylonConfiguration.server(text) {
          item.fail($0, remedy: "write for example nats://127.0.0.1:4222")
        }
      }
    }
  }
}

extension Kind<String> {
  /// A mapping with arbitrary keys, as JSON.
  static var json: Kind {
    Kind(allowed: "a mapping") { block, key in
      block.get(key).flatMap {
        $0.entries == nil ? block.refuse(key, "is \($0.kind), not a mapping") : $0.json
      }
    }
  }
}

extension NATSTLS {
  static let keys = Keys<NATSTLS>(
    "tls", home: "tls: of an entry of messaging:", of: NATSTLS(),
    [
      Key("enabled", \.enabled, .flag, "whether TLS is used", default: "`true` when the block is present"),
      Key("ca_file", \.caFile, .path, "certificates of the trusted authorities", default: "the system's"),
      Key("cert_file", \.certFile, .path, "the client's certificate; together with `key_file`"),
      Key("key_file", \.keyFile, .path, "the client's key; together with `cert_file`"),
    ]
  ) { block, tls in
    if block.get("enabled") == nil { tls.enabled = true }
    block.checkPair("cert_file", "key_file", "a certificate and its key")
  }
}

extension NATSAuth {
  static let keys = Keys<NATSAuth>(
    "auth", home: "auth: of an entry of messaging:", of: NATSAuth(),
    [
      Key(
        "enabled", "whether the broker gets the credentials", default: "`true` when the block is present",
        allowed: "`true`, `false`"),
      Key("token", \.token, .text, "a token").secret,
      Key("user", \.user, .text, "a user name; together with `password`").secret,
      Key("password", \.password, .text, "the user's password").secret,
      Key(
        "credentials", \.credentials, .path, "a file with a user's JWT and seed; wins over `nkey`"
      ).secret,
      Key(
        "credentials_file", \.credentials, .path,
        "the same as `credentials`, under Nylon's own name for it"
      ).secret,
      Key("nkey", \.nkey, .path, "a file with a user's seed").secret,
    ]
  ) { block, auth in
    guard block.flag("enabled") ?? true else {
      auth = NATSAuth()
      return
    }
    let ways = ["token", "user", "password", "credentials", "credentials_file", "nkey"]
    if ways.allSatisfy({ block.get($0) == nil }) {
      block.fail("enabled", "is true, but no token, user, credentials or nkey is given")
    }
    if block.get("credentials") != nil, block.get("credentials_file") != nil {
      block.fail("credentials_file", "is the same as credentials", remedy: "keep one of them")
    }
    block.checkPair("user", "password", "user and password")
  }
}

/// The parts of a phase's policy that a configuration sets; nil parts come from the next layer.
struct PolicyOverride: Equatable {
  var timeoutMilliseconds: Int?
  var onError: ErrorAction?
  /// The total number of attempts, including the first.
  var attempts: Int?
  var backoffFirst: Int?
  var backoffMost: Int?

  static let timeoutRange = 1...600_000

  static let keys = Keys<PolicyOverride>(
    "per_phase", home: "a phase of a plugin's per_phase:", of: PolicyOverride(),
    [
      Key(
        "timeout_ms", \.timeoutMilliseconds, .whole(timeoutRange), "timeout of the phase",
        default: "the broker's"),
      Key(
        "on_error", \.onError, .choice,
        "what happens after a failure. `retry`: the same request again; `continue`: go on with the session; "
          + "`end`: fail the session", default: "the phase's"),
      Key("retry", \.self, retryKeys, "how the phase is retried", default: "the broker's"),
    ])

  static let retryKeys = Keys<PolicyOverride>(
    "retry", home: "retry:", of: PolicyOverride(),
    [
      Key(
        "max", \.attempts, .whole(1...100), "total attempts, including the first", default: "the phase's"
      ).also("attempts"),
      Key(
        "backoff_ms_initial", \.backoffFirst, .whole(0...60_000), "wait before the second attempt",
        default: "the phase's"),
      Key(
        "backoff_ms_max", \.backoffMost, .whole(0...60_000), "longest wait between two attempts",
        default: "the phase's"),
    ]
  ) { block, policy in
    if let first = policy.backoffFirst, let most = policy.backoffMost, first > most {
      block.fail(
        "backoff_ms_initial", "is over \(block.childPath("backoff_ms_max")) (\(most))",
        remedy: "the first wait is at most the longest one")
    }
  }

  static let perPhaseKeys = Keys<[Phase: PolicyOverride]>(
    "phases", home: "a plugin's per_phase:", of: [:],
    Phase.session.map { phase in
      Key(phase.subjectFragment, \.[policy: phase], keys, "the policy of the phase")
    })

  /// Returns a policy with the set parts replaced. If only one end of the backoff is set, the other is
  /// adjusted to it.
  func over(_ base: PhasePolicy) -> PhasePolicy {
    var policy = base
    policy.timeoutMilliseconds = timeoutMilliseconds ?? base.timeoutMilliseconds
    policy.onError = onError ?? base.onError
    policy.attempts = attempts ?? base.attempts
    let first = backoffFirst ?? base.backoffFirstMilliseconds
    let most = backoffMost ?? base.backoffMostMilliseconds
    policy.backoffFirstMilliseconds = backoffFirst == nil ? min(first, most) : first
    policy.backoffMostMilliseconds = backoffMost == nil ? max(first, most) : most
    return policy
  }
}

extension [Phase: PolicyOverride] {
  fileprivate subscript(policy phase: Phase) -> PolicyOverride {
    get { self[phase] ?? PolicyOverride() }
    set { self[phase] = newValue }
  }
}

/// A plugin of a Nylon configuration, for commands that need no scenario.
package struct ConfiguredPlugin: Sendable, Equatable {
  package var name: String
  /// `ffi`, `messaging`, or an unsupported type.
  package var type: String
  /// The plugin's file, or its subject and brokers without secrets; empty if it has neither.
  package var place = ""
  /// The handlers that the configuration names: `entry_point`, then those used by middleware and services.
  package var handlers: [String]
  /// The maximum number of requests in flight that the configuration allows; nil if it sets none.
  package var maxInFlight: Int?
  /// The reason why the plugin cannot be measured as configured; nil if it can.
  package var obstacle: String?
}

extension ConfiguredPlugin {
  init(_ plugin: NylonConfiguration.Plugin, of configuration: NylonConfiguration) {
    let handlers = [plugin.entryPoint].compactMap { $0 } + configuration.entries[plugin.name, default: []]
    var seen: Set<String> = []
    self.init(name: plugin.name, type: "", handlers: handlers.filter { seen.insert($0).inserted })
    switch plugin.kind {
    case .ffi: (type, place) = ("ffi", plugin.file)
    case .messaging:
      type = "messaging"
      guard let broker = configuration.messaging.first(where: { $0.name == plugin.messaging }) else { break }
      let servers = broker.servers.map(Redaction.redactedURL).joined(separator: ", ")
      maxInFlight = plugin.maxInFlight ?? broker.maxInFlight
      place = "\(broker.subjectPrefix).\(plugin.name) at \(servers.isEmpty ? "no server" : servers)"
      obstacle = servers.isEmpty ? "its messaging: names no servers; name one with --server" : nil
    case .other(let other): (type, obstacle) = (other, "its type cannot be loaded")
    case .broken: obstacle = "it has errors"
    }
  }
}
