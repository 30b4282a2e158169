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
