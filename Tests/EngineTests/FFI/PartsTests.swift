import Lab
import Results
import Nylon
import Scenario
import Testing

@testable import Engine

/// Every answered phase was cut up, and its parts add up to its service time to the nanosecond.
func expectParts(_ measurement: Engine.Measurement, names: [String]) throws {
  for scope in measurement.scopes.dropFirst() {
    let cut = try #require(scope.decomposition)
    #expect(cut.parts.map(\.name) == names)
    #expect(cut.withoutStamps == 0)
    #expect(cut.impossibleStamps == 0)
    #expect(scope.counts.ok > 0)
    for part in cut.parts { #expect(part.time.count == scope.counts.ok, "\(part.name)") }
    #expect(scope.service.count == scope.counts.ok)
    #expect(cut.parts.reduce(0) { $0 + $1.time.sumNanoseconds } == scope.service.sumNanoseconds)
    let mean = try #require(cut.meanNanoseconds)
    #expect(abs(mean - (scope.service.meanNanoseconds ?? 0)) < 0.01 * mean)
  }
  #expect(measurement.request?.decomposition == nil)
  #expect(measurement.decompositionWarnings.isEmpty)
}

extension FFITests {
  @Suite struct Parts {
    static let names = ["before_call", "in_event_stream", "until_callback", "until_return", "host"]

    @Test(
      arguments: Way.all, [LoadShape.closed(concurrency: 4), .open(ratePerSecond: 2000, arrivals: .poisson)])
    func thePartsOfEveryPhaseAddUpToItsServiceTime(way: Way, shape: LoadShape) throws {
      // A read in between: the host answers it, and the phase goes on.
      let plugin = try ScriptedPlugin(
        [ScriptedCall(1, .readRequestPath), ScriptedCall(2, .setResponseStatus, [0, 200])]
          + ScriptedCall.next(), threads: way.pluginThreads)
      var load = FFILoad(load: shape, dispatch: way.dispatch, threads: way.loadThreads)
      load.decompose = true
      let measurement = try load.run(plugin.library)
      try expectOnlyAnswers(measurement)
      try expectParts(measurement, names: Self.names)
    }

    @Test func aSessionOfOnePhaseIsCutUpToo() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      var load = FFILoad()
      load.phases = [.requestFilter]
      load.decompose = true
      try expectParts(try load.run(plugin.library), names: Self.names)
    }

    @Test func whatEndsInsideTheCallSpendsNothingInThreadsOfThePlugin() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      var load = FFILoad()
      load.decompose = true
      let measurement = try load.run(plugin.library)
      for scope in measurement.scopes.dropFirst() {
        let parts = try #require(scope.decomposition).parts
        #expect(parts[2].time.greatestNanoseconds == 0)
        #expect(parts[1].time.sumNanoseconds > 0)
        #expect(parts[4].time.sumNanoseconds > 0)
      }
    }

    @Test func whatAThreadOfThePluginEndsIsItsTimeAndNotTheCalls() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next(), threads: 1)
      var load = FFILoad(load: .closed(concurrency: 16))
      load.decompose = true
      let measurement = try load.run(plugin.library)
      let parts = try #require(measurement.scopes[1].decomposition).parts
      #expect(parts[2].time.sumNanoseconds > 0)
    }

    @Test func withoutTheKeyNothingIsCutUp() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      let measurement = try FFILoad().run(plugin.library)
      #expect(measurement.scopes.allSatisfy { $0.decomposition == nil })
    }
  }
}
