import Foundation
import Scenario
import Testing

@testable import Engine

@Suite struct ScheduleTests {
  private func times(_ schedule: ArrivalSchedule, count: Int) -> [UInt64] {
    var schedule = schedule
    return (0..<count).map { _ in schedule.next() }
  }

  @Test func uniformArrivalsAreExact() {
    let schedule = ArrivalSchedule(ratePerSecond: 1000, arrivals: .uniform, seed: 1)
    #expect(times(schedule, count: 10_000) == (0..<10_000).map { $0 * 1_000_000 })
  }

  @Test func uniformArrivalsOfAnOddRateStayExactForLong() {
    let all = times(ArrivalSchedule(ratePerSecond: 44_111, arrivals: .uniform, seed: 1), count: 1_000_001)
    for place in stride(from: 0, through: 1_000_000, by: 1000) {
      let exact = Double(place) * 1e9 / 44_111
      #expect(abs(Double(all[place]) - exact) < 2)
    }
  }

  @Test func threadsInterleaveUniformArrivals() {
    let together = (0..<4).flatMap { thread in
      times(
        ArrivalSchedule(ratePerSecond: 1000, arrivals: .uniform, seed: 1, thread: thread, threads: 4),
        count: 100)
    }
    #expect(together.sorted() == (0..<400).map { $0 * 1_000_000 })
  }

  @Test func equalSeedsGiveEqualTimesAndOthersDoNot() {
    func poisson(_ seed: UInt64, thread: Int = 0) -> [UInt64] {
      times(
        ArrivalSchedule(ratePerSecond: 1000, arrivals: .poisson, seed: seed, thread: thread, threads: 2),
        count: 100)
    }
    #expect(poisson(1) == poisson(1))
    #expect(poisson(1) != poisson(2))
    #expect(poisson(1) != poisson(1, thread: 1))
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func poissonGapsAreExponential(seed: UInt64) {
    let count = 20_000
    let all = times(ArrivalSchedule(ratePerSecond: 1000, arrivals: .poisson, seed: seed), count: count)
    let gaps = zip(all, [0] + all).map { Double($0 - $1) / 1e6 }.sorted()
    // The mean's standard error is 1 / sqrt(20,000) = 0.7 %; four of them.
    #expect(abs(gaps.reduce(0, +) / Double(count) - 1) < 0.0283)
    #expect(largestDistance(gaps) < 1.95 / Double(count).squareRoot())
  }

  @Test("The exponential tail is there in the right measure")
  func tails() {
    let count = 4_000_000
    var schedule = ArrivalSchedule(ratePerSecond: 1000, arrivals: .poisson, seed: 11)
    var before: UInt64 = 0
    var beyond = [Int](repeating: 0, count: 12)
    var sum = 0.0
    for _ in 0..<count {
      let time = schedule.next()
      let gap = Double(time - before) / 1e6
      before = time
      sum += gap
      for place in 0..<min(12, Int(gap) + 1) { beyond[place] += 1 }
    }
    // Four standard errors of the mean, and of each count.
    #expect(abs(sum / Double(count) - 1) < 4 / Double(count).squareRoot())
    for place in 1..<12 {
      let wanted = Double(count) * exp(-Double(place))
      #expect(abs(Double(beyond[place]) - wanted) < 4 * wanted.squareRoot())
    }
  }

  @Test func poissonArrivalsOfAllThreadsTogetherAreExponentialToo() {
    let count = 5000
    let together = (0..<4).flatMap { thread in
      times(
        ArrivalSchedule(ratePerSecond: 1000, arrivals: .poisson, seed: 9, thread: thread, threads: 4),
        count: 2 * count)
    }.sorted().prefix(4 * count)
    let gaps = zip(together.dropFirst(), together).map { Double($0 - $1) / 1e6 }.sorted()
    #expect(largestDistance(gaps) < 1.95 / Double(gaps.count).squareRoot())
  }

  /// Kolmogorov and Smirnov's distance from the exponential distribution of mean 1; over
  /// 1.95 / sqrt(n) in one of a thousand honest samples.
  private func largestDistance(_ sorted: [Double]) -> Double {
    let count = Double(sorted.count)
    return sorted.enumerated().reduce(0) { most, element in
      let wanted = 1 - exp(-element.element)
      let place = Double(element.offset)
      return max(most, abs(wanted - place / count), abs((place + 1) / count - wanted))
    }
  }
}

@Suite("Naps before a deadline") struct NapTests {
  @Test("Each sleep ends early, the last one by the margin, and the last stretch is not slept")
  func ladder() {
    let deadline: UInt64 = 10_000_000
    var now: UInt64 = 1_000_000
    var sleeps: [UInt64] = []
    while let end = Nap.end(before: deadline, now: now) {
      #expect(end > now && end <= deadline - Nap.margin)
      sleeps.append(end)
      now = end
    }
    #expect(sleeps == [deadline - Nap.shortNanoseconds, deadline - Nap.margin])
  }

  @Test("A first sleep that ends late shortens the second, and one that ends too late leaves none")
  func lateWakes() {
    #expect(Nap.end(before: 1_000_000, now: 900_000) == 940_000)
    #expect(Nap.end(before: 1_000_000, now: 945_000) == nil)
    #expect(Nap.end(before: 1_000_000, now: 2_000_000) == nil)
  }
}
