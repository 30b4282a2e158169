// The keeper: starts one program and sees to it that nothing of it is left behind.
//
//   nylon-keeper --lifeline FD --status FD [--grace-ms N] -- PROGRAM [ARGUMENT ...]
//
// nylon-bench may be killed with SIGKILL at any moment, so nothing that it would do at
// its end can be relied on. It holds the other end of the lifeline, and nobody else
// does: when the lifeline closes, the keeper ends the program and all its descendants,
// daemons included, first politely and then not. Should the keeper itself be killed,
// the kernel kills the program (PR_SET_PDEATHSIG).
//
// The lifeline also carries orders, a byte each: T terminate, K kill, S stop, C continue.
// The keeper waits for the program, so a process id that it signals is never a stale one.
//
// Lines on the status descriptor: `started PID`, or `failed ERRNO TEXT` when the program
// cannot be executed; at the end `exited CODE USE` or `signaled NUMBER USE`, where USE is
// `user_ns=N system_ns=N max_rss_bytes=N`. The end is told after the descendants are gone.

#define _GNU_SOURCE
#include "descendants.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int usage_exit = 64;
static const int failed_exit = 71;

/// What the command line asks for.
struct order {
    int lifeline;
    int status;
    int grace_ms;
    char **program;
};

static void usage(const char *why) {
    fprintf(stderr,
            "nylon-keeper: %s\n"
            "usage: nylon-keeper --lifeline FD --status FD [--grace-ms N] -- PROGRAM [ARGUMENT ...]\n"
            "It is started by nylon-bench; there is no need to start it by hand.\n",
            why);
    exit(usage_exit);
}

/// A whole number from 0 to a million; anything else is wrong usage.
static int number(const char *text) {
    char *end = NULL;
    errno = 0;
    long value = text ? strtol(text, &end, 10) : -1;
    if (!text || end == text || *end != 0 || errno != 0 || value < 0 || value > 1000000) {
        usage("an option needs a whole number from 0 to 1000000");
    }
    return (int)value;
}

/// A descriptor that is open, and from now on not passed to the program.
static int private_descriptor(const char *text) {
    int fd = number(text);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        usage("--lifeline and --status need descriptors that are open");
    }
    return fd;
}

static struct order parse(int argc, char **argv) {
    struct order order = {.lifeline = -1, .status = -1, .grace_ms = 300, .program = NULL};
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at += 2) {
        const char *value = at + 1 < argc ? argv[at + 1] : NULL;
        if (strcmp(argv[at], "--lifeline") == 0) {
            order.lifeline = private_descriptor(value);
        } else if (strcmp(argv[at], "--status") == 0) {
            order.status = private_descriptor(value);
        } else if (strcmp(argv[at], "--grace-ms") == 0) {
            order.grace_ms = number(value);
        } else {
            usage("there is an option that it does not know");
        }
    }
    if (order.lifeline < 0 || order.status < 0) {
        usage("--lifeline and --status are needed");
    }
    if (at + 1 >= argc) {
        usage("a program is needed behind --");
    }
    order.program = argv + at + 1;
    return order;
}

/// Moves the program's arguments away and leaves only our own name in the process title, so
/// that `pkill -f` with a word of the program's command line does not hit its keeper.
static char **take_arguments(int argc, char **argv, char **program) {
    int count = (int)(argv + argc - program);
    char **copy = calloc((size_t)count + 1, sizeof *copy);
    for (int i = 0; copy && i < count; i++) {
        copy[i] = strdup(program[i]);
        if (!copy[i]) {
            return NULL;
        }
    }
    char *title = argv[0];
    size_t room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - title);
    memset(title, 0, room);
    strncpy(title, "nylon-keeper", room);
    return copy;
}

static void become_program(char **program, pid_t keeper, int report) {
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper) {
        _exit(failed_exit);  // the keeper died before the line above could see it
    }
    for (int number = 1; number < NSIG; number++) {
        signal(number, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(program[0], program);
    int why = errno;
    ssize_t written = write(report, &why, sizeof why);
    _exit(written == (ssize_t)sizeof why ? 127 : failed_exit);
}

/// Gives up what belongs to the program: its pipes must close when it ends, not when we do.
static void release_descriptors(int a, int b, int c, int d) {
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++) {
        if (nothing >= 0 && fd != a && fd != b && fd != c && fd != d) {
            dup2(nothing, fd);
        }
    }
    int kept[] = {2, a, b, c, d};
    int from = 3;
    while (true) {
        int next = -1;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
            if (kept[i] >= from && (next < 0 || kept[i] < next)) {
                next = kept[i];
            }
        }
        if (next < 0) {
            close_range((unsigned)from, ~0u, 0);
            return;
        }
        if (next > from) {
            close_range((unsigned)from, (unsigned)next - 1, 0);
        }
        from = next + 1;
    }
}

