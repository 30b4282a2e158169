import CNylonFlatBuffers

/// A FlatBuffers builder that keeps its memory: build, use the bytes, build again.
///
/// Not for two threads at once. The bytes that it gives are valid until the next table.
package final class FlatBufferWriter {
  /// The most bytes of one table.
  private static let byteCountMost = 1 << 30

  let builder: OpaquePointer

  package init() {
    guard let builder = nylon_builder_new() else {
      preconditionFailure("out of memory: FlatBuffers builder")
    }
    self.builder = builder
  }

  deinit { nylon_builder_free(builder) }

  /// The bytes of a table that a new writer builds; none when it cannot, past 1 GiB: no broker carries
  /// that, and no reader of ours lets it in.
  static func bytes(_ build: (FlatBufferWriter) throws -> UnsafeRawBufferPointer) -> [UInt8] {
    let writer = FlatBufferWriter()
    // Its memory is copied when nothing refers to the writer any more, which could be gone by then.
    return withExtendedLifetime(writer) { (try? [UInt8](build(writer))) ?? [] }
  }

  func reset() { nylon_builder_reset(builder) }

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

  /// The finished table; `MessageError.tooLarge` past 1 GiB.
  func finished(_ root: UInt32, _ what: String) throws(MessageError) -> UnsafeRawBufferPointer {
    let bytes = nylon_builder_finish(builder, root)
    guard bytes.bytes != nil else {
      throw .tooLarge(what: what, byteCount: Self.byteCountMost + 1, byteCountMost: Self.byteCountMost)
    }
    return bytes.raw
  }
}

/// FlatBuffers `NylonHttpHeaders`: what `read_request_headers` and `read_response_headers` answer.
package enum HeaderTable {
  /// The table with these headers, in order.
  package static func encode(_ headers: [KeyValue]) -> [UInt8] {
    FlatBufferWriter.bytes { writer in
      try writer.finished(nylon_builder_headers(writer.builder, writer.pairs(headers)), "NylonHttpHeaders")
    }
  }

  /// The headers in the table; throws `MessageError.notATable`.
  package static func decode(_ bytes: UnsafeRawBufferPointer) throws(MessageError) -> [KeyValue] {
    var pairs = NylonPairs()
    guard nylon_read_headers(bytes.bytePointer, bytes.count, &pairs) else {
      throw .notATable(what: "NylonHttpHeaders", byteCount: bytes.count)
    }
    return pairs.keyValues ?? []
  }
}

/// FlatBuffers `HeaderKeyValue`: what `set_response_header` carries.
package enum HeaderKeyValueCodec {
  /// The table with this header.
  package static func encode(key: String, value: String) -> [UInt8] {
    FlatBufferWriter.bytes { try encode(key: key, value: value, with: $0) }
  }

  /// The table with this header, in the writer's memory: valid until its next table.
  package static func encode(
    key: String, value: String, with writer: FlatBufferWriter
  ) throws(MessageError) -> UnsafeRawBufferPointer {
    writer.reset()
    return try writer.finished(writer.pair(key, value), "HeaderKeyValue")
  }

  /// The two parts of the header, inside the bytes; nil when these are none. Allocates nothing.
  package static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) -> (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
    var pair = NylonPair()
    guard nylon_read_pair(bytes.bytePointer, bytes.count, &pair) else { return nil }
    return (pair.key.raw, pair.value.raw)
  }
}

extension UnsafeRawBufferPointer {
  /// The start as C wants it.
  var bytePointer: UnsafePointer<UInt8>? { baseAddress?.assumingMemoryBound(to: UInt8.self) }
}

extension NylonSlice {
  /// The bytes, empty when absent.
  var raw: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }
  /// The text, nil when absent; bytes that are not UTF-8 are repaired.
  var text: String? { bytes == nil ? nil : raw.string }
  /// The bytes, nil when absent.
  var array: [UInt8]? { bytes == nil ? nil : [UInt8](raw) }
}

extension NylonPairs {
  /// The pairs, nil when the field is absent.
  var keyValues: [KeyValue]? {
    guard vector != nil else { return nil }
    return (0..<count).map { index in
      let pair = nylon_pair_at(self, index)
      return KeyValue(key: pair.key.text ?? "", value: pair.value.text ?? "")
    }
  }
}
