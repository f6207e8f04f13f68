/* SPDX-License-Identifier: MIT */
/* Which handles of the backend are live: how a good one is told from any other pointer. */
#ifndef OPENCL_LIVE_H
#define OPENCL_LIVE_H

#include <stdbool.h>

enum live_kind {
	LIVE_DEVICE, /* struct umm_opencl */
	LIVE_WINDOW, /* struct umm_opencl_window */
	LIVE_KINDS,
};

/* From now on it is a good handle of this kind. 0 or -ENOMEM. */
int live_add(enum live_kind kind, void *object);

/* Is it one? Looks at the pointer only, so whatever it points to. */
bool live_is(enum live_kind kind, const void *object);

/*
 * It is one no more, if it was. Its memory is freed when many others of the kind have ended after
 * it: until then no new one has this address.
 */
void live_end(enum live_kind kind, void *object);

#endif
