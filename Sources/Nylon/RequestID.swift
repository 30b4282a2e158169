/// A request's id, echoed in the reply with its type.
package enum RequestID: Sendable, Hashable {
  /// A text, by habit a UUID.
  case text(String)
  /// Bytes, by habit the sixteen of a UUID.
  case bytes([UInt8])

  /// The sixteen bytes of two words, most significant first.
  package init(high: UInt64, low: UInt64) {
    self = .bytes(
      withUnsafeBytes(of: high.bigEndian, Array.init)
        + withUnsafeBytes(of: low.bigEndian, Array.init))
  }
}

/// A request's id inside the message that it came with.
package struct RequestIDView {
  /// The text's or the binary's bytes.
  package let raw: UnsafeRawBufferPointer
  /// Whether it is a text.
  package let isText: Bool

  /// The id of `raw` bytes.
  package init(raw: UnsafeRawBufferPointer, isText: Bool) {
    self.raw = raw
    self.isText = isText
  }

  /// The two words of a 16-byte id, most significant first; nil for any other.
  @inlinable
  package var words: (high: UInt64, low: UInt64)? {
    guard !isText, raw.count == 16, let start = raw.baseAddress else { return nil }
    return (
      UInt64(bigEndian: start.loadUnaligned(as: UInt64.self)),
      UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    )
  }

  /// A copy that outlives the message.
  package var requestID: RequestID {
    isText ? .text(String(decoding: raw, as: UTF8.self)) : .bytes([UInt8](raw))
  }
}
