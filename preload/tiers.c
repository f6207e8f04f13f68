/* SPDX-License-Identifier: MIT */
/*
 * The devices that pages are put on. Which of them is asked first is a policy's to say
 * (libumm/policy/place.h). A device that answers with an error of its own, or has lost a page, is
 * asked no more; its pages stay its own until they are touched.
 *
 * Changed by whoever has the engine's lock, but for what has failed, which any thread may find; the
 * table is read by others for its numbers, which may be a moment old.
 */
#include "tiers.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "say.h"
#include "shim.h"
#include "tier.h"

struct tier {
	struct umm_devmem *mem;
	const struct settings_device *device;
	_Atomic bool is_broken;
};

static struct tier tiers[SETTINGS_DEVICES];
static pid_t opened_by; /* of devices so far: this process, or one that forked it */
static _Atomic unsigned ntiers;
static const struct place_ops *placement = &place_first;
static struct place place;

/* What is to go where: chosen when it is begun, or else when it is moved. */
static struct {
	bool is_begun;
	unsigned order[PLACE_TIERS], n;
	long why_none;
	struct umm_fence *fence; /* of what goes to the first; NULL: nobody moves it yet */
} begun;

enum { LOOK_PAGES = 512, REST_SPANS = 4096 };

static struct umm_span rest[REST_SPANS]; /* what those that were asked have not taken */

static void device_name(char *out, size_t out_len, const struct settings_device *device)
{
	snprintf(out, out_len, "%s%s%s", device->scheme, device->name[0] ? ":" : "", device->name);
}

static bool tier_open(struct tier *tier, struct umm_ctx *ctx, const struct settings_device *device)
{
	char text[SETTINGS_ERROR_LEN] = "", name[SETTINGS_NAME_LEN + 40], logged[SAY_LINE];
	struct umm_tier_reason reason = { text, sizeof(text) };
	const struct umm_tier_ops *ops;
	char dir[PATH_MAX] = "";
	int ret = -ENOENT;

	say_log_keep(logged);
	device_name(name, sizeof(name), device);
	tier_directory((const void *)tiers_open, dir, sizeof(dir));
	ops = tier_load(device, dir, &reason);
	if (ops && opened_by && opened_by != getpid() && !(ops->flags & UMM_TIER_FORKS))
		snprintf(text, sizeof(text), "it does not work in a forked child");
	else if (ops)
		ret = ops->open(ctx, device->name, device->len, &tier->mem, &reason);
	say_log_keep(NULL);
	if (ret) {
		shim_say("device %s: %s; running without it", name,
			 logged[0] ? logged :
			 text[0]   ? text :
				     umm_strerror(ret));
		return false;
	}
	if (logged[0])
		shim_say("device %s: %s", name, logged);
	tier->device = device;
	atomic_store(&tier->is_broken, false);
	return true;
}

unsigned tiers_open(struct umm_ctx *ctx, const struct settings *settings)
{
	unsigned n = 0;

	for (unsigned i = 0; i < settings->ndevices; i++)
		n += tier_open(&tiers[n], ctx, &settings->devices[i]);
	opened_by = getpid();
	atomic_store(&ntiers, n);
	return n;
}

void tiers_placement(const struct place_ops *ops)
{
	placement = ops;
}

/* Errors that are the device's, not the pages'. */
static bool is_fatal(long ret)
{
	return ret == -EIO || ret == -ENODEV;
}

static void tier_failed(struct tier *tier)
{
	char name[SETTINGS_NAME_LEN + 40];

	if (atomic_exchange(&tier->is_broken, true))
		return;
	device_name(name, sizeof(name), tier->device);
	shim_say("device %s failed: no more pages go there, and a touch of one that it cannot "
		 "give back is SIGBUS",
		 name);
}

/* A device that could not give back what it was given takes what it gets with it, too. */
int tiers_failed(const struct umm_devmem *mem, int error, size_t nlost)
{
	unsigned i = 0;

	while (i < ntiers && tiers[i].mem != mem)
		i++;
	if (i == ntiers || (!nlost && !is_fatal(error)))
		return -ENOENT;
	tier_failed(&tiers[i]);
	return (int)i;
}

uint64_t tiers_free(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < ntiers; i++)
		if (!atomic_load(&tiers[i].is_broken))
			n += umm_devmem_nfree(tiers[i].mem);
	return n;
}

