/* A pipelined client and an echo worker with a minimal NATS protocol over a blocking socket. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "loop.h"

enum { BUFFER_BYTES = 1 << 20 };

/* The connection of this process. */
static struct {
  int fd;
  size_t in_start, in_end; /* received and not yet parsed */
  size_t out_count;        /* not yet sent */
  char in[BUFFER_BYTES], out[BUFFER_BYTES];
} nats;

/* One MSG: all parts point into the connection's buffer, and are valid until the next receive. */
typedef struct Message {
  const char *subject, *reply, *payload;
  size_t subject_count, reply_count, payload_count;
} Message;

/* Sends all pending bytes. Like all functions below, returns 0 or -errno. */
static int send_all(void) {
  size_t sent = 0;
  while (sent < nats.out_count) {
    ssize_t count = send(nats.fd, nats.out + sent, nats.out_count - sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EINTR) return -errno;
    if (count > 0) sent += (size_t)count;
  }
  nats.out_count = 0;
  return 0;
}

/* Appends bytes to the send buffer; flushes it first if there is no room. */
static int put(const void *bytes, size_t count) {
  if (count > BUFFER_BYTES) return -EMSGSIZE;
  if (nats.out_count + count > BUFFER_BYTES) {
    int failed = send_all();
    if (failed) return failed;
  }
  memcpy(nats.out + nats.out_count, bytes, count);
  nats.out_count += count;
  return 0;
}

/* Appends CONNECT, with the broker's token if there is one. */
static int put_hello(const char *token) {
  char line[512];
  int count = snprintf(line, sizeof line,
                       "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"0\","
                       "\"protocol\":1%s%s%s}\r\n",
                       *token ? ",\"auth_token\":\"" : "", token, *token ? "\"" : "");
  return count < (int)sizeof line ? put(line, (size_t)count) : -EMSGSIZE;
}

