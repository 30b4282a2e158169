#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

_Static_assert(KERNEL_WOULD_WAIT == EAGAIN && EAGAIN == EWOULDBLOCK && KERNEL_INTERRUPTED == EINTR,
               "errno has other numbers here");

enum { NS_PER_SECOND = 1000000000, MOST_EVENTS = 64, MOST_DESCRIPTORS = 32 };

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

int kernel_eventfd_watched(int epoll_fd, uint64_t user_data) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return -errno;
  int status = kernel_epoll_set(epoll_fd, fd, EPOLLIN | EPOLLET, user_data);
  if (status == 0) return fd;
  close(fd);
  return status;
}

void kernel_eventfd_wake(int fd) {
  const uint64_t one = 1;
  /* The write fails only if the counter is full, and then the reader is woken anyway. */
  if (write(fd, &one, sizeof one) < 0) return;
}

void kernel_exact_timers(void) { prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); }

void kernel_sleep_until(uint64_t until_ns) {
  struct timespec until = to_timespec(until_ns);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
  }
}

int kernel_timer_create(void) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

void kernel_timer_set(int fd, uint64_t at_ns) {
  struct itimerspec at = {.it_value = to_timespec(at_ns)};
  timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL);
}

int clinux_memory_file(const char *name, const void *bytes, size_t count) {
  int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0 || count == 0) return fd;
  // A memory file takes all bytes in one write, unless memory runs out.
  ssize_t written = pwrite(fd, bytes, count, 0);
  if (written == (ssize_t)count) return fd;
  int why = written < 0 ? errno : ENOSPC;
  close(fd);
  errno = why;
  return -1;
}

int clinux_fixed_memory(const char *name, size_t count) {
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  if (ftruncate(fd, (off_t)count) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
    return fd;
  int why = errno;
  close(fd);
  errno = why;
  return -1;
}

int clinux_pipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  (void)fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
  return 0;
}

int clinux_spawn(const char *path, char *const arguments[], char *const environment[],
                 const int *descriptors, size_t count, pid_t *pid) {
  int copies[MOST_DESCRIPTORS], failure = count > MOST_DESCRIPTORS ? E2BIG : 0;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  size_t made = 0;
  for (; !failure && made < count; made++) {
    // The copies are above all target descriptors, so that no dup2 overwrites one that is still needed.
    copies[made] = fcntl(descriptors[made], F_DUPFD_CLOEXEC, (int)count);
    failure = copies[made] < 0
                  ? errno
                  : posix_spawn_file_actions_adddup2(&actions, copies[made], (int)made);
  }
  if (!failure) failure = posix_spawn_file_actions_addclosefrom_np(&actions, (int)count);
  if (!failure) failure = posix_spawn(pid, path, &actions, &attributes, arguments, environment);
  while (made-- > 0) close(copies[made]);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  errno = failure;
  return failure ? -1 : 0;
}

int clinux_allowed_cores(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

int clinux_jitter(int place, uint64_t duration_ns, uint64_t threshold_ns, ClinuxJitter *result) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) < 0) return -1;
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE; core++) {
    if (CPU_ISSET(core, &allowed) && place-- == 0) CPU_SET(core, &one);
  }
  // If there is no such core, the set is empty, and the call fails.
  if (sched_setaffinity(0, sizeof one, &one) < 0) return -1;
  *result = (ClinuxJitter){0};
  uint64_t start = kernel_now_ns(), last = start;
  while (last - start < duration_ns) {
    uint64_t now = kernel_now_ns(), gap = now - last;
    if (gap > threshold_ns) {
      result->gaps++;
      result->lost_ns += gap;
      if (gap > result->longest_ns) result->longest_ns = gap;
    }
    last = now;
  }
  result->seen_ns = last - start;
  return sched_setaffinity(0, sizeof allowed, &allowed);
}

static atomic_int trap_descriptor = -1;
static struct sigaction before[NSIG];
static sigset_t trapped;

/* A signal handler may call few functions: this one writes the signal's number to a descriptor, and the
 * thread that reads it does the rest outside the handler. */
static void note(int number) {
  int saved = errno;
  unsigned char byte = (unsigned char)number;
  ssize_t ignored = write(atomic_load(&trap_descriptor), &byte, 1);
  (void)ignored; // full or closed: a signal has already been reported
  errno = saved;
}

int clinux_trap(int descriptor, const int *signals, size_t count) {
  int none = -1;
  if (!atomic_compare_exchange_strong(&trap_descriptor, &none, descriptor)) {
    errno = EBUSY;
    return -1;
  }
  struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigemptyset(&trapped);
  for (size_t i = 0; i < count; i++) {
    if (sigaction(signals[i], &action, &before[signals[i]]) != 0) {
      int why = errno;
      clinux_untrap();
      errno = why;
      return -1;
    }
    sigaddset(&trapped, signals[i]);
  }
  // The parent process may have blocked them, and a blocked signal is never delivered.
  pthread_sigmask(SIG_UNBLOCK, &trapped, NULL);
  return 0;
}

void clinux_untrap(void) {
  for (int number = 1; number < NSIG; number++)
    if (sigismember(&trapped, number) == 1) sigaction(number, &before[number], NULL);
  atomic_store(&trap_descriptor, -1);
}
