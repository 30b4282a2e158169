/// A request's id, echoed in the reply with its type: a text, by habit a UUID, or bytes, by habit its sixteen.
package struct RequestID: Sendable, Hashable {
  fileprivate let bytes: [UInt8]
  fileprivate let isText: Bool

  package static func text(_ text: String) -> RequestID { RequestID(bytes: Array(text.utf8), isText: true) }
  package static func bytes(_ bytes: [UInt8]) -> RequestID { RequestID(bytes: bytes, isText: false) }
}

extension RequestID {
  /// The sixteen bytes of two words, most significant first.
  package init(high: UInt64, low: UInt64) {
    self = .bytes([high, low].flatMap { withUnsafeBytes(of: $0.bigEndian, Array.init) })
  }

  /// The text of a UUID.
  static func uuidText(_ id: (high: UInt64, low: UInt64)) -> RequestID {
    let bytes = [UInt8](unsafeUninitializedCapacity: UUIDText.byteCount) { buffer, count in
      buffer.baseAddress.map { UUIDText.write(id, to: $0) }
      count = UUIDText.byteCount
    }
    return RequestID(bytes: bytes, isText: true)
  }
}

/// What the host publishes to a worker, or what a worker answers, in all dialects. What is nil is left out.
package struct WorkerMessage: Sendable, Hashable {
  /// The id of the request, nil in a reply to one that had none that could be read.
  package var requestID: RequestID?
  /// The session: one proxied HTTP request. A reply has none in `reply-sdk`.
  package var sessionID: UInt32?
  /// The phase of a request; zero for a read's answer.
  package var phase: Phase?
  /// How the phase ended; `missing` in requests, and in replies of the real SDK.
  package var action: ReplyAction
  /// nil except in `stream-sdk`, where it is the call, and 0 starts a phase.
  package var method: UInt32?
  /// The HTTP context or what changed of it (`reply`), a read's answer or a call's payload (`stream-sdk`),
  /// a configuration (`initialize`).
  package var data: [UInt8]?
  package var error: String?
  /// When a request was sent, Unix milliseconds.
  package var timestampMilliseconds: UInt64?
  /// `entry` names the handler; `reply`, `method`: see the interface. Replies have by habit none.
  package var headers: [KeyValue]

  /// The headers by which the host says something itself.
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

  /// The reply in the bytes; throws `MessageError`.
  package init(reply bytes: UnsafeRawBufferPointer) throws(MessageError) {
    guard let view = MessageView(reply: bytes) else { throw .notAMap(what: "response") }
    self.init(view)
  }

  /// The request in the bytes, which has an id and a phase; throws `MessageError`.
  package init(request bytes: UnsafeRawBufferPointer) throws(MessageError) {
    self.init(try MessageView(request: bytes))
    if requestID == nil { throw .missingKey(what: "request", key: "request_id") }
    if phase == nil { throw .missingKey(what: "request", key: "phase") }
  }

  /// The message as MessagePack; throws `MessageError.tooLarge` past 4 GiB of data.
  package func encoded() throws(MessageError) -> [UInt8] {
    let writer = MessagePackWriter()
    try pack(to: writer)
    return writer.copy
  }

  /// Packs the message, and tells where the id, the session and the time begin. Those of a template are
  /// of one width whatever they are, so that they can be written over.
  @discardableResult
  fileprivate func pack(
    to writer: MessagePackWriter, isTemplate: Bool = false
  ) throws(MessageError) -> (requestID: Int, sessionID: Int, timestamp: Int) {
    // MessagePack has 32 bits for a length.
    if let data, data.count > UInt32.max {
      throw .tooLarge(
        what: phase == nil ? "response" : "request", byteCount: data.count, byteCountMost: Int(UInt32.max))
    }
    var offsets = (requestID: 0, sessionID: 0, timestamp: 0)
    writer.beginMessage()
    writer.entry("version", 1) { writer.unsigned($0) }
    writer.entry("request_id", requestID) { id in
      offsets.requestID = writer.byteCount + 2  // behind the type, 0xc4 or 0xd9, and the length
      id.bytes.withUnsafeBytes { writer.requestID(RequestIDView(raw: $0, isText: id.isText)) }
    }
    writer.entry("session_id", sessionID) {
      offsets.sessionID = writer.byteCount + 1  // behind 0xce
      if isTemplate { writer.word(0xce, $0) } else { writer.unsigned(UInt64($0)) }
    }
    writer.entry("phase", phase) { writer.unsigned(UInt64($0.rawValue)) }
    writer.entry("action", action.text) { writer.key($0) }
    writer.entry("timestamp", timestampMilliseconds) {
      offsets.timestamp = writer.byteCount + 1  // behind 0xcf
      if isTemplate { writer.word(0xcf, $0) } else { writer.unsigned($0) }
    }
    writer.entry("method", method) { writer.unsigned(UInt64($0)) }
    // A request has its headers also when there are none.
    writer.entry("headers", phase == nil && headers.isEmpty ? nil : headers) { writer.headers($0) }
    writer.entry("data", data) { $0.withUnsafeBytes { writer.binary($0) } }
    writer.entry("error", error) { writer.text($0) }
    return offsets
  }
}

