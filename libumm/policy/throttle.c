/* SPDX-License-Identifier: MIT */
/*
 * Throttle, then pin. A page that was lost THRASH_EVENTS times, each time soon after it was taken,
 * thrashes: from then on whoever takes it keeps it for a while, and who misses it meanwhile waits.
 * What somebody had to wait for often is pinned where both can use it, at home, for longer. A page
 * that nobody has taken for as long as a pin lasts is as any other again, but for one that has come
 * to this THRASH_RESETS times: the next close loss pins it.
 *
 * `pin` is for pages that can be pinned in the end. Those that only one can use at a time it leaves
 * alone: with a CPU and a device that take turns and know it, the one who waits is the only one who
 * has something to do. `throttle` makes them wait, too.
 */
#include "policy/thrash.h"

static void forget(struct thrash_entry *entry, const struct thrash *thrash)
{
	entry->pinned_ns = 0;
	if (entry->events < THRASH_EVENTS || entry->resets < THRASH_RESETS) {
		entry->resets += entry->events >= THRASH_EVENTS;
		entry->events = 0;
		entry->waits = 0;
	} else if (entry->waits < thrash->waits) {
		entry->waits = (uint8_t)thrash->waits;
	}
}

static struct thrash_entry *find(struct thrash *thrash, const struct thrash_miss *miss)
{
	struct thrash_entry *entry = &thrash->entries[miss->page % THRASH_PAGES];

	if (entry->page != miss->page)
		*entry = (struct thrash_entry){ .page = miss->page };
	else if (entry->pinned_ns ? miss->now_ns >= entry->pinned_ns :
				    miss->now_ns - entry->came_ns > thrash->pin_ns)
		forget(entry, thrash);
	return entry;
}

static enum thrash_verdict take(struct thrash_entry *entry, const struct thrash_miss *miss)
{
	entry->who = miss->who;
	entry->came_ns = miss->now_ns;
	entry->waiting = false;
	return THRASH_MOVE;
}

/* Is it one loss more of a page that thrashes? */
static bool thrashes(struct thrash_entry *entry, const struct thrash *thrash,
		     const struct thrash_miss *miss)
{
	if (!entry->who || entry->who == miss->who)
		return false;
	if (entry->events >= THRASH_EVENTS)
		return true;
	if (miss->now_ns - entry->came_ns > thrash->lapse_ns)
		entry->events = 0;
	else
		entry->events++;
	return entry->events >= THRASH_EVENTS;
}

static enum thrash_verdict throttle_miss(struct thrash *thrash, const struct thrash_miss *miss,
					 uint64_t *until_ns)
{
	struct thrash_entry *entry = find(thrash, miss);

	if (entry->pinned_ns && miss->here) {
		*until_ns = entry->pinned_ns;
		return THRASH_STAY;
	}
	if (entry->pinned_ns || !thrashes(entry, thrash, miss) ||
	    miss->now_ns - entry->came_ns >= thrash->wait_ns)
		return take(entry, miss);
	if (!entry->waiting && entry->waits < UINT8_MAX)
		entry->waits++;
	entry->waiting = true;
	if (miss->shared && entry->waits > thrash->waits) {
		*until_ns = entry->pinned_ns = miss->now_ns + thrash->pin_ns;
		return miss->here ? THRASH_STAY : take(entry, miss);
	}
	if (!miss->may_wait)
		return take(entry, miss);
	*until_ns = entry->came_ns + thrash->wait_ns;
	return THRASH_WAIT;
}

static enum thrash_verdict pin_miss(struct thrash *thrash, const struct thrash_miss *miss,
				    uint64_t *until_ns)
{
	return miss->shared ? throttle_miss(thrash, miss, until_ns) : THRASH_MOVE;
}

const struct thrash_ops thrash_pin = {
	.name = "pin",
	.miss = pin_miss,
};

const struct thrash_ops thrash_throttle = {
	.name = "throttle",
	.miss = throttle_miss,
};
