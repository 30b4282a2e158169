/* The baselines of the engine: the least code that does the same work.
 *
 * A loop in C over a plugin's event_stream, and a client and an echo worker that speak the NATS
 * protocol over bare sockets, with the same clock reads, the same histogram arithmetic and the same
 * bytes, but without the other work of a real host. Also a client on libnats, as a peer. */
#ifndef NYLON_BASELINE_H
#define NYLON_BASELINE_H

#include <stdint.h>

#include "nylon_abi.h"

/* The measurement of a bare loop. */
typedef struct BaselineResult {
  uint64_t count;      /* phase requests, or pairs of request and reply */
  uint64_t elapsed_ns; /* of the measured time */
  uint64_t p50_ns;     /* of one of them */
} BaselineResult;

/* A plugin in this process. */
typedef struct BaselinePlugin {
  NylonRegisterSessionStream open;
  NylonEventStream event;
  NylonCloseSessionStream close;
} BaselinePlugin;

/* Starts phases one after another for duration_ns; each is answered inside event_stream.
 * 0, or -1 when an answer is missing. */
int baseline_ffi_loop(BaselinePlugin plugin, uint64_t duration_ns, BaselineResult *result);

/* The same with a plugin that answers from another thread: `in_flight` sessions, whose answers go
 * through one queue with a lock and a condition variable. */
int baseline_ffi_queue(BaselinePlugin plugin, uint32_t in_flight, uint64_t duration_ns, BaselineResult *result);

/* Sleeps (clock_nanosleep) until each of these times, ns after the start, and starts a phase that is
 * answered inside event_stream; *p99_ns is the p99 of the starts' lateness. 0, or -1 when an answer
 * is missing. */
int baseline_pacing(BaselinePlugin plugin, const uint64_t *times, uint64_t count, uint64_t *p99_ns);

/* in_flight requests with these bytes, kept in flight on one connection for duration_ns after warmup_ns. */
typedef struct BaselineLoad {
  uint16_t port;     /* of 127.0.0.1 */
  const char *token; /* of the broker; empty if it needs none */
  const char *subject;
  const uint8_t *request;
  uint32_t length, in_flight;
  uint64_t warmup_ns, duration_ns;
} BaselineLoad;

/* Over a bare socket. 0, or -errno. */
int baseline_nats_client(const BaselineLoad *load, BaselineResult *result);
/* The same on libnats. Tuned: as efficiently as its public interface allows, on an event loop, without libnats
 * threads on the path. Otherwise with its defaults: a thread that sleeps 1 ms before it writes. */
int baseline_libnats_client(bool tuned, const BaselineLoad *load, BaselineResult *result);

/* Answers requests of a queue group until the broker goes away: reply dialect, action next,
 * request_id copied from the request. 0, or -errno. */
int baseline_nats_worker(uint16_t port, const char *token, const char *subject, const char *group);

/* The mean time of a clock read, in nanoseconds. */
double baseline_clock_ns(void);

#endif
