import Lab
import Results
import Nylon
import Scenario
import Testing

@testable import Engine

@Suite struct ClosedLoopTests {
  @Test func keepsSoManySessionsInFlightAndNoMore() {
    let result = SimulatedLoad(load: .closed(concurrency: 7)).run { plugin, _ in
      plugin.answer = { .later(millisecond * UInt64(1 + $0.slot)) }
      plugin.onWait = { [unowned plugin] now in
        if now > 5 * second, now < 6 * second { #expect(plugin.openSessions == 7) }
      }
    }
    #expect(result.simulation.mostOpenSessions == 7)
    #expect(result.counts.closes)
  }

  @Test func countsAndTimesEachSessionOnceAndExactly() {
    let result = SimulatedLoad(load: .closed(concurrency: 4)).run { plugin, _ in
      plugin.answer = { _ in .later(10 * millisecond) }
    }
    // 4 in flight, 10 ms each, for 1 s: the 100th of each slot begins at 990 ms and ends at 1 s.
    #expect(result.counts.sent == 400)
    #expect(result.counts.ok == 400)
    #expect(result.counts.closes)
    #expect(result.request.response.count == 400)
    #expect(result.request.response.leastNanoseconds == 10 * millisecond)
    #expect(result.request.response.greatestNanoseconds == 10 * millisecond)
    #expect(result.request.response.sumNanoseconds == 4000 * millisecond)
    #expect(result.request.service == result.request.response)
    #expect(result.request.sendLag.isEmpty)
    // The last four ended at the very end of the measured time, which is no longer in it.
    #expect(result.request.okInWindow == 396)
  }

  @Test func windowsSumToTheTotal() {
    let result = SimulatedLoad(load: .closed(concurrency: 3)).run { plugin, _ in
      plugin.answer = { .later(millisecond * UInt64(3 + $0.session % 11)) }
    }
    let recorder = result.memory.area.threadRecorder(0)
    let inDrain = recorder.response(window: 10).snapshot().count
    let inWindows = result.measurement.windows.reduce(0) { $0 + $1.completed }
    #expect(result.measurement.windows.count == 10)
    #expect(inWindows == result.request.okInWindow)
    #expect(inWindows + inDrain == result.counts.ok)
    #expect(result.measurement.windows.allSatisfy { $0.completed > 20 })
  }

  @Test func doesNotRecordTheWarmUp() {
    let result = SimulatedLoad(load: .closed(concurrency: 1), warmup: second).run { plugin, _ in
      // Slow and failing as long as it warms up.
      plugin.answer = { phase in
        phase.at < 6 * second ? .later(50 * millisecond, .handlerError) : .later(millisecond)
      }
    }
    #expect(result.counts.handlerErrors == 0)
    #expect(result.counts.ok == result.counts.sent)
    #expect(result.request.response.greatestNanoseconds == millisecond)
    #expect(result.simulation.sessions == Int(result.counts.sent) + 20)
  }

  @Test func countsNoAnomalyOfTheWarmUpAsOneOfTheMeasuredTime() {
    for end in [PhaseEnd.noResponders, .malformed] {
      let result = SimulatedLoad(load: .closed(concurrency: 1), warmup: second).run { plugin, _ in
        plugin.answer = { .later(millisecond, $0.at < 6 * second - millisecond ? end : .next) }
      }
      #expect(result.counts.ok == result.counts.sent)
      #expect(result.counts.noResponders == 0)
      #expect(result.counts.protocolErrors == 0)
    }
  }

  @Test func aPluginThatRefusesEverySessionNeitherHangsNorRecurses() {
    let result = SimulatedLoad(load: .closed(concurrency: 16)).run { plugin, _ in
      plugin.accepts = { _ in false }
    }
    #expect(result.counts.sent > 0)
    #expect(result.counts.handlerErrors == result.counts.sent)
    #expect(result.counts.closes)
    #expect(result.request.response.isEmpty)
    #expect(result.simulation.started.isEmpty)
    #expect(result.simulation.openSessions == 0)
  }

  @Test func aPluginThatFailsWithinEveryCallNeitherHangsNorRecurses() {
    let result = SimulatedLoad(load: .closed(concurrency: 16), measure: 50 * millisecond).run { plugin, _ in
      plugin.tick = 1
      plugin.answer = { _ in .within(1000, .handlerError) }
    }
    #expect(result.counts.handlerErrors == result.counts.sent)
    #expect(result.counts.sent > 10_000)
    #expect(result.counts.closes)
  }

  @Test func answersWithinTheCallCloseAndKeepTheirTimes() {
    let result = SimulatedLoad(
      load: .closed(concurrency: 8), phases: Phase.session, measure: 100 * millisecond
    ).run { plugin, _ in
      plugin.answer = { _ in .within(1000) }
    }
    #expect(result.counts.ok == result.counts.sent)
    #expect(result.counts.sent >= 100_000 / 4)
    for index in 0..<4 {
      #expect(result.phase(index).counts.ok == result.counts.ok)
      #expect(result.phase(index).response.leastNanoseconds == 1000)
      #expect(result.phase(index).response.count == result.counts.ok)
    }
  }

  @Test func anEndBroughtForwardEndsTheLoadAndClosesItsCounts() {
    let result = SimulatedLoad(load: .closed(concurrency: 5)).run { plugin, area in
      plugin.answer = { _ in .later(3 * millisecond) }
      plugin.onWait = { now in
        if now >= 5 * second + 350 * millisecond { area.measureEnd = 5 * second + 400 * millisecond }
      }
    }
    #expect(result.measurement.durationSeconds == 0.4)
    #expect(result.counts.closes)
    // 133 full rounds of 3 ms, and the one under way at the end.
    #expect(result.counts.sent == 5 * 134)
    #expect(result.measurement.windows.count == 4)
    #expect(result.simulation.clock < 6 * second)
  }

  @Test func aSessionWithoutAnyAnswerIsLostWithItsAge() {
    let result = SimulatedLoad(load: .closed(concurrency: 2), drain: 20 * millisecond).run { plugin, _ in
      plugin.answer = { $0.at >= 5 * second + 960 * millisecond ? .never : .later(10 * millisecond) }
    }
    #expect(result.counts.lost == 2)
    #expect(result.counts.ok == 2 * 96)
    #expect(result.counts.closes)
    #expect(result.request.response.count == 2 * 97)
    // From 960 ms to the end of the drain at 1,020 ms.
    #expect(result.request.response.greatestNanoseconds == 60 * millisecond)
    #expect(result.simulation.openSessions == 0)
  }

  @Test func aWrongResponseIsAnErrorAndNotAnAnswer() {
    let result = SimulatedLoad(load: .closed(concurrency: 1)).run { plugin, _ in
      plugin.answer = { _ in .later(10 * millisecond) }
      plugin.isRight = { $0 % 2 == 0 }
    }
    #expect(result.counts.sent == 100)
    #expect(result.counts.ok == 50)
    #expect(result.counts.handlerErrors == 50)
    #expect(result.counts.wrongContent == 50)
    #expect(result.request.response.count == 50)
    // The phase itself was answered each time.
    #expect(result.phase(0).counts.ok == 100)
    #expect(result.phase(0).response.count == 100)
  }

  @Test func aSessionOfOnePhaseHasTheSameTimesInBothScopes() {
    let result = SimulatedLoad(load: .closed(concurrency: 3)).run { plugin, _ in
      plugin.answer = { .later(millisecond * UInt64(1 + $0.session % 13)) }
    }
    #expect(result.phase(0).response == result.request.response)
    #expect(result.phase(0).counts == result.counts)
    #expect(result.phase(0).okInWindow == result.request.okInWindow)
  }
}
