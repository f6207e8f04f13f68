/* SPDX-License-Identifier: MIT */
/*
 * The arenas behind malloc(). jemalloc keeps the books of allocations; this file only says which
 * arena serves whom, and where an arena's memory comes from.
 *
 * Ordinary arenas are jemalloc's own and stay as they are. Managed arenas have extent hooks that
 * map memory and enter it into the books of space.h: one for large allocations, and, where small
 * ones are managed too, a few that threads are spread over. The books of jemalloc itself are
 * never in managed memory (metadata_use_hooks is false), so looking an address up never faults.
 * Threads of the shim and of devices get memory of arena 0, which is ordinary, past every cache.
 *
 * Locks: arenas_lock, outermost here (jemalloc's are taken under it). The hooks run under
 * jemalloc's locks and take those of space.c.
 */
#include "heap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "grant.h"
#include "jemalloc_renamed.h"
#include "raw.h"
#include "shim.h"
#include "space.h"

#define BLOCK ((size_t)2 << 20)

enum {
	LARGE_FROM_LEAST = SETTINGS_MALLOC_MIN, /* over what a thread's cache keeps */
	SMALL_ARENAS_MAX = 64,
	NO_ARENA = -1,
};

_Atomic size_t heap_plain_below = SIZE_MAX;

static size_t large_from = SIZE_MAX; /* these are written once, before anything is managed */
static bool has_padding;

static pthread_mutex_t arenas_lock = PTHREAD_MUTEX_INITIALIZER; /* Protects: creation of arenas */
static _Atomic int large_arena = NO_ARENA;
static _Atomic int small_arena[SMALL_ARENAS_MAX];
static unsigned nsmall; /* 0: small allocations are ordinary */
static _Atomic unsigned next_small;
static _Atomic bool at_once;

void *umm_raw_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return raw_mmap(addr, len, prot, flags, fd, offset);
}

int umm_raw_munmap(void *addr, size_t len)
{
	return raw_munmap(addr, len);
}

int umm_raw_madvise(void *addr, size_t len, int advice)
{
	return raw_madvise(addr, len, advice);
}

int umm_raw_mprotect(void *addr, size_t len, int prot)
{
	return raw_mprotect(addr, len, prot);
}

/* ---- extents -------------------------------------------------------------------------- */

