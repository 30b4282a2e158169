import CNylonFlatBuffers

/// A verified context that is read in place: nothing is copied until it is asked for.
///
/// Valid only as long as the bytes that it was made from. Fields are nil when absent.
package struct HTTPContextView {
  let context: NylonContextView

  /// Verifies the bytes; throws `MessageError.notATable`.
  package init(_ bytes: UnsafeRawBufferPointer) throws(MessageError) {
    var context = NylonContextView()
    guard nylon_read_context(bytes.bytePointer, bytes.count, &context) else {
      throw .notATable(what: "NylonHttpContext", byteCount: bytes.count)
    }
    self.context = context
  }

  /// A context with neither request nor response.
  package init() { context = NylonContextView() }

  /// `GET`, `POST`, …
  package var method: String? { context.request.method.text }
  /// The path without the query.
  package var path: String? { context.request.path.text }
  /// The query without `?`.
  package var query: String? { context.request.query.text }
  /// Path parameters.
  package var params: [KeyValue]? { context.request.params.keyValues }
  /// The request's headers.
  package var requestHeaders: [KeyValue]? { context.request.headers.keyValues }
  /// The request's body, in place.
  package var requestBody: UnsafeRawBufferPointer { context.request.body.raw }
  /// The status, nil when absent.
  package var status: UInt16? { context.response.status == 0 ? nil : context.response.status }
  /// The response's headers.
  package var responseHeaders: [KeyValue]? { context.response.headers.keyValues }
  /// The response's body, in place.
  package var responseBody: UnsafeRawBufferPointer { context.response.body.raw }

  /// The value of a request header, names compared without regard to case; nil when absent.
  package func requestHeader(_ name: String) -> String? {
    var name = name
    return name.withUTF8 { wanted in
      for index in 0..<context.request.headers.count {
        let pair = nylon_key_value_at(context.request.headers, index)
        if HeaderName.equal(pair.key.raw, UnsafeRawBufferPointer(wanted)) { return pair.value.text }
      }
      return nil
    }
  }
}

/// How header names compare: ASCII letters without regard to case (RFC 9110).
package enum HeaderName {
  /// Whether two names are the same.
  package static func equal(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    for index in 0..<left.count where lower(left[index]) != lower(right[index]) { return false }
    return true
  }

  /// Whether two names are the same.
  package static func equal(_ left: String, _ right: String) -> Bool {
    guard left.utf8.count == right.utf8.count else { return false }
    return zip(left.utf8, right.utf8).allSatisfy { lower($0) == lower($1) }
  }

  @inline(__always)
  private static func lower(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 0x20 : byte }
}
