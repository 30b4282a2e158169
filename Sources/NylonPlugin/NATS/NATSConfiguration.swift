import NATS
import Nylon

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
  /// A file with an nkey's seed (`SU…`).
  public var nkeySeedFile: String?
  /// Whether TLS is used. A `tls://` URL, any of the three TLS files, or a broker that requires it switches TLS on
  /// as well.
  public var tlsEnabled = false
  /// A file with the authorities that the broker's certificate is checked against; those of the system when nil.
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

  /// The variables that `apply(environment:)` takes.
  public static let environmentNames = [
    "NATS_SERVERS", "NATS_GROUP", "NATS_TOKEN", "NATS_USER", "NATS_PASSWORD", "NATS_CREDS", "NATS_NKEY",
    "NATS_TLS", "NATS_CA", "NATS_CERT", "NATS_KEY",
  ]

  /// Takes servers, group, credentials and TLS settings from an environment, as a started worker gets them:
  /// `NATS_SERVERS` (comma separated), `NATS_GROUP`, `NATS_TOKEN`, `NATS_USER`, `NATS_PASSWORD`, `NATS_CREDS`
  /// (a credentials file), `NATS_NKEY` (an nkey's seed file), `NATS_TLS` (`1` switches TLS on), `NATS_CA`, `NATS_CERT`
  /// and `NATS_KEY` (files). What is not set, or is empty, stays as it is.
  public mutating func apply(environment: [String: String]) {
    func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    let servers = Self.servers(of: environment["NATS_SERVERS"] ?? "")
    if !servers.isEmpty { self.servers = servers }
    queueGroup = value("NATS_GROUP") ?? queueGroup
    token = value("NATS_TOKEN") ?? token
    user = value("NATS_USER") ?? user
    password = value("NATS_PASSWORD") ?? password
    credentialsFile = value("NATS_CREDS") ?? credentialsFile
    nkeySeedFile = value("NATS_NKEY") ?? nkeySeedFile
    tlsEnabled = value("NATS_TLS").map { $0 != "0" } ?? tlsEnabled
    tlsCAFile = value("NATS_CA") ?? tlsCAFile
    tlsCertificateFile = value("NATS_CERT") ?? tlsCertificateFile
    tlsKeyFile = value("NATS_KEY") ?? tlsKeyFile
  }

  /// The URLs of a comma-separated list.
  public static func servers(of list: String) -> [String] {
    list.split(separator: ",").map { url in
      String(url.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }.filter { !$0.isEmpty }
  }

  /// A URL as it may be shown: without user, password and token.
  public static func redacted(_ url: String) -> String {
    let rest = url.firstRange(of: "://").map { $0.upperBound } ?? url.startIndex
    // The last @: a password may have one of its own.
    guard let at = url[rest...].lastIndex(of: "@") else { return url }
    return String(url[..<rest] + url[url.index(after: at)...])
  }

  /// All URLs as they may be shown.
  var redactedServers: String { servers.map(Self.redacted).joined(separator: ", ") }
}

extension NATSConfiguration {
  /// Whether TLS is used, whatever the broker says.
  var usesTLS: Bool {
    tlsEnabled || tlsCAFile != nil || tlsCertificateFile != nil || tlsKeyFile != nil
      || NATSTLS().isUsed(for: servers)
  }

  /// Credentials and TLS settings, read from their files.
  func security() throws(NATSWorkerError) -> WireSecurity {
    do throws(SecurityFileError) {
      return try WireSecurity(
        auth: NATSAuth(
          token: token, user: user, password: password, credentials: credentialsFile, nkey: nkeySeedFile),
        tls: NATSTLS(
          enabled: usesTLS, caFile: tlsCAFile, certFile: tlsCertificateFile, keyFile: tlsKeyFile),
        servers: servers)
    } catch {
      throw .badFile(error)
    }
  }
}

extension NATSWorkerError {
  /// A file of the configuration, under the names that a worker has for it.
  static func badFile(_ error: SecurityFileError) -> NATSWorkerError {
    let (option, variable) =
      switch error.key {
      case .caFile: ("tls-ca", "NATS_CA")
      case .certFile: ("tls-cert", "NATS_CERT")
      case .keyFile: ("tls-key", "NATS_KEY")
      case .credentials: ("creds-file", "NATS_CREDS")
      case .nkey: ("nkey-file", "NATS_NKEY")
      }
    return .badOption(
      key: option, reason: "'\(error.path)' (\(variable)) cannot be used: \(error.why). \(error.remedy)")
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
  /// No TLS connection came about: one side does not accept the other's certificate, or offers no TLS.
  case noTLS(servers: String, reason: String)
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
        + "NATS_PASSWORD, NATS_CREDS (--creds-file) or NATS_NKEY (--nkey-file)"
    case .noTLS(let servers, let reason):
      "no TLS connection to the NATS server at \(servers): \(reason); check NATS_CA (--tls-ca), "
        + "NATS_CERT (--tls-cert) and NATS_KEY (--tls-key)"
    case .connectionLost(let servers):
      "the connection to the NATS server at \(servers) is closed for good"
    case .failed(let step, let reason): "cannot \(step): \(reason)"
    case .initializeFailed(let reason): "initialize failed: \(reason)"
    }
  }
}
