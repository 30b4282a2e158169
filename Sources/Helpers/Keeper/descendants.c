// The keeper is a subreaper: a descendant that loses its parent becomes its
// child. So a process that made itself a daemon is still found here, and when the keeper
// has no children left, nothing descends from it.

#define _GNU_SOURCE
#include "descendants.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct process {
    pid_t pid;
    pid_t parent;
    bool ours;
};

struct table {
    struct process *rows;
    size_t count;
};

bool reap(struct ending *ending) {
    while (true) {
        int status = 0;
        struct rusage use;
        pid_t pid = wait4(-1, &status, WNOHANG, &use);
        if (pid < 0) {
            return errno != ECHILD;
        }
        if (pid == 0) {
            return true;
        }
        if (pid == ending->child) {
            ending->ended = true;
            ending->status = status;
            ending->use = use;
        }
    }
}

/// The parent of a process, from its /proc/PID/stat; 0 when it is gone.
static pid_t parent_of(pid_t pid) {
    char path[64];
    char text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) {
        return 0;
    }
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    const char *behind_name = strrchr(text, ')');  // the name may hold anything, brackets too
    int parent = 0;
    if (!behind_name || sscanf(behind_name + 1, " %*c %d", &parent) != 1) {
        return 0;
    }
    return parent;
}

static struct table all_processes(void) {
    struct table table = {NULL, 0};
    size_t room = 0;
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        if (!isdigit((unsigned char)entry->d_name[0])) {
            continue;
        }
        if (table.count == room) {
            room = room ? room * 2 : 256;
            struct process *rows = realloc(table.rows, room * sizeof *rows);
            if (!rows) {
                break;
            }
            table.rows = rows;
        }
        pid_t pid = (pid_t)atoi(entry->d_name);
        table.rows[table.count++] = (struct process){pid, parent_of(pid), false};
    }
    if (folder) {
        closedir(folder);
    }
    return table;
}

static bool is_ours(const struct table *table, pid_t pid) {
    for (size_t i = 0; i < table->count; i++) {
        if (table->rows[i].pid == pid) {
            return table->rows[i].ours;
        }
    }
    return false;
}

static void signal_descendants(int number) {
    struct table table = all_processes();
    pid_t keeper = getpid();
    bool found = true;
    while (found) {
        found = false;
        for (size_t i = 0; i < table.count; i++) {
            struct process *row = &table.rows[i];
            if (!row->ours && (row->parent == keeper || is_ours(&table, row->parent))) {
                row->ours = true;
                found = true;
                kill(row->pid, number);
            }
        }
    }
    free(table.rows);
}

/// Reaps for at most so long; false when nothing is left.
static bool reap_for(struct ending *ending, int milliseconds) {
    const struct timespec nap = {0, 2000000};
    struct timespec start;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (reap(ending)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        long long passed = (now.tv_sec - start.tv_sec) * 1000LL + (now.tv_nsec - start.tv_nsec) / 1000000;
        if (passed >= milliseconds) {
            return true;
        }
        nanosleep(&nap, NULL);
    }
    return false;
}

/// Signals the program's group, which needs no /proc, and all descendants outside it.
static void signal_all(const struct ending *ending, int number) {
    if (!ending->ended) {
        kill(-ending->child, number);
    }
    signal_descendants(number);
}

void end_descendants(struct ending *ending, int grace_ms) {
    if (!reap(ending)) {
        return;
    }
    signal_all(ending, SIGTERM);
    signal_all(ending, SIGCONT);  // one that is stopped would not see the SIGTERM
    if (!reap_for(ending, grace_ms)) {
        return;
    }
    for (int round = 0; round < 100; round++) {
        signal_all(ending, SIGKILL);  // again and again: one may have forked meanwhile
        if (!reap_for(ending, 50)) {
            return;
        }
    }
}
