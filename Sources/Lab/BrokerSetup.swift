import Foundation
import NATS
import Scenario

/// What a nats-server is started with, and with which it can be started again on the same ports. Holds secrets.
struct BrokerSetup: Sendable {
  /// The credentials that clients need beside a token that was made for the broker.
  let auth: NATSAuth
  let token: String?
  let program: String?
  /// What its monitoring's paths begin with.
  let monitorPath = "/" + Broker.secret()
  var limits = BrokerLimits()
  /// The broker's own choice where nil.
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
        "A broker that is started for a run knows no credentials files and no nkeys",
        remedy: "Name a running broker in servers: or with --server, or use a token.")
    }
    var lines = [
      "listen: \"127.0.0.1:\(Self.port(port))\"", "http: \"127.0.0.1:\(Self.port(monitorPort))\"",
      "http_base_path: \"\(monitorPath)\"",
      // The shortest that it takes, so that its last clients see their connection closed within a run.
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

  /// A string of the broker's configuration language, every byte written as a number.
  private static func quoted(_ text: String) -> String {
    "\"" + text.utf8.map { String(format: "\\x%02x", $0) }.joined() + "\""
  }
}

/// A broker's part in a cluster. Holds secrets.
struct ClusterSetup: Sendable {
  /// From 0; the broker is called `node-1` for 0.
  let node: Int
  /// What brokers must know to make a route; the same in all of them.
  let user, password: String
  /// Where it listens for routes; the broker's own choice where nil.
  var port: UInt16?
  /// The loopback ports of the brokers that it makes routes to: their own, or those of relays in front of them.
  var routes: [UInt16] = []
  /// Whether no broker may connect to it that was not told to: a route beside the one through a relay would make
  /// that one needless.
  var hidesItself = false

  var lines: [String] {
    let urls = routes.map { "\"nats-route://\(user):\(password)@127.0.0.1:\($0)\"" }
    return [
      "server_name: \"node-\(node + 1)\"", "cluster {", "  name: \"nylon-bench\"",
      "  listen: \"127.0.0.1:\(BrokerSetup.port(port))\"",
      // Clients go to the URLs that they were given, perhaps through a link, and nowhere else.
      "  no_advertise: true",
      // Brokers tell each other of a new one under this address, where nobody listens.
      hidesItself ? "  advertise: \"127.0.0.1:1\"" : "",
      "  authorization { user: \"\(user)\", password: \"\(password)\", timeout: 5 }",
      "  routes: [\(urls.joined(separator: ", "))]", "}",
    ]
  }
}
