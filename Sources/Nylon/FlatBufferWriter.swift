import CNylonFlatBuffers

/// A FlatBuffers builder that keeps its memory: build, use the bytes, build again.
///
/// Not for two threads at once. The bytes that it gives are valid until the next table.
package final class FlatBufferWriter {
  /// The most bytes of one table.
  package static let byteCountMost = 1 << 30

  let builder: OpaquePointer

  /// A writer with 1 KiB to begin with.
  package init() {
    guard let builder = nylon_builder_new() else {
      preconditionFailure("out of memory: FlatBuffers builder")
    }
    self.builder = builder
  }

  deinit { nylon_builder_free(builder) }

  /// The bytes of a table that a new writer builds; none when it cannot.
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

  func keyValues(_ pairs: [KeyValue]) -> UInt32 {
    for pair in pairs {
      let key = string(pair.key)
      nylon_builder_key_value(builder, key, string(pair.value))
    }
    return nylon_builder_pairs(builder)
  }

  /// The finished table; `MessageError.tooLarge` past 1 GiB.
  func finished(_ what: String) throws(MessageError) -> UnsafeRawBufferPointer {
    let bytes = nylon_builder_bytes(builder)
    guard let start = bytes.bytes else {
      throw .tooLarge(
        what: what, byteCount: Self.byteCountMost + 1, byteCountMost: Self.byteCountMost)
    }
    return UnsafeRawBufferPointer(start: start, count: bytes.count)
  }
}

extension NylonSlice {
  /// The bytes, empty when absent.
  var raw: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }
  /// The text, nil when absent; bytes that are not UTF-8 are repaired.
  var text: String? { bytes == nil ? nil : String(decoding: raw, as: UTF8.self) }
  /// The bytes, nil when absent.
  var array: [UInt8]? { bytes == nil ? nil : [UInt8](raw) }
}

extension NylonPair {
  var keyValue: KeyValue { KeyValue(key: key.text ?? "", value: value.text ?? "") }
}

extension NylonPairs {
  /// The pairs of a context, nil when the field is absent.
  var keyValues: [KeyValue]? {
    vector == nil ? nil : (0..<count).map { nylon_key_value_at(self, $0).keyValue }
  }
}
