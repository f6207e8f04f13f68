/* SPDX-License-Identifier: MIT */
/*
 * Private memory: pools of objects of one size, and larger pieces, all from mmap.
 *
 * A pool grows by slabs. A slab begins with a header (the list of slabs) and is
 * then an array of slots; a slot is the object, padding, and in its last bytes the
 * link of the free list. The link lies behind the object, never in it, because
 * readers may hold stale pointers to freed objects and look at (even lock) what is
 * there before they find out.
 *
 * Invariants: slots are multiples of a cache line and aligned to one; a slot is on
 * the free list or with exactly one user; slabs go away only with the pool.
 *
 * Locks: pool->lock guards both lists. Slabs are mapped and constructed before it
 * is taken, so that it is never held over a system call.
 */
#include "arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "umm.h"
#include "util.h"

#define ARENA_LINE ((size_t)64)
#define ARENA_SLAB ((size_t)64 << 10)

struct slab {
	struct slab *next;
	size_t len;
};

static size_t slot_size(const struct pool *pool)
{
	return align_up(pool->obj_size + sizeof(void *), ARENA_LINE);
}

static void **slot_link(const struct pool *pool, void *obj)
{
	return (void **)(void *)((char *)obj + slot_size(pool) - sizeof(void *));
}

void pool_init(struct pool *pool, size_t obj_size, void (*ctor)(void *obj))
{
	lock_init(&pool->lock, RANK_LEAF);
	pool->obj_size = obj_size;
	pool->ctor = ctor;
	pool->free_list = NULL;
	pool->slabs = NULL;
	atomic_init(&pool->mapped, 0);
}

void pool_fini(struct pool *pool)
{
	struct slab *slab = pool->slabs;

	while (slab) {
		struct slab *next = slab->next;

		arena_unmap(slab, slab->len);
		slab = next;
	}
	pool->slabs = NULL;
	pool->free_list = NULL;
	atomic_store_explicit(&pool->mapped, 0, memory_order_relaxed);
	lock_fini(&pool->lock);
}

/* Map one more slab and put its objects on the free list; false: no memory. */
static bool pool_grow(struct pool *pool)
{
	size_t slot = slot_size(pool);
	size_t len = align_up(max(ARENA_SLAB, ARENA_LINE + slot), UMM_PAGE_SIZE);
	size_t nobjs = (len - ARENA_LINE) / slot;
	struct slab *slab = arena_map(len);
	char *first;

	if (!slab)
		return false;
	slab->len = len;
	first = (char *)slab + ARENA_LINE;
	for (size_t i = 0; i < nobjs; i++) {
		char *obj = first + i * slot;

		if (pool->ctor)
			pool->ctor(obj);
		*slot_link(pool, obj) = i + 1 < nobjs ? obj + slot : NULL;
	}

	lock_take(&pool->lock);
	slab->next = pool->slabs;
	pool->slabs = slab;
	*slot_link(pool, first + (nobjs - 1) * slot) = pool->free_list;
	pool->free_list = first;
	lock_drop(&pool->lock);
	atomic_fetch_add_explicit(&pool->mapped, len, memory_order_relaxed);
	return true;
}

bool pool_reserve(struct pool *pool)
{
	return atomic_load_explicit(&pool->mapped, memory_order_relaxed) || pool_grow(pool);
}

void *pool_alloc(struct pool *pool)
{
	void *obj;

	do {
		lock_take(&pool->lock);
		obj = pool->free_list;
		if (obj)
			pool->free_list = *slot_link(pool, obj);
		lock_drop(&pool->lock);
	} while (!obj && pool_grow(pool));
	return obj;
}

void pool_free_locked(struct pool *pool, void *obj)
{
	*slot_link(pool, obj) = pool->free_list;
	pool->free_list = obj;
}

void pool_free(struct pool *pool, void *obj)
{
	if (!obj)
		return;
	lock_take(&pool->lock);
	pool_free_locked(pool, obj);
	lock_drop(&pool->lock);
}

void *arena_map(size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	/* Sparse tables: one touched word must not cost 2 MiB. Advice; may be refused. */
	madvise(addr, len, MADV_NOHUGEPAGE);
	return addr;
}

void arena_unmap(void *addr, size_t len)
{
	int ret;

	if (!addr)
		return;
	ret = munmap(addr, len);
	UMM_ASSERT(!ret);
	(void)ret;
}
