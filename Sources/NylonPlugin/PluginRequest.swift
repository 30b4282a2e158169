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
    let value = try context.reading(.readRequestHeader).requestHeader(name)
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
