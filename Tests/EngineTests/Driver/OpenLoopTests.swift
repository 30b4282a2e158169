import Lab
import Results
import Nylon
import Testing

@testable import Scenario
@testable import Engine

@Suite struct OpenLoopTests {
  let uniform100 = LoadShape.open(ratePerSecond: 100, arrivals: .uniform)

  @Test func timesAreExactWhenNothingWaits() {
    let result = SimulatedLoad(load: uniform100).run { plugin, _ in
      plugin.answer = { _ in .later(3 * millisecond) }
    }
    #expect(result.counts.sent == 100)
    #expect(result.counts.ok == 100)
    #expect(result.request.response.sumNanoseconds == 300 * millisecond)
    #expect(result.request.service == result.request.response)
    #expect(result.request.sendLag.count == 100)
    #expect(result.request.sendLag.greatestNanoseconds == 0)
    #expect(result.simulation.started.map(\.at) == (0..<100).map { 5 * second + $0 * 10 * millisecond })
  }

  @Test func theWaitForAPlaceIsInTheResponseTimeAndNotInTheServiceTime() {
    // One place, 15 ms each, one wanted every 10 ms: request n is wanted at 10n and sent at 15n.
    let result = SimulatedLoad(load: uniform100, maxInFlight: 1, drain: 10 * second).run { plugin, _ in
      plugin.answer = { _ in .later(15 * millisecond) }
    }
    let waits = (0..<100).map { UInt64($0) * 5 * millisecond }
    #expect(result.counts.ok == 100)
    #expect(result.request.sendLag.sumNanoseconds == waits.reduce(0, +))
    #expect(result.request.sendLag.greatestNanoseconds == 495 * millisecond)
    #expect(result.request.service.leastNanoseconds == 15 * millisecond)
    #expect(result.request.service.greatestNanoseconds == 15 * millisecond)
    #expect(result.request.response.sumNanoseconds == waits.reduce(0, +) + 1500 * millisecond)
    // What the target can do in 1 s at 15 ms each, and not what it did in the drain.
    #expect(result.request.okInWindow == 66)
    #expect(result.measurement.throughputPerSecond == 66)
  }

  @Test func aStallOfTheTargetShowsInTheResponseTimesAndNotInTheTypicalServiceTime() throws {
    let load = SimulatedLoad(
      load: .open(ratePerSecond: 1000, arrivals: .uniform), maxInFlight: 4, measure: 10 * second,
      drain: 5 * second)
    var load2 = load
    load2.policy.timeoutMilliseconds = 5000
    let stall = (8 * second)..<(9 * second)
    let result = load2.run { plugin, _ in
      plugin.answer = { phase in
        stall.contains(phase.at) ? .later(stall.upperBound - phase.at + millisecond) : .later(millisecond)
      }
    }
    let response = result.request.response
    #expect(result.counts.ok == 10_000)
    // 1,000 requests were wanted in the stall: a tenth of all waited, on average half a second.
    #expect(try #require(response.value(atPercentile: 99)) > 800 * millisecond)
    #expect(try #require(response.value(atPercentile: 50)) < 2 * millisecond)
    #expect(try #require(result.request.service.value(atPercentile: 50)) < 2 * millisecond)
    #expect(try #require(result.request.service.value(atPercentile: 99.9)) < 2 * millisecond)
    #expect(result.request.service.greatestNanoseconds > 900 * millisecond)
  }

  @Test(arguments: [OverflowPolicy.reject, .shed])
  func aFullHouseTurnsRequestsAwayAtOnce(overflow: OverflowPolicy) {
    let result = SimulatedLoad(load: uniform100, maxInFlight: 2, overflow: overflow).run { plugin, _ in
      plugin.answer = { _ in .later(35 * millisecond) }
    }
    #expect(result.counts.sent == 100)
    // Two of four get in: places are free again 35 ms after 0 and 10, before 40 and 50.
    #expect(result.counts.ok == 50)
    #expect((overflow == .shed ? result.counts.shed : result.counts.rejected) == 50)
    #expect((overflow == .shed ? result.counts.rejected : result.counts.shed) == 0)
    #expect(result.counts.closes)
    #expect(result.request.response.count == 50)
    #expect(result.request.response.greatestNanoseconds == 35 * millisecond)
    #expect(result.simulation.mostOpenSessions == 2)
  }

