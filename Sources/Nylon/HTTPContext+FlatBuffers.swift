import CNylonFlatBuffers

extension HTTPContextChange {
  /// The change as a table. More than 1 GiB gives no bytes: no broker carries that.
  package func encoded() -> [UInt8] {
    FlatBufferWriter.bytes(encode)
  }

  /// The change as a table in the writer's memory: valid until its next table.
  package func encode(with writer: FlatBufferWriter) throws(MessageError) -> UnsafeRawBufferPointer {
    encodeContext(
      with: writer, request: request.isEmpty ? nil : request,
      response: response.isEmpty ? nil : response)
    return try writer.finished("NylonHttpContext")
  }

  /// The change in the table; throws `MessageError.notATable`.
  package init(decoding bytes: UnsafeRawBufferPointer) throws(MessageError) {
    self.init(try HTTPContextView(bytes).context)
  }

  init(_ view: NylonContextView) {
    self.init(
      request: HTTPRequestChange(
        method: view.request.method.text, path: view.request.path.text,
        query: view.request.query.text, params: view.request.params.keyValues,
        headers: view.request.headers.keyValues, body: view.request.body.array),
      response: HTTPResponseChange(
        status: view.response.status == 0 ? nil : view.response.status,
        headers: view.response.headers.keyValues, body: view.response.body.array))
  }
}

extension HTTPContext {
  /// The context as a table. More than 1 GiB gives no bytes: no broker carries that.
  package func encoded() -> [UInt8] {
    FlatBufferWriter.bytes { writer in
      encodeContext(
        with: writer, request: request.map(HTTPRequestChange.init(full:)),
        response: response.map(HTTPResponseChange.init(full:)))
      return try writer.finished("NylonHttpContext")
    }
  }

  /// The context in the table; a field that is absent is empty, an absent status is 200.
  /// Throws `MessageError.notATable`.
  package init(decoding bytes: UnsafeRawBufferPointer) throws(MessageError) {
    let view = try HTTPContextView(bytes).context
    let change = HTTPContextChange(view)
    self.init(
      request: view.request.present
        ? HTTPRequest(method: "", path: "").applying(change.request) : nil,
      response: view.response.present ? HTTPResponse().applying(change.response) : nil)
  }
}

extension HTTPRequestChange {
  /// A change that says every field of a request.
  init(full request: HTTPRequest) {
    self.init(
      method: request.method, path: request.path, query: request.query, params: request.params,
      headers: request.headers, body: request.body)
  }
}

extension HTTPResponseChange {
  /// A change that says every field of a response.
  init(full response: HTTPResponse) {
    self.init(status: response.status, headers: response.headers, body: response.body)
  }
}

/// Writes the one table that contexts and changes share; nil fields are left out.
private func encodeContext(
  with writer: FlatBufferWriter, request: HTTPRequestChange?, response: HTTPResponseChange?
) {
  writer.reset()
  var requestOffset: UInt32 = 0
  if let request {
    let parts = NylonRequestParts(
      method: request.method.map(writer.string) ?? 0,
      path: request.path.map(writer.string) ?? 0,
      query: request.query.map(writer.string) ?? 0,
      params: request.params.map(writer.keyValues) ?? 0,
      headers: request.headers.map(writer.keyValues) ?? 0,
      body: request.body.map(writer.blob) ?? 0)
    requestOffset = nylon_builder_request(writer.builder, parts)
  }
  var responseOffset: UInt32 = 0
  if let response {
    let headers = response.headers.map(writer.keyValues) ?? 0
    let body = response.body.map(writer.blob) ?? 0
    responseOffset = nylon_builder_response(writer.builder, response.status ?? 0, headers, body)
  }
  nylon_builder_end_context(writer.builder, requestOffset, responseOffset)
}
