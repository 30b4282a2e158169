/* The smallest plugin: answers NEXT inside event_stream, and nothing else. What the engine
 * measures with it is the engine itself. */
#include "nylon_abi.h"

#include <stdatomic.h>
#include <stdlib.h>

#define NYLON_EXPORT __attribute__((visibility("default")))

enum { method_next = 1, slots = 65536 };

/* A host gives each of its threads' sessions its own callback, and session ids are not
 * reused within a load. Two sessions meet in a slot only when 65535 opened between them
 * and the first is still open; then they matter only if their callbacks differ. */
static _Atomic(NylonCallback) callbacks[slots];

NYLON_EXPORT void initialize(const char *config_json, int length) {
  (void)config_json;
  (void)length;
}

NYLON_EXPORT bool register_session_stream(uint32_t sid, const char *entry, uint32_t length,
                                          NylonCallback callback) {
  (void)entry;
  (void)length;
  if (callback == NULL) return false;
  atomic_store_explicit(&callbacks[sid % slots], callback, memory_order_release);
  return true;
}

NYLON_EXPORT void event_stream(const NylonFfiBuffer *event) {
  if (event == NULL || event->phase < 1 || event->phase > 4) return;
  NylonCallback callback =
      atomic_load_explicit(&callbacks[event->sid % slots], memory_order_acquire);
  if (callback == NULL) return;
  NylonFfiBuffer next = {
      .sid = event->sid, .phase = event->phase, .method = method_next, .ptr = NULL, .len = 0};
  callback(&next);
}

NYLON_EXPORT void close_session_stream(uint32_t sid) { (void)sid; }

NYLON_EXPORT void plugin_free(uint8_t *pointer) { free(pointer); }

NYLON_EXPORT void shutdown(void) {}
