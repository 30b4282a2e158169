import FoundationEssentials
import Nylon

/// The HTTP request of a phase. Every property is read from the host when it is asked for.
public struct PluginRequest {
  let context: PhaseContext

  /// `GET`, `POST`, …
  public var method: String { get throws(PluginError) { try context.text(.readRequestMethod) } }
  /// The path without the query.
  public var path: String { get throws(PluginError) { try context.text(.readRequestPath) } }
  /// Path and query. Through NATS it is put together from the two.
  public var url: String { get throws(PluginError) { try context.text(.readRequestURL) } }
  /// The query without `?`.
  public var query: String { get throws(PluginError) { try context.text(.readRequestQuery) } }
  /// The host. Through NATS: the `host` header.
  public var host: String { get throws(PluginError) { try context.text(.readRequestHost) } }
  /// The client's address. Through NATS: `x-real-ip`, else the first of `x-forwarded-for`.
  public var clientIP: String { get throws(PluginError) { try context.text(.readRequestClientIP) } }

  /// Path parameters of the route.
  public var params: [String: String] {
    get throws(PluginError) { try context.reading(.readRequestParams).params() }
  }

  /// The first header of that name, without regard to case; nil when absent or empty.
  public func header(_ name: String) throws(PluginError) -> String? {
    let value = try context.text(.readRequestHeader, name)
    return value.isEmpty ? nil : value
  }

  /// All headers, in order.
  public var headers: [KeyValue] { get throws(PluginError) { try context.headers(.readRequestHeaders) } }

  /// The body.
  public var body: [UInt8] { get throws(PluginError) { try context.bytes(.readRequestFullBody) } }

  /// The body's size: `content-length`. Through NATS: the size of the body that travelled.
  public var byteCount: Int { get throws(PluginError) { try context.number(.readRequestBytes) } }

  /// When the request came, Unix milliseconds. Through NATS: when the phase's message was made.
  public var timestampMilliseconds: Int {
    get throws(PluginError) { try context.number(.readRequestTimestamp) }
  }
}

/// The HTTP response of a phase. Changes are sent when they are made (FFI) or with the reply (NATS).
public struct PluginResponse {
  let context: PhaseContext

  /// The status.
  public var status: Int { get throws(PluginError) { try context.number(.readResponseStatus) } }

  /// Sets the status, 100-599.
  public func setStatus(_ status: Int) throws(PluginError) {
    guard (100...599).contains(status) else { throw .badStatus(status) }
    try context.writing?.setStatus(UInt16(status))
  }

  /// Sets a header; one of that name, without regard to case, is replaced.
  public func setHeader(_ name: String, _ value: String) throws(PluginError) {
    try context.writing?.setHeader(name, value)
  }

  /// Removes all headers of that name, without regard to case.
  public func removeHeader(_ name: String) throws(PluginError) {
    try context.writing?.removeHeader(name)
  }

  /// All headers, in order.
  public var headers: [KeyValue] { get throws(PluginError) { try context.headers(.readResponseHeaders) } }

  /// The first header of that name, without regard to case; nil when absent.
  public func header(_ name: String) throws(PluginError) -> String? {
    try headers.first { HeaderName.equal($0.key, name) }?.value
  }

  /// The body.
  public var body: [UInt8] { get throws(PluginError) { try context.bytes(.readResponseFullBody) } }

  /// The body's size.
  public var byteCount: Int { get throws(PluginError) { try context.number(.readResponseBytes) } }

  /// Milliseconds since the request came. Through NATS: since the phase's message was made.
  public var durationMilliseconds: Int {
    get throws(PluginError) { try context.number(.readResponseDuration) }
  }

  /// The proxy's error text, empty when there was none. Through NATS it does not travel: empty.
  public var error: String { get throws(PluginError) { try context.text(.readResponseError) } }

  /// Sets the body as it is.
  public func setBody(_ bytes: [UInt8]) throws(PluginError) { try context.writing?.setBody(bytes) }

  /// Sets the body to text, and `Content-Type` to plain text.
  public func setText(_ text: String) throws(PluginError) {
    try setHeader("Content-Type", "text/plain; charset=utf-8")
    try setBody(Array(text.utf8))
  }

  /// Sets the body to HTML, and `Content-Type` with it.
  public func setHTML(_ html: String) throws(PluginError) {
    try setHeader("Content-Type", "text/html; charset=utf-8")
    try setBody(Array(html.utf8))
  }

  /// Sets the body to JSON, and `Content-Type` with it.
  public func setJSON<Value: Encodable>(_ value: Value) throws(PluginError) {
    guard let json = try? JSONEncoder().encode(value) else {
      throw .notEncodable(type: "\(Value.self)")
    }
    try setHeader("Content-Type", "application/json")
    try setBody([UInt8](json))
  }

  /// Sets status and `Location`. Call `end()` after it.
  public func redirect(_ url: String, status: Int = 302) throws(PluginError) {
    try setStatus(status)
    try setHeader("Location", url)
  }

  /// The response as a stream, instead of one body.
  public var stream: ResponseStream { ResponseStream(context: context) }
}

/// A response that is sent piece by piece. Through NATS the pieces travel together in the reply.
public struct ResponseStream {
  let context: PhaseContext

  /// Sends status and headers.
  public func writeHeader() throws(PluginError) { try context.writing?.streamHeader() }

  /// Sends the next piece.
  public func write(_ bytes: [UInt8]) throws(PluginError) { try context.writing?.streamData(bytes) }

  /// Ends the stream, and the phase as `next()` does.
  public func end() { context.finish(.setResponseStreamEnd) }
}
