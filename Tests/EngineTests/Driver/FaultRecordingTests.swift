import Nylon
import Scenario
import Testing

@testable import Engine

/// What is kept of the windows of a load with faults.
@Suite struct FaultRecordingTests {
  /// 1,000 requests in a second, each answered after 1 ms but those that the answer decides; a window is 100 ms.
  private func load(
    faults: [FaultSpec]? = [FaultSpec(.kill, .worker(nil), atSeconds: 0.5...0.5)],
    onError: ErrorAction = .end, timeout: Int = 50, maxInFlight: Int = 200,
    _ answer: @escaping (StartedPhase) -> SimulatedAnswer
  ) -> SimulatedResult {
    var load = SimulatedLoad(load: .open(ratePerSecond: 1000, arrivals: .uniform), maxInFlight: maxInFlight)
    load.policy.timeoutMilliseconds = timeout
    load.policy.onError = onError
    load.policy.attempts = onError == .retry ? 3 : 1
    load.faults = faults
    return load.run { plugin, _ in plugin.answer = answer }
  }

  /// Nothing is answered that is asked from 300 to 350 ms.
  private func silentFor50Milliseconds(_ phase: StartedPhase, from start: UInt64 = 5 * second)
    -> SimulatedAnswer
  {
    let at = phase.at - start
    return (300 * millisecond..<350 * millisecond).contains(at) ? .never : .later(millisecond)
  }

  @Test func whatEndedInAWindowIsCountedThere() throws {
    let result = load { silentFor50Milliseconds($0) }
    let windows = result.measurement.windows
    try #require(windows.count == 10)
    let counts = windows.map { $0.counts ?? OutcomeCounts() }
    #expect(counts.allSatisfy { $0.closes })
    #expect(counts.map(\.timeouts).reduce(0, +) == 50)
    #expect(counts[3].timeouts + counts[4].timeouts == 50 && counts[3].timeouts == windows[3].timeouts)
    var sum = OutcomeCounts()
    for one in counts { sum.add(one) }
    #expect(sum == result.counts)
  }

  @Test func theLongestGapAndTheFirstTroubleAreInTheirWindows() throws {
    let windows = load { silentFor50Milliseconds($0) }.measurement.windows
    let gap = try #require(windows[3].longestGapNanoseconds)
    #expect(gap >= 49 * millisecond && gap <= 53 * millisecond)
    #expect(windows.enumerated().allSatisfy { $0 == 3 || $1.longestGapNanoseconds ?? 0 <= 2 * millisecond })
    // The first request that nobody answered was given up 50 ms after it was sent.
    let trouble = try #require(windows[3].firstTroubleSeconds)
    #expect(abs(trouble - 0.35) < 0.002)
    #expect(windows[0...2].allSatisfy { $0.firstTroubleSeconds == nil })
  }

  @Test func aFailureThatIsRetriedIsTroubleToo() throws {
    let result = load(onError: .retry) {
      $0.attempt == 1 ? silentFor50Milliseconds($0) : .later(millisecond)
    }
    #expect(result.counts.ok == result.counts.sent && result.counts.retries == 50)
    let windows = result.measurement.windows
    #expect(windows[3].firstTroubleSeconds.map { abs($0 - 0.35) < 0.002 } == true)
    #expect(windows.compactMap(\.counts).reduce(0) { $0 + $1.retries } == 50)
  }

  @Test func whatEndsInTheDrainBelongsToTheLastWindow() throws {
    let result = load { $0.at >= 5 * second + 980 * millisecond ? .never : .later(millisecond) }
    let last = try #require(result.measurement.windows.last)
    #expect(last.counts?.timeouts == 20 && last.timeouts == 0)
    #expect(last.firstTroubleSeconds.map { abs($0 - 1.03) < 0.002 } == true)
  }

  @Test func aTimeInWhichNothingIsWantedIsNoGap() {
    var load = SimulatedLoad(load: .open(ratePerSecond: 20, arrivals: .uniform))
    load.faults = [FaultSpec(.kill, .worker(nil), atSeconds: 0...0)]
    let windows = load.run { plugin, _ in plugin.answer = { _ in .later(millisecond / 2) } }.measurement
      .windows
    #expect(windows.allSatisfy { $0.longestGapNanoseconds == nil })
  }

  @Test func aLoadWithoutFaultsKeepsNoneOfIt() {
    let windows = load(faults: nil) { silentFor50Milliseconds($0) }.measurement.windows
    #expect(
      windows.allSatisfy {
        $0.counts == nil && $0.longestGapNanoseconds == nil && $0.firstTroubleSeconds == nil
      })
    #expect(windows.reduce(0) { $0 + ($1.failed ?? 0) } == 50)
  }

  @Test func theWindowsOfALoadWithFaultsAre100MillisecondsAndNoMoreThanFit() {
    func windows(_ seconds: Double, faults: Bool = true) -> Int {
      var load = SimulatedLoad(measure: UInt64(seconds * 1e9))
      if faults { load.faults = [FaultSpec(.kill, .plugin, atSeconds: 0...0)] }
      return load.order.windows
    }
    #expect(windows(6) == 60 && windows(0.02) == 1 && windows(3600) == 600)
    #expect(windows(6, faults: false) == 10)
  }

  @Test func whatALoadProcessThatWasKilledWouldHaveSentIsLost() throws {
    var load = SimulatedLoad(load: .open(ratePerSecond: 1000, arrivals: .uniform), maxInFlight: 200)
    load.faults = [FaultSpec(.kill, .plugin, atSeconds: 0.5...0.5)]
    load.warmup = 200 * millisecond
    // It ends by itself after 500 ms, as its record would be when it was killed then.
    let killedAt = 5 * second + 700 * millisecond
    let result = load.run { plugin, area in
      plugin.answer = { _ in .later(millisecond) }
      plugin.onWait = { if $0 >= killedAt { area.measureEnd = min(area.measureEnd, killedAt) } }
    }
    let area = result.memory.area
    let sentBefore = area.threadRecorder(0).counts(scope: 0)[.sent]
    #expect(sentBefore > 400 && sentBefore < 600)
    area.measureEnd = 5 * second + 1200 * millisecond
    LoadResult.loseTheRest(of: load.order, in: area, died: killedAt)
    let measurement = LoadResult.measurement(order: load.order, area: area)
    let counts = try #require(measurement.request?.counts)
    #expect(counts.closes && counts.sent == 1000 && counts.lost == 1000 - counts.ok)
    #expect(measurement.scopes.allSatisfy { $0.counts.closes })
    #expect(measurement.windows[8].counts?.lost == 100 && measurement.windows[2].counts?.lost == 0)
    let silence = measurement.windows.compactMap(\.longestGapNanoseconds)
    #expect(silence.count == 1 && silence.allSatisfy { $0 > 497 * millisecond && $0 <= 500 * millisecond })
  }
}
