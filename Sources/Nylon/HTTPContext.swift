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

/// How header names compare: ASCII letters without regard to case (RFC 9110).
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

/// The HTTP request that a plugin sees.
package struct HTTPRequest: Codable, Sendable, Hashable {
  package var method: String
  /// The path without the query, such as `/api/users`.
  package var path: String
  /// The query without `?`, empty when there is none.
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

/// The HTTP response that a plugin sees and changes.
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

/// What a handler changed of the request: a field that is nil stays as it was.
package struct HTTPRequestChange: Sendable, Hashable {
  package var method: String?
  package var path: String?
  package var query: String?
  package var params: [KeyValue]?
  package var headers: [KeyValue]?
  package var body: [UInt8]?
}

/// What a handler changed of the response: a field that is nil stays as it was.
package struct HTTPResponseChange: Sendable, Hashable {
  /// The new status, 100-599; on the wire 0 stands for nil.
  package var status: UInt16?
  package var headers: [KeyValue]?
  package var body: [UInt8]?
}

/// The `data` of a reply in the `reply` dialect: the same FlatBuffers table as the request's `data`, of which each
/// field that is present replaces, each that is absent leaves as it was. A headers vector is the full new list; a
/// body may be empty.
package struct HTTPContextChange: Sendable, Hashable {
  package var request: HTTPRequestChange
  package var response: HTTPResponseChange

  package init(
    request: HTTPRequestChange = HTTPRequestChange(), response: HTTPResponseChange = HTTPResponseChange()
  ) {
    self.request = request
    self.response = response
  }

  /// Whether it changes nothing; then a reply goes without `data`.
  package var isEmpty: Bool { self == HTTPContextChange() }
}

extension HTTPContextChange {
  /// The change that says every field of a context.
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

/// The HTTP request and response as they travel with a phase in the `reply` dialect.
package struct HTTPContext: Sendable, Hashable {
  package var request: HTTPRequest?
  /// The response, nil before there is one.
  package var response: HTTPResponse?

  package init(request: HTTPRequest? = nil, response: HTTPResponse? = nil) {
    self.request = request
    self.response = response
  }

  /// The context as a table, as a change that says every field.
  package func encoded() -> [UInt8] { HTTPContextChange(self).encoded() }

  /// The context after a change. A change of a part that is absent begins with an empty part:
  /// a request filter that answers by itself makes the response.
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
