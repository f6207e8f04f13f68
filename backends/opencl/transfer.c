/* SPDX-License-Identifier: MIT */
/*
 * Copies that lie next to each other on both sides become one OpenCL command; runs
 * are cut where a pool ends. A batch's events go into a ring, where a thread waits
 * for them and signals the fence: OpenCL's own callbacks may run under locks of the
 * implementation, and the core's completion may well start the next copy.
 *
 * A few pages of pools that the host can use are copied at once, by the caller, and so are
 * many that are scattered: that takes less time than handing over a command for each run. While
 * a kernel runs that waits for pages all are: commands might have to wait for the kernel. While
 * pools are mapped (mapping.h) all are, too.
 *
 * A batch that has completed by the time it was handed over (PoCL's basic device
 * works in the calling thread) is signalled at once; one that finds the ring full is
 * waited for in place, for the caller may be the thread that empties the ring.
 *
 * Of a lost device only what the host reaches is copied; all else fails at once.
 *
 * Invariants: all commands of a batch are in the queue before those of the next; a
 * batch's slots follow each other in the ring; every fence is signalled once, with
 * no lock held.
 *
 * Locks: transfer.lock, held while a batch is handed over.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "report.h"
#include "transfer.h"

#define SMALL_PAGES 16 /* of a run: copied in less time than handing over a command takes */

/* Wait for a slot's events and let them go. */
static int slot_wait(struct transfer *transfer, struct transfer_slot *slot)
{
	int status = slot->status;
	cl_int err;

	if (!slot->nevents)
		return status;
	err = clWaitForEvents(slot->nevents, slot->events);
	if (err != CL_SUCCESS && !status) {
		report(UMM_LOG_ERROR, "clWaitForEvents() of a copy failed: %s (%d)",
		       report_cl_name(err), err);
		loss_ask(&transfer->loss);
		status = -EIO;
	}
	while (slot->nevents)
		clReleaseEvent(slot->events[--slot->nevents]);
	return status;
}

static bool slot_complete(const struct transfer_slot *slot)
{
	cl_int state = CL_QUEUED;

	for (cl_uint i = slot->nevents; i--;)
		if (clGetEventInfo(slot->events[i], CL_EVENT_COMMAND_EXECUTION_STATUS,
				   sizeof(state), &state, NULL) != CL_SUCCESS ||
		    state > CL_COMPLETE)
			return false;
	return true;
}

static void *transfer_main(void *priv)
{
	struct transfer *transfer = priv;
	struct transfer_slot slot;
	int status = 0, ret;

	for (;;) {
		pthread_mutex_lock(&transfer->lock);
		while (!transfer->count && !transfer->stop)
			pthread_cond_wait(&transfer->filled, &transfer->lock);
		if (!transfer->count)
			break;
		slot = transfer->slots[transfer->head];
		transfer->head = (transfer->head + 1) % TRANSFER_SLOTS;
		transfer->count--;
		pthread_mutex_unlock(&transfer->lock);

		ret = slot_wait(transfer, &slot);
		status = status ? status : ret;
		if (!slot.done)
			continue;
		umm_fence_signal(slot.done, status, 0);
		status = 0;
	}
	pthread_mutex_unlock(&transfer->lock);
	return NULL;
}

/* Copies do not depend on each other: out of order, where the device can. */
static cl_command_queue_properties queue_properties(cl_device_id device)
{
	cl_command_queue_properties properties = 0;

	clGetDeviceInfo(device, CL_DEVICE_QUEUE_PROPERTIES, sizeof(properties), &properties, NULL);
	return properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
}

