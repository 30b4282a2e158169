import Engine
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
  var cpuPercent: Double

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
  package var host: String = "127.0.0.1"
  /// Port of the monitoring.
  package var port: UInt16

  /// What the broker counts, from `/varz`.
  package func statistics(timeout: Duration = .seconds(3)) throws(LabError) -> BrokerStatistics {
    try decode(BrokerStatistics.self, path: "/varz", until: .after(timeout))
  }

  /// Bytes that wait in the broker for clients that read slowly, from `/connz`.
  func pendingBytes(timeout: Duration = .seconds(3)) throws(LabError) -> UInt64 {
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

/// A client as the broker's monitoring shows it.
package struct BrokerClient: Sendable, Equatable {
  /// The broker's number for the connection; a client that connects again gets another.
  package var id: UInt64
  /// The name that it gave itself; empty when it gave none.
  package var name: String
  /// Messages that it sent.
  var sentMessages: UInt64
  /// Messages that were delivered to it.
  package var deliveredMessages: UInt64
}

/// A subscription as the broker's monitoring shows it.
package struct BrokerSubscription: Sendable, Hashable {
  /// The subject, perhaps with wildcards.
  package var subject: String
  /// The queue group; nil when there is none.
  package var group: String?
  package var clientID: UInt64
}

extension BrokerMonitor {
  /// All clients that are connected now, from `/connz`.
  package func clients(timeout: Duration = .seconds(3)) throws(LabError) -> [BrokerClient] {
    let page = try decode(ClientPage.self, path: "/connz?limit=100000", until: .after(timeout))
    return page.connections.map {
      BrokerClient(
        id: $0.cid, name: $0.name ?? "", sentMessages: $0.in_msgs, deliveredMessages: $0.out_msgs)
    }
  }

  /// All subscriptions of clients now, from `/subsz`.
  package func subscriptions(timeout: Duration = .seconds(3)) throws(LabError) -> [BrokerSubscription] {
    let page = try decode(SubscriptionPage.self, path: "/subsz?subs=1&limit=100000", until: .after(timeout))
    return (page.subscriptions_list ?? []).map {
      BrokerSubscription(subject: $0.subject, group: $0.qgroup, clientID: $0.cid)
    }
  }

  private struct ClientPage: Decodable {
    struct Row: Decodable {
      var cid: UInt64
      var name: String?
      var in_msgs: UInt64
      var out_msgs: UInt64
    }
    var connections: [Row]
  }

  private struct SubscriptionPage: Decodable {
    struct Row: Decodable {
      var subject: String
      var qgroup: String?
      var cid: UInt64
    }
    var subscriptions_list: [Row]?
  }
}

/// Asks a broker's monitoring what it did during the measured time of one load, on a thread of its
/// own in the orchestrator, so that the load process has nothing to do with it.
///
/// What the broker counts is read once at each end of the measured time. What waits in it for clients
/// that read slowly can only be looked at: ten times in a measurement, and at most twice a second.
package final class BrokerWatch: Sendable {
  private let state = Guarded(State())

  private struct State {
    var isStopping = false
    var isOver = false
    var activity: BrokerActivity?
  }

  /// Watches the broker while the load of this shared memory is measured.
  /// - Parameters:
  ///   - monitor: the broker's monitoring.
  ///   - area: tells when the measured time begins and ends.
  ///   - seconds: the planned length of the measured time.
  package init(_ monitor: BrokerMonitor, area: RecordingArea, seconds: Double) {
    let interval = UInt64(max(0.5, seconds / 10) * 1e9)
    let thread = Thread { [state] in
      let activity = Self.watch(monitor, area: area, interval: interval) {
        state.withLock { $0.isStopping }
      }
      state.withLock {
        $0.activity = activity
        $0.isOver = true
      }
    }
    thread.name = "broker-watch"
    thread.stackSize = 512 << 10
    thread.start()
  }

  deinit { state.withLock { $0.isStopping = true } }

  /// Ends the watch when the load is over; nil when the monitoring did not answer at both ends, or the
  /// load did not come to the end of its measured time. The shared memory must be there until then.
  package func finish() -> BrokerActivity? {
    state.withLock { $0.isStopping = true }
    // Each question to the broker has a deadline of its own, so the thread ends well before this.
    return state.wait(until: .after(.seconds(30))) { $0.isOver ? $0 : nil }?.activity
  }

  private static let timeout = Duration.seconds(2)

  private static func watch(
    _ monitor: BrokerMonitor, area: RecordingArea, interval: UInt64, isStopping: () -> Bool
  ) -> BrokerActivity? {
    guard sleep(until: { area.measureStart == 0 ? .max : area.measureStart }, unless: isStopping),
      let first = try? monitor.statistics(timeout: timeout)
    else { return nil }
    var most: UInt64?
    var looks = 0
    var nextLook = area.measureStart + min(interval, 100_000_000)
    while monotonicNanoseconds() < area.measureEnd {
      guard sleep(until: { min(nextLook, area.measureEnd) }, unless: isStopping) else { break }
      guard nextLook < area.measureEnd else { continue }
      nextLook += interval
      guard let bytes = try? monitor.pendingBytes(timeout: timeout) else { continue }
      most = max(most ?? 0, bytes)
      looks += 1
    }
    // A load that was ended before its time says so in `measureEnd`; one that died does not.
    guard monotonicNanoseconds() >= area.measureEnd,
      let last = try? monitor.statistics(timeout: timeout)
    else { return nil }
    return BrokerActivity(from: first, to: last, pendingMostBytes: most, pendingLooks: looks)
  }

  /// Sleeps until a time that may still change; false when it is to stop before.
  private static func sleep(until time: () -> UInt64, unless isStopping: () -> Bool) -> Bool {
    while true {
      let now = monotonicNanoseconds()
      let end = time()
      if now >= end { return true }
      if isStopping() { return false }
      usleep(UInt32(min((end - now) / 1000 + 1, 10_000)))
    }
  }
}

extension BrokerActivity {
  /// What lies between two readings; nil when the broker was started anew in between.
  init?(
    from first: BrokerStatistics, to last: BrokerStatistics, pendingMostBytes: UInt64?, pendingLooks: Int
  ) {
    guard last.inMessages >= first.inMessages, last.outMessages >= first.outMessages,
      last.inBytes >= first.inBytes, last.outBytes >= first.outBytes,
      last.slowConsumers >= first.slowConsumers
    else { return nil }
    self.init(
      inMessages: last.inMessages - first.inMessages, outMessages: last.outMessages - first.outMessages,
      inBytes: last.inBytes - first.inBytes, outBytes: last.outBytes - first.outBytes,
      slowConsumers: UInt64(last.slowConsumers - first.slowConsumers),
      subscriptions: UInt64(clamping: last.subscriptions), connections: UInt64(clamping: last.connections),
      pendingMostBytes: pendingMostBytes, pendingLooks: pendingLooks)
  }
}
