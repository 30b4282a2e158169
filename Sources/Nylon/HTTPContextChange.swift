/// What a handler changed of the request: a field that is nil stays as it was.
package struct HTTPRequestChange: Sendable, Hashable {
  /// The new method.
  package var method: String?
  /// The new path.
  package var path: String?
  /// The new query.
  package var query: String?
  /// All path parameters, as they are to be.
  package var params: [KeyValue]?
  /// All headers, as they are to be.
  package var headers: [KeyValue]?
  /// The new body.
  package var body: [UInt8]?

  /// A change; of nothing, unless said.
  package init(
    method: String? = nil, path: String? = nil, query: String? = nil, params: [KeyValue]? = nil,
    headers: [KeyValue]? = nil, body: [UInt8]? = nil
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.params = params
    self.headers = headers
    self.body = body
  }

  /// Whether it changes nothing.
  package var isEmpty: Bool {
    method == nil && path == nil && query == nil && params == nil && headers == nil && body == nil
  }
}

/// What a handler changed of the response: a field that is nil stays as it was.
package struct HTTPResponseChange: Sendable, Hashable {
  /// The new status, 100-599; on the wire 0 stands for nil.
  package var status: UInt16?
  /// All headers, as they are to be.
  package var headers: [KeyValue]?
  /// The new body; an empty one empties it.
  package var body: [UInt8]?

  /// A change; of nothing, unless said.
  package init(status: UInt16? = nil, headers: [KeyValue]? = nil, body: [UInt8]? = nil) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// Whether it changes nothing.
  package var isEmpty: Bool { status == nil && headers == nil && body == nil }
}

/// The `data` of a reply in the `reply` dialect: what the handler changed.
///
/// The same FlatBuffers table as the request's `data`, read in another way: each field that is
/// present replaces, each that is absent leaves as it was. A headers vector is the full
/// new list; a body may be empty; status 0 is unchanged.
package struct HTTPContextChange: Sendable, Hashable {
  /// Changes of the request.
  package var request: HTTPRequestChange
  /// Changes of the response.
  package var response: HTTPResponseChange

  /// A change; of nothing, unless said.
  package init(
    request: HTTPRequestChange = HTTPRequestChange(),
    response: HTTPResponseChange = HTTPResponseChange()
  ) {
    self.request = request
    self.response = response
  }

  /// Whether it changes nothing; then a reply goes without `data`.
  package var isEmpty: Bool { request.isEmpty && response.isEmpty }
}

/// The HTTP request and response as they travel with a phase in the `reply` dialect.
package struct HTTPContext: Sendable, Hashable {
  /// The request, nil when it does not travel.
  package var request: HTTPRequest?
  /// The response, nil before there is one.
  package var response: HTTPResponse?

  /// A context.
  package init(request: HTTPRequest? = nil, response: HTTPResponse? = nil) {
    self.request = request
    self.response = response
  }

  /// The context after a change. A change of a part that is absent begins with an empty part:
  /// a request filter that answers by itself makes the response.
  package func applying(_ change: HTTPContextChange) -> HTTPContext {
    var context = self
    if !change.request.isEmpty {
      context.request = (request ?? HTTPRequest(method: "", path: "")).applying(change.request)
    }
    if !change.response.isEmpty {
      context.response = (response ?? HTTPResponse()).applying(change.response)
    }
    return context
  }
}

extension HTTPRequest {
  /// The request after a change.
  package func applying(_ change: HTTPRequestChange) -> HTTPRequest {
    HTTPRequest(
      method: change.method ?? method, path: change.path ?? path, query: change.query ?? query,
      params: change.params ?? params, headers: change.headers ?? headers,
      body: change.body ?? body)
  }
}

extension HTTPResponse {
  /// The response after a change.
  package func applying(_ change: HTTPResponseChange) -> HTTPResponse {
    HTTPResponse(
      status: change.status ?? status, headers: change.headers ?? headers,
      body: change.body ?? body)
  }
}
