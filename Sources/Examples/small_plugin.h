/* Shared by the two smallest plugins: everything but the way in which they answer a phase. */
#include "nylon_abi.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NYLON_EXPORT __attribute__((visibility("default")))

enum { method_next = 1, slots = 65536 };

/* A host uses one callback for all sessions of a thread, and does not reuse session ids within
 * a load. Two sessions share a slot only if 65535 were opened between them and the first is
 * still open; this matters only if their callbacks differ. */
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

/* Opens a session; false for any handler but `noop`. */
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
