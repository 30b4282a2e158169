import Foundation
import Lab
import Nylon
import Results
import Testing

@testable import Engine
@testable import Scenario

extension FFITests {
  /// What a host owes a plugin beside answers.
  @Suite struct Letter {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    // MARK: Who owns the bytes of a callback

    @Test(arguments: [Dispatch.queued, .inline], ["inside", "thread"])
    func bytesThatAreTheHostsAreGivenBackEachTime(dispatch: Dispatch, handler: String) throws {
      let plugin = try Counting(workshop, frees: false)
      var load = FFILoad(dispatch: dispatch, payloads: .host, handler: handler)
      load.verify = Verification(responseHeaders: [KeyValue(key: "x-sid", value: "")])
      let (measurement, transports) = try load.runStamped(plugin.library) { $0.answered >= 3000 }
      try expectOnlyAnswers(measurement)
      #expect(transports[0].wrong == 0 && transports[0].right >= 3000)
      // Of a header and of the end of each phase.
      #expect(try plugin.count("count_given") >= 8 * transports[0].right)
      #expect(try plugin.count("count_freed") == plugin.count("count_given"))
    }

    @Test(arguments: [Dispatch.queued, .inline], [PayloadOwner.plugin, .host])
    func theLoadThreadAllocatesNothingForWhatIsSetAndGivenBack(
      dispatch: Dispatch, payloads: PayloadOwner
    ) throws {
      // The plugin allocates on a thread of its own.
      let plugin = try Counting(workshop, frees: payloads == .plugin)
      let load = FFILoad(dispatch: dispatch, payloads: payloads, handler: "thread")
      let measurement = try load.runWarm(plugin.library, answers: 3000)
      try expectOnlyAnswers(measurement)
      #expect(measurement.allocatedBytes == 0)
    }

    @Test(arguments: [Dispatch.queued, .inline], ["inside", "thread"])
    func bytesThatAreThePluginsAreCopiedAndNeverFreed(dispatch: Dispatch, handler: String) throws {
      let plugin = try Counting(workshop, frees: true)
      let load = FFILoad(dispatch: dispatch, payloads: .plugin, handler: handler)
      let (measurement, transports) = try load.runStamped(plugin.library) { $0.answered >= 3000 }
      try expectOnlyAnswers(measurement)
      #expect(transports[0].wrong == 0 && transports[0].right >= 3000)
      #expect(try plugin.count("count_given") >= 8 * transports[0].right)
      #expect(try plugin.count("count_freed") == 0)
    }

    @Test func bytesOfACallForNoSessionAreGivenBackToo() throws {
      let plugin = try Counting(workshop, frees: false)
      let load = FFILoad(payloads: .host, handler: "stray")
      let measurement = try load.run(plugin.library)
      let request = try #require(measurement.request)
      #expect(request.counts.ok == request.counts.sent && request.counts.ok > 0)
      #expect(request.counts.unexpected > 0)
      #expect(try plugin.count("count_freed") == plugin.count("count_given"))
    }

    // MARK: Chunks of the body

    @Test(
      arguments: [Dispatch.queued, .inline],
      [
        "all", "second", "none", "own all", "own second", "own none", "all late", "own second late",
        "own none late",
      ])
    func theBodyFilterReadsAndSetsOneChunkAtATime(dispatch: Dispatch, handler: String) throws {
      let plugin = try PluginLibrary(path: try workshop.compile(chunkPluginSource))
      var load = FFILoad(dispatch: dispatch, handler: handler)
      load.request = RequestSpec(to: "/", bodyBytes: 50)
      load.request.bodyChunks = 3
      let upstream = RequestContent(load.request, seed: 1).response.body
      let body = handler.contains("own") ? Array("what the plugin has set".utf8) : upstream
      let chunks = (0..<3).map { chunk in
        let text = String(
          decoding: body[chunk * body.count / 3..<(chunk + 1) * body.count / 3], as: UTF8.self)
        let isChanged = handler.contains("all") || handler.contains("second") && chunk == 1
        return isChanged ? "[\(text)]" : text
      }
      load.verify = Verification(body: chunks.joined() + (handler.contains("late") ? "!" : ""))
      let measurement = try load.run(plugin)
      try expectOnlyAnswers(measurement)
      let sessions = measurement.scopes[0].counts.sent
      #expect(
        measurement.scopes.map(\.counts.sent) == [sessions, sessions, sessions, 3 * sessions, sessions])
    }

