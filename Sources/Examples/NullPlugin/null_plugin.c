/* The smallest plugin: it answers NEXT inside event_stream and does nothing else, so the engine
 * measures itself with it. */
#include "../small_plugin.h"

NYLON_EXPORT bool register_session_stream(uint32_t sid, const char *entry, uint32_t length,
                                          NylonCallback callback) {
  return keep_callback(sid, entry, length, callback);
}

NYLON_EXPORT void event_stream(const NylonFfiBuffer *event) {
  if (is_phase(event)) answer_next(event->sid, event->phase);
}

NYLON_EXPORT void shutdown(void) {}
