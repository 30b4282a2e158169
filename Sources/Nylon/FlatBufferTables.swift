import CNylonFlatBuffers

/// A FlatBuffers builder that reuses its memory: its bytes are valid until the next table. Not thread-safe.
package final class FlatBufferWriter {
  /// The maximum size of a table in bytes.
  private static let byteCountMost = 1 << 30

  let builder: OpaquePointer

  package init() {
    guard let builder = nylon_builder_new() else {
      preconditionFailure("out of memory: FlatBuffers builder")
    }
    self.builder = builder
  }

  deinit { nylon_builder_free(builder) }

  /// Returns the bytes of a table built by a new writer, or no bytes if the table exceeds 1 GiB, which no
  /// broker carries and the readers reject.
  static func bytes(_ build: (FlatBufferWriter) throws -> UnsafeRawBufferPointer) -> [UInt8] {
    let writer = FlatBufferWriter()
    // The bytes lie in the writer's memory, so the writer must outlive the copy.
    return withExtendedLifetime(writer) { (try? [UInt8](build(writer))) ?? [] }
  }

  func string(_ text: String) -> UInt32 {
    var text = text
    return text.withUTF8 { nylon_builder_string(builder, $0.baseAddress, $0.count) }
  }

  func blob(_ bytes: [UInt8]) -> UInt32 {
    bytes.withUnsafeBufferPointer { nylon_builder_blob(builder, $0.baseAddress, $0.count) }
  }

  @discardableResult
  func pair(_ key: String, _ value: String) -> UInt32 {
    let key = string(key)
    return nylon_builder_pair(builder, key, string(value))
  }

  func pairs(_ pairs: [KeyValue]) -> UInt32 {
    for pair in pairs { self.pair(pair.key, pair.value) }
    return nylon_builder_pairs(builder)
  }

  /// Finishes the table and returns its bytes; throws `MessageError.tooLarge` past 1 GiB.
  func finished(_ root: UInt32, _ what: String) throws(MessageError) -> UnsafeRawBufferPointer {
    let bytes = nylon_builder_finish(builder, root)
    guard bytes.bytes != nil else {
      throw .tooLarge(what: what, byteCount: Self.byteCountMost + 1, byteCountMost: Self.byteCountMost)
    }
    return bytes.raw
  }
}

/// FlatBuffers `NylonHttpHeaders`, the answer to `read_request_headers` and `read_response_headers`.
package enum HeaderTable {
  package static func encode(_ headers: [KeyValue]) -> [UInt8] {
    FlatBufferWriter.bytes { writer in
      try writer.finished(nylon_builder_headers(writer.builder, writer.pairs(headers)), "NylonHttpHeaders")
    }
  }

  package static func decode(_ bytes: UnsafeRawBufferPointer) throws(MessageError) -> [KeyValue] {
    var pairs = NylonPairs()
    guard nylon_read_headers(bytes.bytePointer, bytes.count, &pairs) else {
      throw .notATable(what: "NylonHttpHeaders", byteCount: bytes.count)
    }
    return pairs.keyValues ?? []
  }
}

/// FlatBuffers `HeaderKeyValue`, the payload of `set_response_header`.
package enum HeaderKeyValueCodec {
  package static func encode(key: String, value: String) -> [UInt8] {
    FlatBufferWriter.bytes { try encode(key: key, value: value, with: $0) }
  }

  /// Encodes the header in the writer's memory, valid until its next table.
  package static func encode(
    key: String, value: String, with writer: FlatBufferWriter
  ) throws(MessageError) -> UnsafeRawBufferPointer {
    nylon_builder_reset(writer.builder)
    return try writer.finished(writer.pair(key, value), "HeaderKeyValue")
  }

  /// Returns the header's name and value as slices of the bytes, or nil if the bytes are invalid. Does not
  /// allocate.
  package static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) -> (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
    var pair = NylonPair()
    guard nylon_read_pair(bytes.bytePointer, bytes.count, &pair) else { return nil }
    return (pair.key.raw, pair.value.raw)
  }
}

extension HTTPContextChange {
  /// Encodes the change as a table. Returns no bytes past 1 GiB, which no broker carries.
  package func encoded() -> [UInt8] { FlatBufferWriter.bytes(encode) }

  /// Encodes the change in the writer's memory, valid until its next table. Fields that are nil are omitted.
  package func encode(with writer: FlatBufferWriter) throws(MessageError) -> UnsafeRawBufferPointer {
    nylon_builder_reset(writer.builder)
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

/// A verified context, read in place: valid only as long as its bytes. Absent fields are nil.
package struct HTTPContextView {
  fileprivate var context = NylonContextView()

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

  /// Returns the value of a request header, ignoring case; nil if it is absent.
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

extension UnsafeRawBufferPointer {
  /// The start of the bytes as a typed pointer for C.
  var bytePointer: UnsafePointer<UInt8>? { baseAddress?.assumingMemoryBound(to: UInt8.self) }
}

extension NylonSlice {
  /// The bytes; empty if absent.
  var raw: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }
  /// The text; nil if absent. Invalid UTF-8 is repaired.
  var text: String? { bytes == nil ? nil : raw.string }
  /// The bytes; nil if absent.
  var array: [UInt8]? { bytes == nil ? nil : [UInt8](raw) }
}

extension NylonPairs {
  /// The pairs; nil if the field is absent.
  var keyValues: [KeyValue]? {
    guard vector != nil else { return nil }
    return (0..<count).map { index in
      let pair = nylon_pair_at(self, index)
      return KeyValue(key: pair.key.text ?? "", value: pair.value.text ?? "")
    }
  }
}
