/* SPDX-License-Identifier: MIT */
/*
 * mmap() and its sisters, for the whole program. Large private anonymous mappings enter the books
 * of space.h; everything else goes straight to the kernel.
 *
 * A mapping without access is only reserved, until mprotect() makes memory of it. munmap(),
 * mremap(), madvise() and mprotect() need no help where libumm manages the memory: the kernel
 * tells it; they wait for the engine where it is at work. But mremap() refuses a range that is
 * several mappings to the kernel, as blocks are that were on a device: umm_mremap() resizes and
 * moves them. What the program itself has made several mappings of is refused as ever.
 *
 * Calls of libumm's own code and of internal threads are not looked at. The C library's stacks and
 * malloc arenas never come here: it calls the kernel itself.
 *
 * Locks: those of space.c, over the system call that goes with a change of its books.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include <umm.h>

#include "engine.h"
#include "grant.h"
#include "layout.h"
#include "mapping.h"
#include "raw.h"
#include "shim.h"
#include "sites.h"
#include "space.h"
#include "state.h"

#define PAGE  ((size_t)4096)
#define BLOCK ((size_t)2 << 20)

static size_t whole_pages(size_t len)
{
	return (len + PAGE - 1) & ~(PAGE - 1);
}

/* The program's own memory, as far as we are concerned. */
static bool is_ours_to_see(const void *caller)
{
	return shim_is_armed() && thread_mode != THREAD_INTERNAL && !shim_is_internal_code(caller);
}

static bool is_manageable(size_t len, int flags)
{
	const int kind = MAP_PRIVATE | MAP_ANONYMOUS;
	const int never = MAP_SHARED | MAP_GROWSDOWN | MAP_STACK | MAP_LOCKED | MAP_HUGETLB;

	return (flags & kind) == kind && !(flags & never) && len >= shim_settings()->mmap_threshold;
}

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	bool manageable = is_manageable(len, flags);
	bool is_fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	struct space_change change;
	void *start;

	/* It would all be there before anybody could make room. */
	if (manageable && engine_is_near(len))
		flags &= ~MAP_POPULATE;
	if (!manageable && (!is_fixed || space_is_foreign((uintptr_t)addr, whole_pages(len))))
		return raw_mmap(addr, len, prot, flags, fd, offset);

	space_change_begin(&change, is_fixed ? (uintptr_t)addr : 0,
			   is_fixed ? whole_pages(len) : 0);
	start = raw_mmap(addr, len, prot, flags, fd, offset);
	if (start != MAP_FAILED && manageable)
		space_add_locked((uintptr_t)start, whole_pages(len),
				 prot == PROT_NONE ?
					 SPACE_RESERVED :
					 grant_new_locked((uintptr_t)start, whole_pages(len)));
	else if (start != MAP_FAILED)
		space_remove_locked((uintptr_t)start, whole_pages(len));
	space_change_end(&change);
	if (start != MAP_FAILED && manageable)
		engine_consider();
	return start;
}

/*
 * Mappings of threads that the program does not know of stay out of its way: a program of one
 * thread may unmap something and rely on the hole being there a moment later.
 */
static void *map_aside(size_t len, int prot, int flags, int fd, off_t offset)
{
	static _Atomic uintptr_t next = (uintptr_t)1 << 45;
	uintptr_t hint = atomic_fetch_add(&next, (len + 2 * BLOCK - 1) & ~(BLOCK - 1));

	return raw_mmap((void *)hint, len, prot, flags, fd, offset);
}

void *mapping_map(const struct mapping_wish *wish, const void *caller)
{
	void *addr = wish->addr;
	size_t len = wish->len;

	if (shim_is_armed() && is_ours_to_see(caller)) {
		addr = map(addr, len, wish->prot, wish->flags, wish->fd, wish->offset);
		if (addr != MAP_FAILED && is_manageable(len, wish->flags))
			sites_note(addr, len, caller);
		return addr;
	}
	if (addr || !shim_is_armed())
		return raw_mmap(addr, len, wish->prot, wish->flags, wish->fd, wish->offset);
	return map_aside(len, wish->prot, wish->flags, wish->fd, wish->offset);
}

PRELOAD_API void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	struct mapping_wish wish = { addr, len, prot, flags, fd, offset };

	return mapping_map(&wish, __builtin_return_address(0));
}

PRELOAD_API void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
	__attribute__((alias("mmap")));

int mapping_unmap(void *addr, size_t len, const void *caller)
{
	struct space_change change;
	int ret;

	if (!is_ours_to_see(caller) || space_is_foreign((uintptr_t)addr, whole_pages(len)))
		return raw_munmap(addr, len);
	space_change_begin(&change, (uintptr_t)addr, whole_pages(len));
	ret = raw_munmap(addr, len);
	if (!ret)
		space_remove_locked((uintptr_t)addr, whole_pages(len));
	space_change_end(&change);
	return ret;
}

PRELOAD_API int munmap(void *addr, size_t len)
{
	return mapping_unmap(addr, len, __builtin_return_address(0));
}

