/* SPDX-License-Identifier: MIT */
/*
 * Making an OpenCL device a device of a context, and taking it away.
 *
 * Life: umm_opencl_create() adds a device to the context, opens queues and buffers, then
 * adds memory and mirror; from the first step on the core owns the structure. When the
 * device is destroyed, by umm_opencl_destroy() or otherwise, quiesce lets launches end, the
 * core brings the pages home through the copy op, and destroy frees everything.
 *
 * A handle is looked up (live.h) before anything behind it is looked at. Until the destroy op
 * runs it is good; launches then say -ENODEV, afterwards -EINVAL.
 *
 * A forked child has the structures, but neither the threads nor the state of
 * the OpenCL implementation: there, only host memory is freed and nothing waits.
 *
 * Locks: see device.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attend.h"
#include "device.h"
#include "live.h"
#include "mapping.h"
#include "pending.h"
#include "report.h"
#include "service.h"
#include "share.h"
#include "steps.h"
#include "size.h"
#include "window.h"

#define DEFAULT_FAULTS	  65536
#define DEFAULT_READAHEAD (UINT64_C(256) << 10)
#define MAX_READAHEAD	  (UINT64_C(1) << 30)

static int ocl_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		    struct umm_fence *done)
{
	struct umm_opencl *ocl = priv;

	/* The copies of a call are of one memory; its word is where its frames are. */
	return transfer_start(&ocl->transfer, umm_devmem_priv(copies->mem), copies, ncopies, done);
}

/* Of the pages' memory or a window's: its word is where its frames are. */
static void *ocl_frame_host(void *priv, struct umm_devmem *mem, uint32_t frame)
{
	const struct pools *pools = umm_devmem_priv(mem);
	void *host = pools_host(pools, frame);

	(void)priv;
	return host ? host : mapping_host(pools, frame);
}

static void close_queues(struct umm_opencl *ocl)
{
	clReleaseCommandQueue(ocl->rounds);
	clReleaseCommandQueue(ocl->queue);
	clReleaseContext(ocl->context);
}

/* The parts in reverse order of device_open(). */
static void ocl_close(struct umm_opencl *ocl)
{
	windows_destroy(ocl);
	pending_destroy(ocl->pending);
	pending_destroy(ocl->prefetches);
	attend_destroy(ocl);
	share_destroy(ocl);
	service_destroy(ocl);
	round_fini(ocl);
	table_fini(&ocl->table);
	transfer_fini(&ocl->transfer);
	pools_destroy(&ocl->pools);
	close_queues(ocl);
}

static void ocl_free(struct umm_opencl *ocl)
{
	pthread_cond_destroy(&ocl->changed);
	pthread_mutex_destroy(&ocl->update);
	pthread_mutex_destroy(&ocl->launch);
	live_end(LIVE_DEVICE, ocl);
}

/* Launches end after their round, windows are released: nobody uses the core's handles then. */
static void ocl_quiesce(void *priv)
{
	struct umm_opencl *ocl = priv;

	if (ocl->owner != getpid())
		return;
	pthread_mutex_lock(&ocl->update);
	ocl->gone = true;
	if (ocl->opened)
		attend_stop_locked(ocl);
	while (ocl->inside)
		pthread_cond_wait(&ocl->changed, &ocl->update);
	pthread_mutex_unlock(&ocl->update);
	if (ocl->opened)
		windows_quiesce(ocl);
}

static void ocl_destroy(void *priv)
{
	struct umm_opencl *ocl = priv;

	if (ocl->owner != getpid()) {
		if (ocl->opened)
			table_fini(&ocl->table);
		windows_forget(ocl);
		attend_destroy(ocl);
		share_destroy(ocl);
		service_destroy(ocl);
		free(ocl->control_host);
		free(ocl->used_host);
		live_end(LIVE_DEVICE, ocl);
		return;
	}
	if (ocl->opened)
		ocl_close(ocl);
	ocl_free(ocl);
}

