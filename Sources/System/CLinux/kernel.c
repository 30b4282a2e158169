/* Wrappers for system calls that have no importable C function. */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(KERNEL_WOULD_WAIT == EAGAIN && EAGAIN == EWOULDBLOCK && KERNEL_INTERRUPTED == EINTR,
               "errno has other numbers here");

enum { NS_PER_SECOND = 1000000000, MOST_EVENTS = 64 };

static struct timespec to_timespec(uint64_t ns) {
  return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_SECOND), .tv_nsec = (long)(ns % NS_PER_SECOND)};
}

void kernel_futex_wait(const uint32_t *word, uint32_t expected, uint64_t until_ns) {
  struct timespec until = to_timespec(until_ns);
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, &until, NULL, FUTEX_BITSET_MATCH_ANY);
}

void kernel_futex_wake(const uint32_t *word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int kernel_epoll_wait_ns(int epoll_fd, uint64_t *user_data, uint32_t *events, int most,
                         uint64_t timeout_ns) {
  struct epoll_event ready[MOST_EVENTS];
  if (most > MOST_EVENTS) most = MOST_EVENTS;
  int count;
  if (timeout_ns == 0) {
    count = epoll_wait(epoll_fd, ready, most, 0);
  } else {
    struct timespec timeout = to_timespec(timeout_ns);
    count = epoll_pwait2(epoll_fd, ready, most, &timeout, NULL);
  }
  if (count < 0) return errno == EINTR ? 0 : -errno;
  for (int i = 0; i < count; i++) {
    user_data[i] = ready[i].data.u64;
    events[i] = ready[i].events;
  }
  return count;
}

int kernel_epoll_create(void) {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int kernel_epoll_set(int epoll_fd, int fd, uint32_t events, uint64_t user_data) {
  struct epoll_event event = {.events = events, .data.u64 = user_data};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return 0;
  if (errno == EEXIST && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
  return -errno;
}

int kernel_epoll_remove(int epoll_fd, int fd) {
  return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : -errno;
}

void kernel_exact_timers(void) { prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); }

void kernel_sleep_until(uint64_t until_ns) {
  struct timespec until = to_timespec(until_ns);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
  }
}
