// Everything that descends from this process: finding, signalling, reaping it.
#ifndef NYLON_KEEPER_DESCENDANTS_H
#define NYLON_KEEPER_DESCENDANTS_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>

/// How the program ended, once it has.
struct ending {
    pid_t child;
    bool ended;
    int status;
    struct rusage use;
};

/// Reaps all children that have ended, adopted ones too. False when none is left.
bool reap(struct ending *ending);

/// Ends the program and all its descendants: SIGTERM, after `grace_ms` SIGKILL. Gives up
/// after some seconds on a process that even SIGKILL does not end (one that hangs in the kernel).
void end_descendants(struct ending *ending, int grace_ms);

#endif
