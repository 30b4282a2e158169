/// A histogram of latencies that can be merged, queried for percentiles, and stored.
///
/// 3 significant digits, 1 ns to 60 s; sum, least and greatest are exact.
package struct LatencyHistogram: Sendable, Equatable {
  /// One counter for each index of `HistogramGeometry`; empty until something is recorded.
  package internal(set) var counters: [UInt64] = []
  package internal(set) var count: UInt64 = 0
  /// Sum of all values, nanoseconds.
  package internal(set) var sumNanoseconds: UInt64 = 0
  /// Exact least value; 0 when empty.
  package internal(set) var leastNanoseconds: UInt64 = 0
  /// Exact greatest value; 0 when empty.
  package internal(set) var greatestNanoseconds: UInt64 = 0
  /// Values over 60 s, recorded as 60 s.
  package internal(set) var clampedCount: UInt64 = 0

  package init() {}

  package var isEmpty: Bool { count == 0 }

  /// The range from the first non-zero counter to the last.
  ///
  /// Derived from the counters alone: under load, least and greatest may be of another moment. In unoptimised
  /// code a loop over a sequence takes ten times as long, and reports query thousands of histograms.
  package var filled: Range<Int> {
    counters.withUnsafeBufferPointer { counters in
      var (start, end) = (0, counters.count)
      while end > start, counters[end - 1] == 0 { end -= 1 }
      while start < end, counters[start] == 0 { start += 1 }
      return start..<end
    }
  }

  /// Adds `times` equal values.
  package mutating func record(_ nanoseconds: UInt64, times: UInt64 = 1) {
    guard times > 0 else { return }
    reserve()
    let value = min(nanoseconds, HistogramGeometry.highestNanoseconds)
    if value < nanoseconds { clampedCount += times }
    counters[HistogramGeometry.index(of: value)] += times
    widen(least: nanoseconds, greatest: nanoseconds)
    count += times
    sumNanoseconds &+= nanoseconds &* times
  }

  /// Adds all values of another histogram.
  package mutating func merge(_ other: LatencyHistogram) {
    other.counters.withUnsafeBufferPointer {
      add(
        $0, at: other.filled, least: other.leastNanoseconds, greatest: other.greatestNanoseconds,
        sum: other.sumNanoseconds, clamped: other.clampedCount)
    }
  }

  /// Adds a histogram in raw memory, which may be invalid: a process may have died while recording, or a
  /// plugin may have overwritten it. Figures that contradict the counters are derived from them.
  package mutating func merge(_ raw: RawHistogram) {
    add(
      UnsafeBufferPointer(start: raw.words + 4, count: HistogramGeometry.usedCounterCount),
      at: 0..<HistogramGeometry.usedCounterCount,
      least: ~raw.words[1], greatest: raw.words[2], sum: raw.words[0], clamped: raw.words[3])
  }

  private mutating func add(
    _ others: UnsafeBufferPointer<UInt64>, at places: Range<Int>, least: UInt64, greatest: UInt64,
    sum: UInt64, clamped: UInt64
  ) {
    reserve()
    var added: UInt64 = 0
    var (first, last, lastCount) = (0, 0, UInt64(0))
    var place = places.lowerBound
    while place < places.upperBound {
      let here = others[place]
      if here > 0 {
        counters[place] &+= here
        if added == 0 { first = place }
        (last, lastCount) = (place, here)
        added &+= here
      }
      place += 1
    }
    guard added > 0 else { return }
    let (least, greatest) = (Self.fitting(least, first), Self.fitting(greatest, last))
    widen(least: least, greatest: greatest)
    count &+= added
    // The sum wraps at 64 bits, so a product that overflows bounds nothing.
    let (atLeast, leastOverflows) = least.multipliedReportingOverflow(by: added)
    let (atMost, greatestOverflows) = greatest.multipliedReportingOverflow(by: added)
    sumNanoseconds &+= leastOverflows || greatestOverflows ? sum : min(max(sum, atLeast), atMost)
    clampedCount &+= greatest > HistogramGeometry.highestNanoseconds ? min(clamped, lastCount) : 0
  }

  /// Returns an exact value if it belongs to that counter, otherwise the greatest value that does.
  private static func fitting(_ value: UInt64, _ index: Int) -> UInt64 {
    let highest = HistogramGeometry.highestNanoseconds
    return HistogramGeometry.index(of: min(value, highest)) == index
      ? value : min(HistogramGeometry.highestValue(at: index), highest)
  }

  /// The mean, nanoseconds; nil when empty.
  package var meanNanoseconds: Double? {
    count == 0 ? nil : Double(sumNanoseconds) / Double(count)
  }

  /// The value at a percentile (0-100), nanoseconds; nil when empty.
  ///
  /// The highest value of the counter that contains the percentile, limited to the exact greatest value
  /// (HdrHistogram's rule). Use `isPrintable` to check that enough samples lie beyond it.
  package func value(atPercentile percentile: Double) -> UInt64? {
    guard count > 0 else { return nil }
    // Two ulps less, so that 99.9 % of 10,000 is rank 9,990 although the product is slightly larger.
    let product = min(max(percentile, 0), 100) * Double(count) / 100
    let rank = max(1, UInt64(min((product - 2 * product.ulp).rounded(.up), 0x1p63)))
    var seen: UInt64 = 0
    for place in filled {
      seen &+= counters[place]
      if seen >= rank {
        return max(leastNanoseconds, min(HistogramGeometry.highestValue(at: place), greatestNanoseconds))
      }
    }
    return greatestNanoseconds
  }

  /// Whether at least 10 samples lie beyond the percentile, so that it may be printed.
  package func isPrintable(percentile: Double) -> Bool {
    Double(count) * (1 - percentile / 100) >= 10 - 1e-9
  }

  /// `value(atPercentile:)` if it may be printed, otherwise nil: an empty cell.
  package func printableValue(atPercentile percentile: Double) -> UInt64? {
    isPrintable(percentile: percentile) ? value(atPercentile: percentile) : nil
  }

  private mutating func reserve() {
    if counters.isEmpty {
      counters = [UInt64](repeating: 0, count: HistogramGeometry.counterCount)
    }
  }

  private mutating func widen(least: UInt64, greatest: UInt64) {
    leastNanoseconds = count == 0 ? least : min(leastNanoseconds, least)
    greatestNanoseconds = max(greatestNanoseconds, greatest)
  }
}

