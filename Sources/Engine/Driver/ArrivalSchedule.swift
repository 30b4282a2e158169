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
