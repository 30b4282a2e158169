import Foundation
import NATS
import Nylon

/// The connection settings of a worker and the name under which it serves.
public struct NATSConfiguration: Sendable {
  /// The plugin's name in Nylon's configuration.
  public var name: String
  /// The broker URLs. The first one tried is random unless `startsWithFirstServer` is true.
  public var servers: [String]
  /// Whether to try the first server first. If false, workers spread over the servers at random.
  public var startsWithFirstServer = false
  /// The queue group; the workers of a group share the requests.
  public var queueGroup = "default"
  /// The prefix of the subjects.
  public var subjectPrefix = Subject.standardPrefix
  /// The number of threads that run handlers. With 1, handlers run on the connection's own thread, which is
  /// fastest as long as they do not block.
  public var maxWorkers = 1
  /// The wire dialect: `reply`, or one that a version of the Go SDK speaks: `text-id`, `reply-sdk` or
  /// `stream-sdk`.
  public var dialect = Dialect.reply.rawValue
  /// Whether `stream-sdk` maps without `data` carry a nil `data`, as the newest version of the SDK writes
  /// them.
  public var writesNilData = false
  /// The JSON that is passed to `Plugin.onInitialize` at the start.
  public var pluginConfiguration = PluginConfiguration()

  /// The authentication token; a secret.
  public var token: String?
  /// The user name.
  public var user: String?
  /// The password; a secret.
  public var password: String?
  /// The path of a credentials file with a JWT and its seed.
  public var credentialsFile: String?
  /// The path of a file with an nkey seed (`SU…`).
  public var nkeySeedFile: String?
  /// Whether TLS is enabled. A `tls://` URL, any of the three TLS files, or a broker that requires TLS also
  /// enables it.
  public var tlsEnabled = false
  /// The path of a CA file that verifies the broker's certificate; nil for the system's authorities.
  public var tlsCAFile: String?
  /// The path of the worker's own certificate.
  public var tlsCertificateFile: String?
  /// The path of the worker's own private key.
  public var tlsKeyFile: String?

  /// A descriptor, open for appending, of the ledger that records each request before its handler runs; nil
  /// for no ledger. A request that cannot be recorded is refused.
  public var ledgerDescriptor: Int32?

  /// The timeout of one connection attempt, in milliseconds.
  public var connectTimeoutMilliseconds = 2000
  /// The maximum number of reconnect attempts; -1 for no limit.
  public var maxReconnects = -1
  /// The wait between two reconnect attempts, in milliseconds.
  public var reconnectWaitMilliseconds = 250
  /// The time that a stop may take to finish pending requests, in milliseconds.
  public var drainTimeoutMilliseconds = 10_000

  /// Creates a configuration with default values for all other settings.
  public init(name: String, servers: [String] = ["nats://127.0.0.1:4222"]) {
    self.name = name
    self.servers = servers
  }

  /// Creates a configuration for one URL and a queue group, with default values for all other settings.
  public init(name: String, url: String, group: String) {
    self.init(name: name, servers: [url])
    queueGroup = group
  }

  private static let texts: [(name: String, field: WritableKeyPath<Self, String?> & Sendable)] = [
    ("NATS_TOKEN", \.token), ("NATS_USER", \.user), ("NATS_PASSWORD", \.password),
    ("NATS_CREDS", \.credentialsFile), ("NATS_NKEY", \.nkeySeedFile), ("NATS_CA", \.tlsCAFile),
    ("NATS_CERT", \.tlsCertificateFile), ("NATS_KEY", \.tlsKeyFile),
  ]

  /// Applies the environment variables that a launched worker receives. A variable that is unset or empty
  /// leaves its setting unchanged.
  ///
  /// - `NATS_SERVERS`: broker URLs, comma-separated; `NATS_NO_RANDOMIZE`: `1` tries the first one first
  /// - `NATS_GROUP`: the queue group
  /// - `NATS_TOKEN`, `NATS_USER`, `NATS_PASSWORD`, `NATS_CREDS` (a credentials file), `NATS_NKEY` (an nkey
  ///   seed file)
  /// - `NATS_TLS`: `1` enables TLS; `NATS_CA`, `NATS_CERT`, `NATS_KEY`: files
  /// - `NYLON_DIALECT`: the dialect; `NYLON_NIL_DATA`: `1` sets `writesNilData`
  /// - `NYLON_LEDGER_FD`: the ledger's descriptor
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

  /// Returns the URLs in a comma-separated list.
  public static func servers(of list: String) -> [String] {
    list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
      .filter { !$0.isEmpty }
  }

  /// Returns the URL without user, password and token, for display.
  public static func redacted(_ url: String) -> String { BrokerAddress.redacted(url, mask: "") }

  /// All URLs, redacted for display.
  var redactedServers: String { servers.map(Self.redacted).joined(separator: ", ") }

  /// Reads the credentials and TLS settings from their files.
  func security() throws(NATSWorkerError) -> WireSecurity {
    var tls = NATSTLS(
      enabled: tlsEnabled, caFile: tlsCAFile, certFile: tlsCertificateFile, keyFile: tlsKeyFile)
    tls.enabled = tls != NATSTLS() || tls.isUsed(for: servers)
    let auth = NATSAuth(
      token: token, user: user, password: password, credentials: credentialsFile, nkey: nkeySeedFile)
    do throws(SecurityFileError) {
      return try WireSecurity(auth: auth, tls: tls, servers: servers)
    } catch {
      // The worker's own names for these settings.
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

/// An error that prevents a worker from starting, or that stopped it. Never contains a secret.
public enum NATSWorkerError: Error, Equatable, Sendable {
  /// A value of the configuration is invalid.
  case badOption(key: String, reason: String)
  /// No broker answered.
  case noBroker(servers: String, reason: String)
  /// The broker refused the credentials.
  case refused(servers: String)
  /// The TLS handshake failed: one side rejects the other's certificate, or does not offer TLS.
  case noTLS(servers: String, reason: String)
  /// The connection is permanently lost.
  case connectionLost(servers: String)
  /// The broker or the system refused a step.
  case failed(step: String, reason: String)
  /// The plugin refused its configuration.
  case initializeFailed(reason: String)
}

extension NATSWorkerError: CustomStringConvertible {
  /// A sentence that names the setting or server, the reason and often a remedy.
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
      "the connection to the NATS server at \(servers) is permanently lost"
    case .failed(let step, let reason): "cannot \(step): \(reason)"
    case .initializeFailed(let reason): "initialize failed: \(reason)"
    }
  }
}
