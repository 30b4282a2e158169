import COpenSSL
import Foundation

/// An nkey: an ed25519 key pair as NATS writes it. The seed is a secret.
package struct NKey: Sendable {
  private let seed: [UInt8]
  /// The public key as text, `U…` for a user.
  package let publicText: String

  /// The key pair of a user's seed (`SU…`), or why the text is none.
  init(userSeed text: some StringProtocol) throws(NKeyFault) {
    guard let bytes = Base32.decoded(text) else { throw NKeyFault("it is not a seed in base32 (SU…)") }
    guard bytes.count == 36 else { throw NKeyFault("its seed has not the length of one") }
    let body = bytes.prefix(34)
    guard CRC16.of(body) == UInt16(bytes[34]) | UInt16(bytes[35]) << 8 else {
      throw NKeyFault("its seed has a wrong checksum")
    }
    guard bytes[0] & 0xf8 == Prefix.seed, (bytes[0] & 7) << 5 | bytes[1] >> 3 == Prefix.user else {
      throw NKeyFault("it holds no seed of a user (SU…)")
    }
    seed = Array(body.dropFirst(2))
    guard let key = NKey.key(seed) else { throw NKeyFault("OpenSSL makes no key of its seed") }
    defer { EVP_PKEY_free(key) }
    var raw = [UInt8](repeating: 0, count: 32)
    var count = raw.count
    guard EVP_PKEY_get_raw_public_key(key, &raw, &count) == 1, count == 32 else {
      throw NKeyFault("OpenSSL makes no key of its seed")
    }
    let prefixed = [Prefix.user] + raw
    let sum = CRC16.of(prefixed)
    publicText = Base32.encoded(prefixed + [UInt8(truncatingIfNeeded: sum), UInt8(sum >> 8)])
  }

  /// The user's key pair of a seed file; comments, blank lines and the frame of a credentials file are skipped.
  package init(seedFile path: String) throws(SecurityFileError) {
    let text = try SecurityFile.text(.nkey, path)
    let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    let seed = lines.first { !$0.isEmpty && !$0.hasPrefix("#") && !$0.hasPrefix("-") }
    do throws(NKeyFault) {
      guard let seed else { throw NKeyFault("it holds no seed") }
      try self.init(userSeed: seed)
    } catch {
      throw SecurityFileError(
        .nkey, path, why: error.why, remedy: "It must hold the seed of a user, as `nk -gen user` writes it.")
    }
  }

  /// The signature of a broker's nonce, as `CONNECT` wants it; nil when OpenSSL fails.
  func signature(of nonce: String) -> String? {
    guard let key = NKey.key(seed), let context = EVP_MD_CTX_new() else { return nil }
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

  private enum Prefix {
    static let seed: UInt8 = 18 << 3
    static let user: UInt8 = 20 << 3
  }
}

/// Why a text is no nkey seed.
struct NKeyFault: Error {
  let why: String
  init(_ why: String) { self.why = why }
}

/// A user who signs: an nkey, with a JWT where accounts are managed by an operator.
struct SignedIdentity: Sendable {
  let key: NKey
  /// Secret.
  let jwt: String?

  /// The identity of a seed file alone.
  init(seedFile path: String) throws(SecurityFileError) {
    key = try NKey(seedFile: path)
    jwt = nil
  }

  /// The identity of a credentials file: a JWT and a seed, each in a frame of dashes, as nsc writes them.
  init(credentialsFile path: String) throws(SecurityFileError) {
    let text = try SecurityFile.text(.credentials, path)
    func fault(_ why: String) -> SecurityFileError {
      SecurityFileError(
        .credentials, path, why: why,
        remedy: "It must hold a user's JWT and seed, as `nsc generate creds` writes them.")
    }
    guard let jwt = Self.framed("NATS USER JWT", in: text) else { throw fault("it holds no user JWT") }
    guard let seed = Self.framed("USER NKEY SEED", in: text) else {
      throw fault("it holds no user nkey seed")
    }
    do throws(NKeyFault) {
      key = try NKey(userSeed: seed)
    } catch {
      throw fault(error.why)
    }
    let parts = jwt.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let claims = Base64URL.decoded(parts[1]),
      let user = try? JSONDecoder().decode(Claims.self, from: claims)
    else { throw fault("its JWT cannot be read") }
    guard user.sub == key.publicText else { throw fault("its seed does not belong to its JWT") }
    self.jwt = jwt
  }

  private struct Claims: Decodable { var sub: String }

  /// The line between `-----BEGIN name-----` and the next line of dashes.
  private static func framed(_ name: String, in text: String) -> String? {
    let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    guard let begin = lines.firstIndex(where: { $0.hasPrefix("---") && $0.contains("BEGIN \(name)") }),
      let line = lines[(begin + 1)...].first(where: { !$0.isEmpty }), !line.hasPrefix("-")
    else { return nil }
    return line
  }
}

/// Reading the files of `auth:` and `tls:`.
enum SecurityFile {
  /// More than any file of keys or certificates has.
  private static let mostBytes = 16 << 20

  /// Makes sure that a file is there and can be read.
  static func check(_ key: SecurityFileKey, _ path: String) throws(SecurityFileError) {
    var facts = stat()
    guard stat(path, &facts) == 0, access(path, R_OK) == 0 else {
      throw SecurityFileError(
        key, path, why: String(cString: strerror(errno)),
        remedy: "Correct the path, or make the file readable for the user who runs this.")
    }
    guard facts.st_mode & S_IFMT != S_IFDIR, facts.st_size <= mostBytes else {
      throw SecurityFileError(
        key, path, why: facts.st_mode & S_IFMT == S_IFDIR ? "it is a folder" : "it is too large",
        remedy: "Name the file itself.")
    }
  }

  /// A file's text.
  static func text(_ key: SecurityFileKey, _ path: String) throws(SecurityFileError) -> String {
    try check(key, path)
    guard let data = FileManager.default.contents(atPath: path) else {
      throw SecurityFileError(key, path, why: "it cannot be read", remedy: "Correct the path.")
    }
    return String(decoding: data, as: UTF8.self)
  }
}

/// Base32 of RFC 4648 without padding, in which nkeys are written.
enum Base32 {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)

  static func encoded(_ bytes: some Sequence<UInt8>) -> String {
    var text: [UInt8] = []
    var bits: UInt32 = 0
    var count = 0
    for byte in bytes {
      bits = bits << 8 | UInt32(byte)
      count += 8
      while count >= 5 {
        count -= 5
        text.append(alphabet[Int(bits >> UInt32(count) & 31)])
      }
    }
    if count > 0 { text.append(alphabet[Int(bits << UInt32(5 - count) & 31)]) }
    return String(decoding: text, as: UTF8.self)
  }

  /// nil when a character is not of the alphabet.
  static func decoded(_ text: some StringProtocol) -> [UInt8]? {
    var bytes: [UInt8] = []
    var bits: UInt32 = 0
    var count = 0
    for character in text.utf8 {
      guard let value = alphabet.firstIndex(of: character) else { return nil }
      bits = bits << 5 | UInt32(value)
      count += 5
      if count >= 8 {
        count -= 8
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
      }
    }
    return bytes
  }
}

/// Base64 with `-` and `_` and without padding, in which JWTs and signatures are written.
enum Base64URL {
  static func encoded(_ bytes: some Sequence<UInt8>) -> String {
    Data(bytes).base64EncodedString().replacingOccurrences(of: "+", with: "-")
      .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
  }

  static func decoded(_ text: some StringProtocol) -> Data? {
    let plain = text.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
    return Data(base64Encoded: plain + String(repeating: "=", count: (4 - plain.utf8.count % 4) % 4))
  }
}

/// The checksum of nkeys: CRC-16/XMODEM.
enum CRC16 {
  static func of(_ bytes: some Sequence<UInt8>) -> UInt16 {
    var sum: UInt16 = 0
    for byte in bytes {
      sum ^= UInt16(byte) << 8
      for _ in 0..<8 { sum = sum & 0x8000 != 0 ? sum << 1 ^ 0x1021 : sum << 1 }
    }
    return sum
  }
}
