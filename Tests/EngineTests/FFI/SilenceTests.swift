import TestSupport
import Foundation
import Lab
import Results
import Nylon
import Scenario
import Testing

@testable import Engine

extension FFITests {
  @Suite struct Silence {
    @Test(arguments: Way.all) func aPluginThatNeverAnswersMakesTimeoutsAtTheDeadline(way: Way) throws {
      let plugin = try ScriptedPlugin([ScriptedCall(1, .next)], threads: way.pluginThreads)
      // The second phase has no answer: a session that is stuck ends, whatever the policy says.
      for onError in ErrorAction.allCases {
        let load = FFILoad(
          dispatch: way.dispatch, threads: way.loadThreads, timeoutMilliseconds: 200, onError: onError)
        let measurement = try load.run(plugin.library)
        let request = try #require(measurement.request)
        #expect(request.counts.sent >= 4)
        #expect(request.counts.timeouts == request.counts.sent)
        #expect(request.counts.retries == 0)
        #expect(request.response.count == request.counts.sent)
        #expect(request.response.leastNanoseconds >= 200_000_000)
        #expect(measurement.scopes[1].counts.ok == request.counts.sent)
        #expect(measurement.scopes[2].counts.timeouts == request.counts.sent)
        #expect(measurement.scopes[3].counts.sent == 0)
        #expect(measurement.scopes.allSatisfy { $0.counts.closes })
        #expect(try plugin.count("count_closed") == plugin.count("count_opened"))
      }
    }

    @Test func whatHasNoAnswerWhenTheDrainEndsIsLost() throws {
      let plugin = try ScriptedPlugin([])
      var load = FFILoad()
      load.drainSeconds = 0.05
      let measurement = try load.run(plugin.library)
      let request = try #require(measurement.request)
      #expect(request.counts.sent == 4)
      #expect(request.counts.lost == 4)
      #expect(request.response.count == 4)
      #expect(measurement.invalidReasons.isEmpty)
      #expect(try plugin.count("count_closed") == 5)
    }

    @Test(arguments: [1, 2]) func aLoadThatIsStoppedKeepsWhatItHas(threads: Int) throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      var load = FFILoad(threads: threads)
      load.measureSeconds = 600
      let order = load.order
      let memory = LoadRecording(order.layout)
      let transports = try FFITransport.make(
        order: order, spec: FFISpec(file: "p"), plugin: plugin.library, area: memory.area)
      memory.endLoad { $0.answered >= 100 }
      let measurement = LoadRunner(order: order, area: memory.area) { ResourceSample() }.run(
        transports: transports)
      try expectOnlyAnswers(measurement)
      #expect(measurement.durationSeconds < 600)
      let request = try #require(measurement.request)
      // Nobody went on past the end: what was sent was sent before it, and all but the last were
      // answered before it too.
      #expect(request.counts.ok - request.okInWindow <= 4)
    }

    @Test func aPluginThatDoesNotComeBackFromACallIsSaidToHang() throws {
      let workshop = try Workshop()
      let plugin = try PluginLibrary(path: try workshop.compile(hangingPluginSource))
      var load = FFILoad(measureSeconds: 0.1, timeoutMilliseconds: 50)
      load.drainSeconds = 0.05
      let measurement = try load.run(plugin, keepingMemory: true)
      let request = try #require(measurement.request)
      #expect(measurement.invalidReasons.map(\.code) == [.pluginHung])
      #expect(request.counts.sent > 0)
      #expect(request.counts.lost > 0)
      #expect(measurement.scopes.allSatisfy { $0.counts.closes })
    }

    @Test func aPluginThatAnswersAfterTheTimeoutIsLateAndEndsNoOtherSession() throws {
      let workshop = try Workshop()
      let plugin = try PluginLibrary(path: try workshop.compile(slowPluginSource))
      var load = FFILoad(load: .closed(concurrency: 8), measureSeconds: 0.4, timeoutMilliseconds: 20)
      load.phases = [.requestFilter]
      let (measurement, transports) = try load.runStamped(plugin)
      let request = try #require(measurement.request)
      // Every fourth session is answered after 45 ms, far past its deadline, from another thread.
      #expect(request.counts.timeouts > 0)
      #expect(request.counts.late > 0)
      #expect(request.counts.ok > 0)
      #expect(request.counts.duplicates == 0)
      #expect(request.counts.closes)
      #expect(transports[0].wrong == 0)
      #expect(request.response.count == request.counts.sent - request.counts.handlerErrors)
    }
  }
}

/// Every fourth session is answered 45 ms later from a thread of its own; the rest at once.
private let slowPluginSource = #"""
  static atomic_uint events;

  static void answer(uint32_t sid) {
    uint8_t out[stamp_bytes];
    stamp(out, sid);
    call(sid, 1, 100, out, sizeof out);
    call(sid, 1, 1, NULL, 0);
  }

  static void *slowly(void *sid) {
    usleep(45000);
    answer((uint32_t)(uintptr_t)sid);
    return NULL;
  }

  void initialize(const char *json, int length) { (void)json; (void)length; }
  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    (void)sid; (void)entry; (void)length;
    host = callback;
    return true;
  }
  void event_stream(const NylonFfiBuffer *event) {
    if (event->phase == 0) return;
    if (events++ % 4 != 0) {
      answer(event->sid);
      return;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, slowly, (void *)(uintptr_t)event->sid);
    pthread_detach(thread);
  }
  void close_session_stream(uint32_t sid) { (void)sid; }
  void plugin_free(uint8_t *pointer) { free(pointer); }
  void shutdown(void) {}
  """#

/// The hundredth phase never returns.
private let hangingPluginSource = #"""
  static int phases;

  void initialize(const char *json, int length) { (void)json; (void)length; }
  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    (void)sid; (void)entry; (void)length;
    host = callback;
    return true;
  }
  void event_stream(const NylonFfiBuffer *event) {
    if (++phases == 100)
      while (1) pause();
    call(event->sid, event->phase, 1, NULL, 0);
  }
  void close_session_stream(uint32_t sid) { (void)sid; }
  void plugin_free(uint8_t *pointer) { free(pointer); }
  void shutdown(void) {}
  """#
