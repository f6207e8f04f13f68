/* SPDX-License-Identifier: MIT */
/*
 * Who allocated large memory. A ring of fixed size that costs a few stores for each
 * allocation and is never searched here: "umm map" puts it and the address space together, by then
 * newer entries stand for memory that was allocated anew.
 *
 * Lock-free: a writer takes a slot by adding to head, clears its caller, fills it in and stores
 * the caller last. A reader skips a slot whose caller is 0 or changed while it read.
 */
#include "sites.h"

#include <stdatomic.h>

struct slot {
	_Atomic uint64_t start, len, caller;
};

static struct slot slots[SHEET_SITES];
static _Atomic uint64_t head;

void sites_note(const void *start, size_t len, const void *caller)
{
	struct slot *slot = &slots[atomic_fetch_add(&head, 1) % SHEET_SITES];

	atomic_store(&slot->caller, 0);
	atomic_store(&slot->start, (uintptr_t)start);
	atomic_store(&slot->len, len);
	atomic_store(&slot->caller, (uintptr_t)caller);
}

uint32_t sites_copy(struct sheet_site out[SHEET_SITES])
{
	uint64_t end = atomic_load(&head), from = end > SHEET_SITES ? end - SHEET_SITES : 0;
	uint32_t n = 0;

	for (; from < end; from++) {
		struct slot *slot = &slots[from % SHEET_SITES];
		uint64_t caller = atomic_load(&slot->caller);

		out[n] = (struct sheet_site){ .start = atomic_load(&slot->start),
					      .len = atomic_load(&slot->len),
					      .caller = caller };
		n += caller && atomic_load(&slot->caller) == caller;
	}
	return n;
}
