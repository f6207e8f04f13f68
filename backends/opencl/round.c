/* SPDX-License-Identifier: MIT */
/*
 * A round: bring the device's page table up to date, run the kernel, read the
 * control buffer. In the best case, when nothing changed and nothing faults, that is
 * one launch and two small reads.
 *
 * Nothing is cleared between rounds but two counters: rounds are numbered, and
 * states, leaves used and pages seen carry the number of the round that they
 * belong to.
 *
 * Commands rely on the order of umm_opencl.rounds; in an out-of-order queue barriers stand
 * between them. A round leaves nothing in the queue, also when it fails, for the table
 * is read from host memory by the queue and may change once the round is over.
 *
 * Locks: the caller holds umm_opencl.launch; the table is left alone by others
 * between mirror_round_begin() and mirror_round_end().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "report.h"
#include "round.h"

#define CONTROL_FAULTS 0 /* words of the control buffer, as in umm_device.cl */
#define CONTROL_ITEMS  1
#define CONTROL_LOG    16
#define FAULT_WORDS    4
#define SEEN_WORDS     4096
#define FIRST_READ     256 /* faults that are read along with the counters */
#define MIN_LEAVES     64
#define MIN_STATES     4096
#define MAX_EPOCH      (UINT32_MAX - (UINT32_C(1) << 24)) /* leaves room for a launch */

_Static_assert(sizeof(struct fault) == FAULT_WORDS * sizeof(cl_uint), "as the device writes it");
_Static_assert(sizeof(struct round_args) == sizeof(cl_uint8), "as the device reads it");

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void buffer_release(struct buffer *buffer)
{
	if (buffer->mem)
		clReleaseMemObject(buffer->mem);
	memset(buffer, 0, sizeof(*buffer));
}

static int buffer_zero(struct umm_opencl *ocl, struct buffer *buffer)
{
	static const cl_uint zero;

	return report_cl(clEnqueueFillBuffer(ocl->rounds, buffer->mem, &zero, sizeof(zero), 0,
					     buffer->len, 0, NULL, NULL),
			 "clearing a buffer");
}

/* At least len bytes, all zero if it is new. 1: it is new; 0: large enough; or an error. */
static int buffer_grow(struct umm_opencl *ocl, struct buffer *buffer, size_t len)
{
	struct buffer grown = { .len = buffer->len ? buffer->len : len };
	cl_int err;
	int ret;

	if (buffer->len >= len)
		return 0;
	while (grown.len < len)
		grown.len *= 2;
	grown.mem = clCreateBuffer(ocl->context, CL_MEM_READ_WRITE, grown.len, NULL, &err);
	if (err != CL_SUCCESS)
		return report_cl(err, "a buffer for bookkeeping");
	ret = buffer_zero(ocl, &grown);
	if (ret) {
		buffer_release(&grown);
		return ret;
	}
	buffer_release(buffer);
	*buffer = grown;
	return 1;
}

static int barrier(struct umm_opencl *ocl)
{
	if (!ocl->rounds_out_of_order)
		return 0;
	return report_cl(clEnqueueBarrierWithWaitList(ocl->rounds, 0, NULL, NULL), "a barrier");
}

int round_init(struct umm_opencl *ocl)
{
	size_t words = CONTROL_LOG + (size_t)FAULT_WORDS * ocl->fault_entries;
	int ret;

	ocl->control_host = calloc(words, sizeof(cl_uint));
	if (!ocl->control_host)
		return -ENOMEM;
	ret = buffer_grow(ocl, &ocl->control, (words + SEEN_WORDS) * sizeof(cl_uint));
	if (ret < 0)
		return ret;
	ret = report_cl(clFinish(ocl->rounds), "clearing a buffer");
	return ret;
}

void round_fini(struct umm_opencl *ocl)
{
	buffer_release(&ocl->directory);
	buffer_release(&ocl->leaves);
	buffer_release(&ocl->used);
	buffer_release(&ocl->state);
	buffer_release(&ocl->control);
	free(ocl->control_host);
	free(ocl->used_host);
}

/* Numbers start over before they run out. */
static int restart_epochs(struct umm_opencl *ocl)
{
	int ret = 0;

	ocl->epoch = 0;
	if (ocl->state.mem)
		ret = buffer_zero(ocl, &ocl->state);
	if (!ret && ocl->used.mem)
		ret = buffer_zero(ocl, &ocl->used);
	return ret ? ret : report_cl(clFinish(ocl->rounds), "clearing a buffer");
}

int round_prepare(struct umm_opencl *ocl, uint32_t nitems)
{
	size_t states = nitems < MIN_STATES ? MIN_STATES : nitems;
	int ret = 0;

	if (ocl->epoch >= MAX_EPOCH)
		ret = restart_epochs(ocl);
	if (!ret)
		ret = buffer_grow(ocl, &ocl->state, states * sizeof(cl_uint));
	return ret < 0 ? ret : barrier(ocl);
}

