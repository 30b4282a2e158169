/* The C contract between Nylon and a plugin: six symbols and one struct.
 *
 * A plugin is a shared library that exports the six functions below. The host
 * starts a phase with nylon_event_stream (phase 1-4, method 0); the plugin answers
 * through the callback that it was given for the session, from any thread, at
 * once or later. The callback has no user pointer: only `sid` says whose it is.
 */
#ifndef NYLON_ABI_H
#define NYLON_ABI_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One event, in either direction. `ptr` is valid only during the call. */
typedef struct NylonFfiBuffer {
  uint32_t sid;
  uint8_t phase;
  uint32_t method;
  const uint8_t *ptr;
  uint64_t len;
} NylonFfiBuffer;

/* Host's side of a session: takes what the plugin calls. */
typedef void (*NylonCallback)(const NylonFfiBuffer *);

/* The types of the six symbols. */
typedef void (*NylonInitialize)(const char *config_json, int length);
typedef bool (*NylonRegisterSessionStream)(uint32_t sid, const char *entry, uint32_t length,
                                           NylonCallback callback);
typedef void (*NylonEventStream)(const NylonFfiBuffer *);
typedef void (*NylonCloseSessionStream)(uint32_t sid);
typedef void (*NylonPluginFree)(uint8_t *);
typedef void (*NylonShutdown)(void);

static_assert(sizeof(NylonFfiBuffer) == 32, "FfiBuffer is 32 bytes on 64-bit systems");
static_assert(offsetof(NylonFfiBuffer, sid) == 0, "sid first");
static_assert(offsetof(NylonFfiBuffer, phase) == 4, "phase after sid");
static_assert(offsetof(NylonFfiBuffer, method) == 8, "method on its own word");
static_assert(offsetof(NylonFfiBuffer, ptr) == 16, "ptr on its own word");
static_assert(offsetof(NylonFfiBuffer, len) == 24, "len last");

#endif
