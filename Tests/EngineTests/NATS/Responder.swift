import CNats
import TestSupport
import Foundation
import Lab
import Results
import NATS
@testable import Scenario
import Synchronization
import Testing

@testable import Engine
@testable import Nylon

/// What a responder of a test does with a request: what it publishes, to which subjects.
typealias Respond = @Sendable (_ request: WorkerMessage, _ reply: String) -> [Publication]

/// Something that a responder publishes.
struct Publication {
  var subject: String
  var bytes: [UInt8]
  /// Before it goes out; the replies behind it wait too.
  var delayMilliseconds = 0
}

/// A worker that a test scripts: one connection of its own, one thread of libnats' own.
final class Responder: @unchecked Sendable {
  // @unchecked: set up in `init`; then libnats' delivery thread alone uses it.
  private let connection: OpaquePointer
  private var subscriptions: [OpaquePointer] = []
  private let respond: Respond
  private let seen = Mutex<[WorkerMessage]>([])

  init(
    _ url: String, auth: NATSAuth = NATSAuth(), phases: [Phase] = Phase.session, hearsLifecycle: Bool = false,
    respond: @escaping Respond
  ) throws {
    self.respond = respond
    var options: OpaquePointer?
    try #require(natsOptions_Create(&options) == NATS_OK)
    defer { natsOptions_Destroy(options) }
    try #require(natsOptions_SetURL(options, url) == NATS_OK)
    if let token = auth.token { try #require(natsOptions_SetToken(options, token) == NATS_OK) }
    if let user = auth.user, let password = auth.password {
      try #require(natsOptions_SetUserInfo(options, user, password) == NATS_OK)
    }
    var made: OpaquePointer?
    try #require(natsConnection_Connect(&made, options) == NATS_OK)
    connection = try #require(made)
    let subject = try Subject(prefix: "nylon.plugin", plugin: "p")
    for phase in phases {
      var subscription: OpaquePointer?
      let status = natsConnection_QueueSubscribe(
        &subscription, connection, subject.phase(phase), "default", responderReceived,
        Unmanaged.passUnretained(self).toOpaque())
      try #require(status == NATS_OK)
      subscriptions.append(try #require(subscription))
    }
    if hearsLifecycle {
      var subscription: OpaquePointer?
      let status = natsConnection_Subscribe(
        &subscription, connection, subject.lifecycle, responderReceived,
        Unmanaged.passUnretained(self).toOpaque())
      try #require(status == NATS_OK)
      subscriptions.append(try #require(subscription))
    }
    try #require(natsConnection_Flush(connection) == NATS_OK)
  }

  /// The requests so far.
  var requests: [WorkerMessage] { seen.withLock { $0 } }

  fileprivate func received(_ message: OpaquePointer) {
    let bytes = UnsafeRawBufferPointer(
      start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message)))
    guard let request = try? WorkerMessage(request: bytes) else {
      Issue.record("a request cannot be read")
      return
    }
    // The answer to a read has none.
    let reply = natsMsg_GetReply(message).map { String(cString: $0) } ?? ""
    seen.withLock { $0.append(request) }
    for publication in respond(request, reply) {
      if publication.delayMilliseconds > 0 { usleep(UInt32(publication.delayMilliseconds) * 1000) }
      _ = publication.bytes.withUnsafeBytes {
        natsConnection_Publish(connection, publication.subject, $0.baseAddress, Int32($0.count))
      }
    }
    natsConnection_Flush(connection)
  }

  func stop() {
    subscriptions.forEach { natsSubscription_Destroy($0) }
    natsConnection_Close(connection)
    natsConnection_Destroy(connection)
  }
}

private func responderReceived(
  connection: OpaquePointer?, subscription: OpaquePointer?, message: OpaquePointer?,
  closure: UnsafeMutableRawPointer?
) {
  guard let message, let closure else { return }
  Unmanaged<Responder>.fromOpaque(closure).takeUnretainedValue().received(message)
  natsMsg_Destroy(message)
}

/// A reply in the `reply` dialect.
func reply(
  to request: WorkerMessage, _ action: ReplyAction = .next, id: RequestID? = nil, data: [UInt8]? = nil,
  error: String? = nil
) -> [UInt8] {
  let message = WorkerMessage(
    requestID: id ?? request.requestID, sessionID: request.sessionID, action: action, data: data, error: error
  )
  return (try? message.encoded()) ?? []
}

/// A map of a call, or without a method an acknowledgement.
func callMap(
  of request: WorkerMessage, _ method: Nylon.Method?, _ data: [UInt8]? = nil, error: String? = nil
) -> [UInt8] {
  let message = WorkerMessage(
    requestID: request.requestID, sessionID: request.sessionID, method: method?.rawValue,
    data: data,
    error: error)
  return (try? message.encoded()) ?? []
}

/// A load on a pool.
struct NATSLoad {
  var load = LoadShape.closed(concurrency: 4)
  var handler = "h"
  var phases: [Phase] = [.requestFilter]
  var threads = 1
  var connections = 1
  var verify = Verification()
  var request = RequestSpec()
  var warmupSeconds = 0.0
  var measureSeconds = 0.2
  var drainSeconds = 10.0
  var decompose = false
  var policy = PhasePolicy(
    timeoutMilliseconds: 2000, onError: .end, attempts: 3, backoffFirstMilliseconds: 5,
    backoffMostMilliseconds: 10)

