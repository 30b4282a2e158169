import Foundation

/// A broker that a connection may be made to: its addresses, and what is said to it first.
package struct BrokerServer: Sendable {
  package let address: BrokerAddress
  let security: WireSecurity
  /// Socket addresses in bytes, in the order of the resolver; not empty.
  package let addresses: [(family: Int32, bytes: [UInt8])]

  /// The brokers of those URLs; their names are looked up here and now, since the resolver
  /// keeps its caller waiting. Those without an address are left out, unless all are.
  package static func all(
    _ urls: [String], security: WireSecurity
  ) throws(BrokerError) -> [BrokerServer] {
    var servers: [BrokerServer] = []
    var failure = BrokerError(server: "", why: "no server is named", remedy: "Name one in `servers`.")
    for url in urls {
      do throws(BrokerError) {
        servers.append(try BrokerServer(url, security))
      } catch {
        failure = error
      }
    }
    if servers.isEmpty { throw failure }
    return servers
  }

  private init(_ url: String, _ security: WireSecurity) throws(BrokerError) {
    address = try BrokerAddress(url)
    addresses = BrokerServer.lookUp(address.host, address.port)
    self.security = security
    if addresses.isEmpty {
      throw BrokerError(
        server: address.shown, why: "its name has no address",
        remedy: "Check `servers` of the messaging entry.")
    }
  }

  private static func lookUp(_ host: String, _ port: UInt16) -> [(family: Int32, bytes: [UInt8])] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, "\(port)", &hints, &list) == 0, let list else { return [] }
    defer { freeaddrinfo(list) }
    return sequence(first: list) { $0.pointee.ai_next }.map { entry in
      let bytes = UnsafeRawBufferPointer(
        start: entry.pointee.ai_addr, count: Int(entry.pointee.ai_addrlen))
      return (entry.pointee.ai_family, Array(bytes))
    }
  }

  /// `CONNECT` with the credentials: those of the URL itself win. Secret.
  func hello(_ greeting: BrokerInfo, name: String, overTLS: Bool) throws -> [UInt8] {
    let hasOwn = address.auth != NATSAuth()
    let auth = hasOwn ? address.auth : security.auth
    let takesHeaders = greeting.headers ?? false
    var options: [String: Any] = [
      "name": name, "lang": "swift", "version": "1", "protocol": 1, "verbose": false, "pedantic": false,
      "echo": true, "headers": takesHeaders, "no_responders": takesHeaders, "tls_required": overTLS,
    ]
    options["auth_token"] = auth.token
    options["user"] = auth.user
    options["pass"] = auth.user == nil ? nil : auth.password ?? ""
    // A broker without a nonce knows no signatures, and says for itself whether it takes us without one.
    if !hasOwn, let identity = security.identity, let nonce = greeting.nonce {
      options["jwt"] = identity.jwt
      options["nkey"] = identity.jwt == nil ? identity.publicText : nil
      options["sig"] = identity.signature(of: nonce)
    }
    return Array("CONNECT ".utf8) + (try JSONSerialization.data(withJSONObject: options)) + [13, 10]
  }
}

/// What a broker says of itself.
package struct BrokerInfo: Decodable, Sendable {
  package private(set) var version: String?
  var max_payload: Int?
  var headers: Bool?
  var auth_required: Bool?
  var tls_required: Bool?
  var tls_available: Bool?
  var nonce: String?
  /// Whether it is about to close its connections (lame duck mode).
  var ldm: Bool?

  /// The most that is believed of `max_payload`, bytes: the broker's own limit is below it.
  static let mostPayload = 256 << 20
  /// What a broker takes that does not say.
  static let ordinaryPayload = 1 << 20

  package var longestPayload: Int { min(max(1, max_payload ?? Self.ordinaryPayload), Self.mostPayload) }
}

/// Why there is no connection to a broker.
package struct BrokerError: Error, CustomStringConvertible {
  package enum Kind: Sendable {
    /// Nobody answers, or not in time.
    case silence
    /// Whoever answers does not speak the protocol.
    case noBroker
    /// The broker does not take the credentials.
    case credentials
    /// One side does not accept the other's TLS.
    case tls
  }

  /// The broker's address without user and password.
  package let server: String
  /// What the client, the broker or the system says.
  package let why: String
  package let remedy: String
  package let kind: Kind
  /// How a broker puts it that does not take the credentials; empty for other failures.
  package let words: String

  package var description: String { "broker \(server): \(why). \(remedy)" }
}

extension BrokerError {
  package init(server: String, why: String, remedy: String) {
    self.init(server: server, why: why, remedy: remedy, kind: .silence, words: "")
  }
}

/// A broker's URL in its parts: the address, and the credentials, which must not be shown.
package struct BrokerAddress: Sendable, Equatable {
  /// Name or address, without the brackets of IPv6.
  package var host: String
  package var port: UInt16
  /// Whether the URL asks for TLS.
  package var usesTLS: Bool
  /// Credentials of the URL itself. Secret.
  package var auth: NATSAuth

  /// Host and port, for messages.
  package var shown: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Parses `nats://host:port`, `tls://…`, or `host:port`; user and password, or a token, may
  /// stand before an `@`.
  package init(_ url: String) throws(BrokerError) {
    func invalid(_ why: String) -> BrokerError {
      BrokerError(
        server: BrokerAddress.redacted(url), why: why, remedy: "Write it like nats://127.0.0.1:4222.")
    }
    var rest = url.trimmingCharacters(in: .whitespaces)[...]
    usesTLS = false
    if let mark = rest.range(of: "://") {
      let scheme = rest[..<mark.lowerBound].lowercased()
      guard ["nats", "tls"].contains(scheme) else { throw invalid("its scheme is not nats:// or tls://") }
      usesTLS = scheme == "tls"
      rest = rest[mark.upperBound...]
    }
    auth = NATSAuth()
    if let at = rest.lastIndex(of: "@") {
      auth = BrokerAddress.credentials(rest[..<at])
      rest = rest[rest.index(after: at)...]
    }
    let (host, portText) = BrokerAddress.split(rest.prefix { $0 != "/" })
    // A bracket of an IPv6 address that has lost its fellow would be taken for another host where it is shown.
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != 91 && $0 != 93 }),
      host.utf8.count < 256
    else {
      throw invalid("it names no host")
    }
    guard let port = portText.map({ UInt16($0) }) ?? 4222, port > 0 else {
      throw invalid("its port is not a number from 1 to 65535")
    }
    self.host = host
    self.port = port
  }

  /// A URL as it may be shown: `mask` stands for all up to the last `@`, as a password may have a `/` or an `@` of
  /// its own. Only a scheme stays before it, and whatever has no `:` is taken for one.
  package static func redacted(_ url: String, mask: String = "***@") -> String {
    guard let at = url.lastIndex(of: "@") else { return url }
    let scheme = url[..<at].prefix { $0 != ":" }
    let start = url[scheme.endIndex..<at].hasPrefix("://") ? "\(scheme)://" : ""
    return start + mask + url[url.index(after: at)...]
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
}
