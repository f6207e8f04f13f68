/* SPDX-License-Identifier: MIT */
/*
 * Private memory for everything on the fault path: never malloc, which may be
 * interposed and may itself touch managed memory. Objects of one fixed size come
 * from slabs mapped with mmap; slabs are never unmapped before the pool ends, so an
 * object's memory stays an object of its type (a stale pointer may still lock it).
 *
 * Most who find no memory fail with -ENOMEM. Who follows what the kernel has done already cannot:
 * for them a pool keeps some objects back.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "lock.h"

struct pool {
	struct lock lock; /* RANK_LEAF. Protects: everything below */
	size_t obj_size;
	bool packed;		 /* see pool_pack() */
	void (*ctor)(void *obj); /* once per object, when its slab is mapped */
	void *free_list;
	char *fresh, *fresh_end; /* objects of the last slab that nobody has had yet */
	void *slabs;
	size_t nfree;	       /* on the free list, or fresh */
	size_t kept;	       /* so many are for those who cannot fail */
	_Atomic size_t mapped; /* bytes of objects that somebody has, or had */
};

/*
 * obj_size is rounded up to 64 bytes plus the free list's link, which never
 * overlaps the object (a freed object keeps its contents). ctor may be NULL.
 */
void pool_init(struct pool *pool, size_t obj_size, void (*ctor)(void *obj));
void pool_fini(struct pool *pool);
/*
 * Objects lie side by side, and what a freed one held is lost: for many small ones of which nobody
 * has a stale pointer. Before the first is allocated.
 */
void pool_pack(struct pool *pool);
/* Keep half a slab of objects back, for those who cannot fail. Before the first is allocated. */
void pool_keep(struct pool *pool);
/*
 * What must not fail finds memory: map a first slab, or another one if so few objects are left
 * that others would take those kept back. False: no memory.
 */
bool pool_reserve(struct pool *pool);
/* In between this thread cannot fail: it is given what pools keep back, too. They nest. */
void pool_urgent_begin(void);
void pool_urgent_end(void);
bool pool_is_urgent(void);
/* In a forked child. True: objects that nobody had are lost, as the parent changed their list. */
bool pool_fork_child(struct pool *pool);
/* All objects, those that nobody has as well, those that nobody has had (zero) perhaps. */
void pool_each(const struct pool *pool, void (*fn)(void *obj, void *priv), void *priv);
void *pool_alloc(struct pool *pool); /* contents: as ctor or the last user left them; or NULL */
void pool_free(struct pool *pool, void *obj);
void pool_free_locked(struct pool *pool, void *obj) UMM_REQUIRES(&pool->lock);

/* Larger, zeroed, lazily backed memory straight from mmap; NULL when there is none. */
void *arena_map(size_t len);
/*
 * Where the kernel refuses (a mapping would become two, and there are as many as may be) the memory
 * is given back, and the addresses when this is called again. Also for other memory of the
 * library's, and for what nobody manages any more.
 */
void arena_unmap(void *addr, size_t len);

#endif
