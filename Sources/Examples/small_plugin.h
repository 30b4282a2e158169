/* What the two smallest plugins share: everything but the way in which a phase is answered. */
#include "nylon_abi.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NYLON_EXPORT __attribute__((visibility("default")))

enum { method_next = 1, slots = 65536 };

/* A host gives each of its threads' sessions its own callback, and session ids are not
 * reused within a load. Two sessions meet in a slot only when 65535 opened between them
 * and the first is still open; then they matter only if their callbacks differ. */
static _Atomic(NylonCallback) callbacks[slots];

static inline void answer_next(uint32_t sid, uint8_t phase) {
  NylonCallback callback = atomic_load_explicit(&callbacks[sid % slots], memory_order_acquire);
  if (callback == NULL) return;
  NylonFfiBuffer next = {.sid = sid, .phase = phase, .method = method_next, .ptr = NULL, .len = 0};
  callback(&next);
}

static inline bool is_phase(const NylonFfiBuffer *event) {
  return event != NULL && event->phase >= 1 && event->phase <= 4;
}

/* Opens a session; false for another handler than the one that there is. */
static inline bool keep_callback(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
  if (callback == NULL || length != 4 || memcmp(entry, "noop", 4) != 0) return false;
  atomic_store_explicit(&callbacks[sid % slots], callback, memory_order_release);
  return true;
}

NYLON_EXPORT void initialize(const char *config_json, int length) {
  (void)config_json;
  (void)length;
}

NYLON_EXPORT void close_session_stream(uint32_t sid) { (void)sid; }

NYLON_EXPORT void plugin_free(uint8_t *pointer) { free(pointer); }
