/* Clock and histogram of the bare loops: inline, so that they cost what they must. */
#ifndef FLOOR_TIME_H
#define FLOOR_TIME_H

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "floor.h"

static inline uint64_t floor_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline void floor_record(uint64_t *counters, uint64_t value) {
  if (value > 60000000000ull) value = 60000000000ull;
  int bucket = 53 - __builtin_clzll(value | 2047);
  counters[(bucket << 10) + (int)(value >> bucket)]++;
}

static inline uint64_t floor_percentile(const uint64_t *counters, uint64_t percent) {
  uint64_t total = 0, seen = 0;
  for (int i = 0; i < FLOOR_COUNTERS; i++) total += counters[i];
  for (int i = 0; i < FLOOR_COUNTERS; i++) {
    seen += counters[i];
    if (seen * 100 >= total * percent && total > 0) {
      int bucket = i < 1024 ? 0 : (i >> 10) - 1;
      return (uint64_t)(i - (bucket << 10)) << bucket;
    }
  }
  return 0;
}

static inline uint64_t floor_median(const uint64_t *counters) {
  return floor_percentile(counters, 50);
}

#endif
