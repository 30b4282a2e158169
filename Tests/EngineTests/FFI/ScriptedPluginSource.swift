/// A plugin in C that does what a script says: for each phase a list of calls.
///
/// With `threads` of 0 it calls inside `event_stream`, else on threads of its own. A call that
/// waits goes on when the answer is there. A length of `UINT64_MAX` stands for a header `x-sid` with the
/// session's id.
let scriptedPluginSource = #"""
  typedef struct {
    uint8_t phase, named_phase, waits;
    uint32_t method;
    int64_t sid_offset;
    const uint8_t *bytes;
    uint64_t count;
  } Step;
  typedef struct { uint32_t sid; uint8_t phase; int from; } Job;
  enum { STEPS = 256, SESSIONS = 65536, JOBS = 65536, KINDS = 512, MOST_THREADS = 8 };

  static Step steps[STEPS];
  static int step_count, thread_count;
  static struct { uint8_t phase; int next; } sessions[SESSIONS];
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
  static Job jobs[JOBS];
  static unsigned job_head, job_tail;
  static pthread_mutex_t answer_mutex = PTHREAD_MUTEX_INITIALIZER;
  static struct { uint8_t *bytes; uint64_t count; unsigned times; } answers[KINDS];
  static char configuration[4096];
  static atomic_uint opened, closed, shut;

  static void run(uint32_t sid, uint8_t phase, int from) {
    uint8_t own[64];
    for (int i = from; i < step_count; i++) {
      Step step = steps[i];
      if (step.phase != phase) continue;
      sessions[sid % SESSIONS].phase = phase;
      sessions[sid % SESSIONS].next = i + 1;
      NylonFfiBuffer call = {(uint32_t)(sid + step.sid_offset), step.named_phase, step.method,
                             step.bytes, step.count};
      if (step.count == UINT64_MAX) {
        stamp(own, sid);
        call.ptr = own;
        call.len = stamp_bytes;
      }
      host(&call);
      memset(own, 0xEE, sizeof own);
      if (step.waits) return;
    }
  }

  static void later(Job job) {
    pthread_mutex_lock(&mutex);
    jobs[job_tail++ % JOBS] = job;
    pthread_cond_signal(&ready);
    pthread_mutex_unlock(&mutex);
  }

  static void *work(void *unused) {
    while (1) {
      pthread_mutex_lock(&mutex);
      while (job_head == job_tail) pthread_cond_wait(&ready, &mutex);
      Job job = jobs[job_head++ % JOBS];
      pthread_mutex_unlock(&mutex);
      run(job.sid, job.phase, job.from);
    }
    return unused;
  }

  void add_step(uint8_t phase, uint8_t named_phase, uint32_t method, int64_t sid_offset,
                const uint8_t *bytes, uint64_t count, uint8_t waits) {
    uint8_t *copy = NULL;
    if (bytes != NULL) memcpy(copy = malloc(count + 1), bytes, count);
    steps[step_count++] = (Step){phase, named_phase, waits, method, sid_offset, copy, count};
  }

  void use_threads(int count) {
    thread_count = count;
    for (int i = 0; i < count; i++) {
      pthread_t thread;
      pthread_create(&thread, NULL, work, NULL);
      pthread_detach(thread);
    }
  }

  unsigned answered(uint32_t method, const uint8_t **bytes, uint64_t *count) {
    pthread_mutex_lock(&answer_mutex);
    *bytes = answers[method % KINDS].bytes;
    *count = answers[method % KINDS].count;
    unsigned times = answers[method % KINDS].times;
    pthread_mutex_unlock(&answer_mutex);
    return times;
  }

  const char *configured(void) { return configuration; }
  unsigned count_opened(void) { return opened; }
  unsigned count_closed(void) { return closed; }

  void initialize(const char *json, int length) { snprintf(configuration, sizeof configuration, "%.*s", length, json); }

  bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
    host = callback;
    if (length != 6 || memcmp(entry, "script", 6) != 0) return false;
    opened++;
    run(sid, 9, 0);
    return true;
  }

  void event_stream(const NylonFfiBuffer *event) {
    uint8_t phase = event->phase;
    int from = 0;
    if (phase == 0) {
      pthread_mutex_lock(&answer_mutex);
      uint8_t *copy = realloc(answers[event->method % KINDS].bytes, event->len + 1);
      if (event->len > 0) memcpy(copy, event->ptr, event->len);
      answers[event->method % KINDS].bytes = copy;
      answers[event->method % KINDS].count = event->len;
      answers[event->method % KINDS].times++;
      pthread_mutex_unlock(&answer_mutex);
      phase = sessions[event->sid % SESSIONS].phase;
      from = sessions[event->sid % SESSIONS].next;
    }
    if (thread_count > 0) later((Job){event->sid, phase, from});
    else run(event->sid, phase, from);
  }

  void close_session_stream(uint32_t sid) {
    closed++;
    run(sid, 10, 0);
  }

  void plugin_free(uint8_t *pointer) { free(pointer); }
  void shutdown(void) { shut++; }
  """#

@testable import Engine
