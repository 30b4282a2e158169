import Engine
import Foundation
import NATS

/// A client as the broker's monitoring shows it.
package struct BrokerClient: Decodable, Sendable, Equatable {
  /// The broker's number for the connection; a client that reconnects gets a new one.
  package var id: UInt64
  /// Messages delivered to it.
  package var deliveredMessages: UInt64
  /// Bytes pending for it because it reads slowly.
  var pendingBytes: UInt64?
  /// The client's own name for the connection.
  package var name: String?

  enum CodingKeys: String, CodingKey {
    case name
    case id = "cid"
    case deliveredMessages = "out_msgs"
    case pendingBytes = "pending_bytes"
  }
}

/// A subscription as the broker's monitoring shows it.
package struct BrokerSubscription: Decodable, Sendable, Hashable {
  /// The subject, perhaps with wildcards.
  package var subject: String
  /// The queue group; nil when there is none.
  package var group: String?
  package var clientID: UInt64

  enum CodingKeys: String, CodingKey {
    case subject
    case group = "qgroup"
    case clientID = "cid"
  }
}

/// A route as a broker's monitoring shows it.
struct BrokerRouteFacts: Decodable, Sendable {
  /// The broker's number for the route; it changes on reconnect.
  var id: UInt64
  /// The id of the broker at the other end.
  var remoteID: String
  var port: UInt16

  enum CodingKeys: String, CodingKey {
    case id = "rid"
    case remoteID = "remote_id"
    case port
  }
}

/// The reply of a broker's monitoring over HTTP, read until it closes the connection.
package enum MonitorAnswer {
  case body(Data)
  /// An HTTP status other than success.
  case refusal
  /// The connection closed before the reply was complete.
  case none

  package init(_ answer: Data) {
    let status = String(decoding: answer.prefix { $0 != 13 && $0 != 10 }, as: UTF8.self).split(separator: " ")
    guard status.isEmpty || status[0].hasPrefix("HTTP/1.") && status.dropFirst().first == "200" else {
      self = .refusal
      return
    }
    guard let head = answer.firstRange(of: Data("\r\n\r\n".utf8)), !status.isEmpty else {
      self = .none
      return
    }
    self = .body(answer[head.upperBound...])
  }
}

