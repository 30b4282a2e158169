import Engine
import Foundation
import NATS
import Scenario

/// A nats-server that the run starts on a free loopback port, and probes of one that the user runs.
package final class Broker: ProcessHolder {
  package let port: UInt16
  package let monitor: BrokerMonitor
  package let process: ChildProcess

  private init(port: UInt16, monitorPort: UInt16, process: ChildProcess) {
    self.port = port
    self.monitor = BrokerMonitor(port: monitorPort)
    self.process = process
  }

  /// Starts a broker, on a port of its own choice when none is named, and returns when it answers.
  ///
  /// With credentials (a token, or user and password) only clients that have them get in. They go
  /// to the broker in a nameless file in memory: neither its command line nor any folder shows them.
  package static func start(
    auth: NATSAuth = NATSAuth(), port: UInt16? = nil, program: String? = nil
  ) throws(LabError) -> Broker {
    let deadline = Deadline.after(.seconds(15))
    let path: String
    if let program { path = program } else { path = try Executables.broker() }
    let configuration = try Descriptor.memory(
      "nats-server.conf", holding: Array(configuration(auth: auth, port: port).utf8))
    let process = try withExtendedLifetime(configuration) { () throws(LabError) in
      try ChildProcess.start(
        Launch(
          program: path, arguments: ["-c", "/proc/self/fd/3"], descriptors: [configuration.raw],
          secrets: auth.secretWords))
    }
    let ports = process.waitForWords(until: deadline) { words -> (UInt16, UInt16)? in
      guard let client = announcedPort("Listening for client connections on ", in: words),
        let monitor = announcedPort("Starting http monitor on ", in: words)
      else { return nil }
      return (client, monitor)
    }
    guard let (clientPort, monitorPort) = ports else { throw process.endedSilent("nats-server") }
    do {
      try probe(
        url: "nats://127.0.0.1:\(clientPort)", auth: auth, timeout: .seconds(deadline.remainingSeconds))
    } catch {
      guard process.isRunning else { throw process.endedSilent("nats-server") }
      throw error
    }
    return Broker(port: clientPort, monitorPort: monitorPort, process: process)
  }

  /// Makes sure that a broker which is started for a run can have such clients.
  package static func checkStartable(auth: NATSAuth, tls: NATSTLS = NATSTLS()) throws(LabError) {
    guard auth.credentials == nil, auth.nkey == nil else {
      throw .invalid(
        "A broker that is started for a run knows no credentials files and no nkeys",
        remedy: "Name a running broker in servers: or with --server, or use a token.")
    }
    guard !tls.enabled else {
      throw .invalid(
        "A broker that is started for a run speaks no TLS",
        remedy: "Name a running broker in servers: or with --server, or leave tls: out.")
    }
  }

  /// The broker's configuration; holds the secrets.
  private static func configuration(auth: NATSAuth, port: UInt16?) throws(LabError) -> String {
    try checkStartable(auth: auth)
    var lines = ["listen: \"127.0.0.1:\(port.map(Int.init) ?? -1)\"", "http: \"127.0.0.1:-1\""]
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

  private static func announcedPort(_ announcement: String, in words: String) -> UInt16? {
    guard let found = words.range(of: announcement + "127.0.0.1:") else { return nil }
    let digits = words[found.upperBound...].prefix { $0.isNumber }
    // A line that is still being written may show only some of the digits.
    guard words[digits.endIndex...].first?.isNewline == true else { return nil }
    return UInt16(digits)
  }

  /// Its URL, without credentials.
  package var url: String { "nats://127.0.0.1:\(port)" }

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
    _ = try address(url)
    let security = try security(auth: auth, tls: tls, servers: [url])
    let wire = WireConnection(
      to: try servers(url, security: security),
      limitNanoseconds: UInt64(max(0, timeout / .nanoseconds(1))))
    defer { wire.close() }
    do {
      try wire.connectFirst()
    } catch {
      switch error.kind {
      case .credentials: throw .brokerRefusesCredentials(address: error.server, why: error.words)
      case .tls: throw .noTLS(address: error.server, why: error.why, remedy: error.remedy)
      case .silence, .noBroker: throw .brokerUnreachable(address: error.server, why: error.why)
      }
    }
    return wire.greeting
  }

  /// The address of a broker's URL.
  static func address(_ url: String) throws(LabError) -> BrokerAddress {
    do throws(BrokerError) {
      return try BrokerAddress(url)
    } catch {
      throw .invalid("The broker URL '\(error.server)' cannot be used: \(error.why)", remedy: error.remedy)
    }
  }

  /// The broker of a URL, its name looked up.
  static func servers(
    _ url: String, security: WireSecurity? = nil
  ) throws(LabError) -> [BrokerServer] {
    let security =
      if let security { security } else {
        try Self.security(auth: NATSAuth(), tls: NATSTLS(), servers: [url])
      }
    do throws(BrokerError) {
      return try BrokerServer.all([url], security: security)
    } catch {
      throw .brokerUnreachable(address: error.server, why: error.why)
    }
  }

  /// Reads the files of credentials and TLS, so that one that is missing or wrong is found before anything starts.
  package static func checkFiles(auth: NATSAuth, tls: NATSTLS, servers: [String]) throws(LabError) {
    _ = try security(auth: auth, tls: tls, servers: servers)
  }

  private static func security(
    auth: NATSAuth, tls: NATSTLS, servers: [String]
  ) throws(LabError) -> WireSecurity {
    do {
      return try WireSecurity(auth: auth, tls: tls, servers: servers)
    } catch {
      throw .unusableFile(error)
    }
  }
}
