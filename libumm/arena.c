/* SPDX-License-Identifier: MIT */
/*
 * Private memory: pools of objects of one size, and larger pieces, all from mmap.
 *
 * A pool grows by slabs. A slab begins with a header (the list of slabs) and is
 * then an array of slots; a slot is the object, padding, and in its last bytes the
 * link of the free list. The link lies behind the object, not in it, because
 * readers may hold stale pointers to freed objects and look at (even lock) what is
 * there before they find out. Where nobody does, slots may be packed: they are the
 * objects, and those that are free have the link in their last word.
 *
 * Objects are constructed when they are first handed out, so what is kept back takes
 * addresses and no memory.
 *
 * Invariants: slots that are not packed are multiples of a cache line and aligned to one; a slot is
 * fresh, on the free list or with exactly one user; slabs go away only with the pool.
 *
 * Locks: pool->lock guards both lists. Slabs are mapped before it is taken, so that it is
 * never held over a system call. What could not be unmapped is in a table without a lock.
 */
#include "arena.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "log.h"
#include "umm.h"
#include "util.h"

#define ARENA_LINE ((size_t)64)
#define ARENA_SLAB ((size_t)64 << 10)

/* How many stretches of addresses may wait to be unmapped. */
#define NR_LEFT	    64
#define LEFT_VACANT ((uintptr_t)0)
#define LEFT_BUSY   ((uintptr_t)1)

static struct {
	_Atomic uintptr_t addr; /* or LEFT_VACANT; LEFT_BUSY: somebody changes the entry */
	size_t len;
} left[NR_LEFT];

/* Asked on the fault path, in signal handlers too: no lazy allocation. */
static _Thread_local unsigned urgent __attribute__((tls_model("initial-exec")));

struct slab {
	struct slab *next;
	size_t len;
};

static size_t slot_size(const struct pool *pool)
{
	if (pool->packed)
		return align_up(pool->obj_size, sizeof(void *));
	return align_up(pool->obj_size + sizeof(void *), ARENA_LINE);
}

static void **slot_link(const struct pool *pool, void *obj)
{
	return (void **)(void *)((char *)obj + slot_size(pool) - sizeof(void *));
}

static size_t slab_len(const struct pool *pool)
{
	return align_up(max(ARENA_SLAB, ARENA_LINE + slot_size(pool)), UMM_PAGE_SIZE);
}

static size_t slab_nobjs(const struct pool *pool)
{
	return (slab_len(pool) - ARENA_LINE) / slot_size(pool);
}

void pool_init(struct pool *pool, size_t obj_size, void (*ctor)(void *obj))
{
	lock_init(&pool->lock, RANK_LEAF);
	pool->obj_size = obj_size;
	pool->packed = false;
	pool->ctor = ctor;
	pool->free_list = NULL;
	pool->fresh = NULL;
	pool->fresh_end = NULL;
	pool->slabs = NULL;
	pool->nfree = 0;
	pool->kept = 0;
	atomic_init(&pool->mapped, 0);
}

void pool_pack(struct pool *pool)
{
	UMM_ASSERT(!pool->ctor && !pool->slabs);
	pool->packed = true;
}

void pool_keep(struct pool *pool)
{
	pool->kept = max(slab_nobjs(pool) / 2, (size_t)1);
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
	pool->fresh = NULL;
	pool->fresh_end = NULL;
	pool->nfree = 0;
	atomic_store_explicit(&pool->mapped, 0, memory_order_relaxed);
	lock_fini(&pool->lock);
}

/* The next object that nobody has had yet, constructed. */
static void *fresh_take(struct pool *pool) UMM_REQUIRES(&pool->lock)
{
	char *obj = pool->fresh;

	pool->fresh += slot_size(pool);
	atomic_fetch_add_explicit(&pool->mapped, slot_size(pool), memory_order_relaxed);
	if (pool->ctor)
		pool->ctor(obj);
	return obj;
}

static void free_list_add(struct pool *pool, void *obj) UMM_REQUIRES(&pool->lock)
{
	*slot_link(pool, obj) = pool->free_list;
	pool->free_list = obj;
}

