import Foundation
import Scenario

/// When the requests of an open load are wanted: a pure sequence of times.
///
/// Several threads share a rate: each has its own schedule at its part of the rate. Poisson
/// arrivals of all threads together are Poisson again; uniform ones interleave.
package struct ArrivalSchedule: Sendable {
  private let meanGapNanoseconds: Double
  private let arrivals: Arrivals
  private var random: SplitMix64
  private var exactNanoseconds: Double

  /// A schedule that starts at 0.
  ///
  /// - Parameters:
  ///   - ratePerSecond: requests a second of all threads together.
  ///   - thread: which thread's part, from 0.
  ///   - threads: how many share the rate.
  package init(
    ratePerSecond: Double, arrivals: Arrivals, seed: UInt64, thread: Int = 0, threads: Int = 1
  ) {
    let gap = 1e9 / ratePerSecond
    meanGapNanoseconds = gap * Double(threads)
    self.arrivals = arrivals
    random = SplitMix64(seed: seed &+ UInt64(thread) &* 0x9E37_79B9)
    // next() adds a gap before it answers, so uniform starts one gap early.
    exactNanoseconds = arrivals == .uniform ? gap * Double(thread) - meanGapNanoseconds : 0
  }

  /// The next request's time, nanoseconds after the start.
  @inline(__always)
  package mutating func next() -> UInt64 {
    switch arrivals {
    case .uniform: exactNanoseconds += meanGapNanoseconds
    case .poisson:
      // 53 random bits in (0, 1]: the logarithm is finite.
      exactNanoseconds -= log(Double((random.next() >> 11) + 1) * 0x1p-53) * meanGapNanoseconds
    }
    // The first uniform one may lie a rounding error below 0.
    return UInt64(exactNanoseconds)
  }
}

/// A small, fast, seeded generator, the same everywhere (SplitMix64; Steele, Lea, Flood 2014;
/// https://prng.di.unimi.it/splitmix64.c).
package struct SplitMix64: RandomNumberGenerator, Sendable {
  var state: UInt64

  /// A generator; equal seeds give equal numbers.
  package init(seed: UInt64) { state = seed }

  /// The next 64 bits.
  @inline(__always)
  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
