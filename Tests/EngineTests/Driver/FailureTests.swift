import Lab
import Results
import Nylon
import Scenario
import TestSupport
import Testing

@testable import Engine

@Suite struct FailureTests {
  private func load(
    _ onError: ErrorAction, attempts: Int = 1, phases: [Phase] = [.requestFilter],
    measure: UInt64 = second
  ) -> SimulatedLoad {
    var load = SimulatedLoad(phases: phases, measure: measure)
    load.policy.onError = onError
    load.policy.attempts = attempts
    return load
  }

  @Test func anAnswerThatNeverComesIsATimeoutAtTheDeadline() {
    let result = load(.end).run { plugin, _ in plugin.answer = { _ in .never } }
    #expect(result.counts.sent == 10)
    #expect(result.counts.timeouts == 10)
    #expect(result.counts.closes)
    #expect(result.request.response.count == 10)
    #expect(result.request.response.leastNanoseconds == 100 * millisecond)
    #expect(result.request.response.greatestNanoseconds == 100 * millisecond)
  }

  @Test func anAnswerPastTheDeadlineIsATimeoutAndLate() {
    let result = load(.end).run { plugin, _ in
      plugin.answer = { $0.session == 3 ? .within(130 * millisecond) : .later(10 * millisecond) }
    }
    #expect(result.counts.timeouts == 1)
    #expect(result.counts.late == 1)
    #expect(result.request.response.greatestNanoseconds == 100 * millisecond)
    #expect(result.counts.closes)
  }

  @Test func answersThatWaitForASleepyLoadThreadAreNoTimeoutsAndEndNoOtherSession() {
    // All eight are answered in time, but the thread looks only when they all are past their deadline.
    let result = SimulatedLoad(load: .closed(concurrency: 8)).run { plugin, _ in
      plugin.answer = { _ in .later(90 * millisecond) }
      plugin.oversleep = { [unowned plugin] in
        plugin.clock < 5 * second + 50 * millisecond ? 150 * millisecond : 0
      }
    }
    #expect(result.counts.timeouts == 0)
    #expect(result.counts.late == 0)
    #expect(result.counts.ok == result.counts.sent)
    #expect(result.request.response.leastNanoseconds == 90 * millisecond)
  }

  @Test func anEndThatShowsWhenAnotherPhaseIsGivenUpEndsItsOwnPhaseOnly() {
    // The NATS transport learns of refusals this way. All eight are due at the same time.
    let result = SimulatedLoad(load: .closed(concurrency: 8), measure: 150 * millisecond).run { plugin, _ in
      plugin.answer = { $0.at == 5 * second ? .never : .later(10 * millisecond) }
      plugin.endsByAbandoning = { _ in (1..<8).map { ($0, .noResponders) } }
    }
    #expect(result.counts.sent == result.counts.ok + 8)
    #expect(result.counts.timeouts + result.counts.noResponders == 8)
    #expect(result.counts.timeouts + result.counts.lost == 8)
    #expect(result.counts.ok == 8 * 5)
    #expect(result.request.response.count == result.counts.ok + result.counts.timeouts)
  }

  @Test func retriesBackOffExponentiallyUpToTheMostAndEndAfterTheLast() {
    // Each attempt fails after 5 ms; waits of 10, 20, 40 and again 40 ms lie between.
    let result = load(.retry, attempts: 5, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { _ in .later(5 * millisecond, .handlerError) }
    }
    let offsets = result.simulation.started.prefix(5).map { ($0.at - 5 * second) / millisecond }
    #expect(offsets == [0, 15, 40, 85, 130])
    #expect(result.simulation.started.prefix(5).map(\.attempt) == [1, 2, 3, 4, 5])
    #expect(result.counts.sent == 1)
    #expect(result.counts.handlerErrors == 1)
    #expect(result.counts.retries == 4)
    #expect(result.phase(0).counts.sent == 1)
    #expect(result.phase(0).counts.retries == 4)
    #expect(result.request.response.isEmpty)
  }

  @Test func aRetryThatSucceedsIsAnAnswerWithTheTimeOfAllAttempts() {
    let result = load(.retry, attempts: 3, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { .later(5 * millisecond, $0.attempt < 3 ? .noResponders : .next) }
    }
    // 5 + 10 + 5 + 20 + 5 ms.
    #expect(result.counts.ok == result.counts.sent)
    #expect(result.counts.noResponders == 2 * result.counts.sent)
    #expect(result.request.response.leastNanoseconds == 45 * millisecond)
    #expect(result.request.response.greatestNanoseconds == 45 * millisecond)
  }