/* The queue decides everything; a context alone, its first device. */
static int take_queue(struct umm_opencl *ocl, cl_command_queue queue)
{
	cl_command_queue_properties properties = 0;
	cl_int err;

	err = clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof(cl_context), &ocl->context,
				    NULL);
	if (err == CL_SUCCESS)
		err = clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof(cl_device_id),
					    &ocl->device, NULL);
	if (err == CL_SUCCESS)
		err = clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof(properties),
					    &properties, NULL);
	if (err != CL_SUCCESS)
		return report_cl_given(err, "clGetCommandQueueInfo() of the queue given");
	ocl->out_of_order = properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
	ocl->profiled = properties & CL_QUEUE_PROFILING_ENABLE;
	ocl->foreign_queue = true;
	ocl->queue = queue;
	clRetainContext(ocl->context);
	clRetainCommandQueue(queue);
	return 0;
}

/* The device that the caller named or, of a context, the first; it must be in the context. */
static int pick_device(cl_context context, cl_device_id wanted, cl_device_id *out)
{
	cl_device_id *devices;
	size_t len = 0;
	cl_int err;
	int ret = -EINVAL;

	err = clGetContextInfo(context, CL_CONTEXT_DEVICES, 0, NULL, &len);
	if (err != CL_SUCCESS || len < sizeof(cl_device_id))
		return report_cl_given(err != CL_SUCCESS ? err : CL_INVALID_CONTEXT,
				       "clGetContextInfo() of the context given");
	devices = malloc(len);
	if (!devices)
		return -ENOMEM;
	clGetContextInfo(context, CL_CONTEXT_DEVICES, len, devices, NULL);
	for (size_t i = 0; i < len / sizeof(cl_device_id) && ret; i++) {
		if (wanted && devices[i] != wanted)
			continue;
		*out = devices[i];
		ret = 0;
	}
	if (ret)
		report(UMM_LOG_ERROR, "the device is not one of the context's");
	free(devices);
	return ret;
}

static int open_context(struct umm_opencl *ocl, const struct umm_opencl_options *options)
{
	cl_int err;
	int ret;

	if (options->context) {
		ret = pick_device(options->context, options->device, &ocl->device);
		if (ret)
			return ret;
		ocl->context = options->context;
		clRetainContext(ocl->context);
		return 0;
	}
	ocl->device = options->device;
	ret = ocl->device ? 0 : platform_choose(options, &ocl->device);
	if (ret)
		return ret;
	ocl->context = clCreateContext(NULL, 1, &ocl->device, NULL, NULL, &err);
	return report_cl_given(err, "clCreateContext()");
}

static int open_program_queue(struct umm_opencl *ocl, const struct umm_opencl_options *options)
{
	cl_int err;
	int ret;

	if (options->queue)
		return take_queue(ocl, options->queue);
	ret = open_context(ocl, options);
	if (ret)
		return ret;
	ocl->queue = clCreateCommandQueue(ocl->context, ocl->device, 0, &err);
	if (err == CL_SUCCESS)
		return 0;
	clReleaseContext(ocl->context);
	return report_cl_given(err, "clCreateCommandQueue()");
}

/* Kernels run in the program's queue, until pending.c makes them another. */
static int open_queue(struct umm_opencl *ocl, const struct umm_opencl_options *options)
{
	int ret = open_program_queue(ocl, options);

	if (ret)
		return ret;
	ocl->rounds = ocl->queue;
	ocl->rounds_out_of_order = ocl->out_of_order;
	clRetainCommandQueue(ocl->rounds);
	return 0;
}

static int check_device(struct umm_opencl *ocl)
{
	const char *reason;
	int ret = platform_check(ocl->device, &reason);

	if (ret)
		report(UMM_LOG_ERROR, "this device will not do: %s", reason);
	return ret;
}

/* Pass what a step of opening ended with on; where host memory was short, say for what. */
static int opened(int ret, const char *what)
{
	if (ret == -ENOMEM)
		report(UMM_LOG_ERROR, "no memory for %s: raise 'ulimit -v' (address space)", what);
	return ret;
}