/// Carries out the orders that came; false when the lifeline is closed.
static bool obey(int lifeline, pid_t child) {
    char bytes[64];
    ssize_t count = read(lifeline, bytes, sizeof bytes);
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) {
        return false;
    }
    for (ssize_t i = 0; i < count; i++) {
        switch (bytes[i]) {
        case 'T':
            kill(-child, SIGTERM);
            kill(-child, SIGCONT);
            break;
        case 'K':
            kill(-child, SIGKILL);
            break;
        case 'S':
            kill(-child, SIGSTOP);
            break;
        case 'C':
            kill(-child, SIGCONT);
            break;
        default:
            break;
        }
    }
    return true;
}

/// Tells whether the program runs; the pipe closes by itself when it does.
static void tell_start(int report, int status, pid_t child) {
    int why = 0;
    if (read(report, &why, sizeof why) == (ssize_t)sizeof why) {
        dprintf(status, "failed %d %s\n", why, strerror(why));
    } else {
        dprintf(status, "started %d\n", (int)child);
    }
}

static void tell_end(int status, const struct ending *ending) {
    const struct rusage *use = &ending->use;
    bool exited = WIFEXITED(ending->status);
    dprintf(status, "%s %d user_ns=%lld system_ns=%lld max_rss_bytes=%lld\n",
            exited ? "exited" : "signaled",
            exited ? WEXITSTATUS(ending->status) : WTERMSIG(ending->status),
            use->ru_utime.tv_sec * 1000000000LL + use->ru_utime.tv_usec * 1000LL,
            use->ru_stime.tv_sec * 1000000000LL + use->ru_stime.tv_usec * 1000LL,
            use->ru_maxrss * 1024LL);
}

/// Waits until the program ends or is to end; then ends what is left of it.
static void keep(const struct order *order, pid_t child, int signals, int report) {
    struct ending ending = {.child = child, .ended = false};
    struct pollfd watched[] = {{order->lifeline, POLLIN, 0}, {signals, POLLIN, 0}, {report, POLLIN, 0}};
    bool asked = false;
    while (!ending.ended && !asked) {
        if (poll(watched, 3, -1) < 0) {
            continue;
        }
        if (watched[2].revents) {
            tell_start(report, order->status, child);
            watched[2].fd = -1;
        }
        struct signalfd_siginfo info;
        if (watched[1].revents && read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
            asked = info.ssi_signo != SIGCHLD;
        }
        reap(&ending);
        if (!ending.ended && watched[0].revents && !obey(order->lifeline, child)) {
            asked = true;
        }
    }
    if (watched[2].fd >= 0) {
        tell_start(report, order->status, child);
    }
    end_descendants(&ending, order->grace_ms);
    if (ending.ended) {
        tell_end(order->status, &ending);
    }
}

int main(int argc, char **argv) {
    struct order order = parse(argc, argv);
    order.program = take_arguments(argc, argv, order.program);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);  // the one who reads our status may be gone
    sigset_t handled;
    sigemptyset(&handled);
    const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaddset(&handled, numbers[i]);
    }
    sigprocmask(SIG_SETMASK, &handled, NULL);
    int signals = signalfd(-1, &handled, SFD_CLOEXEC);
    int report[2] = {-1, -1};
    pid_t keeper = getpid();
    pid_t child = -1;
    if (order.program && signals >= 0 && pipe2(report, O_CLOEXEC) == 0) {
        child = fork();
    }
    if (child < 0) {
        dprintf(order.status, "failed %d %s\n", errno, strerror(errno));
        return failed_exit;
    }
    if (child == 0) {
        become_program(order.program, keeper, report[1]);
    }
    close(report[1]);
    release_descriptors(order.lifeline, order.status, signals, report[0]);
    keep(&order, child, signals, report[0]);
    return 0;
}
