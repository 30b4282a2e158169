/* Shared by the bare loops; inline, so that sharing adds no cost. */
#ifndef BASELINE_LOOP_H
#define BASELINE_LOOP_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "baseline.h"

/* A histogram laid out as HdrHistogram's: 3 digits, 1 ns to 60 s. */
enum { COUNTERS = 27 * 1024 };
static uint64_t counters[COUNTERS];

static inline uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline void record_in(uint64_t *histogram, uint64_t value) {
  if (value > 60000000000ull) value = 60000000000ull;
  int bucket = 53 - __builtin_clzll(value | 2047);
  histogram[(bucket << 10) + (int)(value >> bucket)]++;
}

static inline void record(uint64_t value) { record_in(counters, value); }

/* The percentile of all recorded values; resets the histogram. */
static inline uint64_t take_percentile(uint64_t percent) {
  uint64_t total = 0, seen = 0;
  int i = 0;
  for (int place = 0; place < COUNTERS; place++) total += counters[place];
  while (i < COUNTERS - 1 && (seen += counters[i]) * 100 < total * percent) i++;
  memset(counters, 0, sizeof counters);
  int bucket = i < 1024 ? 0 : (i >> 10) - 1;
  return (uint64_t)(i - (bucket << 10)) << bucket;
}

/* The state of a client's loop. */
typedef struct Run {
  const BaselineLoad *load;
  uint64_t *sent; /* of each request in flight */
  uint64_t start, now, count;
} Run;

/* Counts a reply that has just arrived, and returns the slot of its request, or -EPROTO. The last 8
 * characters of a reply subject are the slot in hexadecimal digits. */
static inline int64_t answered(Run *run, const char *subject, size_t length, size_t payload) {
  uint32_t slot = 0;
  for (size_t i = length - 8; i < length; i++) {
    char digit = subject[i];
    slot = slot << 4 | (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  if (slot >= run->load->in_flight || payload == 0) return -EPROTO;
  run->now = now_ns();
  if (run->now >= run->start) {
    record(run->now - run->sent[slot]);
    run->count++;
  }
  return slot;
}

static inline BaselineResult result_of(const Run *run) {
  return (BaselineResult){run->count, run->now - run->start, take_percentile(50)};
}

#endif
