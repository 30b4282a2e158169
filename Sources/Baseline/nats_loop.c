/* A pipelined client and an echo worker over bare sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "baseline_time.h"
#include "nats_socket.h"

static uint64_t counters[BASELINE_COUNTERS];

typedef struct Client {
  NatsSocket nats;
  char head[256]; /* PUB subject reply-prefix */
  size_t head_count;
  const uint8_t *request;
  uint32_t length;
  uint64_t *sent;
} Client;

static int publish(Client *client, uint32_t slot) {
  char line[320];
  memcpy(line, client->head, client->head_count);
  int count = snprintf(line + client->head_count, sizeof line - client->head_count, "%08x %u\r\n", slot,
                       client->length);
  client->sent[slot] = baseline_now();
  int failed = nats_socket_put(&client->nats, line, client->head_count + (size_t)count);
  if (!failed) failed = nats_socket_put(&client->nats, client->request, client->length);
  return failed ? failed : nats_socket_put(&client->nats, "\r\n", 2);
}

/* Replies until the end; the first warmup_ns are not recorded. */
static int run_client(Client *client, uint32_t in_flight, uint64_t warmup_ns, uint64_t duration_ns,
                      BaselineResult *result) {
  for (uint32_t slot = 0; slot < in_flight; slot++) {
    int failed = publish(client, slot);
    if (failed) return failed;
  }
  uint64_t start = baseline_now() + warmup_ns, now = 0, count = 0;
  while (now < start + duration_ns) {
    int failed = nats_socket_send(&client->nats);
    if (!failed) failed = nats_socket_receive(&client->nats);
    if (failed) return failed;
    NatsMessage message;
    int found;
    while ((found = nats_socket_next(&client->nats, &message)) > 0) {
      uint32_t slot = baseline_slot(message.subject, message.subject_count);
      if (slot >= in_flight || message.payload_count == 0) return -EPROTO;
      now = baseline_now();
      if (now >= start) {
        baseline_record(counters, now - client->sent[slot]);
        count++;
      }
      failed = publish(client, slot);
      if (failed) return failed;
    }
    if (found < 0) return found;
  }
  *result = (BaselineResult){count, now - start, baseline_median(counters)};
  return 0;
}

int baseline_nats_client(uint16_t port, const char *subject, const uint8_t *request, uint32_t length,
                      uint32_t in_flight, uint64_t warmup_ns, uint64_t duration_ns,
                      BaselineResult *result) {
  memset(counters, 0, sizeof counters);
  Client client = {.request = request, .length = length};
  client.sent = calloc(in_flight, sizeof *client.sent);
  if (!client.sent) return -ENOMEM;
  int failed = nats_socket_open(&client.nats, port);
  if (!failed) nats_socket_limit(&client.nats, 5);
  char subscribe[] = "SUB _INBOX.bare.* 1\r\n";
  if (!failed) failed = nats_socket_put(&client.nats, subscribe, sizeof subscribe - 1);
  if (!failed) {
    int count = snprintf(client.head, sizeof client.head, "PUB %s _INBOX.bare.", subject);
    client.head_count = (size_t)count;
    failed = (size_t)count < sizeof client.head
                 ? run_client(&client, in_flight, warmup_ns, duration_ns, result)
                 : -EMSGSIZE;
  }
  nats_socket_close(&client.nats);
  free(client.sent);
  return failed;
}

/* ---- worker ---- */

/* {"version": 1, "request_id": <16 bytes>, "action": "next"} */
static const char ID_KEY[] = "\xaarequest_id\xc4\x10";
static const char REPLY_HEAD[] = "\x83\xa7version\x01\xaarequest_id\xc4\x10";
static const char REPLY_TAIL[] = "\xa6""action\xa4next";
enum { ID_BYTES = 16 };

static int answer(NatsSocket *nats, const NatsMessage *message) {
  const char *id = memmem(message->payload, message->payload_count, ID_KEY, sizeof ID_KEY - 1);
  if (!message->reply || !id) return 0;
  id += sizeof ID_KEY - 1;
  if (id + ID_BYTES > message->payload + message->payload_count) return 0;
  char reply[512];
  size_t size = sizeof REPLY_HEAD - 1 + ID_BYTES + sizeof REPLY_TAIL - 1;
  if (message->reply_count > 256) return -EPROTO;
  int head = snprintf(reply, sizeof reply, "PUB %.*s %zu\r\n", (int)message->reply_count, message->reply, size);
  char *at = reply + head;
  memcpy(at, REPLY_HEAD, sizeof REPLY_HEAD - 1);
  at += sizeof REPLY_HEAD - 1;
  memcpy(at, id, ID_BYTES);
  at += ID_BYTES;
  memcpy(at, REPLY_TAIL, sizeof REPLY_TAIL - 1);
  at += sizeof REPLY_TAIL - 1;
  memcpy(at, "\r\n", 2);
  return nats_socket_put(nats, reply, (size_t)(at + 2 - reply));
}

int baseline_nats_worker(uint16_t port, const char *subject, const char *group) {
  NatsSocket nats;
  int failed = nats_socket_open(&nats, port);
  char line[256];
  int count = snprintf(line, sizeof line, "SUB %s %s 1\r\n", subject, group);
  if (!failed && (size_t)count >= sizeof line) failed = -EMSGSIZE;
  if (!failed) failed = nats_socket_put(&nats, line, (size_t)count);
  while (!failed) {
    failed = nats_socket_send(&nats);
    if (!failed) failed = nats_socket_receive(&nats);
    NatsMessage message;
    int found = 0;
    while (!failed && (found = nats_socket_next(&nats, &message)) > 0) failed = answer(&nats, &message);
    if (found < 0) failed = found;
  }
  nats_socket_close(&nats);
  return failed;
}
