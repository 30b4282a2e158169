import Nylon
import Scenario

extension Verification {
  /// The first difference between a response and what is asked for, in words; nil when there is none.
  ///
  /// - Parameter upstreamBody: the body that the upstream sent, for `body_unchanged`.
  func difference(from response: HTTPResponse?, upstreamBody: [UInt8]) -> String? {
    guard !isEmpty else { return nil }
    guard let response else { return "the answer carries no response" }
    if let status, status != response.status { return "status is \(response.status), wanted \(status)" }
    for wanted in responseHeaders {
      if let words = Self.difference(of: wanted, in: response.headers) { return words }
    }
    if bodyUnchanged, response.body != upstreamBody {
      return "the body is \(Self.shown(response.body)), wanted the upstream's \(Self.shown(upstreamBody))"
    }
    if let body, response.body != Array(body.utf8) {
      return "the body is \(Self.shown(response.body)), wanted \(Self.shown(Array(body.utf8)))"
    }
    return nil
  }

  /// An empty value of a wanted header stands for any value.
  private static func difference(of wanted: KeyValue, in headers: [KeyValue]) -> String? {
    let found = headers.filter { HeaderName.equal($0.key, wanted.key) }
    if wanted.value.isEmpty ? !found.isEmpty : found.contains(where: { $0.value == wanted.value }) {
      return nil
    }
    guard let first = found.first else { return "header '\(wanted.key)' is missing" }
    return "header '\(wanted.key)' is '\(first.value)', wanted '\(wanted.value)'"
  }

  private static let mostShownBytes = 40

  /// The beginning of a body and its length.
  private static func shown(_ body: [UInt8]) -> String {
    let text = String(decoding: body.prefix(mostShownBytes), as: UTF8.self)
    return body.count > mostShownBytes ? "'\(text)…' (\(body.count) bytes)" : "'\(text)'"
  }
}
