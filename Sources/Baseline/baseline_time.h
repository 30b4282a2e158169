/* What the bare loops share: inline, so that they cost what they must. */
#ifndef BASELINE_TIME_H
#define BASELINE_TIME_H

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "baseline.h"

static inline uint64_t baseline_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline void baseline_record(uint64_t *counters, uint64_t value) {
  if (value > 60000000000ull) value = 60000000000ull;
  int bucket = 53 - __builtin_clzll(value | 2047);
  counters[(bucket << 10) + (int)(value >> bucket)]++;
}

static inline uint64_t baseline_percentile(const uint64_t *counters, uint64_t percent) {
  uint64_t total = 0, seen = 0;
  for (int i = 0; i < BASELINE_COUNTERS; i++) total += counters[i];
  for (int i = 0; i < BASELINE_COUNTERS; i++) {
    seen += counters[i];
    if (seen * 100 >= total * percent && total > 0) {
      int bucket = i < 1024 ? 0 : (i >> 10) - 1;
      return (uint64_t)(i - (bucket << 10)) << bucket;
    }
  }
  return 0;
}

static inline uint64_t baseline_median(const uint64_t *counters) {
  return baseline_percentile(counters, 50);
}

/* The request that a reply subject of at least 8 characters stands for: its last 8 are hexadecimal digits. */
static inline uint32_t baseline_slot(const char *subject, size_t count) {
  uint32_t slot = 0;
  for (size_t i = count - 8; i < count; i++) {
    char digit = subject[i];
    slot = slot << 4 | (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  return slot;
}

#endif