/* Everything of OpenCL. */
static int ocl_open(struct umm_opencl *ocl, const struct umm_opencl_options *options)
{
	int ret = open_queue(ocl, options);

	if (ret)
		return ret;
	ret = check_device(ocl);
	if (ret)
		goto err_queue;
	ret = pools_create(&ocl->pools, ocl->context, ocl->device, options->device_bytes,
			   options->pool_bytes);
	if (ret)
		goto err_queue;
	ret = transfer_init(&ocl->transfer, ocl->context, ocl->device);
	if (ret)
		goto err_pools;
	mapping_open(ocl);
	ret = opened(table_init(&ocl->table, ocl->pools.nframes), "the table of pages");
	if (ret)
		goto err_transfer;
	attend_decide(ocl);
	steps_decide(ocl);
	ret = opened(round_init(ocl), "launches");
	if (!ret)
		ret = opened(service_create(ocl), "faults");
	if (!ret)
		ret = opened(share_create(ocl), "bringing pages");
	if (!ret)
		ret = opened(attend_create(ocl), "kernels that wait");
	ocl->pending = pending_create(ocl, true);
	ocl->prefetches = pending_create(ocl, false);
	if (!ret && (!ocl->pending || !ocl->prefetches))
		ret = opened(-ENOMEM, "launches in a queue");
	if (!ret)
		ret = opened(windows_create(ocl, options->window_bytes), "windows");
	if (!ret)
		return 0;

	pending_destroy(ocl->prefetches);
	pending_destroy(ocl->pending);
	attend_destroy(ocl);
	share_destroy(ocl);
	service_destroy(ocl);
	round_fini(ocl);
	table_fini(&ocl->table);
err_transfer:
	transfer_fini(&ocl->transfer);
err_pools:
	pools_destroy(&ocl->pools);
err_queue:
	close_queues(ocl);
	return ret;
}

static const struct umm_device_ops ocl_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "opencl",
	.copy = ocl_copy,
	.destroy = ocl_destroy,
	.quiesce = ocl_quiesce,
	.frame_host = ocl_frame_host,
};

/* Memory and mirror; on failure the device is destroyed, and ocl with it. */
static int ocl_join(struct umm_opencl *ocl, const struct umm_opencl_options *options)
{
	struct umm_devmem_options memory = {
		.size = sizeof(memory),
		.type = UMM_DEVMEM_PRIVATE,
	};
	int ret = ocl_open(ocl, options);

	if (ret)
		goto err_device;
	ocl->opened = true;
	memory.nframes = ocl->pools.nframes;
	ret = opened(umm_devmem_add(ocl->dev, &memory, &ocl->mem), "the books of its memory");
	if (!ret)
		umm_devmem_priv_set(ocl->mem, &ocl->pools);
	if (!ret)
		ret = opened(umm_mirror_register(ocl->dev, &mirror_ops, ocl, &ocl->mirror),
			     "its mirror");
	if (!ret)
		return 0;
err_device:
	umm_device_destroy(ocl->dev);
	return ret;
}

static int check_options(const struct umm_opencl_options *options)
{
	if (options->flags || options->reserved || options->readahead > MAX_READAHEAD ||
	    options->fault_entries > UINT32_MAX / 64)
		return -EINVAL;
	/* A queue has a context and a device; a context has devices. */
	if (options->queue && (options->context || options->device))
		return -EINVAL;
	if ((options->queue || options->context || options->device) &&
	    (options->platform_name || options->device_name || options->type))
		return -EINVAL;
	return 0;
}

static struct umm_opencl *ocl_alloc(struct umm_ctx *ctx, const struct umm_opencl_options *options)
{
	struct umm_opencl *ocl = calloc(1, sizeof(*ocl));

	if (!ocl)
		return NULL;
	ocl->ctx = ctx;
	ocl->owner = getpid();
	ocl->fault_entries = options->fault_entries ? options->fault_entries : DEFAULT_FAULTS;
	ocl->readahead = (uint32_t)((options->readahead ? options->readahead : DEFAULT_READAHEAD) /
				    UMM_PAGE_SIZE);
	pthread_mutex_init(&ocl->launch, NULL);
	pthread_mutex_init(&ocl->update, NULL);
	pthread_cond_init(&ocl->changed, NULL);
	return ocl;
}