    @Test func aBodyThatIsShorterThanItsChunksAreManyIsGivenInEmptyOnesToo() throws {
      let plugin = try ScriptedPlugin(
        [ScriptedCall(3, .readResponseBytes), ScriptedCall(3, .setResponseFullBody, Array("ab".utf8))]
          + ScriptedCall.next(), threads: 2)
      for (bytes, chunks) in [(0, 4), (2, 4)] {
        var load = FFILoad()
        load.request.bodyBytes = bytes
        load.request.bodyChunks = chunks
        load.verify = Verification(body: String(repeating: "ab", count: chunks))
        try expectOnlyAnswers(load.run(plugin.library))
      }
    }

    // MARK: How the host waits

    @Test(arguments: Spin.allCases, Way.all)
    func asleepOrAwakeEveryPhaseIsAnswered(spin: Spin, way: Way) throws {
      for shape in [
        LoadShape.closed(concurrency: 1), .closed(concurrency: 16),
        .open(ratePerSecond: 2000, arrivals: .poisson),
      ] {
        let plugin = try ScriptedPlugin(
          [ScriptedCall.stamp(1), ScriptedCall(2, .readRequestPath)] + ScriptedCall.next(),
          threads: way.pluginThreads)
        let load = FFILoad(load: shape, dispatch: way.dispatch, spin: spin, threads: way.loadThreads)
        let (measurement, transports) = try load.runStamped(plugin.library) { $0.answered >= 100 }
        try expectOnlyAnswers(measurement)
        #expect(transports.allSatisfy { $0.wrong == 0 })
      }
    }

    @Test(arguments: Spin.allCases, ["NullPlugin/null_plugin", "ThreadedPlugin/threaded_plugin"])
    func theSmallestPluginsAreAnsweredEitherWay(spin: Spin, file: String) throws {
      let path = Workshop.package + "/Sources/Examples/\(file).c"
      let plugin = try PluginLibrary(path: try workshop.compile(file: path, name: "small"))
      defer { plugin.shutdown() }
      for shape in [LoadShape.closed(concurrency: 1), .closed(concurrency: 64)] {
        let load = FFILoad(load: shape, spin: spin, handler: "noop")
        let measurement = try load.runWarm(plugin, answers: 2000)
        try expectOnlyAnswers(measurement)
        #expect(measurement.allocatedBytes == 0)
      }
    }

    @Test(arguments: Spin.allCases) func aThreadThatSleepsIsWokenByTheCallback(spin: Spin) throws {
      let plugin = try PluginLibrary(path: try workshop.compile(sleepWatcherSource))
      let measurement = try FFILoad(load: .closed(concurrency: 1), spin: spin).run(plugin)
      try expectOnlyAnswers(measurement)
    }
  }
}

/// A plugin that counts the bytes that it hands to the callback and those that come back.
private final class Counting {
  let library: PluginLibrary
  private let handle: UnsafeMutableRawPointer

  /// `frees`: whether it frees them itself after the callback.
  init(_ workshop: Workshop, frees: Bool) throws {
    let path = try workshop.compile("#define FREES \(frees ? 1 : 0)\n" + countingPluginSource)
    library = try PluginLibrary(path: path)
    handle = try #require(dlopen(path, RTLD_NOW | RTLD_NOLOAD))
  }

  func count(_ name: String) throws -> Int {
    unsafeBitCast(try #require(dlsym(handle, name)), to: (@convention(c) () -> Int).self)()
  }
}

/// Sets a header `x-sid` in each phase and ends it, both with bytes of its own: inside `event_stream`, on a thread
/// of its own, or also for a session that there is not.
private let countingPluginSource = #"""
  enum { JOBS = 65536 };
  static atomic_long given, freed;
  static int is_threaded, strays;
  static struct { uint32_t sid; uint8_t phase; } jobs[JOBS];
  static unsigned job_head, job_tail;
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  long count_given(void) { return given; }
  long count_freed(void) { return freed; }

  static void give(uint32_t sid, uint8_t phase, uint32_t method, const void *bytes, uint64_t count, uint64_t size) {
    uint8_t *own = malloc(size);
    if (count > 0) memcpy(own, bytes, count);
    given++;
    NylonFfiBuffer buffer = {sid, phase, method, own, count};
    host(&buffer);
    if (FREES) {
      memset(own, 0xEE, size);
      free(own);
    }
  }

  static void answer(uint32_t sid, uint8_t phase) {
    uint8_t out[stamp_bytes];
    stamp(out, sid);
    if (strays) give(sid + (1u << 30), phase, 100, out, sizeof out, sizeof out);
    give(sid, phase, 100, out, sizeof out, sizeof out);
    give(sid, phase, 1, NULL, 0, 1);
  }