extension WorkerMessage {
  /// The request that starts a phase, as a host of the dialect sends it. `entry` names the handler; `context` and
  /// `reply`, the subject that the worker is to answer to, go with it where the dialect has them; `headers` come last.
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

  /// The message that gives workers their configuration, JSON.
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

/// A packed request that the generator copies and patches: nothing but its id, session, time and reply subject
/// changes.
package struct RequestTemplate {
  package let bytes: [UInt8]
  /// Whether the request's id is a UUID's text; else it is 16 bytes.
  package let idIsText: Bool
  /// Where in the bytes the request's id is.
  package let requestIDOffset: Int
  /// Where the session's id is: 4 bytes, big-endian.
  package let sessionIDOffset: Int
  /// Where the time is: 8 bytes, big-endian, Unix milliseconds.
  package let timestampOffset: Int
  /// Where the reply subject is, as long as the one that the template was made with; nil where there is none.
  package let replyOffset: Int?

  /// Packs a request of a phase. Throws `MessageError.tooLarge` past 4 GiB of data.
  package init(
    _ dialect: DialectTraits = Dialect.reply.traits, phase: Phase, entry: String, context: [UInt8]? = nil,
    reply: String = "", headers: [KeyValue] = []
  ) throws(MessageError) {
    try self.init(
      WorkerMessage(
        dialect, id: (0, 0), sessionID: 0, phase: phase, entry: entry, context: context, reply: reply,
        timestampMilliseconds: 0, headers: headers), reply: dialect.namesReplySubject ? reply : nil)
  }

  /// Packs a request that has an id, a session and a time; `reply` is the subject in its headers, nil without one.
  /// Throws `MessageError.tooLarge` past 4 GiB of data.
  package init(_ message: WorkerMessage, reply: String? = nil) throws(MessageError) {
    let writer = MessagePackWriter()
    idIsText = message.requestID?.isText ?? false
    (requestIDOffset, sessionIDOffset, timestampOffset) = try message.pack(to: writer, isTemplate: true)
    let packed = writer.copy
    bytes = packed
    replyOffset = reply.flatMap { packed.firstRange(of: Array($0.utf8))?.lowerBound }
  }
}

/// Why bytes on the border between host and plugin were refused. `description` says it in words.
public enum MessageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Not one well-formed MessagePack map with nothing behind it.
  case notAMap(what: String)
  /// A key without which the message has no meaning is missing.
  case missingKey(what: String, key: String)
  /// A key's value has the wrong type or range.
  case wrongValue(what: String, key: String, found: String, wanted: String)
  /// The bytes are not a valid FlatBuffers table of that name.
  case notATable(what: String, byteCount: Int)
  /// A message or table would be larger than its format can hold.
  case tooLarge(what: String, byteCount: Int, byteCountMost: Int)
  /// A NATS subject cannot be made from this.
  case badSubjectToken(what: String, value: String, reason: String)

  /// Object, key, value and remedy in one sentence.
  public var description: String {
    switch self {
    case .notAMap(let what):
      "\(what): not a well-formed MessagePack map; send one map with text keys and nothing behind it"
    case .missingKey(let what, let key):
      "\(what): '\(key)' is missing; the interface requires it"
    case .wrongValue(let what, let key, let found, let wanted):
      "\(what): '\(key)' is \(found); it must be \(wanted)"
    case .notATable(let what, let byteCount):
      "\(what): \(byteCount) bytes are not a valid FlatBuffers table; build it from nylon_plugin.fbs"
    case .tooLarge(let what, let byteCount, let most):
      "\(what): \(byteCount) bytes are too many; the most is \(most), send a smaller body"
    case .badSubjectToken(let what, let value, let reason):
      "NATS subject: \(what) '\(value)' \(reason); use letters, digits, '-' and '_'"
    }
  }
}
