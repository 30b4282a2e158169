/* The pipelined client once more, on libnats: what a user of that library gets. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nats/nats.h>

#include "baseline_time.h"

enum { WAIT_MS = 5000, MOST_KEPT = 2048 };

static uint64_t counters[BASELINE_COUNTERS];

typedef struct Client {
  natsConnection *connection;
  natsSubscription *inbox;
  const char *subject;
  const uint8_t *request;
  int length;
  uint32_t in_flight;
  uint64_t *sent;
  bool tuned;
  natsSock socket;         /* tuned: served by run() */
  atomic_bool wants_write; /* tuned: libnats has something to write */
  natsMsg *kept[MOST_KEPT];
  int kept_count;
} Client;

/* ---- libnats' event loop, of which run() is the loop ---- */

static natsStatus attach(void **client, void *loop, natsConnection *connection, natsSock socket) {
  (void)connection;
  *client = loop;
  ((Client *)loop)->socket = socket;
  return NATS_OK;
}

static natsStatus ask_read(void *client, bool add) {
  (void)client, (void)add; /* it is always read */
  return NATS_OK;
}

static natsStatus ask_write(void *client, bool add) {
  ((Client *)client)->wants_write = add;
  return NATS_OK;
}

static natsStatus detach(void *client) {
  (void)client;
  return NATS_OK;
}

/* Writes what waits, then waits for the socket and reads it; 0 or -errno. */
static int serve(Client *client) {
  if (client->wants_write) natsConnection_ProcessWriteEvent(client->connection);
  struct pollfd at = {.fd = client->socket, .events = POLLIN};
  if (client->wants_write) at.events |= POLLOUT;
  int ready = poll(&at, 1, WAIT_MS);
  if (ready == 0) return -ETIMEDOUT;
  if (ready < 0) return errno == EINTR ? 0 : -errno;
  if (at.revents & ~POLLOUT) natsConnection_ProcessReadEvent(client->connection);
  return 0;
}

/* ---- the client ---- */

static natsStatus publish(Client *client, uint32_t slot) {
  char reply[32];
  snprintf(reply, sizeof reply, "_INBOX.bare.%08x", slot);
  client->sent[slot] = baseline_now();
  return natsConnection_PublishRequest(client->connection, client->subject, reply, client->request,
                                       client->length);
}

/* libnats gives a destroyed message to a thread and wakes it, which costs more than the message:
 * tuned, many are given at a time. */
static void discard(Client *client, natsMsg *message) {
  client->kept[client->kept_count++] = message;
  if (client->tuned && client->kept_count < MOST_KEPT) return;
  while (client->kept_count > 0) natsMsg_Destroy(client->kept[--client->kept_count]);
}

static int run(Client *client, uint64_t warmup_ns, uint64_t duration_ns, BaselineResult *result) {
  for (uint32_t slot = 0; slot < client->in_flight; slot++)
    if (publish(client, slot) != NATS_OK) return -EIO;
  uint64_t start = baseline_now() + warmup_ns, now = 0, count = 0;
  while (now < start + duration_ns) {
    int failed = client->tuned ? serve(client) : 0;
    if (failed) return failed;
    natsMsg *message = NULL;
    int64_t wait_ms = client->tuned ? 0 : WAIT_MS;
    natsStatus status = NATS_OK;
    while (now < start + duration_ns
           && (status = natsSubscription_NextMsg(&message, client->inbox, wait_ms)) == NATS_OK) {
      uint32_t slot = baseline_slot(natsMsg_GetSubject(message), strlen(natsMsg_GetSubject(message)));
      if (slot >= client->in_flight || natsMsg_GetDataLength(message) == 0) return -EPROTO;
      now = baseline_now();
      if (now >= start) {
        baseline_record(counters, now - client->sent[slot]);
        count++;
      }
      discard(client, message);
      if (publish(client, slot) != NATS_OK) return -EIO;
      wait_ms = 0;
    }
    if (status != NATS_OK && status != NATS_TIMEOUT) return -EIO;
    if (status == NATS_TIMEOUT && wait_ms > 0) return -ETIMEDOUT;
  }
  *result = (BaselineResult){count, now - start, baseline_median(counters)};
  return 0;
}

static natsStatus open_client(Client *client, uint16_t port) {
  char url[64];
  snprintf(url, sizeof url, "nats://127.0.0.1:%u", port);
  natsOptions *options = NULL;
  natsStatus status = natsOptions_Create(&options);
  if (status == NATS_OK) status = natsOptions_SetURL(options, url);
  if (status == NATS_OK && client->tuned) status = natsOptions_SetSendAsap(options, true);
  if (status == NATS_OK && client->tuned) status = natsOptions_SetIOBufSize(options, 1 << 20);
  if (status == NATS_OK && client->tuned)
    status = natsOptions_SetEventLoop(options, client, attach, ask_read, ask_write, detach);
  if (status == NATS_OK) status = natsConnection_Connect(&client->connection, options);
  if (status == NATS_OK)
    status = natsConnection_SubscribeSync(&client->inbox, client->connection, "_INBOX.bare.*");
  if (status == NATS_OK) status = natsSubscription_SetPendingLimits(client->inbox, -1, -1);
  natsOptions_Destroy(options);
  return status;
}

static int libnats_client(bool tuned, uint16_t port, const char *subject, const uint8_t *request,
                          uint32_t length, uint32_t in_flight, uint64_t warmup_ns,
                          uint64_t duration_ns, BaselineResult *result) {
  memset(counters, 0, sizeof counters);
  Client *client = calloc(1, sizeof *client);
  if (!client) return -ENOMEM;
  client->subject = subject;
  client->request = request;
  client->length = (int)length;
  client->in_flight = in_flight;
  client->tuned = tuned;
  client->sent = calloc(in_flight, sizeof *client->sent);
  int failed = client->sent ? 0 : -ENOMEM;
  if (!failed && open_client(client, port) != NATS_OK) failed = -ECONNREFUSED;
  if (!failed) failed = run(client, warmup_ns, duration_ns, result);
  while (client->kept_count > 0) natsMsg_Destroy(client->kept[--client->kept_count]);
  natsSubscription_Destroy(client->inbox);
  natsConnection_Close(client->connection);
  natsConnection_Destroy(client->connection);
  free(client->sent);
  /* The client itself stays: libnats may still call detach on a thread of its own. */
  return failed;
}

int baseline_libnats_tuned(uint16_t port, const char *subject, const uint8_t *request, uint32_t length,
                           uint32_t in_flight, uint64_t warmup_ns, uint64_t duration_ns,
                           BaselineResult *result) {
  return libnats_client(true, port, subject, request, length, in_flight, warmup_ns, duration_ns, result);
}

int baseline_libnats_defaults(uint16_t port, const char *subject, const uint8_t *request,
                              uint32_t length, uint32_t in_flight, uint64_t warmup_ns,
                              uint64_t duration_ns, BaselineResult *result) {
  return libnats_client(false, port, subject, request, length, in_flight, warmup_ns, duration_ns, result);
}
