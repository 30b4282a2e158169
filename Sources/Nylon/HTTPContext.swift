/// A name and its value, such as a header or a path parameter.
public struct KeyValue: Codable, Sendable, Hashable {
  /// The name, as written.
  public var key: String
  /// The value, as written.
  public var value: String

  /// Creates a pair from a name and a value.
  public init(key: String, value: String) {
    self.key = key
    self.value = value
  }
}

/// Compares header names, ignoring the case of ASCII letters (RFC 9110).
package enum HeaderName {
  package static func equal(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    for index in 0..<left.count where lower(left[index]) != lower(right[index]) { return false }
    return true
  }

  package static func equal(_ left: String, _ right: String) -> Bool {
    left.utf8.count == right.utf8.count && zip(left.utf8, right.utf8).allSatisfy { lower($0) == lower($1) }
  }

  @inline(__always)
  private static func lower(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 0x20 : byte }
}

/// The HTTP request that a plugin reads.
package struct HTTPRequest: Codable, Sendable, Hashable {
  package var method: String
  /// The path without the query, such as `/api/users`.
  package var path: String
  /// The query without `?`; empty if there is none.
  package var query: String
  /// Path parameters of the route.
  package var params: [KeyValue]
  package var headers: [KeyValue]
  package var body: [UInt8]

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

/// The HTTP response that a plugin reads and changes.
package struct HTTPResponse: Codable, Sendable, Hashable {
  package var status: UInt16
  package var headers: [KeyValue]
  package var body: [UInt8]

  package init(status: UInt16 = 200, headers: [KeyValue] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }
}

/// A handler's changes to the request; a field that is nil is unchanged.
package struct HTTPRequestChange: Sendable, Hashable {
  package var method: String?
  package var path: String?
  package var query: String?
  package var params: [KeyValue]?
  package var headers: [KeyValue]?
  package var body: [UInt8]?
}

/// A handler's changes to the response; a field that is nil is unchanged.
package struct HTTPResponseChange: Sendable, Hashable {
  /// The new status, 100-599; nil is 0 on the wire.
  package var status: UInt16?
  package var headers: [KeyValue]?
  package var body: [UInt8]?
}

/// The `data` of a reply in the `reply` dialect, in the same FlatBuffers table as the request's `data`. A
/// field that is present replaces the old value, and an absent field leaves it unchanged. A headers vector is
/// the complete new list; a body may be empty.
package struct HTTPContextChange: Sendable, Hashable {
  package var request: HTTPRequestChange
  package var response: HTTPResponseChange

  package init(
    request: HTTPRequestChange = HTTPRequestChange(), response: HTTPResponseChange = HTTPResponseChange()
  ) {
    self.request = request
    self.response = response
  }

  /// Whether nothing is changed; the reply then has no `data`.
  package var isEmpty: Bool { self == HTTPContextChange() }
}

extension HTTPContextChange {
  /// Creates a change that sets every field of a context.
  init(_ context: HTTPContext) {
    self.init()
    if let it = context.request {
      request = HTTPRequestChange(
        method: it.method, path: it.path, query: it.query, params: it.params, headers: it.headers,
        body: it.body)
    }
    if let it = context.response {
      response = HTTPResponseChange(status: it.status, headers: it.headers, body: it.body)
    }
  }
}

/// The HTTP request and response that travel with a phase in the `reply` dialect.
package struct HTTPContext: Sendable, Hashable {
  package var request: HTTPRequest?
  /// The response; nil before there is one.
  package var response: HTTPResponse?

  package init(request: HTTPRequest? = nil, response: HTTPResponse? = nil) {
    self.request = request
    self.response = response
  }

  /// Encodes the context as a table, as a change that sets every field.
  package func encoded() -> [UInt8] { HTTPContextChange(self).encoded() }

  /// Returns the context with a change applied. A change to an absent part starts from an empty part, so that
  /// a request filter can create the response.
  package func applying(_ change: HTTPContextChange) -> HTTPContext {
    var context = self
    let (new, answer) = (change.request, change.response)
    if new != HTTPRequestChange() {
      let old = request ?? HTTPRequest(method: "", path: "")
      context.request = HTTPRequest(
        method: new.method ?? old.method, path: new.path ?? old.path, query: new.query ?? old.query,
        params: new.params ?? old.params, headers: new.headers ?? old.headers, body: new.body ?? old.body)
    }
    if answer != HTTPResponseChange() {
      let old = response ?? HTTPResponse()
      context.response = HTTPResponse(
        status: answer.status ?? old.status, headers: answer.headers ?? old.headers,
        body: answer.body ?? old.body)
    }
    return context
  }
}