  @Test func timeoutsAreRetriedUnlessThePluginStillWorksInThisProcess() {
    for isInProcess in [false, true] {
      let result = load(.retry, attempts: 2, measure: 100 * millisecond).run { plugin, _ in
        plugin.isInProcess = isInProcess
        plugin.answer = { _ in .never }
      }
      #expect(result.counts.timeouts == 1)
      #expect(result.counts.retries == (isInProcess ? 0 : 1))
      #expect(result.request.response.greatestNanoseconds == (isInProcess ? 100 : 210) * millisecond)
    }
  }

  @Test func anErrorThatIsPassedOverStillMakesTheSessionAnError() {
    let result = load(.continue, phases: Phase.session, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { .later(millisecond, $0.phaseIndex == 1 ? .handlerError : .next) }
    }
    #expect(result.counts.handlerErrors == result.counts.sent)
    #expect(result.phase(1).counts.handlerErrors == result.counts.sent)
    for index in [0, 2, 3] { #expect(result.phase(index).counts.ok == result.counts.sent) }
  }

  @Test func anErrorThatEndsTheSessionSkipsTheOtherPhases() {
    let result = load(.end, phases: Phase.session, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { .later(millisecond, $0.phaseIndex == 1 ? .handlerError : .next) }
    }
    #expect(result.counts.handlerErrors == result.counts.sent)
    #expect(result.phase(2).counts.sent == 0)
    #expect(result.phase(3).counts.sent == 0)
  }

  @Test(arguments: 0..<4) func afterEndTheOtherPhasesRun(phase: Int) {
    let result = load(.end, phases: Phase.session, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { .later(millisecond, $0.phaseIndex == phase ? .end : .next) }
    }
    #expect(result.counts.ok == result.counts.sent)
    for index in 0..<4 { #expect(result.phase(index).counts.ok == result.counts.ok) }
  }

  @Test(arguments: [Phase.session, [.responseBodyFilter]])
  func theBodyFilterIsAPhaseRequestForEachChunk(phases: [Phase]) throws {
    var load = load(.end, phases: phases, measure: 100 * millisecond)
    load.request.bodyChunks = 3
    let result = load.run()
    let sessions = result.counts.sent
    #expect(sessions > 0 && result.counts.ok == sessions)
    for scope in result.measurement.scopes {
      let times = scope.scope == Phase.responseBodyFilter.subjectFragment ? 3 : 1
      #expect(scope.counts.sent == sessions * UInt64(times))
      #expect(scope.counts.ok == scope.counts.sent)
      #expect(scope.response.count == scope.counts.ok)
    }
    #expect(result.request.response.leastNanoseconds == UInt64(phases.count + 2) * millisecond)
  }

  @Test func aBrokerWithoutWorkersIsALossAndNoFastAnswer() {
    let result = load(.end, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { _ in .later(1000, .noResponders) }
    }
    #expect(result.counts.lost == result.counts.sent)
    #expect(result.counts.noResponders == result.counts.sent)
    #expect(result.request.response.isEmpty)
    #expect(result.request.okInWindow == 0)
  }

  @Test func aMalformedAnswerIsAnErrorAndNoAnswer() {
    let result = load(.end, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { _ in .later(millisecond, .malformed) }
    }
    #expect(result.counts.handlerErrors == result.counts.sent)
    #expect(result.counts.protocolErrors == result.counts.sent)
    #expect(result.request.response.isEmpty)
  }

  @Test func aLoadProcessThatDiedHasItsUnfinishedSessionsLost() {
    let simulated = SimulatedLoad(load: .closed(concurrency: 3))
    let memory = LoadRecording(simulated.order.layout)
    memory.area.measureStart = 5 * second
    memory.area.measureEnd = 6 * second
    let recorder = memory.area.threadRecorder(0)
    recorder.add(.sent, scope: 0, 10)
    recorder.add(.ok, scope: 0, 6)
    recorder.add(.timeouts, scope: 0, 1)
    recorder.add(.sent, scope: 1, 9)
    recorder.add(.ok, scope: 1, 8)
    let measurement = LoadResult.measurement(order: simulated.order, area: memory.area)
    #expect(measurement.scopes[0].counts.lost == 3)
    #expect(measurement.scopes[1].counts.lost == 1)
    #expect(measurement.scopes.allSatisfy { $0.counts.closes })
  }

  @Test func aRecordOfThisLoadIsNotTakenForDamaged() {
    let simulated = SimulatedLoad(load: .closed(concurrency: 3))
    let result = simulated.run { plugin, _ in plugin.answer = { _ in .later(millisecond, .next) } }
    #expect(result.counts.ok > 0)
    #expect(result.measurement.damage(order: simulated.order) == nil)
    var other = result.measurement
    other.scopes[1].counts[.ok] += 1
    #expect(other.damage(order: simulated.order)?.contains("that ended") == true)
    other = result.measurement
    other.durationSeconds = 1e9
    #expect(other.damage(order: simulated.order)?.contains("1000000000.0 s") == true)
  }

  @Test func whatHangsFromTheWarmUpOnIsCounted() {
    var load = load(.end)
    load.load = .closed(concurrency: 3)
    load.warmup = second / 2
    load.policy.timeoutMilliseconds = 60_000
    let result = load.run { plugin, _ in plugin.answer = { _ in .never } }
    #expect(result.counts.sent == 3 && result.counts.lost == 3)
    #expect(result.phase(0).counts.sent == 3 && result.phase(0).counts.lost == 3)
    #expect(result.request.response.count == 3)
  }

  @Test func whatTimesOutInTheMeasuredTimeIsCountedThoughItBeganBefore() {
    var load = load(.continue, phases: [.requestFilter, .logging])
    load.warmup = second / 20
    let result = load.run { plugin, _ in
      plugin.answer = { $0.session == 0 && $0.phaseIndex == 0 ? .never : .later(10 * millisecond) }
    }
    #expect(result.counts.timeouts == 1)
    #expect(result.phase(0).counts.timeouts == 1 && result.phase(1).counts.timeouts == 0)
    for scope in result.measurement.scopes { #expect(scope.counts.closes) }
  }

  @Test func whatIsAnsweredInTheMeasuredTimeButBeganBeforeIsNotCounted() {
    var load = load(.end)
    load.warmup = second / 20
    load.measure = second / 100
    load.policy.timeoutMilliseconds = 1000
    let result = load.run { plugin, _ in plugin.answer = { _ in .later(55 * millisecond) } }
    #expect(result.counts.sent == 1 && result.request.okInWindow == 1)
  }
}

@Suite struct StallTests {
  /// One request in flight, answers after 1 ms but those that `longer` names.
  private func stall(
    _ load: SimulatedLoad = SimulatedLoad(), answer: @escaping (StartedPhase) -> SimulatedAnswer
  ) -> MeasuredStall? {
    var load = load
    load.policy.timeoutMilliseconds = 60_000
    return load.run { plugin, _ in plugin.answer = answer }.measurement.stall
  }

  @Test func aTargetThatStandsStillForOverATenthOfTheTimeIsSeen() throws {
    let seen = try #require(
      stall { $0.session == 300 ? .later(200 * millisecond) : .later(millisecond) })
    #expect(seen.startSeconds == 0.3 && seen.seconds == 0.2)
    #expect(seen.slowestBeforeNanoseconds == millisecond)
  }

  @Test func aCallThatDoesNotReturnForThatLongIsSeenToo() {
    #expect(stall { $0.session == 300 ? .within(200 * millisecond) : .within(millisecond) }?.seconds == 0.2)
  }

  @Test func aTargetThatStopsForGoodIsSeenUntilTheEndOfTheMeasuredTime() {
    #expect(stall { $0.session < 400 ? .later(millisecond) : .never }?.seconds == 0.6)
  }

  @Test func timeoutsAreNoAnswersAndDoNotEndAStall() {
    var load = SimulatedLoad()
    load.policy.timeoutMilliseconds = 50
    let result = load.run { plugin, _ in
      plugin.answer = { $0.session < 400 ? .later(millisecond) : .never }
    }
    #expect(result.measurement.stall?.seconds == 0.6)
  }

  @Test func aSlowTargetIsNoStall() {
    #expect(stall { _ in .later(150 * millisecond) } == nil)
    // Over a tenth of the time, but not five times the slowest before.
    #expect(stall { $0.session == 5 ? .later(400 * millisecond) : .later(90 * millisecond) } == nil)
  }

  @Test func aShortPauseIsNoStall() {
    #expect(stall { $0.session == 300 ? .later(99 * millisecond) : .later(millisecond) } == nil)
  }

  @Test func aTimeInWhichNothingIsWantedIsNoStall() {
    let load = SimulatedLoad(load: .open(ratePerSecond: 4, arrivals: .uniform))
    #expect(stall(load) { _ in .later(millisecond) } == nil)
  }

  @Test func aTimeInWhichAnotherThreadGotAnswersIsNoStall() {
    let stall = Stall(start: 10, end: 20, slowestBefore: 1)
    #expect(stall.intersection(Stall(start: 20, end: 30, slowestBefore: 2)) == nil)
    #expect(
      stall.intersection(Stall(start: 15, end: 30, slowestBefore: 2))
        == Stall(start: 15, end: 20, slowestBefore: 2))
  }
}
