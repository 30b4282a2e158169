/* The Linux calls that Swift cannot import: variadic, inline, or not in its Glibc module, which has no
 * _GNU_SOURCE; and the one signal handler, which has to be C to be safe. */
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <time.h>

/* Under load. What the hot path calls is in the header, so that the compiler can inline it. */

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

/* A number that identifies this thread, the same as pthread_self gives, without a call. */
static inline uintptr_t kernel_thread_identity(void) { return (uintptr_t)__builtin_thread_pointer(); }

/* Sleeps while *word == expected, at most until the absolute monotonic time. */
void kernel_futex_wait(const uint32_t *word, uint32_t expected, uint64_t until_ns);
/* Wakes one sleeper on the word. */
void kernel_futex_wake(const uint32_t *word);

/* What an epoll set is asked for, and tells (EPOLLIN, EPOLLOUT). */
enum { KERNEL_READABLE = 1, KERNEL_WRITABLE = 4 };

/* What errno says of a call that would have waited, or that a signal ended (EAGAIN, EINTR): every module that
 * includes errno.h has them, so Swift does not know whose they are. */
enum { KERNEL_WOULD_WAIT = 11, KERNEL_INTERRUPTED = 4 };

/* A new epoll set, closed on exec; -errno. */
int kernel_epoll_create(void);
/* Waits for events of an epoll set at most timeout_ns; their count, 0 on timeout, -errno. */
int kernel_epoll_wait_ns(int epoll_fd, uint64_t *user_data, uint32_t *events, int most,
                         uint64_t timeout_ns);
/* Adds (or changes) a descriptor of an epoll set; 0 or -errno. */
int kernel_epoll_set(int epoll_fd, int fd, uint32_t events, uint64_t user_data);
/* A new eventfd in an epoll set, which each write to it wakes once; closed on exec; -errno. */
int kernel_eventfd_watched(int epoll_fd, uint64_t user_data);
/* Wakes who waits for an eventfd. */
void kernel_eventfd_wake(int fd);
/* Makes this thread's timers exact instead of 50 us late. */
void kernel_exact_timers(void);
/* Sleeps until the absolute monotonic time. */
void kernel_sleep_until(uint64_t until_ns);
/* A new timerfd of the monotonic clock, which does not block; closed on exec; -errno. */
int kernel_timer_create(void);
/* Lets a timerfd become readable at the absolute monotonic time, instead of at the one it was set to before. */
void kernel_timer_set(int fd, uint64_t at_ns);

/* Around a load. All return -1 and errno on failure. */

/* A nameless file in memory that holds these bytes, to be read from its start; closed on exec. */
int clinux_memory_file(const char *name, const void *bytes, size_t count);

/* A nameless file in memory of so many zero bytes, which nobody can make longer or shorter; closed on exec. */
int clinux_fixed_memory(const char *name, size_t count);

/* A pipe, both ends closed on exec; it holds a megabyte where the system lets us. */
int clinux_pipe(int ends[2]);

/* Starts a program in a session of its own. It has descriptors 0 to `count` - 1, which are
 * copies of `descriptors`, and no others. */
int clinux_spawn(const char *path, char *const arguments[], char *const environment[],
                 const int *descriptors, size_t count, pid_t *pid);

/* How many logical cores this process may use. */
int clinux_allowed_cores(void);

/* What a core took away from a thread that did nothing but read the clock. */
typedef struct ClinuxJitter {
  uint64_t seen_ns;    /* how long it watched */
  uint64_t lost_ns;    /* sum of all gaps over the threshold */
  uint64_t longest_ns; /* the longest of them */
  uint64_t gaps;       /* how many */
} ClinuxJitter;

/* Reads the clock without a pause for `duration_ns` on one of the cores that this process may use
 * (`place` from 0), and notes gaps of over `threshold_ns`. The thread's cores are given back. */
int clinux_jitter(int place, uint64_t duration_ns, uint64_t threshold_ns, ClinuxJitter *result);

/* Where `signals` are written to, one byte each time one comes; `descriptor` must not block.
 * One descriptor for all signals of the process. -1 with EBUSY when another one is set. */
int clinux_trap(int descriptor, const int *signals, size_t count);

/* Restores the handlers that the signals had before `clinux_trap`. */
void clinux_untrap(void);

#endif