static int upload(struct umm_opencl *ocl, struct buffer *buffer, const void *base, size_t offset,
		  size_t len)
{
	return report_cl(clEnqueueWriteBuffer(ocl->rounds, buffer->mem, CL_FALSE, offset, len,
					      (const char *)base + offset, 0, NULL, NULL),
			 "uploading the page table");
}

/* Upload the items marked in dirty, of item_bytes each, in runs. */
static int upload_dirty(struct umm_opencl *ocl, struct buffer *buffer, const void *base,
			size_t item_bytes, uint8_t *dirty, uint32_t count)
{
	uint32_t end;
	int ret = 0;

	for (uint32_t i = 0; i < count && !ret; i = end) {
		for (end = i; end < count && dirty[end]; end++)
			dirty[end] = 0;
		if (end > i)
			ret = upload(ocl, buffer, base, i * item_bytes, (end - i) * item_bytes);
		else
			end++;
	}
	return ret;
}

static int upload_directory(struct umm_opencl *ocl)
{
	struct table *table = &ocl->table;
	uint32_t nchunks = table_nchunks(table);
	int ret;

	ret = buffer_grow(ocl, &ocl->directory, sizeof(struct table_slot) << table->directory_bits);
	if (ret > 0) {
		memset(table->dirty_chunks, 1, nchunks);
		ret = barrier(ocl);
	}
	if (ret < 0)
		return ret;
	return upload_dirty(ocl, &ocl->directory, table->directory,
			    TABLE_CHUNK_SLOTS * sizeof(struct table_slot), table->dirty_chunks,
			    nchunks);
}

static int upload_leaves(struct umm_opencl *ocl)
{
	struct table *table = &ocl->table;
	size_t nleaves = table->nleaves < MIN_LEAVES ? MIN_LEAVES : table->nleaves;
	uint32_t *used_host;
	int ret;

	ret = buffer_grow(ocl, &ocl->leaves, nleaves * TABLE_LEAF_BYTES);
	if (ret > 0)
		memset(table->dirty, 1, table->nleaves);
	if (ret >= 0)
		ret = buffer_grow(ocl, &ocl->used, nleaves * sizeof(cl_uint));
	if (ret > 0) {
		used_host = realloc(ocl->used_host, ocl->used.len);
		if (!used_host)
			return -ENOMEM;
		ocl->used_host = used_host;
	}
	if (ret >= 0)
		ret = barrier(ocl);
	if (ret < 0)
		return ret;
	return upload_dirty(ocl, &ocl->leaves, table->leaves, TABLE_LEAF_BYTES, table->dirty,
			    table->nleaves);
}

static int set_args(struct umm_opencl *ocl, cl_kernel kernel, const struct round_args *args)
{
	const struct buffer *const buffers[] = { &ocl->directory, &ocl->leaves, &ocl->used,
						 &ocl->control, &ocl->state };
	cl_int err = CL_SUCCESS;
	unsigned pool;

	for (cl_uint i = 0; i < PLATFORM_MAX_POOLS && err == CL_SUCCESS; i++) {
		pool = i < ocl->pools.npools ? i : 0;
		err = clSetKernelArg(kernel, ARG_POOL0 + i, sizeof(cl_mem), &ocl->pools.mem[pool]);
	}
	for (cl_uint i = 0; i < sizeof(buffers) / sizeof(buffers[0]) && err == CL_SUCCESS; i++)
		err = clSetKernelArg(kernel, ARG_DIRECTORY + i, sizeof(cl_mem), &buffers[i]->mem);
	if (err == CL_SUCCESS)
		err = clSetKernelArg(kernel, ARG_ROUND, sizeof(*args), args);
	if (err == CL_SUCCESS)
		return 0;
	report(UMM_LOG_ERROR, "the kernel's first arguments are not UMM_KERNEL_ARGS: %s (%d)",
	       report_cl_name(err), err);
	return -EINVAL;
}

/* Counters back to zero, if they are not. */
static int reset_control(struct umm_opencl *ocl)
{
	static const cl_uint zero[2];

	if (!ocl->control_host[CONTROL_FAULTS] && !ocl->control_host[CONTROL_ITEMS])
		return 0;
	return report_cl(clEnqueueWriteBuffer(ocl->rounds, ocl->control.mem, CL_FALSE, 0,
					      sizeof(zero), zero, 0, NULL, NULL),
			 "resetting the fault buffer");
}

static int read_words(struct umm_opencl *ocl, const struct buffer *buffer, uint32_t *to,
		      size_t first, size_t count, cl_bool blocking)
{
	return report_cl(clEnqueueReadBuffer(ocl->rounds, buffer->mem, blocking,
					     first * sizeof(*to), count * sizeof(*to), to + first,
					     0, NULL, NULL),
			 "reading what the kernel reported");
}

