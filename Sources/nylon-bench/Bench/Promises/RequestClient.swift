import Results
import CNats
import Foundation
import Lab
import Nylon
import Scenario

/// What came of one request.
enum Answer: Equatable {
  /// The worker's reply.
  case reply(ResponseMessage)
  /// A reply that is no message of ours.
  case unreadable
  /// The broker knows nobody who would take it.
  case noResponders
  /// Nothing within the timeout.
  case silence

  /// Whether a worker went on with the session.
  var isGood: Bool {
    if case .reply(let message) = self {
      // The real SDK's single reply has no action.
      return [.next, .end, .missing].contains(message.action) && message.error?.isEmpty != false
    }
    return false
  }
}

/// Sends requests one by one or all at once, by libnats' own synchronous calls. For counting, not
/// for times.
final class RequestClient {
  private let connection: OpaquePointer
  private var count: UInt64 = 0

  init(_ url: String) throws {
    connection = try NATSOpening.connect(url, name: "nylon-bench-behaviour")
  }

  deinit {
    natsConnection_Close(connection)
    natsConnection_Destroy(connection)
  }

  /// A phase request as the host would send it, with an id of its own.
  func message(_ target: Target, phase: Phase, request: RequestSpec) throws -> [UInt8] {
    count += 1
    var data: [UInt8]?
    if case .nats(let spec) = target.transport, spec.dialect == .reply {
      data = Self.context(request).encoded()
    }
    return try RequestMessage(
      requestID: RequestID(high: 0x0190_0000_0000_7000 | count >> 32, low: 1 << 63 | count),
      sessionID: UInt32(truncatingIfNeeded: count), phase: phase, data: data,
      timestampMilliseconds: UInt64(Date().timeIntervalSince1970 * 1000),
      headers: [KeyValue(key: "entry", value: target.handler)]
    ).encoded()
  }

  private static func context(_ request: RequestSpec) -> HTTPContext {
    let parts = request.path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    return HTTPContext(
      request: HTTPRequest(
        method: request.method, path: String(parts[0]), query: parts.count > 1 ? String(parts[1]) : "",
        params: request.params, headers: request.headers),
      response: HTTPResponse(status: request.responseStatus, headers: request.responseHeaders))
  }

  /// Sends one request and waits for its answer.
  func request(_ subject: String, _ bytes: [UInt8], timeoutMilliseconds: Int64 = 2000) -> Answer {
    var message: OpaquePointer?
    let status = natsConnection_Request(
      &message, connection, subject, bytes, Int32(bytes.count), timeoutMilliseconds)
    defer { natsMsg_Destroy(message) }
    switch status {
    case NATS_OK: return Self.answer(message)
    case NATS_NO_RESPONDERS: return .noResponders
    default: return .silence
    }
  }

  /// Sends all requests, and gathers what comes back for each until nothing has come for a while.
  func gather(_ subject: String, _ requests: [[UInt8]], quietMilliseconds: Int64 = 300) throws -> [[Answer]] {
    var made: UnsafeMutablePointer<CChar>?
    guard natsInbox_Create(&made) == NATS_OK, let made else {
      throw NATSOpening.failure("an inbox", NATS_NO_MEMORY)
    }
    let inbox = String(cString: made)
    natsInbox_Destroy(made)
    var subscription: OpaquePointer?
    let status = natsConnection_SubscribeSync(&subscription, connection, inbox + ".*")
    guard status == NATS_OK else { throw NATSOpening.failure("a subscription", status) }
    defer { natsSubscription_Destroy(subscription) }
    for (place, bytes) in requests.enumerated() {
      natsConnection_PublishRequest(connection, subject, "\(inbox).\(place)", bytes, Int32(bytes.count))
    }
    natsConnection_FlushTimeout(connection, 5000)
    var answers = [[Answer]](repeating: [], count: requests.count)
    var message: OpaquePointer?
    while natsSubscription_NextMsg(&message, subscription, quietMilliseconds) == NATS_OK {
      defer { natsMsg_Destroy(message) }
      let place = natsMsg_GetSubject(message).flatMap { String(cString: $0).split(separator: ".").last }
      guard let place = place.flatMap({ Int($0) }), answers.indices.contains(place) else { continue }
      answers[place].append(Self.answer(message))
    }
    return answers
  }

  private static func answer(_ message: OpaquePointer?) -> Answer {
    let bytes = UnsafeRawBufferPointer(
      start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message)))
    guard let reply = try? ResponseMessage(decoding: bytes) else { return .unreadable }
    return .reply(reply)
  }
}

/// Opens connections of libnats.
enum NATSOpening {
  static func connect(_ url: String, name: String) throws -> OpaquePointer {
    var options: OpaquePointer?
    var connection: OpaquePointer?
    guard natsOptions_Create(&options) == NATS_OK else { throw failure("options", NATS_NO_MEMORY) }
    defer { natsOptions_Destroy(options) }
    natsOptions_SetURL(options, url)
    natsOptions_SetName(options, name)
    // Else every request waits for a flusher that sleeps.
    natsOptions_SetSendAsap(options, true)
    let status = natsConnection_Connect(&connection, options)
    guard status == NATS_OK, let connection else { throw failure("a connection", status) }
    return connection
  }

  static func failure(_ what: String, _ status: natsStatus) -> LabError {
    let text = natsStatus_GetText(status).map { String(cString: $0) } ?? "status \(status.rawValue)"
    return .cannotStart(program: "\(what) of the NATS client", why: text)
  }
}