static bool any_withheld_locked(uintptr_t start, size_t len)
{
	struct space_range range;

	return space_next_locked(start, 1 << SPACE_WITHHELD, &range) && range.start < start + len;
}

/* What new memory is that a mapping grows by, whose last page was at @last. */
static enum space_kind kind_behind_locked(uintptr_t last, uintptr_t start, size_t len)
{
	struct space_range range;

	if (!space_find_locked(last, &range))
		return SPACE_NATIVE;
	if (range.kind == SPACE_RESERVED || range.kind == SPACE_PINNED)
		return range.kind;
	if (SPACE_FILLED >> range.kind & 1)
		return SPACE_GROWN;
	/* Where it did not move it is registered as what is before it. */
	if (range.kind == SPACE_WITHHELD && last + PAGE == start)
		return SPACE_WITHHELD;
	return grant_new_locked(start, len);
}

/* The books of @len bytes go elsewhere: libumm follows what it manages, withheld memory is not. */
static void books_move_locked(uintptr_t from, uintptr_t to, size_t len)
{
	const unsigned kinds = SPACE_COUNTED | 1 << SPACE_RESERVED;
	struct space_range part;

	space_remove_locked(to, len);
	for (uintptr_t at = from; space_next_locked(at, kinds, &part) && part.start < from + len;
	     at = part.end) {
		part.end = part.end < from + len ? part.end : from + len;
		space_add_locked(to + (part.start - from), part.end - part.start,
				 part.kind == SPACE_WITHHELD ? SPACE_NATIVE : part.kind);
	}
}

/* What stays behind empty (MREMAP_DONTUNMAP) is not libumm's, and not locked. */
static void books_leave_locked(uintptr_t start, size_t len)
{
	space_turn_locked(start, len, SPACE_MANAGED, SPACE_NATIVE);
	space_turn_locked(start, len, SPACE_GROWN, SPACE_NATIVE);
	space_turn_locked(start, len, SPACE_PINNED, SPACE_NATIVE);
}

/* @addr, of @old_len bytes, is @to now, of @len. */
static void books_remap_locked(uintptr_t addr, size_t old_len, uintptr_t to, size_t len,
			       bool leaves)
{
	size_t kept = old_len < len ? old_len : len;
	struct space_range range;
	bool known = space_find_locked(addr, &range);
	enum space_kind behind = SPACE_NATIVE;

	if (known && len > old_len)
		behind = kind_behind_locked(addr + old_len - 1, to + old_len, len - old_len);
	if (to != addr)
		books_move_locked(addr, to, kept);
	if (leaves)
		books_leave_locked(addr, old_len);
	else if (to != addr)
		space_remove_locked(addr, old_len);
	else if (len < old_len)
		space_remove_locked(addr + len, old_len - len);
	if (known && len > old_len)
		space_add_locked(to + old_len, len - old_len, behind);
	else if (len > old_len)
		space_remove_locked(to + old_len, len - old_len);
}

/* A stretch without holes moves or is resized. Where it was withheld it is let go of. */
static void *stretch_remap_locked(const struct mapping_move *move, bool several)
{
	uintptr_t addr = (uintptr_t)move->addr;
	size_t kept = move->old_len < move->len ? move->old_len : move->len;
	bool withheld = any_withheld_locked(addr, move->old_len);
	enum thread_mode mode = thread_mode;
	void *to = move->to;
	int ret;

	if (several) {
		/* A program's own mremap(), which libumm then calls, may end here again. */
		thread_mode = THREAD_INTERNAL;
		ret = umm_mremap(move->addr, move->old_len, move->len, move->flags, &to);
		thread_mode = mode;
		if (ret) {
			errno = -ret;
			return MAP_FAILED;
		}
	} else {
		to = raw_mremap(move->addr, move->old_len, move->len, move->flags, to);
	}
	if (to == MAP_FAILED)
		return to;
	books_remap_locked(addr, move->old_len, (uintptr_t)to, move->len,
			   move->flags & MREMAP_DONTUNMAP);
	if (withheld && to != move->addr)
		grant_moved_locked((uintptr_t)to, kept);
	return to;
}

/* Several mappings of the program's go to a given address, as kernels since 6.17 do it. */
static void *stretches_move_locked(const struct mapping_move *move, const struct layout *first)
{
	uintptr_t start = (uintptr_t)move->addr, end = start + move->old_len;
	struct layout layout = *first;

	/* The last one may go on behind the end. */
	while (layout.nmappings && layout.start < end) {
		struct mapping_move part = *move;

		part.addr = (void *)layout.start;
		part.old_len = part.len = layout.hole - layout.start;
		part.to = (char *)move->to + (layout.start - start);
		if (stretch_remap_locked(&part, true) == MAP_FAILED)
			return MAP_FAILED;
		if (!layout_read(layout.hole, end, &layout))
			break;
	}
	return move->to;
}

