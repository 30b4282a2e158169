import Engine
import COpenSSL
import Foundation

/// SHA-256 (FIPS 180-4) as lower-case hexadecimal text, by OpenSSL.
package enum SHA256Text {
  /// The hash of bytes.
  package static func of(_ bytes: some Sequence<UInt8>) -> String {
    let input = Array(bytes)
    var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
    _ = COpenSSL.SHA256(input, input.count, &digest)
    return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// The hash of a text's UTF-8 bytes.
  package static func of(_ text: String) -> String { of(text.utf8) }

  /// The hash of a file's bytes; nil when it cannot be read.
  package static func ofFile(_ path: String) -> String? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return of(data)
  }
}
