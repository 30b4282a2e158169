/* See nats_socket.h. */
#define _GNU_SOURCE
#include "nats_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char HELLO[] =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"0\","
    "\"protocol\":1}\r\n";

int nats_socket_open(NatsSocket *nats, uint16_t port) {
  memset(nats, 0, sizeof *nats);
  nats->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (nats->fd < 0) return -errno;
  int one = 1;
  setsockopt(nats->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  nats->in = malloc(NATS_BUFFER_BYTES);
  nats->out = malloc(NATS_BUFFER_BYTES);
  if (!nats->in || !nats->out) return -ENOMEM;
  if (connect(nats->fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
  return nats_socket_put(nats, HELLO, sizeof HELLO - 1);
}

void nats_socket_limit(NatsSocket *nats, int seconds) {
  struct timeval limit = {.tv_sec = seconds};
  setsockopt(nats->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

void nats_socket_close(NatsSocket *nats) {
  if (nats->fd >= 0) close(nats->fd);
  free(nats->in);
  free(nats->out);
}

int nats_socket_put(NatsSocket *nats, const void *bytes, size_t count) {
  if (count > NATS_BUFFER_BYTES) return -EMSGSIZE;
  if (nats->out_count + count > NATS_BUFFER_BYTES) {
    int failed = nats_socket_send(nats);
    if (failed) return failed;
  }
  memcpy(nats->out + nats->out_count, bytes, count);
  nats->out_count += count;
  return 0;
}

int nats_socket_send(NatsSocket *nats) {
  size_t sent = 0;
  while (sent < nats->out_count) {
    ssize_t count = send(nats->fd, nats->out + sent, nats->out_count - sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EINTR) return -errno;
    if (count > 0) sent += (size_t)count;
  }
  nats->out_count = 0;
  return 0;
}

int nats_socket_receive(NatsSocket *nats) {
  if (nats->in_start > 0) {
    memmove(nats->in, nats->in + nats->in_start, nats->in_end - nats->in_start);
    nats->in_end -= nats->in_start;
    nats->in_start = 0;
  }
  if (nats->in_end == NATS_BUFFER_BYTES) return -EMSGSIZE;
  ssize_t count = recv(nats->fd, nats->in + nats->in_end, NATS_BUFFER_BYTES - nats->in_end, 0);
  if (count < 0) return errno == EINTR ? 0 : -errno;
  if (count == 0) return -ECONNRESET;
  nats->in_end += (size_t)count;
  return 0;
}

/* "MSG subject sid [reply] count": splits the words. */
static int parse_message(const char *line, size_t count, NatsMessage *message) {
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
    if (digit < '0' || digit > '9' || message->payload_count > NATS_BUFFER_BYTES) return -EPROTO;
    message->payload_count = message->payload_count * 10 + (size_t)(digit - '0');
  }
  return 0;
}

int nats_socket_next(NatsSocket *nats, NatsMessage *message) {
  for (;;) {
    char *line = nats->in + nats->in_start;
    char *end = memchr(line, '\n', nats->in_end - nats->in_start);
    if (!end) return 0;
    size_t count = (size_t)(end - line) - 1;
    size_t whole = count + 2;
    if (line[0] == 'M') {
      int failed = parse_message(line, count, message);
      if (failed) return failed;
      message->payload = line + whole;
      whole += message->payload_count + 2;
      if (nats->in_start + whole > nats->in_end) return 0;
      nats->in_start += whole;
      return 1;
    }
    if (line[0] == '-') return -EPROTO;
    nats->in_start += whole;
    if (count >= 4 && memcmp(line, "PING", 4) == 0) {
      int failed = nats_socket_put(nats, "PONG\r\n", 6);
      if (failed) return failed;
    }
  }
}
