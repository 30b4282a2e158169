import COpenSSL
import Foundation

/// A user that signs the broker's nonce: an nkey (an ed25519 key pair in NATS encoding), with a JWT where an
/// operator manages the accounts.
struct SignedIdentity: Sendable {
  /// Secret.
  private let seed: [UInt8]
  /// The public key as text, `U…`.
  let publicText: String
  /// Secret.
  let jwt: String?

  /// Reads a seed file; skips comments, blank lines and the frame of a credentials file.
  init(seedFile path: String) throws(SecurityFileError) {
    let file = SecurityFile(
      key: .nkey, path: path, remedy: "It must contain the seed of a user, as `nk -gen user` writes it.")
    guard let seed = try file.lines().first(where: { !$0.hasPrefix("#") && !$0.hasPrefix("-") }) else {
      throw file.fault("it contains no seed")
    }
    try self.init(userSeed: seed, jwt: nil, of: file)
  }

  /// Reads a credentials file: a JWT and a seed, each framed by dashes, as nsc writes them.
  init(credentialsFile path: String) throws(SecurityFileError) {
    let file = SecurityFile(
      key: .credentials, path: path,
      remedy: "It must contain a user's JWT and seed, as `nsc generate creds` writes them.")
    let lines = try file.lines()
    func framed(_ name: String) -> String? {
      let begin = lines.firstIndex { $0.hasPrefix("---") && $0.contains("BEGIN \(name)") }
      return begin.flatMap { lines[($0 + 1)...].first }.flatMap { $0.hasPrefix("-") ? nil : $0 }
    }
    guard let jwt = framed("NATS USER JWT") else { throw file.fault("it contains no user JWT") }
    guard let seed = framed("USER NKEY SEED") else { throw file.fault("it contains no user nkey seed") }
    try self.init(userSeed: seed, jwt: jwt, of: file)
    let parts = jwt.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let claims = Base64URL.decoded(parts[1]),
      let user = try? JSONDecoder().decode(Claims.self, from: claims)
    else { throw file.fault("its JWT cannot be read") }
    guard user.sub == publicText else { throw file.fault("its seed does not belong to its JWT") }
  }

  private struct Claims: Decodable { var sub: String }

  private init(userSeed text: String, jwt: String?, of file: SecurityFile) throws(SecurityFileError) {
    guard let bytes = Base32.decoded(text) else { throw file.fault("it is not a seed in base32 (SU…)") }
    guard bytes.count == 36 else { throw file.fault("its seed has the wrong length") }
    guard bytes.suffix(2) == Self.checksum(bytes.prefix(34)) else {
      throw file.fault("its seed has a wrong checksum")
    }
    guard bytes[0] & 0xf8 == Self.seedPrefix, (bytes[0] & 7) << 5 | bytes[1] >> 3 == Self.userPrefix else {
      throw file.fault("it contains no user's seed (SU…)")
    }
    seed = Array(bytes[2..<34])
    let key = Self.key(seed)
    defer { EVP_PKEY_free(key) }
    var raw = [UInt8](repeating: 0, count: 32)
    var count = raw.count
    guard let key, EVP_PKEY_get_raw_public_key(key, &raw, &count) == 1, count == 32 else {
      throw file.fault("OpenSSL cannot make a key from its seed")
    }
    raw.insert(Self.userPrefix, at: 0)
    publicText = Base32.encoded(raw + Self.checksum(raw[...]))
    self.jwt = jwt
  }

  /// Signs the broker's nonce for `CONNECT`; nil when OpenSSL fails.
  func signature(of nonce: String) -> String? {
    guard let key = Self.key(seed), let context = EVP_MD_CTX_new() else { return nil }
    defer {
      EVP_PKEY_free(key)
      EVP_MD_CTX_free(context)
    }
    let message = Array(nonce.utf8)
    var signature = [UInt8](repeating: 0, count: 64)
    var count = signature.count
    guard EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
      EVP_DigestSign(context, &signature, &count, message, message.count) == 1
    else { return nil }
    return Base64URL.encoded(signature.prefix(count))
  }

  private static func key(_ seed: [UInt8]) -> OpaquePointer? {
    EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
  }

  private static let (seedPrefix, userPrefix): (UInt8, UInt8) = (18 << 3, 20 << 3)

  /// The CRC-16/XMODEM checksum at the end of an nkey, low byte first.
  private static func checksum(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var sum: UInt16 = 0
    for byte in bytes {
      sum ^= UInt16(byte) << 8
      for _ in 0..<8 { sum = sum & 0x8000 != 0 ? sum << 1 ^ 0x1021 : sum << 1 }
    }
    return [UInt8(sum & 255), UInt8(sum >> 8)]
  }
}

/// The encoding of nkeys: base32 (RFC 4648) without padding.
private enum Base32 {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)

  /// Encodes five bytes as eight characters and drops an incomplete group; a public key has 35 bytes.
  static func encoded(_ bytes: [UInt8]) -> String {
    String(decoding: regrouped(bytes, of: 8, to: 5).map { alphabet[Int($0)] }, as: UTF8.self)
  }

  /// nil when the text has a character outside the alphabet.
  static func decoded(_ text: String) -> [UInt8]? {
    let values = text.utf8.map { alphabet.firstIndex(of: $0) }
    return values.contains(nil) ? nil : regrouped(values.map { UInt8($0 ?? 0) }, of: 5, to: 8)
  }

  /// Regroups the same bits into groups of another size; an incomplete last group is dropped.
  private static func regrouped(_ groups: [UInt8], of size: Int, to newSize: Int) -> [UInt8] {
    var bits: UInt32 = 0
    var count = 0
    var result: [UInt8] = []
    for group in groups {
      bits = bits << UInt32(size) | UInt32(group)
      count += size
      while count >= newSize {
        count -= newSize
        result.append(UInt8(bits >> UInt32(count) & (1 << UInt32(newSize) - 1)))
      }
    }
    return result
  }
}

/// The encoding of JWTs and signatures: base64 with `-` and `_`, without padding.
private enum Base64URL {
  static func encoded(_ bytes: some Sequence<UInt8>) -> String {
    Data(bytes).base64EncodedString().replacingOccurrences(of: "+", with: "-")
      .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
  }

  static func decoded(_ text: some StringProtocol) -> Data? {
    let plain = text.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
    return Data(base64Encoded: plain + String(repeating: "=", count: (4 - plain.utf8.count % 4) % 4))
  }
}
