#include "nylon_abi.h"
