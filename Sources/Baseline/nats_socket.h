/* A blocking socket that speaks the NATS protocol, just enough for the baseline. */
#ifndef BASELINE_NATS_SOCKET_H
#define BASELINE_NATS_SOCKET_H

#include <stddef.h>
#include <stdint.h>

enum { NATS_BUFFER_BYTES = 1 << 20 };

typedef struct NatsSocket {
  int fd;
  char *in; /* received, from in_start to in_end */
  size_t in_start, in_end;
  char *out; /* to be sent */
  size_t out_count;
} NatsSocket;

/* One MSG: all parts point into the socket's buffer, until the next read. */
typedef struct NatsMessage {
  const char *subject;
  size_t subject_count;
  const char *reply;
  size_t reply_count;
  const char *payload;
  size_t payload_count;
} NatsMessage;

/* Connects to 127.0.0.1 and says hello; 0 or -errno. */
int nats_socket_open(NatsSocket *nats, uint16_t port);
/* A receive that waits longer than this fails with -EAGAIN. */
void nats_socket_limit(NatsSocket *nats, int seconds);
void nats_socket_close(NatsSocket *nats);
/* Adds bytes to what waits to be sent; sends first when there is no room. 0 or -errno. */
int nats_socket_put(NatsSocket *nats, const void *bytes, size_t count);
/* Sends all that waits; 0 or -errno. */
int nats_socket_send(NatsSocket *nats);
/* Receives once; 0 or -errno. */
int nats_socket_receive(NatsSocket *nats);
/* The next MSG that was received whole: 1; none: 0; -errno when the protocol is broken. */
int nats_socket_next(NatsSocket *nats, NatsMessage *message);

#endif
