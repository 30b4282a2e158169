import Foundation

/// What a broker's own monitoring says.
package struct BrokerStatistics: Codable, Sendable, Equatable {
  /// Version of the broker.
  package var version: String
  /// Clients that were cut off because they read too slowly.
  package var slowConsumers: Int
  /// Messages that came in.
  package var inMessages: UInt64
  /// Messages that went out.
  package var outMessages: UInt64
  /// Bytes that came in.
  package var inBytes: UInt64
  /// Bytes that went out.
  package var outBytes: UInt64
  /// Clients connected now.
  package var connections: Int
  /// Subscriptions now, the broker's own included.
  package var subscriptions: Int
  /// Resident memory, bytes.
  package var memoryBytes: UInt64
  /// CPU use that the broker states, percent of a core.
  package var cpuPercent: Double

  enum CodingKeys: String, CodingKey {
    case version
    case slowConsumers = "slow_consumers"
    case inMessages = "in_msgs"
    case outMessages = "out_msgs"
    case inBytes = "in_bytes"
    case outBytes = "out_bytes"
    case connections, subscriptions
    case memoryBytes = "mem"
    case cpuPercent = "cpu"
  }
}

/// A broker's monitoring over HTTP.
package struct BrokerMonitor: Sendable, Equatable {
  /// Host of the monitoring.
  package var host: String
  /// Port of the monitoring.
  package var port: UInt16

  /// Monitoring at a place.
  package init(host: String = "127.0.0.1", port: UInt16) {
    self.host = host
    self.port = port
  }

  /// What the broker counts, from `/varz`.
  package func statistics(timeout: Duration = .seconds(3)) throws(LabError) -> BrokerStatistics {
    try decode(BrokerStatistics.self, path: "/varz", until: .after(timeout))
  }

  /// Bytes that wait in the broker for clients that read slowly, from `/connz`.
  package func pendingBytes(timeout: Duration = .seconds(3)) throws(LabError) -> UInt64 {
    try decode(Connections.self, path: "/connz?limit=100000", until: .after(timeout))
      .connections.reduce(0) { $0 &+ ($1.pending_bytes ?? 0) }
  }

  /// The ids of the connections that a message on this subject may go to in this queue group;
  /// they may have subscribed with wildcards.
  func subscribers(
    of subject: String, group: String, until deadline: Deadline
  ) throws(LabError) -> Set<UInt64> {
    let name = subject.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? subject
    let list = try decode(
      Subscriptions.self, path: "/subsz?subs=1&limit=100000&test=\(name)", until: deadline)
    let matching = (list.subscriptions_list ?? []).filter {
      $0.qgroup == group && Self.covers($0.subject, subject)
    }
    return Set(matching.map(\.cid))
  }

  /// Whether a subscription, with `*` for one word and `>` for all that follow, gets a subject.
  static func covers(_ subscription: String, _ subject: String) -> Bool {
    let words = subject.split(separator: ".")
    let pattern = subscription.split(separator: ".")
    for (index, part) in pattern.enumerated() {
      guard index < words.count else { return false }
      if part == ">" { return true }
      if part != "*" && part != words[index] { return false }
    }
    return pattern.count == words.count
  }

  func decode<Value: Decodable>(
    _ type: Value.Type, path: String, until deadline: Deadline
  ) throws(LabError) -> Value {
    do {
      let body = try get(path, until: deadline)
      return try JSONDecoder().decode(type, from: Data(body))
    } catch {
      let why = (error as? Connection.Failure)?.why ?? "its answer cannot be read"
      throw .brokerUnreachable(address: "\(host):\(port) (monitoring)", why: why)
    }
  }

  private func get(_ path: String, until deadline: Deadline) throws(Connection.Failure) -> [UInt8] {
    var connection = try Connection(host: host, port: port, until: deadline)
    try connection.send("GET \(path) HTTP/1.0\r\nHost: \(host)\r\nAccept: application/json\r\n\r\n")
    let status = try connection.line().split(separator: " ")
    guard status.first?.hasPrefix("HTTP/1.") == true, status.dropFirst().first == "200" else {
      throw Connection.Failure(why: "it does not answer \(path)")
    }
    while try !connection.line().isEmpty {}
    return try connection.rest()
  }

  private struct Connections: Decodable {
    struct Row: Decodable {
      var pending_bytes: UInt64?
    }
    var connections: [Row]
  }

  private struct Subscriptions: Decodable {
    struct Row: Decodable {
      var subject: String
      var qgroup: String?
      var cid: UInt64
    }
    var subscriptions_list: [Row]?
  }
}
