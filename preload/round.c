/* SPDX-License-Identifier: MIT */
/*
 * A round of the engine: brings what follows the pages that were touched, hands out the blocks that
 * threads wait for, and puts away what is cold where more is in the host than a watermark.
 *
 * Locks: the engine's round_lock, which is held over all of this, protects what is static here.
 */
#include "round.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "aside.h"
#include "budget.h"
#include "clock.h"
#include "demote.h"
#include "grant.h"
#include "policy.h"
#include "residency.h"
#include "room.h"
#include "say.h"
#include "settings.h"
#include "shim.h"
#include "space.h"
#include "tiers.h"
#include "touches.h"
#include "trace.h"

#define PAGE  4096u
#define BLOCK ((uintptr_t)2 << 20)
#define MS    UINT64_C(1000000)

enum {
	MARGIN_PART = 16, /* of the limit, between a watermark and the next */
	MARGIN_MIN = 4 << 20,
	MARGIN_MAX = 64 << 20,
	TOUCHES_A_ROUND = 4096,
	GRANT_AHEAD = 7, /* blocks */
	RETRY_MS = 20,
};

static struct umm_ctx *ctx;
static struct channel *channel;
static const struct sample_ops *sampling; /* NULL: not chosen yet */
static uint64_t limit, high, low;	  /* pages */
static bool was_full, was_pinned;
static struct budget count_budget;
static _Atomic bool recycles_nothing;

uint64_t round_margin(uint64_t bytes)
{
	uint64_t margin = bytes / MARGIN_PART;

	return margin < MARGIN_MIN ? MARGIN_MIN : margin > MARGIN_MAX ? MARGIN_MAX : margin;
}

/* What left down to the lower watermark; fresh ones would have to be zeroed. */
size_t round_frames_kept(uint64_t limit_bytes)
{
	return 2 * round_margin(limit_bytes);
}

static void limit_set(uint64_t bytes)
{
	uint64_t margin = round_margin(bytes) / PAGE;

	limit = bytes / PAGE;
	high = limit - margin;
	low = high - margin;
	policy_resize(high);
	room_limit(limit, low);
	umm_ctx_trim(ctx, recycles_nothing ? 0 : round_frames_kept(bytes));
}

/* What the umm command may have changed; numbers that it would not write change nothing. */
static void policies_take(void)
{
	uint32_t placement = channel->placement, sample = channel->sampling;

	if (placement < NR_PLACE)
		tiers_placement(place_policies[placement]);
	if (sample >= NR_SAMPLE || sample_policies[sample] == sampling)
		return;
	sampling = sample_policies[sample];
	policy_sampling(sampling);
	if (sampling->passes && aside_open(ctx))
		shim_say("no memory for probes");
}

/* What each of those who look for cold memory may take of a CPU. */
static unsigned share_permille(void)
{
	return channel->cpu_budget * 10 / (sampling->passes ? 2 : 1);
}

/* The bound after counting. Takes a share of a CPU that is limited. */
static uint64_t count_now(void)
{
	uint64_t begin = clock_now_ns(), bound = residency_count(ctx), end = clock_now_ns();

	budget_use(&count_budget, end, end - begin, share_permille());
	return bound;
}

/* The most so far. The bound is not always near: nothing over the limit is noted uncounted. */
static uint64_t most_note(uint64_t bound)
{
	_Atomic uint64_t *most = &channel->count[CHANNEL_HOST_MOST];

	if (bound > limit && bound * PAGE > *most)
		bound = count_now();
	if (bound * PAGE > *most)
		*most = bound * PAGE;
	return bound;
}

/* With a look at page tables where it would be over @much. */
static uint64_t bound_now(uint64_t much)
{
	uint64_t bound = residency_bound(ctx);

	/* What was freed is counted still: better to count anew than to put away for nothing. */
	if (bound > much &&
	    (budget_is_left(&count_budget, clock_now_ns()) || residency_stale() >= limit - high))
		bound = count_now();
	return most_note(bound);
}

