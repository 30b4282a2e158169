import Foundation
import NATS
import Nylon

/// How a worker reaches its broker, and under which name it serves.
public struct NATSConfiguration: Sendable {
  /// The plugin's name, as Nylon's configuration has it.
  public var name: String
  /// Broker URLs; tried from a random one on, unless `startsWithFirstServer`.
  public var servers: [String]
  /// Whether the first of the servers is tried first. Otherwise workers spread over them by chance.
  public var startsWithFirstServer = false
  /// Workers of one group share the requests.
  public var queueGroup = "default"
  /// What the subjects begin with.
  public var subjectPrefix = Subject.standardPrefix
  /// Threads that run handlers; 1 runs them on the connection's own thread, which is the
  /// fastest as long as handlers do not wait.
  public var maxWorkers = 1
  /// The wire dialect: `reply`, or that of a version of the Go SDK, `text-id`, `reply-sdk` or `stream-sdk`.
  public var dialect = Dialect.reply.rawValue
  /// Whether a map of `stream-sdk` without `data` has nil there, as those of the SDK's newest version.
  public var writesNilData = false
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

  /// A descriptor, open for appending, to which each request is noted that a handler is about to see. A request that
  /// cannot be noted is refused.
  public var ledgerDescriptor: Int32?

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

  private static let texts: [(name: String, field: WritableKeyPath<Self, String?> & Sendable)] = [
    ("NATS_TOKEN", \.token), ("NATS_USER", \.user), ("NATS_PASSWORD", \.password),
    ("NATS_CREDS", \.credentialsFile), ("NATS_NKEY", \.nkeySeedFile), ("NATS_CA", \.tlsCAFile),
    ("NATS_CERT", \.tlsCertificateFile), ("NATS_KEY", \.tlsKeyFile),
  ]

  /// Takes servers, group, credentials and TLS settings from an environment, as a started worker gets them:
  /// `NATS_SERVERS` (comma separated), `NATS_NO_RANDOMIZE` (`1`: begin with the first of them), `NATS_GROUP`, `NATS_TOKEN`, `NATS_USER`, `NATS_PASSWORD`, `NATS_CREDS`
  /// (a credentials file), `NATS_NKEY` (an nkey's seed file), `NATS_TLS` (`1` switches TLS on), `NATS_CA`, `NATS_CERT`
  /// and `NATS_KEY` (files); from `NYLON_DIALECT` the dialect, from `NYLON_NIL_DATA` (`1`) its form; and from
  /// `NYLON_LEDGER_FD` the ledger's descriptor. What is not set, or is empty, stays as it is.
  public mutating func apply(environment: [String: String]) {
    let values = environment.filter { !$0.value.isEmpty }
    let servers = Self.servers(of: values["NATS_SERVERS"] ?? "")
    if !servers.isEmpty { self.servers = servers }
    startsWithFirstServer = values["NATS_NO_RANDOMIZE"].map { $0 != "0" } ?? startsWithFirstServer
    queueGroup = values["NATS_GROUP"] ?? queueGroup
    dialect = values["NYLON_DIALECT"] ?? dialect
    writesNilData = values["NYLON_NIL_DATA"].map { $0 != "0" } ?? writesNilData
    tlsEnabled = values["NATS_TLS"].map { $0 != "0" } ?? tlsEnabled
    ledgerDescriptor = values[HandledRequest.variable].map { Int32($0) ?? -1 } ?? ledgerDescriptor
    for (name, field) in Self.texts { self[keyPath: field] = values[name] ?? self[keyPath: field] }
  }

  /// The URLs of a comma-separated list.
  public static func servers(of list: String) -> [String] {
    list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
      .filter { !$0.isEmpty }
  }

  /// A URL as it may be shown: without user, password and token.
  public static func redacted(_ url: String) -> String { BrokerAddress.redacted(url, mask: "") }

  /// All URLs as they may be shown.
  var redactedServers: String { servers.map(Self.redacted).joined(separator: ", ") }

  /// Credentials and TLS settings, read from their files.
  func security() throws(NATSWorkerError) -> WireSecurity {
    var tls = NATSTLS(
      enabled: tlsEnabled, caFile: tlsCAFile, certFile: tlsCertificateFile, keyFile: tlsKeyFile)
    tls.enabled = tls != NATSTLS() || tls.isUsed(for: servers)
    let auth = NATSAuth(
      token: token, user: user, password: password, credentials: credentialsFile, nkey: nkeySeedFile)
    do throws(SecurityFileError) {
      return try WireSecurity(auth: auth, tls: tls, servers: servers)
    } catch {
      // Under the names that a worker has for them.
      let (option, variable) =
        switch error.key {
        case .caFile: ("tls-ca", "NATS_CA")
        case .certFile: ("tls-cert", "NATS_CERT")
        case .keyFile: ("tls-key", "NATS_KEY")
        case .credentials: ("creds-file", "NATS_CREDS")
        case .nkey: ("nkey-file", "NATS_NKEY")
        }
      throw .badOption(
        key: option, reason: "'\(error.path)' (\(variable)) cannot be used: \(error.why). \(error.remedy)")
    }
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
