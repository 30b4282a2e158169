import Nylon
import Scenario

/// The HTTP messages of a scenario, as every session of a load carries them.
package struct RequestContent: Sendable {
  /// What the client sent.
  package let request: HTTPRequest
  /// What the upstream answers before a plugin changed it.
  package let response: HTTPResponse

  /// Makes both; bodies are bytes from the seed, so that runs can be told apart and repeated.
  package init(_ spec: RequestSpec, seed: UInt64) {
    let parts = spec.path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    var random = SplitMix64(seed: seed)
    // Printable text: a plugin may take the body for a string.
    let body = (0..<spec.bodyBytes).map { _ in UInt8(97 + random.next() % 26) }
    request = HTTPRequest(
      method: spec.method, path: String(parts.first ?? "/"),
      query: parts.count > 1 ? String(parts[1]) : "", params: spec.params, headers: spec.headers,
      body: body)
    response = HTTPResponse(status: spec.responseStatus, headers: spec.responseHeaders, body: body)
  }
}
