import Foundation
import NATS
import Nylon
import Scenario

/// Gives workers the plugin's configuration before the first request, as the interface says, by a message on the
/// lifecycle subject, which every worker hears; waits until they have taken it.
struct WorkerInitialization {
  let order: LoadOrder
  let spec: NATSSpec

  /// All of this package's workers must answer within this time; those of the real SDK may not answer at all.
  private static let longestMilliseconds: UInt64 = 5000
  /// Of workers that ran already nobody knows how many there are: so long without an answer ends it.
  private static let silenceMilliseconds: UInt64 = 300

  /// Sends the configuration when there is one.
  ///
  /// - Throws: ``BrokerError`` without a broker, ``SecurityFileError`` for a file that cannot be used,
  ///   ``LoadFailure`` when a worker refuses the configuration.
  func run() throws {
    guard !spec.configJSON.isEmpty else { return }
    let security = try WireSecurity(auth: spec.auth, tls: spec.tls, servers: order.servers)
    let servers = try BrokerServer.all(order.servers, security: security)
    let message = try message()
    let inbox = "_INBOX.nylon-bench.\(UUID().uuidString)"
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin).lifecycle
    let publication = Array("PUB \(subject) \(inbox) \(message.count)\r\n".utf8) + message + [13, 10]
    let wire = WireConnection(
      to: servers, subscriptions: "SUB \(inbox) 1\r\n", outBytes: publication.count)
    defer { wire.close() }
    try wire.connectFirst()
    wire.put(publication)
    try collect(wire)
  }

  private func message() throws -> [UInt8] {
    try WorkerMessage(
      requestID: .text(UUID().uuidString), sessionID: 0, phase: .zero, data: Array(spec.configJSON.utf8),
      timestampMilliseconds: MonotonicClock.unixNanoseconds / 1_000_000,
      headers: [KeyValue(key: "method", value: "initialize")] + (spec.defaultHeaders ?? [])
    ).encoded()
  }

  /// Whether the workers are ours, which answer an `initialize` message.
  private var workersAnswer: Bool { spec.workers?.command.first == "nylon-worker" }

  private func collect(_ wire: WireConnection) throws {
    let ours = order.workerPIDs.count
    var answers = 0
    while ours == 0 || answers < ours {
      let patience = ours > 0 && workersAnswer ? Self.longestMilliseconds : Self.silenceMilliseconds
      guard let reply = Self.next(wire, milliseconds: patience) else { break }
      answers += 1
      guard let response = try? reply.withUnsafeBytes({ try WorkerMessage(reply: $0) }),
        let error = response.error, !error.isEmpty
      else { continue }
      throw LoadFailure(
        kind: .scenario,
        message: "target '\(order.target.name)': a worker refused `config:` of plugin "
          + "'\(order.target.plugin)': \(error)")
    }
    if workersAnswer, answers < ours {
      throw LoadFailure(
        kind: .failed,
        message:
          "target '\(order.target.name)': \(answers) of \(ours) workers took the plugin's `config:` in time")
    }
  }

  /// The next reply; nil when none comes in time, nobody is there to send one, or the connection is over.
  private static func next(_ wire: WireConnection, milliseconds: UInt64) -> [UInt8]? {
    let end = MonotonicClock.nanoseconds + milliseconds * 1_000_000
    while true {
      if let piece = wire.nextMessage() { return piece.isNoResponders ? nil : Array(piece.payload) }
      if wire.isBroken || wire.send() == .broken { return nil }
      if wire.unsentBytes == 0 { wire.wantRoom(false) }
      if !wire.holdsMore, wire.waitForSocket(until: end) == nil { return nil }
      if wire.fill() < 0 { return nil }
    }
  }
}
