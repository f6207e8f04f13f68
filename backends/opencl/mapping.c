/* SPDX-License-Identifier: MIT */
/*
 * Where device and host share their memory, but not at the same time, a buffer can be mapped
 * without a copy. Then pages come by one copy, from the program's memory into the frame, instead
 * of two, into staging and by a command, and no command is handed over for each run of them.
 *
 * No kernel may use a buffer meanwhile. So it is mapped when many pages are to come between two
 * rounds, and is not any more when the next round begins. No command may use it either: whoever
 * copies while it is mapped, as to bring pages home that a CPU misses, goes by the mapping too
 * (transfer.c), and its end waits for that.
 *
 * Frames that the core is told of (frame_host) are written to after it was told, and nobody says
 * when that is over: so only threads are told whose requests end before the mapping does, which are
 * the launching one and the one that helps it.
 *
 * Locks: transfer.lock, for pools.mapped and for the order of commands; held while they complete.
 */
#define CL_TARGET_OPENCL_VERSION 120

#include "mapping.h"

#include "report.h"

/* The pools whose mapping lasts until this thread's requests have ended. */
static _Thread_local const struct pools *mine;

static size_t pool_bytes(const struct pools *pools, unsigned i)
{
	uint32_t first = i * pools->pool_frames, left = pools->nframes - first;

	return (size_t)(left < pools->pool_frames ? left : pools->pool_frames) << UMM_PAGE_SHIFT;
}

static void unmap_locked(struct umm_opencl *ocl)
{
	struct pools *pools = &ocl->pools;
	cl_event events[PLATFORM_MAX_POOLS];
	cl_int err = CL_SUCCESS;
	cl_uint n = 0;

	for (unsigned i = 0; i < pools->npools && pools->mapped[i]; i++) {
		cl_int failed = clEnqueueUnmapMemObject(ocl->transfer.queue, pools->mem[i],
							pools->mapped[i], 0, NULL, &events[n]);

		pools->mapped[i] = NULL;
		if (failed == CL_SUCCESS)
			n++;
		else
			err = failed;
	}
	if (n && err == CL_SUCCESS)
		err = clWaitForEvents(n, events);
	while (n)
		clReleaseEvent(events[--n]);
	if (report_cl(err, "clEnqueueUnmapMemObject() of device memory"))
		loss_ask(&ocl->transfer.loss);
}

/* All of them, or none. What is in the queue goes first: copies by commands. */
static cl_int map_locked(struct umm_opencl *ocl)
{
	struct pools *pools = &ocl->pools;
	cl_command_queue queue = ocl->transfer.queue;
	cl_int err = clEnqueueBarrierWithWaitList(queue, 0, NULL, NULL);

	for (unsigned i = 0; i < pools->npools && err == CL_SUCCESS; i++)
		pools->mapped[i] = clEnqueueMapBuffer(queue, pools->mem[i], CL_TRUE,
						      CL_MAP_READ | CL_MAP_WRITE, 0,
						      pool_bytes(pools, i), 0, NULL, NULL, &err);
	if (err != CL_SUCCESS)
		unmap_locked(ocl);
	return err;
}

void mapping_open(struct umm_opencl *ocl)
{
	struct pools *pools = &ocl->pools;

	if (!pools->may_map)
		return;
	pthread_mutex_lock(&ocl->transfer.lock);
	pools->may_map = map_locked(ocl) == CL_SUCCESS;
	for (unsigned i = 0; i < pools->npools && pools->may_map; i++)
		pools_want_huge(pools->mapped[i], pool_bytes(pools, i));
	unmap_locked(ocl);
	pthread_mutex_unlock(&ocl->transfer.lock);
}

void mapping_begin(struct umm_opencl *ocl)
{
	struct pools *pools = &ocl->pools;
	cl_int err;

	if (!pools->may_map || pools->mapped[0] || loss_is_known(&ocl->transfer.loss))
		return;
	pthread_mutex_lock(&ocl->transfer.lock);
	err = map_locked(ocl);
	pthread_mutex_unlock(&ocl->transfer.lock);
	if (err == CL_SUCCESS) {
		mine = pools;
		return;
	}
	report_cl(err, "clEnqueueMapBuffer() of device memory");
	loss_ask(&ocl->transfer.loss);
}

void mapping_end(struct umm_opencl *ocl)
{
	struct transfer *transfer = &ocl->transfer;

	mine = NULL;
	if (!mapping_is(ocl))
		return;
	pthread_mutex_lock(&transfer->lock);
	while (transfer->nmapped)
		pthread_cond_wait(&transfer->copied, &transfer->lock);
	unmap_locked(ocl);
	pthread_mutex_unlock(&transfer->lock);
}

void mapping_join(struct umm_opencl *ocl)
{
	mine = mapping_is(ocl) ? &ocl->pools : NULL;
}

void mapping_leave(void)
{
	mine = NULL;
}

bool mapping_is(const struct umm_opencl *ocl)
{
	return ocl->pools.mapped[0];
}

void *mapping_host(const struct pools *pools, uint32_t frame)
{
	return mine == pools ? pools_at(pools, pools->mapped, frame) : NULL;
}
