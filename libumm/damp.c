/* SPDX-License-Identifier: MIT */
/*
 * Damping of thrashing. A policy (policy/thrash.h) hears of faults on pages that another one's
 * fault has brought where they are, and of no others: what a block remembers of a page's last
 * move tells them apart, so that data which goes to a device once and comes back is not looked up.
 *
 * What a device misses may be left where it is: for good, as far as this request is concerned, and
 * the device uses it in place; or until its owner has had it for a while. Then the request moves
 * all else first, sleeps, and asks for the rest once more (migrate.c). Requests with a fence run on
 * the mover, which others wait for: they never sleep. A CPU always gets what it misses, at once.
 *
 * Locks: damp.lock, under which policies run, inside of nothing; a block's, to look at its pages.
 */
#include "damp.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "device.h"
#include "hook.h"
#include "log.h"
#include "piece.h"
#include "signals.h"
#include "util.h"

#define CPU	   1 /* among those who miss pages */
#define WAITS_MOST 255

static const struct thrash_ops *ops_of(enum umm_thrash which, const struct thrash_ops *usual)
{
	switch (which) {
	case UMM_THRASH_OFF:
		return &thrash_off;
	case UMM_THRASH_PIN:
		return &thrash_pin;
	case UMM_THRASH_THROTTLE:
		return &thrash_throttle;
	default:
		return usual;
	}
}

static const struct thrash_ops *ops_default(void)
{
	const char *name = getenv("UMM_THRASH");
	const struct thrash_ops *ops = name && *name ? thrash_by_name(name) : &thrash_pin;

	if (ops)
		return ops;
	log_warning("UMM_THRASH=%s names no way to damp thrashing: it is %s; known are off, pin "
		    "and throttle",
		    name, thrash_pin.name);
	return &thrash_pin;
}

/* What counts for an address, and may who misses it be made to wait? */
static const struct thrash_ops *ops_at(struct umm_ctx *ctx, uintptr_t addr, bool *may_wait)
{
	struct hint_cursor cursor = { .hints = &ctx->hints, .map = &ctx->hints.advice };
	const struct hint_attrs *attrs;

	if (!hints_any(&ctx->hints))
		return ctx->damp.ops;
	attrs = hint_at(&cursor, addr);
	*may_wait &= !hint_has(attrs, UMM_HINT_LATENCY_CRITICAL);
	return ops_of((enum umm_thrash)attrs->thrash, ctx->damp.ops);
}

/* Is nothing ever damped in this context? */
static bool is_off(const struct umm_ctx *ctx)
{
	return ctx->damp.ops == &thrash_off && !hints_any(&ctx->hints);
}

/* The cause of the last move that a block remembers; no cause: UMM_NR_CAUSES. */
static unsigned cause_of(uint8_t history)
{
	unsigned cause = history & ~(unsigned)(HISTORY_HELD | HISTORY_REFUSED);

	return cause ? cause - 1 : UMM_NR_CAUSES;
}

static uint32_t number_of(const struct umm_device *dev)
{
	return (uint32_t)((uintptr_t)dev >> 4) | UINT32_C(1) << 31;
}

bool damp_cpu(struct umm_ctx *ctx, uintptr_t addr, const struct umm_device *dev, uint8_t history)
{
	struct damp *damp = &ctx->damp;
	struct thrash_miss miss = {
		.page = addr >> UMM_PAGE_SHIFT,
		.who = CPU,
		.shared = dev && dev->in_place,
	};
	const struct thrash_ops *ops;
	uint64_t until_ns;
	bool may_wait = false, thrashes;

	if (cause_of(history) != UMM_CAUSE_DEVICE_FAULT || is_off(ctx))
		return true;
	ops = ops_at(ctx, addr, &may_wait);
	if (ops == &thrash_off)
		return true;
	miss.now_ns = now_ns();
	lock_take(&damp->lock);
	ops->miss(damp->thrash, &miss, &until_ns);
	thrashes = thrash_is(damp->thrash, miss.page, miss.now_ns);
	lock_drop(&damp->lock);
	return !thrashes;
}

