/* What the Linux kernel offers and Swift cannot import: variadic calls and inline clocks.
 * Header-only where the hot path calls, so that the compiler can inline it. */
#ifndef NYLON_KERNEL_H
#define NYLON_KERNEL_H

#include <stdint.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <time.h>

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
/* Removes a descriptor; 0 or -errno. */
int kernel_epoll_remove(int epoll_fd, int fd);
/* Makes this thread's timers exact instead of 50 us late. */
void kernel_exact_timers(void);
/* Sleeps until the absolute monotonic time. */
void kernel_sleep_until(uint64_t until_ns);

#endif
