import Testing

import Lab

@testable import Engine
@testable import Report
@testable import Results

private func close(_ a: Double?, _ b: Double, within: Double = 1e-9) -> Bool {
  guard let a else { return false }
  return abs(a - b) <= within * max(1, abs(b))
}

// Expected values are those of scipy 1.17.
@Suite("Statistics")
struct StatisticsTests {
  @Test("the median is the middle, or the mean of the middle two")
  func medians() {
    #expect(Statistics.median([]) == nil)
    #expect(Statistics.median([3, 1, 2]) == 2)
    #expect(Statistics.median([4, 1, 2, 3]) == 2.5)
  }

  @Test("no interval is given for under three replicates")
  func noIntervalOfTwo() {
    #expect(Statistics.bootstrapMedian([1, 2]) == nil)
    #expect(Statistics.pairedRatio(a: [1, 2], b: [2, 4])?.interval == nil)
    #expect(Statistics.pairedRatio(a: [1, 2], b: [2, 4])?.ratio == 2)
    #expect(Statistics.unpairedRatio(a: [1, 2], b: [2, 4, 6])?.interval == nil)
  }

  @Test("a bootstrap is the same each time, and of few replicates is their range")
  func bootstraps() throws {
    let five = [10.0, 12, 11, 15, 9]
    #expect(Statistics.bootstrapMedian(five) == Interval(low: 9, high: 15))
    let many = (0..<101).map(Double.init)
    let interval = try #require(Statistics.bootstrapMedian(many, seed: 7))
    #expect(interval == Statistics.bootstrapMedian(many, seed: 7))
    #expect(interval != Statistics.bootstrapMedian([0] + many, seed: 7))
    // The binomial ranks of 101 values are 41 and 61.
    #expect(abs(interval.low - 40) <= 2 && abs(interval.high - 60) <= 2)
    #expect(Statistics.rangeCoverage(5) == 0.9375)
  }

  @Test("a paired ratio is the median of ratios, not the ratio of medians")
  func ratios() throws {
    let paired = try #require(Statistics.pairedRatio(a: [1, 10, 100], b: [3, 20, 100]))
    #expect(paired.ratio == 2)
    #expect(paired.interval == Interval(low: 1, high: 3))
    #expect(Statistics.unpairedRatio(a: [1, 10, 100], b: [3, 20, 100])?.ratio == 2)
    #expect(Statistics.pairedRatio(a: [0, 1], b: [1, 1]) == nil)
    #expect(Statistics.pairedRatio(a: [1], b: [1, 1]) == nil)
    #expect(Statistics.pairedRatio(a: [], b: []) == nil)
  }

  @Test("Mann and Whitney's p is exact for few values, and corrected for ties")
  func mannWhitney() {
    #expect(close(Statistics.mannWhitney([1, 2, 3], [4, 5, 6]), 0.1))
    #expect(close(Statistics.mannWhitney([1.1, 2.2, 3.3, 9], [4, 5, 6, 7, 8]), 0.2857142857142857))
    #expect(close(Statistics.mannWhitney([19, 22, 16, 29, 24], [20, 11, 17, 12]), 0.1111111111111111))
    #expect(close(Statistics.mannWhitney([1, 2, 2, 3, 5], [2, 4, 4, 6, 7]), 0.13756389390990328))
    let a = stride(from: 0.0, to: 60, by: 2).map { $0 }
    let b = stride(from: 8.0, to: 57, by: 3).map { $0 }
    #expect(close(Statistics.mannWhitney(a, b), 0.579816093809215))
    #expect(Statistics.mannWhitney([5, 5], [5, 5]) == 1)
    #expect(Statistics.mannWhitney([], [1]) == nil)
  }

