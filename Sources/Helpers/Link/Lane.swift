/// What a link does to the bytes that cross it, each way.
struct LinkShape: Sendable {
  /// What each byte is held back.
  var delayNanoseconds: Int64
  /// The delay is spread evenly from so much less to so much more.
  var jitterNanoseconds: Int64
  /// What a byte takes on the wire; nil when the bandwidth has no limit.
  var nanosecondsPerByte: Double?
  /// Seed of the jitter.
  var seed: UInt64
}

/// One direction of the link, shared by all its connections: says when bytes arrive at the far end.
struct Lane {
  private let shape: LinkShape
  /// When the wire has sent what it was given.
  private var wireFreeAt: Double = 0
  private var random: SplitMix64

  init(shape: LinkShape, salt: UInt64) {
    self.shape = shape
    random = SplitMix64(state: shape.seed &+ salt)
  }

  /// When bytes that came at a moment are due at the far end, ns of the monotonic clock.
  mutating func due(bytes: Int, cameAt now: Int64) -> Int64 {
    var sent = now
    if let perByte = shape.nanosecondsPerByte {
      wireFreeAt = max(wireFreeAt, Double(now)) + Double(bytes) * perByte
      sent = Int64(wireFreeAt.rounded(.up))
    }
    guard shape.jitterNanoseconds > 0 else { return sent + shape.delayNanoseconds }
    let jitter = Int64.random(in: -shape.jitterNanoseconds...shape.jitterNanoseconds, using: &random)
    return sent + shape.delayNanoseconds + jitter
  }
}

/// A small generator of random numbers, so that a seed gives the same jitter again.
private struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