  @Test func aBacklogThatIsNeverSentIsLostWithItsAge() {
    let result = SimulatedLoad(load: uniform100, maxInFlight: 1, drain: 100 * millisecond).run { plugin, _ in
      plugin.answer = { _ in .never }
    }
    // The one place times out every 100 ms; the load ends at 1.1 s.
    let sent = result.simulation.started.count
    #expect(result.counts.sent == 100)
    #expect(result.counts.timeouts == UInt64(sent) || result.counts.timeouts == UInt64(sent - 1))
    #expect(result.counts.timeouts + result.counts.lost == 100)
    #expect(result.request.response.count == 100)
    #expect(result.request.service.count == UInt64(sent))
    // Wanted at 990 ms, and 110 ms old at the end; none is younger.
    #expect(result.request.response.leastNanoseconds >= 100 * millisecond)
  }

  @Test func theBacklogOfAOnePhaseSessionCountsInBothScopes() {
    let result = SimulatedLoad(load: uniform100, maxInFlight: 1, drain: 100 * millisecond).run { plugin, _ in
      plugin.answer = { _ in .never }
    }
    #expect(result.phase(0).counts == result.counts)
    #expect(result.phase(0).response == result.request.response)
  }

  @Test func aPluginThatBlocksTheLoadThreadDoesNotStretchTheDrain() {
    // 10 ms within each call at 1,000 wanted a second: a backlog of ten times what can be done.
    let load = SimulatedLoad(
      load: .open(ratePerSecond: 1000, arrivals: .uniform), maxInFlight: 64, measure: 2 * second,
      drain: 500 * millisecond)
    let result = load.run { plugin, _ in plugin.answer = { _ in .within(10 * millisecond) } }
    #expect(result.simulation.clock <= 7 * second + 500 * millisecond + 20 * millisecond)
    #expect(result.counts.sent == 2000)
    #expect(result.counts.closes)
    #expect(result.request.okInWindow < 201)
    #expect(result.counts.lost >= 2000 - 252)
    // All of the lost are in the histogram with their age.
    #expect(result.request.response.count == 2000)
  }

  @Test func poissonArrivalsAreSentWhenTheScheduleSays() {
    let load = SimulatedLoad(load: .open(ratePerSecond: 500, arrivals: .poisson), maxInFlight: 1000, seed: 7)
    let result = load.run()
    var schedule = ArrivalSchedule(ratePerSecond: 500, arrivals: .poisson, seed: 7)
    var wanted: [UInt64] = []
    while let next = Optional(schedule.next()), next < second { wanted.append(5 * second + next) }
    #expect(result.simulation.started.map(\.at) == wanted)
    #expect(result.counts.sent == UInt64(wanted.count))
  }

  @Test func theWarmUpIsNotRecordedAndItsSlowAnswersAreThroughput() {
    let result = SimulatedLoad(load: uniform100, maxInFlight: 100, warmup: second).run { plugin, _ in
      plugin.answer = { $0.at < 6 * second ? .later(95 * millisecond) : .later(millisecond) }
    }
    #expect(result.counts.sent == 100)
    #expect(result.request.response.greatestNanoseconds == millisecond)
    // Those of the warm-up that were wanted from 910 to 990 ms end in the measured time.
    #expect(result.request.okInWindow == 109)
  }

  @Test func sessionsAreSpreadOverAllPlaces() {
    // Session ids are numbered by place: one that is always taken first would run out of them.
    let result = SimulatedLoad(load: uniform100, maxInFlight: 20).run()
    let perPlace = Dictionary(grouping: result.simulation.started, by: \.slot).mapValues(\.count)
    #expect(perPlace.count == 20)
    #expect(perPlace.values.allSatisfy { $0 == 5 })
  }

