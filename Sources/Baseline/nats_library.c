/* The pipelined client on libnats, with the speed that a user of that library gets. */
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include <nats/nats.h>

#include "loop.h"

enum { WAIT_MS = 5000, MOST_KEPT = 2048 };

typedef struct Client {
  natsConnection *connection;
  natsSubscription *inbox;
  Run run;
  bool tuned;
  natsSock socket;         /* tuned: served by keep_asking() */
  atomic_bool wants_write; /* tuned: libnats has something to write */
  natsMsg *kept[MOST_KEPT];
  int kept_count;
} Client;

/* ---- libnats' event loop interface; keep_asking() runs the loop ---- */

static natsStatus attach(void **client, void *loop, natsConnection *connection, natsSock socket) {
  (void)connection;
  *client = loop;
  ((Client *)loop)->socket = socket;
  return NATS_OK;
}

static natsStatus ask_read(void *client, bool add) {
  (void)client, (void)add; /* serve() always reads */
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

/* Writes pending bytes, then waits for the socket and reads it; 0 or -errno. */
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
  const BaselineLoad *load = client->run.load;
  char reply[32];
  snprintf(reply, sizeof reply, "_INBOX.bare.%08x", slot);
  client->run.sent[slot] = now_ns();
  return natsConnection_PublishRequest(client->connection, load->subject, reply, load->request,
                                       (int)load->length);
}

/* libnats passes a destroyed message to a thread and wakes it, which costs more than the message:
 * the tuned client passes many at a time. */
static void discard(Client *client, natsMsg *message) {
  client->kept[client->kept_count++] = message;
  if (client->tuned && client->kept_count < MOST_KEPT) return;
  while (client->kept_count > 0) natsMsg_Destroy(client->kept[--client->kept_count]);
}

static int keep_asking(Client *client) {
  Run *run = &client->run;
  for (uint32_t slot = 0; slot < run->load->in_flight; slot++)
    if (publish(client, slot) != NATS_OK) return -EIO;
  run->start = now_ns() + run->load->warmup_ns;
  uint64_t end = run->start + run->load->duration_ns;
  while (run->now < end) {
    int failed = client->tuned ? serve(client) : 0;
    if (failed) return failed;
    natsMsg *message = NULL;
    int64_t wait_ms = client->tuned ? 0 : WAIT_MS;
    natsStatus status = NATS_OK;
    while (run->now < end && (status = natsSubscription_NextMsg(&message, client->inbox, wait_ms)) == NATS_OK) {
      const char *subject = natsMsg_GetSubject(message);
      int64_t slot = answered(run, subject, strlen(subject), (size_t)natsMsg_GetDataLength(message));
      if (slot < 0) return (int)slot;
      discard(client, message);
      if (publish(client, (uint32_t)slot) != NATS_OK) return -EIO;
      wait_ms = 0;
    }
    if (status != NATS_OK && status != NATS_TIMEOUT) return -EIO;
    if (status == NATS_TIMEOUT && wait_ms > 0) return -ETIMEDOUT;
  }
  return 0;
}

static natsStatus open_client(Client *client) {
  const BaselineLoad *load = client->run.load;
  char url[512];
  snprintf(url, sizeof url, "nats://%s%s127.0.0.1:%u", load->token, *load->token ? "@" : "", load->port);
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

int baseline_libnats_client(bool tuned, const BaselineLoad *load, BaselineResult *result) {
  Client *client = calloc(1, sizeof *client);
  if (!client) return -ENOMEM;
  client->run = (Run){.load = load, .sent = calloc(load->in_flight, sizeof *client->run.sent)};
  client->tuned = tuned;
  int failed = client->run.sent ? 0 : -ENOMEM;
  if (!failed && open_client(client) != NATS_OK) failed = -ECONNREFUSED;
  if (!failed) failed = keep_asking(client);
  *result = result_of(&client->run);
  while (client->kept_count > 0) natsMsg_Destroy(client->kept[--client->kept_count]);
  natsConnection_Close(client->connection);
  free(client->run.sent);
  /* The connection, its subscription and the client are never freed: threads of libnats may still lock
   * them, and locking a destroyed mutex aborts the process. */
  return failed;
}