static void say_once(bool *said, const char *what)
{
	if (!*said)
		shim_say("%s; the host limit is exceeded", what);
	*said = true;
}

static void say_why_not(int ret)
{
	if (ret == -ENOSPC)
		say_once(&was_full, "all devices are full");
	else if (ret == -ENODEV)
		say_once(&was_full, "no device is left");
	else if (ret == -EBUSY)
		say_once(&was_pinned, "what is left in the host is pinned or in use by others");
	else
		say_once(&was_pinned, umm_strerror(ret));
}

/*
 * Get the bound down to @target, or to @enough if the program waits for other things. False: it is
 * as low as it gets; the next try is not at once.
 */
static bool make_room(uint64_t target, uint64_t enough)
{
	static uint64_t next_try_ns;
	int ret;

	/* Who waits for a block does so until it is there, or none can be. */
	if (clock_now_ns() < next_try_ns && (enough >= limit || room_is_given_up()))
		return false;
	ret = demote_until(ctx, target, enough);
	room_give_up(ret && residency_count(ctx) >= limit);
	if (!ret)
		return true;
	if (room_is_given_up())
		say_why_not(ret);
	next_try_ns = clock_now_ns() + RETRY_MS * MS;
	return false;
}

/*
 * What comes takes as long as what leaves for it: both at once. No more leaves than comes, for the
 * program is waiting for the next ones, unless the limit asks for it.
 */
static void bring(const struct policy_fetch *fetch)
{
	bool aside = sampling->passes || policy_probes();
	bool both = bound_now(high) + fetch->npages > high && !aside;

	if (both)
		demote_begin(ctx, fetch->npages);
	promote_pages(ctx, fetch);
	if (both)
		demote_end(ctx);
	if (bound_now(high) > limit)
		make_room(limit - (limit - high) / 4, limit);
}

/* Bring what follows the pages that were touched. True: some were. */
static bool bring_along(void)
{
	struct policy_fetch fetch;
	uintptr_t addr;
	unsigned n;

	for (n = 0; n < TOUCHES_A_ROUND && touches_next(&addr); n++) {
		fetch = policy_touched(addr);
		if (!fetch.npages)
			continue;
		touches_expect(fetch.mark);
		bring(&fetch);
	}
	return n;
}

/*
 * Hand out the blocks that threads wait for, and a few behind each while there is plenty of room.
 * Where no room can be made they get them all the same: a program is late, but never stuck.
 */
static bool grant_all(void)
{
	uintptr_t addr;
	bool any = false;

	while (grant_wanted(&addr)) {
		struct trace_event event = { .kind = TRACE_GRANT, .start_ns = trace_begin() };
		uint64_t bound = bound_now(high), ahead;

		if (bound + POLICY_PAGES > limit) {
			make_room(high, limit - POLICY_PAGES);
			bound = bound_now(high);
		}
		ahead = bound < low ? (low - bound) / POLICY_PAGES / 8 : 0;
		ahead = ahead < GRANT_AHEAD ? ahead : GRANT_AHEAD;
		for (uint64_t i = 0; i <= ahead; i++)
			event.npages += (uint32_t)grant_block(addr + i * BLOCK);
		event.addr = addr & ~(BLOCK - 1);
		event.len = (ahead + 1) * BLOCK;
		trace_put(event);
		policy_see(addr & ~(BLOCK - 1));
		channel->count[CHANNEL_GRANTS]++;
		any = true;
	}
	return any;
}

/* How long until so much comes home by libumm's servers that room has to be made again. */
static uint64_t quiet_ns(uint64_t bound, uint64_t begin)
{
	uint64_t ns_a_page = 2000, ns = bound < begin ? (begin - bound) * ns_a_page : MS;

	return ns < MS ? MS : ns > 100 * MS ? 100 * MS : ns;
}

