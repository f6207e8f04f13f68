/* SPDX-License-Identifier: MIT */
/*
 * mlock() and its sisters, for the whole program: what it locks stays in the host, whatever the
 * limit is. The kernel keeps locked pages in memory, but would let libumm move them away.
 *
 * Locked memory is of a kind of its own in the books: it counts whole, and the engine never looks
 * at it. The kernel locks first, for that touches the pages, and some of them may have to be
 * brought home or handed out by the engine; then it is entered. What the engine put away
 * in between comes home by locking once more, which touches the pages again.
 *
 * mlockall() touches only what the books have. The kernel's would touch all there is, which
 * includes the windows that libumm moves pages through, and memory of devices: the rest is locked
 * when it is touched.
 *
 * Locks: those of space.c, never over a call that touches pages.
 */
#include <stdint.h>
#include <sys/mman.h>

#include "grant.h"
#include "mapping.h"
#include "raw.h"
#include "shim.h"
#include "space.h"

#define PAGE ((uintptr_t)4096)

static bool is_ours_to_see(const void *caller)
{
	return shim_is_armed() && thread_mode != THREAD_INTERNAL && !shim_is_internal_code(caller);
}

static void pin(uintptr_t start, size_t len)
{
	struct space_change change;

	space_change_begin(&change, start, len);
	grant_lift_locked(start, len);
	space_turn_locked(start, len, SPACE_NATIVE, SPACE_PINNED);
	space_turn_locked(start, len, SPACE_MANAGED, SPACE_PINNED);
	space_turn_locked(start, len, SPACE_GROWN, SPACE_PINNED);
	space_change_end(&change);
}

/* Native as far as the books know: libumm remembers what it managed of it. */
static void unpin(uintptr_t start, size_t len)
{
	struct space_change change;

	space_change_begin(&change, start, len);
	space_turn_locked(start, len, SPACE_PINNED, SPACE_NATIVE);
	space_change_end(&change);
}

int lock_range(const void *addr, size_t len, unsigned flags, const void *caller)
{
	uintptr_t start = (uintptr_t)addr & ~(PAGE - 1);
	uintptr_t end = ((uintptr_t)addr + len + PAGE - 1) & ~(PAGE - 1);
	int ret = raw_mlock2(addr, len, flags);

	if (ret || !is_ours_to_see(caller) || space_is_foreign(start, end - start))
		return ret;
	pin(start, end - start);
	return raw_mlock2(addr, len, flags);
}

PRELOAD_API int mlock(const void *addr, size_t len)
{
	return lock_range(addr, len, 0, __builtin_return_address(0));
}

PRELOAD_API int mlock2(const void *addr, size_t len, unsigned flags)
{
	return lock_range(addr, len, flags, __builtin_return_address(0));
}

int lock_range_end(const void *addr, size_t len, const void *caller)
{
	uintptr_t start = (uintptr_t)addr & ~(PAGE - 1);
	uintptr_t end = ((uintptr_t)addr + len + PAGE - 1) & ~(PAGE - 1);
	int ret = raw_munlock(addr, len);

	if (!ret && is_ours_to_see(caller) && !space_is_foreign(start, end - start))
		unpin(start, end - start);
	return ret;
}

PRELOAD_API int munlock(const void *addr, size_t len)
{
	return lock_range_end(addr, len, __builtin_return_address(0));
}

static void touch_pinned(void)
{
	struct space_range range;

	for (uintptr_t at = 0; space_next(at, 1 << SPACE_PINNED, &range); at = range.end)
		raw_mlock2((void *)range.start, range.end - range.start, 0);
}

int lock_all(int flags, const void *caller)
{
	int ret;

	if (!is_ours_to_see(caller))
		return raw_mlockall(flags);
	ret = raw_mlockall(flags | MCL_ONFAULT);
	if (ret)
		return ret;
	space_pin_new(flags & MCL_FUTURE);
	if (!(flags & MCL_CURRENT))
		return 0;
	pin(0, UINTPTR_MAX);
	if (!(flags & MCL_ONFAULT))
		touch_pinned();
	return 0;
}

PRELOAD_API int mlockall(int flags)
{
	return lock_all(flags, __builtin_return_address(0));
}

int lock_all_end(const void *caller)
{
	int ret = raw_munlockall();

	if (ret || !is_ours_to_see(caller))
		return ret;
	space_pin_new(false);
	unpin(0, UINTPTR_MAX);
	return 0;
}

PRELOAD_API int munlockall(void)
{
	return lock_all_end(__builtin_return_address(0));
}
