/// A request's id, echoed in the reply with its type: text, usually a UUID, or bytes, usually sixteen.
package struct RequestID: Sendable, Hashable {
  fileprivate let bytes: [UInt8]
  fileprivate let isText: Bool

  package static func text(_ text: String) -> RequestID { RequestID(bytes: Array(text.utf8), isText: true) }
  package static func bytes(_ bytes: [UInt8]) -> RequestID { RequestID(bytes: bytes, isText: false) }
}

extension RequestID {
  /// Creates an id of sixteen bytes from two words, most significant first.
  package init(high: UInt64, low: UInt64) {
    self = .bytes([high, low].flatMap { withUnsafeBytes(of: $0.bigEndian, Array.init) })
  }

  /// Returns the UUID's text as an id.
  static func uuidText(_ id: (high: UInt64, low: UInt64)) -> RequestID {
    let bytes = [UInt8](unsafeUninitializedCapacity: UUIDText.byteCount) { buffer, count in
      buffer.baseAddress.map { UUIDText.write(id, to: $0) }
      count = UUIDText.byteCount
    }
    return RequestID(bytes: bytes, isText: true)
  }
}

/// A message from the host to a worker or back, in any dialect. Fields that are nil are omitted.
package struct WorkerMessage: Sendable, Hashable {
  /// The id of the request; nil in a reply to a request without a readable id.
  package var requestID: RequestID?
  /// The session: one proxied HTTP request. Absent from replies in `reply-sdk`.
  package var sessionID: UInt32?
  /// The phase of a request; zero for the answer to a read.
  package var phase: Phase?
  /// The outcome of the phase; `missing` in requests, and in replies of the real SDK.
  package var action: ReplyAction
  /// The call in `stream-sdk`, where 0 starts a phase; nil in the other dialects.
  package var method: UInt32?
  /// The HTTP context or its changes (`reply`), the answer to a read or the payload of a call (`stream-sdk`),
  /// or a configuration (`initialize`).
  package var data: [UInt8]?
  package var error: String?
  /// When the request was sent, in Unix milliseconds.
  package var timestampMilliseconds: UInt64?
  /// The message headers: `entry` names the handler; for `reply` and `method` see the interface. Usually
  /// empty in replies.
  package var headers: [KeyValue]

  /// The names of the headers that the host itself sets.
  package static let hostHeaders: Set<String> = ["entry", "reply", "method", WorkerStamps.question.key]

  package init(
    requestID: RequestID?, sessionID: UInt32? = nil, phase: Phase? = nil, action: ReplyAction = .missing,
    method: UInt32? = nil, data: [UInt8]? = nil, error: String? = nil, timestampMilliseconds: UInt64? = nil,
    headers: [KeyValue] = []
  ) {
    self.requestID = requestID
    self.sessionID = sessionID
    self.phase = phase
    self.action = action
    self.method = method
    self.data = data
    self.error = error
    self.timestampMilliseconds = timestampMilliseconds
    self.headers = headers
  }

  private init(_ view: MessageView) {
    self.init(
      requestID: view.requestID.map { RequestID(bytes: [UInt8]($0.raw), isText: $0.isText) },
      sessionID: view.sessionID, phase: view.phase, action: view.action, method: view.method,
      data: view.data.map([UInt8].init), error: view.error?.string,
      timestampMilliseconds: view.timestampMilliseconds, headers: view.headerList)
  }

  /// Decodes a reply.
  package init(reply bytes: UnsafeRawBufferPointer) throws(MessageError) {
    guard let view = MessageView(reply: bytes) else { throw .notAMap(what: "response") }
    self.init(view)
  }

  /// Decodes a request; throws if it has no id or no phase.
  package init(request bytes: UnsafeRawBufferPointer) throws(MessageError) {
    self.init(try MessageView(request: bytes))
    if requestID == nil { throw .missingKey(what: "request", key: "request_id") }
    if phase == nil { throw .missingKey(what: "request", key: "phase") }
  }

  /// Encodes the message as MessagePack; throws `MessageError.tooLarge` past 4 GiB of data.
  package func encoded() throws(MessageError) -> [UInt8] {
    let writer = MessagePackWriter()
    try pack(to: writer)
    return writer.copy
  }

  /// Packs the message. Returns the offsets of the id, the session and the timestamp; in a template these
  /// have a fixed width, so that they can be overwritten.
  @discardableResult
  fileprivate func pack(
    to writer: MessagePackWriter, isTemplate: Bool = false
  ) throws(MessageError) -> (requestID: Int, sessionID: Int, timestamp: Int) {
    // MessagePack lengths have at most 32 bits.
    if let data, data.count > UInt32.max {
      throw .tooLarge(
        what: phase == nil ? "response" : "request", byteCount: data.count, byteCountMost: Int(UInt32.max))
    }
    var offsets = (requestID: 0, sessionID: 0, timestamp: 0)
    writer.beginMessage()
    writer.entry("version", 1) { writer.unsigned($0) }
    writer.entry("request_id", requestID) { id in
      offsets.requestID = writer.byteCount + 2  // after the type, 0xc4 or 0xd9, and the length
      id.bytes.withUnsafeBytes { writer.requestID(RequestIDView(raw: $0, isText: id.isText)) }
    }
    writer.entry("session_id", sessionID) {
      offsets.sessionID = writer.byteCount + 1  // after 0xce
      if isTemplate { writer.word(0xce, $0) } else { writer.unsigned(UInt64($0)) }
    }
    writer.entry("phase", phase) { writer.unsigned(UInt64($0.rawValue)) }
    writer.entry("action", action.text) { writer.key($0) }
    writer.entry("timestamp", timestampMilliseconds) {
      offsets.timestamp = writer.byteCount + 1  // after 0xcf
      if isTemplate { writer.word(0xcf, $0) } else { writer.unsigned($0) }
    }
    writer.entry("method", method) { writer.unsigned(UInt64($0)) }
    // A request always has headers, even if they are empty.
    writer.entry("headers", phase == nil && headers.isEmpty ? nil : headers) { writer.headers($0) }
    writer.entry("data", data) { $0.withUnsafeBytes { writer.binary($0) } }
    writer.entry("error", error) { writer.text($0) }
    return offsets
  }
}

