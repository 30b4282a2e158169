/* A worker in C, behind NATS, in the dialect `reply`: the handlers noop, authz and work.
 *
 *   nylon=../../Sources/Nylon/FlatBuffers
 *   c++ -O2 -c -I$nylon/include $nylon/nylon_flatbuffers.cpp
 *   cc -O2 -c -I$nylon/include worker.c
 *   c++ -o worker-c worker.o nylon_flatbuffers.o -lnats -lmsgpackc
 *
 *   worker-c PLUGIN [PREFIX]     the broker, group and credentials come from the environment, see docs/plugins.md
 *
 * libnats calls each subscription's handler on its own thread, so the four phases run concurrently. */
#define _GNU_SOURCE
#include "nylon_flatbuffers.h"

#include <msgpack.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { request_filter = 1, response_filter, response_body_filter, logging };
static const char *const phase_names[] = {
    "lifecycle", "request_filter", "response_filter", "response_body_filter", "logging"};
enum { subjects = sizeof phase_names / sizeof *phase_names, headers_max = 8, log_lines = 1024 };

static NylonSlice slice(const char *text) { return (NylonSlice){(const uint8_t *)text, strlen(text)}; }

static bool equal(NylonSlice slice, const char *text) {
  return slice.count == strlen(text) && memcmp(slice.bytes, text, slice.count) == 0;
}

/* MARK: A request */

struct request {
  msgpack_object id; /* echoed with its type */
  bool has_id;
  uint32_t session_id;
  uint64_t timestamp_ms;
  NylonSlice data, entry, method;
};

static NylonSlice bytes_of(msgpack_object value) {
  if (value.type == MSGPACK_OBJECT_STR) return (NylonSlice){(const uint8_t *)value.via.str.ptr, value.via.str.size};
  if (value.type == MSGPACK_OBJECT_BIN) return (NylonSlice){(const uint8_t *)value.via.bin.ptr, value.via.bin.size};
  return (NylonSlice){NULL, 0};
}

static uint64_t number_of(msgpack_object value) {
  return value.type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value.via.u64 : 0;
}

/* Reads the map; its parts point into the unpacked message. False if it is not a map, or has no id. */
static bool read_request(msgpack_object map, struct request *request) {
  *request = (struct request){0};
  if (map.type != MSGPACK_OBJECT_MAP) return false;
  for (uint32_t place = 0; place < map.via.map.size; place++) {
    NylonSlice key = bytes_of(map.via.map.ptr[place].key);
    msgpack_object value = map.via.map.ptr[place].val;
    if (equal(key, "request_id")) {
      request->id = value;
      request->has_id = bytes_of(value).bytes != NULL;
    } else if (equal(key, "session_id")) {
      request->session_id = (uint32_t)number_of(value);
    } else if (equal(key, "timestamp")) {
      request->timestamp_ms = number_of(value);
    } else if (equal(key, "data")) {
      request->data = bytes_of(value);
    } else if (equal(key, "headers") && value.type == MSGPACK_OBJECT_MAP) {
      for (uint32_t header = 0; header < value.via.map.size; header++) {
        NylonSlice name = bytes_of(value.via.map.ptr[header].key);
        NylonSlice text = bytes_of(value.via.map.ptr[header].val);
        if (equal(name, "entry")) request->entry = text;
        if (equal(name, "method")) request->method = text;
      }
    }
  }
  return request->has_id;
}

/* MARK: What a handler can do */

/* One phase of one session: reads are local, changes are collected. */
struct context {
  int phase;
  uint64_t timestamp_ms;
  NylonContextView view;
  NylonPair set[headers_max];
  size_t set_count;
};

static void set_response_header(struct context *context, const char *key, const char *value) {
  if (context->set_count < headers_max) context->set[context->set_count++] = (NylonPair){slice(key), slice(value)};
}

static int64_t duration_ms(const struct context *context) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000 - (int64_t)context->timestamp_ms;
}

static bool is_set(const struct context *context, NylonSlice name) {
  for (size_t place = 0; place < context->set_count; place++) {
    NylonSlice key = context->set[place].key;
    if (key.count == name.count && strncasecmp((const char *)key.bytes, (const char *)name.bytes, name.count) == 0)
      return true;
  }
  return false;
}

static void add_pair(NylonBuilder *builder, NylonPair pair) {
  uint32_t key = nylon_builder_string(builder, pair.key.bytes, pair.key.count);
  uint32_t value = nylon_builder_string(builder, pair.value.bytes, pair.value.count);
  nylon_builder_pair(builder, key, value);
}

