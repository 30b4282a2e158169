import CNylonABI
import Lab
import Results
import Nylon
@testable import Scenario
import TestSupport
import Testing

@testable import Engine

private let content = RequestSpec(
  method: "POST", bodyBytes: 100, responseStatus: 201, responseHeaders: [KeyValue(key: "via", value: "up")])
private let untouched = Verification(
  status: 201, responseHeaders: [KeyValue(key: "via", value: "up")], bodyUnchanged: true)

extension FFITests {
  @Suite struct Hostile {
    /// Bytes that are no table, from a fixed seed.
    private func garbage() -> [ScriptedCall] {
      var random = SplitMix64(seed: 42)
      return (0..<40).map { length in
        let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
        return ScriptedCall(1, .setResponseHeader, bytes)
      }
    }

    /// Tables whose lengths and offsets lie.
    private func spoiledTables() -> [ScriptedCall] {
      let table = HeaderKeyValueCodec.encode(key: "via", value: "spoiled")
      return [0, 4, 12, 16, 20].flatMap { place in
        [UInt8(0xFF), 0x7F, 0x80].map { byte in
          var spoiled = table
          for offset in 0..<4 { spoiled[place + offset] = byte }
          return ScriptedCall(1, .setResponseHeader, spoiled)
        }
      } + [ScriptedCall(1, .setResponseHeader, Array(table.prefix(table.count / 2)))]
    }

    @Test(arguments: Way.all) func callsThatBreakTheInterfaceChangeNothingAndAreCounted(way: Way) throws {
      let calls =
        [ScriptedCall.stamp(1)] + garbage() + spoiledTables() + [
          ScriptedCall(1, .setResponseStatus, [1]), ScriptedCall(1, .setResponseStatus, [1, 2, 3]),
          ScriptedCall(1, .setResponseStatus), ScriptedCall(1, .init(rawValue: 9999), [1, 2]),
          ScriptedCall(1, .init(rawValue: 0)), ScriptedCall(1, .init(rawValue: .max)),
          ScriptedCall(1, .init(rawValue: 301), Array("hello".utf8)),
          ScriptedCall(1, .setResponseFullBody, count: 5),
          ScriptedCall(1, .setResponseStreamData, count: 1 << 40),
          ScriptedCall(1, .removeResponseHeader, []),
        ]
      let broken = calls.count - 2
      let plugin = try ScriptedPlugin(calls + ScriptedCall.next(), threads: way.pluginThreads)
      let (counts, transports) = try expectRightAnswers(load(way), plugin)
      let sessions = transports.reduce(0) { $0 + $1.opened }
      #expect(counts.protocolErrors == UInt64(broken * sessions))
    }

    @Test(arguments: Way.all) func callsForOtherSessionsEndNoneAndAreCounted(way: Way) throws {
      let others: [Int64] = [-64, -4, 4, 64, 1 << 20, 1 << 31]
      let calls = others.flatMap { offset in
        [
          ScriptedCall(1, .next, sidOffset: offset), ScriptedCall(2, .end, sidOffset: offset),
          ScriptedCall(3, .setResponseStreamEnd, sidOffset: offset),
          ScriptedCall(1, .setResponseFullBody, Array("other".utf8), sidOffset: offset),
        ]
      }
      let plugin = try ScriptedPlugin(
        [ScriptedCall.stamp(1)] + calls + ScriptedCall.next(), threads: way.pluginThreads)
      // One slot for each thread, so that every other id is of a session that is over, or never was.
      var load = load(way)
      load.load = .closed(concurrency: way.loadThreads)
      let (counts, _) = try expectRightAnswers(load, plugin)
      #expect(counts.late > 0)
      #expect(counts.unexpected > 0)
      #expect(counts.duplicates == 0)
    }

    @Test(arguments: Way.all) func aSecondEndIsADuplicateAndEndsNothing(way: Way) throws {
      var calls = [ScriptedCall.stamp(1)]
      for phase in UInt8(1)...4 {
        // An end that names another phase is none of this one.
        calls.append(ScriptedCall(phase, .next, naming: phase == 4 ? 1 : phase + 1))
        calls.append(ScriptedCall(phase, .next))
        calls.append(ScriptedCall(phase, .next))
      }
      let plugin = try ScriptedPlugin(calls, threads: way.pluginThreads)
      var load = load(way)
      load.load = .closed(concurrency: way.loadThreads)
      let (counts, transports) = try expectRightAnswers(load, plugin)
      // Some of a plugin's thread come when the session is over: those are late.
      let sessions = UInt64(transports.reduce(0) { $0 + $1.opened })
      if way.pluginThreads == 0 {
        #expect(counts.duplicates == 8 * sessions)
      } else {
        #expect(counts.duplicates + counts.late <= 8 * sessions)
        #expect(counts.duplicates + counts.late > 0)
      }
    }