  func order(_ url: String) -> LoadOrder {
    let target = Target(
      name: "t", plugin: "p", handler: handler, transport: .nats(spec), phases: phases,
      loads: [load], policies: Dictionary(uniqueKeysWithValues: Phase.session.map { ($0, policy) }),
      maxInFlight: 256, verify: verify, decompose: decompose)
    return LoadOrder(
      target: target, load: load, request: request, warmupSeconds: warmupSeconds,
      measureSeconds: measureSeconds,
      drainSeconds: drainSeconds, threads: threads, connections: connections, seed: 1, replicate: 1,
      servers: [url])
  }

  var auth = NATSAuth()
  var defaultHeaders: [KeyValue]?
  var dialect: Dialect? = .reply
  var host: NATSHost?
  var initializeTimeoutMilliseconds: Int?
  var spec: NATSSpec {
    NATSSpec(
      dialect: dialect, host: host, initializeTimeoutMilliseconds: initializeTimeoutMilliseconds, auth: auth,
      defaultHeaders: defaultHeaders)
  }

  /// Runs the load, for its time or until there is enough.
  ///
  /// - Parameter isWarm: bytes that the load threads allocate are counted from the answer on that finds the load warm.
  func run(
    _ servers: String..., isWarm: Bool = false, until enough: (@Sendable (LoadGlance) -> Bool)? = nil
  ) throws -> Engine.Measurement {
    try run(servers: servers, isWarm: isWarm, until: enough)
  }

  func run(
    servers: [String], isWarm: Bool = false, until enough: (@Sendable (LoadGlance) -> Bool)? = nil
  ) throws -> Engine.Measurement {
    var order = order(servers[0])
    order.servers = servers
    if enough != nil { order.measureSeconds = 600 }
    let memory = LoadRecording(order.layout)
    if let enough { memory.endLoad(when: enough) }
    let runner = LoadRunner(order: order, area: memory.area) {
      isWarm ? memory.sampleWhenWarm() : ResourceSample()
    }
    var kept: Engine.Measurement?
    try runner.measure { kept = $0 }
    let measurement = try #require(kept)
    #expect(measurement.client == "native")
    return measurement
  }
}

/// Every request of the load was answered, and the load thread allocated nothing for it once it was warm.
///
/// - Parameter debugBytesPerRequest: what unoptimised code, which boxes what closures share, stays under, though not
///   more than half of the requests came before the load was warm.
func expectNoAllocations(
  _ measurement: Engine.Measurement, debugBytesPerRequest: UInt64,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  try expectOnlyAnswers(measurement, sourceLocation: sourceLocation)
  let bytes = try #require(measurement.allocatedBytes, sourceLocation: sourceLocation)
  let requests = try #require(measurement.request, sourceLocation: sourceLocation).okInWindow
  #expect(requests > 10, sourceLocation: sourceLocation)
  #if DEBUG
    #expect(bytes / max(1, requests) < debugBytesPerRequest, sourceLocation: sourceLocation)
  #else
    #expect(bytes == 0, sourceLocation: sourceLocation)
  #endif
}
