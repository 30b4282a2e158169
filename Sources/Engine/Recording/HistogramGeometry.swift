/// Where a value lies in a histogram: HdrHistogram's layout for 3 significant digits,
/// 1 ns to 60 s (Gil Tene, http://hdrhistogram.org).
///
/// The counts are one flat array of 27 half-buckets of 1,024 counters. A value below 2,048
/// has a counter of its own; above, a counter covers at most 1/1024 of its value.
package enum HistogramGeometry {
  /// Significant decimal digits.
  package static let significantDigits = 3
  /// Smallest value that is told apart, nanoseconds.
  package static let lowestNanoseconds: UInt64 = 1
  /// Greatest value that is recorded, nanoseconds; a greater one is recorded as this.
  package static let highestNanoseconds: UInt64 = 60_000_000_000
  /// Counters of one histogram.
  package static let counterCount = 27 * 1024

  /// The counter of a value; the value must be at most `highestNanoseconds`.
  @inline(__always)
  package static func index(of value: UInt64) -> Int {
    let bucket = 53 &- (value | 2047).leadingZeroBitCount
    let sub = Int(truncatingIfNeeded: value &>> UInt64(truncatingIfNeeded: bucket))
    return (bucket &<< 10) &+ sub
  }

  /// The smallest value that has this counter.
  package static func lowestValue(at index: Int) -> UInt64 {
    let bucket = max(0, (index >> 10) - 1)
    return UInt64(index - (bucket << 10)) << UInt64(bucket)
  }

  /// The greatest value that has this counter.
  package static func highestValue(at index: Int) -> UInt64 {
    let bucket = max(0, (index >> 10) - 1)
    return lowestValue(at: index) + (1 << UInt64(bucket)) - 1
  }
}
