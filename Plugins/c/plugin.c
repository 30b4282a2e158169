/* An in-process plugin in C: the handlers noop, authz and work, on the plugin's own thread.
 *
 *   cc -O2 -fPIC -shared -pthread -I../../Sources/Nylon/ABI/include -o plugin-c.so plugin.c
 *
 * The host starts a phase with event_stream, which only queues it. A handler reads by calling the callback; the
 * answer arrives through event_stream, with phase 0, while the handler waits for it. */
#include "nylon_abi.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { request_filter = 1, response_filter, response_body_filter, logging };
enum {
  next = 1,
  set_response_header = 100,
  read_response_status = 108,
  read_response_duration = 111,
  read_request_path = 204,
  read_request_method = 209,
};
enum { slots = 65536, text_bytes = 1024, log_lines = 1024, turns = 4000 };

/* One phase of one session, as its handler sees it. */
struct context {
  uint32_t sid;
  uint8_t phase;
  NylonCallback host;
};
typedef void (*handler_t)(const struct context *);

/* Shared by the host's threads and the plugin's; all of it is used under the lock. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  _Atomic uint32_t changes; /* also read without the lock */
  bool is_asleep, is_started, is_over;
  pthread_t thread;
  /* The open sessions by sid % slots. An empty slot has sid 0. */
  struct {
    uint32_t sid;
    handler_t handler;
    NylonCallback host;
  } sessions[slots];
  /* Pending phases. */
  struct {
    uint32_t sid;
    uint8_t phase;
  } queue[slots];
  uint32_t written, taken;
  /* The read that the handler waits for. */
  struct {
    uint32_t sid, method;
    char *text;
    enum { idle, asked, answered, closed } state;
  } read;
} plugin = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Notifies the plugin's thread of a change; call with the lock held. */
static void tell(void) {
  atomic_fetch_add(&plugin.changes, 1);
  if (plugin.is_asleep) pthread_cond_signal(&plugin.changed);
}

/* Waits for a change; call with the lock held. Spins for some microseconds, since a sleeping thread takes longer to
 * wake, then sleeps. */
static void wait_for_change(void) {
  uint32_t seen = atomic_load(&plugin.changes);
  pthread_mutex_unlock(&plugin.lock);
  for (int turn = 0; turn < turns && atomic_load(&plugin.changes) == seen; turn++) continue;
  pthread_mutex_lock(&plugin.lock);
  plugin.is_asleep = true;
  while (atomic_load(&plugin.changes) == seen) pthread_cond_wait(&plugin.changed, &plugin.lock);
  plugin.is_asleep = false;
}

/* MARK: What a handler can do */

static void call(const struct context *context, uint8_t phase, uint32_t method, const void *bytes, size_t count) {
  NylonFfiBuffer event = {
      .sid = context->sid, .phase = phase, .method = method, .ptr = bytes, .len = count};
  context->host(&event);
}

static void go_on(const struct context *context) { call(context, context->phase, next, NULL, 0); }

/* Asks the host for a string and waits for it. False when the session was closed meanwhile; a string that is longer
 * than the buffer is truncated. */
static bool read_text(const struct context *context, uint32_t method, char text[text_bytes]) {
  pthread_mutex_lock(&plugin.lock);
  plugin.read.sid = context->sid;
  plugin.read.method = method;
  plugin.read.text = text;
  plugin.read.state = plugin.sessions[context->sid % slots].sid == context->sid ? asked : closed;
  bool is_open = plugin.read.state == asked;
  pthread_mutex_unlock(&plugin.lock);
  /* The host may answer within the callback, so the lock is not held. */
  if (is_open) call(context, 0, method, NULL, 0);
  pthread_mutex_lock(&plugin.lock);
  while (plugin.read.state == asked && !plugin.is_over) wait_for_change();
  bool is_answered = plugin.read.state == answered;
  plugin.read.state = idle;
  pthread_mutex_unlock(&plugin.lock);
  return is_answered;
}

/* Writes a FlatBuffers string: its length, its bytes, a NUL and padding. Returns the number of bytes written. */
static uint32_t put_string(uint8_t *place, const char *text) {
  uint32_t count = (uint32_t)strlen(text);
  memcpy(place, &count, sizeof count);
  memcpy(place + sizeof count, text, count);
  return (sizeof count + count + 1 + 3) & ~3u;
}

/* The payload is the FlatBuffers table HeaderKeyValue {key, value}. Offsets are little-endian, like this machine, and
 * relative to their own position. */
static void set_header(const struct context *context, const char *key, const char *value) {
  uint8_t bytes[text_bytes] = {
      12, 0, 0,  0,             /* the table is 12 bytes from here */
      8,  0, 12, 0, 4, 0, 8, 0, /* vtable: sizes of itself, of the table; positions of key and value in the table */
      8,  0, 0,  0,             /* table: the vtable is 8 bytes before; then the offsets of key and value */
  };
  if (strlen(key) + strlen(value) > text_bytes - 64) return;
  uint32_t key_bytes = put_string(bytes + 24, key);
  uint32_t value_bytes = put_string(bytes + 24 + key_bytes, value);
  memcpy(bytes + 16, &(uint32_t){8}, 4);
  memcpy(bytes + 20, &(uint32_t){4 + key_bytes}, 4);
  call(context, context->phase, set_response_header, bytes, 24 + key_bytes + value_bytes);
}

/* MARK: The handlers */

static _Atomic long work_us = 100;

/* The last lines of the access log, in memory: a handler under load must not wait for a terminal. */
static struct {
  char method[16], path[128];
  int status, duration_ms;
} access_log[log_lines];
static unsigned logged;

