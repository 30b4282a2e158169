import Engine
import Foundation

/// A moment in whole seconds UTC, so that it is the same after it was stored and read again.
package struct UTCSecond: Codable, Sendable, Equatable, Comparable, CustomStringConvertible {
  /// Seconds since 1970-01-01T00:00:00Z.
  package var epochSeconds: Int

  /// The second of a date, now unless told.
  package init(_ date: Date = Date()) {
    let seconds = date.timeIntervalSince1970.rounded(.down)
    epochSeconds = Int(exactly: seconds) ?? 0
  }

  /// A second since 1970.
  package init(epochSeconds: Int) { self.epochSeconds = epochSeconds }

  /// Such as `2026-11-22T05:04:20Z`.
  package var description: String { formatted("%Y-%m-%dT%H:%M:%SZ") }

  /// Such as `20261122T050420Z`, for names of folders.
  package var compact: String { formatted("%Y%m%dT%H%M%SZ") }

  /// Earlier is less.
  package static func < (lhs: UTCSecond, rhs: UTCSecond) -> Bool { lhs.epochSeconds < rhs.epochSeconds }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    let numbers = text.split(whereSeparator: { "-T:Z".contains($0) }).map { Int32($0) ?? 0 }
    var parts = tm()
    if numbers.count == 6 {
      (parts.tm_year, parts.tm_mon) = (numbers[0] &- 1900, numbers[1] &- 1)
      (parts.tm_mday, parts.tm_hour) = (numbers[2], numbers[3])
      (parts.tm_min, parts.tm_sec) = (numbers[4], numbers[5])
    }
    epochSeconds = timegm(&parts)
    // What is not exactly such a time comes out as another one.
    guard description == text else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "'\(text)' is not a time such as 2026-11-22T05:04:20Z")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }

  private func formatted(_ format: String) -> String {
    var seconds = time_t(epochSeconds)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var bytes = [CChar](repeating: 0, count: 64)
    let length = strftime(&bytes, bytes.count, format, &parts)
    return String(decoding: bytes.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
