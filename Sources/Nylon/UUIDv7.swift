/// Makes request ids: UUIDs of version 7 (RFC 9562), as two words, without allocating. One maker never gives the same
/// id twice within 2^32 calls, and its ids of one millisecond rise: the 12 bits after the time and the 20 highest
/// random bits are a counter, the other 42 come from the seed.
package struct UUIDv7: Sendable {
  @usableFromInline let seed: UInt64
  /// The number that the next id has: 0 for the first.
  package var nextNumber: UInt32 = 0

  /// A maker; makers that run side by side need different seeds.
  package init(seed: UInt64) { self.seed = seed }

  /// Which of this maker's ids it is, from 0; nil when the maker never gave it. Reckoned from
  /// the seed, nothing is kept of ids given; of 2^32 ids or more the last ones count.
  package func number(high: UInt64, low: UInt64) -> UInt32? {
    guard high & 0xf000 == 0x7000, low >> 62 == 0b10 else { return nil }
    let number = UInt32(truncatingIfNeeded: (high & 0xfff) << 20 | (low >> 42) & 0xf_ffff)
    guard number < nextNumber else { return nil }
    return random(UInt64(number)) == low & 0x3ff_ffff_ffff ? number : nil
  }

  /// The next id, most significant word first.
  @inlinable @inline(__always)
  package mutating func next(timestampMilliseconds: UInt64) -> (high: UInt64, low: UInt64) {
    let counter = UInt64(nextNumber)
    nextNumber &+= 1
    let high = (timestampMilliseconds << 16) | 0x7000 | (counter >> 20)
    let low = (0b10 << 62) | ((counter & 0xf_ffff) << 42) | random(counter)
    return (high, low)
  }

  /// 42 bits of splitmix64: fast, and every seed is a good one.
  @inlinable @inline(__always)
  func random(_ number: UInt64) -> UInt64 {
    var word = seed &+ (number &+ 1) &* 0x9e37_79b9_7f4a_7c15
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return (word ^ (word >> 31)) & 0x3ff_ffff_ffff
  }
}

/// The text of a UUID: 32 hexadecimal digits, lower-case, with four dashes between.
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

  /// The id of a text; nil when it is none, or has capital letters.
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
      // The low word fills from the 17th digit on, which stands behind the third dash.
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

/// A request that a handler is about to see, as a worker notes it in the ledger of its pool: a record of 32 bytes, as
/// they lie in memory.
package struct HandledRequest: Equatable, Sendable, BitwiseCopyable {
  package var id: RequestWords
  /// Monotonic nanoseconds.
  package var time: UInt64
  /// The worker's process.
  package var worker: Int32
  /// The phase's number.
  package var phase: UInt32

  package init(id: RequestWords, time: UInt64, worker: Int32, phase: Phase) {
    (self.id, self.time, self.worker, self.phase) = (id, time, worker, UInt32(phase.rawValue))
  }

  package static let byteCount = MemoryLayout<HandledRequest>.stride
  /// The environment variable that tells a worker the descriptor of the ledger.
  package static let variable = "NYLON_LEDGER_FD"
}
