import Foundation
import NATS
import Nylon
import Scenario

/// A connection for what is said to workers before and after a load: one message at a time, nothing of it measured.
package struct WorkerTalk {
  package let inbox: String
  package let subject: Subject
  private let wire: WireConnection

  /// Throws ``BrokerError`` without a broker, ``SecurityFileError`` for a file that cannot be used.
  package init(order: LoadOrder, spec: NATSSpec) throws {
    inbox = "_INBOX.nylon-bench.\(UUID().uuidString)"
    subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin)
    let security = try WireSecurity(auth: spec.auth, tls: spec.tls, servers: order.servers)
    wire = WireConnection(
      to: try BrokerServer.all(order.servers, security: security), subscriptions: "SUB \(inbox) 1\r\n")
    do {
      try wire.connectFirst()
    } catch {
      wire.close()
      throw error
    }
  }

  package func close() { wire.close() }

  package func publish(_ payload: [UInt8], to subject: String, wantsReply: Bool = true) {
    let reply = wantsReply ? " \(inbox)" : ""
    wire.put(Array("PUB \(subject)\(reply) \(payload.count)\r\n".utf8) + payload + [13, 10])
  }

  package enum Reply {
    case payload([UInt8])
    /// Nobody is subscribed.
    case nobody
  }

  /// The next reply; nil when none comes until a monotonic time, or the connection is over.
  package func next(until end: UInt64) -> Reply? {
    while true {
      if let piece = wire.nextMessage() {
        return piece.isNoResponders ? .nobody : .payload(Array(piece.payload))
      }
      if wire.isBroken || wire.send() == .broken { return nil }
      if wire.unsentBytes == 0 { wire.wantRoom(false) }
      let isTime = wire.holdsMore ? MonotonicClock.nanoseconds < end : wire.waitForSocket(until: end) != nil
      guard isTime else { return nil }
      if wire.fill() < 0 { return nil }
    }
  }

  /// The request for a phase, as a host of the dialect sends it, and what the handler's reads are answered from.
  package func question(
    _ phase: Phase, _ dialect: DialectTraits, order: LoadOrder
  ) -> (message: WorkerMessage, id: (high: UInt64, low: UInt64), responses: CalledResponses) {
    let content = RequestContent(order.request, seed: order.seed)
    let sentMilliseconds = MonotonicClock.unixNanoseconds / 1_000_000
    var ids = UUIDv7(seed: .random(in: .min ... .max))
    let id = ids.next(timestampMilliseconds: sentMilliseconds)
    let message = WorkerMessage(
      dialect, id: id, sessionID: order.sessionIDsAfter, phase: phase, entry: order.target.handler,
      context: HTTPContext(request: content.request, response: content.response).encoded(),
      reply: inbox, timestampMilliseconds: sentMilliseconds)
    return (message, id, CalledResponses(order.request, content: content))
  }

  /// Answers a read where the dialect has its reads answered, so that the worker does not wait for ever.
  package func answer(
    _ method: Nylon.Method, _ map: MessageView, on subject: String, from responses: CalledResponses
  ) {
    let payload = map.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    _ = responses.answer(method, payload, slot: 0) { answer in
      let encoder = ReplyEncoder()
      publish(
        Array(
          encoder.encode(
            requestID: map.requestID, sessionID: map.sessionID, phase: .zero, method: method.rawValue,
            data: answer)), to: subject, wantsReply: false)
      withExtendedLifetime(encoder) {}
    }
  }
}
