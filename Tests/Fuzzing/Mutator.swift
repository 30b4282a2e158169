import Engine

/// Makes inputs that are like the seeds: what stands in for libFuzzer in a run of seconds. The same seed makes the
/// same inputs.
package struct Mutator {
  private let seeds: [[UInt8]]
  private var random: SplitMix64

  /// Bytes of an input, at most.
  private static let mostBytes = 1 << 14
  private static let numbers = [
    "0", "-1", "1e308", "1e-308", "-0.0", "65536", "2147483648", "4294967296", "9223372036854775807",
    "9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999", "null",
    "true", "\"nan\"", "\"\"", "[]", "{}",
  ].map { Array($0.utf8) }

  package init(seeds: [[UInt8]], seed: UInt64) {
    self.seeds = seeds
    random = SplitMix64(seed: seed)
  }

  package mutating func next() -> [UInt8] {
    var bytes = seeds.randomElement(using: &random) ?? []
    for _ in 0..<Int.random(in: 1...4, using: &random) { change(&bytes) }
    return Array(bytes.prefix(Self.mostBytes))
  }

  private mutating func place(in bytes: [UInt8]) -> Int { Int.random(in: 0...bytes.count, using: &random) }

  /// A part of the bytes, mostly a short one.
  private mutating func part(of bytes: [UInt8]) -> Range<Int> {
    let start = place(in: bytes)
    let most = Bool.random(using: &random) ? 8 : bytes.count
    return start..<min(bytes.count, start + Int.random(in: 0...most, using: &random))
  }

  private mutating func change(_ bytes: inout [UInt8]) {
    switch Int.random(in: 0..<8, using: &random) {
    case 0 where !bytes.isEmpty:
      bytes[place(in: bytes) % bytes.count] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1 where !bytes.isEmpty:
      let byte = [0, 10, 13, 32, 34, 127, 128, 255, UInt8.random(in: 0...255, using: &random)]
      bytes[place(in: bytes) % bytes.count] = byte.randomElement(using: &random) ?? 0
    case 2: bytes.removeSubrange(part(of: bytes))
    case 3:
      let noise = (0..<Int.random(in: 1...8, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      bytes.insert(contentsOf: noise, at: place(in: bytes))
    case 4:
      let copied = bytes[part(of: bytes)]
      bytes.insert(contentsOf: copied, at: place(in: bytes))
    case 5: bytes.removeSubrange(place(in: bytes)...)
    case 6:
      let other = seeds.randomElement(using: &random) ?? []
      bytes.replaceSubrange(part(of: bytes), with: other[part(of: other)])
    default: replaceNumber(in: &bytes)
    }
  }

  /// Puts a number that is hard to read in the place of one that is there.
  private mutating func replaceNumber(in bytes: inout [UInt8]) {
    let isDigit = { (byte: UInt8) in byte >= 48 && byte <= 57 }
    let from = place(in: bytes)
    guard let start = bytes[from...].firstIndex(where: isDigit) else { return }
    let end = bytes[start...].firstIndex { !isDigit($0) } ?? bytes.count
    bytes.replaceSubrange(start..<end, with: Self.numbers.randomElement(using: &random) ?? [])
  }
}
