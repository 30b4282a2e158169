import Foundation
import Nylon

/// Reads `request:`, `response:` and `verify:`: the HTTP side of a scenario.
struct RequestReader {
  static let requestKeys = ["method", "path", "params", "headers", "body_bytes", "client_ip"]
  static let responseKeys = ["status", "headers"]
  static let verifyKeys = ["status", "response_headers", "body_unchanged", "body"]
  static let bodyRange = 0...67_108_864
  static let statusRange = 100...599

  let problems: ProblemCollector

  /// The request and the upstream's answer.
  func request(of root: Block) -> RequestSpec {
    var spec = RequestSpec()
    if let block = root.block("request", keys: Self.requestKeys) {
      if let method = block.text("method") {
        if Self.isToken(method) {
          spec.method = method
        } else {
          block.fail("method", "is not an HTTP method")
        }
      }
      if let path = block.text("path") {
        if path.hasPrefix("/"), !path.contains(where: \.isWhitespace), !path.contains("#") {
          spec.path = path
        } else {
          block.fail("path", "must begin with '/' and have no spaces and no '#'")
        }
      }
      spec.params = plainPairs("params", of: block)
      spec.headers = headers("headers", of: block)
      spec.bodyBytes = block.whole("body_bytes", in: Self.bodyRange) ?? spec.bodyBytes
      if let address = block.text("client_ip") {
        if Self.isAddress(address) {
          spec.clientIP = address
        } else {
          block.fail("client_ip", "is not an IPv4 or IPv6 address", remedy: "write for example 203.0.113.7")
        }
      }
    }
    if let block = root.block("response", keys: Self.responseKeys) {
      spec.responseStatus =
        block.whole("status", in: Self.statusRange).map(UInt16.init) ?? spec.responseStatus
      spec.responseHeaders = headers("headers", of: block)
    }
    return spec
  }

  /// What a target's responses are checked for.
  func verification(of target: Block) -> Verification {
    guard let block = target.block("verify", keys: Self.verifyKeys) else { return Verification() }
    var result = Verification()
    result.status = block.whole("status", in: Self.statusRange).map(UInt16.init)
    result.responseHeaders = headers("response_headers", of: block)
    result.bodyUnchanged = block.flag("body_unchanged") ?? false
    if let body = block.get("body") {
      if let text = body.text { result.body = text } else { block.fail("body", "is \(body.kind), not text") }
    }
    if result.bodyUnchanged, result.body != nil {
      block.fail("body", "cannot be checked together with body_unchanged", remedy: "keep one of them")
    }
    return result
  }

  /// Headers: a name and a value, an empty value, or a list of values.
  private func headers(_ key: String, of block: Block) -> [KeyValue] {
    var result: [KeyValue] = []
    for (name, value) in block.pairs(key) ?? [] {
      let path = "\(block.childPath(key)).\(name)"
      guard Self.isToken(name) else {
        problems.add(at: value.place, key: path, "is not a header name: letters, digits and '-' only")
        continue
      }
      for item in value.items ?? [value] {
        if let text = single(item, path: path) { result.append(KeyValue(key: name, value: text)) }
      }
    }
    return result
  }

  private func plainPairs(_ key: String, of block: Block) -> [KeyValue] {
    (block.pairs(key) ?? []).compactMap { name, value in
      single(value, path: "\(block.childPath(key)).\(name)").map { KeyValue(key: name, value: $0) }
    }
  }

  private func single(_ value: YAMLValue, path: String) -> String? {
    if value.isNull { return "" }
    guard let text = value.text else {
      problems.add(at: value.place, key: path, "is \(value.kind), not text")
      return nil
    }
    guard !text.unicodeScalars.contains(where: { $0.value < 32 && $0 != "\t" || $0.value == 127 }) else {
      problems.add(at: value.place, key: path, "holds a control character")
      return nil
    }
    return text
  }

  private static func isToken(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 256
      && text.unicodeScalars.allSatisfy { scalar in
        scalar.isASCII
          && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
            || "!#$%&'*+-.^_`|~".unicodeScalars.contains(scalar))
      }
  }

  private static func isAddress(_ text: String) -> Bool {
    var storage = in6_addr()
    return inet_pton(AF_INET, text, &storage) == 1 || inet_pton(AF_INET6, text, &storage) == 1
  }
}