/* Connects to 127.0.0.1 and appends CONNECT and `subscribe`. A receive fails after limit_seconds, unless 0. */
static int open_socket(uint16_t port, const char *token, int limit_seconds, const char *subscribe) {
  nats.in_start = nats.in_end = nats.out_count = 0;
  nats.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (nats.fd < 0) return -errno;
  int one = 1;
  setsockopt(nats.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct timeval limit = {.tv_sec = limit_seconds};
  setsockopt(nats.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(nats.fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
  int failed = put_hello(token);
  return failed ? failed : put(subscribe, strlen(subscribe));
}

/* Receives once. */
static int receive(void) {
  if (nats.in_start > 0) {
    memmove(nats.in, nats.in + nats.in_start, nats.in_end - nats.in_start);
    nats.in_end -= nats.in_start;
    nats.in_start = 0;
  }
  if (nats.in_end == BUFFER_BYTES) return -EMSGSIZE;
  ssize_t count = recv(nats.fd, nats.in + nats.in_end, BUFFER_BYTES - nats.in_end, 0);
  if (count < 0) return errno == EINTR ? 0 : -errno;
  if (count == 0) return -ECONNRESET;
  nats.in_end += (size_t)count;
  return 0;
}

/* "MSG subject sid [reply] count": splits the words. */
static int parse_message(const char *line, size_t count, Message *message) {
  const char *word[5], *at = line, *end = line + count;
  size_t length[5];
  int words = 0;
  while (at < end && words < 5) {
    const char *stop = memchr(at, ' ', (size_t)(end - at));
    if (!stop) stop = end;
    word[words] = at;
    length[words++] = (size_t)(stop - at);
    at = stop + 1;
  }
  if (words < 4) return -EPROTO;
  message->subject = word[1];
  message->subject_count = length[1];
  message->reply = words == 5 ? word[3] : NULL;
  message->reply_count = words == 5 ? length[3] : 0;
  message->payload_count = 0;
  for (size_t i = 0; i < length[words - 1]; i++) {
    char digit = word[words - 1][i];
    if (digit < '0' || digit > '9' || message->payload_count > BUFFER_BYTES) return -EPROTO;
    message->payload_count = message->payload_count * 10 + (size_t)(digit - '0');
  }
  return 0;
}

/* Parses the next complete MSG: 1 if there is one, else 0. */
static int next_message(Message *message) {
  for (;;) {
    char *line = nats.in + nats.in_start;
    char *end = memchr(line, '\n', nats.in_end - nats.in_start);
    if (!end) return 0;
    size_t count = (size_t)(end - line) - 1;
    size_t whole = count + 2;
    if (line[0] == 'M') {
      int failed = parse_message(line, count, message);
      if (failed) return failed;
      message->payload = line + whole;
      whole += message->payload_count + 2;
      if (nats.in_start + whole > nats.in_end) return 0;
      nats.in_start += whole;
      return 1;
    }
    if (line[0] == '-') return -EPROTO;
    nats.in_start += whole;
    if (count >= 4 && memcmp(line, "PING", 4) == 0) {
      int failed = put("PONG\r\n", 6);
      if (failed) return failed;
    }
  }
}

/* ---- client ---- */

/* `PUB subject reply-prefix`, the beginning of each request. */
static char head[256];
static size_t head_count;

static int publish(Run *run, uint32_t slot) {
  char line[320];
  memcpy(line, head, head_count);
  int count = snprintf(line + head_count, sizeof line - head_count, "%08x %u\r\n", slot, run->load->length);
  run->sent[slot] = now_ns();
  int failed = put(line, head_count + (size_t)count);
  if (!failed) failed = put(run->load->request, run->load->length);
  return failed ? failed : put("\r\n", 2);
}

/* Sends requests and receives replies until the end; the first warmup_ns are not recorded. */
static int keep_asking(Run *run) {
  int failed = 0;
  for (uint32_t slot = 0; slot < run->load->in_flight && !failed; slot++) failed = publish(run, slot);
  run->start = now_ns() + run->load->warmup_ns;
  while (!failed && run->now < run->start + run->load->duration_ns) {
    failed = send_all();
    if (!failed) failed = receive();
    Message message;
    int found = 0;
    while (!failed && (found = next_message(&message)) > 0) {
      int64_t slot = answered(run, message.subject, message.subject_count, message.payload_count);
      failed = slot < 0 ? (int)slot : publish(run, (uint32_t)slot);
    }
    if (found < 0) failed = found;
  }
  return failed;
}

int baseline_nats_client(const BaselineLoad *load, BaselineResult *result) {
  head_count = (size_t)snprintf(head, sizeof head, "PUB %s _INBOX.bare.", load->subject);
  if (head_count >= sizeof head) return -EMSGSIZE;
  Run run = {.load = load, .sent = calloc(load->in_flight, sizeof *run.sent)};
  if (!run.sent) return -ENOMEM;
  int failed = open_socket(load->port, load->token, 5, "SUB _INBOX.bare.* 1\r\n");
  if (!failed) failed = keep_asking(&run);
  *result = result_of(&run);
  if (nats.fd >= 0) close(nats.fd);
  free(run.sent);
  return failed;
}

/* ---- worker ---- */

/* {"version": 1, "request_id": <16 bytes>, "action": "next"} */
static const char ID_KEY[] = "\xaarequest_id\xc4\x10";
static const char REPLY_HEAD[] = "\x83\xa7version\x01\xaarequest_id\xc4\x10";
static const char REPLY_TAIL[] = "\xa6""action\xa4next";
enum { ID_BYTES = 16 };

static int answer(const Message *message) {
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
  return put(reply, (size_t)(at + 2 - reply));
}

int baseline_nats_worker(uint16_t port, const char *token, const char *subject, const char *group) {
  char line[256];
  if (snprintf(line, sizeof line, "SUB %s %s 1\r\n", subject, group) >= (int)sizeof line) return -EMSGSIZE;
  int failed = open_socket(port, token, 0, line);
  while (!failed) {
    failed = send_all();
    if (!failed) failed = receive();
    Message message;
    int found = 0;
    while (!failed && (found = next_message(&message)) > 0) failed = answer(&message);
    if (found < 0) failed = found;
  }
  if (nats.fd >= 0) close(nats.fd);
  return failed;
}
