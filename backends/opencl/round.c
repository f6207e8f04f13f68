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
 * A round whose work-items may wait has an attendant (attend.h), from when its kernel is handed
 * over until all has come that was asked for. The table and the control buffer are then shared with
 * the host.
 *
 * Commands rely on the order of umm_opencl.rounds; in an out-of-order queue barriers stand
 * between them. A round leaves nothing in the queue, also when it fails, for the table
 * is read from host memory by the queue and may change once the round is over.
 *
 * Locks: the caller holds umm_opencl.launch; the table is left alone by others
 * between mirror_round_begin() and mirror_round_end(), but for the attendant once the kernel runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "attend.h"
#include "buffer.h"
#include "report.h"
#include "round.h"

#define SEEN_WORDS  4096
#define SEEN_EPOCHS 0xff /* the part of a round's number in what was seen */
#define FIRST_READ  256	 /* faults that are read along with the counters */
#define MIN_LEAVES  64
#define MOST_WINDOW 4096 /* leaves of it that there is room for before they are needed */
#define MIN_STATES  4096
#define MAX_EPOCH   (UINT32_MAX - (UINT32_C(1) << 24)) /* leaves room for a launch */

_Static_assert(sizeof(struct fault) == FAULT_WORDS * sizeof(cl_uint), "as the device writes it");
_Static_assert(sizeof(struct round_args) == sizeof(cl_uint8), "as the device reads it");

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int barrier(struct umm_opencl *ocl)
{
	if (!ocl->rounds_out_of_order)
		return 0;
	return report_cl(clEnqueueBarrierWithWaitList(ocl->rounds, 0, NULL, NULL),
			 "clEnqueueBarrierWithWaitList()");
}

int round_init(struct umm_opencl *ocl)
{
	size_t words = CONTROL_LOG + (size_t)FAULT_WORDS * ocl->fault_entries;
	int ret;

	ocl->control_host = calloc(words, sizeof(cl_uint));
	if (!ocl->control_host)
		return -ENOMEM;
	ret = buffer_grow_shared(ocl, &ocl->control, (words + SEEN_WORDS) * sizeof(cl_uint));
	if (ret < 0)
		return ret;
	ret = report_cl(clFinish(ocl->rounds), "clFinish()");
	return ret;
}

void round_fini(struct umm_opencl *ocl)
{
	buffer_release(ocl, &ocl->directory);
	buffer_release(ocl, &ocl->leaves);
	buffer_release(ocl, &ocl->used);
	buffer_release(ocl, &ocl->state);
	buffer_release(ocl, &ocl->control);
	free(ocl->control_host);
	free(ocl->used_host);
}

/*
 * Pages seen in earlier rounds whose numbers look the same: who waits for such a page would wait in
 * vain. Who does not is run again, with another number.
 */
static void forget_seen(struct umm_opencl *ocl)
{
	memset((uint32_t *)ocl->control.host + CONTROL_LOG +
		       FAULT_WORDS * (size_t)ocl->fault_entries,
	       0, SEEN_WORDS * sizeof(uint32_t));
}