int umm_opencl_create(struct umm_ctx *ctx, const struct umm_opencl_options *options,
		      struct umm_opencl **out)
{
	struct umm_opencl_options ours = { .size = sizeof(ours) };
	struct umm_opencl *ocl;
	int ret;

	if (!ctx || !out)
		return -EINVAL;
	ret = options ? size_in(&ours, sizeof(ours), options) : 0;
	if (!ret)
		ret = check_options(&ours);
	if (!ret && umm_in_callback())
		ret = -EDEADLK;
	/* First of all: in a forked child OpenCL might hang. */
	if (!ret && platform_is_parents())
		ret = -ENODEV;
	if (ret)
		return ret;
	ocl = ocl_alloc(ctx, &ours);
	if (!ocl)
		return opened(-ENOMEM, "the device");
	ret = opened(umm_device_create(ctx, &ocl_ops, ocl, 0, &ocl->dev), "the device");
	if (ret) {
		ocl_free(ocl);
		return ret;
	}
	ret = ocl_join(ocl, &ours);
	if (ret)
		return ret;
	ret = opened(live_add(LIVE_DEVICE, ocl), "the device");
	if (ret) {
		umm_device_destroy(ocl->dev);
		return ret;
	}
	*out = ocl;
	return 0;
}

int device_enter(struct umm_opencl *ocl, struct umm_ctx **ctx)
{
	int ret = -ENODEV;

	if (ocl->owner != getpid())
		return -ENODEV;
	if (umm_in_callback())
		return -EDEADLK;
	pthread_mutex_lock(&ocl->update);
	if (!ocl->gone) {
		ocl->inside++;
		ret = 0;
	}
	pthread_mutex_unlock(&ocl->update);
	if (!ret)
		*ctx = umm_ctx_get(ocl->ctx);
	return ret;
}

bool device_is_going(struct umm_opencl *ocl)
{
	bool going;

	pthread_mutex_lock(&ocl->update);
	going = ocl->gone;
	pthread_mutex_unlock(&ocl->update);
	return going;
}

void device_leave(struct umm_opencl *ocl, struct umm_ctx *ctx)
{
	pthread_mutex_lock(&ocl->update);
	if (!--ocl->inside)
		pthread_cond_broadcast(&ocl->changed);
	pthread_mutex_unlock(&ocl->update);
	umm_ctx_put(ctx); /* the last one destroys the device */
}

void device_stay(struct umm_opencl *ocl)
{
	pthread_mutex_lock(&ocl->update);
	ocl->inside++;
	pthread_mutex_unlock(&ocl->update);
}

int device_verdict(struct umm_opencl *ocl, int err)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	bool gone;

	if (!err)
		return 0;
	pthread_mutex_lock(&ocl->update);
	gone = ocl->gone;
	pthread_mutex_unlock(&ocl->update);
	/* A context that is being closed answers nothing, and is going to destroy its devices. */
	return gone || umm_ctx_stats(ocl->ctx, &stats) ? -ENODEV : err;
}

void umm_opencl_destroy(struct umm_opencl *ocl)
{
	if (live_is(LIVE_DEVICE, ocl))
		umm_device_destroy(ocl->dev);
}

struct umm_device *umm_opencl_device(struct umm_opencl *ocl)
{
	return live_is(LIVE_DEVICE, ocl) ? ocl->dev : NULL;
}

struct umm_devmem *umm_opencl_devmem(struct umm_opencl *ocl)
{
	return live_is(LIVE_DEVICE, ocl) ? ocl->mem : NULL;
}

cl_context umm_opencl_cl_context(struct umm_opencl *ocl)
{
	return live_is(LIVE_DEVICE, ocl) ? ocl->context : NULL;
}

cl_device_id umm_opencl_cl_device(struct umm_opencl *ocl)
{
	return live_is(LIVE_DEVICE, ocl) ? ocl->device : NULL;
}

cl_command_queue umm_opencl_cl_queue(struct umm_opencl *ocl)
{
	return live_is(LIVE_DEVICE, ocl) ? ocl->queue : NULL;
}
