/* SPDX-License-Identifier: MIT */
/* What an order may miss more than the one by last use alone would: see allowance.c. */
#ifndef ALLOWANCE_H
#define ALLOWANCE_H

#include "policy/parts.h"

/*
 * A block was used: it came (missed), or was there. Before the shadows hear of it. Would it have
 * been there by last use alone?
 */
bool allowance_use(struct order *order, struct order_entry *entry, bool missed);
/* It leaves, for whatever reason: if no eviction asked for it, it leaves lru's memory, too. */
void allowance_remove(struct order *order, struct order_entry *entry);
/* In a shadow it was there, or not; by last use alone, too. */
void allowance_compare(struct order *order, unsigned shadow, bool there, bool had);
/* The shadows hear of one block in order->sample, which was another number before. */
void allowance_resample(struct order *order);
/* An order chose this entry: who goes is it, or what costs nothing. For nobody's sake: lru evicts
 * as much. */
struct order_entry *allowance_choose(struct order *order, const struct order_ops *by,
				     struct order_entry *entry, const struct order_want *want);

/* The shadows hear of it: one block in so many by a hash, not by when or how often it is used. */
static inline bool order_samples(const struct order *order, uintptr_t key)
{
	uint64_t hash = (uint64_t)(key >> 12) * UINT64_C(0x9e3779b97f4a7c15);

	return !((hash >> 24) & (order->sample - 1));
}

#endif