/* Which of the pages somebody else's fault has brought where they are; usable in place: `here`. */
static bool taken_by_others(struct umm_ctx *ctx, const struct piece_want *want, uint64_t *taken,
			    uint64_t *here)
{
	struct block *block = block_find(ctx, want->va);
	bool in_place = want->dst->dev->in_place, any = false;
	unsigned cause;

	if (!block)
		return false;
	for (unsigned i = bit_next(want->pages, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(want->pages, i + 1)) {
		cause = cause_of(block->history[i]);
		if (page_state(block, i) == PG_SYSTEM) {
			if (cause != UMM_CAUSE_CPU_FAULT && cause != UMM_CAUSE_READAHEAD)
				continue;
		} else if ((page_state(block, i) != PG_DEVICE &&
			    page_state(block, i) != PG_COHERENT) ||
			   cause != UMM_CAUSE_DEVICE_FAULT ||
			   resident_of(block, i)->mem == want->dst) {
			continue;
		}
		any = true;
		bit_set(taken, i);
		if (in_place && page_state(block, i) != PG_DEVICE)
			bit_set(here, i);
	}
	lock_drop(&block->lock);
	return any;
}

static enum thrash_verdict ask(struct umm_ctx *ctx, const struct umm_device *dev, uintptr_t addr,
			       bool here, struct damp_request *request)
{
	struct damp *damp = &ctx->damp;
	bool may_wait = request->may_sleep && !request->again;
	const struct thrash_ops *ops = ops_at(ctx, addr, &may_wait);
	struct thrash_miss miss = {
		.page = addr >> UMM_PAGE_SHIFT,
		.now_ns = now_ns(),
		.who = number_of(dev),
		.may_wait = may_wait,
		.here = here,
		.shared = here,
	};
	enum thrash_verdict verdict;
	uint64_t until_ns = 0;

	lock_take(&damp->lock);
	verdict = ops->miss(damp->thrash, &miss, &until_ns);
	lock_drop(&damp->lock);
	if (verdict == THRASH_WAIT)
		request->until_ns = max(request->until_ns, until_ns);
	return verdict;
}

void damp_device(struct umm_ctx *ctx, const struct piece_want *want, uint64_t *pages,
		 struct damp_request *request)
{
	uint64_t taken[BITMAP_WORDS] = { 0 }, here[BITMAP_WORDS] = { 0 };
	struct umm_device *dev = want->dst->dev;
	enum thrash_verdict verdict;
	uintptr_t addr;

	if (is_off(ctx) || !taken_by_others(ctx, want, taken, here))
		return;
	for (unsigned i = bit_next(taken, 0); i < UMM_BLOCK_PAGES; i = bit_next(taken, i + 1)) {
		addr = want->va + ((uintptr_t)i << UMM_PAGE_SHIFT);
		verdict = ask(ctx, dev, addr, bit_test(here, i), request);
		if (verdict == THRASH_MOVE)
			continue;
		bit_clear(pages, i);
		/* What stays is not counted twice. */
		if (verdict == THRASH_WAIT)
			ctx_count(ctx, dev, addr, UMM_COUNT_THRASH_WAITS, 1);
		else if (!request->again)
			ctx_count(ctx, dev, addr, UMM_COUNT_THRASH_STAYS, 1);
	}
}

bool damp_sleep(struct damp_request *request)
{
	struct timespec until = { .tv_sec = (time_t)(request->until_ns / 1000000000u),
				  .tv_nsec = (long)(request->until_ns % 1000000000u) };
	int cancel;

	if (!request->until_ns)
		return false;
	hook_run(HOOK_THROTTLED, 0);
	/* The memory that it asks for is in use. */
	cancel = cancel_hold();
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	cancel_let(cancel);
	request->again = true;
	return true;
}

int damp_check(const struct umm_ctx_options *options)
{
	if ((unsigned)options->thrash > UMM_THRASH_THROTTLE || options->thrash_waits > WAITS_MOST)
		return -EINVAL;
	return options->thrash_wait_ns > UMM_THRASH_WAIT_MOST_NS ? -EINVAL : 0;
}

int damp_init(struct umm_ctx *ctx, const struct umm_ctx_options *options)
{
	const struct thrash_limits limits = {
		.lapse_ns = options->thrash_lapse_ns,
		.wait_ns = options->thrash_wait_ns,
		.pin_ns = options->thrash_pin_ns,
		.waits = options->thrash_waits,
	};
	struct damp *damp = &ctx->damp;

	damp->thrash = arena_map(sizeof(*damp->thrash));
	if (!damp->thrash)
		return -ENOMEM;
	thrash_init(damp->thrash, &limits);
	damp->ops = options->thrash ? ops_of(options->thrash, NULL) : ops_default();
	lock_init(&damp->lock, RANK_WORK);
	return 0;
}

void damp_fini(struct umm_ctx *ctx)
{
	lock_fini(&ctx->damp.lock);
	arena_unmap(ctx->damp.thrash, sizeof(*ctx->damp.thrash));
}
