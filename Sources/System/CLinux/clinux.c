#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int clinux_memory_file(const char *name, const void *bytes, size_t count) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    const char *at = bytes;
    while (fd >= 0 && count > 0) {
        ssize_t written = write(fd, at, count);
        if (written < 0 && errno != EINTR) {
            int why = errno;
            close(fd);
            errno = why;
            return -1;
        }
        if (written > 0) {
            at += written;
            count -= (size_t)written;
        }
    }
    if (fd >= 0) {
        lseek(fd, 0, SEEK_SET);
    }
    return fd;
}

int clinux_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

void clinux_widen_pipe(int end) { (void)fcntl(end, F_SETPIPE_SZ, 1 << 20); }

int clinux_socket_pair(int ends[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
}

/// What the new process does with its descriptors. The copies lie above all targets, so that no
/// dup2 overwrites one that is still needed; `copies` are to be closed by the caller.
static int plan_descriptors(posix_spawn_file_actions_t *actions, const int *descriptors,
                            int *copies, size_t count) {
    int failure = 0;
    for (size_t i = 0; i < count; i++) {
        copies[i] = failure ? -1 : fcntl(descriptors[i], F_DUPFD_CLOEXEC, (int)count);
        if (!failure && copies[i] < 0) {
            failure = errno;
        }
        if (!failure) {
            failure = posix_spawn_file_actions_adddup2(actions, copies[i], (int)i);
        }
    }
    return failure ? failure : posix_spawn_file_actions_addclosefrom_np(actions, (int)count);
}

int clinux_spawn(const char *path, char *const arguments[], char *const environment[],
                 const int *descriptors, size_t count, pid_t *pid) {
    enum { most = 32 };
    int copies[most];
    if (count > most) {
        errno = E2BIG;
        return -1;
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure) {
        errno = failure;
        return -1;
    }
    failure = posix_spawnattr_init(&attributes);
    if (!failure) {
        failure = plan_descriptors(&actions, descriptors, copies, count);
        if (!failure) {
            failure = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        }
        if (!failure) {
            failure = posix_spawn(pid, path, &actions, &attributes, arguments, environment);
        }
        for (size_t i = 0; i < count; i++) {
            if (copies[i] >= 0) {
                close(copies[i]);
            }
        }
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    errno = failure;
    return failure ? -1 : 0;
}

int clinux_allowed_cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

static int64_t nanoseconds(struct timespec time) {
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t clinux_cpu_ns(pid_t pid) {
    clockid_t clock;
    struct timespec time;
    int failure = clock_getcpuclockid(pid, &clock);
    if (failure) {
        errno = failure;
        return -1;
    }
    return clock_gettime(clock, &time) == 0 ? nanoseconds(time) : -1;
}

int64_t clinux_clock_resolution_ns(void) {
    struct timespec time;
    return clock_getres(CLOCK_MONOTONIC, &time) == 0 ? nanoseconds(time) : -1;
}

int64_t clinux_sleep_overshoot_ns(int64_t ns) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    int64_t wanted = nanoseconds(time) + ns;
    time.tv_sec = wanted / 1000000000;
    time.tv_nsec = wanted % 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {
    }
    clock_gettime(CLOCK_MONOTONIC, &time);
    return nanoseconds(time) - wanted;
}

/* The core at a place among those that are allowed; -1 when there are fewer. */
static int core_at(const cpu_set_t *allowed, int place) {
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, allowed) && place-- == 0) return core;
    }
    return -1;
}

int clinux_jitter(int place, int64_t duration_ns, int64_t threshold_ns, ClinuxJitter *result) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0) return -1;
    int core = core_at(&allowed, place);
    if (core < 0) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0) return -1;
    *result = (ClinuxJitter){0};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t start = nanoseconds(now), last = start;
    while (last - start < duration_ns) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t time = nanoseconds(now), gap = time - last;
        if (gap > threshold_ns) {
            result->gaps++;
            result->lost_ns += gap;
            if (gap > result->longest_ns) result->longest_ns = gap;
        }
        last = time;
    }
    result->seen_ns = last - start;
    return sched_setaffinity(0, sizeof allowed, &allowed);
}
