/* SPDX-License-Identifier: MIT */
/*
 * Moving a page aside, within the host, to see whether its block is in use.
 *
 * A device of no memory takes the page for itself (umm_make_exclusive()): it is moved, not copied,
 * and whoever touches it, load or store, has libumm move it back. So at the block's turn the
 * page map says whether it was touched, and nobody has to be told. If not, it leaves from where
 * it is with the rest of the block. One that the program has moved to another address meanwhile is
 * no probe any more: it stays in the host, uncounted, until it is touched.
 *
 * CPU time is measured by the thread's own clock. A touch costs the program's threads and a fault
 * server about as much as the move did; that is charged when it is found.
 */
#include "aside.h"

#include <stddef.h>

#include "budget.h"
#include "clock.h"
#include "demote.h"
#include "residency.h"
#include "space.h"
#include "touches.h"

#define PAGE  ((uintptr_t)4096)
#define BLOCK ((uintptr_t)2 << 20)

static struct umm_device *device;
static struct budget budget;
static unsigned share; /* of a CPU, permille */
static struct aside_counts counts;
static uint64_t moved_ns; /* of counts.cpu_ns, without touches */

/* It has no memory, so there is nothing to copy. */
static int copy(void *priv, const struct umm_copy *copies, unsigned ncopies, struct umm_fence *done)
{
	(void)priv;
	(void)copies;
	(void)ncopies;
	umm_fence_signal(done, 0, 0);
	return 0;
}

static const struct umm_device_ops ops = {
	.size = sizeof(ops),
	.api = UMM_DEVICE_API,
	.name = "aside",
	.copy = copy,
};

int aside_open(struct umm_ctx *ctx)
{
	return device ? 0 : umm_device_create(ctx, &ops, NULL, UMM_DEVICE_INLINE_COPY, &device);
}

static void move_aside(uintptr_t addr)
{
	uint64_t entry;

	touches_own(true);
	if (umm_make_exclusive(device, addr, addr + PAGE, &entry) == 1) {
		policy_probed(addr);
		counts.probes++;
	}
	touches_own(false);
}

static void look_at(struct umm_ctx *ctx, uintptr_t base)
{
	static unsigned char present[POLICY_PAGES];
	unsigned page = POLICY_PAGES;

	space_hold(base, base + BLOCK);
	if (residency_block(base, present))
		page = policy_probe_choose(present);
	if (page < POLICY_PAGES) {
		demote_attach(ctx, base);
		move_aside(base + page * PAGE);
		demote_settle(ctx, base);
	}
	space_release();
}

void aside_look(struct umm_ctx *ctx, unsigned permille)
{
	uint64_t begin, used;
	uintptr_t base;

	share = permille;
	while (device && budget_is_left(&budget, clock_now_ns()) && policy_probe_next(&base)) {
		begin = clock_cpu_ns();
		look_at(ctx, base);
		used = clock_cpu_ns() - begin;
		moved_ns += used;
		counts.cpu_ns += used;
		budget_use(&budget, clock_now_ns(), used, share);
	}
}

static void charge_touch(void)
{
	uint64_t used = moved_ns / counts.probes;

	counts.back++;
	counts.cpu_ns += used;
	budget_use(&budget, clock_now_ns(), used, share);
}

bool aside_end(struct umm_ctx *ctx, uintptr_t base, unsigned char present[POLICY_PAGES])
{
	uintptr_t probe = policy_probe_of(base);
	struct umm_page_info info;
	unsigned char *there;

	if (!probe)
		return false;
	there = &present[(probe - base) / PAGE];
	if (*there) {
		charge_touch();
		return policy_probe_end(base, POLICY_PROBE_BACK);
	}
	*there = !umm_query(ctx, probe, 1, &info) && info.state == UMM_PAGE_EXCLUSIVE;
	return policy_probe_end(base, *there ? POLICY_PROBE_ASIDE : POLICY_PROBE_GONE);
}

struct aside_counts aside_counts(void)
{
	return counts;
}

void aside_reset(void)
{
	device = NULL;
	budget = (struct budget){ 0 };
	counts = (struct aside_counts){ 0 };
	moved_ns = 0;
}
