/* SPDX-License-Identifier: MIT */
/*
 * The malloc family, for the whole program. Small allocations of the program's threads go straight
 * to jemalloc; large ones, and all of the shim's and of devices' threads, say which arena they
 * want (heap.c). What jemalloc lacks of the C library's family is made of what it has.
 *
 * C++ new and delete come here by way of malloc() and free(), as the C++ libraries define them.
 *
 * While the shim is not armed each function is a jump to jemalloc's. No locks of its own.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "heap.h"
#include "jemalloc_renamed.h"
#include "shim.h"
#include "sites.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)

/* Nothing to decide: the allocation is an ordinary one of a thread of the program. */
static inline bool is_plain(size_t len)
{
	return thread_mode == THREAD_PLAIN &&
	       len < atomic_load_explicit(&heap_plain_below, memory_order_relaxed);
}

static bool multiply(size_t n, size_t len, size_t *out)
{
	if (!__builtin_mul_overflow(n, len, out))
		return true;
	errno = ENOMEM;
	return false;
}

/* The arena for an allocation whose caller is at @caller. */
static int flags_for(size_t len, const void *caller)
{
	enum thread_mode mode = thread_mode;
	int flags;

	if (mode == THREAD_FRESH) {
		shim_first_use();
		heap_thread_start();
		mode = thread_mode;
	}
	if (mode == THREAD_PLAIN && shim_is_internal_code(caller))
		thread_mode = THREAD_INTERNAL;
	flags = heap_flags(len);
	thread_mode = mode;
	return flags;
}

/* By what flags_for() answered: it is large and of the program. */
static bool is_managed(int arena)
{
	return arena && thread_mode != THREAD_INTERNAL && shim_is_armed();
}

/* After an allocation, when no lock is held: is there more managed memory now? */
static void look(void)
{
	if (shim_is_armed() && thread_mode != THREAD_INTERNAL && heap_has_grown())
		engine_consider();
}

static void *allocate(size_t len, int flags, const void *caller)
{
	int arena = flags_for(len, caller);
	void *ptr = umm_je_mallocx(len ? len : 1, flags | arena);

	if (!ptr)
		errno = ENOMEM;
	else if (is_managed(arena))
		sites_note(ptr, len, caller);
	look();
	return ptr;
}

static void *reallocate(void *ptr, size_t len, const void *caller)
{
	int arena = flags_for(len, caller);

	if (!arena) {
		ptr = umm_je_realloc(ptr, len);
	} else {
		ptr = umm_je_rallocx(ptr, len, arena);
		if (!ptr)
			errno = ENOMEM;
		else if (is_managed(arena))
			sites_note(ptr, len, caller);
	}
	look();
	return ptr;
}

PRELOAD_API void *malloc(size_t len)
{
	if (LIKELY(is_plain(len)))
		return umm_je_malloc(len);
	return allocate(len, 0, __builtin_return_address(0));
}

PRELOAD_API void *calloc(size_t n, size_t len)
{
	size_t all;

	if (!multiply(n, len, &all))
		return NULL;
	if (LIKELY(is_plain(all)))
		return umm_je_calloc(n, len);
	return allocate(all, MALLOCX_ZERO, __builtin_return_address(0));
}

PRELOAD_API void free(void *ptr)
{
	if (LIKELY(thread_mode != THREAD_INTERNAL))
		umm_je_free(ptr);
	else if (ptr)
		umm_je_dallocx(ptr, MALLOCX_TCACHE_NONE);
}

/* Of length 0 it is free(), as in the C library. */
static void *realloc_from(void *ptr, size_t len, const void *caller)
{
	if (!ptr)
		return LIKELY(is_plain(len)) ? umm_je_malloc(len) : allocate(len, 0, caller);
	if (!len) {
		free(ptr);
		return NULL;
	}
	return LIKELY(is_plain(len)) ? umm_je_realloc(ptr, len) : reallocate(ptr, len, caller);
}

PRELOAD_API void *realloc(void *ptr, size_t len)
{
	return realloc_from(ptr, len, __builtin_return_address(0));
}

PRELOAD_API void *reallocarray(void *ptr, size_t n, size_t len)
{
	size_t all;

	if (!multiply(n, len, &all))
		return NULL;
	return realloc_from(ptr, all, __builtin_return_address(0));
}

static bool is_power_of_two(size_t n)
{
	return n && !(n & (n - 1));
}

PRELOAD_API int posix_memalign(void **out, size_t alignment, size_t len)
{
	int saved = errno;
	void *ptr;

	if (!is_power_of_two(alignment) || alignment % sizeof(void *))
		return EINVAL;
	if (LIKELY(is_plain(len)))
		return umm_je_posix_memalign(out, alignment, len);
	ptr = allocate(len, MALLOCX_ALIGN(alignment), __builtin_return_address(0));
	errno = saved;
	if (!ptr)
		return ENOMEM;
	*out = ptr;
	return 0;
}

PRELOAD_API void *aligned_alloc(size_t alignment, size_t len)
{
	if (!is_power_of_two(alignment)) {
		errno = EINVAL;
		return NULL;
	}
	return allocate(len, MALLOCX_ALIGN(alignment), __builtin_return_address(0));
}

/* The C library rounds odd alignments up. */
PRELOAD_API void *memalign(size_t alignment, size_t len)
{
	size_t power = sizeof(void *);

	while (power < alignment && power <= SIZE_MAX / 4)
		power *= 2;
	if (power < alignment) {
		errno = EINVAL;
		return NULL;
	}
	return allocate(len, MALLOCX_ALIGN(power), __builtin_return_address(0));
}

PRELOAD_API void *valloc(size_t len)
{
	return allocate(len, MALLOCX_ALIGN((size_t)getpagesize()), __builtin_return_address(0));
}

PRELOAD_API void *pvalloc(size_t len)
{
	size_t page = (size_t)getpagesize();

	if (len > SIZE_MAX - page) {
		errno = ENOMEM;
		return NULL;
	}
	return allocate((len + page - 1) & ~(page - 1), MALLOCX_ALIGN(page),
			__builtin_return_address(0));
}

PRELOAD_API size_t malloc_usable_size(void *ptr)
{
	return umm_je_malloc_usable_size(ptr);
}
