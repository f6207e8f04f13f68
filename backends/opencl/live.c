/* SPDX-License-Identifier: MIT */
/*
 * The live devices of the process: a list of slots that grows and never shrinks, each
 * with one device or none. A handle is good when some slot has it. What has ended
 * waits in a ring before its memory is freed, because malloc() would give the same
 * address to the next device, and an old handle would be good again.
 *
 * Invariants: a device is in one slot at most, and never in a slot and in the ring.
 *
 * Locks: none, so that a forked child finds the list usable, whatever other threads did.
 */
#include "live.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ENDED 64

struct slot {
	_Atomic(struct umm_opencl *) ocl;
	struct slot *next;
};

static _Atomic(struct slot *) slots;
static _Atomic(struct umm_opencl *) ended[ENDED];
static atomic_uint next_ended;

/* Let a slot that has `from` have `to`. False: there is none. */
static bool replace(struct umm_opencl *from, struct umm_opencl *to)
{
	struct umm_opencl *seen;

	for (struct slot *slot = atomic_load(&slots); slot; slot = slot->next) {
		seen = from;
		if (atomic_compare_exchange_strong(&slot->ocl, &seen, to))
			return true;
	}
	return false;
}

int live_add(struct umm_opencl *ocl)
{
	struct slot *slot;

	if (replace(NULL, ocl))
		return 0;
	slot = malloc(sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	atomic_init(&slot->ocl, ocl);
	slot->next = atomic_load(&slots);
	while (!atomic_compare_exchange_weak(&slots, &slot->next, slot))
		;
	return 0;
}

bool live_is(const struct umm_opencl *ocl)
{
	for (struct slot *slot = atomic_load(&slots); ocl && slot; slot = slot->next)
		if (atomic_load(&slot->ocl) == ocl)
			return true;
	return false;
}

void live_end(struct umm_opencl *ocl)
{
	unsigned place = atomic_fetch_add(&next_ended, 1) % ENDED;

	replace(ocl, NULL);
	free(atomic_exchange(&ended[place], ocl));
}
