import Engine
import Foundation
import NATS
import Scenario

/// A nats-server that the run starts on a free loopback port, and probes of one that the user runs.
///
/// Every user of the machine reaches its loopback ports. So a client needs credentials, if need be a token that is made
/// for this broker, and the monitoring, which asks for none and tells them, lies under a path that nobody can guess.
package final class Broker: ProcessHolder {
  package let port: UInt16
  package let monitor: BrokerMonitor
  package let process: ChildProcess
  /// The token that was made for it; nil where it has other credentials, or takes everybody. A secret.
  package let token: String?
  /// The credentials that it was started with.
  private let auth: NATSAuth
  private let program: String?

  private init(
    port: UInt16, monitor: BrokerMonitor, process: ChildProcess, token: String?, auth: NATSAuth,
    program: String?
  ) {
    (self.port, self.monitor, self.process) = (port, monitor, process)
    (self.token, self.auth, self.program) = (token, auth, program)
  }

  /// Starts a broker, on a port of its own choice when none is named, and returns when it answers. Without a
  /// program it is that of the environment, else the installed one.
  ///
  /// Only clients with the credentials (a token, or user and password) get in. They go to the broker in a nameless file
  /// in memory: neither its command line nor any folder shows them.
  ///
  /// - Parameter asksForToken: whether a token is made for it where no credentials are given.
  package static func start(
    auth: NATSAuth = NATSAuth(), asksForToken: Bool = true, port: UInt16? = nil, program: String? = nil
  ) throws(LabError) -> Broker {
    let token = asksForToken && auth == NATSAuth() ? secret() : nil
    return try start(auth, token: token, port: port, program: program)
  }

  /// Starts it anew on its port, for the same clients; it must have ended.
  package func again() throws(LabError) -> Broker {
    try Self.start(auth, token: token, port: port, program: program)
  }

  private static func start(
    _ given: NATSAuth, token: String?, port: UInt16?, program: String?
  ) throws(LabError) -> Broker {
    let deadline = Deadline.after(.seconds(15))
    let path = try Executables.broker(program)
    let auth = token.map { NATSAuth(token: $0) } ?? given
    let monitorPath = "/" + secret()
    let text = try Self.configuration(auth: auth, port: port, monitorPath: monitorPath)
    let configuration = try Descriptor.memory("nats-server.conf", holding: Array(text.utf8))
    let process = try withExtendedLifetime(configuration) { () throws(LabError) in
      try ChildProcess.start(
        Launch(
          program: path, arguments: ["-c", "/proc/self/fd/3"], descriptors: [configuration.raw],
          secrets: auth.secretWords + [monitorPath]))
    }
    let ports = try process.announcedPorts(
      ["Listening for client connections on ", "Starting http monitor on "], count: 2, by: "nats-server",
      until: deadline)
    let broker = Broker(
      port: ports[0], monitor: BrokerMonitor(port: ports[1], root: monitorPath), process: process,
      token: token,
      auth: given, program: program)
    do {
      try probe(url: broker.url, auth: auth, timeout: .seconds(deadline.remainingSeconds))
    } catch {
      guard process.isRunning else { throw process.endedSilent("nats-server") }
      throw error
    }
    return broker
  }

  /// The broker's configuration; holds the secrets.
  private static func configuration(
    auth: NATSAuth, port: UInt16?, monitorPath: String
  ) throws(LabError) -> String {
    guard auth.credentials == nil, auth.nkey == nil else {
      throw .invalid(
        "A broker that is started for a run knows no credentials files and no nkeys",
        remedy: "Name a running broker in servers: or with --server, or use a token.")
    }
    var lines = [
      "listen: \"127.0.0.1:\(port.map(Int.init) ?? -1)\"", "http: \"127.0.0.1:-1\"",
      "http_base_path: \"\(monitorPath)\"",
    ]
    if let token = auth.token {
      lines.append("authorization { token: \(quoted(token)) }")
    } else if let user = auth.user {
      lines.append("authorization { user: \(quoted(user)), password: \(quoted(auth.password ?? "")) }")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// A string of the broker's configuration language, every byte written as a number.
  private static func quoted(_ text: String) -> String {
    "\"" + text.utf8.map { String(format: "\\x%02x", $0) }.joined() + "\""
  }

  /// 128 random bits as hexadecimal digits.
  private static func secret() -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<4).map { _ in String(format: "%08x", UInt32.random(in: 0...UInt32.max, using: &generator)) }
      .joined()
  }

  /// Its URL, with the token that was made for it, if any, and without other credentials. A secret: never print.
  package var url: String { "nats://\(token.map { "\($0)@" } ?? "")127.0.0.1:\(port)" }

  package func statistics() throws(LabError) -> BrokerStatistics { try monitor.statistics() }
}

extension NATSAuth {
  /// The words that must be seen nowhere.
  var secretWords: [String] { [token, user, password].compactMap { $0 } }
}

extension Broker {
  /// Asks a broker whether it is there and takes the credentials (the URL's own, else `auth`), over TLS where that is
  /// wanted; what it says of itself. The errors name host and port, never what stands before an `@`.
  ///
  /// - Parameter timeout: for each address of the broker's name.
  @discardableResult
  package static func probe(
    url: String, auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS(), timeout: Duration = .seconds(5)
  ) throws(LabError) -> BrokerInfo? {
    let wire = WireConnection(
      to: try servers(url, auth: auth, tls: tls),
      limitNanoseconds: UInt64(max(0, timeout / .nanoseconds(1))))
    defer { wire.close() }
    do {
      try wire.connectFirst()
      return wire.greeting
    } catch {
      switch error.kind {
      case .credentials:
        let what = "The broker at \(error.server) refuses the credentials: \(error.words)"
        throw LabError(kind: .missing, description: "\(what). Check the `auth:` block.")
      case .tls:
        let what = "There is no TLS connection to the broker at \(error.server): \(error.why)"
        throw LabError(kind: .missing, description: "\(what). \(error.remedy)")
      case .silence, .noBroker: throw .brokerUnreachable(address: error.server, why: error.why)
      }
    }
  }

  /// The broker of a URL, its name looked up.
  static func servers(
    _ url: String, auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS()
  ) throws(LabError) -> [BrokerServer] {
    do throws(BrokerError) {
      _ = try BrokerAddress(url)
    } catch {
      throw .invalid("The broker URL '\(error.server)' cannot be used: \(error.why)", remedy: error.remedy)
    }
    let security = try checkFiles(auth: auth, tls: tls, servers: [url])
    do throws(BrokerError) {
      return try BrokerServer.all([url], security: security)
    } catch {
      throw .brokerUnreachable(address: error.server, why: error.why)
    }
  }

  /// Reads the files of credentials and TLS, so that one that is missing or wrong is found before anything starts.
  @discardableResult
  package static func checkFiles(
    auth: NATSAuth, tls: NATSTLS, servers: [String]
  ) throws(LabError) -> WireSecurity {
    do {
      return try WireSecurity(auth: auth, tls: tls, servers: servers)
    } catch {
      throw LabError(kind: .missing, description: error.description)
    }
  }
}
