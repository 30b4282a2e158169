#ifndef NYLON_FLATBUFFERS_H
#define NYLON_FLATBUFFERS_H
#include <stdint.h>
#endif