/* Numbers start over before they run out. */
static int restart_epochs(struct umm_opencl *ocl)
{
	int ret = 0;

	ocl->epoch = 0;
	if (ocl->control.host)
		forget_seen(ocl);
	if (ocl->state.mem)
		ret = buffer_zero(ocl, &ocl->state);
	if (!ret && ocl->used.mem)
		ret = buffer_zero(ocl, &ocl->used);
	return ret ? ret : report_cl(clFinish(ocl->rounds), "clFinish()");
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

/* An array of the page table: where it is, here and on the device, and what that lacks. */
struct mirrored {
	const struct buffer *buffer;
	const void *host;
	size_t item_bytes;
	uint8_t *dirty; /* for each item */
	uint32_t count;
};

static int upload(struct umm_opencl *ocl, const struct mirrored *array, uint32_t first,
		  uint32_t end)
{
	size_t offset = first * array->item_bytes;

	return report_cl(clEnqueueWriteBuffer(ocl->rounds, array->buffer->mem, CL_FALSE, offset,
					      (end - first) * array->item_bytes,
					      (const char *)array->host + offset, 0, NULL, NULL),
			 "clEnqueueWriteBuffer() of the page table");
}

/* Upload the items marked as dirty, in runs. */
static int upload_dirty(struct umm_opencl *ocl, const struct mirrored *array)
{
	uint32_t end;
	int ret = 0;

	for (uint32_t i = 0; i < array->count && !ret; i = end) {
		for (end = i; end < array->count && array->dirty[end]; end++)
			array->dirty[end] = 0;
		if (end > i)
			ret = upload(ocl, array, i, end);
		else
			end++;
	}
	return ret;
}

static int upload_directory(struct umm_opencl *ocl)
{
	struct table *table = &ocl->table;
	const struct mirrored array = {
		.buffer = &ocl->directory,
		.host = table->directory,
		.item_bytes = TABLE_CHUNK_SLOTS * sizeof(struct table_slot),
		.dirty = table->dirty_chunks,
		.count = table_nchunks(table),
	};
	int ret;

	ret = buffer_grow_shared(ocl, &ocl->directory,
				 sizeof(struct table_slot) << table->directory_bits);
	if (ret > 0) {
		memset(table->dirty_chunks, 1, array.count);
		ret = barrier(ocl);
	}
	return ret < 0 ? ret : upload_dirty(ocl, &array);
}

/* Room for those that there are, and for as many again that may come while a kernel runs. */
static size_t most_leaves(const struct umm_opencl *ocl)
{
	size_t nleaves = ocl->table.nleaves, least = MIN_LEAVES;

	if (ocl->can_wait) {
		nleaves *= 2;
		least += ocl->table.max_window < MOST_WINDOW ? ocl->table.max_window : MOST_WINDOW;
	}
	return nleaves < least ? least : nleaves;
}

static int upload_leaves(struct umm_opencl *ocl)
{
	struct table *table = &ocl->table;
	const struct mirrored array = {
		.buffer = &ocl->leaves,
		.host = table->leaves,
		.item_bytes = TABLE_LEAF_BYTES,
		.dirty = table->dirty,
		.count = table->nleaves,
	};
	size_t nleaves = most_leaves(ocl);
	uint32_t *used_host;
	int ret;

	ret = buffer_grow_shared(ocl, &ocl->leaves, nleaves * TABLE_LEAF_BYTES);
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
	ocl->nused = ocl->can_wait ? (uint32_t)nleaves : table->nleaves;
	if (ret >= 0)
		ret = barrier(ocl);
	return ret < 0 ? ret : upload_dirty(ocl, &array);
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
	return report_cl_given(err, "clSetKernelArg() of UMM_KERNEL_ARGS, which come first,");
}

/* Reports that were complete are not any more. */
static void forget_reports(struct umm_opencl *ocl, uint32_t count)
{
	uint32_t *flags = (uint32_t *)ocl->control.host + CONTROL_LOG + 2;

	if (count > ocl->fault_entries)
		count = ocl->fault_entries;
	for (uint32_t i = 0; i < count; i++)
		flags[(size_t)FAULT_WORDS * i] = 0;
}

/* Counters back to zero, if they are not. */
static int reset_control(struct umm_opencl *ocl)
{
	static const cl_uint zero[2];

	if (!ocl->control_host[CONTROL_FAULTS] && !ocl->control_host[CONTROL_ITEMS])
		return 0;
	if (ocl->control.host)
		forget_reports(ocl, ocl->control_host[CONTROL_FAULTS]);
	return report_cl(clEnqueueWriteBuffer(ocl->rounds, ocl->control.mem, CL_FALSE, 0,
					      sizeof(zero), zero, 0, NULL, NULL),
			 "clEnqueueWriteBuffer() of the fault buffer");
}

/* Words of a buffer, and where they are read to: the same place in `to`. */
struct words {
	const struct buffer *buffer;
	uint32_t *to;
	size_t first, count;
};

static int read_words(struct umm_opencl *ocl, struct words words, cl_bool blocking)
{
	return report_cl(clEnqueueReadBuffer(ocl->rounds, words.buffer->mem, blocking,
					     words.first * sizeof(*words.to),
					     words.count * sizeof(*words.to),
					     words.to + words.first, 0, NULL, NULL),
			 "clEnqueueReadBuffer() of what the kernel reported");
}

/* Faults first .. end - 1 of the control buffer; from the first on, with the counters. */
static int read_faults(struct umm_opencl *ocl, uint32_t first, uint32_t end)
{
	size_t from = first ? CONTROL_LOG + (size_t)FAULT_WORDS * first : 0;
	size_t to = CONTROL_LOG + (size_t)FAULT_WORDS * end;

	return read_words(ocl, (struct words){ &ocl->control, ocl->control_host, from, to - from },
			  CL_TRUE);
}

/* Waits for the kernel: the last read does. */
static int read_outcome(struct umm_opencl *ocl, struct round_outcome *outcome)
{
	const struct words used = { &ocl->used, ocl->used_host, 0, ocl->nused };
	uint32_t *host = ocl->control_host;
	uint32_t cap = ocl->fault_entries;
	uint32_t first = cap < FIRST_READ ? cap : FIRST_READ;
	int ret = 0;

	if (used.count)
		ret = read_words(ocl, used, ocl->rounds_out_of_order ? CL_TRUE : CL_FALSE);
	if (!ret)
		ret = read_faults(ocl, 0, first);
	if (ret)
		return ret;
	outcome->faults = (struct fault *)(void *)(host + CONTROL_LOG);
	outcome->nitems = host[CONTROL_ITEMS];
	outcome->nfaults = host[CONTROL_FAULTS] < cap ? host[CONTROL_FAULTS] : cap;
	return outcome->nfaults > first ? read_faults(ocl, first, outcome->nfaults) : 0;
}

static int kernel_status(cl_event event)
{
	cl_int state = CL_COMPLETE;

	clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(state), &state, NULL);
	return report_cl(state < 0 ? state : CL_SUCCESS, "the kernel");
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

static int run_kernel(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t wait,
		      struct round_outcome *outcome)
{
	uint64_t start = now_ns();
	cl_event event;
	int ret;

	if (wait)
		attend_begin(ocl, wait == ROUND_WAIT ? 0 : wait);
	ret = report_cl_given(clEnqueueNDRangeKernel(ocl->rounds, work->kernel, work->dims,
						     work->offset, work->global, work->local, 0,
						     NULL, &event),
			      "clEnqueueNDRangeKernel()");
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
			const struct round_args *args, uint32_t wait, struct round_outcome *outcome)
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
		ret = run_kernel(ocl, work, wait, outcome);
	return ret;
}

