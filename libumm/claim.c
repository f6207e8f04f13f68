/* SPDX-License-Identifier: MIT */
/*
 * Pages of private file mappings that the program has written to are anonymous: nobody else sees
 * them, and so they migrate. But their mapping is a file's, which no userfaultfd guards against
 * faults, nor lets pages be moved out of. So the mapping of such pages is exchanged
 * for an anonymous one, guarded from the start, in one step; and what they hold is read
 * afterwards, by references that were taken before:
 *
 *	vmsplice()	a pipe refers to the pages, which the program still writes to
 *	mremap()	the new mapping, empty, takes the place of theirs: whoever touches it waits
 *	read()		the pipe gives what they held in the end
 *
 * From there on they are as pages that were taken from the CPU into staging. What the program
 * has not written to stays of the file, and MIRRORED.
 *
 * Invariants: a page is referred to by the pipe while it is exchanged, and is the process's alone
 * (MADV_POPULATE_WRITE; no fork happens while pages move out), so that no store can be to a copy of
 * it. What is in `staged` was exchanged; what is in `stay` was not.
 * Locks: the block's, for choosing pages; nothing is locked while they are exchanged.
 */
#include "claim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "event.h"
#include "exchange.h"
#include "hook.h"
#include "maps.h"
#include "pagemap.h"
#include "piece.h"
#include "pin.h"
#include "util.h"

/* What a pipe is asked for; it may be granted less. */
#define PIPE_BYTES (256 * UMM_PAGE_SIZE)

struct pages_pipe {
	int in, out;
	unsigned npages; /* that it can refer to */
};

static bool of_private_file(const struct maps_vma *vma)
{
	return !vma->anon && !vma->shared && !vma->special && !vma->huge && vma->read &&
	       vma->write && !vma->exec;
}

/* The mapping of page addr, if it is a private one of a file. */
static bool find_private_file(const struct umm_ctx *ctx, uintptr_t addr, struct maps_vma *vma)
{
	return !maps_find(addr, ctx->features & UMM_KERNEL_PROCMAP_QUERY, vma) &&
	       vma->start <= addr && of_private_file(vma);
}

bool claim_choose(struct umm_ctx *ctx, struct block *block, const uint64_t *pages, uint64_t *chosen)
{
	struct maps_vma vma = { 0 };
	struct pagemap_pages look;
	uintptr_t addr;

	if (pagemap_look(block->va, UMM_BLOCK_PAGES, ctx->features & UMM_KERNEL_PAGEMAP_SCAN,
			 &look))
		return false;
	for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(pages, i + 1)) {
		addr = page_addr(block, i);
		if (page_state(block, i) != PG_MIRRORED || !bit_test(look.present, i) ||
		    bit_test(look.file, i))
			continue;
		if (addr >= vma.end && !find_private_file(ctx, addr, &vma))
			continue;
		bit_set(chosen, i);
	}
	return bit_any(chosen);
}

static uintptr_t at(const struct piece *piece, unsigned i)
{
	return piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT);
}

static size_t bytes(unsigned npages)
{
	return (size_t)npages << UMM_PAGE_SHIFT;
}

static int pipe_open(struct pages_pipe *p)
{
	int fds[2], got;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	p->out = fds[0];
	p->in = fds[1];
	fcntl(p->in, F_SETPIPE_SZ, PIPE_BYTES);
	got = fcntl(p->in, F_GETPIPE_SZ);
	p->npages = max(got, (int)UMM_PAGE_SIZE) / UMM_PAGE_SIZE;
	return 0;
}

static void pipe_close(const struct pages_pipe *p)
{
	close(p->in);
	close(p->out);
}

/* Have the pipe refer to pages as they are in the program's mapping. */
static int pipe_refer(const struct pages_pipe *p, uintptr_t start, size_t len)
{
	struct iovec iov = { .iov_base = (void *)start, .iov_len = len };

	return vmsplice(p->in, &iov, 1, SPLICE_F_NONBLOCK) == (ssize_t)len ? 0 : -EBUSY;
}

/* Read what the pages hold by now, each into its host page. */
static int pipe_read(const struct pages_pipe *p, const struct piece *piece, unsigned first,
		     unsigned last)
{
	struct iovec iov;

	for (unsigned i = first; i < last; i++) {
		iov = (struct iovec){ .iov_base = (void *)piece->host[i],
				      .iov_len = UMM_PAGE_SIZE };
		if (readv(p->out, &iov, 1) != (ssize_t)UMM_PAGE_SIZE)
			return -EIO;
	}
	return 0;
}

/*
 * Did the program drop or unmap or move any of them? What it has done by now is known, where
 * files are watched; their mapping is looked at in any case.
 */
static bool any_left(const struct piece *piece, unsigned first, unsigned last)
{
	struct maps_vma vma;
	struct block *block;
	bool any =
		!find_private_file(piece->ctx, at(piece, first), &vma) || vma.end < at(piece, last);

	event_read_watches(piece->ctx);
	block = block_find(piece->ctx, piece->va);
	for (unsigned i = first; i < last; i++)
		any |= piece_lost_sight(piece, block, i);
	lock_drop(&block->lock);
	return any;
}

/* Pages of one mapping, not more than the pipe can refer to. 0, or -errno: they stay. */
static int claim_run(struct piece *piece, struct pages_pipe *p, unsigned first, unsigned last)
{
	size_t len = bytes(last - first);
	uint64_t map[BITMAP_WORDS] = { 0 };
	uintptr_t guarded;
	int ret;

	for (unsigned i = first; i < last; i++)
		bit_set(map, i);
	ret = piece_stage(piece, map);
	if (ret)
		return ret;
	guarded = exchange_make(piece->ctx, len, PROT_READ | PROT_WRITE);
	if (!guarded)
		return -ENOMEM;
	if (madvise((void *)at(piece, first), len, MADV_POPULATE_WRITE))
		ret = -errno;
	if (!ret)
		ret = pipe_refer(p, at(piece, first), len);
	hook_run(HOOK_CLAIMING, at(piece, first));
	if (!ret && any_left(piece, first, last))
		ret = -EBUSY;
	if (!ret)
		ret = exchange_put(piece->ctx, guarded, at(piece, first), len);
	if (!ret)
		return pipe_read(p, piece, first, last);
	exchange_drop(piece->ctx, guarded, len);
	return ret;
}

/* As many pages as go at once; returns where to go on. */
static unsigned claim_some(struct piece *piece, unsigned first, unsigned last)
{
	struct maps_vma vma;
	struct pages_pipe p = { .in = -1, .out = -1 };
	int ret;

	if (!find_private_file(piece->ctx, at(piece, first), &vma) || pipe_open(&p)) {
		bit_set(piece->stay, first);
		return first + 1;
	}
	last = min(last, first + p.npages);
	if (vma.end < at(piece, last))
		last = first + (unsigned)((vma.end - at(piece, first)) >> UMM_PAGE_SHIFT);
	ret = claim_run(piece, &p, first, last);
	pipe_close(&p);
	for (unsigned i = first; i < last && ret; i++)
		bit_set(ret == -EIO ? piece->lost : piece->stay, i);
	return last;
}

void claim_pages(struct piece *piece)
{
	uint64_t map[BITMAP_WORDS];
	unsigned first, last;

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		map[w] = piece->claimed[w] & ~piece->stay[w];
	for_each_run(map, first, last) for (unsigned from = first; from < last;) from =
		claim_some(piece, from, last);
}