static void *map_aligned(size_t len, size_t alignment)
{
	char *base, *start;

	if (len >= BLOCK && alignment < BLOCK)
		alignment = BLOCK;
	base = raw_mmap(NULL, len + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (base == MAP_FAILED)
		return NULL;
	start = (char *)(((uintptr_t)base + alignment - 1) & ~(uintptr_t)(alignment - 1));
	if (start != base)
		raw_munmap(base, (size_t)(start - base));
	raw_munmap(start + len, alignment - (size_t)(start - base));
	return start;
}

/*
 * jemalloc wants to grow: it asks for a size class, and in larger and larger steps, to keep what is
 * left over. What an allocation takes is a class and a page (opt.cache_oblivious). What is kept
 * counts as the program's, and is never given back.
 */
static bool is_growth(size_t size, unsigned arena)
{
	size_t step = (size_t)1 << (61 - __builtin_clzl(size));

	return has_padding && (int)arena == atomic_load(&large_arena) && !(size % step);
}

static void *extent_alloc(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment,
			  bool *zero, bool *commit, unsigned arena)
{
	struct space_change change;
	void *start;

	(void)hooks;
	if (new_addr || size + alignment < size || is_growth(size, arena))
		return NULL;
	start = map_aligned(size, alignment);
	if (!start)
		return NULL;
	if (shim_is_armed()) {
		space_change_begin(&change, (uintptr_t)start, size);
		space_add_locked((uintptr_t)start, size, grant_new_locked((uintptr_t)start, size));
		space_change_end(&change);
	}
	/* The next allocation, however small, takes the way that looks at this. */
	atomic_store(&heap_plain_below, 0);
	*zero = true;
	*commit = true;
	return start;
}

/* Any part of what was mapped: the kernel, and with it libumm, is told exactly that part. */
static bool extent_dalloc(extent_hooks_t *hooks, void *addr, size_t size, bool committed,
			  unsigned arena)
{
	struct space_change change;
	bool failed;

	(void)hooks;
	(void)committed;
	(void)arena;
	if (!shim_is_armed())
		return raw_munmap(addr, size);
	space_change_begin(&change, (uintptr_t)addr, size);
	failed = raw_munmap(addr, size);
	if (!failed)
		space_remove_locked((uintptr_t)addr, size);
	space_change_end(&change);
	return failed;
}

static void extent_destroy(extent_hooks_t *hooks, void *addr, size_t size, bool committed,
			   unsigned arena)
{
	extent_dalloc(hooks, addr, size, committed, arena);
}

static bool extent_purge(extent_hooks_t *hooks, void *addr, size_t size, size_t offset,
			 size_t length, unsigned arena)
{
	struct space_change change;
	bool failed;

	(void)hooks;
	(void)size;
	(void)arena;
	if (!shim_is_armed())
		return raw_madvise((char *)addr + offset, length, MADV_DONTNEED);
	space_change_begin(&change, (uintptr_t)addr + offset, length);
	failed = raw_madvise((char *)addr + offset, length, MADV_DONTNEED);
	space_change_end(&change);
	return failed;
}

static bool extent_split(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a,
			 size_t size_b, bool committed, unsigned arena)
{
	(void)hooks;
	(void)addr;
	(void)size;
	(void)size_a;
	(void)size_b;
	(void)committed;
	(void)arena;
	return false;
}

static bool extent_merge(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b,
			 size_t size_b, bool committed, unsigned arena)
{
	(void)hooks;
	(void)addr_a;
	(void)size_a;
	(void)addr_b;
	(void)size_b;
	(void)committed;
	(void)arena;
	return false;
}

static extent_hooks_t managed_hooks = {
	.alloc = extent_alloc,
	.dalloc = extent_dalloc,
	.destroy = extent_destroy,
	.purge_forced = extent_purge,
	.split = extent_split,
	.merge = extent_merge,
};

/* ---- arenas --------------------------------------------------------------------------- */

static void arena_set_decay(int arena, const char *what)
{
	char name[64];
	ssize_t now = 0;

	snprintf(name, sizeof(name), "arena.%d.%s", arena, what);
	umm_je_mallctl(name, NULL, NULL, &now, sizeof(now));
}

static void arena_free_at_once(int arena)
{
	arena_set_decay(arena, "dirty_decay_ms");
	arena_set_decay(arena, "muzzy_decay_ms");
}

static int arena_create(void)
{
	struct jemalloc_arena_config config = { .extent_hooks = &managed_hooks };
	unsigned index;
	size_t len = sizeof(index);

	if (umm_je_mallctl("experimental.arenas_create_ext", &index, &len, &config, sizeof(config)))
		return NO_ARENA;
	if (atomic_load(&at_once))
		arena_free_at_once((int)index);
	return (int)index;
}

/* NO_ARENA where there is no memory for one: the allocation is an ordinary one then. */
static int arena_get(_Atomic int *arena)
{
	int index = atomic_load_explicit(arena, memory_order_acquire);

	if (index != NO_ARENA)
		return index;
	pthread_mutex_lock(&arenas_lock);
	index = atomic_load(arena);
	if (index == NO_ARENA) {
		index = arena_create();
		atomic_store_explicit(arena, index, memory_order_release);
	}
	pthread_mutex_unlock(&arenas_lock);
	return index;
}

void heap_arm(uint64_t threshold)
{
	long ncpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t len = sizeof(has_padding);

	umm_je_mallctl("opt.cache_oblivious", &has_padding, &len, NULL, 0);
	for (unsigned i = 0; i < SMALL_ARENAS_MAX; i++)
		small_arena[i] = NO_ARENA;
	if (!threshold)
		nsmall = ncpus < 1		      ? 1 :
			 4 * ncpus > SMALL_ARENAS_MAX ? SMALL_ARENAS_MAX :
							4 * (unsigned)ncpus;
	if (threshold < LARGE_FROM_LEAST)
		threshold = LARGE_FROM_LEAST;
	large_from = threshold;
	atomic_store(&heap_plain_below, threshold);
}

bool heap_has_grown(void)
{
	return !atomic_exchange(&heap_plain_below, large_from);
}

void heap_free_at_once(void)
{
	pthread_mutex_lock(&arenas_lock);
	atomic_store(&at_once, true);
	if (atomic_load(&large_arena) != NO_ARENA)
		arena_free_at_once(large_arena);
	for (unsigned i = 0; i < nsmall; i++)
		if (atomic_load(&small_arena[i]) != NO_ARENA)
			arena_free_at_once(small_arena[i]);
	pthread_mutex_unlock(&arenas_lock);
}

int heap_flags(size_t len)
{
	int arena;

	if (thread_mode == THREAD_INTERNAL)
		return MALLOCX_ARENA(0) | MALLOCX_TCACHE_NONE;
	if (len < large_from)
		return 0;
	arena = arena_get(&large_arena);
	return arena == NO_ARENA ? 0 : MALLOCX_ARENA((unsigned)arena) | MALLOCX_TCACHE_NONE;
}

void heap_thread_start(void)
{
	unsigned index;
	int arena;

	if (!shim_is_decided())
		return; /* fresh it stays: there may be managed arenas soon */
	thread_mode = THREAD_PLAIN;
	if (!nsmall)
		return;
	arena = arena_get(&small_arena[atomic_fetch_add(&next_small, 1) % nsmall]);
	if (arena == NO_ARENA)
		return;
	index = (unsigned)arena;
	umm_je_mallctl("thread.arena", NULL, NULL, &index, sizeof(index));
}
