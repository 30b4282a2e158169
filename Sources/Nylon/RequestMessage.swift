/// What the host publishes to a worker, in all three dialects.
package struct RequestMessage: Sendable, Hashable {
  /// The version of the messages; 1.
  package var version: UInt64
  /// The id that the reply echoes.
  package var requestID: RequestID
  /// The session: one proxied HTTP request.
  package var sessionID: UInt32
  /// The phase; zero for a read's answer.
  package var phase: Phase
  /// nil except in `stream-sdk`, where 0 starts a phase.
  package var method: UInt32?
  /// The HTTP context (`reply`), a read's answer (`stream-sdk`), a configuration (`initialize`).
  package var data: [UInt8]?
  /// Unix milliseconds.
  package var timestampMilliseconds: UInt64
  /// `entry` names the handler; `reply`, `method`: see the interface.
  package var headers: [KeyValue]

  /// A request.
  package init(
    version: UInt64 = 1, requestID: RequestID, sessionID: UInt32, phase: Phase,
    method: UInt32? = nil, data: [UInt8]? = nil, timestampMilliseconds: UInt64,
    headers: [KeyValue] = []
  ) {
    self.version = version
    self.requestID = requestID
    self.sessionID = sessionID
    self.phase = phase
    self.method = method
    self.data = data
    self.timestampMilliseconds = timestampMilliseconds
    self.headers = headers
  }

  /// The request in the bytes; throws `MessageError`.
  package init(decoding bytes: UnsafeRawBufferPointer) throws(MessageError) {
    let view = try RequestDecoder().decode(bytes)
    guard let id = view.requestID else { throw .missingKey(what: "request", key: "request_id") }
    guard let phase = view.phase else { throw .missingKey(what: "request", key: "phase") }
    self.init(
      version: view.version, requestID: id.requestID, sessionID: view.sessionID, phase: phase,
      method: view.method, data: view.data.map([UInt8].init),
      timestampMilliseconds: view.timestampMilliseconds, headers: view.headerList)
  }

  /// The request as MessagePack; throws `MessageError.tooLarge` past 4 GiB of data.
  package func encoded() throws(MessageError) -> [UInt8] {
    let writer = MessagePackWriter()
    try writer.checkData(data, what: "request")
    writer.map(6 + (method == nil ? 0 : 1) + (data == nil ? 0 : 1))
    writer.key("version")
    writer.unsigned(version)
    writer.key("request_id")
    writer.requestID(requestID)
    writer.key("session_id")
    writer.unsigned(UInt64(sessionID))
    writer.key("phase")
    writer.unsigned(UInt64(phase.rawValue))
    writer.key("timestamp")
    writer.unsigned(timestampMilliseconds)
    if let method {
      writer.key("method")
      writer.unsigned(UInt64(method))
    }
    writer.key("headers")
    writer.headers(headers)
    if let data {
      writer.key("data")
      data.withUnsafeBytes(writer.binary)
    }
    return writer.copy
  }
}

extension MessagePackWriter {
  func requestID(_ id: RequestID) {
    switch id {
    case .text(let text): self.text(text)
    case .bytes(let bytes): bytes.withUnsafeBytes(binary)
    }
  }

  /// MessagePack has 32 bits for a length.
  func checkData(_ data: [UInt8]?, what: String) throws(MessageError) {
    let most = Int(UInt32.max)
    if let data, data.count > most {
      throw .tooLarge(what: what, byteCount: data.count, byteCountMost: most)
    }
  }
}
