import FoundationEssentials
import Nylon

/// The HTTP request of a phase. Each access to a property reads its value through the backend.
public struct PluginRequest {
  let context: PhaseContext

  /// The HTTP method, such as `GET`.
  public var method: String { get throws(PluginError) { try context.text(.readRequestMethod) } }
  /// The path without the query.
  public var path: String { get throws(PluginError) { try context.text(.readRequestPath) } }
  /// The path and the query. Through NATS, the SDK joins the two.
  public var url: String { get throws(PluginError) { try context.text(.readRequestURL) } }
  /// The query, without the leading `?`.
  public var query: String { get throws(PluginError) { try context.text(.readRequestQuery) } }
  /// The host. Through NATS, the value of the `host` header.
  public var host: String { get throws(PluginError) { try context.text(.readRequestHost) } }
  /// The client's IP address. Through NATS, the value of `x-real-ip`, or else the first address of
  /// `x-forwarded-for`.
  public var clientIP: String { get throws(PluginError) { try context.text(.readRequestClientIP) } }

  /// The path parameters of the route.
  public var params: [String: String] {
    get throws(PluginError) { try context.reading(.readRequestParams).params() }
  }

  /// Returns the value of a header, ignoring case; nil if it is absent or empty.
  public func header(_ name: String) throws(PluginError) -> String? {
    let value = try context.text(.readRequestHeader, name)
    return value.isEmpty ? nil : value
  }

  /// The headers, in order.
  public var headers: [KeyValue] { get throws(PluginError) { try context.headers(.readRequestHeaders) } }

  /// The body.
  public var body: [UInt8] { get throws(PluginError) { try context.bytes(.readRequestFullBody) } }

  /// The size of the body in bytes, from `content-length`. Through NATS, the size of the transmitted body.
  public var byteCount: Int { get throws(PluginError) { try context.number(.readRequestBytes) } }

  /// The time at which the request arrived, in milliseconds since the Unix epoch. Through NATS, the time at
  /// which the phase's message was created.
  public var timestampMilliseconds: Int {
    get throws(PluginError) { try context.number(.readRequestTimestamp) }
  }
}

/// The HTTP response of a phase. Changes are sent immediately (FFI) or with the reply (NATS).
public struct PluginResponse {
  let context: PhaseContext

  /// The status code.
  public var status: Int { get throws(PluginError) { try context.number(.readResponseStatus) } }

  /// Sets the status code.
  ///
  /// - Throws: `PluginError.badStatus` if the status is outside 100...599.
  public func setStatus(_ status: Int) throws(PluginError) {
    guard (100...599).contains(status) else { throw .badStatus(status) }
    try context.writing?.setStatus(UInt16(status))
  }

  /// Sets a header, replacing a header of the same name, ignoring case.
  public func setHeader(_ name: String, _ value: String) throws(PluginError) {
    try context.writing?.setHeader(name, value)
  }

  /// Removes all headers of a name, ignoring case.
  public func removeHeader(_ name: String) throws(PluginError) {
    try context.writing?.removeHeader(name)
  }

  /// The headers, in order.
  public var headers: [KeyValue] { get throws(PluginError) { try context.headers(.readResponseHeaders) } }

  /// Returns the first value of a header, ignoring case; nil if it is absent.
  public func header(_ name: String) throws(PluginError) -> String? {
    try headers.first { HeaderName.equal($0.key, name) }?.value
  }

  /// The body.
  public var body: [UInt8] { get throws(PluginError) { try context.bytes(.readResponseFullBody) } }

  /// The size of the body in bytes.
  public var byteCount: Int { get throws(PluginError) { try context.number(.readResponseBytes) } }

  /// The time since the request arrived, in milliseconds. Through NATS, the time since the phase's message
  /// was created.
  public var durationMilliseconds: Int {
    get throws(PluginError) { try context.number(.readResponseDuration) }
  }

  /// The proxy's error text; empty if there was no error. It is not transmitted through NATS, where it is
  /// always empty.
  public var error: String { get throws(PluginError) { try context.text(.readResponseError) } }

  /// Sets the body without changing any header.
  public func setBody(_ bytes: [UInt8]) throws(PluginError) { try context.writing?.setBody(bytes) }

  /// Sets the body to a text and `Content-Type` to `text/plain; charset=utf-8`.
  public func setText(_ text: String) throws(PluginError) {
    try setHeader("Content-Type", "text/plain; charset=utf-8")
    try setBody(Array(text.utf8))
  }

  /// Sets the body to HTML and `Content-Type` to `text/html; charset=utf-8`.
  public func setHTML(_ html: String) throws(PluginError) {
    try setHeader("Content-Type", "text/html; charset=utf-8")
    try setBody(Array(html.utf8))
  }

  /// Sets the body to a value encoded as JSON and `Content-Type` to `application/json`.
  ///
  /// - Throws: `PluginError.notEncodable` if the value cannot be encoded.
  public func setJSON<Value: Encodable>(_ value: Value) throws(PluginError) {
    guard let json = try? JSONEncoder().encode(value) else {
      throw .notEncodable(type: "\(Value.self)")
    }
    try setHeader("Content-Type", "application/json")
    try setBody([UInt8](json))
  }

  /// Sets the status and the `Location` header. Call `end()` afterwards.
  public func redirect(_ url: String, status: Int = 302) throws(PluginError) {
    try setStatus(status)
    try setHeader("Location", url)
  }

  /// The response as a stream of chunks instead of one body.
  public var stream: ResponseStream { ResponseStream(context: context) }
}

/// A response that is sent in chunks. Through NATS, all chunks travel together in the reply.
public struct ResponseStream {
  let context: PhaseContext

  /// Sends the status and the headers.
  public func writeHeader() throws(PluginError) { try context.writing?.streamHeader() }

  /// Sends a chunk.
  public func write(_ bytes: [UInt8]) throws(PluginError) { try context.writing?.streamData(bytes) }

  /// Ends the stream and the phase, like `next()`.
  public func end() { context.finish(.setResponseStreamEnd) }
}
