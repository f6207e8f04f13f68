/* SPDX-License-Identifier: MIT */
/*
 * A memory node below the reference device, so that all that the core's tests know of
 * devices is tried on the backend as it is.
 *
 * This file compiles the backend's device.c once more, with its calls of
 * umm_device_create() and umm_devmem_add() coming out here: the reference device's
 * operations are put before the backend's, and the memory gets as many frames as the test
 * asked for, which the backend would round up.
 *
 * No locks: what a creation in progress has is its thread's.
 */
#include "ref_numa.h"

#include <stdlib.h>
#include <string.h>

#include "ref_device.h"
#include "umm_numa.h"

static _Thread_local struct {
	struct ref_device *ref;
	ref_join *join;
	uint32_t nframes;
} making;

static int device_create(struct umm_ctx *ctx, const struct umm_device_ops *ops, void *priv,
			 uint64_t flags, struct umm_device **out)
{
	(void)ctx;
	(void)flags;
	return making.join(making.ref, ops, priv, out);
}

static int devmem_add(struct umm_device *dev, const struct umm_devmem_options *options,
		      struct umm_devmem **out)
{
	struct umm_devmem_options mine = *options;

	mine.nframes = making.nframes;
	return umm_devmem_add(dev, &mine, out);
}

#define umm_device_create device_create
#define umm_devmem_add	  devmem_add
#include "backends/numa/device.c"
#undef umm_device_create
#undef umm_devmem_add

static int make(struct ref_device *ref, const struct ref_options *options, ref_join *join,
		struct ref_real *out)
{
	const char *node = getenv("UMM_TEST_NODE");
	struct umm_numa_options numa_options = {
		.size = sizeof(numa_options),
		.flags = options->type == UMM_DEVMEM_PRIVATE ? UMM_NUMA_PRIVATE : 0,
		.bytes = (uint64_t)options->nframes << UMM_PAGE_SHIFT,
		.node = node ? atoi(node) : UMM_NUMA_FAR,
	};
	struct umm_numa *numa;
	int ret;

	making.ref = ref;
	making.join = join;
	making.nframes = options->nframes;
	ret = umm_numa_create(ref->ctx, &numa_options, &numa);
	if (ret)
		return ret;
	out->mem = umm_numa_devmem(numa);
	out->frames = numa->frames.base;
	return 0;
}

_Bool ref_numa_use(void)
{
	const char *name = getenv("UMM_TEST_BACKEND");

	if (!name || strcmp(name, "numa") != 0)
		return 0;
	ref_backend_use(make);
	return 1;
}
