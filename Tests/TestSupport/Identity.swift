import COpenSSL
import Foundation

/// An nkey that a test makes, with what NATS signs by it; written apart from the package's own nkeys, so that each
/// checks the other.
public struct Identity {
  /// What an nkey is for.
  public enum Role: UInt8 {
    /// `O…`
    case operating = 14
    /// `A…`
    case account = 0
    /// `U…`
    case user = 20
  }

  /// The public key as text.
  public let name: String
  /// The seed as text, a secret: `SO…`, `SA…` or `SU…`.
  public let seed: String
  private let secret: [UInt8]

  /// A new key pair.
  public init(_ role: Role) {
    secret = (0..<32).map { _ in UInt8.random(in: 0...255) }
    let prefix = role.rawValue << 3
    let seedPrefix: UInt8 = 18 << 3
    seed = Self.text([seedPrefix | prefix >> 5, (prefix & 31) << 3] + secret)
    var raw = [UInt8](repeating: 0, count: 32)
    var count = 32
    let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, secret, 32)
    EVP_PKEY_get_raw_public_key(key, &raw, &count)
    EVP_PKEY_free(key)
    name = Self.text([prefix] + raw)
  }

  private static func text(_ bytes: [UInt8]) -> String {
    var sum: UInt16 = 0
    for byte in bytes {
      sum ^= UInt16(byte) << 8
      for _ in 0..<8 { sum = sum >> 15 == 1 ? sum << 1 ^ 0x1021 : sum << 1 }
    }
    let all = bytes + [UInt8(sum & 255), UInt8(sum >> 8)]
    var bits = all.map { byte in
      String(repeating: "0", count: byte.leadingZeroBitCount - (byte == 0 ? 1 : 0)) + String(byte, radix: 2)
    }.joined()
    bits += String(repeating: "0", count: (5 - bits.count % 5) % 5)
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    return stride(from: 0, to: bits.count, by: 5).map { place in
      let start = bits.index(bits.startIndex, offsetBy: place)
      return String(alphabet[Int(bits[start..<bits.index(start, offsetBy: 5)], radix: 2) ?? 0])
    }.joined()
  }

  /// A JWT about another identity, signed by this one.
  public func vouch(for other: Identity, name: String, _ claims: [String: Any]) throws -> String {
    let body: [String: Any] = [
      "jti": UUID().uuidString, "iat": Int(Date().timeIntervalSince1970) - 60, "iss": self.name,
      "sub": other.name,
      "name": name, "nats": claims,
    ]
    let parts = try [["typ": "JWT", "alg": "ed25519-nkey"], body].map {
      Self.base64(try JSONSerialization.data(withJSONObject: $0))
    }
    let message = Array(parts.joined(separator: ".").utf8)
    var signature = [UInt8](repeating: 0, count: 64)
    var count = 64
    let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, secret, 32)
    let context = EVP_MD_CTX_new()
    defer {
      EVP_PKEY_free(key)
      EVP_MD_CTX_free(context)
    }
    guard EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
      EVP_DigestSign(context, &signature, &count, message, message.count) == 1
    else { throw OpenSSLFault("sign a JWT") }
    return (parts + [Self.base64(Data(signature))]).joined(separator: ".")
  }

  private static func base64(_ data: Data) -> String {
    data.base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(
      of: "/", with: "_"
    )
    .replacingOccurrences(of: "=", with: "")
  }
}

/// An operator with one account, as nsc would set them up.
public struct Operated {
  private let account = Identity(.account)
  /// What goes into the broker's configuration.
  public let configuration: String

  /// A new operator and account.
  public init() throws {
    let operating = Identity(.operating)
    let ownJWT = try operating.vouch(for: operating, name: "O", ["type": "operator", "version": 2])
    var limits: [String: Any] = ["wildcards": true]
    for name in ["subs", "data", "payload", "imports", "exports", "conn", "leaf"] { limits[name] = -1 }
    let accountJWT = try operating.vouch(
      for: account, name: "A",
      [
        "limits": limits,
        "default_permissions": ["pub": [String: Any](), "sub": [String: Any]()],
        "type": "account", "version": 2,
      ])
    configuration = """
      operator: "\(ownJWT)"
      resolver: MEMORY
      resolver_preload: { \(account.name): "\(accountJWT)" }
      """
  }

  /// The text of a credentials file for a new user of the account; with the seed of another user when that is given.
  public func credentials(seedOf other: Identity? = nil) throws -> String {
    let user = Identity(.user)
    let jwt = try account.vouch(
      for: user, name: "U",
      [
        "pub": [String: Any](), "sub": [String: Any](), "subs": -1, "data": -1, "payload": -1, "type": "user",
        "version": 2,
      ])
    return """
      -----BEGIN NATS USER JWT-----
      \(jwt)
      ------END NATS USER JWT------

      ************************* IMPORTANT *************************
      NKEY Seed printed below can be used to sign and prove identity.

      -----BEGIN USER NKEY SEED-----
      \((other ?? user).seed)
      ------END USER NKEY SEED------

      *************************************************************
      """
  }
}
