import Foundation

/// A broker that a connection may be made to: its addresses, and what is said to it first.
package struct BrokerServer: Sendable {
  /// Host and port, for messages.
  package let shown: String
  /// Socket addresses in bytes, in the order of the resolver; not empty.
  let addresses: [(family: Int32, bytes: [UInt8])]
  /// Name or address as the URL has it, which the broker's certificate must be for.
  let host: String
  /// Whether TLS is wanted whatever the broker says.
  let wantsTLS: Bool
  /// The TLS settings, when there are any.
  let tls: TLSContext?
  private let auth: NATSAuth
  private let identity: SignedIdentity?

  /// The brokers of those URLs; their names are looked up here and now, since the resolver
  /// keeps its caller waiting. Those without an address are left out, unless all are.
  package static func all(
    _ urls: [String], security: WireSecurity = WireSecurity()
  ) throws(BrokerError) -> [BrokerServer] {
    var servers: [BrokerServer] = []
    var failure: BrokerError?
    for url in urls {
      do throws(BrokerError) {
        servers.append(try BrokerServer(url, security))
      } catch {
        failure = error
      }
    }
    if servers.isEmpty {
      throw failure
        ?? BrokerError(server: "", why: "no server is named", remedy: "Name one in `servers`.")
    }
    return servers
  }

  private init(_ url: String, _ security: WireSecurity) throws(BrokerError) {
    let address: BrokerAddress
    do {
      address = try BrokerAddress(url)
    } catch {
      throw BrokerError(server: error.shown, why: error.why, remedy: BrokerAddressError.remedy)
    }
    shown = address.shown
    host = address.host
    wantsTLS = security.enablesTLS || address.usesTLS
    tls = security.tls
    // Credentials of the URL itself win.
    let hasOwn = address.auth != NATSAuth()
    auth = hasOwn ? address.auth : security.auth
    identity = hasOwn ? nil : security.identity
    addresses = BrokerServer.lookUp(address.host, address.port)
    if addresses.isEmpty {
      throw BrokerError(
        server: shown, why: "its name has no address", remedy: "Check `servers` of the messaging entry.")
    }
  }

  private static func lookUp(_ host: String, _ port: UInt16) -> [(family: Int32, bytes: [UInt8])] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, "\(port)", &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var addresses: [(family: Int32, bytes: [UInt8])] = []
    var next = list
    while let entry = next?.pointee {
      let bytes = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
      addresses.append((entry.ai_family, Array(bytes)))
      next = entry.ai_next
    }
    return addresses
  }

  /// `CONNECT` with the credentials. Secret.
  func hello(_ greeting: BrokerInfo, name: String, overTLS: Bool) throws -> [UInt8] {
    var options = Hello(
      name: name,
      auth_token: auth.token, user: auth.user, pass: auth.user == nil ? nil : auth.password ?? "",
      headers: greeting.headers ?? false, no_responders: greeting.headers ?? false, tls_required: overTLS)
    // A broker without a nonce knows no signatures, and says for itself whether it takes us without one.
    if let identity, let nonce = greeting.nonce {
      options.jwt = identity.jwt
      options.nkey = identity.jwt == nil ? identity.key.publicText : nil
      options.sig = identity.key.signature(of: nonce)
    }
    return Array("CONNECT ".utf8) + Array(try JSONEncoder().encode(options)) + [13, 10]
  }

  private struct Hello: Encodable {
    var name: String
    var auth_token: String?
    var user: String?
    var pass: String?
    var jwt: String?
    var nkey: String?
    var sig: String?
    var headers: Bool
    var no_responders: Bool
    var lang = "swift"
    var version = "1"
    var `protocol` = 1
    var verbose = false
    var pedantic = false
    var echo = true
    var tls_required: Bool
  }
}

/// What a broker says of itself.
package struct BrokerInfo: Decodable, Sendable {
  /// Its version, such as `2.9.10`.
  package private(set) var version: String?
  var max_payload: Int?
  var headers: Bool?
  var auth_required: Bool?
  var tls_required: Bool?
  var tls_available: Bool?
  var nonce: String?

  /// Whether the broker can go on with TLS.
  var offersTLS: Bool { tls_required == true || tls_available == true }

  /// The most that is believed of `max_payload`, bytes: the broker's own limit is below it.
  static let mostPayload = 256 << 20
  /// What a broker takes that does not say.
  static let ordinaryPayload = 1 << 20

  /// Bytes of a message, at most.
  package var longestPayload: Int { min(max(1, max_payload ?? Self.ordinaryPayload), Self.mostPayload) }
}

/// Why there is no connection to a broker.
package struct BrokerError: Error, CustomStringConvertible {
  /// The broker's address without user and password.
  package let server: String
  /// What the client or the broker says.
  package let why: String
  /// What to do about it.
  package let remedy: String

  /// An error.
  package init(server: String, why: String, remedy: String) {
    self.server = server
    self.why = why
    self.remedy = remedy
  }

  /// All three.
  package var description: String { "broker \(server): \(why). \(remedy)" }
}