/* Nobody knows what has arrived: wait for what is under way, and send all of it again. */
static void recover(struct umm_opencl *ocl)
{
	clFinish(ocl->rounds);
	memset(ocl->table.dirty, 1, ocl->table.nleaves);
	memset(ocl->table.dirty_chunks, 1, table_nchunks(&ocl->table));
	ocl->control_host[CONTROL_FAULTS] = UINT32_MAX; /* resets the counters */
}

int round_run(struct umm_opencl *ocl, const struct umm_opencl_work *work, struct round_args *args,
	      uint32_t wait, struct round_outcome *outcome)
{
	int ret = loss_is_known(&ocl->transfer.loss) ? -ENODEV : mirror_round_begin(ocl);

	if (ret)
		return ret;
	memset(outcome, 0, sizeof(*outcome));
	args->epoch = ++ocl->epoch;
	if (!args->first)
		args->first = args->epoch;
	if (ocl->control.host && !(args->epoch & SEEN_EPOCHS))
		forget_seen(ocl);
	args->directory_shift = 32 - ocl->table.directory_bits;
	args->capacity = ocl->fault_entries;
	args->pools_window = ocl->pools.npools | ocl->table.nwindow << 3;
	args->window_first = ocl->table.first;
	ret = run_prepared(ocl, work, args, ocl->attendant ? wait : 0, outcome);
	if (ret)
		recover(ocl);
	if (ret && loss_ask(&ocl->transfer.loss))
		ret = -ENODEV;
	else if (ret == -ENODEV)
		ret = -EIO;
	mirror_round_end(ocl);
	attend_end(ocl, outcome);
	return ret;
}