    @Test(arguments: Way.all) func callsWhileASessionIsOpenedOrClosedEndNoPhase(way: Way) throws {
      let calls = [
        ScriptedCall(9, .next, naming: 1), ScriptedCall(9, .end, naming: 0), ScriptedCall.stamp(1),
        ScriptedCall(10, .next, naming: 4), ScriptedCall(10, .end, naming: 0),
        ScriptedCall(10, .setResponseFullBody, Array("after".utf8)),
        ScriptedCall(10, .readRequestPath), ScriptedCall(10, .next, naming: 4),
      ]
      let plugin = try ScriptedPlugin(calls + ScriptedCall.next(), threads: way.pluginThreads)
      let (counts, transports) = try expectRightAnswers(load(way), plugin)
      #expect(transports.allSatisfy { $0.right > 0 })
      let sessions = UInt64(transports.reduce(0) { $0 + $1.opened })
      #expect(counts.duplicates >= 2 * sessions)
      #expect(counts.late >= 2 * sessions)
    }

    @Test(arguments: Way.all) func aBodyLargerThanTheQueueArrivesWhole(way: Way) throws {
      let text = String(repeating: "0123456789abcdef", count: 1 << 16)
      let plugin = try ScriptedPlugin(
        [ScriptedCall(1, .setResponseFullBody, Array(text.utf8)), ScriptedCall.stamp(1)]
          + ScriptedCall.next(),
        threads: way.pluginThreads)
      var load = load(way)
      load.verify = Verification(body: text)
      // Each request copies megabytes, beside other tests that keep both cores busy.
      load.measureSeconds = 1
      let (measurement, transports) = try load.runStamped(plugin.library)
      try expectOnlyAnswers(measurement)
      #expect(transports.allSatisfy { $0.wrong == 0 })
    }

    /// Every request was answered with its own session's stamp, whatever else the plugin did.
    private func expectRightAnswers(
      _ load: FFILoad, _ plugin: ScriptedPlugin
    ) throws -> (OutcomeCounts, [StampedTransport]) {
      let (measurement, transports) = try load.runStamped(plugin.library) { $0.answered >= 200 }
      let counts = try #require(measurement.request).counts
      #expect(measurement.invalidReasons.isEmpty)
      #expect(counts.sent > 0)
      #expect(counts.ok == counts.sent)
      #expect(transports.allSatisfy { $0.wrong == 0 })
      return (counts, transports)
    }

    @Test func sessionZeroIsNobody() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      let order = FFILoad().order
      let memory = LoadRecording(order.layout)
      let transports = try FFITransport.make(
        order: order, spec: FFISpec(file: "p"), plugin: plugin.library, area: memory.area)
      for method in [1, 2, 103, 107, 200, 9999] as [UInt32] {
        var call = NylonFfiBuffer(sid: 0, phase: 1, method: method, ptr: nil, len: 0)
        hostReceived(&call, isStamping: false)
      }
      hostReceived(nil, isStamping: false)
      transports[0].tally()
      let counts = memory.area.threadRecorder(0).counts(scope: 0)
      #expect(counts.unexpected == 6)
      #expect(counts.duplicates == 0)
      #expect(try plugin.answer(to: .readRequestFullBody).times == 0)
    }

    @Test func anEarlierPluginsCallsDoNotReachALaterOnesSessions() throws {
      let first = try ScriptedPlugin(ScriptedCall.next())
      try expectOnlyAnswers(FFILoad().run(first.library))
      let order = FFILoad().order
      let memory = LoadRecording(order.layout)
      let old = try #require(theHost).pointee.lastSID
      let second = try ScriptedPlugin(ScriptedCall.next())
      let transports = try FFITransport.make(
        order: order, spec: FFISpec(file: "p"), plugin: second.library, area: memory.area)
      for slot in 0..<4 { #expect(transports[0].open(slot: slot, at: MonotonicClock.nanoseconds)) }
      for sid in 1...old {
        var call = NylonFfiBuffer(sid: sid, phase: 1, method: 1, ptr: nil, len: 0)
        hostReceived(&call, isStamping: false)
      }
      transports[0].tally()
      #expect(transports[0].completions.isEmpty)
      #expect(memory.area.threadRecorder(0).counts(scope: 0).late == UInt64(old))
    }

    private func load(_ way: Way) -> FFILoad {
      FFILoad(dispatch: way.dispatch, threads: way.loadThreads, request: content, verify: untouched)
    }
  }
}
