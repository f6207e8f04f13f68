/* SPDX-License-Identifier: MIT */
/*
 * umm_mremap(). What devices use is registered, and so a mapping of its own to the kernel, which
 * moves and resizes one mapping at a time. Here all of a range is: its mappings move one by
 * one, to addresses that are reserved first, and the last one grows. What fails moves back.
 *
 * A mapping that is found may be two by the time it moves, because a device has begun to use a
 * part. Kernels since 6.17 then may have moved the first when they refuse the second. What arrived
 * is told from what is reserved: reserved addresses are shared, without access. (To take such a
 * mapping of the program's for reserved is harmless: it moves, or stays behind, a second time.)
 *
 * Each move is followed as that of any mremap(). So that nothing managed is left behind, all of it
 * is registered first: what no device has used yet, too.
 *
 * Locks: of contexts, gates and blocks, one after the other, while memory is registered; none while
 * it moves.
 */
#include <errno.h>
#include <sys/mman.h>

#include "ctx.h"
#include "hook.h"
#include "log.h"
#include "maps.h"
#include "notifier.h"
#include "util.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* Mappings on their way. */
struct move {
	uintptr_t from, to;
	size_t len;
	size_t grow; /* of the last one */
	int flags;   /* MREMAP_DONTUNMAP, or 0 */
	size_t done;
};

static int kernel_mremap(uintptr_t addr, size_t old_len, size_t len, int flags, uintptr_t *to)
{
	void *got = mremap((void *)addr, old_len, len, flags, (void *)*to);

	if (got == MAP_FAILED)
		return -errno;
	*to = (uintptr_t)got;
	return 0;
}

/* How long the mapping at `at` is, at most to end. */
static int mapped_length(uintptr_t at, uintptr_t end, size_t *len)
{
	struct maps_vma vma;
	int ret = maps_find(at, true, &vma);

	if (ret == -ENOENT || (!ret && vma.start > at))
		return -EFAULT;
	if (!ret)
		*len = min(vma.end, end) - at;
	return ret;
}

/* The last mapping of start .. end, which has no holes. */
static int mapped_last(uintptr_t start, uintptr_t end, struct umm_span *last)
{
	int ret = 0;

	for (uintptr_t at = start; at < end && !ret; at += last->len) {
		last->start = at;
		ret = mapped_length(at, end, &last->len);
	}
	return ret;
}

static uintptr_t reserve(uintptr_t at, size_t len, int how)
{
	void *got = mmap((void *)at, len, PROT_NONE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0);

	return got == MAP_FAILED ? 0 : (uintptr_t)got;
}

/* Somewhere, at the same distance from a block's start: what is huge stays so. */
static uintptr_t reserve_alike(uintptr_t addr, size_t len)
{
	uintptr_t window = reserve(0, len + UMM_BLOCK_SIZE, 0), at;

	if (!window)
		return 0;
	at = window + ((addr - window) & (UMM_BLOCK_SIZE - 1));
	if (at > window)
		munmap((void *)window, at - window);
	munmap((void *)(at + len), window + UMM_BLOCK_SIZE - at);
	return at;
}

/* How much from `at` on is not reserved any more. */
static size_t arrived(uintptr_t at, size_t len)
{
	struct maps_vma vma;

	if (maps_find(at, true, &vma) || vma.start > at ||
	    (vma.shared && !vma.read && !vma.write && !vma.exec))
		return 0;
	return min(vma.end - at, len);
}

/* One mapping, or what it was a moment ago. */
static int move_mapping(struct move *move, size_t len)
{
	uintptr_t at = move->from + move->done, to = move->to + move->done;
	size_t grow = move->done + len == move->len ? move->grow : 0, now;
	int ret;

	hook_run(HOOK_REMAPPING, at);
	ret = kernel_mremap(at, len, len + grow, move->flags | MREMAP_MAYMOVE | MREMAP_FIXED, &to);
	if (!ret) {
		move->done += len;
	} else if (ret == -EFAULT) {
		now = arrived(to, len);
		move->done += now;
		if (now || (!mapped_length(at, at + len, &now) && now < len))
			ret = 0;
	}
	return ret;
}

static int move_mappings(struct move *move)
{
	size_t len = 0;
	int ret = 0;

	while (!ret && move->done < move->len) {
		ret = mapped_length(move->from + move->done, move->from + move->len, &len);
		if (!ret)
			ret = move_mapping(move, len);
	}
	return ret;
}

/* With MREMAP_DONTUNMAP the old addresses are empty mappings, else perhaps somebody else's. */
static bool hold_old(const struct move *move)
{
	return move->flags & MREMAP_DONTUNMAP ||
	       reserve(move->from, move->done, MAP_FIXED_NOREPLACE);
}

