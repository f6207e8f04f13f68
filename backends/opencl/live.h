/* SPDX-License-Identifier: MIT */
/* Which devices of the backend are live: how a good handle is told from any other pointer. */
#ifndef OPENCL_LIVE_H
#define OPENCL_LIVE_H

#include <stdbool.h>

struct umm_opencl;

/* From now on it is a good handle. 0 or -ENOMEM. */
int live_add(struct umm_opencl *ocl);

/* Is it one? Looks at the pointer only, so whatever it points to. */
bool live_is(const struct umm_opencl *ocl);

/*
 * It is one no more, if it was. Its memory is freed when many others have ended after it: until
 * then no new device has this address.
 */
void live_end(struct umm_opencl *ocl);

#endif
