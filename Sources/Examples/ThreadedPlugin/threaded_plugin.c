/* The smallest plugin that answers from its own thread, as real SDKs do: one queue, one thread. With it
 * the engine measures itself and one hand-over to another thread and back. It supports one host thread,
 * since phases are written without a lock. */
#include "../small_plugin.h"

#include <pthread.h>

enum { turns = 4000 };

/* Pending phases: written by the host's thread, read by the plugin's. A host has at most one phase
 * in flight per session, so the ring does not overflow. */
static struct {
  uint32_t sid;
  uint8_t phase;
} ring[slots];
static _Atomic uint32_t written, taken;
static _Atomic bool is_asleep, is_over;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/* Waits until a phase is pending: first spinning, then asleep. */
static bool wait_for_more(uint32_t place) {
  for (int turn = 0; turn < turns; turn++) {
    if (atomic_load_explicit(&written, memory_order_acquire) != place) return true;
    relax();
  }
  pthread_mutex_lock(&lock);
  atomic_store(&is_asleep, true);
  while (atomic_load(&written) == place && !atomic_load(&is_over)) pthread_cond_wait(&filled, &lock);
  atomic_store(&is_asleep, false);
  pthread_mutex_unlock(&lock);
  return !atomic_load(&is_over);
}

static void *answer_all(void *nothing) {
  uint32_t place = 0;
  while (wait_for_more(place)) {
    uint32_t end = atomic_load_explicit(&written, memory_order_acquire);
    for (; place != end; place++) {
      uint32_t sid = ring[place % slots].sid;
      uint8_t phase = ring[place % slots].phase;
      atomic_store_explicit(&taken, place + 1, memory_order_release);
      answer_next(sid, phase);
    }
  }
  return nothing;
}

static void start_thread(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, answer_all, NULL) == 0) pthread_detach(thread);
}

NYLON_EXPORT bool register_session_stream(uint32_t sid, const char *entry, uint32_t length,
                                          NylonCallback callback) {
  pthread_once(&once, start_thread);
  return keep_callback(sid, entry, length, callback);
}

NYLON_EXPORT void event_stream(const NylonFfiBuffer *event) {
  if (!is_phase(event)) return;
  uint32_t place = atomic_load_explicit(&written, memory_order_relaxed);
  if (place - atomic_load_explicit(&taken, memory_order_acquire) >= slots) return;
  ring[place % slots].sid = event->sid;
  ring[place % slots].phase = event->phase;
  atomic_store(&written, place + 1);
  if (!atomic_load(&is_asleep)) return;
  pthread_mutex_lock(&lock);
  pthread_cond_signal(&filled);
  pthread_mutex_unlock(&lock);
}

NYLON_EXPORT void shutdown(void) {
  pthread_mutex_lock(&lock);
  atomic_store(&is_over, true);
  pthread_cond_signal(&filled);
  pthread_mutex_unlock(&lock);
}
