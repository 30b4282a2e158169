import CNylonFlatBuffers

/// FlatBuffers `NylonHttpHeaders`: what `read_request_headers` and `read_response_headers` answer.
package enum HeaderTable {
  /// The table with these headers, in order.
  package static func encode(_ headers: [KeyValue]) -> [UInt8] {
    // Headers of a gigabyte, which give no bytes, are no input that any of our readers lets through.
    FlatBufferWriter.bytes { writer in
      for header in headers {
        let key = writer.string(header.key)
        nylon_builder_header(writer.builder, key, writer.string(header.value))
      }
      nylon_builder_end_headers(writer.builder, nylon_builder_pairs(writer.builder))
      return try writer.finished("NylonHttpHeaders")
    }
  }

  /// The headers in the table; throws `MessageError.notATable`.
  package static func decode(_ bytes: UnsafeRawBufferPointer) throws(MessageError) -> [KeyValue] {
    var pairs = NylonPairs()
    guard nylon_read_headers(bytes.bytePointer, bytes.count, &pairs) else {
      throw .notATable(what: "NylonHttpHeaders", byteCount: bytes.count)
    }
    return (0..<pairs.count).map { nylon_header_at(pairs, $0).keyValue }
  }
}

/// FlatBuffers `HeaderKeyValue`: what `set_response_header` carries.
package enum HeaderKeyValueCodec {
  /// The two parts of a decoded header, inside the bytes that were decoded.
  package struct View {
    /// The header's name.
    package let key: UnsafeRawBufferPointer
    /// The header's value.
    package let value: UnsafeRawBufferPointer
  }

  /// The table with this header.
  package static func encode(key: String, value: String) -> [UInt8] {
    FlatBufferWriter.bytes { try encode(key: key, value: value, with: $0) }
  }

  /// The table with this header, in the writer's memory: valid until its next table.
  package static func encode(
    key: String, value: String, with writer: FlatBufferWriter
  ) throws(MessageError) -> UnsafeRawBufferPointer {
    writer.reset()
    let keyOffset = writer.string(key)
    nylon_builder_end_header(writer.builder, keyOffset, writer.string(value))
    return try writer.finished("HeaderKeyValue")
  }

  /// The header in the table, or nil when the bytes are none. Allocates nothing: the
  /// parts point into `bytes`.
  package static func decode(_ bytes: UnsafeRawBufferPointer) -> View? {
    var pair = NylonPair()
    guard nylon_read_pair(bytes.bytePointer, bytes.count, &pair) else { return nil }
    return View(key: pair.key.raw, value: pair.value.raw)
  }

  /// Calls `body` with the header's two parts, or gives nil when the bytes are none.
  package static func withDecoded<Result, Failure: Error>(
    _ bytes: UnsafeRawBufferPointer,
    _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard let view = decode(bytes) else { return nil }
    return try body(view.key, view.value)
  }
}

extension UnsafeRawBufferPointer {
  /// The start as C wants it.
  var bytePointer: UnsafePointer<UInt8>? { baseAddress?.assumingMemoryBound(to: UInt8.self) }
}
