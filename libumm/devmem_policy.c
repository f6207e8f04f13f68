/* SPDX-License-Identifier: MIT */
/*
 * What a device memory tells its order of eviction (policy/), and how programs choose one. A
 * block's resident is in the order while it has frames there; devices say what they use by
 * umm_devmem_touch(). Whoever does not choose gets what its context has chosen, else what
 * UMM_EVICT_ORDER names, or the default.
 *
 * Locks: mem->lock protects the order and what belongs to it; orders call nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctx.h"
#include "devmem.h"
#include "log.h"
#include "tracefile.h"
#include "util.h"

#define RECORD_MOST ((size_t)1 << 30)
/* Uses that are copied at a time. */
#define RECORD_PART 64

static const struct order_ops *order_of(enum umm_evict_order which)
{
	switch (which) {
	case UMM_EVICT_LRU:
		return &order_lru;
	case UMM_EVICT_CLOCK:
		return &order_clock;
	case UMM_EVICT_S3FIFO:
		return &order_s3fifo;
	case UMM_EVICT_LIRS:
		return &order_lirs;
	case UMM_EVICT_LRFU:
		return &order_lrfu;
	default:
		return &order_adaptive;
	}
}

bool devmem_order_is_known(enum umm_evict_order which)
{
	return (unsigned)which <= UMM_EVICT_LRFU;
}

static enum umm_evict_order which_is(const struct order_ops *ops)
{
	for (enum umm_evict_order which = UMM_EVICT_LRU; which <= UMM_EVICT_LRFU; which++)
		if (order_of(which) == ops)
			return which;
	/* One of the environment's alone. */
	return UMM_EVICT_DEFAULT;
}

static const struct order_ops *order_of_environment(void)
{
	const char *name = getenv("UMM_EVICT_ORDER");
	const struct order_ops *ops = name && *name ? order_by_name(name) : &order_adaptive;
	char known[128] = "";
	size_t len = 0;

	if (ops)
		return ops;
	for (unsigned i = 0; i < NR_ORDERS && len < sizeof(known); i++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, " %s", orders[i]->name);
	log_warning("UMM_EVICT_ORDER=%s names no order of eviction: it is %s; known are%s", name,
		    order_adaptive.name, known);
	return &order_adaptive;
}

/* What a memory gets that asks for `which`. */
static const struct order_ops *order_wanted(const struct umm_devmem *mem,
					    enum umm_evict_order which)
{
	if (which == UMM_EVICT_DEFAULT)
		which = mem->ctx->evict_order;
	return which == UMM_EVICT_DEFAULT ? order_of_environment() : order_of(which);
}

static struct order *order_make(struct umm_devmem *mem, const struct order_ops *ops)
{
	void *memory = arena_map(order_bytes(ops, mem->nchunks));

	return memory ? order_init(memory, ops, mem->nchunks, mem->nframes) : NULL;
}

static void order_destroy(struct umm_devmem *mem, struct order *order)
{
	arena_unmap(order, order_bytes(order->ops, mem->nchunks));
}

/* Under mem->lock. A trace hears of a memory before all that happens there. */
static void trace_put(struct umm_devmem *mem, enum record_kind kind, uint32_t npages,
		      uintptr_t addr)
{
	uint32_t trace = atomic_load_explicit(&tracefile_on, memory_order_relaxed);

	if (!trace)
		return;
	if (trace != mem->traced) {
		mem->traced = trace;
		tracefile_put(RECORD_MEMORY, record_who(0, mem->number),
			      (uintptr_t)mem->nframes << UMM_PAGE_SHIFT);
	}
	tracefile_put(kind, record_who(npages, mem->number), addr);
}

static void record_use(struct umm_devmem *mem, const struct resident *resident)
{
	struct record *record = &mem->record;

	if (record->n < record->room)
		record->block[record->n++] = resident->va;
}

void devmem_trace_room(struct umm_devmem *mem, bool evicts, uint32_t n, uint64_t clock,
		       uintptr_t va)
{
	uint64_t began;

	if (!atomic_load_explicit(&tracefile_on, memory_order_relaxed))
		return;
	lock_take(&mem->lock);
	began = mem->order->clock > clock ? mem->order->clock - clock : 0;
	if (began > RECORD_BEGAN_MOST)
		began = RECORD_BEGAN_MOST;
	trace_put(mem, evicts ? RECORD_ROOM : RECORD_SPARE, n, va | began << UMM_PAGE_SHIFT);
	lock_drop(&mem->lock);
}

void devmem_trace_empty(struct umm_devmem *mem, uint32_t nframes)
{
	lock_take(&mem->lock);
	trace_put(mem, RECORD_EMPTY, 0, (uintptr_t)nframes << UMM_PAGE_SHIFT);
	lock_drop(&mem->lock);
}

void devmem_trace_pages(const struct umm_devmem *mem, enum record_kind kind, uintptr_t va,
			const uint64_t *pages)
{
	unsigned first, last;

	if (!atomic_load_explicit(&tracefile_on, memory_order_relaxed))
		return;
	for_each_run(pages, first, last) tracefile_put(kind, record_who(last - first, mem->number),
						       va + ((uintptr_t)first << UMM_PAGE_SHIFT));
}

static void record_drop(struct record *record)
{
	arena_unmap(record->block, record->room * sizeof(*record->block));
}

int devmem_order_init(struct umm_devmem *mem)
{
	mem->order = order_make(mem, order_wanted(mem, UMM_EVICT_DEFAULT));
	return mem->order ? 0 : -ENOMEM;
}