extension WorkerMessage {
  /// Creates the request that starts a phase, as a host of the dialect sends it. `entry` names the handler;
  /// `context` and the reply subject `reply` are included if the dialect uses them; `headers` come last.
  package init(
    _ dialect: DialectTraits, id: (high: UInt64, low: UInt64), sessionID: UInt32, phase: Phase, entry: String,
    context: [UInt8]?, reply: String, timestampMilliseconds: UInt64, headers: [KeyValue] = []
  ) {
    let place = dialect.namesReplySubject ? [KeyValue(key: "reply", value: reply)] : []
    self.init(
      requestID: dialect.idIsText ? .uuidText(id) : RequestID(high: id.high, low: id.low),
      sessionID: sessionID,
      phase: phase, method: dialect.startMethod, data: dialect.sendsContext ? context : nil,
      timestampMilliseconds: timestampMilliseconds,
      headers: [KeyValue(key: "entry", value: entry)] + place + headers)
  }

  /// Returns the message that passes a JSON configuration to the workers.
  package static func initialize(
    _ json: [UInt8], id: RequestID, method: UInt32? = nil, timestampMilliseconds: UInt64 = 0,
    headers: [KeyValue]
  ) -> WorkerMessage {
    WorkerMessage(
      requestID: id, sessionID: 0, phase: .zero, method: method, data: json,
      timestampMilliseconds: timestampMilliseconds,
      headers: [KeyValue(key: "method", value: "initialize")] + headers)
  }
}

/// A packed request that the generator copies and patches: only its id, session, timestamp and reply subject
/// change.
package struct RequestTemplate {
  package let bytes: [UInt8]
  /// Whether the request's id is the text of a UUID; otherwise it is 16 bytes.
  package let idIsText: Bool
  /// The offset of the request's id.
  package let requestIDOffset: Int
  /// The offset of the session's id: 4 bytes, big-endian.
  package let sessionIDOffset: Int
  /// The offset of the timestamp: 8 bytes, big-endian, Unix milliseconds.
  package let timestampOffset: Int
  /// The offset of the reply subject, whose length must not change; nil if there is none.
  package let replyOffset: Int?

  /// Packs a phase request. Throws `MessageError.tooLarge` past 4 GiB of data.
  package init(
    _ dialect: DialectTraits = Dialect.reply.traits, phase: Phase, entry: String, context: [UInt8]? = nil,
    reply: String = "", headers: [KeyValue] = []
  ) throws(MessageError) {
    try self.init(
      WorkerMessage(
        dialect, id: (0, 0), sessionID: 0, phase: phase, entry: entry, context: context, reply: reply,
        timestampMilliseconds: 0, headers: headers), reply: dialect.namesReplySubject ? reply : nil)
  }

  /// Packs a request that has an id, a session and a timestamp. `reply` is the subject in its headers, or
  /// nil. Throws `MessageError.tooLarge` past 4 GiB of data.
  package init(_ message: WorkerMessage, reply: String? = nil) throws(MessageError) {
    let writer = MessagePackWriter()
    idIsText = message.requestID?.isText ?? false
    (requestIDOffset, sessionIDOffset, timestampOffset) = try message.pack(to: writer, isTemplate: true)
    let packed = writer.copy
    bytes = packed
    replyOffset = reply.flatMap { packed.firstRange(of: Array($0.utf8))?.lowerBound }
  }
}

/// An error in the bytes exchanged between host and plugin.
public enum MessageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The bytes are not exactly one well-formed MessagePack map.
  case notAMap(what: String)
  /// A required key is missing.
  case missingKey(what: String, key: String)
  /// The value of a key has the wrong type or is out of range.
  case wrongValue(what: String, key: String, found: String, wanted: String)
  /// The bytes are not a valid FlatBuffers table of the expected type.
  case notATable(what: String, byteCount: Int)
  /// A message or table exceeds the size limit of its format.
  case tooLarge(what: String, byteCount: Int, byteCountMost: Int)
  /// The value cannot be a token of a NATS subject.
  case badSubjectToken(what: String, value: String, reason: String)

  /// A sentence that names the object, the key, the value and the remedy.
  public var description: String {
    switch self {
    case .notAMap(let what):
      "\(what): not a well-formed MessagePack map; send one map with text keys and nothing after it"
    case .missingKey(let what, let key):
      "\(what): '\(key)' is missing; the interface requires it"
    case .wrongValue(let what, let key, let found, let wanted):
      "\(what): '\(key)' is \(found); it must be \(wanted)"
    case .notATable(let what, let byteCount):
      "\(what): \(byteCount) bytes are not a valid FlatBuffers table; build it from nylon_plugin.fbs"
    case .tooLarge(let what, let byteCount, let most):
      "\(what): \(byteCount) bytes are too many; the maximum is \(most), send a smaller body"
    case .badSubjectToken(let what, let value, let reason):
      "NATS subject: \(what) '\(value)' \(reason); use letters, digits, '-' and '_'"
    }
  }
}