/* The table of the changes; headers are a complete new list, so unchanged ones are included. */
static NylonSlice changes(const struct context *context, NylonBuilder *builder) {
  if (context->set_count == 0) return (NylonSlice){NULL, 0};
  nylon_builder_reset(builder);
  NylonPairs old = context->view.response_headers;
  for (size_t place = 0; place < old.count; place++) {
    NylonPair pair = nylon_pair_at(old, place);
    if (!is_set(context, pair.key)) add_pair(builder, pair);
  }
  for (size_t place = 0; place < context->set_count; place++) add_pair(builder, context->set[place]);
  NylonContextParts parts = {.response_headers = nylon_builder_pairs(builder)};
  return nylon_builder_finish(builder, nylon_builder_context(builder, parts));
}

/* MARK: The handlers */

static _Atomic long work_us = 100;

/* The last lines of the access log, in memory. Only the thread of the logging phase writes them. */
static struct {
  char method[16], path[128];
  int status;
  int64_t duration_ms;
} access_log[log_lines];
static unsigned logged;

static void copy(char *text, size_t bytes, NylonSlice slice) {
  snprintf(text, bytes, "%.*s", (int)slice.count, slice.bytes == NULL ? "" : (const char *)slice.bytes);
}

static void noop(struct context *context) { (void)context; }

/* Does two reads, sets two headers and logs a line. */
static void authz(struct context *context) {
  switch (context->phase) {
  case request_filter:
    if (context->view.method.count == 0 || context->view.path.count == 0) return;
    set_response_header(context, "X-Plugin-Transport", "NATS");
    break;
  case response_filter: set_response_header(context, "X-Processed-By", "NATS-Worker"); break;
  case logging: {
    unsigned line = logged++ % log_lines;
    copy(access_log[line].method, sizeof access_log[line].method, context->view.method);
    copy(access_log[line].path, sizeof access_log[line].path, context->view.path);
    access_log[line].status = context->view.status;
    access_log[line].duration_ms = duration_ms(context);
    break;
  }
  }
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Burns CPU in the request filter. */
static void work(struct context *context) {
  if (context->phase != request_filter) return;
  int64_t end = now_ns() + atomic_load(&work_us) * INT64_C(1000);
  while (now_ns() < end) continue;
}

static const struct {
  const char *name;
  void (*run)(struct context *);
} handlers[] = {{"noop", noop}, {"authz", authz}, {"work", work}};

/* Applies the plugin's configuration. */
static void initialize(NylonSlice json) {
  char text[1024];
  copy(text, sizeof text, json);
  /* A plugin that reads more than one number should use a JSON library. */
  const char *place = strstr(text, "\"work_us\"");
  if (place != NULL) place = strchr(place, ':');
  if (place != NULL) atomic_store(&work_us, strtol(place + 1, NULL, 10));
}

/* Runs the request's handler; returns NULL, or the reason why it could not. */
static const char *run(const struct request *request, struct context *context) {
  if (context->phase == 0) {
    if (equal(request->method, "initialize")) initialize(request->data);
    return NULL;
  }
  if (request->data.count > 0 && !nylon_read_context(request->data.bytes, request->data.count, &context->view))
    return "request: 'data' is not a NylonHttpContext";
  for (size_t place = 0; place < sizeof handlers / sizeof *handlers; place++) {
    if (!equal(request->entry, handlers[place].name)) continue;
    handlers[place].run(context);
    return NULL;
  }
  return "request: 'headers.entry' names no handler of this worker: noop, authz, work";
}

/* MARK: A reply */

static void pack_text(msgpack_packer *packer, const char *text) {
  msgpack_pack_str_with_body(packer, text, strlen(text));
}

static void pack_reply(msgpack_sbuffer *buffer, const struct request *request, const char *action, NylonSlice data,
                       const char *error) {
  msgpack_packer packer;
  msgpack_packer_init(&packer, buffer, msgpack_sbuffer_write);
  msgpack_pack_map(&packer, 3 + request->has_id + (data.bytes != NULL) + (error != NULL));
  pack_text(&packer, "version");
  msgpack_pack_int(&packer, 1);
  if (request->has_id) {
    pack_text(&packer, "request_id");
    msgpack_pack_object(&packer, request->id);
  }
  pack_text(&packer, "session_id");
  msgpack_pack_uint32(&packer, request->session_id);
  pack_text(&packer, "action");
  pack_text(&packer, action);
  if (data.bytes != NULL) {
    pack_text(&packer, "data");
    msgpack_pack_bin_with_body(&packer, data.bytes, data.count);
  }
  if (error != NULL) {
    pack_text(&packer, "error");
    pack_text(&packer, error);
  }
}

/* libnats calls this for each message; `closure` is the phase's number, 0 for the lifecycle's subject. */
static void handle(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
  static _Thread_local NylonBuilder *builder;
  if (builder == NULL) builder = nylon_builder_new();
  (void)subscription;

  msgpack_unpacked unpacked;
  msgpack_unpacked_init(&unpacked);
  struct request request = {0};
  size_t offset = 0;
  size_t count = (size_t)natsMsg_GetDataLength(message);
  bool is_read = msgpack_unpack_next(&unpacked, natsMsg_GetData(message), count, &offset) == MSGPACK_UNPACK_SUCCESS
                 && read_request(unpacked.data, &request);

  msgpack_sbuffer buffer;
  msgpack_sbuffer_init(&buffer);
  if (!is_read) {
    pack_reply(&buffer, &request, "", (NylonSlice){NULL, 0}, "request: not a map with a 'request_id'");
  } else {
    struct context context = {.phase = (int)(intptr_t)closure, .timestamp_ms = request.timestamp_ms};
    const char *error = run(&request, &context);
    pack_reply(&buffer, &request, error == NULL ? "next" : "error", changes(&context, builder), error);
  }
  const char *reply = natsMsg_GetReply(message);
  if (reply != NULL) natsConnection_Publish(connection, reply, buffer.data, (int)buffer.size);
  msgpack_sbuffer_destroy(&buffer);
  msgpack_unpacked_destroy(&unpacked);
  natsMsg_Destroy(message);
}

/* MARK: The process */

static void check(natsStatus status, const char *step) {
  if (status == NATS_OK) return;
  fprintf(stderr, "worker-c: cannot %s: %s\n", step, natsStatus_GetText(status));
  exit(69);
}

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value == NULL || *value == 0 ? NULL : value;
}

