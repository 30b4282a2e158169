/// Generates request ids, UUIDs of version 7 (RFC 9562), as two words without allocating. A generator does
/// not repeat an id within 2^32 calls, and its ids ascend within a millisecond: the 12 bits after the
/// timestamp and the 20 highest random bits are a counter, and the other 42 bits derive from the seed.
package struct UUIDv7: Sendable {
  @usableFromInline let seed: UInt64
  /// The counter value of the next id, starting at 0.
  package var nextNumber: UInt32 = 0

  /// Creates a generator; generators that run in parallel need different seeds.
  package init(seed: UInt64) { self.seed = seed }

  /// Returns the position of an id in this generator's sequence, from 0, or nil if the id is not from this
  /// generator. The position is derived from the seed, without storing ids; after 2^32 ids it refers to the
  /// most recent ones.
  package func number(high: UInt64, low: UInt64) -> UInt32? {
    guard high & 0xf000 == 0x7000, low >> 62 == 0b10 else { return nil }
    let number = UInt32(truncatingIfNeeded: (high & 0xfff) << 20 | (low >> 42) & 0xf_ffff)
    guard number < nextNumber else { return nil }
    return random(UInt64(number)) == low & 0x3ff_ffff_ffff ? number : nil
  }

  /// Returns the next id, most significant word first.
  @inlinable @inline(__always)
  package mutating func next(timestampMilliseconds: UInt64) -> (high: UInt64, low: UInt64) {
    let counter = UInt64(nextNumber)
    nextNumber &+= 1
    let high = (timestampMilliseconds << 16) | 0x7000 | (counter >> 20)
    let low = (0b10 << 62) | ((counter & 0xf_ffff) << 42) | random(counter)
    return (high, low)
  }

  /// Returns 42 bits of splitmix64, which is fast and accepts any seed.
  @inlinable @inline(__always)
  func random(_ number: UInt64) -> UInt64 {
    var word = seed &+ (number &+ 1) &* 0x9e37_79b9_7f4a_7c15
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return (word ^ (word >> 31)) & 0x3ff_ffff_ffff
  }
}

/// The text of a UUID: 32 lowercase hexadecimal digits with four dashes.
package enum UUIDText {
  package static let byteCount = 36

  /// Writes `byteCount` bytes.
  @inline(__always)
  package static func write(_ id: (high: UInt64, low: UInt64), to place: UnsafeMutableRawPointer) {
    var at = place
    for digit in 0..<32 {
      if digit == 8 || digit == 12 || digit == 16 || digit == 20 {
        at.storeBytes(of: 45, as: UInt8.self)
        at += 1
      }
      let word = digit < 16 ? id.high : id.low
      let value = UInt8(truncatingIfNeeded: word >> UInt64(60 - 4 * (digit & 15))) & 15
      at.storeBytes(of: value < 10 ? 48 + value : 87 + value, as: UInt8.self)
      at += 1
    }
  }

  /// Parses the text of a UUID; returns nil if it is invalid or has uppercase letters.
  package static func id(_ text: UnsafeRawBufferPointer) -> (high: UInt64, low: UInt64)? {
    guard text.count == byteCount else { return nil }
    var (high, low): (UInt64, UInt64) = (0, 0)
    for place in 0..<byteCount {
      let character = text[place]
      if place == 8 || place == 13 || place == 18 || place == 23 {
        guard character == 45 else { return nil }
        continue
      }
      let value: UInt8
      switch character {
      case 48...57: value = character - 48
      case 97...102: value = character - 87
      default: return nil
      }
      // The low word starts at the 17th digit, which follows the third dash.
      if place < 19 { high = high << 4 | UInt64(value) } else { low = low << 4 | UInt64(value) }
    }
    return (high, low)
  }
}

/// The two words of a request's id, most significant first.
package struct RequestWords: Hashable, Sendable, BitwiseCopyable {
  package var high: UInt64
  package var low: UInt64

  package init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }
}

/// A record of 32 bytes, in memory layout, that a worker appends to the ledger of its pool before a handler
/// runs.
package struct HandledRequest: Equatable, Sendable, BitwiseCopyable {
  package var id: RequestWords
  /// Monotonic nanoseconds.
  package var time: UInt64
  /// The process id of the worker.
  package var worker: Int32
  /// The number of the phase.
  package var phase: UInt32

  package init(id: RequestWords, time: UInt64, worker: Int32, phase: Phase) {
    (self.id, self.time, self.worker, self.phase) = (id, time, worker, UInt32(phase.rawValue))
  }

  package static let byteCount = MemoryLayout<HandledRequest>.stride
  /// The environment variable that passes the ledger's descriptor to a worker.
  package static let variable = "NYLON_LEDGER_FD"
}
