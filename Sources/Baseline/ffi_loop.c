#define _GNU_SOURCE
/* The bare loops over a plugin in this process. */
#include <pthread.h>
#include <stdlib.h>

#include "baseline_time.h"

static uint64_t counters[BASELINE_COUNTERS];

/* ---- a plugin that answers inside event_stream ---- */

static volatile uint32_t answered;

static void count_answer(const NylonFfiBuffer *answer) { answered = answer->sid; }

int baseline_ffi_loop(NylonRegisterSessionStream open, NylonEventStream event,
                   NylonCloseSessionStream close, uint64_t duration_ns, BaselineResult *result) {
  memset(counters, 0, sizeof counters);
  const uint32_t sid = 1;
  if (!open(sid, "noop", 4, count_answer)) return -1;
  uint64_t start = baseline_now(), done = start, count = 0;
  while (done - start < duration_ns) {
    NylonFfiBuffer phase = {.sid = sid, .phase = (uint8_t)(1 + (count & 3))};
    answered = 0;
    uint64_t sent = baseline_now();
    event(&phase);
    if (answered != sid) return -1;
    done = baseline_now();
    baseline_record(counters, done - sent);
    count++;
  }
  close(sid);
  *result = (BaselineResult){count, done - start, baseline_median(counters)};
  return 0;
}

int baseline_pacing(NylonRegisterSessionStream open, NylonEventStream event,
                 NylonCloseSessionStream close, const uint64_t *times, uint64_t count,
                 uint64_t *p99_ns) {
  memset(counters, 0, sizeof counters);
  const uint32_t sid = 1;
  if (!open(sid, "noop", 4, count_answer)) return -1;
  uint64_t start = baseline_now() + 1000000;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t wanted = start + times[i], now = baseline_now();
    if (now < wanted) {
      struct timespec until = {.tv_sec = (time_t)(wanted / 1000000000ull),
                               .tv_nsec = (long)(wanted % 1000000000ull)};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
      now = baseline_now();
    }
    baseline_record(counters, now > wanted ? now - wanted : 0);
    NylonFfiBuffer phase = {.sid = sid, .phase = 1};
    answered = 0;
    event(&phase);
    if (answered != sid) return -1;
  }
  close(sid);
  *p99_ns = baseline_percentile(counters, 99);
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

int baseline_ffi_queue(NylonRegisterSessionStream open, NylonEventStream event,
                    NylonCloseSessionStream close, uint32_t in_flight, uint64_t duration_ns,
                    BaselineResult *result) {
  if (in_flight == 0 || in_flight >= QUEUE_PLACES) return -1;
  memset(counters, 0, sizeof counters);
  uint64_t *sent = calloc(in_flight + 1, sizeof *sent);
  if (!sent) return -1;
  uint64_t start = baseline_now(), done = start, count = 0;
  for (uint32_t sid = 1; sid <= in_flight; sid++) {
    if (!open(sid, "noop", 4, queue_answer)) {
      free(sent);
      return -1;
    }
    NylonFfiBuffer phase = {.sid = sid, .phase = 1};
    sent[sid] = baseline_now();
    event(&phase);
  }
  while (done - start < duration_ns) {
    uint32_t sid = take_answer();
    done = baseline_now();
    baseline_record(counters, done - sent[sid]);
    NylonFfiBuffer phase = {.sid = sid, .phase = (uint8_t)(1 + (++count & 3))};
    sent[sid] = baseline_now();
    event(&phase);
  }
  for (uint32_t left = in_flight; left > 0; left--) close(take_answer());
  free(sent);
  *result = (BaselineResult){count, done - start, baseline_median(counters)};
  return 0;
}

/* ---- the parts ---- */

double baseline_clock_ns(void) {
  enum { READS = 2000000 };
  volatile uint64_t last = 0;
  uint64_t start = baseline_now();
  for (int i = 0; i < READS; i++) last = baseline_now();
  return (double)(last - start) / READS;
}
