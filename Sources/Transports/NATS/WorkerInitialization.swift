// Before the first request the workers get the plugin's configuration, as the interface says: a
// message on the lifecycle subject, which every worker hears.
import CNats
import Foundation
import Load
import NATSWire
import NylonProtocol
import Scenario

/// Gives workers their configuration and waits until they have taken it.
public struct WorkerInitialization {
  let order: LoadOrder
  let spec: NATSSpec

  /// The configuration of an order's pool.
  public init(order: LoadOrder, spec: NATSSpec) {
    self.order = order
    self.spec = spec
  }

  /// Workers of ours must all answer within this; a real SDK's older dialects may not answer at all.
  private static let longestMilliseconds: Int64 = 5000
  /// Of workers that ran already nobody knows how many there are: so long without an answer ends it.
  private static let silenceMilliseconds: Int64 = 300

  /// Sends the configuration when there is one.
  ///
  /// - Throws: ``BrokerError`` without a broker, ``LoadFailure`` when a worker refuses the configuration.
  public func run() throws {
    guard !spec.configJSON.isEmpty else { return }
    let shown = order.servers.map(redactedURL).joined(separator: ", ")
    func check(_ status: natsStatus) throws {
      guard status == NATS_OK else { throw BrokerError(server: shown, status: status) }
    }
    var options: OpaquePointer?
    try check(natsOptions_Create(&options))
    defer { natsOptions_Destroy(options) }
    guard let options else { return }
    for status in ConnectionOptions.apply(spec, servers: order.servers, to: options) { try check(status) }
    try check(natsOptions_SetSendAsap(options, true))
    var connection: OpaquePointer?
    try check(natsConnection_Connect(&connection, options))
    defer { natsConnection_Destroy(connection) }
    let inbox = "_INBOX.nylon-bench.\(UUID().uuidString)"
    var subscription: OpaquePointer?
    try check(natsConnection_SubscribeSync(&subscription, connection, inbox))
    defer { natsSubscription_Destroy(subscription) }
    let message = try message()
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin).lifecycle
    try check(natsConnection_PublishRequest(connection, subject, inbox, message, Int32(message.count)))
    try collect(subscription)
  }

  private func message() throws -> [UInt8] {
    try RequestMessage(
      requestID: .text(UUID().uuidString), sessionID: 0, phase: .zero, data: Array(spec.configJSON.utf8),
      timestampMilliseconds: UInt64(Date().timeIntervalSince1970 * 1000),
      headers: [KeyValue(key: "method", value: "initialize")]
    ).encoded()
  }

  private func collect(_ subscription: OpaquePointer?) throws {
    let ours = order.workerPIDs.count
    var answers = 0
    while ours == 0 || answers < ours {
      var reply: OpaquePointer?
      let patience =
        ours > 0 && order.workersAnswerInitialize ? Self.longestMilliseconds : Self.silenceMilliseconds
      guard natsSubscription_NextMsg(&reply, subscription, patience) == NATS_OK, let reply else { break }
      defer { natsMsg_Destroy(reply) }
      answers += 1
      let bytes = UnsafeRawBufferPointer(
        start: natsMsg_GetData(reply), count: Int(natsMsg_GetDataLength(reply)))
      guard let response = try? ResponseMessage(decoding: bytes), let error = response.error, !error.isEmpty
      else { continue }
      throw LoadFailure(
        kind: .scenario,
        message: "target '\(order.target.name)': a worker refused `config:` of plugin "
          + "'\(order.target.plugin)': \(error)")
    }
    if order.workersAnswerInitialize, answers < ours {
      throw LoadFailure(
        kind: .failed,
        message:
          "target '\(order.target.name)': \(answers) of \(ours) workers took the plugin's `config:` in time")
    }
  }
}

extension LoadOrder {
  /// Whether the workers are ours, which answer an `initialize` message.
  fileprivate var workersAnswerInitialize: Bool {
    guard case .nats(let spec) = target.transport else { return false }
    return spec.workers?.command.first == "nylon-worker"
  }
}
