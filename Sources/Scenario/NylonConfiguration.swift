import NATS
import Nylon

/// Nylon's own `messaging:` and `plugins:` blocks, as read from a scenario or from Nylon's file.
struct NylonConfiguration {
  /// One entry of `messaging:`: a broker and how it is used.
  struct Messaging {
    var name: String
    var servers: [String] = []
    /// True when servers are listed, right or wrong.
    var hasServers = false
    var subjectPrefix = "nylon.plugin"
    /// Timeout and retries of all phases of its plugins, unless a phase has its own.
    var policy = PolicyOverride()
    var maxInFlight = 1024
    /// The key that set `maxInFlight`, for messages.
    var maxInFlightKey: String
    var overflow = OverflowPolicy.queue
    var tls = NATSTLS()
    var auth = NATSAuth()
  }

  /// How a plugin is reached.
  enum Kind {
    case ffi(file: String, configJSON: String)
    case messaging(name: String, group: String, configJSON: String)
    /// A type that this suite does not load, such as `wasm`; only in Nylon's own file.
    case other(String)
    /// Wrong in a way that has been noted.
    case broken
  }

  /// One entry of `plugins:`.
  struct Plugin {
    var name: String
    /// Where its `messaging:` is written, or the entry itself.
    var place: ScenarioProblem.Place
    /// The path of its `messaging:` as `--set` writes it.
    var messagingPath: String
    var kind: Kind
    var entryPoint: String?
    var perPhase: [Phase: PolicyOverride] = [:]
  }

  var messaging: [Messaging] = []
  var plugins: [Plugin] = []

  /// Notes plugins that refer to a broker that is not there.
  func checkReferences(_ problems: ProblemCollector) {
    let names = messaging.map(\.name)
    for plugin in plugins {
      guard case .messaging(let name, _, _) = plugin.kind, !names.contains(name) else { continue }
      problems.add(
        at: plugin.place, key: plugin.messagingPath, value: name, "is not an entry of messaging:",
        suggestion: Suggestion.nearest(to: name, among: names),
        remedy: names.isEmpty ? "There are none" : "Known: \(names.joined(separator: ", "))")
    }
  }

  /// Top-level keys of Nylon's file that say nothing about plugins.
  static let otherTopLevelKeys = [
    "runtime", "pingora", "proxy", "services", "routes", "middleware_groups", "header_selector", "tls",
    "acme",
    "config_dir", "http", "https", "metrics", "websocket", "websocket_adapter", "logging", "log",
  ]

  static let messagingKeys = [
    "name", "type", "servers", "subject_prefix", "request_timeout_ms", "max_inflight", "overflow_policy",
    "retry",
    "tls", "auth",
  ]
  static let pluginKeys = [
    "name", "type", "file", "config", "messaging", "group", "entry_point", "per_phase",
  ]

  /// The products of this package that a plugin's `file` may name without a path.
  static let products = ["ExamplePlugin", "NullPlugin", "ThreadedPlugin"]
}