  @Test func aPlaceInThisProcessIsTakenAgainUntilAnotherHasItsTurn() {
    let load = SimulatedLoad(load: .open(ratePerSecond: 5000, arrivals: .uniform), maxInFlight: 3)
    let result = load.run { plugin, _ in
      plugin.isInProcess = true
      plugin.answer = { _ in .later(1000) }
    }
    let turns = stride(from: 0, to: 5000, by: 1024).map {
      Set(result.simulation.started[$0..<min($0 + 1024, 5000)].map(\.slot))
    }
    #expect(turns.allSatisfy { $0.count == 1 })
    #expect(turns.reduce(into: Set()) { $0.formUnion($1) }.count == 3)
    #expect(result.counts.ok == 5000)
  }

  @Test func laterPhasesAreWantedWhenTheOneBeforeIsDone() {
    let result = SimulatedLoad(load: uniform100, phases: Phase.session, maxInFlight: 50).run { plugin, _ in
      plugin.answer = { .later(UInt64($0.phaseIndex + 1) * millisecond) }
    }
    for index in 0..<4 {
      let phase = result.phase(index)
      #expect(phase.counts.ok == 100)
      #expect(phase.response.leastNanoseconds == UInt64(index + 1) * millisecond)
      #expect(phase.response.greatestNanoseconds == UInt64(index + 1) * millisecond)
      #expect(phase.service.sumNanoseconds == phase.response.sumNanoseconds)
      #expect(phase.sendLag.count == 100)
    }
    #expect(result.request.response.greatestNanoseconds == 10 * millisecond)
  }

  private static let rising = LoadShape.ramp(
    Ramp(fromPerSecond: 100, toPerSecond: 300, overSeconds: 1, arrivals: .uniform))

  @Test("A ramp asks for more and more, and a target that keeps up follows it to its end")
  func ramp() {
    let result = SimulatedLoad(load: Self.rising, maxInFlight: 64).run { plugin, _ in
      plugin.answer = { _ in .later(millisecond) }
    }
    let measurement = result.measurement
    #expect(measurement.load == "ramp-100-300-uniform" && result.counts.sent == 200)
    #expect(measurement.offeredRatePerSecond == 200)
    #expect(
      measurement.windows.compactMap { measurement.offeredPerSecond(in: $0)?.rounded() }
        == (0..<10).map { 110 + 20 * Double($0) })
    #expect(measurement.windows.allSatisfy { $0.failed == 0 })
    #expect(result.request.sendLag.greatestNanoseconds == 0)
    #expect(measurement.followedPerSecond?.rounded() == 300)
  }

  @Test("A target that answers 200 a second follows a ramp up to about that, and response time has the wait")
  func rampBeyond() throws {
    var load = SimulatedLoad(load: Self.rising, maxInFlight: 1, drain: 10 * second)
    load.policy.timeoutMilliseconds = 10_000
    let result = load.run { plugin, _ in plugin.answer = { _ in .later(5 * millisecond) } }
    #expect(result.counts.ok == 200)
    let followed = try #require(result.measurement.followedPerSecond)
    #expect((170...230).contains(followed), "\(followed)")
    #expect(result.request.service.greatestNanoseconds == 5 * millisecond)
    #expect(result.request.response.greatestNanoseconds > 100 * millisecond)
  }

  @Test("Failures are counted in the window in which they came")
  func failuresByWindow() {
    let result = SimulatedLoad(load: Self.rising, maxInFlight: 64).run { plugin, _ in
      plugin.answer = { phase in
        phase.at >= 5 * second + 500 * millisecond ? .later(millisecond, .handlerError) : .later(millisecond)
      }
    }
    let windows = result.measurement.windows
    #expect(windows.prefix(5).allSatisfy { $0.failed == 0 })
    #expect(windows.reduce(0) { $0 + ($1.failed ?? 0) } == result.counts.handlerErrors)
    #expect(windows.suffix(4).allSatisfy { ($0.failed ?? 0) > 20 && $0.timeouts == 0 })
    #expect(result.measurement.followedPerSecond?.rounded() == 190)
  }
}
