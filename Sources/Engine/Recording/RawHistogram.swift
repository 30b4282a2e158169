/// A histogram in memory that somebody else owns: what the hot path records into.
///
/// One writer; readers in other processes may look at any time and see counters that are
/// each whole. Layout, in 8-byte words: sum, least, greatest, clamped, then the counters.
package struct RawHistogram: @unchecked Sendable {
  // @unchecked: a view on memory that outlives it; each histogram has one writing thread,
  // and readers tolerate counters of different age.

  /// Words of one histogram.
  package static let wordCount = 4 + HistogramGeometry.counterCount
  /// The words.
  package let words: UnsafeMutablePointer<UInt64>

  /// A view on `wordCount` words, which must be zero or hold a histogram.
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
    // Least is kept inverted, so that zeroed memory is an empty histogram.
    if ~nanoseconds > words[1] { words[1] = ~nanoseconds }
    if nanoseconds > words[2] { words[2] = nanoseconds }
    words[4 &+ HistogramGeometry.index(of: value)] &+= 1
  }

  /// A copy as a value.
  package func snapshot() -> LatencyHistogram {
    var histogram = LatencyHistogram()
    histogram.merge(self)
    return histogram
  }
}
