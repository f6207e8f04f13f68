/* SPDX-License-Identifier: MIT */
/*
 * Private memory for everything on the fault path: never malloc, which may be
 * interposed and may itself touch managed memory. Objects of one fixed size come
 * from slabs mapped with mmap; slabs are never unmapped before the pool ends, so an
 * object's memory stays an object of its type (a stale pointer may still lock it).
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdatomic.h>
#include <stddef.h>

#include "lock.h"

struct pool {
	struct lock lock; /* RANK_LEAF. Protects: everything below */
	size_t obj_size;
	void (*ctor)(void *obj); /* once per object, when its slab is mapped */
	void *free_list;
	void *slabs;
	_Atomic size_t mapped; /* bytes mapped */
};

/*
 * obj_size is rounded up to 64 bytes plus the free list's link, which never
 * overlaps the object (a freed object keeps its contents). ctor may be NULL.
 */
void pool_init(struct pool *pool, size_t obj_size, void (*ctor)(void *obj));
void pool_fini(struct pool *pool);
/* What a fault needs is there before memory is short: map a first slab. False: no memory. */
bool pool_reserve(struct pool *pool);
void *pool_alloc(struct pool *pool); /* contents: as ctor or the last user left them; or NULL */
void pool_free(struct pool *pool, void *obj);
void pool_free_locked(struct pool *pool, void *obj) UMM_REQUIRES(&pool->lock);

/* Larger, zeroed, lazily backed memory straight from mmap; NULL when there is none. */
void *arena_map(size_t len);
void arena_unmap(void *addr, size_t len);

#endif