/* With signals blocked: a handler that touches a page of the device would wait for this thread. */
static int thread_start(struct transfer *transfer)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = -pthread_create(&transfer->thread, NULL, transfer_main, transfer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

int transfer_init(struct transfer *transfer, cl_context context, cl_device_id device)
{
	cl_int err;
	int ret;

	memset(transfer, 0, sizeof(*transfer));
	transfer->queue = clCreateCommandQueue(context, device, queue_properties(device), &err);
	if (err != CL_SUCCESS)
		return report_cl(err, "clCreateCommandQueue() for copies");
	ret = loss_init(&transfer->loss, context, transfer->queue);
	if (ret)
		goto err_queue;
	pthread_mutex_init(&transfer->lock, NULL);
	pthread_cond_init(&transfer->filled, NULL);
	pthread_cond_init(&transfer->copied, NULL);
	ret = thread_start(transfer);
	if (!ret)
		return 0;
	report(UMM_LOG_ERROR, "no thread for copies could be started: %s", umm_strerror(ret));

	loss_fini(&transfer->loss);
err_queue:
	clReleaseCommandQueue(transfer->queue);
	return ret;
}

void transfer_fini(struct transfer *transfer)
{
	pthread_mutex_lock(&transfer->lock);
	transfer->stop = true;
	pthread_cond_signal(&transfer->filled);
	pthread_mutex_unlock(&transfer->lock);
	pthread_join(transfer->thread, NULL);
	loss_fini(&transfer->loss);
	clReleaseCommandQueue(transfer->queue);
	pthread_cond_destroy(&transfer->filled);
	pthread_cond_destroy(&transfer->copied);
	pthread_mutex_destroy(&transfer->lock);
}

/* What is being handed over; under transfer->lock. */
struct batch {
	struct transfer *transfer;
	const struct pools *pools;
	bool use_ring; /* there is room for all of it */
	int status;
	struct transfer_slot slot;
};

static void ring_push_locked(struct transfer *transfer, const struct transfer_slot *slot)
{
	transfer->slots[(transfer->head + transfer->count) % TRANSFER_SLOTS] = *slot;
	transfer->count++;
	pthread_cond_signal(&transfer->filled);
}

/* A full slot goes into the ring, or is waited for. */
static void batch_spill(struct batch *batch)
{
	if (batch->use_ring) {
		clFlush(batch->transfer->queue);
		ring_push_locked(batch->transfer, &batch->slot);
	} else {
		batch->slot.status = batch->status;
		batch->status = slot_wait(batch->transfer, &batch->slot);
	}
	batch->slot.nevents = 0;
}

/* The call that enqueue() makes. */
static const char *call_of(const struct umm_copy *copy)
{
	if (copy->dir == UMM_COPY_FROM_DEVICE)
		return "clEnqueueReadBuffer() of pages";
	return copy->host ? "clEnqueueWriteBuffer() of pages" : "clEnqueueFillBuffer() of pages";
}

static cl_int enqueue(cl_command_queue queue, const struct umm_copy *copy, cl_mem mem,
		      size_t offset, cl_event *event)
{
	static const cl_uint zero[4];
	size_t len = (size_t)copy->npages << UMM_PAGE_SHIFT;

	if (copy->dir == UMM_COPY_FROM_DEVICE)
		return clEnqueueReadBuffer(queue, mem, CL_FALSE, offset, len, copy->host, 0, NULL,
					   event);
	if (copy->host)
		return clEnqueueWriteBuffer(queue, mem, CL_FALSE, offset, len, copy->host, 0, NULL,
					    event);
	return clEnqueueFillBuffer(queue, mem, zero, sizeof(zero), offset, len, 0, NULL, event);
}

/* One run of frames, cut where pools end. */
static void batch_run(struct batch *batch, struct umm_copy run)
{
	const struct pools *pools = batch->pools;
	struct transfer_slot *slot = &batch->slot;
	uint32_t left, total = run.npages;
	cl_int err;

	while (total && !batch->status) {
		left = pools->pool_frames - run.frame % pools->pool_frames;
		run.npages = total < left ? total : left;
		if (slot->nevents == TRANSFER_EVENTS)
			batch_spill(batch);
		err = enqueue(batch->transfer->queue, &run,
			      pools->mem[pools_index(pools, run.frame)],
			      pools_offset(pools, run.frame), &slot->events[slot->nevents]);
		if (err != CL_SUCCESS) {
			report_cl(err, call_of(&run));
			loss_ask(&batch->transfer->loss);
			batch->status = -EIO;
			return;
		}
		slot->nevents++;
		total -= run.npages;
		run.frame += run.npages;
		if (run.host)
			run.host = (char *)run.host + ((size_t)run.npages << UMM_PAGE_SHIFT);
	}
}

/* Does next go on where run ends, on both sides? */
static bool follows(const struct umm_copy *run, const struct umm_copy *next)
{
	if (run->dir != next->dir || run->frame + run->npages != next->frame)
		return false;
	if (!run->host || !next->host)
		return run->host == next->host;
	return (char *)run->host + ((size_t)run->npages << UMM_PAGE_SHIFT) == next->host;
}

static void batch_enqueue(struct batch *batch, const struct umm_copy *copies, unsigned ncopies)
{
	struct umm_copy run;

	for (unsigned i = 0; i < ncopies;) {
		run = copies[i];
		while (++i < ncopies && follows(&run, &copies[i]))
			run.npages += copies[i].npages;
		batch_run(batch, run);
	}
	clFlush(batch->transfer->queue);
}

static bool is_reachable(const struct pools *pools, const struct umm_copy *copy)
{
	for (uint32_t page = 0; page < copy->npages; page++)
		if (!pools_host(pools, copy->frame + page))
			return false;
	return true;
}

/* Runs that are worth no command? */
static bool is_small(const struct umm_copy *copies, unsigned ncopies)
{
	unsigned npages = 0, nruns = 0;

	for (unsigned i = 0; i < ncopies; i++) {
		nruns += !i || !follows(&copies[i - 1], &copies[i]);
		npages += copies[i].npages;
	}
	return npages <= SMALL_PAGES * nruns && npages <= UMM_BLOCK_PAGES;
}

/* To be copied without a command, and possible? */
static bool is_for_host(struct transfer *transfer, const struct pools *pools,
			const struct umm_copy *copies, unsigned ncopies)
{
	if (!atomic_load(&transfer->busy) && !is_small(copies, ncopies))
		return false;
	for (unsigned i = 0; i < ncopies; i++)
		if (!is_reachable(pools, &copies[i]))
			return false;
	return true;
}

static void copy_page(void *frame, void *host, enum umm_copy_dir dir)
{
	if (dir == UMM_COPY_FROM_DEVICE)
		memcpy(host, frame, UMM_PAGE_SIZE);
	else if (host)
		memcpy(frame, host, UMM_PAGE_SIZE);
	else
		memset(frame, 0, UMM_PAGE_SIZE);
}

/* Of pools that are at `bases`. */
static void copy_here(const struct pools *pools, void *const *bases, const struct umm_copy *copies,
		      unsigned ncopies)
{
	for (unsigned i = 0; i < ncopies; i++)
		for (uint32_t page = 0; page < copies[i].npages; page++)
			copy_page(pools_at(pools, bases, copies[i].frame + page),
				  copies[i].host ? (char *)copies[i].host +
							   ((size_t)page << UMM_PAGE_SHIFT) :
						   NULL,
				  copies[i].dir);
}

/* While the pools are mapped, which is so until we have done; false: they are not. */
static bool copy_mapped(struct transfer *transfer, const struct pools *pools,
			const struct umm_copy *copies, unsigned ncopies)
{
	bool mapped;

	pthread_mutex_lock(&transfer->lock);
	mapped = pools->mapped[0];
	transfer->nmapped += mapped;
	pthread_mutex_unlock(&transfer->lock);
	if (!mapped)
		return false;
	copy_here(pools, pools->mapped, copies, ncopies);
	pthread_mutex_lock(&transfer->lock);
	if (!--transfer->nmapped)
		pthread_cond_signal(&transfer->copied);
	pthread_mutex_unlock(&transfer->lock);
	return true;
}

int transfer_start(struct transfer *transfer, const struct pools *pools,
		   const struct umm_copy *copies, unsigned ncopies, struct umm_fence *done)
{
	struct batch batch = { .transfer = transfer, .pools = pools };
	uint64_t most_events = (uint64_t)ncopies * pools->npools;
	bool in_place, by_host = is_for_host(transfer, pools, copies, ncopies);

	if (by_host)
		copy_here(pools, pools->host, copies, ncopies);
	if (by_host || copy_mapped(transfer, pools, copies, ncopies)) {
		umm_fence_signal(done, 0, 0);
		return 0;
	}
	if (loss_is_known(&transfer->loss)) {
		umm_fence_signal(done, -EIO, 0);
		return 0;
	}
	pthread_mutex_lock(&transfer->lock);
	batch.use_ring = most_events / TRANSFER_EVENTS + 1 <= TRANSFER_SLOTS - transfer->count;
	batch_enqueue(&batch, copies, ncopies);
	batch.slot.done = done;
	batch.slot.status = batch.status;
	in_place =
		!batch.use_ring || (most_events <= TRANSFER_EVENTS && slot_complete(&batch.slot));
	if (!in_place)
		ring_push_locked(transfer, &batch.slot);
	pthread_mutex_unlock(&transfer->lock);
	if (in_place)
		umm_fence_signal(done, slot_wait(transfer, &batch.slot), 0);
	return 0;
}
