#define _GNU_SOURCE
/* The bare loops over a plugin in this process. */
#include <pthread.h>

#include "loop.h"

/* ---- a plugin that answers inside event_stream ---- */

static volatile uint32_t answered_sid;

static void keep_answer(const NylonFfiBuffer *answer) { answered_sid = answer->sid; }

int baseline_ffi_loop(BaselinePlugin plugin, uint64_t duration_ns, BaselineResult *result) {
  const uint32_t sid = 1;
  if (!plugin.open(sid, "noop", 4, keep_answer)) return -1;
  uint64_t start = now_ns(), done = start, count = 0;
  while (done - start < duration_ns) {
    NylonFfiBuffer phase = {.sid = sid, .phase = (uint8_t)(1 + (count & 3))};
    answered_sid = 0;
    uint64_t sent = now_ns();
    plugin.event(&phase);
    if (answered_sid != sid) return -1;
    done = now_ns();
    record(done - sent);
    count++;
  }
  plugin.close(sid);
  *result = (BaselineResult){count, done - start, take_percentile(50)};
  return 0;
}

static uint64_t response_counters[COUNTERS];

int baseline_pacing(BaselinePlugin plugin, const uint64_t *times, uint64_t count, uint64_t *p99_ns) {
  uint64_t start = now_ns() + 1000000;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t wanted = start + times[i], now = now_ns();
    if (now < wanted) {
      struct timespec until = {.tv_sec = (time_t)(wanted / 1000000000ull),
                               .tv_nsec = (long)(wanted % 1000000000ull)};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
      now = now_ns();
    }
    record(now > wanted ? now - wanted : 0);
    /* As in the engine, a request is a session of its own. */
    const uint32_t sid = (uint32_t)i + 1;
    if (!plugin.open(sid, "noop", 4, keep_answer)) return -1;
    NylonFfiBuffer phase = {.sid = sid, .phase = 1};
    answered_sid = 0;
    plugin.event(&phase);
    if (answered_sid != sid) return -1;
    /* An open load measures response times, so a loop without them would do less than the engine has to. */
    record_in(response_counters, now_ns() - wanted);
    plugin.close(sid);
  }
  *p99_ns = take_percentile(99);
  return 0;
}

/* ---- a plugin that answers from a thread of its own ---- */

enum { QUEUE_PLACES = 1 << 16 };

static struct {
  pthread_mutex_t lock;
  pthread_cond_t filled;
  uint32_t sids[QUEUE_PLACES];
  uint32_t head, tail;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static void queue_answer(const NylonFfiBuffer *answer) {
  pthread_mutex_lock(&queue.lock);
  queue.sids[queue.tail++ % QUEUE_PLACES] = answer->sid;
  pthread_cond_signal(&queue.filled);
  pthread_mutex_unlock(&queue.lock);
}

static uint32_t take_answer(void) {
  pthread_mutex_lock(&queue.lock);
  while (queue.head == queue.tail) pthread_cond_wait(&queue.filled, &queue.lock);
  uint32_t sid = queue.sids[queue.head++ % QUEUE_PLACES];
  pthread_mutex_unlock(&queue.lock);
  return sid;
}

int baseline_ffi_queue(BaselinePlugin plugin, uint32_t in_flight, uint64_t duration_ns, BaselineResult *result) {
  if (in_flight == 0 || in_flight >= QUEUE_PLACES) return -1;
  uint64_t *sent = calloc(in_flight + 1, sizeof *sent);
  if (!sent) return -1;
  uint64_t start = now_ns(), done = start, count = 0;
  for (uint32_t sid = 1; sid <= in_flight; sid++) {
    if (!plugin.open(sid, "noop", 4, queue_answer)) {
      free(sent);
      return -1;
    }
    NylonFfiBuffer phase = {.sid = sid, .phase = 1};
    sent[sid] = now_ns();
    plugin.event(&phase);
  }
  while (done - start < duration_ns) {
    uint32_t sid = take_answer();
    done = now_ns();
    record(done - sent[sid]);
    NylonFfiBuffer phase = {.sid = sid, .phase = (uint8_t)(1 + (++count & 3))};
    sent[sid] = now_ns();
    plugin.event(&phase);
  }
  for (uint32_t left = in_flight; left > 0; left--) plugin.close(take_answer());
  free(sent);
  *result = (BaselineResult){count, done - start, take_percentile(50)};
  return 0;
}

/* ---- the parts ---- */

double baseline_clock_ns(void) {
  enum { READS = 2000000 };
  volatile uint64_t last = 0;
  uint64_t start = now_ns();
  for (int i = 0; i < READS; i++) last = now_ns();
  return (double)(last - start) / READS;
}
