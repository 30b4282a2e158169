import CJemalloc
import Lab
import Results
import Nylon
import Scenario
import Testing

@testable import Engine

extension FFITests {
  @Suite struct Stress {
    @Test(arguments: Way.all.filter { $0.pluginThreads > 0 })
    func threadsThatAnswer64SessionsLoseNoneAndMixNone(way: Way) throws {
      // Writes, a read that is waited for, and an end, from six threads.
      let calls =
        [ScriptedCall.stamp(1), ScriptedCall(2, .readRequestPath), ScriptedCall.stamp(3)]
        + ScriptedCall.next()
      let plugin = try ScriptedPlugin(calls, threads: 6)
      var load = FFILoad(load: .closed(concurrency: 64), dispatch: way.dispatch, threads: way.loadThreads)
      load.measureSeconds = 1
      let (measurement, transports) = try load.runStamped(plugin.library)
      try expectOnlyAnswers(measurement)
      #expect(transports.allSatisfy { $0.wrong == 0 && $0.right > 64 })
      #expect(transports.allSatisfy { $0.opened == $0.ended })
      #expect(try #require(measurement.request).counts.sent > 128)
      #expect(try plugin.answer(to: .readRequestPath).times == transports.reduce(0) { $0 + $1.opened })
    }

    @Test(arguments: [Dispatch.queued, .inline])
    func aFullQueueMakesThreadsWaitAndLosesNothing(dispatch: Dispatch) throws {
      // 64 sessions of 40 calls of 30,000 bytes: far more than the queue holds.
      let piece = [UInt8](repeating: 120, count: 30_000)
      let calls = (0..<40).map { _ in ScriptedCall(1, .setResponseStreamData, piece) }
      let plugin = try ScriptedPlugin(
        [ScriptedCall.stamp(1), ScriptedCall(1, .setResponseFullBody, [])] + calls + ScriptedCall.next(),
        threads: 4)
      var load = FFILoad(load: .closed(concurrency: 64), dispatch: dispatch)
      load.verify = Verification(body: String(repeating: "x", count: 40 * 30_000))
      load.drainSeconds = 5
      let (measurement, transports) = try load.runStamped(plugin.library)
      try expectOnlyAnswers(measurement)
      #expect(transports[0].wrong == 0)
    }

    @Test(arguments: [Dispatch.queued, .inline], ["1", "2", "111", "102", "107", "0"])
    func aThreadThatCallsWithoutEndEndsNothingElse(dispatch: Dispatch, method: String) throws {
      let workshop = try Workshop()
      let source = floodingPluginSource.replacingOccurrences(of: "METHOD", with: method)
      let plugin = try PluginLibrary(path: try workshop.compile(source))
      defer { plugin.shutdown() }
      var load = FFILoad(load: .closed(concurrency: 4), dispatch: dispatch, measureSeconds: 0.5)
      load.timeoutMilliseconds = 1000
      let measurement = try load.run(plugin, keepingMemory: true)
      let request = try #require(measurement.request)
      #expect(measurement.invalidReasons.isEmpty, "\(measurement.invalidReasons)")
      #expect(measurement.scopes.allSatisfy { $0.counts.closes })
      #expect(request.counts.ok > 0)
      // No request takes longer than the load.
      #expect(measurement.scopes.allSatisfy { $0.response.greatestNanoseconds < 10_000_000_000 })
    }

    @Test(
      arguments: [Dispatch.queued, .inline],
      [(Phase.session, false), ([.requestFilter], false), (Phase.session, true), ([.requestFilter], true)])
    func theLoadThreadAllocatesNothingWithTheNullPlugin(
      dispatch: Dispatch, load of: (phases: [Phase], decompose: Bool)
    ) throws {
      let workshop = try Workshop()
      let plugin = try PluginLibrary(
        path: try workshop.compile(
          file: Workshop.package + "/Sources/Examples/NullPlugin/null_plugin.c", name: "null"))
      for shape in [LoadShape.closed(concurrency: 8), .open(ratePerSecond: 40_000, arrivals: .poisson)] {
        var load = FFILoad(load: shape, dispatch: dispatch, handler: "noop")
        load.phases = of.phases
        load.decompose = of.decompose
        let measurement = try load.runWarm(plugin, answers: 10_000)
        try expectOnlyAnswers(measurement)
        #expect(measurement.allocatedBytes == 0, "\(shape.label)")
        #expect(measurement.scopes.dropFirst().allSatisfy { ($0.decomposition != nil) == of.decompose })
        #expect(measurement.scopes.dropFirst().reduce(0) { $0 + $1.counts.ok } > 1000)
      }
    }

    @Test func theCounterOfAllocationsCounts() throws {
      let counter = try #require(ThreadAllocations.counter)
      let before = counter.pointee
      let memory = UnsafeMutableRawPointer.allocate(byteCount: 100_000, alignment: 8)
      memory.deallocate()
      #expect(counter.pointee >= before + 100_000)
    }
  }
}

/// Answers at once, while a thread calls the same method for the newest session again and again until shutdown.
private let floodingPluginSource = #"""
  static atomic_uint newest;
  static atomic_bool stopped;
  static pthread_t thread;

  static void *flood(void *unused) {
    while (!stopped) {
      uint32_t sid = newest;
      if (sid != 0) call(sid, 0, METHOD, "\0\310", METHOD == 102 ? 2 : 0);
    }
    return unused;
  }

  void initialize(const char *json, int length) { (void)json; (void)length; }
  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    (void)entry; (void)length;
    host = callback;
    newest = sid;
    if (thread == 0) pthread_create(&thread, NULL, flood, NULL);
    return true;
  }
  void event_stream(const NylonFfiBuffer *event) {
    if (event->phase != 0) call(event->sid, event->phase, 1, NULL, 0);
  }
  void close_session_stream(uint32_t sid) { (void)sid; }
  void plugin_free(uint8_t *pointer) { free(pointer); }
  void shutdown(void) {
    stopped = true;
    pthread_join(thread, NULL);
  }
  """#