/* Map one more slab: its objects are the fresh ones from now on; false: no memory. */
static bool pool_grow(struct pool *pool)
{
	size_t len = slab_len(pool), nobjs = slab_nobjs(pool);
	struct slab *slab = arena_map(len);

	if (!slab)
		return false;
	slab->len = len;
	lock_take(&pool->lock);
	while (pool->fresh != pool->fresh_end)
		free_list_add(pool, fresh_take(pool));
	slab->next = pool->slabs;
	pool->slabs = slab;
	pool->fresh = (char *)slab + ARENA_LINE;
	pool->fresh_end = pool->fresh + nobjs * slot_size(pool);
	pool->nfree += nobjs;
	lock_drop(&pool->lock);
	return true;
}

bool pool_reserve(struct pool *pool)
{
	bool enough;

	do {
		lock_take(&pool->lock);
		enough = pool->slabs && pool->nfree >= pool->kept;
		lock_drop(&pool->lock);
	} while (!enough && pool_grow(pool));
	return enough;
}

void pool_urgent_begin(void)
{
	urgent++;
}

void pool_urgent_end(void)
{
	urgent--;
}

bool pool_is_urgent(void)
{
	return urgent;
}

void *pool_alloc(struct pool *pool)
{
	size_t kept = urgent ? 0 : pool->kept;
	void *obj;

	do {
		lock_take(&pool->lock);
		obj = NULL;
		if (pool->nfree > kept) {
			pool->nfree--;
			obj = pool->free_list;
			if (obj)
				pool->free_list = *slot_link(pool, obj);
			else
				obj = fresh_take(pool);
		}
		lock_drop(&pool->lock);
	} while (!obj && pool_grow(pool));
	return obj;
}

void pool_free_locked(struct pool *pool, void *obj)
{
	free_list_add(pool, obj);
	pool->nfree++;
}

void pool_free(struct pool *pool, void *obj)
{
	if (!obj)
		return;
	lock_take(&pool->lock);
	pool_free_locked(pool, obj);
	lock_drop(&pool->lock);
}

bool pool_fork_child(struct pool *pool)
{
	if (!lock_fork_child(&pool->lock))
		return false;
	pool->free_list = NULL;
	pool->fresh = NULL;
	pool->fresh_end = NULL;
	pool->nfree = 0;
	return true;
}

void pool_each(const struct pool *pool, void (*fn)(void *obj, void *priv), void *priv)
{
	for (const struct slab *slab = pool->slabs; slab; slab = slab->next)
		for (size_t i = 0; i < slab_nobjs(pool); i++)
			fn((char *)slab + ARENA_LINE + i * slot_size(pool), priv);
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

/* False: it has to be tried again when there are fewer mappings. */
static bool unmap(uintptr_t addr, size_t len)
{
	int ret = munmap((void *)addr, len);

	UMM_ASSERT(!ret || errno == ENOMEM);
	return !ret;
}

static void leave(uintptr_t addr, size_t len)
{
	uintptr_t vacant;

	madvise((void *)addr, len, MADV_DONTNEED);
	for (unsigned i = 0; i < NR_LEFT; i++) {
		vacant = LEFT_VACANT;
		if (!atomic_compare_exchange_strong(&left[i].addr, &vacant, LEFT_BUSY))
			continue;
		left[i].len = len;
		atomic_store(&left[i].addr, addr);
		return;
	}
	log_warning("%zu KiB of addresses stay mapped: there are too many mappings", len >> 10);
}

/* What was left behind. */
static void left_unmap(void)
{
	uintptr_t addr;

	for (unsigned i = 0; i < NR_LEFT; i++) {
		addr = atomic_load(&left[i].addr);
		if (addr == LEFT_VACANT || addr == LEFT_BUSY ||
		    !atomic_compare_exchange_strong(&left[i].addr, &addr, LEFT_BUSY))
			continue;
		atomic_store(&left[i].addr, unmap(addr, left[i].len) ? LEFT_VACANT : addr);
	}
}

void arena_unmap(void *addr, size_t len)
{
	if (!addr)
		return;
	if (!unmap((uintptr_t)addr, len))
		leave((uintptr_t)addr, len);
	else
		left_unmap();
}
