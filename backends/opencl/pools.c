/* SPDX-License-Identifier: MIT */
/*
 * One buffer cannot be larger than CL_DEVICE_MAX_MEM_ALLOC_SIZE, hence the pools. All
 * are equally large, but for the last; each starts with a frame, at whatever
 * alignment the device gives to buffers, which is enough for every scalar and vector.
 *
 * Where the device has fine-grained buffers (CPUs and other devices that share the host's
 * memory), the pools are such: then a few pages are copied by the host, in less time than
 * handing over a command takes. They are asked to be in huge pages. clSVMAlloc() is of OpenCL
 * 2.0; a loader may lack it. Where it only has its memory in common with the host, they are such
 * as can be mapped without a copy.
 *
 * No locks: nothing changes between create and destroy, but what mapping.c maps.
 */
#define CL_TARGET_OPENCL_VERSION 200 /* clSVMAlloc(), where there is one */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "pools.h"
#include "report.h"

#pragma weak clSVMAlloc
#pragma weak clSVMFree

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

void pools_want_huge(void *host, size_t len)
{
	uintptr_t start = ((uintptr_t)host + UMM_BLOCK_SIZE - 1) & ~(UMM_BLOCK_SIZE - 1);
	uintptr_t end = ((uintptr_t)host + len) & ~(UMM_BLOCK_SIZE - 1);

	if (start < end)
		madvise((void *)start, end - start, MADV_HUGEPAGE);
}

/* The next pool, as memory that the host may use too. false: there is none such. */
static bool add_shared(struct pools *pools, size_t len)
{
	void *host = clSVMAlloc(pools->context, CL_MEM_READ_WRITE | CL_MEM_SVM_FINE_GRAIN_BUFFER,
				len, 0);
	cl_mem mem;

	if (!host)
		return false;
	mem = clCreateBuffer(pools->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, len, host,
			     NULL);
	if (!mem) {
		clSVMFree(pools->context, host);
		return false;
	}
	pools_want_huge(host, len);
	pools->host[pools->npools] = host;
	pools->mem[pools->npools++] = mem;
	return true;
}

/* The next pool. 0 or an error, reported. */
static int add_plain(struct pools *pools, cl_mem_flags flags, size_t len)
{
	cl_int err;
	cl_mem mem = clCreateBuffer(pools->context, CL_MEM_READ_WRITE | flags, len, NULL, &err);

	if (err != CL_SUCCESS) {
		report(UMM_LOG_ERROR,
		       "clCreateBuffer() of %zu bytes of device memory failed: %s (%d); ask for "
		       "less in device_bytes",
		       len, report_cl_name(err), err);
		return report_cl_errno(err);
	}
	pools->mem[pools->npools++] = mem;
	return 0;
}

int pools_create(struct pools *pools, cl_context context, cl_device_id device, uint64_t bytes,
		 uint64_t pool_bytes)
{
	struct platform_limits limits;
	uint32_t left, count;
	size_t len;
	int ret;

	memset(pools, 0, sizeof(*pools));
	pools->context = context;
	platform_limits(device, &limits);
	pools->may_map = limits.unified;
	ret = pools_plan(pools, &limits, bytes, pool_bytes);
	for (left = pools->nframes; left && !ret; left -= count) {
		count = left < pools->pool_frames ? left : pools->pool_frames;
		len = (size_t)count << UMM_PAGE_SHIFT;
		if (!limits.fine_grain || !clSVMAlloc || !add_shared(pools, len))
			ret = add_plain(pools, limits.unified ? CL_MEM_ALLOC_HOST_PTR : 0, len);
		pools->may_map &= !pools->host[0];
	}
	if (ret)
		pools_destroy(pools);
	return ret;
}

int pools_create_one(struct pools *pools, cl_context context, cl_device_id device, uint32_t npages)
{
	size_t len = (size_t)npages << UMM_PAGE_SHIFT;
	struct platform_limits limits;
	int ret = 0;

	memset(pools, 0, sizeof(*pools));
	pools->context = context;
	pools->nframes = npages;
	pools->pool_frames = npages;
	platform_limits(device, &limits);
	if (!limits.fine_grain || !clSVMAlloc || !add_shared(pools, len))
		ret = add_plain(pools, 0, len);
	return ret;
}

void pools_destroy(struct pools *pools)
{
	while (pools->npools) {
		clReleaseMemObject(pools->mem[--pools->npools]);
		if (pools->host[pools->npools])
			clSVMFree(pools->context, pools->host[pools->npools]);
	}
}
