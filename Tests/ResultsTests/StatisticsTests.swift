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

  @Test("no interval is given for under six replicates")
  func noIntervalOfFive() {
    #expect(Statistics.medianInterval([1, 2, 3, 4, 5]) == nil)
    #expect(Statistics.shiftInterval(from: [1, 2, 3, 4, 5], to: [1, 2, 3, 4, 5, 6]) == nil)
    #expect(Statistics.medianInterval([1, 2, 3, 4, 5, .nan]) == nil)
  }

  @Test(
    "the median's interval has the ranks that hold it with at least 95 %, also over all looks of a run",
    arguments: [(6, 1), (7, 1), (8, 1), (9, 1), (10, 2), (11, 2), (12, 3), (16, 3), (30, 8)])
  func medianRanks(count: Int, rank: Int) {
    let values = (1...count).map(Double.init).shuffled()
    #expect(
      Statistics.medianInterval(values) == Interval(low: Double(rank), high: Double(count + 1 - rank)))
    #expect(Statistics.signProbability(of: count, atMost: rank - 1) <= 0.05)
  }

  @Test("the shift's interval is that of R's wilcox.test")
  func shift() {
    // wilcox.test(b, a, conf.int = TRUE, exact = TRUE) of R 4.2.
    let a = [1.1, 2.2, 3.3, 4.4, 5.5, 6.6]
    let b = a.map { $0 + 10 }
    #expect(
      Statistics.shiftInterval(from: a, to: b).map { [$0.low, $0.high].map { ($0 * 10).rounded() } } == [
        67, 133,
      ])
  }

  @Test("the sign test is exact, and counts equal values for neither side")
  func signs() {
    #expect(close(Statistics.signTest([1, 2, 3, 4, 5, 6]), 0.03125))
    #expect(close(Statistics.signTest([1, 2, 3, 4, 5, -6]), 0.21875))
    #expect(Statistics.signTest([0, 0]) == 1)
    #expect(Statistics.signTest([]) == nil)
  }

  @Test("two modes are seen, and neither a tail nor a spread is taken for them")
  func modes() throws {
    let modes = try #require(Statistics.modes([4.4, 14.8, 4.5, 4.6, 14.5, 4.5]))
    #expect(modes.map(\.count) == [4, 2])
    #expect(close(modes[0].value, 4.5) && modes[1].value > 14.5)
    #expect(Statistics.modes([4.4, 4.5, 4.6, 4.5, 4.4, 40]) == nil)
    #expect(Statistics.modes([1, 2, 3, 4, 5, 6]) == nil)
    #expect(Statistics.modes([1, 1, 1, 9, 9]) == nil)
  }

  @Test("a trend is found with Kendall's p and Theil and Sen's slope")
  func trends() throws {
    let rising = try #require(Statistics.trend([[3, 1, 2, 5, 4, 7, 8, 6]]))
    #expect(close(rising.pValue, 0.03544789255246076))
    #expect(close(rising.relativeChange, 0.9166666666666667 * 7 / 4.5))
    let falling = try #require(Statistics.trend([[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]))
    #expect(close(falling.pValue, 8.303070332644999e-05))
    let tied = try #require(Statistics.trend([[1, 2, 2, 3, 3, 3, 5, 6, 4, 7]]))
    #expect(close(tied.pValue, 0.001031538779879036))
    #expect(Statistics.trend([[4, 4, 4, 4]])?.pValue == 1)
    #expect(Statistics.trend([[1, 2, 3]]) == nil)
  }

  @Test("a trend that replicates share adds up, and those that contradict each other cancel")
  func sharedTrends() throws {
    let rising = [1.0, 2, 3, 5, 4, 6]
    let shared = try #require(Statistics.trend([rising, rising, rising]))
    let one = try #require(Statistics.trend([rising]))
    #expect(shared.pValue < one.pValue / 100)
    let contrary = try #require(Statistics.trend([rising, rising.reversed()]))
    #expect(contrary.pValue == 1)
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
}
