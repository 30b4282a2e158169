import CNylonFlatBuffers

extension HTTPContextChange {
  /// The change as a table. More than 1 GiB gives no bytes: no broker carries that.
  package func encoded() -> [UInt8] { FlatBufferWriter.bytes(encode) }

  /// The change as a table in the writer's memory: valid until its next table. Nil fields are left out.
  package func encode(with writer: FlatBufferWriter) throws(MessageError) -> UnsafeRawBufferPointer {
    writer.reset()
    let parts = NylonContextParts(
      method: request.method.map(writer.string) ?? 0,
      path: request.path.map(writer.string) ?? 0,
      query: request.query.map(writer.string) ?? 0,
      params: request.params.map(writer.pairs) ?? 0,
      request_headers: request.headers.map(writer.pairs) ?? 0,
      request_body: request.body.map(writer.blob) ?? 0,
      response_headers: response.headers.map(writer.pairs) ?? 0,
      response_body: response.body.map(writer.blob) ?? 0,
      status: response.status ?? 0)
    return try writer.finished(nylon_builder_context(writer.builder, parts), "NylonHttpContext")
  }

  /// The change in the table; throws `MessageError.notATable`.
  package init(decoding bytes: UnsafeRawBufferPointer) throws(MessageError) {
    let view = try HTTPContextView(bytes)
    self.init(
      request: HTTPRequestChange(
        method: view.method, path: view.path, query: view.query, params: view.params,
        headers: view.requestHeaders, body: view.context.request_body.array),
      response: HTTPResponseChange(
        status: view.status, headers: view.responseHeaders, body: view.context.response_body.array))
  }
}

extension HTTPContext {
  /// The context as a table, as a change that says every field.
  package func encoded() -> [UInt8] { HTTPContextChange(self).encoded() }
}

/// A verified context that is read in place: nothing is copied until it is asked for.
///
/// Valid only as long as the bytes that it was made from. Fields are nil when absent.
package struct HTTPContextView {
  fileprivate var context = NylonContextView()

  /// Verifies the bytes; throws `MessageError.notATable`.
  package init(_ bytes: UnsafeRawBufferPointer) throws(MessageError) {
    guard nylon_read_context(bytes.bytePointer, bytes.count, &context) else {
      throw .notATable(what: "NylonHttpContext", byteCount: bytes.count)
    }
  }

  /// A context with neither request nor response.
  package init() {}

  package var method: String? { context.method.text }
  package var path: String? { context.path.text }
  package var query: String? { context.query.text }
  package var params: [KeyValue]? { context.params.keyValues }
  package var requestHeaders: [KeyValue]? { context.request_headers.keyValues }
  package var requestBody: UnsafeRawBufferPointer { context.request_body.raw }
  package var status: UInt16? { context.status == 0 ? nil : context.status }
  package var responseHeaders: [KeyValue]? { context.response_headers.keyValues }
  package var responseBody: UnsafeRawBufferPointer { context.response_body.raw }

  /// The value of a request header, names compared without regard to case; nil when absent.
  package func requestHeader(_ name: String) -> String? {
    var name = name
    return name.withUTF8 { wanted in
      for index in 0..<context.request_headers.count {
        let pair = nylon_pair_at(context.request_headers, index)
        if HeaderName.equal(pair.key.raw, UnsafeRawBufferPointer(wanted)) { return pair.value.text }
      }
      return nil
    }
  }
}