/// The mapping from values to counters: HdrHistogram's layout for 3 significant digits,
/// 1 ns to 60 s (Gil Tene, http://hdrhistogram.org).
///
/// The counts are one flat array of 27 half-buckets of 1,024 counters. A value below 2,048
/// has a counter of its own; above, a counter covers at most 1/1024 of its value.
package enum HistogramGeometry {
  /// Significant decimal digits.
  static let significantDigits = 3
  /// The smallest value that can be distinguished, nanoseconds.
  static let lowestNanoseconds: UInt64 = 1
  /// The greatest value that can be recorded, nanoseconds; a greater one is recorded as this.
  static let highestNanoseconds: UInt64 = 60_000_000_000
  static let counterCount = 27 * 1024
  /// The number of counters in use; those after them stay 0.
  static let usedCounterCount = index(of: highestNanoseconds) + 1

  /// The counter of a value, which must be at most `highestNanoseconds`.
  @inline(__always)
  package static func index(of value: UInt64) -> Int {
    let bucket = 53 &- (value | 2047).leadingZeroBitCount
    let sub = Int(truncatingIfNeeded: value &>> UInt64(truncatingIfNeeded: bucket))
    return (bucket &<< 10) &+ sub
  }

  /// The smallest value of this counter.
  package static func lowestValue(at index: Int) -> UInt64 {
    let bucket = max(0, (index >> 10) - 1)
    return UInt64(index - (bucket << 10)) << UInt64(bucket)
  }

  /// The greatest value of this counter.
  package static func highestValue(at index: Int) -> UInt64 {
    let bucket = max(0, (index >> 10) - 1)
    return lowestValue(at: index) + (1 << UInt64(bucket)) - 1
  }
}

/// A histogram in memory owned elsewhere, which the hot path records into.
///
/// One writer; readers in other processes may read at any time and see each counter whole. Layout, in 8-byte
/// words: sum, least, greatest, clamped, then the counters.
package struct RawHistogram: @unchecked Sendable {
  // @unchecked: a view of memory that outlives it; each histogram has one writing thread, and readers
  // tolerate counters of different ages.

  package static let wordCount = 4 + HistogramGeometry.counterCount
  package let words: UnsafeMutablePointer<UInt64>

  /// A view of `wordCount` words, which must be zero or contain a histogram.
  package init(words: UnsafeMutablePointer<UInt64>) { self.words = words }

  /// Adds one value in nanoseconds. Does not allocate.
  @inline(__always)
  package func record(_ nanoseconds: UInt64) {
    var value = nanoseconds
    if value > HistogramGeometry.highestNanoseconds {
      value = HistogramGeometry.highestNanoseconds
      words[3] &+= 1
    }
    words[0] &+= nanoseconds
    // The least value is stored inverted, so that zeroed memory is an empty histogram.
    if ~nanoseconds > words[1] { words[1] = ~nanoseconds }
    if nanoseconds > words[2] { words[2] = nanoseconds }
    words[4 &+ HistogramGeometry.index(of: value)] &+= 1
  }
}
