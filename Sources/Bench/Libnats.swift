import CNats
import Lab

/// A libnats connection, for traffic that is not measured.
final class Libnats: @unchecked Sendable {
  // @unchecked: the pointer is set once, and libnats does its own locking.

  struct Message: Sendable {
    var subject: String
    var reply: String?
    var payload: [UInt8]

    fileprivate init(_ message: OpaquePointer?) {
      subject = natsMsg_GetSubject(message).map { String(cString: $0) } ?? ""
      reply = natsMsg_GetReply(message).map { String(cString: $0) }
      payload = Array(
        UnsafeRawBufferPointer(start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message))))
    }
  }

  static var version: String { String(cString: nats_GetVersion()) }

  private let connection: OpaquePointer

  init(_ url: String, name: String) throws {
    let options = try Self.make("options") { natsOptions_Create(&$0) }
    defer { natsOptions_Destroy(options) }
    natsOptions_SetURL(options, url)
    natsOptions_SetName(options, name)
    // Without this, every message waits for the sleeping flusher thread.
    natsOptions_SetSendAsap(options, true)
    connection = try Self.make("a connection") { natsConnection_Connect(&$0, options) }
  }

  deinit {
    close()
    natsConnection_Destroy(connection)
  }

  func close() { natsConnection_Close(connection) }

  func publish(_ payload: [UInt8], to subject: String, reply: String? = nil) {
    // libnats rejects a request whose reply subject is nil, so publish without one.
    if let reply {
      natsConnection_PublishRequest(connection, subject, reply, payload, Int32(payload.count))
    } else {
      natsConnection_Publish(connection, subject, payload, Int32(payload.count))
    }
  }

  /// Waits until the broker has processed everything sent so far.
  func flush() throws { try Self.check("a flush", natsConnection_FlushTimeout(connection, 5000)) }

  /// Returns the reply; nil on a timeout or when there are no responders.
  func request(_ subject: String, _ payload: [UInt8], timeoutMilliseconds: Int64) -> Message? {
    var message: OpaquePointer?
    let status = natsConnection_Request(
      &message, connection, subject, payload, Int32(payload.count), timeoutMilliseconds)
    defer { natsMsg_Destroy(message) }
    return status == NATS_OK ? Message(message) : nil
  }

  /// Subscribes until the connection is closed. The handler runs on a libnats thread.
  func subscribe(
    _ subject: String, group: String? = nil, onMessage: @escaping @Sendable (Message) -> Void
  ) throws {
    let received: natsMsgHandler = { _, _, message, receiver in
      defer { natsMsg_Destroy(message) }
      guard let receiver else { return }
      Unmanaged<Receiver>.fromOpaque(receiver).takeUnretainedValue().onMessage(Message(message))
    }
    // Leaked on purpose, a few bytes: libnats may still deliver messages while it is closing.
    let receiver = Unmanaged.passRetained(Receiver(onMessage)).toOpaque()
    _ = try Self.make("a subscription") { made in
      if let group {
        natsConnection_QueueSubscribe(&made, connection, subject, group, received, receiver)
      } else {
        natsConnection_Subscribe(&made, connection, subject, received, receiver)
      }
    }
  }

  /// A box for the closure, which libnats holds as a pointer.
  private final class Receiver: Sendable {
    let onMessage: @Sendable (Message) -> Void
    init(_ onMessage: @escaping @Sendable (Message) -> Void) { self.onMessage = onMessage }
  }

  private static func make(
    _ what: String, _ create: (inout OpaquePointer?) -> natsStatus
  ) throws -> OpaquePointer {
    var made: OpaquePointer?
    try check(what, create(&made))
    guard let made else { preconditionFailure("libnats made no \(what)") }
    return made
  }

  private static func check(_ what: String, _ status: natsStatus) throws {
    guard status != NATS_OK else { return }
    let why = natsStatus_GetText(status).map { String(cString: $0) } ?? "status \(status.rawValue)"
    throw LabError.cannotStart(program: "\(what) of the NATS client", why: why)
  }
}
