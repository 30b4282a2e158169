/* The Linux calls that Swift cannot import: variadic, inline, or not in its Glibc module, which does not
 * define _GNU_SOURCE; and the one signal handler, which must be C to be safe. */
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <time.h>

/* Functions used under load. Those of the hot path are in the header, so that the compiler can inline them. */

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t kernel_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Tells the core that this is a spin loop. */
static inline void kernel_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/* The value of pthread_self, without a call. */
static inline uintptr_t kernel_thread_identity(void) { return (uintptr_t)__builtin_thread_pointer(); }

/* Sleeps while *word == expected, at most until the absolute monotonic time. */
void kernel_futex_wait(const uint32_t *word, uint32_t expected, uint64_t until_ns);
/* Wakes one sleeper on the word. */
void kernel_futex_wake(const uint32_t *word);

/* The events of an epoll set (EPOLLIN, EPOLLOUT). */
enum { KERNEL_READABLE = 1, KERNEL_WRITABLE = 4 };

/* EAGAIN and EINTR: every module that includes errno.h declares them, so their use in Swift is ambiguous. */
enum { KERNEL_WOULD_WAIT = 11, KERNEL_INTERRUPTED = 4 };

/* Creates an epoll set, closed on exec; its descriptor or -errno. */
int kernel_epoll_create(void);
/* Waits at most timeout_ns for events of an epoll set; their count, 0 on timeout, or -errno. */
int kernel_epoll_wait_ns(int epoll_fd, uint64_t *user_data, uint32_t *events, int most,
                         uint64_t timeout_ns);
/* Adds or changes a descriptor of an epoll set; 0 or -errno. */
int kernel_epoll_set(int epoll_fd, int fd, uint32_t events, uint64_t user_data);
/* Creates an eventfd in an epoll set, which each write wakes once; closed on exec; its descriptor or -errno. */
int kernel_eventfd_watched(int epoll_fd, uint64_t user_data);
/* Wakes the waiters of an eventfd. */
void kernel_eventfd_wake(int fd);
/* Makes this thread's timers exact instead of 50 us late. */
void kernel_exact_timers(void);
/* Sleeps until the absolute monotonic time. */
void kernel_sleep_until(uint64_t until_ns);
/* Creates a non-blocking timerfd of the monotonic clock, closed on exec; its descriptor or -errno. */
int kernel_timer_create(void);
/* Makes a timerfd readable at the absolute monotonic time, instead of at the time set before. */
void kernel_timer_set(int fd, uint64_t at_ns);

/* Functions used before and after a load. All return -1 and set errno on failure. */

/* An anonymous memory file with these bytes, positioned at its start; closed on exec. */
int clinux_memory_file(const char *name, const void *bytes, size_t count);

/* An anonymous memory file of `count` zero bytes, sealed against changes of its size; closed on exec. */
int clinux_fixed_memory(const char *name, size_t count);

/* A pipe, both ends closed on exec, with a buffer of one megabyte if the system allows it. */
int clinux_pipe(int ends[2]);

/* Starts a program in a new session. It has descriptors 0 to `count` - 1, which are copies of
 * `descriptors`, and no others. */
int clinux_spawn(const char *path, char *const arguments[], char *const environment[],
                 const int *descriptors, size_t count, pid_t *pid);

/* The number of logical cores that this process may use. */
int clinux_allowed_cores(void);

/* The time that a thread lost on a core while it only read the clock. */
typedef struct ClinuxJitter {
  uint64_t seen_ns;    /* the duration of the measurement */
  uint64_t lost_ns;    /* the sum of all gaps over the threshold */
  uint64_t longest_ns; /* the longest gap */
  uint64_t gaps;       /* their number */
} ClinuxJitter;

/* Reads the clock without a pause for `duration_ns` on one of the cores that this process may use
 * (`place` from 0), and records gaps of over `threshold_ns`. Restores the thread's cores afterwards. */
int clinux_jitter(int place, uint64_t duration_ns, uint64_t threshold_ns, ClinuxJitter *result);

/* Writes a byte with the signal's number to `descriptor`, which must not block, at each of `signals`.
 * A process has one such descriptor: -1 with EBUSY if another one is set. */
int clinux_trap(int descriptor, const int *signals, size_t count);

/* Restores the handlers that the signals had before `clinux_trap`. */
void clinux_untrap(void);

#endif
