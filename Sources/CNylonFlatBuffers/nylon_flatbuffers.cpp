#include "nylon_flatbuffers.h"
