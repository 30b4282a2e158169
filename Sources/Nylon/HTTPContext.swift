/// A name and its value: a header, a path parameter.
public struct KeyValue: Codable, Sendable, Hashable {
  /// The name, as written.
  public var key: String
  /// The value, as written.
  public var value: String

  /// A pair.
  public init(key: String, value: String) {
    self.key = key
    self.value = value
  }
}

/// The HTTP request that a plugin sees.
package struct HTTPRequest: Codable, Sendable, Hashable {
  /// `GET`, `POST`, …
  package var method: String
  /// The path without the query, such as `/api/users`.
  package var path: String
  /// The query without `?`, empty when there is none.
  package var query: String
  /// Path parameters of the route.
  package var params: [KeyValue]
  /// Headers, in order; names compare without regard to case.
  package var headers: [KeyValue]
  /// The body's bytes.
  package var body: [UInt8]

  /// A request.
  package init(
    method: String, path: String, query: String = "", params: [KeyValue] = [],
    headers: [KeyValue] = [], body: [UInt8] = []
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.params = params
    self.headers = headers
    self.body = body
  }
}

/// The HTTP response that a plugin sees and changes.
package struct HTTPResponse: Codable, Sendable, Hashable {
  /// The status code, 100-599.
  package var status: UInt16
  /// Headers, in order; names compare without regard to case.
  package var headers: [KeyValue]
  /// The body's bytes.
  package var body: [UInt8]

  /// A response.
  package init(status: UInt16 = 200, headers: [KeyValue] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }
}
