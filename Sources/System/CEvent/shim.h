/* Included before libevent's headers, which define _GNU_SOURCE, so that the system's types are those of the
 * other modules. */
#include <sys/types.h>

#include <event2/event.h>
#include <event2/listener.h>
