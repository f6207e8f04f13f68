/* SPDX-License-Identifier: MIT */
/* See hooked.h. One test at a time arms one hook. */
#include "hooked.h"

#include "harness.h"

static struct {
	struct stop stop;
	atomic_int budget;   /* how many more calls pass before the one that stops */
	uintptr_t low, high; /* only for addresses of this range */
} hook;

static void hook_here(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	if (addr < hook.low || addr >= hook.high)
		return;
	if (atomic_fetch_sub(&hook.budget, 1) == 0)
		stop_here(&hook.stop);
}

void hook_arm(enum hook_point point, const void *addr, size_t npages)
{
	stop_init(&hook.stop);
	hook.low = (uintptr_t)addr & ~(BLOCK - 1);
	hook.high = (uintptr_t)addr + npages * PAGE;
	atomic_store(&hook.budget, 0);
	hook_set(point, hook_here, NULL);
}

bool hook_stopped(void)
{
	return stop_arrived(&hook.stop);
}

void hook_go(enum hook_point point)
{
	hook_set(point, NULL, NULL);
	stop_go(&hook.stop);
}

static void hook_cleanup(void)
{
	for (int point = 0; point < HOOK_NR; point++)
		hook_set((enum hook_point)point, NULL, NULL);
	stop_go(&hook.stop);
}

void hook_init(void)
{
	stop_init(&hook.stop);
	harness_cleanup(hook_cleanup);
}
