/* SPDX-License-Identifier: MIT */
/* interface.h, once: cffi's cdef() knows no include guard. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "interface.h"