/* Whom to ask for room, in which order. */
static unsigned tiers_choose(unsigned order[PLACE_TIERS], long *why_none)
{
	struct place_tier look[PLACE_TIERS];

	*why_none = -ENODEV;
	for (unsigned i = 0; i < ntiers; i++) {
		look[i] = (struct place_tier){ .nframes = umm_devmem_nframes(tiers[i].mem),
					       .nfree = umm_devmem_nfree(tiers[i].mem),
					       .usable = !atomic_load(&tiers[i].is_broken) };
		if (look[i].usable && !look[i].nfree)
			*why_none = -ENOSPC;
	}
	return placement->order(&place, look, ntiers, order);
}

static struct umm_migrate_request request_of(const struct umm_span *spans, unsigned nspans)
{
	return (struct umm_migrate_request){
		.size = sizeof(struct umm_migrate_request),
		.flags = UMM_MIGRATE_NO_EVICT,
		.spans = spans,
		.nspans = nspans,
		.cause = UMM_CAUSE_EVICT,
	};
}

void tiers_take_begin(struct umm_ctx *ctx, const struct umm_span *spans, unsigned nspans)
{
	struct umm_migrate_request request = request_of(spans, nspans);

	begun.n = tiers_choose(begun.order, &begun.why_none);
	begun.is_begun = true;
	if (!begun.n)
		return;
	request.dst = tiers[begun.order[0]].mem;
	if (umm_migrate_spans(ctx, &request, &begun.fence))
		begun.fence = NULL; /* all of it when it is waited for */
}

static long begun_wait(void)
{
	long ret = umm_fence_wait(begun.fence, -1);

	if (!ret)
		ret = umm_fence_value(begun.fence);
	umm_fence_put(begun.fence);
	begun.fence = NULL;
	return ret;
}

/* Behind the @n that are in @rest, what of a span no device has taken. */
static unsigned rest_add(struct umm_ctx *ctx, const struct umm_span *span, unsigned n)
{
	static struct umm_page_info info[LOOK_PAGES];
	uintptr_t end = span->start + span->len;
	size_t npages;

	for (uintptr_t at = span->start; at < end; at += npages * UMM_PAGE_SIZE) {
		npages = (end - at) / UMM_PAGE_SIZE;
		npages = npages < LOOK_PAGES ? npages : LOOK_PAGES;
		if (umm_query(ctx, at, npages, info))
			return n;
		for (size_t i = 0; i < npages; i++) {
			uintptr_t addr = at + i * UMM_PAGE_SIZE;

			if (info[i].state == UMM_PAGE_DEVICE)
				continue;
			if (n && rest[n - 1].start + rest[n - 1].len == addr)
				rest[n - 1].len += UMM_PAGE_SIZE;
			else if (n < REST_SPANS)
				rest[n++] = (struct umm_span){ addr, UMM_PAGE_SIZE };
		}
	}
	return n;
}

long tiers_take(struct umm_ctx *ctx, const struct umm_span *spans, unsigned nspans)
{
	struct umm_migrate_request request = request_of(spans, nspans);
	long ret, moved = 0;

	if (!begun.is_begun)
		begun.n = tiers_choose(begun.order, &begun.why_none);
	begun.is_begun = false;
	ret = begun.why_none;
	for (unsigned i = 0; i < begun.n; i++) {
		struct tier *tier = &tiers[begun.order[i]];

		request.dst = tier->mem;
		ret = begun.fence ? begun_wait() : umm_migrate_spans(ctx, &request, NULL);
		if (ret > 0)
			moved += ret;
		if (is_fatal(ret))
			tier_failed(tier);
		if (ret >= 0 && umm_devmem_nfree(tier->mem))
			break;
		/* The next one must not take them from this one. */
		request.spans = rest;
		request.nspans = 0;
		for (unsigned j = 0; j < nspans; j++)
			request.nspans = rest_add(ctx, &spans[j], (unsigned)request.nspans);
		if (!request.nspans)
			break;
	}
	return moved ? moved : ret;
}

bool tiers_use(unsigned i, struct tier_use *out)
{
	struct tier *tier = &tiers[i];

	if (i >= atomic_load(&ntiers))
		return false;
	device_name(out->name, sizeof(out->name), tier->device);
	out->pages = umm_devmem_nframes(tier->mem);
	out->used = out->pages - umm_devmem_nfree(tier->mem);
	out->is_broken = atomic_load(&tier->is_broken);
	return true;
}