/* Waits for the kernel: the last read does. */
static int read_outcome(struct umm_opencl *ocl, struct round_outcome *outcome)
{
	uint32_t *host = ocl->control_host;
	uint32_t cap = ocl->fault_entries;
	uint32_t first = cap < FIRST_READ ? cap : FIRST_READ;
	int ret = 0;

	if (ocl->table.nleaves)
		ret = read_words(ocl, &ocl->used, ocl->used_host, 0, ocl->table.nleaves,
				 ocl->rounds_out_of_order ? CL_TRUE : CL_FALSE);
	if (!ret)
		ret = read_words(ocl, &ocl->control, host, 0,
				 CONTROL_LOG + (size_t)FAULT_WORDS * first, CL_TRUE);
	if (ret)
		return ret;
	outcome->faults = (struct fault *)(void *)(host + CONTROL_LOG);
	outcome->nitems = host[CONTROL_ITEMS];
	outcome->nfaults = host[CONTROL_FAULTS] < cap ? host[CONTROL_FAULTS] : cap;
	if (outcome->nfaults > first)
		ret = read_words(ocl, &ocl->control, host,
				 CONTROL_LOG + (size_t)FAULT_WORDS * first,
				 (size_t)FAULT_WORDS * (outcome->nfaults - first), CL_TRUE);
	return ret;
}

static int kernel_status(cl_event event)
{
	cl_int state = CL_COMPLETE;

	clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(state), &state, NULL);
	if (state >= 0)
		return 0;
	report(UMM_LOG_ERROR, "the kernel failed: %s (%d)", report_cl_name(state), state);
	return state == CL_DEVICE_NOT_AVAILABLE ? -ENODEV : -EIO;
}

/* What the device's clock says, where the queue has it looked at. */
static void profile(cl_event event, struct round_outcome *outcome)
{
	cl_ulong start, end;

	if (clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof(start), &start,
				    NULL) != CL_SUCCESS ||
	    clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof(end), &end, NULL) !=
		    CL_SUCCESS)
		return;
	outcome->device_start = start;
	outcome->device_end = end;
}

static int run_kernel(struct umm_opencl *ocl, const struct umm_opencl_work *work,
		      struct round_outcome *outcome)
{
	uint64_t start = now_ns();
	cl_event event;
	int ret;

	ret = report_cl(clEnqueueNDRangeKernel(ocl->rounds, work->kernel, work->dims, work->offset,
					       work->global, work->local, 0, NULL, &event),
			"launching the kernel");
	if (ret)
		return ret;
	ret = barrier(ocl);
	if (!ret)
		ret = read_outcome(ocl, outcome);
	if (!ret)
		ret = kernel_status(event);
	outcome->kernel_ns = now_ns() - start;
	if (!ret && ocl->profiled)
		profile(event, outcome);
	clReleaseEvent(event);
	return ret;
}

static int run_prepared(struct umm_opencl *ocl, const struct umm_opencl_work *work,
			const struct round_args *args, struct round_outcome *outcome)
{
	int ret = upload_directory(ocl);

	if (!ret)
		ret = upload_leaves(ocl);
	if (!ret)
		ret = reset_control(ocl);
	if (!ret)
		ret = barrier(ocl);
	if (!ret)
		ret = set_args(ocl, work->kernel, args);
	if (!ret)
		ret = run_kernel(ocl, work, outcome);
	return ret;
}

/* Nobody knows what has arrived: wait for what is under way, and send all of it again. */
static void recover(struct umm_opencl *ocl)
{
	clFinish(ocl->rounds);
	memset(ocl->table.dirty, 1, ocl->table.nleaves);
	memset(ocl->table.dirty_chunks, 1, table_nchunks(&ocl->table));
	ocl->control_host[CONTROL_ITEMS] = 1; /* resets the counters */
}

int round_run(struct umm_opencl *ocl, const struct umm_opencl_work *work, struct round_args *args,
	      struct round_outcome *outcome)
{
	int ret = loss_is_known(&ocl->transfer.loss) ? -ENODEV : mirror_round_begin(ocl);

	if (ret)
		return ret;
	memset(outcome, 0, sizeof(*outcome));
	args->epoch = ++ocl->epoch;
	if (!args->first)
		args->first = args->epoch;
	args->directory_shift = 32 - ocl->table.directory_bits;
	args->capacity = ocl->fault_entries;
	args->pools_window = ocl->pools.npools | ocl->table.nwindow << 3;
	args->window_first = ocl->table.first;
	ret = run_prepared(ocl, work, args, outcome);
	if (ret)
		recover(ocl);
	if (ret && loss_ask(&ocl->transfer.loss))
		ret = -ENODEV;
	mirror_round_end(ocl);
	return ret;
}