static void publish_tiers(void)
{
	struct tier_use use;
	uint32_t n;

	for (n = 0; tiers_use(n, &use); n++) {
		struct channel_tier *tier = &channel->tier[n];

		if (n >= channel->ntiers)
			snprintf(tier->name, sizeof(tier->name), "%.*s",
				 (int)sizeof(tier->name) - 1, use.name);
		tier->bytes = use.pages * PAGE;
		tier->used = use.used * PAGE;
		tier->is_broken = use.is_broken;
	}
	channel->ntiers = n;
}

void round_publish(void)
{
	const struct policy_counts *seen = policy_counts();
	struct aside_counts aside = aside_counts();
	struct umm_stats stats = { .size = sizeof(stats) };
	_Atomic uint64_t *count = channel->count;
	uint64_t host = most_note(residency_bound(ctx)) * PAGE, touched;

	if (umm_ctx_stats(ctx, &stats))
		return;
	count[CHANNEL_MANAGED] = space_bytes(SPACE_COUNTED);
	count[CHANNEL_HOST] = host;
	count[CHANNEL_TO_DEVICE] = stats.counter[UMM_COUNT_BYTES_TO_DEVICE];
	count[CHANNEL_FROM_DEVICE] = stats.counter[UMM_COUNT_BYTES_FROM_DEVICE];
	count[CHANNEL_PROBES] = aside.probes;
	count[CHANNEL_PROBES_BACK] = aside.back;
	count[CHANNEL_PROBE_NS] = aside.cpu_ns;
	/* A server counts a probe's touch here before libumm counts its fault. */
	touched = stats.counter[UMM_COUNT_FAULT_DEVICE] - touches_of_probes();
	if ((int64_t)(touched - count[CHANNEL_TOUCHED]) > 0)
		count[CHANNEL_TOUCHED] = touched;
	count[CHANNEL_FAULT_NS] = stats.counter[UMM_COUNT_FAULT_NS];
	count[CHANNEL_LATE] = room_late();
	count[CHANNEL_RETURNED] = seen->returned;
	count[CHANNEL_THRASHED] = seen->thrashed;
	count[CHANNEL_BROUGHT_ALONG] = seen->readahead;
	count[CHANNEL_ROUNDS]++;
	channel->is_thrashing = policy_is_thrashing();
	publish_tiers();
}

/* Before anything leaves: which of those are in use that would be first? */
static void look_ahead(void)
{
	if (!sampling->passes)
		return;
	if (!policy_blocks() && budget_is_left(&count_budget, clock_now_ns()))
		count_now();
	aside_look(ctx, share_permille());
}

/*
 * Where room begins to be made, and ends. Who thrashes needs all of the host: it is then not made
 * further ahead of need than it takes, and where pages come one by one, that is little.
 */
static void marks(uint64_t *begin, uint64_t *end)
{
	*begin = high;
	*end = low;
	if (!policy_is_thrashing())
		return;
	if (policy_is_scattered())
		*begin = limit - (limit - high) / 4;
	*end = *begin - (high - low) / 8;
}

uint64_t round_run(void)
{
	uint64_t bound, begin, end;
	bool busy;

	policies_take();
	busy = bring_along();
	if (channel->host_limit != limit * PAGE && channel->host_limit >= SETTINGS_LIMIT_MIN)
		limit_set(channel->host_limit / PAGE * PAGE);
	busy |= grant_all();
	marks(&begin, &end);
	bound = bound_now(begin);
	if (bound > begin && !make_room(end, limit))
		return RETRY_MS * MS;
	bound = residency_bound(ctx);
	if (bound > low - (high - low))
		look_ahead();
	return busy ? MS : quiet_ns(bound, begin);
}

void round_open(struct umm_ctx *open_ctx, struct channel *open_channel)
{
	ctx = open_ctx;
	channel = open_channel;
	policies_take();
	limit_set(channel->host_limit);
	publish_tiers();
}

void round_forget(void)
{
	ctx = NULL;
	channel = NULL;
	sampling = NULL;
	was_full = was_pinned = false;
}

void round_recycle_nothing(void)
{
	recycles_nothing = true;
	if (ctx)
		umm_ctx_trim(ctx, 0);
}
