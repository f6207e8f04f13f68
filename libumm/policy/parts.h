/* SPDX-License-Identifier: MIT */
/* What orders of eviction are made of: lists, a stack, ghosts, and whose turn it may be. */
#ifndef PARTS_H
#define PARTS_H

#include <stdatomic.h>

#include "policy/policy.h"

void list_push(struct order_list *list, struct order_entry *entry); /* at the head */
void list_remove(struct order_list *list, struct order_entry *entry);

void stack_push(struct order *order, struct order_entry *entry); /* on top */
void stack_remove(struct order *order, struct order_entry *entry);
/* `to` takes the place of `from`. */
void stack_replace(struct order *order, struct order_entry *from, struct order_entry *to);

struct order_entry *ghost_find(struct order *order, uintptr_t key);
/* Remember a key, which it did not; NULL: the order remembers none, or has to forget one first. */
struct order_entry *ghost_add(struct order *order, uintptr_t key);
bool ghosts_full(const struct order *order);
struct order_entry *ghost_oldest(struct order *order);
void ghost_forget(struct order *order, struct order_entry *ghost);

/* Pages of it that are there, one at least. */
static inline uint16_t order_pages(const struct order_entry *entry)
{
	uint16_t npages = atomic_load_explicit(&entry->npages, memory_order_relaxed);

	return npages ? npages : 1;
}

/* A miss costs as much as moving so many pages. */
#define ORDER_MISS 64

/* May this eviction have it? */
bool order_may(const struct order_entry *entry, const struct order_want *want);
/* Of all that it may have, what was used least recently; or NULL. */
struct order_entry *order_first(const struct order *order, const struct order_want *want);

/*
 * Does a use count as another one? Data is used in bursts: what is used again before many blocks
 * have come since is the same use still. Remembers those that count.
 */
bool order_counts(struct order *order, struct order_entry *entry);

#endif
