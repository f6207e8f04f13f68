/* SPDX-License-Identifier: MIT */
/* The engine's clocks: what it does by them, tests see with clocks of their own. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

uint64_t clock_now_ns(void);
/* CPU time of the calling thread. */
uint64_t clock_cpu_ns(void);

#endif
