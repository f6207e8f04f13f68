/* SPDX-License-Identifier: MIT */
/*
 * One buffer cannot be larger than CL_DEVICE_MAX_MEM_ALLOC_SIZE, hence the pools. All
 * are equally large, but for the last; each starts with a frame, at whatever
 * alignment the device gives to buffers, which is enough for every scalar and vector.
 * No locks: nothing changes between create and destroy.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "pools.h"
#include "report.h"

#define MAX_POOL_FRAMES (UINT32_C(1) << (32 - TABLE_FRAME_SHIFT))

static uint64_t pages(uint64_t bytes)
{
	return bytes / UMM_PAGE_SIZE + (bytes % UMM_PAGE_SIZE != 0);
}

static int pools_plan(struct pools *pools, const struct platform_limits *limits, uint64_t bytes,
		      uint64_t pool_bytes)
{
	uint64_t most = limits->max_alloc_bytes / UMM_PAGE_SIZE;
	uint64_t nframes = pages(bytes ? bytes : limits->default_device_bytes);

	if (pool_bytes && pages(pool_bytes) < most)
		most = pages(pool_bytes);
	if (most > MAX_POOL_FRAMES)
		most = MAX_POOL_FRAMES;
	if (!nframes || nframes > limits->max_device_bytes / UMM_PAGE_SIZE ||
	    nframes > PLATFORM_MAX_POOLS * most) {
		report(UMM_LOG_ERROR,
		       "device_bytes %" PRIu64 " is more than the device allows (%" PRIu64
		       ") or than "
		       "%d buffers of %" PRIu64 " bytes hold",
		       bytes, limits->max_device_bytes, PLATFORM_MAX_POOLS, most * UMM_PAGE_SIZE);
		return -EINVAL;
	}
	pools->nframes = (uint32_t)nframes;
	pools->pool_frames = (uint32_t)(nframes < most ? nframes : most);
	return 0;
}

int pools_create(struct pools *pools, cl_context context, cl_device_id device, uint64_t bytes,
		 uint64_t pool_bytes)
{
	struct platform_limits limits;
	uint32_t left, count;
	cl_int err;
	int ret;

	memset(pools, 0, sizeof(*pools));
	platform_limits(device, &limits);
	ret = pools_plan(pools, &limits, bytes, pool_bytes);
	if (ret)
		return ret;
	for (left = pools->nframes; left; left -= count) {
		count = left < pools->pool_frames ? left : pools->pool_frames;
		pools->mem[pools->npools] = clCreateBuffer(
			context, CL_MEM_READ_WRITE, (size_t)count << UMM_PAGE_SHIFT, NULL, &err);
		if (err != CL_SUCCESS) {
			report(UMM_LOG_ERROR,
			       "a buffer of %" PRIu64
			       " bytes for device memory failed: %s (%d); ask "
			       "for less in device_bytes",
			       (uint64_t)count << UMM_PAGE_SHIFT, report_cl_name(err), err);
			pools_destroy(pools);
			return report_cl_errno(err);
		}
		pools->npools++;
	}
	return 0;
}

void pools_destroy(struct pools *pools)
{
	while (pools->npools)
		clReleaseMemObject(pools->mem[--pools->npools]);
}
