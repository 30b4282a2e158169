import Glibc

/// The reply subjects of one load thread: one inbox for each connection, and in the last part
/// the place of the session. Patched in place.
final class ReplySubject {
  private static let digits = 8
  private let texts: [UnsafeMutablePointer<CChar>]
  private let prefixCount: Int

  /// Subjects that no other thread, connection or run has; at most 65,535 connections.
  init(seed: UInt64, connections: Int) {
    let root = "_INBOX." + Self.hex(seed) + Self.hex(UInt64.random(in: .min ... .max))
    texts = (0..<connections).map {
      strdup("\(root).\(Self.hex(UInt64($0)).suffix(4))." + String(repeating: "0", count: Self.digits))
    }
    prefixCount = root.utf8.count + 6
  }

  deinit { texts.forEach { free($0) } }

  private static func hex(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }

  /// What the connection with that place subscribes to.
  func pattern(connection place: Int) -> String {
    String(decoding: prefix(connection: place), as: UTF8.self) + "*"
  }

  /// The 8 digits of a token, as they lie in memory.
  static func text(of token: UInt32) -> UInt64 {
    let digits = hex(UInt64(token)).utf8.suffix(Self.digits)
    return digits.reversed().reduce(0) { $0 << 8 | UInt64($1) }.littleEndian
  }

  /// What the reply subjects of a connection have before their token.
  func prefix(connection place: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: texts[place], count: prefixCount)
  }

  /// The token of a reply's subject; nil when it is not one of the connection's.
  @inline(__always)
  func token(in subject: UnsafeRawBufferPointer, connection place: Int) -> UInt32? {
    guard subject.count == prefixCount + Self.digits, let start = subject.baseAddress,
      memcmp(start, texts[place], prefixCount) == 0
    else { return nil }
    var token: UInt32 = 0
    for position in prefixCount..<prefixCount + Self.digits {
      let character = start.load(fromByteOffset: position, as: UInt8.self)
      switch character {
      case 48...57: token = token << 4 | UInt32(character - 48)
      case 97...102: token = token << 4 | UInt32(character - 87)
      default: return nil
      }
    }
    return token
  }
}