  static void *work(void *unused) {
    while (1) {
      pthread_mutex_lock(&mutex);
      while (job_head == job_tail) pthread_cond_wait(&ready, &mutex);
      uint32_t sid = jobs[job_head % JOBS].sid;
      uint8_t phase = jobs[job_head++ % JOBS].phase;
      pthread_mutex_unlock(&mutex);
      answer(sid, phase);
    }
    return unused;
  }

  static void start(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
    pthread_detach(thread);
  }

  void initialize(const char *json, int length) { (void)json; (void)length; }
  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    (void)sid;
    host = callback;
    strays = length == 5 && memcmp(entry, "stray", 5) == 0;
    is_threaded = length == 6 && memcmp(entry, "thread", 6) == 0;
    if (is_threaded) pthread_once(&once, start);
    return true;
  }
  void event_stream(const NylonFfiBuffer *event) {
    if (!is_threaded) {
      answer(event->sid, event->phase);
      return;
    }
    pthread_mutex_lock(&mutex);
    jobs[job_tail % JOBS].sid = event->sid;
    jobs[job_tail++ % JOBS].phase = event->phase;
    pthread_cond_signal(&ready);
    pthread_mutex_unlock(&mutex);
  }
  void close_session_stream(uint32_t sid) { (void)sid; }
  void plugin_free(uint8_t *pointer) {
    freed++;
    free(pointer);
  }
  void shutdown(void) {}
  """#

/// Puts chunks of the response's body in brackets, as its handler's name says: `all`, or the `second`. With `own` it
/// sets a body of its own first, with `late` it appends to the body in the logging phase.
private let chunkPluginSource = #"""
  static int changes_all, changes_second, is_own, is_late;
  static uint8_t chunk_of[65536];

  void initialize(const char *json, int length) { (void)json; (void)length; }
  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    char name[64] = {0};
    memcpy(name, entry, length);
    host = callback;
    chunk_of[sid % 65536] = 0;
    is_own = strstr(name, "own") != NULL;
    is_late = strstr(name, "late") != NULL;
    changes_all = strstr(name, "all") != NULL;
    changes_second = strstr(name, "second") != NULL;
    return true;
  }
  void event_stream(const NylonFfiBuffer *event) {
    uint32_t sid = event->sid;
    if (event->phase == 3) {
      call(sid, 0, 107, NULL, 0);
      return;
    }
    if (event->phase == 0) {
      int chunk = chunk_of[sid % 65536]++;
      if (changes_all || (changes_second && chunk == 1)) {
        uint8_t out[256];
        out[0] = '[';
        memcpy(out + 1, event->ptr, event->len);
        out[event->len + 1] = ']';
        call(sid, 3, 103, out, event->len + 2);
      }
      call(sid, 3, 1, NULL, 0);
      return;
    }
    if (event->phase == 1 && is_own) call(sid, 1, 103, "what the plugin has set", 23);
    if (event->phase == 4 && is_late) call(sid, 4, 104, "!", 1);
    call(sid, event->phase, 1, NULL, 0);
  }
  void close_session_stream(uint32_t sid) { (void)sid; }
  void plugin_free(uint8_t *pointer) { free(pointer); }
  void shutdown(void) {}
  """#

/// Answers from its own thread, and only when the calling thread is asleep.
private let sleepWatcherSource = #"""
  static atomic_uint waiting_sid, waiting_phase;
  static atomic_int caller;
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  static char state_of(int thread) {
    char path[64], state = '?';
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    FILE *file = fopen(path, "r");
    if (file == NULL) return state;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = '?';
    fclose(file);
    return state;
  }

  static void *work(void *unused) {
    while (1) {
      uint32_t sid = waiting_sid;
      if (sid == 0 || state_of(caller) != 'S') {
        usleep(20);
        continue;
      }
      uint8_t phase = (uint8_t)waiting_phase;
      waiting_sid = 0;
      call(sid, phase, 1, NULL, 0);
    }
    return unused;
  }

  static void start(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
    pthread_detach(thread);
  }

  void initialize(const char *json, int length) { (void)json; (void)length; }
  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    (void)sid; (void)entry; (void)length;
    host = callback;
    pthread_once(&once, start);
    return true;
  }
  void event_stream(const NylonFfiBuffer *event) {
    caller = (int)syscall(SYS_gettid);
    waiting_phase = event->phase;
    waiting_sid = event->sid;
  }
  void close_session_stream(uint32_t sid) { (void)sid; }
  void plugin_free(uint8_t *pointer) { free(pointer); }
  void shutdown(void) {}
  """#