static void move_back(const struct move *move)
{
	struct move back = { .from = move->to, .to = move->from, .len = move->done };

	if (move->done && (!hold_old(move) || move_mappings(&back)))
		log_error("mremap() of %#lx: %zu bytes are at %#lx and cannot move back",
			  (unsigned long)move->from, move->done - back.done,
			  (unsigned long)(move->to + back.done));
	munmap((void *)(move->to + move->done), move->len + move->grow - move->done);
}

static int register_blocks(struct umm_ctx *ctx, const struct umm_span *span)
{
	uintptr_t end = span->start + span->len;
	struct block *block;
	int ret = 0;

	for (uintptr_t at = span->start; at < end && !ret;
	     at = align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE) {
		rwlock_take_shared(&ctx->gate);
		block = block_get(ctx, at, &ret);
		if (block) {
			ret = block_register(ctx, block);
			block_put(ctx, block);
		}
		rwlock_drop_shared(&ctx->gate);
	}
	/* It is not managed any more. */
	return ret == -EFAULT ? 0 : ret;
}

/* Whatever context manages it. */
static int register_managed(uintptr_t start, uintptr_t end)
{
	struct umm_span span;
	int ret = 0;

	ctx_attach_lock();
	for (struct umm_ctx *ctx = ctx_list_first(); ctx && !ret; ctx = ctx->next) {
		if (ctx_is_forked(ctx))
			continue;
		for (uintptr_t at = start; !ret && region_next(ctx, at, end, &span);
		     at = span.start + span.len)
			ret = register_blocks(ctx, &span);
	}
	ctx_attach_unlock();
	return ret;
}

/* The new address is reserved. */
static int move_all(struct move *move)
{
	int ret = register_managed(move->from, move->from + move->len);

	if (!ret)
		ret = move_mappings(move);
	if (ret)
		move_back(move);
	return ret;
}

static int remap_fixed(struct move *move, size_t len)
{
	struct umm_span last = { 0 };
	int ret;

	if (!move->to || !is_aligned(move->to, UMM_PAGE_SIZE) || move->to > ADDRESS_END - len ||
	    (move->to < move->from + move->len && move->from < move->to + len))
		return -EINVAL;
	ret = mapped_last(move->from, move->from + min(move->len, len), &last);
	if (ret)
		return ret;
	/* What is cut off goes first, as in the kernel. */
	if (len < move->len && munmap((void *)(move->from + len), move->len - len))
		return -errno;
	move->grow = len > move->len ? len - move->len : 0;
	move->len = min(move->len, len);
	return reserve(move->to, len, MAP_FIXED) ? move_all(move) : -ENOMEM;
}

static int remap_anywhere(struct move *move, size_t len, int flags)
{
	struct umm_span last = { 0 };
	int ret = mapped_last(move->from, move->from + move->len, &last);

	if (ret)
		return ret;
	move->to = move->from;
	if (len < move->len)
		return munmap((void *)(move->from + len), move->len - len) ? -errno : 0;
	move->grow = len - move->len;
	if (!(flags & MREMAP_DONTUNMAP)) {
		ret = kernel_mremap(last.start, last.len, last.len + move->grow, 0, &last.start);
		if (ret != -ENOMEM || !(flags & MREMAP_MAYMOVE))
			return ret;
	}
	move->to = reserve_alike(move->from, len);
	return move->to ? move_all(move) : -ENOMEM;
}

int umm_mremap(void *addr, size_t old_len, size_t len, int flags, void **to)
{
	struct move move = {
		.from = (uintptr_t)addr,
		.len = align_up(old_len, UMM_PAGE_SIZE),
		.flags = flags & MREMAP_DONTUNMAP,
	};
	int ret;

	if (!to || !addr || !old_len || old_len > ADDRESS_END || !len || len > ADDRESS_END ||
	    !is_aligned(move.from, UMM_PAGE_SIZE) || move.from > ADDRESS_END - move.len)
		return -EINVAL;
	len = align_up(len, UMM_PAGE_SIZE);
	if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) ||
	    (flags & ~MREMAP_MAYMOVE && !(flags & MREMAP_MAYMOVE)) ||
	    (flags & MREMAP_DONTUNMAP && len != move.len))
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	move.to = (uintptr_t)*to;
	ret = flags & MREMAP_FIXED ? remap_fixed(&move, len) : remap_anywhere(&move, len, flags);
	if (!ret)
		*to = (void *)move.to;
	return ret;
}
