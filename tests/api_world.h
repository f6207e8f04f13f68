/* SPDX-License-Identifier: MIT */
/*
 * What tests of the public header share: they have umm.h and the shared library, no hook points
 * and no harness. A context with one device, whose frames are an array.
 */
#ifndef API_WORLD_H
#define API_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "umm.h"

#define API_FRAMES   64
#define EXIT_SKIPPED 77

struct world {
	struct umm_ctx *ctx;
	struct umm_device *dev;
	struct umm_devmem *mem;
	char *p; /* 8 pages, each filled with its number */
	/* Of tests that call world_extend(). */
	struct umm_mirror *mirror;
	void *plain; /* a page that is not managed */
};

extern const struct umm_device_ops api_device_ops;
extern const struct umm_mirror_ops api_mirror_ops;
extern const struct umm_devmem_options api_memory;
extern const struct umm_notifier_ops api_notifier_ops;
/* Its frames. */
extern char api_frames[API_FRAMES][UMM_PAGE_SIZE];
/* How often these callbacks ran. */
extern unsigned api_destroyed, api_released, api_invalidated;

int world_setup(void **state);
int world_teardown(void **state);
void world_extend(struct world *w);
/* The 8 pages are as they were. */
void assert_data(const struct world *w);

#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

#endif