static void noop(const struct context *context) { go_on(context); }

/* Does two reads, sets two headers and logs a line. */
static void authz(const struct context *context) {
  char method[text_bytes], path[text_bytes], status[text_bytes], duration[text_bytes];
  switch (context->phase) {
  case request_filter:
    if (!read_text(context, read_request_method, method)) return;
    if (!read_text(context, read_request_path, path)) return;
    set_header(context, "X-Plugin-Transport", "FFI");
    break;
  case response_filter: set_header(context, "X-Processed-By", "FFI-Plugin"); break;
  case logging:
    if (!read_text(context, read_request_method, method)) return;
    if (!read_text(context, read_request_path, path)) return;
    if (!read_text(context, read_response_status, status)) return;
    if (!read_text(context, read_response_duration, duration)) return;
    unsigned line = logged++ % log_lines;
    snprintf(access_log[line].method, sizeof access_log[line].method, "%.15s", method);
    snprintf(access_log[line].path, sizeof access_log[line].path, "%.127s", path);
    access_log[line].status = atoi(status);
    access_log[line].duration_ms = atoi(duration);
    break;
  }
  go_on(context);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Burns CPU in the request filter. */
static void work(const struct context *context) {
  if (context->phase == request_filter) {
    int64_t end = now_ns() + atomic_load(&work_us) * INT64_C(1000);
    while (now_ns() < end) continue;
  }
  go_on(context);
}

static const struct {
  const char *name;
  handler_t run;
} handlers[] = {{"noop", noop}, {"authz", authz}, {"work", work}};

/* MARK: The plugin's thread */

/* Waits for the next phase of a session that is still open; NULL at the end. */
static handler_t take(struct context *context) {
  handler_t handler = NULL;
  pthread_mutex_lock(&plugin.lock);
  while (handler == NULL && !plugin.is_over) {
    if (plugin.taken == plugin.written) {
      wait_for_change();
      continue;
    }
    uint32_t place = plugin.taken++ % slots;
    context->sid = plugin.queue[place].sid;
    context->phase = plugin.queue[place].phase;
    uint32_t slot = context->sid % slots;
    if (plugin.sessions[slot].sid != context->sid) continue;
    context->host = plugin.sessions[slot].host;
    handler = plugin.sessions[slot].handler;
  }
  pthread_mutex_unlock(&plugin.lock);
  return handler;
}

static void *run_phases(void *nothing) {
  struct context context;
  for (handler_t handler = take(&context); handler != NULL; handler = take(&context)) handler(&context);
  return nothing;
}

/* MARK: The six symbols */

void initialize(const char *config_json, int length) {
  char json[text_bytes] = "";
  if (config_json == NULL || length <= 0 || length >= text_bytes) return;
  memcpy(json, config_json, (size_t)length);
  /* A plugin that reads more than one number should use a JSON library. */
  const char *place = strstr(json, "\"work_us\"");
  if (place != NULL) place = strchr(place, ':');
  if (place != NULL) atomic_store(&work_us, strtol(place + 1, NULL, 10));
}

bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, NylonCallback callback) {
  handler_t handler = NULL;
  for (size_t place = 0; place < sizeof handlers / sizeof *handlers; place++) {
    const char *name = handlers[place].name;
    if (strlen(name) == length && memcmp(name, entry, length) == 0) handler = handlers[place].run;
  }
  if (handler == NULL || callback == NULL || sid == 0) return false;
  pthread_mutex_lock(&plugin.lock);
  if (!plugin.is_started) plugin.is_started = pthread_create(&plugin.thread, NULL, run_phases, NULL) == 0;
  uint32_t slot = sid % slots;
  bool has_place = plugin.is_started && !plugin.is_over && plugin.sessions[slot].sid == 0;
  if (has_place) {
    plugin.sessions[slot].sid = sid;
    plugin.sessions[slot].handler = handler;
    plugin.sessions[slot].host = callback;
  }
  pthread_mutex_unlock(&plugin.lock);
  return has_place;
}

void event_stream(const NylonFfiBuffer *event) {
  pthread_mutex_lock(&plugin.lock);
  if (event->phase != 0) {
    if (plugin.written - plugin.taken < slots) {
      uint32_t place = plugin.written++ % slots;
      plugin.queue[place].sid = event->sid;
      plugin.queue[place].phase = event->phase;
    }
  } else if (plugin.read.state == asked && plugin.read.sid == event->sid && plugin.read.method == event->method) {
    size_t count = event->len < text_bytes ? event->len : text_bytes - 1;
    if (count > 0) memcpy(plugin.read.text, event->ptr, count);
    plugin.read.text[count] = 0;
    plugin.read.state = answered;
  }
  tell();
  pthread_mutex_unlock(&plugin.lock);
}

void close_session_stream(uint32_t sid) {
  pthread_mutex_lock(&plugin.lock);
  if (plugin.sessions[sid % slots].sid == sid) plugin.sessions[sid % slots].sid = 0;
  if (plugin.read.state == asked && plugin.read.sid == sid) {
    plugin.read.state = closed;
    tell();
  }
  pthread_mutex_unlock(&plugin.lock);
}

/* Every payload is on the handler's stack, so the host has nothing to free. */
void plugin_free(uint8_t *bytes) { (void)bytes; }

void shutdown(void) {
  pthread_mutex_lock(&plugin.lock);
  bool is_first = plugin.is_started && !plugin.is_over;
  plugin.is_over = true;
  tell();
  pthread_mutex_unlock(&plugin.lock);
  if (is_first) pthread_join(plugin.thread, NULL);
}
