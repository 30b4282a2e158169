/* Before libevent's headers, which ask for _GNU_SOURCE: the system's types have to be those of the other modules. */
#include <sys/types.h>

#include <event2/event.h>
#include <event2/listener.h>
