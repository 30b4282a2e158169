// The keeper: starts one program and ensures that none of its processes is left behind.
//
//   nylon-keeper --lifeline FD --status FD -- PROGRAM [ARGUMENT ...]
//
// nylon-bench may be killed with SIGKILL at any moment, so its own cleanup cannot be relied
// on. Only nylon-bench holds the other end of the lifeline: when the lifeline closes, the
// keeper ends the program and all its descendants, daemons included, first with SIGTERM and
// then with SIGKILL.
//
// The keeper may be killed too, so there are two of them, parent and child. The child keeps the
// program. When the child is killed, the kernel kills the program (PR_SET_PDEATHSIG), and the
// parent ends its descendants; when the parent is killed, the child ends them all.
//
// The lifeline also carries orders, a byte each: T terminate, K kill, S stop, C continue, and the two
// signals whose meaning is the program's own, 1 (SIGUSR1) and 2 (SIGUSR2).
// The keeper waits for the program, so a process id that it signals is never a stale one.
//
// Lines on the status descriptor: `started PID`, or `failed ERRNO TEXT` when the program
// cannot be executed; at the end `exited CODE` or `signaled NUMBER`, written after the
// descendants have ended.
//
// Both keepers are subreapers: a descendant that loses its parent becomes their child. So a
// daemon is still found, and when the keepers have no children left, no descendant is left.

#define _GNU_SOURCE
#include <dirent.h>
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int usage_exit = 64;
static const int failed_exit = 71;
static const int grace_milliseconds = 300;

/// The parsed command line.
struct order {
    int lifeline;
    int status;
    char **program;
};

static void usage(const char *why) {
    fprintf(stderr,
            "nylon-keeper: %s\n"
            "usage: nylon-keeper --lifeline FD --status FD -- PROGRAM [ARGUMENT ...]\n"
            "It is started by nylon-bench; there is no need to start it by hand.\n", why);
    exit(usage_exit);
}

/// Parses an open descriptor, and keeps the program from inheriting it.
static int private_descriptor(const char *text) {
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : -1;
    if (!text || end == text || *end != 0 || value < 0 || value > 1000000)
        usage("an option needs a whole number from 0 to 1000000");
    int fd = (int)value;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        usage("--lifeline and --status need descriptors that are open");
    return fd;
}

static struct order parse(int argc, char **argv) {
    struct order order = {.lifeline = -1, .status = -1};
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at += 2) {
        bool is_lifeline = strcmp(argv[at], "--lifeline") == 0;
        if (!is_lifeline && strcmp(argv[at], "--status") != 0) usage("there is an option that it does not know");
        *(is_lifeline ? &order.lifeline : &order.status) = private_descriptor(argv[at + 1]);
    }
    if (order.lifeline < 0 || order.status < 0) usage("--lifeline and --status are needed");
    if (at + 1 >= argc) usage("a program is needed behind --");
    order.program = argv + at + 1;
    return order;
}

/// Copies the program's arguments and leaves only the keeper's name in the process title, so
/// that `pkill -f` with a word of the program's command line does not hit its keeper.
static char **take_arguments(int argc, char **argv, char **program) {
    int count = (int)(argv + argc - program);
    char **copy = calloc((size_t)count + 1, sizeof *copy);
    for (int i = 0; copy && i < count; i++) {
        copy[i] = strdup(program[i]);
        if (!copy[i]) return NULL;
    }
    char *title = argv[0];
    size_t room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - title);
    memset(title, 0, room);
    strncpy(title, "nylon-keeper", room);
    return copy;
}

/// A signal mask is inherited, and the parent may have blocked any signal.
static void unblock_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become_program(char **program, pid_t keeper, int report) {
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper) _exit(failed_exit);  // the keeper died before the line above could see it
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    unblock_signals();
    execvp(program[0], program);
    int why = errno;
    ssize_t written = write(report, &why, sizeof why);
    _exit(written == (ssize_t)sizeof why ? 127 : failed_exit);
}

/// Closes the program's descriptors: its pipes must close when it ends, not when the keeper does.
static void release_descriptors(const int *kept, size_t count) {
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    int last = 2;
    for (size_t i = 0; i < count; i++) last = kept[i] > last ? kept[i] : last;
    for (int fd = 0; fd <= last; fd++) {
        bool keeps = false;
        for (size_t i = 0; i < count; i++) keeps = keeps || kept[i] == fd;
        if (keeps) continue;
        if (fd >= 3) close(fd);
        else if (nothing >= 0) dup2(nothing, fd);
    }
    close_range((unsigned)last + 1, ~0u, 0);
}

// MARK: Descendants

/// The program's exit status, once it has ended.
struct ending {
    pid_t child;
    bool ended;
    int status;
};

/// Reaps all children that have ended, including adopted ones. False when none is left.
static bool reap(struct ending *ending) {
    int status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == ending->child) {
            ending->ended = true;
            ending->status = status;
        }
    }
    return pid == 0 || errno != ECHILD;
}

/// The parent of a process, from its /proc/PID/stat; 0 when it is gone.
static pid_t parent_of(pid_t pid) {
    char path[64];
    char text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    const char *behind_name = strrchr(text, ')');  // the name may contain parentheses itself
    int parent = 0;
    if (!behind_name || sscanf(behind_name + 1, " %*c %d", &parent) != 1) return 0;
    return parent;
}

static void signal_descendants(int number) {
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        pid_t pid = (pid_t)atoi(entry->d_name);  // 0 if the name is not a number
        pid_t above = pid;
        do {
            above = above > 1 ? parent_of(above) : 0;
        } while (above > 1 && above != getpid());
        if (above > 1) kill(pid, number);
    }
    if (folder) closedir(folder);
}

