import Foundation
import NATS
import Scenario

/// The configuration of a nats-server, with which it can be restarted on the same ports. Holds secrets.
struct BrokerSetup: Sendable {
  /// The credentials that clients need, other than a generated token.
  let auth: NATSAuth
  let token: String?
  let program: String?
  /// The prefix of its monitoring paths.
  let monitorPath = "/" + Broker.secret()
  var limits = BrokerLimits.standard
  /// Nil lets the broker choose.
  var port, monitorPort: UInt16?
  var cluster: ClusterSetup?

  init(auth: NATSAuth, asksForToken: Bool, program: String?) {
    self.auth = auth
    self.program = program
    token = asksForToken && auth == NATSAuth() ? Broker.secret() : nil
  }

  var clientAuth: NATSAuth { token.map { NATSAuth(token: $0) } ?? auth }

  var secretWords: [String] {
    clientAuth.secretWords + [monitorPath] + (cluster.map { [$0.user, $0.password] } ?? [])
  }

  /// The broker's configuration.
  func text() throws(LabError) -> String {
    guard auth.credentials == nil, auth.nkey == nil else {
      throw .invalid(
        "A broker that is started for a run supports neither credentials files nor nkeys",
        remedy: "Name a running broker in servers: or with --server, or use a token.")
    }
    var lines = [
      "listen: \"127.0.0.1:\(Self.port(port))\"", "http: \"127.0.0.1:\(Self.port(monitorPort))\"",
      "http_base_path: \"\(monitorPath)\"",
      // The shortest duration that it accepts, so that its last clients are disconnected within a run.
      "lame_duck_duration: \"30s\"", "lame_duck_grace_period: \"2s\"",
    ]
    if let token = clientAuth.token {
      lines.append("authorization { token: \(Self.quoted(token)) }")
    } else if let user = clientAuth.user {
      let password = Self.quoted(clientAuth.password ?? "")
      lines.append("authorization { user: \(Self.quoted(user)), password: \(password) }")
    }
    if let bytes = limits.maxPendingBytes { lines.append("max_pending: \(bytes)") }
    if let seconds = limits.writeDeadlineSeconds {
      lines.append("write_deadline: \"\(Int((seconds * 1000).rounded()))ms\"")
    }
    if let cluster { lines += cluster.lines }
    return lines.joined(separator: "\n") + "\n"
  }

  static func port(_ port: UInt16?) -> Int { port.map(Int.init) ?? -1 }

  /// A string in the broker's configuration language, with every byte as an escape.
  private static func quoted(_ text: String) -> String {
    "\"" + text.utf8.map { String(format: "\\x%02x", $0) }.joined() + "\""
  }
}

/// A broker's part in a cluster. Holds secrets.
struct ClusterSetup: Sendable {
  /// The broker's number from 0; the broker is named `node-1` for 0.
  let node: Int
  /// The credentials for routes; the same in all brokers.
  let user, password: String
  /// The port for routes; nil lets the broker choose.
  var port: UInt16?
  /// The loopback ports that it connects routes to: those of brokers, or of relays in front of them.
  var routes: [UInt16] = []
  /// Whether to hide it from other brokers, since a direct route would bypass the one through a relay.
  var hidesItself = false

  var lines: [String] {
    let urls = routes.map { "\"nats-route://\(user):\(password)@127.0.0.1:\($0)\"" }
    return [
      "server_name: \"node-\(node + 1)\"", "cluster {", "  name: \"nylon-bench\"",
      "  listen: \"127.0.0.1:\(BrokerSetup.port(port))\"",
      // Clients use only the URLs that they were given, perhaps through a link.
      "  no_advertise: true",
      // Brokers advertise a new one under this address, where nothing listens.
      hidesItself ? "  advertise: \"127.0.0.1:1\"" : "",
      "  authorization { user: \"\(user)\", password: \"\(password)\", timeout: 5 }",
      "  routes: [\(urls.joined(separator: ", "))]", "}",
    ]
  }
}
