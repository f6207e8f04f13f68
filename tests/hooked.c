/* SPDX-License-Identifier: MIT */
/* See hooked.h. One test at a time arms one hook. */
#include "hooked.h"

#include "harness.h"

static struct {
	struct stop stops[2]; /* somebody may still leave the one when the other is armed */
	unsigned armed;	      /* which of them */
	atomic_int budget;    /* how many more calls pass before the one that stops */
	bool all;	      /* every call stops */
	uintptr_t low, high;  /* only for addresses of this range */
} hook;

static void hook_here(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)point;
	if (addr < hook.low || addr >= hook.high)
		return;
	if (hook.all || atomic_fetch_sub(&hook.budget, 1) == 0)
		stop_here(priv);
}

static void hook_set_stop(enum hook_point point)
{
	stop_init(&hook.stops[hook.armed]);
	atomic_store(&hook.budget, 0);
	hook_set(point, hook_here, &hook.stops[hook.armed]);
}

static void arm(enum hook_point point, const void *addr, size_t npages, bool all)
{
	hook.low = (uintptr_t)addr & ~(BLOCK - 1);
	hook.high = (uintptr_t)addr + npages * PAGE;
	hook.all = all;
	hook_set_stop(point);
}

void hook_arm(enum hook_point point, const void *addr, size_t npages)
{
	arm(point, addr, npages, false);
}

void hook_arm_all(enum hook_point point, const void *addr, size_t npages)
{
	arm(point, addr, npages, true);
}

bool hook_stopped(void)
{
	return stop_arrived(&hook.stops[hook.armed]);
}

void hook_go(enum hook_point point)
{
	hook_set(point, NULL, NULL);
	stop_go(&hook.stops[hook.armed]);
}

void hook_go_to(enum hook_point point, enum hook_point next)
{
	struct stop *left = &hook.stops[hook.armed];

	hook_set(point, NULL, NULL);
	hook.armed = !hook.armed;
	hook_set_stop(next);
	stop_go(left);
}

static void hook_cleanup(void)
{
	for (int point = 0; point < HOOK_NR; point++)
		hook_set((enum hook_point)point, NULL, NULL);
	for (unsigned i = 0; i < 2; i++)
		stop_go(&hook.stops[i]);
}

void hook_init(void)
{
	for (unsigned i = 0; i < 2; i++)
		stop_init(&hook.stops[i]);
	harness_cleanup(hook_cleanup);
}
