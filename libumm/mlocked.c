/* SPDX-License-Identifier: MIT */
/*
 * Locked memory. The kernel moves no page between a locked mapping and one that is not, and drops
 * none of a locked one. A program that calls mlockall() also locks what the library has reserved,
 * and has the kernel fill it: places that are empty because their frames are lent, slots that
 * pages are to be moved into. So what is reserved is PROT_NONE until it is used, which nothing
 * fills, and unlocked when it is in the way.
 *
 * Whether a mapping is locked is asked of msync(), which refuses to invalidate such pages
 * and does nothing to others that have no file. System calls are made directly: sanitizers have
 * an munlock() that does nothing.
 *
 * Locks: none; nothing is kept between calls.
 */
#include "mlocked.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "maps.h"
#include "umm.h"
#include "util.h"

bool mlocked_is(uintptr_t page)
{
	return syscall(SYS_msync, page, UMM_PAGE_SIZE, MS_ASYNC | MS_INVALIDATE) && errno == EBUSY;
}

bool mlocked_end(uintptr_t page, uintptr_t low, uintptr_t high, bool query)
{
	struct maps_vma vma;

	if (!mlocked_is(page) || maps_find(page, query, &vma) || vma.start > page)
		return false;
	low = max(low, vma.start);
	return !syscall(SYS_munlock, low, min(high, vma.end) - low);
}

bool mlocked_end_ours(uintptr_t page)
{
	return mlocked_end(page, 0, UINTPTR_MAX, true);
}

void mlocked_drop(uintptr_t start, size_t len)
{
	if (madvise((void *)start, len, MADV_DONTNEED) && mlocked_end_ours(start))
		madvise((void *)start, len, MADV_DONTNEED);
}

void *mlocked_reserve(size_t len)
{
	void *map = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	syscall(SYS_munlock, map, len);
	return map;
}

int mlocked_open(uintptr_t start, size_t len)
{
	syscall(SYS_munlock, start, len);
	return mprotect((void *)start, len, PROT_READ | PROT_WRITE) ? -ENOMEM : 0;
}
