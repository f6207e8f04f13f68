/* SPDX-License-Identifier: MIT */
/*
 * Bringing pages on request: they migrate while kernels run, for pages on their way are in no
 * table; between two launches they are put into it, so that the next launch does not fault on them.
 *
 * Locks: umm_opencl.launch, while the table is written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "live.h"
#include "pending.h"
#include "report.h"
#include "service.h"
#include "size.h"

#define FLAGS_ALL  UMM_MIGRATE_NO_EVICT
#define ACCESS_ALL (UMM_OPENCL_READ | UMM_OPENCL_WRITE)

struct fetch {
	int64_t *moved; /* the caller's, or NULL */
	struct umm_migrate_request request;
	struct umm_span spans[];
};

static long bring(struct umm_opencl *ocl, const struct fetch *fetch)
{
	long moved = umm_migrate_spans(ocl->ctx, &fetch->request, NULL);
	int ret;

	if (moved < 0 && moved != -ENOSPC)
		return moved;
	pthread_mutex_lock(&ocl->launch);
	ret = service_program(ocl, fetch->spans, fetch->request.nspans);
	pthread_mutex_unlock(&ocl->launch);
	return ret ? ret : moved;
}

static int fetch_run(struct umm_opencl *ocl, void *priv, int ret)
{
	struct fetch *fetch = priv;
	long moved = ret;

	if (!ret)
		moved = bring(ocl, fetch);
	if (moved < 0)
		moved = device_verdict(ocl,
				       loss_is_known(&ocl->transfer.loss) ? -ENODEV : (int)moved);
	if (fetch->moved)
		*fetch->moved = moved;
	return moved < 0 ? (int)moved : 0;
}

static struct fetch *fetch_new(struct umm_opencl *ocl, const struct umm_opencl_prefetch *what)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch) + what->nspans * sizeof(what->spans[0]));

	if (!fetch)
		return NULL;
	memcpy(fetch->spans, what->spans, what->nspans * sizeof(what->spans[0]));
	fetch->moved = what->moved;
	fetch->request = (struct umm_migrate_request){
		.size = sizeof(fetch->request),
		.flags = what->flags,
		.spans = fetch->spans,
		.nspans = what->nspans,
		.dst = ocl->mem,
		.cause = UMM_CAUSE_EXPLICIT,
	};
	if (!(what->access & UMM_OPENCL_WRITE))
		fetch->request.flags |= UMM_MIGRATE_DUPLICATE;
	return fetch;
}

/* Whole pages, and addresses that the table has. */
static bool spans_grow(struct fetch *fetch)
{
	uintptr_t mask = ~(uintptr_t)(UMM_PAGE_SIZE - 1), start, end;

	for (size_t i = 0; i < fetch->request.nspans; i++) {
		start = fetch->spans[i].start;
		if (__builtin_add_overflow(start, fetch->spans[i].len, &end) ||
		    end > (uintptr_t)1 << TABLE_ADDRESS_BITS || start == end)
			return false;
		fetch->spans[i].start = start & mask;
		fetch->spans[i].len = ((end + ~mask) & mask) - (start & mask);
	}
	return true;
}

static int fetch_now(struct umm_opencl *ocl, const struct umm_opencl_prefetch *what,
		     struct fetch *fetch)
{
	cl_int err = what->nwait ? clWaitForEvents(what->nwait, what->wait) : CL_SUCCESS;
	int ret = fetch_run(ocl, fetch, report_cl_given(err, "clWaitForEvents() of a prefetch"));

	free(fetch);
	return ret;
}

static int prefetch_entered(struct umm_opencl *ocl, const struct umm_opencl_prefetch *what)
{
	struct fetch *fetch;
	struct pending_op op = {
		.run = fetch_run,
		.drop = free,
		.nwait = what->nwait,
		.wait = what->wait,
	};

	if (loss_is_known(&ocl->transfer.loss))
		return -ENODEV;
	fetch = fetch_new(ocl, what);
	if (!fetch)
		return -ENOMEM;
	if (!spans_grow(fetch)) {
		free(fetch);
		return -EINVAL;
	}
	if (!what->event)
		return fetch_now(ocl, what, fetch);
	op.priv = fetch;
	return pending_submit(ocl->prefetches, &op, what->event);
}

static bool is_sound(const struct umm_opencl_prefetch *what)
{
	return !(what->flags & ~(uint64_t)FLAGS_ALL) && what->spans && what->nspans &&
	       what->nspans <= UINT32_MAX && what->access &&
	       !(what->access & ~(unsigned)ACCESS_ALL) && (!what->nwait || what->wait);
}

int umm_opencl_prefetch(struct umm_opencl *ocl, const struct umm_opencl_prefetch *what)
{
	struct umm_opencl_prefetch ours;
	struct umm_ctx *ctx;
	int ret;

	if (!live_is(LIVE_DEVICE, ocl))
		return -EINVAL;
	ret = size_in(&ours, sizeof(ours), what);
	if (!ret && !is_sound(&ours))
		ret = -EINVAL;
	if (ret)
		return ret;
	ret = device_enter(ocl, &ctx);
	if (ret)
		return ret;
	ret = prefetch_entered(ocl, &ours);
	device_leave(ocl, ctx);
	return ret;
}
