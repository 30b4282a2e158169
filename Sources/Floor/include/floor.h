#ifndef NYLON_FLOOR_H
#define NYLON_FLOOR_H
#include <stdint.h>
#endif
