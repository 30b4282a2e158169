import Foundation
import NATS
import Scenario

/// A nats-server that the run starts on a free loopback port, and probes of one that the user runs.
package final class Broker: Sendable {
  /// Where it listens.
  package let port: UInt16
  package let monitor: BrokerMonitor
  package let version: String?
  private let process: ChildProcess

  private init(port: UInt16, monitorPort: UInt16, version: String?, process: ChildProcess) {
    self.port = port
    self.monitor = BrokerMonitor(port: monitorPort)
    self.version = version
    self.process = process
  }

  /// Starts a broker, and returns when it answers.
  ///
  /// With credentials (a token, or user and password) only clients that have them get in. They go
  /// to the broker in a nameless file in memory: neither its command line nor any folder shows them.
  /// - Parameters:
  ///   - auth: what clients must have; nothing lets everyone in.
  ///   - port: a port of its own choice when nil; a certain one for a broker that comes back.
  ///   - program: another program than the nats-server that is found.
  ///   - timeout: until it must answer.
  package static func start(
    auth: NATSAuth = NATSAuth(), port: UInt16? = nil, program: String? = nil,
    timeout: Duration = .seconds(15)
  ) throws(LabError) -> Broker {
    let deadline = Deadline.after(timeout)
    let path: String
    if let program { path = program } else { path = try Executables.broker() }
    let configuration = try Descriptor.memory(
      "nats-server.conf", holding: Array(configuration(auth: auth, port: port).utf8))
    let process = try withExtendedLifetime(configuration) { () throws(LabError) in
      try ChildProcess.start(
        Launch(
          path, ["-c", "/proc/self/fd/3"], descriptors: [configuration.raw],
          secrets: auth.secretWords))
    }
    let ports = process.waitForWords(until: deadline) { words -> (UInt16, UInt16)? in
      guard let client = announcedPort("Listening for client connections on ", in: words),
        let monitor = announcedPort("Starting http monitor on ", in: words)
      else { return nil }
      return (client, monitor)
    }
    guard let (clientPort, monitorPort) = ports else { throw failure(of: process) }
    let greeting: BrokerGreeting
    do {
      greeting = try probe(
        url: "nats://127.0.0.1:\(clientPort)", auth: auth, timeout: .seconds(deadline.remainingSeconds))
    } catch {
      guard process.isRunning else { throw failure(of: process) }
      throw error
    }
    return Broker(port: clientPort, monitorPort: monitorPort, version: greeting.version, process: process)
  }

  private static func failure(of process: ChildProcess) -> LabError {
    let why = process.exitStatus.map { "it \($0)" } ?? "it did not say where it listens in time"
    process.terminate()
    return .notReady("nats-server", why: why, lastWords: process.lastWords)
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
      lines.append(
        "authorization { user: \(quoted(user)), password: \(quoted(auth.password ?? "")) }")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// A string of the broker's configuration language, every byte written as a number.
  private static func quoted(_ text: String) -> String {
    let digits = Array("0123456789abcdef")
    return "\"" + text.utf8.map { "\\x\(digits[Int($0 >> 4)])\(digits[Int($0 & 15)])" }.joined() + "\""
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

  /// Its process id, for its CPU time.
  package var pid: Int32 { process.pid }

  /// False once it has ended, for whatever reason.
  package var isRunning: Bool { process.isRunning }

  /// How it ended; nil while it runs.
  package var exitStatus: ExitStatus? { process.exitStatus }

  /// The last lines of its log, without secrets.
  package var lastWords: String { process.lastWords }

  /// What it counts.
  package func statistics() throws(LabError) -> BrokerStatistics { try monitor.statistics() }

  /// Ends it and waits until it is gone.
  @discardableResult
  package func stop(grace: Duration = .seconds(3)) -> ExitStatus? { process.terminate(grace: grace) }

  /// Kills it at once: a fault, to see what clients do.
  @discardableResult
  package func kill() -> ExitStatus? { process.kill() }

  /// Stops it where it is, as if its machine hung: a fault.
  package func pause() { process.pause() }

  /// Lets it go on.
  package func resume() { process.resume() }
}

extension NATSAuth {
  /// The words that must be seen nowhere.
  var secretWords: [String] { [token, user, password].compactMap { $0 } }
}