static natsConnection *connect_to_broker(void) {
  natsOptions *options;
  natsConnection *connection;
  const char *servers[64];
  int count = 0;
  char *list = strdup(setting("NATS_SERVERS") ?: "nats://127.0.0.1:4222"), *rest = list;
  while (count < 64 && (servers[count] = strsep(&rest, ",")) != NULL) count++;
  check(natsOptions_Create(&options), "make options");
  check(natsOptions_SetServers(options, servers, count), "use NATS_SERVERS");
  check(natsOptions_SetMaxReconnect(options, -1), "reconnect for ever");
  /* Otherwise a reply waits up to a millisecond for libnats' flusher thread. */
  check(natsOptions_SetSendAsap(options, true), "send at once");
  if (setting("NATS_TOKEN")) check(natsOptions_SetToken(options, setting("NATS_TOKEN")), "use NATS_TOKEN");
  if (setting("NATS_USER"))
    check(natsOptions_SetUserInfo(options, setting("NATS_USER"), setting("NATS_PASSWORD")), "use NATS_USER");
  if (setting("NATS_CREDS"))
    check(natsOptions_SetUserCredentialsFromFiles(options, setting("NATS_CREDS"), NULL), "use NATS_CREDS");
  check(natsConnection_Connect(&connection, options), "connect to NATS_SERVERS");
  natsOptions_Destroy(options);
  free(list);
  return connection;
}

int main(int count, char **words) {
  if (count < 2) {
    fprintf(stderr, "usage: worker-c PLUGIN [PREFIX]\n");
    return 64;
  }
  /* Blocked before libnats starts its threads, which inherit the mask. */
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);

  natsConnection *connection = connect_to_broker();
  const char *group = setting("NATS_GROUP") ?: "default";
  natsSubscription *subscriptions[subjects];
  for (intptr_t phase = 0; phase < subjects; phase++) {
    char subject[512];
    snprintf(subject, sizeof subject, "%s.%s.%s", count > 2 ? words[2] : "nylon.plugin", words[1], phase_names[phase]);
    check(phase == 0 ? natsConnection_Subscribe(&subscriptions[phase], connection, subject, handle, NULL)
                     : natsConnection_QueueSubscribe(&subscriptions[phase], connection, subject, group, handle,
                                                     (void *)phase),
          "subscribe");
  }
  check(natsConnection_FlushTimeout(connection, 5000), "reach the broker");
  printf("Plugin %s started successfully\n", words[1]);
  fflush(stdout);

  int number;
  sigwait(&signals, &number);
  /* Finishes the received requests. */
  natsConnection_DrainTimeout(connection, 2000);
  while (!natsConnection_IsClosed(connection)) nats_Sleep(5);
  return 0;
}
