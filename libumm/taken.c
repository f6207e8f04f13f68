/* SPDX-License-Identifier: MIT */
/*
 * Pages are taken by their addresses, and the kernel says only afterwards that a mapping has moved
 * meanwhile: then what was taken may be the page that has arrived there. Which one it is shows by
 * what is not where the books have it, once no message is on its way:
 *
 *	the piece's page has moved	and is at its new address	another's was taken
 *					and is not			its own was
 *	it is unmapped			another has arrived, is there	its own was
 *					has arrived, is not there	that one was
 *
 * The program goes on as soon as its messages are read, and may move, drop or unmap the other page
 * again before it is back. Its thread cannot miss it, for the gate is closed; but it can say where
 * it is to be. So pages that arrive are followed until it is settled. That something has left the
 * piece's addresses the context's own descriptor tells; what arrives there, the mark may.
 *
 * Memory that is not managed, or that no device has used, has no books: what is not there is taken
 * to have been there.
 *
 * Locks: the gate, exclusive; a block's, for a look.
 */
#include "taken.h"

#include <errno.h>
#include <sys/mman.h>

#include "ctx.h"
#include "event.h"
#include "log.h"
#include "pagemap.h"
#include "piece.h"
#include "take.h"
#include "util.h"

static bool is_there(const struct umm_ctx *ctx, uintptr_t addr)
{
	uint64_t populated = 1;

	return pagemap_populated(addr, 1, ctx->features & UMM_KERNEL_PAGEMAP_SCAN, &populated) ||
	       populated;
}

/* Was the piece's own page that is now at addr taken with the others? */
static bool is_among(const struct taken *taken, uintptr_t addr)
{
	const struct piece *piece = taken->piece;

	for (unsigned i = next_going(piece, taken->map, taken->first); i < taken->last;
	     i = next_going(piece, taken->map, i + 1))
		if (bit_test(piece->left, i) && piece->where[i] == addr)
			return true;
	return false;
}

/* Is something to be there, as the books have it? */
static bool ought_to_be_there(const struct taken *taken, uintptr_t addr)
{
	struct umm_ctx *ctx = taken->piece->ctx;
	struct block *block = block_find(ctx, addr);
	unsigned i = page_index(addr);
	bool ought = true;

	if (!block)
		return true;
	switch (page_state(block, i)) {
	case PG_UNMANAGED:
	case PG_NATIVE:
	case PG_COHERENT:
		break;
	case PG_SYSTEM:
		/* The program is dropping it: that it is not there is as it should be. */
		ought = !(block->page[i] & PG_DROPPING);
		break;
	case PG_MIGRATING:
		ought = !(block->page[i] & PG_DISCARD) && piece_expects_mapped(ctx, addr) &&
			!is_among(taken, addr);
		break;
	default:
		ought = false;
		break;
	}
	lock_drop(&block->lock);
	return ought;
}

/* What was taken as page i, which has left its address, is not its own. */
static bool is_others(const struct taken *taken, unsigned i)
{
	const struct piece *piece = taken->piece;

	if (piece->where[i])
		return is_there(piece->ctx, piece->where[i]);
	return taken->other[i] && ought_to_be_there(taken, taken->other[i]) &&
	       !is_there(piece->ctx, taken->other[i]);
}

/* Into the mapping that has arrived there, whichever descriptor has it. */
static int give_back(const struct umm_ctx *ctx, uintptr_t to, uintptr_t source)
{
	int ret = uffd_move(ctx->uffd, to, source, UMM_PAGE_SIZE, true, NULL);

	if (ret == -EINVAL && ctx->mark >= 0)
		ret = uffd_move(ctx->mark, to, source, UMM_PAGE_SIZE, true, NULL);
	return ret;
}

/* 0, -EAGAIN: a message has to be read first, or why it could not go back. */
static int sort_out(const struct taken *taken, unsigned i)
{
	struct piece *piece = taken->piece;
	uintptr_t source = take_target(piece, taken->place, i), to = taken->other[i];
	bool others = is_others(taken, i);
	int ret = -ENOENT;

	if (event_is_changing(piece->ctx))
		return -EAGAIN;
	if (!others)
		return 0;
	if (to)
		ret = give_back(piece->ctx, to, source);
	if (ret == -EAGAIN)
		return ret;
	bit_set(piece->stay, i);
	if (ret)
		madvise((void *)source, UMM_PAGE_SIZE, MADV_DONTNEED);
	/* Dropped, or unmapped. */
	return ret == -ENOENT ? 0 : ret;
}

void taken_sort_out(struct taken *taken)
{
	struct piece *piece = taken->piece;
	struct umm_ctx *ctx = piece->ctx;
	unsigned i = next_going(piece, taken->map, taken->first);
	int ret;

	ctx->taken = taken;
	while (i < taken->last) {
		while (event_is_changing(ctx))
			event_read_ahead(ctx);
		ret = bit_test(piece->left, i) ? sort_out(taken, i) : 0;
		if (ret == -EAGAIN)
			continue;
		if (ret)
			log_error("page at %#lx is lost: %s", (unsigned long)taken->other[i],
				  umm_strerror(ret));
		i = next_going(piece, taken->map, i + 1);
	}
	ctx->taken = NULL;
}

void taken_follow(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct taken *taken = ctx->taken;
	size_t len = info->end - info->addr;
	const struct piece *piece;
	uintptr_t at;

	if (!taken)
		return;
	piece = taken->piece;
	for (unsigned i = next_going(piece, taken->map, taken->first); i < taken->last;
	     i = next_going(piece, taken->map, i + 1)) {
		at = piece_at(piece, i);
		if (taken->other[i] - info->addr < len)
			taken->other[i] += info->to - info->addr;
		else if (!taken->other[i] && bit_test(piece->left, i) && at - info->to < len &&
			 piece->where[i] != at)
			taken->other[i] = at;
	}
}

void taken_drop(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct taken *taken = ctx->taken;

	for (unsigned i = 0; taken && i < UMM_BLOCK_PAGES; i++)
		if (taken->other[i] - start < end - start)
			taken->other[i] = 0;
}
