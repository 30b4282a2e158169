import NylonProtocol

/// How a worker reaches its broker, and under which name it serves.
public struct NATSConfiguration: Sendable {
  /// The plugin's name, as Nylon's configuration has it.
  public var name: String
  /// Broker URLs; tried from a random one on.
  public var servers: [String]
  /// Workers of one group share the requests.
  public var queueGroup = "default"
  /// What the subjects begin with.
  public var subjectPrefix = Subject.standardPrefix
  /// Threads that run handlers; 1 runs them on the connection's own thread, which is the
  /// fastest as long as handlers do not wait.
  public var maxWorkers = 1
  /// What carries the messages.
  public var client = NATSWorkerClient.native
  /// The JSON that `Plugin.onInitialize` gets at the start.
  public var pluginConfiguration = PluginConfiguration()

  /// A token; a secret.
  public var token: String?
  /// A user's name.
  public var user: String?
  /// The user's password; a secret.
  public var password: String?
  /// A file with a JWT and its seed.
  public var credentialsFile: String?
  /// The public key (`U…`) that belongs to `nkeySeedFile`.
  public var nkeyPublic: String?
  /// A file with an NKey's seed.
  public var nkeySeedFile: String?
  /// A file with the authorities that the broker's certificate is checked against. Any of the
  /// three TLS files switches TLS on; a `tls://` URL does so too.
  public var tlsCAFile: String?
  /// A file with the worker's own certificate.
  public var tlsCertificateFile: String?
  /// A file with the worker's own key.
  public var tlsKeyFile: String?

  /// Milliseconds for one attempt to connect.
  public var connectTimeoutMilliseconds = 2000
  /// Attempts to reconnect; -1 is for ever.
  public var maxReconnects = -1
  /// Milliseconds between two attempts to reconnect.
  public var reconnectWaitMilliseconds = 250
  /// Milliseconds that a stop may take to finish what is there.
  public var drainTimeoutMilliseconds = 10_000

  /// A configuration; everything else has defaults.
  public init(name: String, servers: [String] = ["nats://127.0.0.1:4222"]) {
    self.name = name
    self.servers = servers
  }

  /// A configuration for one URL and a group, the rest by default.
  public init(name: String, url: String, group: String) {
    self.init(name: name, servers: [url])
    queueGroup = group
  }

  /// Takes `NATS_SERVERS` (comma separated) and `NATS_GROUP` from an environment.
  public mutating func apply(environment: [String: String]) {
    let servers = Self.servers(of: environment["NATS_SERVERS"] ?? "")
    if !servers.isEmpty { self.servers = servers }
    if let group = environment["NATS_GROUP"], !group.isEmpty { queueGroup = group }
  }

  /// The URLs of a comma-separated list.
  public static func servers(of list: String) -> [String] {
    list.split(separator: ",").map { url in
      String(url.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }.filter { !$0.isEmpty }
  }

  /// A URL for people: without user, password and token.
  public static func redacted(_ url: String) -> String {
    let rest = url.firstRange(of: "://").map { $0.upperBound } ?? url.startIndex
    // The last @: a password may have one of its own.
    guard let at = url[rest...].lastIndex(of: "@") else { return url }
    return String(url[..<rest] + url[url.index(after: at)...])
  }

  /// All URLs for people.
  var redactedServers: String { servers.map(Self.redacted).joined(separator: ", ") }
}

/// What carries a worker's messages.
public enum NATSWorkerClient: String, Sendable, CaseIterable {
  /// The package's own connection: one socket, one buffer each way. Where it cannot do what is asked (TLS, an
  /// nkey, a credentials file), libnats is taken.
  case native
  /// The C client.
  case libnats
}

extension NATSConfiguration {
  /// Why the native connection cannot be taken; nil when it can.
  var libraryReason: String? {
    if nkeySeedFile != nil { return "an nkey" }
    if credentialsFile != nil { return "a credentials file" }
    let usesTLS = servers.contains { $0.lowercased().hasPrefix("tls://") }
    return usesTLS || tlsCAFile != nil || tlsCertificateFile != nil || tlsKeyFile != nil ? "TLS" : nil
  }
}

/// Why a worker cannot start, or had to stop. Never has a secret in it.
public enum NATSWorkerError: Error, Equatable, Sendable {
  /// A value of the configuration that cannot be used.
  case badOption(key: String, reason: String)
  /// No broker answered.
  case noBroker(servers: String, reason: String)
  /// The broker refused the credentials.
  case refused(servers: String)
  /// The connection was lost for good.
  case connectionLost(servers: String)
  /// The broker or the system refused a step.
  case failed(step: String, reason: String)
  /// The plugin refused its configuration.
  case initializeFailed(reason: String)
}

extension NATSWorkerError: CustomStringConvertible {
  /// Object, value and remedy in one sentence.
  public var description: String {
    switch self {
    case .badOption(let key, let reason): "worker option '\(key)': \(reason)"
    case .noBroker(let servers, let reason):
      "no NATS server answers at \(servers) (\(reason)); start one with `nats-server`, or name "
        + "another with --servers or NATS_SERVERS"
    case .refused(let servers):
      "the NATS server at \(servers) refused the credentials; check NATS_TOKEN, NATS_USER and "
        + "NATS_PASSWORD, --creds-file or --nkey-file"
    case .connectionLost(let servers):
      "the connection to the NATS server at \(servers) is closed for good"
    case .failed(let step, let reason): "cannot \(step): \(reason)"
    case .initializeFailed(let reason): "initialize failed: \(reason)"
    }
  }
}
