import Foundation

/// A broker to connect to, with its resolved addresses and security settings.
package struct BrokerServer: Sendable {
  package let address: BrokerAddress
  let security: WireSecurity
  /// Socket addresses as bytes, in the resolver's order; never empty.
  package let addresses: [(family: Int32, bytes: [UInt8])]

  /// Resolves the URLs now, because name resolution blocks. Brokers without an address are left out; throws
  /// when none has one.
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

  /// Builds the `CONNECT` message. Credentials in the URL take precedence. The result is secret.
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
    // A broker that sends no nonce cannot verify signatures, and decides itself whether to accept the client.
    if !hasOwn, let identity = security.identity, let nonce = greeting.nonce {
      options["jwt"] = identity.jwt
      options["nkey"] = identity.jwt == nil ? identity.publicText : nil
      options["sig"] = identity.signature(of: nonce)
    }
    return Array("CONNECT ".utf8) + (try JSONSerialization.data(withJSONObject: options)) + [13, 10]
  }
}

/// The fields of the broker's `INFO` message.
package struct BrokerInfo: Decodable, Sendable {
  package private(set) var version: String?
  var max_payload: Int?
  var headers: Bool?
  var auth_required: Bool?
  var tls_required: Bool?
  var tls_available: Bool?
  var nonce: String?
  /// Whether the broker is in lame duck mode and will close its connections soon.
  var ldm: Bool?

  /// The upper limit accepted for `max_payload`, in bytes; the broker's own limit is lower.
  static let mostPayload = 256 << 20
  /// The payload limit assumed when the broker does not state one.
  static let ordinaryPayload = 1 << 20

  package var longestPayload: Int { min(max(1, max_payload ?? Self.ordinaryPayload), Self.mostPayload) }
}

/// The reason why a connection to a broker failed.
package struct BrokerError: Error, CustomStringConvertible {
  package enum Kind: Sendable {
    /// Nothing answered, or not in time.
    case silence
    /// The peer does not speak the NATS protocol.
    case noBroker
    /// The broker rejected the credentials.
    case credentials
    /// One side rejected the other's TLS.
    case tls
  }

  /// The broker's address without user and password.
  package let server: String
  /// The reason, as stated by the client, the broker or the system.
  package let why: String
  package let remedy: String
  package let kind: Kind
  /// The broker's own words when it rejects the credentials; empty for other failures.
  package let words: String

  package var description: String { "broker \(server): \(why). \(remedy)" }
}

extension BrokerError {
  package init(server: String, why: String, remedy: String) {
    self.init(server: server, why: why, remedy: remedy, kind: .silence, words: "")
  }
}

/// The parts of a broker's URL: its address, and the credentials, which must not be shown.
package struct BrokerAddress: Sendable, Equatable {
  /// The host name or address, without the brackets of IPv6.
  package var host: String
  package var port: UInt16
  /// Whether the URL asks for TLS.
  package var usesTLS: Bool
  /// Credentials from the URL. Secret.
  package var auth: NATSAuth

  /// Host and port, for messages.
  package var shown: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Parses `nats://host:port`, `tls://…` or `host:port`, optionally with a user and password, or a token,
  /// before an `@`.
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
    // An unbalanced IPv6 bracket would make the shown address look like another host.
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

  /// Replaces everything up to the last `@` with `mask`, because a password may contain `/` or `@`. Only a
  /// scheme is kept: the text before the first `:`, when `://` follows it.
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
