// The Linux calls that Swift's Glibc module does not show (it has no _GNU_SOURCE), and the
// one signal handler, which has to be C to be safe. All return -1 and errno on failure.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// A nameless file in memory that holds these bytes, to be read from its start; closed on exec.
int clinux_memory_file(const char *name, const void *bytes, size_t count);

/// A pipe, both ends closed on exec.
int clinux_pipe(int ends[2]);

/// Makes a pipe hold a megabyte; left as it is where the system does not let us.
void clinux_widen_pipe(int end);

/// A pair of connected stream sockets, both closed on exec.
int clinux_socket_pair(int ends[2]);

/// Starts a program in a session of its own. It has descriptors 0 to `count` - 1, which are
/// copies of `descriptors`, and no others.
int clinux_spawn(const char *path, char *const arguments[], char *const environment[],
                 const int *descriptors, size_t count, pid_t *pid);

/// How many logical cores this process may use.
int clinux_allowed_cores(void);

/// CPU time that a process has used, ns.
int64_t clinux_cpu_ns(pid_t pid);

/// Resolution of the monotonic clock, ns.
int64_t clinux_clock_resolution_ns(void);

/// Sleeps once until `ns` from now, and tells how much later than that it woke, ns.
int64_t clinux_sleep_overshoot_ns(int64_t ns);

/// What a core took away from a thread that did nothing but read the clock.
typedef struct ClinuxJitter {
    int64_t seen_ns;      /* how long it watched */
    int64_t lost_ns;      /* sum of all gaps over the threshold */
    int64_t longest_ns;   /* the longest of them */
    int64_t gaps;         /* how many */
} ClinuxJitter;

/// Reads the clock without a pause for `duration_ns` on one of the cores that this process may use
/// (`place` from 0), and notes gaps of over `threshold_ns`. The thread's cores are given back.
int clinux_jitter(int place, int64_t duration_ns, int64_t threshold_ns, ClinuxJitter *result);

/// Where `signal` is written to, one byte each time it comes; `descriptor` must not block.
/// One descriptor for all signals of the process. -1 with EBUSY when another one is set.
int clinux_trap(int descriptor, const int *signals, size_t count);

/// Restores the handlers that the signals had before `clinux_trap`.
void clinux_untrap(void);

#endif
