import Load
import Measure
import NylonProtocol
import Scenario
import Testing

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

  @Test func endInTheRequestFilterSkipsToLogging() {
    let result = load(.end, phases: Phase.session, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { .later(millisecond, $0.phaseIndex == 0 ? .end : .next) }
    }
    #expect(result.counts.ok == result.counts.sent)
    #expect(result.phase(1).counts.sent == 0)
    #expect(result.phase(2).counts.sent == 0)
    #expect(result.phase(3).counts.ok == result.counts.ok)
  }

  @Test func endInAnotherPhaseGoesOn() {
    let result = load(.end, phases: Phase.session, measure: 100 * millisecond).run { plugin, _ in
      plugin.answer = { .later(millisecond, $0.phaseIndex == 1 ? .end : .next) }
    }
    for index in 0..<4 { #expect(result.phase(index).counts.ok == result.counts.ok) }
  }

  @Test func endInTheRequestFilterEndsASessionWithoutLogging() {
    let result = load(.end, phases: [.requestFilter, .responseFilter], measure: 100 * millisecond).run {
      plugin, _ in plugin.answer = { _ in .later(millisecond, .end) }
    }
    #expect(result.counts.ok == result.counts.sent)
    #expect(result.phase(1).counts.sent == 0)
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
    let memory = RecordingMemory(simulated.order.layout)
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
}
