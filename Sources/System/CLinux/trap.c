// A signal handler may do next to nothing: this one writes the signal's number to a
// descriptor, and the thread that reads it does the rest outside of signal context.

#include "clinux.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { most = 8 };
static atomic_int trap_descriptor = -1;
static int trapped[most];
static struct sigaction before[most];
static size_t trapped_count;

static void note(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t ignored = write(atomic_load(&trap_descriptor), &byte, 1);
    (void)ignored;  // full or closed: the trap is known to be sprung already
    errno = saved;
}

int clinux_trap(int descriptor, const int *signals, size_t count) {
    int none = -1;
    if (count > most) {
        errno = E2BIG;
        return -1;
    }
    if (!atomic_compare_exchange_strong(&trap_descriptor, &none, descriptor)) {
        errno = EBUSY;
        return -1;
    }
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigset_t wanted;
    sigemptyset(&wanted);
    for (trapped_count = 0; trapped_count < count; trapped_count++) {
        trapped[trapped_count] = signals[trapped_count];
        if (sigaction(signals[trapped_count], &action, &before[trapped_count]) != 0) {
            int why = errno;
            clinux_untrap();
            errno = why;
            return -1;
        }
        sigaddset(&wanted, signals[trapped_count]);
    }
    // Who started us may have blocked them, and a blocked signal is never noted.
    pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
    return 0;
}

void clinux_untrap(void) {
    for (size_t i = 0; i < trapped_count; i++) {
        sigaction(trapped[i], &before[i], NULL);
    }
    trapped_count = 0;
    atomic_store(&trap_descriptor, -1);
}
