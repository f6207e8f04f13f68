/* SPDX-License-Identifier: MIT */
/* Events for "umm trace". Any thread, unless said otherwise; costs two loads while nobody asks. */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_ring.h"

/* Where events go from here on; NULL: nowhere, also in a forked child. */
void trace_to(struct trace_ring *ring);

/* Once a round: end what nobody reads any more. The engine's thread. */
void trace_expire(void);

/* For trace_put(): when it began. 0: nobody asks. */
uint64_t trace_begin(void);

/* Put in an event of which tid and, where there is a start, the duration are filled in here. */
void trace_put(struct trace_event event);

#endif
