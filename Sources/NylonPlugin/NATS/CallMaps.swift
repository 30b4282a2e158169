import Nylon

/// The wire dialect of a worker and its variant.
struct WorkerDialect: Sendable {
  var dialect: Dialect
  /// Whether maps without `data` carry a nil `data`, as the newest SDK writes them.
  var writesNilData: Bool
}

/// Publishes each call of a handler as its own map to the reply subject of the request. Not thread-safe.
final class CallMaps {
  /// Sends calls as maps.
  fileprivate struct Port: CallPort {
    static var transport: Transport { .nats }
    let box: ReplyBox
    let encoder: ReplyEncoder
    /// The subject of the maps, valid as long as the request; empty when no phase is running.
    var subject = UnsafeRawBufferPointer(start: nil, count: 0)
    var requestID: RequestIDView?
    /// The maximum size of a map in bytes.
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

  /// Returns the subject for the answers to a message: `headers.reply` if it is a valid subject, otherwise
  /// the message's reply subject.
  static func subject(
    of message: UnsafeRawBufferPointer, reply: UnsafeRawBufferPointer
  ) -> UnsafeRawBufferPointer {
    guard let named = (try? MessageView(request: message))?.header("reply"), !named.isEmpty,
      named.allSatisfy({ $0 > 0x20 && $0 != 0x7f })
    else { return reply }
    return named
  }

  /// Sets the subject and the maximum size in bytes of the next request's maps.
  func begin(subject: UnsafeRawBufferPointer, most: Int) {
    backend.port.subject = subject
    backend.port.most = most
  }

  /// Stops publishing for the current request, whose bytes are about to be released.
  func end() {
    backend.port.subject = UnsafeRawBufferPointer(start: nil, count: 0)
    backend.port.requestID = nil
    guard !isKnownUniquelyReferenced(&context) else { return }
    // A handler that kept its context must not see another session through it.
    backend = CallBackend(mailbox, port: backend.port)
    context = PhaseContext(backend: backend)
  }

  /// Acknowledges a request and runs its handler. Returns the error that the handler threw, if any.
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
