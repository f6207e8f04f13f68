/* SPDX-License-Identifier: MIT */
/*
 * Small things that every file may use: assertions, arithmetic on ranges, the
 * clock, and the size rule of structures that cross the public header.
 */
#ifndef UTIL_H
#define UTIL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* Prints the broken invariant and aborts; debug builds only call it. */
void util_assert_failed(const char *expr, const char *file, int line) __attribute__((noreturn));

#ifdef UMM_DEBUG
#define UMM_ASSERT(expr) ((expr) ? (void)0 : util_assert_failed(#expr, __FILE__, __LINE__))
#else
/* Not evaluated, but still compiled: what only an assertion uses stays "used". */
#define UMM_ASSERT(expr) ((void)sizeof((expr) ? 1 : 0))
#endif

/*
 * Marks functions that fault servers run: no malloc, stdio or dlopen, no touching
 * of managed memory, no waiting for a thread that might itself be faulting.
 */
#if defined(__clang__)
#define UMM_FAULT_PATH __attribute__((annotate("umm_fault_path")))
#else
#define UMM_FAULT_PATH
#endif

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define min(a, b)                                  \
	__extension__({                            \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})

#define max(a, b)                                  \
	__extension__({                            \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

/* alignment is a power of two; align_up() wraps to 0 where the result does not fit. */
static inline uintptr_t align_down(uintptr_t value, uintptr_t alignment)
{
	return value & ~(alignment - 1);
}

static inline uintptr_t align_up(uintptr_t value, uintptr_t alignment)
{
	return align_down(value + alignment - 1, alignment);
}

static inline bool is_aligned(uintptr_t value, uintptr_t alignment)
{
	return !(value & (alignment - 1));
}

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * Does this thread run on these addresses, or need them in this call? It cannot take such pages
 * away itself: it would touch them in the middle, and wait for itself.
 */
#define STACK_NEED ((uintptr_t)16 << 10)

static inline bool own_stack_in(uintptr_t start, uintptr_t end)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return start <= here && end > here - STACK_NEED;
}

#define STRUCT_MOST ((size_t)4096) /* bytes; no structure of any version is larger */

/*
 * May a library whose structure has our_size bytes take the caller's? Its first
 * member is its size_t size. 0; -EINVAL NULL or too short to have a size; -E2BIG a
 * byte that we do not know is set, or it cannot be the size of a structure.
 */
static inline int struct_check(const void *theirs, size_t our_size)
{
	const unsigned char *bytes = theirs;
	size_t their_size;

	if (!theirs)
		return -EINVAL;
	memcpy(&their_size, theirs, sizeof(their_size));
	if (their_size < sizeof(their_size))
		return -EINVAL;
	if (their_size > STRUCT_MOST)
		return -E2BIG;
	for (size_t i = our_size; i < their_size; i++)
		if (bytes[i])
			return -E2BIG;
	return 0;
}

/*
 * Copy the caller's structure src into ours; what the caller's lacks reads zero, and
 * dst's size becomes dst_size. Errors as struct_check(); dst is then untouched.
 */
static inline int struct_in(void *dst, size_t dst_size, const void *src)
{
	size_t their_size, common;
	int ret;

	ret = struct_check(src, dst_size);
	if (ret)
		return ret;
	memcpy(&their_size, src, sizeof(their_size));
	common = min(their_size, dst_size);
	memcpy(dst, src, common);
	memset((char *)dst + common, 0, dst_size - common);
	memcpy(dst, &dst_size, sizeof(dst_size));
	return 0;
}

/*
 * Fill the caller's structure dst from ours, as much as fits; the caller's size
 * stays. Errors as struct_check(); dst is then untouched.
 */
static inline int struct_out(void *dst, const void *src, size_t src_size)
{
	size_t their_size;
	int ret;

	ret = struct_check(dst, src_size);
	if (ret)
		return ret;
	memcpy(&their_size, dst, sizeof(their_size));
	memcpy((char *)dst + sizeof(their_size), (const char *)src + sizeof(their_size),
	       min(their_size, src_size) - sizeof(their_size));
	return 0;
}

#endif