void devmem_order_fini(struct umm_devmem *mem)
{
	order_destroy(mem, mem->order);
	record_drop(&mem->record);
}

void devmem_order_insert(struct umm_devmem *mem, struct resident *resident)
{
	lock_take(&mem->lock);
	order_insert(mem->order, &resident->order, resident->va);
	trace_put(mem, RECORD_ARRIVE, 0, resident->va);
	record_use(mem, resident);
	lock_drop(&mem->lock);
}

void devmem_order_remove(struct umm_devmem *mem, struct resident *resident)
{
	lock_take(&mem->lock);
	order_remove(mem->order, &resident->order);
	tracefile_event(RECORD_LEAVE, record_who(0, mem->number), resident->va);
	lock_drop(&mem->lock);
}

struct order_want devmem_evict_want(struct umm_devmem *mem, uint64_t clock, uintptr_t va)
{
	struct order_want want = { .before = clock, .except = va };

	lock_take(&mem->lock);
	want.ticket = order_ticket(mem->order);
	lock_drop(&mem->lock);
	return want;
}

bool devmem_victim(struct umm_devmem *mem, const struct order_want *want, uintptr_t *va)
{
	struct order_entry *entry;

	lock_take(&mem->lock);
	entry = order_victim(mem->order, want);
	if (entry)
		*va = entry->key;
	lock_drop(&mem->lock);
	return entry;
}

uint64_t devmem_clock(struct umm_devmem *mem)
{
	uint64_t clock;

	lock_take(&mem->lock);
	clock = mem->order->clock;
	lock_drop(&mem->lock);
	return clock;
}

void umm_devmem_touch(struct umm_devmem *mem, uintptr_t start, size_t len)
{
	uintptr_t at = start, end = start + len, from, to;
	struct resident *resident;
	struct block *block;

	if (!devmem_valid(mem))
		return;
	while (at < end && (block = block_next(mem->ctx, at, end))) {
		from = align_down(at > block->va ? at : block->va, UMM_PAGE_SIZE);
		at = block->va + UMM_BLOCK_SIZE;
		to = align_up(at < end ? at : end, UMM_PAGE_SIZE);
		resident = resident_find(block, mem);
		if (resident) {
			lock_take(&mem->lock);
			order_touch(mem->order, &resident->order);
			trace_put(mem, RECORD_USE, (uint32_t)((to - from) >> UMM_PAGE_SHIFT), from);
			record_use(mem, resident);
			lock_drop(&mem->lock);
		}
		lock_drop(&block->lock);
	}
}

int umm_devmem_record(struct umm_devmem *mem, size_t nuses)
{
	struct record record = { .room = nuses }, old;

	if (!devmem_valid(mem) || nuses > RECORD_MOST)
		return -EINVAL;
	if (ctx_is_forked(mem->ctx))
		return -ENODEV;
	if (nuses) {
		record.block = arena_map(nuses * sizeof(*record.block));
		if (!record.block)
			return -ENOMEM;
	}
	lock_take(&mem->lock);
	old = mem->record;
	mem->record = record;
	lock_drop(&mem->lock);
	record_drop(&old);
	return 0;
}

/* Uses from `from` on, RECORD_PART at most: how many. */
static size_t record_part(struct umm_devmem *mem, size_t from, uintptr_t *part, size_t most)
{
	size_t n = 0;

	lock_take(&mem->lock);
	for (; n < most && n < RECORD_PART && from + n < mem->record.n; n++)
		part[n] = mem->record.block[from + n];
	lock_drop(&mem->lock);
	return n;
}

size_t umm_devmem_recorded(struct umm_devmem *mem, uintptr_t *out, size_t nuses)
{
	uintptr_t part[RECORD_PART];
	size_t done = 0, n;

	if (!devmem_valid(mem) || !out)
		return 0;
	/* `out` may be managed memory: nothing is locked while it is written. */
	while ((n = record_part(mem, done, part, nuses - done))) {
		memcpy(out + done, part, n * sizeof(*part));
		done += n;
	}
	return done;
}

static int policy_check(const struct umm_devmem *mem, const struct umm_devmem_policy *policy)
{
	if (policy->flags || !devmem_order_is_known(policy->order))
		return -EINVAL;
	if (policy->high_free > mem->nframes || policy->low_free > policy->high_free)
		return -EINVAL;
	return 0;
}

int umm_devmem_policy_set(struct umm_devmem *mem, const struct umm_devmem_policy *policy)
{
	struct umm_devmem_policy mine;
	struct order *order, *old;
	int ret;

	if (!devmem_valid(mem) || !policy)
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), policy);
	if (!ret)
		ret = policy_check(mem, &mine);
	if (ret)
		return ret;
	if (ctx_is_forked(mem->ctx))
		return -ENODEV;
	order = order_make(mem, order_wanted(mem, mine.order));
	if (!order)
		return -ENOMEM;
	lock_take(&mem->lock);
	old = mem->order;
	order_move(old, order);
	mem->order = order;
	mem->low_free = mine.low_free;
	mem->high_free = mine.high_free;
	lock_drop(&mem->lock);
	order_destroy(mem, old);
	return 0;
}

int umm_devmem_policy(struct umm_devmem *mem, struct umm_devmem_policy *out)
{
	struct umm_devmem_policy policy = { .size = sizeof(policy) };

	if (!devmem_valid(mem) || !out)
		return -EINVAL;
	lock_take(&mem->lock);
	policy.order = which_is(mem->order->ops);
	policy.low_free = mem->low_free;
	policy.high_free = mem->high_free;
	lock_drop(&mem->lock);
	return struct_out(out, &policy, sizeof(policy));
}