/// A client of a broker's monitoring over HTTP, on this machine.
package struct BrokerMonitor: Sendable, Equatable {
  package var port: UInt16
  /// The prefix of all paths. A secret, since the monitoring answers anybody.
  var root = ""
  /// The time limit of each request.
  var timeout = Duration.seconds(3)

  package func statistics() throws(LabError) -> BrokerStatistics {
    try decode(BrokerStatistics.self, path: "/varz", until: .after(timeout))
  }

  /// The connected clients, and with `withGone` also the closed ones that the broker still remembers.
  package func clients(withGone: Bool = false) throws(LabError) -> [BrokerClient] {
    struct Page: Decodable { var connections: [BrokerClient] }
    let path = "/connz?limit=100000" + (withGone ? "&state=any" : "")
    return try decode(Page.self, path: path, until: .after(timeout)).connections
  }

  func routes() throws(LabError) -> [BrokerRouteFacts] {
    struct Page: Decodable { var routes: [BrokerRouteFacts]? }
    return try decode(Page.self, path: "/routez", until: .after(timeout)).routes ?? []
  }

  /// Bytes pending in the broker for clients that read slowly.
  func pendingBytes() throws(LabError) -> UInt64 { try clients().reduce(0) { $0 &+ ($1.pendingBytes ?? 0) } }

  /// All current subscriptions of clients, or those that may match a subject.
  package func subscriptions(to subject: String? = nil) throws(LabError) -> [BrokerSubscription] {
    struct Page: Decodable { var subscriptions_list: [BrokerSubscription]? }
    let test = subject?.addingPercentEncoding(withAllowedCharacters: .alphanumerics).map { "&test=\($0)" }
    let path = "/subsz?subs=1&limit=100000" + (test ?? "")
    return try decode(Page.self, path: path, until: .after(timeout)).subscriptions_list ?? []
  }

  /// The ids of the connections, wildcard subscribers included, that may receive a message on this subject in
  /// this queue group.
  package func subscribers(of subject: String, group: String) throws(LabError) -> Set<UInt64> {
    let all = try subscriptions(to: subject)
    return Set(all.filter { $0.group == group && Self.covers($0.subject, subject) }.map(\.clientID))
  }

  /// Whether a subscription, with `*` for one token and `>` for all that follow, matches a subject.
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
    do throws(TCPSocket.Failure) {
      let answer = try get(path, until: deadline)
      if let value = try? JSONDecoder().decode(type, from: answer) { return value }
      throw TCPSocket.Failure(why: "its answer cannot be read")
    } catch {
      throw .brokerUnreachable(address: "127.0.0.1:\(port) (monitoring)", why: error.why)
    }
  }

  private func get(_ path: String, until deadline: Deadline) throws(TCPSocket.Failure) -> Data {
    let socket = try TCPSocket.connected(to: TCPSocket.loopback(port), until: deadline)
    let request = "GET \(root)\(path) HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n"
    guard socket.send(Array(request.utf8), until: deadline) else {
      throw TCPSocket.Failure(why: "the connection was closed")
    }
    switch MonitorAnswer(try rest(of: socket, until: deadline)) {
    case .body(let body): return body
    case .refusal: throw TCPSocket.Failure(why: "it does not answer \(path)")
    case .none: throw TCPSocket.Failure(why: "it closed the connection")
    }
  }

  /// Reads everything until the broker closes the connection, up to a limit.
  private func rest(of socket: Descriptor, until deadline: Deadline) throws(TCPSocket.Failure) -> Data {
    let most = 64 << 20
    var all = Data()
    while all.count <= most {
      switch socket.read() {
      case .bytes(let bytes): all += bytes
      case .end: return all
      case .nothingYet:
        guard !deadline.isPast, socket.waits(for: Int16(POLLIN), until: deadline) else {
          throw TCPSocket.Failure(why: "the request timed out")
        }
      }
    }
    throw TCPSocket.Failure(why: "it sends more than \(most) bytes")
  }
}

/// A snapshot of a broker's monitoring.
private struct BrokerLook: Sendable {
  let statistics: BrokerStatistics
  /// Messages delivered to each client, including closed ones; nil when not requested.
  let delivered: [UInt64: UInt64]?
  /// The ids of the generator's clients.
  let generators: Set<UInt64>

  init(_ monitor: BrokerMonitor, asksForClients: Bool) throws(LabError) {
    statistics = try monitor.statistics()
    let clients = asksForClients ? try monitor.clients(withGone: true) : nil
    delivered = clients.map { Dictionary($0.map { ($0.id, $0.deliveredMessages) }) { first, _ in first } }
    generators = Set((clients ?? []).filter { $0.name == WireConnection.generatorName }.map(\.id))
  }
}

extension NodeActivity {
  /// The difference between two snapshots; for a broker restarted in between, its activity since the restart.
  fileprivate init(node: Int, from first: BrokerLook?, to last: BrokerLook?) {
    self.init(node: node)
    connections = last?.statistics.connections
    guard let last, let first else { return }
    let before = first.statistics.serverID == last.statistics.serverID ? first : nil
    inMessages = last.statistics.inMessages &- (before?.statistics.inMessages ?? 0)
    outMessages = last.statistics.outMessages &- (before?.statistics.outMessages ?? 0)
    slowConsumers = last.statistics.slowConsumers &- (before?.statistics.slowConsumers ?? 0)
    guard let delivered = last.delivered else { return }
    var sums: (workers: UInt64, generator: UInt64) = (0, 0)
    for (id, count) in delivered {
      let new = count &- min(count, before?.delivered?[id] ?? 0)
      if last.generators.contains(id) { sums.generator &+= new } else { sums.workers &+= new }
    }
    workerDeliveries = sums.workers
    generatorDeliveries = sums.generator
  }
}

