/* SPDX-License-Identifier: MIT */
/*
 * The live handles of the process, by kind: a list of slots that grows and never shrinks, each
 * with one object or none. A handle is good when some slot has it. What has ended
 * waits in a ring before its memory is freed, because malloc() would give the same
 * address to the next one, and an old handle would be good again.
 *
 * Invariants: an object is in one slot at most, and never in a slot and in the ring.
 *
 * Locks: none, so that a forked child finds the list usable, whatever other threads did.
 */
#include "live.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ENDED 64

struct slot {
	_Atomic(void *) object;
	struct slot *next;
};

static struct {
	_Atomic(struct slot *) slots;
	_Atomic(void *) ended[ENDED];
	atomic_uint next_ended;
} live[LIVE_KINDS];

/* Let a slot that has `from` have `to`. False: there is none. */
static bool replace(enum live_kind kind, void *from, void *to)
{
	void *seen;

	for (struct slot *slot = atomic_load(&live[kind].slots); slot; slot = slot->next) {
		seen = from;
		if (atomic_compare_exchange_strong(&slot->object, &seen, to))
			return true;
	}
	return false;
}

int live_add(enum live_kind kind, void *object)
{
	struct slot *slot;

	if (replace(kind, NULL, object))
		return 0;
	slot = malloc(sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	atomic_init(&slot->object, object);
	slot->next = atomic_load(&live[kind].slots);
	while (!atomic_compare_exchange_weak(&live[kind].slots, &slot->next, slot))
		;
	return 0;
}

bool live_is(enum live_kind kind, const void *object)
{
	for (struct slot *slot = atomic_load(&live[kind].slots); object && slot; slot = slot->next)
		if (atomic_load(&slot->object) == object)
			return true;
	return false;
}

void live_end(enum live_kind kind, void *object)
{
	unsigned place = atomic_fetch_add(&live[kind].next_ended, 1) % ENDED;

	replace(kind, object, NULL);
	free(atomic_exchange(&live[kind].ended[place], object));
}