/// Reaps for at most `milliseconds`; false when no child is left.
static bool reap_for(struct ending *ending, int milliseconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + milliseconds;
    while (reap(ending)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec * 1000LL + now.tv_nsec / 1000000 >= end) return true;
        usleep(2000);
    }
    return false;
}

/// Signals the program's group, which needs no /proc, and all descendants outside it.
static void signal_all(const struct ending *ending, int number) {
    if (!ending->ended) kill(-ending->child, number);
    signal_descendants(number);
}

/// Ends the program and all its descendants: SIGTERM, then SIGKILL after a grace period. Gives up
/// after some seconds on a process that even SIGKILL does not end (one that hangs in the kernel).
static void end_descendants(struct ending *ending) {
    if (!reap(ending)) return;
    signal_all(ending, SIGTERM);
    signal_all(ending, SIGCONT);  // a stopped process would not see the SIGTERM
    if (!reap_for(ending, grace_milliseconds)) return;
    for (int round = 0; round < 100; round++) {
        signal_all(ending, SIGKILL);  // repeatedly: a process may have forked meanwhile
        if (!reap_for(ending, 50)) return;
    }
}

// MARK: The keeper's life

/// Carries out one order. A stopped process would never see SIGTERM, so it is continued.
static void carry_out(char order, pid_t child) {
    switch (order) {
    case 'S': kill(-child, SIGSTOP); break;
    case 'C': kill(-child, SIGCONT); break;
    case '1': kill(-child, SIGUSR1); break;
    case '2': kill(-child, SIGUSR2); break;
    default:
        kill(-child, order == 'K' ? SIGKILL : SIGTERM);
        kill(-child, SIGCONT);
    }
}

/// Carries out the received orders; false when the lifeline is closed.
static bool obey(int lifeline, pid_t child) {
    char bytes[64];
    ssize_t count = read(lifeline, bytes, sizeof bytes);
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) return false;
    for (ssize_t i = 0; i < count; i++) carry_out(bytes[i], child);
    return true;
}

/// Reports whether the program started; exec closes the pipe without a byte if it did.
static void tell_start(int report, int status, pid_t child) {
    int why = 0;
    if (read(report, &why, sizeof why) == (ssize_t)sizeof why) {
        dprintf(status, "failed %d %s\n", why, strerror(why));
    } else {
        dprintf(status, "started %d\n", (int)child);
    }
}

/// Waits until the program ends or its end is requested; then ends all remaining processes.
static void keep(const struct order *order, pid_t child, int signals, int report) {
    struct ending ending = {.child = child};
    struct pollfd watched[] = {{order->lifeline, POLLIN, 0}, {signals, POLLIN, 0}, {report, POLLIN, 0}};
    bool asked = false;
    while (!ending.ended && !asked) {
        if (poll(watched, 3, -1) < 0) continue;
        if (watched[2].revents) {
            tell_start(report, order->status, child);
            watched[2].fd = -1;
        }
        struct signalfd_siginfo info;
        if (watched[1].revents && read(signals, &info, sizeof info) == (ssize_t)sizeof info)
            asked = info.ssi_signo != SIGCHLD;
        reap(&ending);
        if (!ending.ended && watched[0].revents && !obey(order->lifeline, child)) asked = true;
    }
    if (watched[2].fd >= 0) tell_start(report, order->status, child);
    end_descendants(&ending);
    if (ending.ended && WIFEXITED(ending.status)) {
        dprintf(order->status, "exited %d\n", WEXITSTATUS(ending.status));
    } else if (ending.ended) {
        dprintf(order->status, "signaled %d\n", WTERMSIG(ending.status));
    }
}

/// Starts the program and keeps it; returns when no process of it is left.
static int keep_program(const struct order *order, int signals) {
    int report[2] = {-1, -1};
    pid_t keeper = getpid(), child = -1;
    if (order->program && signals >= 0 && pipe2(report, O_CLOEXEC) == 0) child = fork();
    if (child < 0) {
        dprintf(order->status, "failed %d %s\n", errno, strerror(errno));
        return failed_exit;
    }
    if (child == 0) become_program(order->program, keeper, report[1]);
    close(report[1]);
    release_descriptors((int[]){order->lifeline, order->status, signals, report[0]}, 4);
    keep(order, child, signals, report[0]);
    return 0;
}

/// The parent keeper: ends the processes that the child keeper leaves behind when it is killed. A signal
/// may end the parent at once, since the child then ends everything.
static int stand_by(pid_t keeper, int status) {
    unblock_signals();
    release_descriptors(&status, 1);
    while (waitpid(keeper, NULL, 0) < 0 && errno == EINTR) {}
    struct ending ending = {.child = keeper, .ended = true};
    end_descendants(&ending);
    return 0;
}

int main(int argc, char **argv) {
    struct order order = parse(argc, argv);
    order.program = take_arguments(argc, argv, order.program);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t parent = getpid(), keeper = fork();
    if (keeper > 0) return stand_by(keeper, order.status);
    signal(SIGPIPE, SIG_IGN);  // the reader of the status may be gone
    sigset_t handled;
    sigemptyset(&handled);
    const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaddset(&handled, numbers[i]);
    sigprocmask(SIG_SETMASK, &handled, NULL);
    if (keeper == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);  // not inherited across fork
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent) return failed_exit;  // it died before the line above could see it
    }
    return keep_program(&order, signalfd(-1, &handled, SFD_CLOEXEC));
}