/// Reads the brokers' monitoring during the measured time of one load, on a separate thread of the
/// orchestrator, so that the load process is not involved.
///
/// A broker's counters are read once at each end of the measured time. Its pending bytes are sampled ten
/// times per measurement, and at most twice a second.
package final class BrokerWatch: Sendable {
  /// The result of a watch: the sum over all brokers, and the single brokers when there are several.
  package typealias Findings = (activity: BrokerActivity?, nodes: [NodeActivity]?)

  private let state = Guarded(State())

  private struct State {
    var isStopping = false
    /// The result of the watch; nil until it is over.
    var findings: Findings?
  }

  /// Watches the brokers while the load that uses this shared memory is measured, for about `seconds`.
  package init(_ monitors: [BrokerMonitor], area: RecordingArea, seconds: Double) {
    let monitors = monitors.map { BrokerMonitor(port: $0.port, root: $0.root, timeout: .seconds(2)) }
    let interval = UInt64(max(0.5, seconds / 10) * 1e9)
    startThread("broker-watch", stackBytes: 512 << 10) { [state] in
      let findings = Self.watch(monitors, area, interval: interval) { state.withLock { $0.isStopping } }
      state.withLock { $0.findings = findings }
    }
  }

  deinit { state.withLock { $0.isStopping = true } }

  /// Ends the watch when the load is over; nil when the monitoring did not answer at both ends, or when the
  /// load did not complete its measured time. The shared memory must exist until then.
  package func finish() -> Findings {
    state.withLock { $0.isStopping = true }
    // Each request to the brokers has its own deadline, so the thread ends well before this one.
    return state.wait(until: .after(.seconds(60))) { $0.findings } ?? (nil, nil)
  }

  private static func watch(
    _ monitors: [BrokerMonitor], _ area: RecordingArea, interval: UInt64, isStopping: () -> Bool
  ) -> Findings {
    guard sleep(until: { area.measureStart == 0 ? .max : area.measureStart }, unless: isStopping) else {
      return (nil, nil)
    }
    let isCluster = monitors.count > 1
    func look() -> [BrokerLook?] { monitors.map { try? BrokerLook($0, asksForClients: isCluster) } }
    let first = look()
    var most: UInt64?
    var looks = 0
    var nextLook = area.measureStart &+ min(interval, 100_000_000)
    while MonotonicClock.nanoseconds < area.measureEnd {
      guard sleep(until: { min(nextLook, area.measureEnd) }, unless: isStopping) else { break }
      guard nextLook < area.measureEnd else { continue }
      nextLook += interval
      let waiting = monitors.compactMap { try? $0.pendingBytes() }
      guard !waiting.isEmpty else { continue }
      most = max(most ?? 0, waiting.reduce(0, &+))
      looks += 1
    }
    // A load that was ended early updates `measureEnd`; one that died does not.
    guard MonotonicClock.nanoseconds >= area.measureEnd else { return (nil, nil) }
    let last = look()
    let each = zip(first, last).compactMap { first, last -> BrokerActivity? in
      guard let first, let last else { return nil }
      return BrokerActivity(from: first.statistics, to: last.statistics)
    }
    var activity = each.count == monitors.count ? BrokerActivity(sumOf: each) : nil
    activity?.pendingMostBytes = most
    activity?.pendingLooks = looks
    let nodes = zip(first, last).enumerated().map { index, looks in
      NodeActivity(node: index + 1, from: looks.0, to: looks.1)
    }
    return (activity, isCluster ? nodes : nil)
  }

  /// Sleeps until a time that may still change; false when asked to stop earlier.
  private static func sleep(until time: () -> UInt64, unless isStopping: () -> Bool) -> Bool {
    while true {
      let now = MonotonicClock.nanoseconds
      let end = time()
      if now >= end { return true }
      if isStopping() { return false }
      usleep(UInt32(min((end - now) / 1000 + 1, 10_000)))
    }
  }
}
