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
  private let gaps = ExponentialTable.shared

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
    case .poisson: exactNanoseconds += gaps.next(&random) * meanGapNanoseconds
    }
    // The first uniform one may lie a rounding error below 0.
    return UInt64(exactNanoseconds)
  }
}

/// Draws from the exponential distribution of mean 1 without a logarithm: the ziggurat (Marsaglia and Tsang
/// 2000, J. Stat. Soft. 5(8)), with bits of its own for the layer (Doornik 2005).
///
/// The density lies in 256 layers of the same area. A point of a layer that lies under the density whatever its
/// height, 99 of 100, is taken at once; the exact distribution comes out of the rest.
struct ExponentialTable: @unchecked Sendable {
  // @unchecked: written once, before anybody has it, and never given back.

  private static let layers = 256
  /// Where the tail begins, and the area of each layer; both from the paper, for 256 layers.
  private static let tailStart = 7.697_117_470_131_05
  private static let layerArea = 0.003_949_659_822_581_557

  /// The one table.
  static let shared = ExponentialTable()

  /// Widths of the layers from the lowest up, and 0; the lowest is as wide as a box of its area would be.
  private let widths: UnsafePointer<Double>
  /// The density at each width.
  private let heights: UnsafePointer<Double>

  private init() {
    let widths = UnsafeMutablePointer<Double>.allocate(capacity: Self.layers + 1)
    let heights = UnsafeMutablePointer<Double>.allocate(capacity: Self.layers + 1)
    widths.initialize(repeating: 0, count: Self.layers + 1)
    heights.initialize(repeating: 1, count: Self.layers + 1)
    widths[0] = Self.layerArea * exp(Self.tailStart)
    widths[1] = Self.tailStart
    for layer in 2..<Self.layers {
      let below = widths[layer - 1]
      widths[layer] = -log(exp(-below) + Self.layerArea / below)
    }
    for layer in 0..<Self.layers { heights[layer] = exp(-widths[layer]) }
    self.widths = UnsafePointer(widths)
    self.heights = UnsafePointer(heights)
  }

  /// The next number.
  @inline(__always)
  func next(_ random: inout SplitMix64) -> Double {
    let bits = random.next()
    let layer = Int(bits & 0xFF)
    let value = Double(Int64(bits >> 11)) * 0x1p-53 * widths[layer]
    return value < widths[layer + 1] ? value : edge(value, layer, &random)
  }

  /// A point that may lie over the density.
  @inline(never)
  private func edge(_ value: Double, _ layer: Int, _ random: inout SplitMix64) -> Double {
    var (value, layer) = (value, layer)
    while true {
      // The tail of an exponential distribution is the distribution itself, further out.
      if layer == 0 { return Self.tailStart - log(Self.uniform(&random)) }
      let height = heights[layer] + (heights[layer + 1] - heights[layer]) * Self.uniform(&random)
      if height < exp(-value) { return value }
      let bits = random.next()
      layer = Int(bits & 0xFF)
      value = Double(Int64(bits >> 11)) * 0x1p-53 * widths[layer]
      if value < widths[layer + 1] { return value }
    }
  }

  /// 53 random bits in (0, 1]: the logarithm is finite.
  private static func uniform(_ random: inout SplitMix64) -> Double {
    Double((random.next() >> 11) + 1) * 0x1p-53
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
