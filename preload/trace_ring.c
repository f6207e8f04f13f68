/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue of many writers and one reader. Each slot says by its turn who may use it next: a
 * writer that finds the slot at head free takes it by moving head on, fills it in and turns it;
 * the reader turns it again. All zero is an empty ring, so shared memory needs no
 * preparation. Positions are taken modulo the size: a reader that writes nonsense makes
 * writers drop events, no more.
 *
 * Lock-free: turn is stored with release after the event, and loaded with acquire before it, by
 * trace_ring_put() and trace_ring_take() in pairs.
 */
#include "trace_ring.h"

/* The slot of a position, and the turn in which it is free for a writer. */
static struct trace_slot *slot_of(struct trace_ring *ring, uint64_t position, uint64_t *free_turn)
{
	*free_turn = position / TRACE_SLOTS * 2;
	return &ring->slot[position % TRACE_SLOTS];
}

void trace_ring_put(struct trace_ring *ring, const struct trace_event *event)
{
	uint64_t position = atomic_load(&ring->head), turn;
	struct trace_slot *slot;

	if (event->kind >= TRACE_NR_KINDS)
		return;
	atomic_fetch_add(&ring->seen[event->kind], 1);
	atomic_fetch_add(&ring->pages[event->kind], event->npages);
	for (;;) {
		slot = slot_of(ring, position, &turn);
		if (atomic_load_explicit(&slot->turn, memory_order_acquire) == turn) {
			if (atomic_compare_exchange_weak(&ring->head, &position, position + 1))
				break;
		} else {
			uint64_t now = atomic_load(&ring->head);

			if (now == position) {
				atomic_fetch_add(&ring->dropped[event->kind], 1);
				return;
			}
			position = now;
		}
	}
	slot->event = *event;
	atomic_store_explicit(&slot->turn, turn + 1, memory_order_release);
}

bool trace_ring_take(struct trace_ring *ring, struct trace_event *out)
{
	uint64_t position = atomic_load(&ring->tail), turn;
	struct trace_slot *slot = slot_of(ring, position, &turn);

	if (atomic_load_explicit(&slot->turn, memory_order_acquire) != turn + 1)
		return false;
	*out = slot->event;
	atomic_store_explicit(&slot->turn, turn + 2, memory_order_release);
	atomic_store(&ring->tail, position + 1);
	return true;
}