  @Test("a trend is found with Kendall's p and Theil and Sen's slope")
  func trends() throws {
    let rising = try #require(Statistics.trend([3, 1, 2, 5, 4, 7, 8, 6]))
    #expect(close(rising.pValue, 0.03115079365079365))
    #expect(close(rising.relativeChange, 0.9166666666666667 * 7 / 4.5))
    let falling = try #require(Statistics.trend([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]))
    #expect(close(falling.pValue, 5.511463844797178e-07))
    let tied = try #require(Statistics.trend([1, 2, 2, 3, 3, 3, 5, 6, 4, 7]))
    #expect(close(tied.pValue, 0.001031538779879036))
    #expect(Statistics.trend([4, 4, 4, 4])?.pValue == 1)
    #expect(Statistics.trend([1, 2, 3]) == nil)
  }

  @Test(
    "the ranks around a percentile are the binomial's",
    arguments: [
      (1000, 50, 469, 532), (1000, 99, 983, 997), (100, 50, 40, 61), (40, 50, 14, 27),
      (1_000_000, 99, 989_805, 990_196), (500, 99, 490, 500), (6, 50, 1, 6),
    ] as [(UInt64, Double, UInt64, UInt64)])
  func ranks(count: UInt64, percentile: Double, low: UInt64, high: UInt64) throws {
    let ranks = try #require(Statistics.percentileRanks(count: count, percentile: percentile))
    #expect(ranks.low == low)
    #expect(ranks.high == high)
  }

  @Test("a percentile's interval lies around it, and is missing when samples are too few")
  func percentileIntervals() throws {
    var histogram = LatencyHistogram()
    for value in 1...1000 as ClosedRange<UInt64> { histogram.record(value) }
    #expect(Statistics.percentileInterval(histogram, percentile: 50) == Interval(low: 469, high: 532))
    #expect(Statistics.percentileInterval(histogram, percentile: 99.9) == nil)
    #expect(Statistics.percentileInterval(LatencyHistogram(), percentile: 50) == nil)
  }

  @Test(
    "a percentile is the sample of the least rank that has that share at or below it",
    arguments: [(99.9, 999), (99, 990), (50, 500), (99.99, 1000), (0, 1), (100, 1000)] as [(Double, UInt64)])
  func nearestRank(percentile: Double, value: UInt64) {
    var histogram = LatencyHistogram()
    for value in 1...1000 as ClosedRange<UInt64> { histogram.record(value) }
    #expect(histogram.value(atPercentile: percentile) == value)
    var large = LatencyHistogram()
    large.record(1, times: 9990)
    large.record(2, times: 10)
    #expect(large.value(atPercentile: 99.9) == 1)
    #expect(large.value(atPercentile: 99.91) == 2)
  }

  @Test("the throughput's interval is the t-interval over windows")
  func throughput() throws {
    let windows = [100, 110, 90, 105, 95].enumerated().map { place, completed in
      MeasurementWindow(
        startSeconds: Double(place), durationSeconds: 1, completed: completed, p50Nanoseconds: nil,
        p99Nanoseconds: nil, maxNanoseconds: nil)
    }
    let interval = try #require(Statistics.throughputInterval(windows))
    #expect(close(interval.low, 90.18378419261222))
    #expect(close(interval.high, 109.81621580738778))
    #expect(Statistics.throughputInterval(Array(windows.prefix(2))) == nil)
  }

  @Test("Little's law compares throughput times response time with the requests in flight")
  func little() {
    #expect(
      Statistics.littleDeviation(
        inFlight: 64, throughputPerSecond: 32_000, meanResponseNanoseconds: 2_100_000) == 1.05 - 1)
    #expect(
      Statistics.littleDeviation(inFlight: 0, throughputPerSecond: 1, meanResponseNanoseconds: 1) == nil)
  }

  @Test("the distributions are those of scipy")
  func distributions() {
    #expect(close(Distributions.incompleteBeta(0.3, 2.5, 3.5), 0.29675298929566646))
    #expect(close(Distributions.incompleteBeta(0.3334, 1e6, 2e6), 0.5968015448900887, within: 1e-7))
    #expect(close(Distributions.studentQuantile(0.975, degrees: 9), 2.262157162798205))
    #expect(close(Distributions.studentQuantile(0.025, degrees: 2), -4.302652729749462))
  }
}
