/* Compiling the header is the test: its static asserts hold the layout. */
#include "nylon_abi.h"
