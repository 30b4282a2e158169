import Nylon

/// What a worker speaks, and in which form.
struct WorkerDialect: Sendable {
  var dialect: Dialect
  /// Whether maps without `data` have nil there, as those of the newest SDK.
  var writesNilData: Bool
}

/// The maps of a handler's calls, each published at once to the subject that the request names. For one thread.
final class CallMaps {
  /// The way of a call as a map.
  fileprivate struct Port: CallPort {
    static var transport: Transport { .nats }
    let box: ReplyBox
    let encoder: ReplyEncoder
    /// Where the maps go; empty when no phase is under way. Valid as long as the request.
    var subject = UnsafeRawBufferPointer(start: nil, count: 0)
    var requestID: RequestIDView?
    /// Bytes of a map, at most.
    var most = 0

    func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase, of sessionID: UInt32) {
      guard !subject.isEmpty else { return }
      var map = encoder.encode(
        requestID: requestID, sessionID: sessionID, method: method.rawValue,
        data: payload.isEmpty ? nil : payload)
      if map.count > most {
        let error = MessageError.tooLarge(what: "call", byteCount: map.count, byteCountMost: most)
        map = encoder.encode(requestID: requestID, sessionID: sessionID, error: error.description)
      }
      box.add(map, to: subject)
    }
  }

  private let mailbox: ReadMailbox
  private var context: PhaseContext
  private var backend: CallBackend<Port>

  init(_ box: ReplyBox, _ mailbox: ReadMailbox, writesNilData: Bool) {
    self.mailbox = mailbox
    let port = Port(box: box, encoder: ReplyEncoder(writesNilData: writesNilData))
    backend = CallBackend(mailbox, port: port)
    context = PhaseContext(backend: backend)
  }

  /// Where the answers to a message go that came with a reply subject: `headers.reply` wins when it is a subject.
  static func subject(
    of message: UnsafeRawBufferPointer, reply: UnsafeRawBufferPointer
  ) -> UnsafeRawBufferPointer {
    guard let named = (try? MessageView(request: message))?.header("reply"), !named.isEmpty,
      named.allSatisfy({ $0 > 0x20 && $0 != 0x7f })
    else { return reply }
    return named
  }

  /// The next request's maps go to that subject, and have so many bytes at most.
  func begin(subject: UnsafeRawBufferPointer, most: Int) {
    backend.port.subject = subject
    backend.port.most = most
  }

  /// Nothing is published any more for the request: its bytes are about to go.
  func end() {
    backend.port.subject = UnsafeRawBufferPointer(start: nil, count: 0)
    backend.port.requestID = nil
    guard !isKnownUniquelyReferenced(&context) else { return }
    // A handler that kept its context keeps a finished one, not another session's.
    backend = CallBackend(mailbox, port: backend.port)
    context = PhaseContext(backend: backend)
  }

  /// Acknowledges a request and runs its handler; the error that it threw.
  func run(
    _ handler: Plugin.Handler?, _ request: MessageView, phase: Phase, acknowledgement: UnsafeRawBufferPointer
  ) -> (any Error)? {
    let port = backend.port
    if !port.subject.isEmpty { port.box.add(acknowledgement, to: port.subject) }
    backend.port.requestID = request.requestID
    (backend.sessionID, backend.phase) = (request.sessionID ?? 0, phase)
    context.begin(phase: phase, sessionID: backend.sessionID)
    return context.run(handler)
  }
}
