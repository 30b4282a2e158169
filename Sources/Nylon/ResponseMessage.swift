/// What a worker answers, in all three dialects.
package struct ResponseMessage: Sendable, Hashable {
  /// The version of the messages; 1.
  package var version: UInt64
  /// The id of the request; nil when the request had none that could be read.
  package var requestID: RequestID?
  /// The session, nil in `reply-sdk`.
  package var sessionID: UInt32?
  /// How the phase ended; `missing` in the dialects of the real SDK.
  package var action: ReplyAction
  /// The call, in `stream-sdk`.
  package var method: UInt32?
  /// What changed (`reply`) or the call's payload (`stream-sdk`).
  package var data: [UInt8]?
  /// Why the handler failed.
  package var error: String?
  /// Message headers, by habit none.
  package var headers: [KeyValue]

  /// A response.
  package init(
    version: UInt64 = 1, requestID: RequestID?, sessionID: UInt32? = nil,
    action: ReplyAction = .missing, method: UInt32? = nil, data: [UInt8]? = nil,
    error: String? = nil, headers: [KeyValue] = []
  ) {
    self.version = version
    self.requestID = requestID
    self.sessionID = sessionID
    self.action = action
    self.method = method
    self.data = data
    self.error = error
    self.headers = headers
  }

  /// The response in the bytes; throws `MessageError`. Message headers are not kept.
  package init(decoding bytes: UnsafeRawBufferPointer) throws(MessageError) {
    guard let view = ReplyDecoder().decode(bytes) else { throw .notAMap(what: "response") }
    self.init(
      version: view.version ?? 0, requestID: view.requestID?.requestID, sessionID: view.sessionID,
      action: view.action, method: view.method, data: view.data.map([UInt8].init), error: view.error?.string)
  }

  /// The response as MessagePack; throws `MessageError.tooLarge` past 4 GiB of data.
  package func encoded() throws(MessageError) -> [UInt8] {
    let writer = MessagePackWriter()
    try writer.checkData(data, what: "response")
    let optional = [
      requestID != nil, sessionID != nil, action.text != nil, method != nil, data != nil,
      error != nil, !headers.isEmpty,
    ]
    writer.map(1 + optional.count(where: { $0 }))
    writer.key("version")
    writer.unsigned(version)
    if let requestID {
      writer.key("request_id")
      writer.requestID(requestID)
    }
    if let sessionID {
      writer.key("session_id")
      writer.unsigned(UInt64(sessionID))
    }
    if let text = action.text {
      writer.key("action")
      writer.text(text)
    }
    if let method {
      writer.key("method")
      writer.unsigned(UInt64(method))
    }
    if let data {
      writer.key("data")
      data.withUnsafeBytes(writer.binary)
    }
    if let error {
      writer.key("error")
      writer.text(error)
    }
    if !headers.isEmpty {
      writer.key("headers")
      writer.headers(headers)
    }
    return writer.copy
  }
}
