import Engine
import Foundation
import NATS
import Scenario
import Synchronization

/// A nats-server that the run starts on a free loopback port, and probes of a broker that the user runs.
///
/// Every user of the machine can reach its loopback ports. Clients therefore need credentials, if necessary a
/// token generated for this broker. The monitoring needs none and reveals them, so its path is secret.
package final class Broker: ProcessHolder {
  package let port: UInt16
  package let monitor: BrokerMonitor
  package let process: ChildProcess
  /// The configuration that it was started with, including its ports.
  let setup: BrokerSetup
  private let isEndPlanned = Atomic(false)

  private init(port: UInt16, monitor: BrokerMonitor, process: ChildProcess, setup: BrokerSetup) {
    (self.port, self.monitor, self.process, self.setup) = (port, monitor, process, setup)
  }

  /// The generated token; nil when the broker has other credentials or accepts everybody. A secret.
  package var token: String? { setup.token }

  /// Starts a broker and returns when it answers. Without a port it chooses one; without a program it uses
  /// the one from the environment, else the installed one.
  ///
  /// Only clients with the credentials (a token, or user and password) are accepted. The broker reads them
  /// from an anonymous file in memory, so neither its command line nor any folder shows them.
  ///
  /// - Parameter asksForToken: Whether to generate a token when no credentials are given.
  package static func start(
    auth: NATSAuth = NATSAuth(), asksForToken: Bool = true, port: UInt16? = nil, program: String? = nil
  ) throws(LabError) -> Broker {
    var setup = BrokerSetup(auth: auth, asksForToken: asksForToken, program: program)
    setup.port = port
    return try start(setup)
  }

  /// Starts it again on the same ports, for the same clients; it must have ended.
  package func again() throws(LabError) -> Broker { try Self.start(setup) }

  static func start(_ setup: BrokerSetup) throws(LabError) -> Broker {
    let deadline = Deadline.after(.seconds(15))
    let path = try Executables.broker(setup.program)
    let configuration = try Descriptor.memory("nats-server.conf", holding: Array(setup.text().utf8))
    let process = try withExtendedLifetime(configuration) { () throws(LabError) in
      try ChildProcess.start(
        Launch(
          program: path, arguments: ["-c", "/proc/self/fd/3"], descriptors: [configuration.raw],
          secrets: setup.secretWords))
    }
    let announcements =
      ["Listening for client connections on ", "Starting http monitor on "]
      + (setup.cluster == nil ? [] : ["Listening for route connections on "])
    let ports = try process.announcedPorts(
      announcements, count: announcements.count, by: "nats-server", until: deadline)
    var setup = setup
    (setup.port, setup.monitorPort) = (ports[0], ports[1])
    if ports.count > 2 { setup.cluster?.port = ports[2] }
    let broker = Broker(
      port: ports[0], monitor: BrokerMonitor(port: ports[1], root: setup.monitorPath), process: process,
      setup: setup)
    do throws(LabError) {
      try probe(url: broker.url, auth: setup.clientAuth, timeout: .seconds(deadline.remainingSeconds))
    } catch {
      guard process.isRunning else { throw process.endedSilent("nats-server") }
      throw error
    }
    return broker
  }

  /// Returns 128 random bits as hexadecimal digits.
  static func secret() -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<4).map { _ in String(format: "%08x", UInt32.random(in: 0...UInt32.max, using: &generator)) }
      .joined()
  }

  /// Its URL with the generated token, if any, and without other credentials. A secret: never print it.
  package var url: String { "nats://\(token.map { "\($0)@" } ?? "")127.0.0.1:\(port)" }

  package func statistics() throws(LabError) -> BrokerStatistics { try monitor.statistics() }
}

/// Faults injected into a broker. Ending it this way is not a death.
extension Broker {
  /// Starts lame duck mode: the broker announces its end, closes client connections one by one, and ends.
  package func lameDuck() throws(LabError) {
    guard process.isRunning else {
      throw .invalid("The broker on port \(port) has already ended", remedy: "Restart it first.")
    }
    isEndPlanned.store(true, ordering: .relaxed)
    process.order(.secondSignal)
  }

  /// Kills it immediately.
  @discardableResult
  package func kill() -> ExitStatus? {
    isEndPlanned.store(true, ordering: .relaxed)
    return process.kill()
  }

  /// Whether it was asked to end.
  var isEnding: Bool { isEndPlanned.load(ordering: .relaxed) }
}

extension NATSAuth {
  /// Secrets that must not appear in any output.
  var secretWords: [String] { [token, user, password].compactMap { $0 } }
}

extension Broker {
  /// Connects to a broker with the credentials (the URL's own, else `auth`), over TLS when required, and
  /// returns its server information. Errors name host and port, never the part before an `@`.
  ///
  /// - Parameter timeout: The time limit for each address of the broker's name.
  @discardableResult
  package static func probe(
    url: String, auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS(), timeout: Duration = .seconds(5)
  ) throws(LabError) -> BrokerInfo? {
    let wire = WireConnection(
      to: try servers(url, auth: auth, tls: tls), limitNanoseconds: UInt64(max(0, timeout / .nanoseconds(1))))
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

  /// The broker of a URL, with its name resolved.
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

  /// Reads the files with credentials and TLS keys, so that a missing or wrong one is found before the start.
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
