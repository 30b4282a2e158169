import Foundation

/// A broker's URL, taken apart: where it is, and what must not be shown.
package struct BrokerAddress: Sendable, Equatable {
  /// Name or address, without the brackets of IPv6.
  package var host: String
  /// The port.
  package var port: UInt16
  /// Whether the URL asks for TLS.
  package var usesTLS: Bool
  /// Credentials of the URL itself. Secret.
  package var auth: NATSAuth

  /// Host and port, for messages.
  package var shown: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Takes `nats://host:port`, `tls://…`, or `host:port` apart; user and password, or a token, may
  /// stand before an `@`.
  package init(_ url: String) throws(BrokerAddressError) {
    var rest = url.trimmingCharacters(in: .whitespaces)[...]
    usesTLS = false
    if let mark = rest.range(of: "://") {
      let scheme = rest[..<mark.lowerBound].lowercased()
      guard ["nats", "tls"].contains(scheme) else {
        throw BrokerAddress.invalid(url, "its scheme is not nats:// or tls://")
      }
      usesTLS = scheme == "tls"
      rest = rest[mark.upperBound...]
    }
    rest = rest.prefix { $0 != "/" || rest.contains("@") }
    auth = NATSAuth()
    if let at = rest.lastIndex(of: "@") {
      auth = BrokerAddress.credentials(rest[..<at])
      rest = rest[rest.index(after: at)...].prefix { $0 != "/" }
    }
    let (host, portText) = BrokerAddress.split(rest)
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 32 && $0 < 127 }), host.utf8.count < 256 else {
      throw BrokerAddress.invalid(url, "it names no host")
    }
    guard let port = portText.map({ UInt16($0) }) ?? 4222, port > 0 else {
      throw BrokerAddress.invalid(url, "its port is not a number from 1 to 65535")
    }
    self.host = host
    self.port = port
  }

  private static func credentials(_ text: Substring) -> NATSAuth {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    let plain = parts.map { $0.removingPercentEncoding ?? String($0) }
    return plain.count == 2 ? NATSAuth(user: plain[0], password: plain[1]) : NATSAuth(token: plain[0])
  }

  private static func split(_ text: Substring) -> (host: String, port: String?) {
    if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
      let behind = text[text.index(after: end)...]
      let host = String(text[text.index(after: text.startIndex)..<end])
      return (host, behind.hasPrefix(":") ? String(behind.dropFirst()) : behind.isEmpty ? nil : "bad")
    }
    guard let colon = text.lastIndex(of: ":") else { return (String(text), nil) }
    return (String(text[..<colon]), String(text[text.index(after: colon)...]))
  }

  private static func invalid(_ url: String, _ why: String) -> BrokerAddressError {
    let behind = url.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
    let shown = url.contains("@") ? "***@\(behind)" : url
    return BrokerAddressError(shown: shown, why: why)
  }
}

/// Why a broker's URL cannot be used.
package struct BrokerAddressError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The URL without its secrets.
  package var shown: String
  /// What is wrong with it.
  package var why: String
  /// What to do.
  package static let remedy = "Write it like nats://127.0.0.1:4222."

  /// Names the URL and what is wrong with it; the remedy stands beside.
  package var description: String { "The broker URL '\(shown)' cannot be used: \(why)" }
}
