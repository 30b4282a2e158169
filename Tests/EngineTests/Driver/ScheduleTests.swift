import Foundation
import Testing

@testable import Scenario
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

  @Test("Times drawn ahead, at any moment, are those of the schedule", arguments: [0, 1, 5, 60, 3000])
  func drawnAhead(turns: Int) {
    let schedule = ArrivalSchedule(ratePerSecond: 1000, arrivals: .poisson, seed: 3)
    var drawn = DrawnArrivals(schedule, start: 7)
    defer { drawn.deallocate() }
    var random = SplitMix64(seed: 1)
    let all = (0..<4_000).map { _ in
      for _ in 0..<(turns == 0 ? 0 : random.next() % UInt64(turns)) { drawn.drawAhead() }
      return drawn.next()
    }
    #expect(all == times(schedule, count: 4_000).map { $0 + 7 })
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

  @Test("The exponential tail has the right size")
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

@Suite("The schedule of a ramp") struct RampScheduleTests {
  private func times(_ ramp: Ramp, warmup: Double = 0, seed: UInt64 = 1, thread: Int = 0, threads: Int = 1)
    throws
    -> [UInt64]
  {
    var schedule = try #require(
      ArrivalSchedule(
        .ramp(ramp), warmupSeconds: warmup, seed: seed, thread: thread, threads: threads))
    let end = UInt64((warmup + ramp.overSeconds) * 1e9)
    var all: [UInt64] = []
    while true {
      let time = schedule.next()
      guard time < end else { return all }
      all.append(time)
    }
  }

  @Test(
    "Uniform arrivals are as many as the area under the rate, each at the time at which the area has grown to it",
    arguments: [
      (1000, 3000, 2), (1, 50_000, 10), (0.1, 0.4, 100), (44_000, 44_001, 4), (100, 10_000_000, 0.1),
    ] as [(Double, Double, Double)])
  func uniform(from: Double, to: Double, seconds: Double) throws {
    let ramp = Ramp(fromPerSecond: from, toPerSecond: to, overSeconds: seconds, arrivals: .uniform)
    let all = try times(ramp)
    // One at the very beginning, and none at the very end.
    #expect(Double(all.count) == ((from + to) / 2 * seconds).rounded(.up))
    #expect(all.first == 0)
    #expect(zip(all, all.dropFirst()).allSatisfy { $0 < $1 })
    let growth = (to - from) / seconds
    for place in stride(from: 0, to: all.count, by: max(1, all.count / 1000)) {
      let time = Double(all[place]) / 1e9
      let area = from * time + growth * time * time / 2
      // Times are whole nanoseconds.
      #expect(abs(area - Double(place)) <= 1e-6 + ramp.ratePerSecond(at: time) * 2e-9, "\(place)")
    }
  }

  @Test("The warm-up has the ramp's first rate, and the time after the ramp its last")
  func ends() throws {
    let ramp = Ramp(fromPerSecond: 1000, toPerSecond: 3000, overSeconds: 2, arrivals: .uniform)
    let all = try times(ramp, warmup: 1)
    #expect(all.prefix(1001) == (0...1000).map { $0 * 1_000_000 }[...])
    #expect(all.count == 5000)
    #expect(try all.dropFirst(1000).map { $0 - 1_000_000_000 } == times(ramp))
    var schedule = try #require(ArrivalSchedule(.ramp(ramp), warmupSeconds: 0, seed: 1))
    let beyond = (0..<7000).map { _ in schedule.next() }
    #expect(beyond[4000] == 2_000_000_000 && beyond[6997] == 2_999_000_000)
  }

  @Test("Threads interleave, and together they are the whole")
  func threads() throws {
    let ramp = Ramp(fromPerSecond: 1000, toPerSecond: 4000, overSeconds: 1, arrivals: .uniform)
    let together = try (0..<4).flatMap { try times(ramp, thread: $0, threads: 4) }
    #expect(try together.sorted() == times(ramp))
  }

  @Test("Poisson arrivals repeat with their seed, and are those of an even rate at another time")
  func poisson() throws {
    let ramp = Ramp(fromPerSecond: 1000, toPerSecond: 9000, overSeconds: 4)
    let all = try times(ramp, warmup: 0.5, seed: 7)
    #expect(try all == times(ramp, warmup: 0.5, seed: 7))
    #expect(try all != times(ramp, warmup: 0.5, seed: 8))
    #expect(zip(all, all.dropFirst()).allSatisfy { $0 <= $1 })
    // 500 in the warm-up and 20,000 in the ramp; four standard deviations.
    #expect(abs(Double(all.count) - 20_500) < 4 * 20_500.0.squareRoot())
    let first = all.count { $0 < 500_000_000 + 1_000_000_000 }
    #expect(abs(Double(first) - 2500) < 4 * 2500.0.squareRoot())
    var even = ArrivalSchedule(ratePerSecond: 1000, arrivals: .poisson, seed: 7)
    for time in all {
      let past = max(0, Double(time) / 1e9 - 0.5)
      let area = min(Double(time) / 1e9, 0.5) + past + 2 * past * past / 2
      #expect(abs(area - Double(even.next()) / 1e9) < 1e-6)
    }
  }

  @Test("A closed load has no schedule")
  func closed() {
    #expect(ArrivalSchedule(.closed(concurrency: 1), warmupSeconds: 0, seed: 1) == nil)
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