/* What mremap() refuses without a look at memory. */
static bool is_sound(const struct mapping_move *move)
{
	const int elsewhere = MREMAP_FIXED | MREMAP_DONTUNMAP;
	uintptr_t from = (uintptr_t)move->addr, to = (uintptr_t)move->to;

	if (move->flags & ~(MREMAP_MAYMOVE | elsewhere) || from % PAGE || !move->old_len ||
	    !move->len || from + move->old_len < from)
		return false;
	if (!(move->flags & elsewhere))
		return true;
	return move->flags & MREMAP_MAYMOVE && !(to % PAGE) && to + move->len >= to &&
	       (to >= from + move->old_len || from >= to + move->len) &&
	       (!(move->flags & MREMAP_DONTUNMAP) || move->len == move->old_len);
}

/*
 * Move or resize what the engine may have cut into several mappings. As it was before, one mapping
 * could be moved and resized; of several of the program's own all could go, as they are, to a
 * given address, by newer kernels.
 */
static void *remap_cut_locked(const struct mapping_move *move)
{
	uintptr_t start = (uintptr_t)move->addr;
	size_t kept = move->old_len < move->len ? move->old_len : move->len;
	bool only_moves = move->flags & MREMAP_FIXED && move->old_len == move->len;
	struct layout layout;

	/* Without an answer: as if the program had never cut it. */
	if (!layout_read(start, start + kept, &layout))
		return stretch_remap_locked(move, true);
	if (layout.nmappings == 1 && layout.start == start && layout.hole == start + kept)
		return stretch_remap_locked(move, false);
	if (layout.start == start && layout.hole == start + kept && layout.alike)
		return stretch_remap_locked(move, true);
	if (layout.start == start && only_moves && layout_may_be_several())
		return stretches_move_locked(move, &layout);
	errno = EFAULT;
	return MAP_FAILED;
}

static bool any_counted_locked(uintptr_t start, size_t len)
{
	struct space_range range;

	return space_next_locked(start, SPACE_COUNTED, &range) && range.start < start + len;
}

/*
 * Move or resize what the books have at @addr. Of several mappings the kernel may have moved some
 * to a given address when it refuses others: so that is looked at before.
 */
static void *remap(const struct mapping_move *move)
{
	struct space_change change;
	int error = errno;
	void *start;
	bool ours;

	space_change_begin(&change, 0, SIZE_MAX);
	ours = state_now() == STATE_RUNNING && is_sound(move) &&
	       any_counted_locked((uintptr_t)move->addr, move->old_len);
	if (ours && move->flags & MREMAP_FIXED) {
		start = remap_cut_locked(move);
	} else {
		start = stretch_remap_locked(move, false);
		if (start == MAP_FAILED && errno == EFAULT && ours)
			start = remap_cut_locked(move);
	}
	space_change_end(&change);
	if (start != MAP_FAILED)
		errno = error;
	return start;
}

void *mapping_remap(const struct mapping_move *move, const void *caller)
{
	struct mapping_move whole = *move;

	whole.old_len = whole_pages(move->old_len);
	whole.len = whole_pages(move->len);
	if (!is_ours_to_see(caller) || (space_is_foreign((uintptr_t)move->addr, whole.old_len) &&
					!(move->flags & MREMAP_FIXED)))
		return raw_mremap(move->addr, move->old_len, move->len, move->flags, move->to);
	return remap(&whole);
}

PRELOAD_API void *mremap(void *addr, size_t old_len, size_t len, int flags, ...)
{
	struct mapping_move move = { addr, old_len, len, flags, NULL };
	va_list args;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(args, flags);
		move.to = va_arg(args, void *);
		va_end(args);
	}
	return mapping_remap(&move, __builtin_return_address(0));
}

/*
 * The kernel tells libumm what the program gives back; but pages that are about to leave, and are
 * given back meanwhile, would count as having left.
 */
int mapping_advise(void *addr, size_t len, int advice, const void *caller)
{
	struct space_change change;
	int ret;

	if ((advice != MADV_DONTNEED && advice != MADV_FREE && advice != MADV_REMOVE) ||
	    !is_ours_to_see(caller) || space_is_foreign((uintptr_t)addr, whole_pages(len)))
		return raw_madvise(addr, len, advice);
	space_change_begin(&change, (uintptr_t)addr, whole_pages(len));
	ret = raw_madvise(addr, len, advice);
	space_change_end(&change);
	return ret;
}

PRELOAD_API int madvise(void *addr, size_t len, int advice)
{
	return mapping_advise(addr, len, advice, __builtin_return_address(0));
}

int mapping_protect(void *addr, size_t len, int prot, const void *caller)
{
	struct space_change change;
	bool more = false;
	int ret;

	if (!is_ours_to_see(caller) || prot == PROT_NONE ||
	    space_is_foreign((uintptr_t)addr, whole_pages(len)))
		return raw_mprotect(addr, len, prot);
	space_change_begin(&change, (uintptr_t)addr, whole_pages(len));
	ret = raw_mprotect(addr, len, prot);
	if (!ret)
		more = grant_reserved_locked((uintptr_t)addr, whole_pages(len));
	space_change_end(&change);
	if (more)
		engine_consider();
	return ret;
}

PRELOAD_API int mprotect(void *addr, size_t len, int prot)
{
	return mapping_protect(addr, len, prot, __builtin_return_address(0));
}
