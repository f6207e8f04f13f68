/* SPDX-License-Identifier: MIT */
/*
 * Taking pages from the CPU, so that their data can be read while nobody changes it.
 *
 * The top rung is UFFDIO_MOVE: one atomic step that unmaps a page, keeps its data in
 * a staging slot, and refuses one that others hold pinned (EBUSY) or share after
 * a fork; MADV_POPULATE_WRITE makes the latter ours, then it moves too.
 *
 * The lower rung serves kernels without MOVE, and pages whose mapping refuses it
 * (read-only, locked): write-protect, then mremap(MREMAP_DONTUNMAP) into address space of our
 * own, which takes the pages and leaves the mapping. Its message says where the pages went, and
 * so is known for ours, whatever the program does to its mappings meanwhile.
 *
 * Pages to be duplicated are write-protected and read in place, by process_vm_readv(), which
 * says EFAULT where a plain load would be a SIGSEGV. While pages are write-protected or read they
 * are marked COLLECT: if the program drops one meanwhile and touches it again, its fault is filled
 * with zeroes at once (the reader itself may be what waits for it), and the page stays
 * with the CPU. All pages of a piece that reads are marked until it has read the last, and keep
 * the mark when their mapping moves: so no reader ever waits for its own piece, nor for another
 * reader, at whatever address the program lets them meet.
 *
 * Invariants: what is in `slotted` or `apart` cannot be changed by the CPU any more; what is
 * in `stay` is as mapped as before.
 * Locks: the block's, for marks only; nothing is locked where the kernel may fault or
 * deliver an event.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "claim.h"
#include "event.h"
#include "log.h"
#include "maps.h"
#include "pagemap.h"
#include "piece.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

/* A page that is shared since a fork is ours after one; the kernel's own short holds pass. */
#define BUSY_TRIES 4

static uintptr_t at(const struct piece *piece, unsigned i)
{
	return piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT);
}

static size_t bytes(unsigned npages)
{
	return (size_t)npages << UMM_PAGE_SHIFT;
}

static void set_run(uint64_t *map, unsigned first, unsigned last)
{
	for (unsigned i = first; i < last; i++)
		bit_set(map, i);
}

/* From first on, the next run of pages that do not stay: where it begins, and ends. */
static unsigned next_run(const struct piece *piece, unsigned first, unsigned last, unsigned *end)
{
	while (first < last && bit_test(piece->stay, first))
		first++;
	*end = first;
	while (*end < last && !bit_test(piece->stay, *end))
		(*end)++;
	return first;
}

#define for_each_going(piece, first, last, from, to)                            \
	for ((from) = next_run((piece), (first), (last), &(to)); (from) < (to); \
	     (from) = next_run((piece), (to), (last), &(to)))

/*
 * Mark pages that are about to be write-protected or touched in place. At the address of one that
 * has left there may be another piece's by now: it stays out of what follows.
 */
static void collect_begin(struct piece *piece, unsigned first, unsigned last)
{
	struct block *block = block_find(piece->ctx, piece->va);

	for (unsigned i = first; i < last; i++) {
		if (bit_test(piece->left, i))
			bit_set(piece->stay, i);
		else
			block->page[i] |= PG_COLLECT;
	}
	lock_drop(&block->lock);
}

/* From here on a missing fault waits again. Pages refilled meanwhile stay with the CPU. */
static void collect_end(struct piece *piece, unsigned first, unsigned last)
{
	struct block *block = block_find(piece->ctx, piece->va);

	for (unsigned i = first; i < last; i++) {
		if (!bit_test(piece->left, i))
			block->page[i] &= (uint16_t)~PG_COLLECT;
		/* Dropped before it was write-protected, perhaps: what is there now counts. */
		if (piece_lost_sight(piece, block, i) || block->page[i] & PG_REFILLED)
			bit_set(piece->stay, i);
	}
	lock_drop(&block->lock);
}

/* Protect those of first .. last that are still where they were; *next is where it stopped. */
static int protect_some(struct piece *piece, unsigned first, unsigned last, bool on, unsigned *next)
{
	struct umm_ctx *ctx = piece->ctx;
	int ret = 0;

	rwlock_take_shared(&ctx->gate);
	while (first < last && bit_test(piece->left, first))
		first++;
	for (*next = first; *next < last && !bit_test(piece->left, *next);)
		(*next)++;
	/* Nobody is woken here: the commit does it, when the page is where it belongs. */
	if (first < *next)
		ret = uffd_writeprotect(ctx->uffd, at(piece, first), bytes(*next - first), on,
					false);
	rwlock_drop_shared(&ctx->gate);
	return ret;
}

static int protect(struct piece *piece, unsigned first, unsigned last, bool on)
{
	unsigned next;
	int ret = 0;

	while (first < last && !ret) {
		ret = protect_some(piece, first, last, on, &next);
		if (ret == -EAGAIN) {
			event_pump(piece->ctx);
			ret = 0;
		} else {
			first = next;
		}
	}
	return ret;
}

/*
 * Taking pages works on addresses, and nothing keeps the program from unmapping or moving them, and
 * its next mmap() from getting the same ones. While an event is unread the kernel says so; so ask,
 * read what there is, and leave out pages that went away. True: there are some. What happens after
 * this look and before the pages are moved is the program's race: see docs/design.md.
 */
static bool leave_left(struct piece *piece, unsigned first, unsigned last)
{
	struct block *block;
	bool any = false;

	while (uffd_is_changing(piece->ctx->uffd))
		event_pump(piece->ctx);
	block = block_find(piece->ctx, piece->va);
	for (unsigned i = first; i < last; i = bit_next(piece->all, i + 1)) {
		if (!piece_lost_sight(piece, block, i))
			continue;
		bit_set(piece->stay, i);
		any = true;
	}
	lock_drop(&block->lock);
	return any;
}

/* Read pages in place, as many at a time as lie together; those that cannot be read stay. */
static void read_run(struct piece *piece, unsigned first, unsigned last)
{
	struct iovec local, remote;
	unsigned next;
	ssize_t got;

	for (; first < last; first = next) {
		next = first + 1;
		while (next < last && piece->host[next] == piece->host[first] + bytes(next - first))
			next++;
		local = (struct iovec){ (void *)piece->host[first], bytes(next - first) };
		remote = (struct iovec){ (void *)at(piece, first), bytes(next - first) };
		got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
		if (got == (ssize_t)bytes(next - first))
			continue;
		next = first + (unsigned)(max(got, (ssize_t)0) >> UMM_PAGE_SHIFT);
		bit_set(piece->stay, next++);
	}
}

/* Where the mapping of page first ends, at most at last. */
static unsigned mapping_end(const struct piece *piece, unsigned first, unsigned last)
{
	bool query = piece->ctx->features & UMM_KERNEL_PROCMAP_QUERY;
	struct maps_vma vma;

	if (maps_find(at(piece, first), query, &vma) || vma.end >= at(piece, last))
		return last;
	return first + (unsigned)((vma.end - at(piece, first)) >> UMM_PAGE_SHIFT);
}

/* Let pages that stay be written again, unless other copies of them exist. */
static void unprotect_stayed(struct piece *piece, unsigned first, unsigned last)
{
	for (unsigned i = first; i < last; i++)
		if (bit_test(piece->stay, i) && !bit_test(piece->duplicated, i))
			protect(piece, i, i + 1, false);
}

/* Address space for pages that are taken with their mapping. */
static uintptr_t scratch_get(struct piece *piece)
{
	uintptr_t base;
	void *map;

	if (piece->scratch)
		return piece->scratch;
	map = mmap(NULL, 2 * UMM_BLOCK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		return 0;
	/* Aligned, so that huge pages move whole. */
	base = align_up((uintptr_t)map, UMM_BLOCK_SIZE);
	if (base > (uintptr_t)map)
		munmap(map, base - (uintptr_t)map);
	if (base - (uintptr_t)map < UMM_BLOCK_SIZE)
		munmap((void *)(base + UMM_BLOCK_SIZE), UMM_BLOCK_SIZE - (base - (uintptr_t)map));
	piece->scratch = base;
	return base;
}

/* Take pages of one mapping, and leave the mapping: one step, and one message, for all of them. */
static int remap_pages(struct piece *piece, unsigned first, unsigned last)
{
	uintptr_t scratch = scratch_get(piece);
	struct expect expect = {
		.start = at(piece, first),
		.end = at(piece, last),
		.to = scratch + bytes(first),
	};
	uint64_t present[BITMAP_WORDS];
	void *map;

	if (!scratch)
		return -ENOMEM;
	event_expect(piece->ctx, &expect);
	map = mremap((void *)at(piece, first), bytes(last - first), bytes(last - first),
		     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (void *)expect.to);
	event_expect_end(piece->ctx, &expect);
	if (map == MAP_FAILED)
		return -errno;
	/* Both are inherited from the program's mapping. */
	uffd_unregister(piece->ctx->uffd, expect.to, bytes(last - first));
	mprotect(map, bytes(last - first), PROT_READ | PROT_WRITE);
	/* The program may have dropped pages, or moved them away, a moment before. */
	if (pagemap_populated(expect.to, last - first,
			      piece->ctx->features & UMM_KERNEL_PAGEMAP_SCAN, present))
		memset(present, 0xff, sizeof(present));
	for (unsigned i = first; i < last; i++)
		bit_set(bit_test(present, i - first) ? piece->apart : piece->stay, i);
	return 0;
}

/* The same for pages of several mappings. What cannot be taken stays. */
static void take_apart(struct piece *piece, unsigned first, unsigned last)
{
	unsigned end;

	for (; (first = next_run(piece, first, last, &end)) < last; first = end) {
		end = mapping_end(piece, first, end);
		if (leave_left(piece, first, end))
			end = first;
		else if (remap_pages(piece, first, end))
			set_run(piece->stay, first, end);
	}
}

/* There is no such mapping any more, and nobody has told: whatever the books say ends here. */
static void forget_untold(struct piece *piece, unsigned i)
{
	struct umm_ctx *ctx = piece->ctx;

	rwlock_take(&ctx->gate);
	if (!bit_test(piece->left, i)) {
		log_warning("the mapping at %#lx went away unseen", (unsigned long)at(piece, i));
		event_clear(ctx, at(piece, i), at(piece, i + 1), true);
	}
	rwlock_drop(&ctx->gate);
}

/*
 * Is the page not here because its mapping moved, or is gone? Asking anything of the userfaultfd
 * makes sure that what the program has done is known.
 */
static bool moved_away(struct piece *piece, unsigned i)
{
	bool gone = protect(piece, i, i + 1, false) == -ENOENT, left;
	struct block *block;

	/* What was read is also applied. */
	ctx_pass_gate(piece->ctx);
	block = block_find(piece->ctx, piece->va);
	left = bit_test(piece->left, i);
	lock_drop(&block->lock);
	if (gone && !left)
		forget_untold(piece, i);
	return gone || left;
}

/* Write-protect a run; what was dropped, unmapped or filled afresh meanwhile stays. */
static void protect_run(struct piece *piece, unsigned first, unsigned last)
{
	int ret;

	collect_begin(piece, first, last);
	ret = protect(piece, first, last, true);
	collect_end(piece, first, last);
	for (unsigned i = first; i < last && ret == -ENOENT; i++)
		moved_away(piece, i);
	if (ret)
		set_run(piece->stay, first, last);
}

/* The lower rung, for a run of mapped pages. */
static void remap_run(struct piece *piece, unsigned first, unsigned last)
{
	protect_run(piece, first, last);
	take_apart(piece, first, last);
	unprotect_stayed(piece, first, last);
}

static void copy_run(struct piece *piece, unsigned first, unsigned last)
{
	uint64_t map[BITMAP_WORDS] = { 0 };
	unsigned from, to;

	set_run(map, first, last);
	if (piece_stage(piece, map) || protect(piece, first, last, true))
		set_run(piece->stay, first, last);
	for_each_going(piece, first, last, from, to) read_run(piece, from, to);
}

/* For duplication: the pages stay where they are, read-only. */
static void copy_runs(struct piece *piece, const uint64_t *runs)
{
	unsigned first, last;

	for_each_run(runs, first, last) collect_begin(piece, first, last);
	for_each_run(runs, first, last) copy_run(piece, first, last);
	for_each_run(runs, first, last)
	{
		collect_end(piece, first, last);
		unprotect_stayed(piece, first, last);
	}
}

/* Pages shared since a fork become ours alone; harmless to others. */
static void make_unshared(struct piece *piece, unsigned first, unsigned last)
{
	unsigned from, to;

	collect_begin(piece, first, last);
	/* A protection that outlived its reason would make this thread wait for itself. */
	protect(piece, first, last, false);
	for_each_going(piece, first, last, from, to)
		madvise((void *)at(piece, from), bytes(to - from), MADV_POPULATE_WRITE);
	collect_end(piece, first, last);
}

/*
 * The program may have dropped pages since they were collected. If by MADV_FREE, they are still
 * mapped, and what it stores there counts: such pages stay. The gate is held, so whether
 * a page was dropped before or after it is moved is certain. Returns the end of the run that goes.
 */
static unsigned leave_dropped(struct piece *piece, unsigned first, unsigned last)
{
	struct block *block = block_find(piece->ctx, piece->va);
	unsigned end = last;

	for (unsigned i = first; i < last; i++) {
		/* Refilled: what is there is not what was collected, and counts. */
		if (piece_lost_sight(piece, block, i) || block->page[i] & PG_REFILLED)
			bit_set(piece->stay, i);
		if (bit_test(piece->stay, i))
			end = min(end, i);
	}
	lock_drop(&block->lock);
	return end;
}

/* Has the page at this address, which is another one's by now, to be there, and is not? */
static bool is_robbed(struct umm_ctx *ctx, struct block *block, unsigned i)
{
	enum page_state state = page_state(block, i);
	uint64_t populated = 1;

	/* The program is dropping it: that it is not there is as it should be. */
	if (block->page[i] & PG_DROPPING)
		return false;
	if (state != PG_SYSTEM && state != PG_COHERENT &&
	    !(state == PG_MIGRATING && piece_expects_mapped(ctx, page_addr(block, i))))
		return false;
	return !pagemap_populated(page_addr(block, i), 1, ctx->features & UMM_KERNEL_PAGEMAP_SCAN,
				  &populated) &&
	       !populated;
}

/* Page i was taken from an address that its mapping has left: put back what is not ours. */
static int put_back(struct piece *piece, uintptr_t source, unsigned i)
{
	struct umm_ctx *ctx = piece->ctx;
	struct block *block = block_find(ctx, piece->va);
	int ret = 0;

	if (is_robbed(ctx, block, i)) {
		ret = uffd_move(ctx->uffd, at(piece, i), source, UMM_PAGE_SIZE, true, NULL);
		if (!ret)
			bit_set(piece->stay, i);
	}
	lock_drop(&block->lock);
	return ret;
}

/*
 * Pages were moved while the program changed its mappings: whether before or after is known when
 * its messages have been applied. The program goes on only then, so nobody has touched them.
 */
static void put_back_others(struct piece *piece, uintptr_t target, unsigned first, unsigned last)
{
	struct umm_ctx *ctx = piece->ctx;
	int ret = 0;

	for (unsigned i = first; i < last; i += ret != -EAGAIN) {
		while (uffd_is_changing(ctx->uffd))
			event_read_ahead(ctx);
		ret = bit_test(piece->left, i) ? put_back(piece, target + bytes(i - first), i) : 0;
		if (ret && ret != -EAGAIN)
			log_error("page at %#lx is lost: %s", (unsigned long)at(piece, i),
				  umm_strerror(ret));
	}
}

/*
 * Move first .. last out, as far as it goes: returns the first page that did not go,
 * and why in *ret (0: only because it stays). The kernel knows nothing of books: that these are
 * still the pages that were collected is made sure by reading no message meanwhile, and by
 * asking whether there is one, before and after.
 */
static unsigned move_run(struct piece *piece, uintptr_t target, unsigned first, unsigned last,
			 int *ret)
{
	struct umm_ctx *ctx = piece->ctx;
	size_t done = 0;
	unsigned next;

	*ret = 0;
	rwlock_take(&ctx->gate);
	while (uffd_is_changing(ctx->uffd))
		event_read_ahead(ctx);
	last = leave_dropped(piece, first, last);
	if (first < last)
		*ret = uffd_move(ctx->staging.uffd, target, at(piece, first), bytes(last - first),
				 false, &done);
	next = first + (unsigned)(done >> UMM_PAGE_SHIFT);
	if (next > first && uffd_is_changing(ctx->uffd))
		put_back_others(piece, target, first, next);
	rwlock_drop(&ctx->gate);
	return next;
}

/* These pages are in the slot, unless they stay. */
static void set_slotted(struct piece *piece, unsigned first, unsigned last)
{
	for (unsigned i = first; i < last; i++)
		if (!bit_test(piece->stay, i))
			bit_set(piece->slotted, i);
}

/* One page that would not move. Returns true to try it again. */
static bool move_refused(struct piece *piece, unsigned i, unsigned last, int why, unsigned *tries)
{
	switch (why) {
	case -ENOENT:
		/* Nothing is mapped here (any more): its contents are zero. */
		if (moved_away(piece, i)) {
			bit_set(piece->stay, i);
		} else {
			bit_clear(piece->system, i);
			bit_set(piece->empty, i);
		}
		return false;
	case -EBUSY:
	case -EAGAIN:
		if ((*tries)++ < BUSY_TRIES) {
			make_unshared(piece, i, last);
			return !bit_test(piece->stay, i);
		}
		bit_set(piece->stay, i);
		return false;
	case -EINVAL:
		remap_run(piece, i, i + 1);
		return false;
	default:
		bit_set(piece->stay, i);
		return false;
	}
}

/*
 * A run was refused: because it spans mappings, or because its mapping refuses moves (then it
 * takes the lower rung). Deals with the first mapping; returns where to go on.
 */
static unsigned move_one_mapping(struct piece *piece, unsigned first, unsigned last)
{
	unsigned end = mapping_end(piece, first, last), next = first;
	int ret = -EINVAL;

	if (end < last)
		next = move_run(piece, piece->slot + bytes(first), first, end, &ret);
	set_slotted(piece, first, next);
	if (next > first)
		return next;
	if (ret == -EINVAL) {
		remap_run(piece, first, end);
		return end;
	}
	if (ret == -EBUSY) {
		make_unshared(piece, first, end);
		next = move_run(piece, piece->slot + bytes(first), first, end, &ret);
		set_slotted(piece, first, next);
	}
	if (next == first)
		bit_set(piece->stay, next++);
	return next;
}

static void move_pages_out(struct piece *piece, unsigned first, unsigned last)
{
	unsigned tries = 0;
	unsigned next;
	int ret;

	while (first < last) {
		if (bit_test(piece->stay, first)) {
			first++;
			continue;
		}
		next = move_run(piece, piece->slot + bytes(first), first, last, &ret);
		set_slotted(piece, first, next);
		if (next > first)
			tries = 0;
		first = next;
		if (first == last)
			return;
		if (ret == -EINVAL) {
			first = move_one_mapping(piece, first, last);
			continue;
		}
		if (ret && !move_refused(piece, first, last, ret, &tries)) {
			first++;
			tries = 0;
		}
	}
}

static void unmap_system(struct piece *piece)
{
	bool move = piece->ctx->staging.uffd >= 0;
	uint64_t run[BITMAP_WORDS];
	unsigned first, last;

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		run[w] = piece->system[w] & ~piece->stay[w];
	if (bit_next(run, 0) == UMM_BLOCK_PAGES)
		return;
	if (piece->duplicate) {
		copy_runs(piece, run);
		return;
	}
	if (move) {
		piece->slot = staging_take_slot(&piece->ctx->staging);
		move = piece->slot;
	}
	for_each_run(run, first, last)
	{
		if (move)
			move_pages_out(piece, first, last);
		else
			remap_run(piece, first, last);
	}
}

/* Put page i's data where its coherent frame has its place. */
static void refill_place(struct piece *piece, uintptr_t place, unsigned i)
{
	void *page = (void *)piece_host(piece, i);

	if (piece->ctx->staging.uffd >= 0)
		uffd_copy(piece->ctx->staging.uffd, place, page, UMM_PAGE_SIZE, false, NULL);
	else
		memcpy((void *)place, page, UMM_PAGE_SIZE);
}

/* The lower rung for coherent pages: take them, and fill their places. */
static void copy_places(struct piece *piece, const uintptr_t *place, unsigned first, unsigned last)
{
	remap_run(piece, first, last);
	for (unsigned i = first; i < last; i++) {
		if (bit_test(piece->stay, i))
			continue;
		refill_place(piece, place[i], i);
		bit_clear(piece->apart, i);
	}
}

/* A page of zeroes for a place. What somebody left there who had no business with it goes. */
static void zero_place(struct piece *piece, uintptr_t place)
{
	int uffd = piece->ctx->staging.uffd;

	if (uffd_zeropage(uffd, place, UMM_PAGE_SIZE, false, NULL) != -EEXIST)
		return;
	madvise((void *)place, UMM_PAGE_SIZE, MADV_DONTNEED);
	uffd_zeropage(uffd, place, UMM_PAGE_SIZE, false, NULL);
}

/* One page that would not move to its place. Returns true to try it again. */
static bool place_refused(struct piece *piece, const uintptr_t *place, unsigned i, int why,
			  unsigned *tries)
{
	switch (why) {
	case -ENOENT:
		if (moved_away(piece, i)) {
			bit_set(piece->stay, i);
			return false;
		}
		/* Dropped by the program: the frame needs a page again. */
		zero_place(piece, place[i]);
		return false;
	case -EEXIST:
		/* Somebody touched the place, though it was empty. */
		madvise((void *)place[i], UMM_PAGE_SIZE, MADV_DONTNEED);
		if ((*tries)++ < BUSY_TRIES)
			return true;
		bit_set(piece->stay, i);
		return false;
	case -EBUSY:
	case -EAGAIN:
		if ((*tries)++ < BUSY_TRIES) {
			make_unshared(piece, i, i + 1);
			return !bit_test(piece->stay, i);
		}
		bit_set(piece->stay, i);
		return false;
	case -EINVAL:
		copy_places(piece, place, i, i + 1);
		return false;
	default:
		bit_set(piece->stay, i);
		return false;
	}
}

/* Bring pages to places that lie together, as far as one mapping goes: returns its end. */
static unsigned move_to_places(struct piece *piece, const uintptr_t *place, unsigned first,
			       unsigned last)
{
	unsigned tries = 0;
	unsigned next;
	int ret;

	while (first < last) {
		if (bit_test(piece->stay, first)) {
			first++;
			continue;
		}
		next = move_run(piece, place[first], first, last, &ret);
		if (next > first)
			tries = 0;
		first = next;
		if (ret == -EINVAL && mapping_end(piece, first, last) < last) {
			last = mapping_end(piece, first, last);
			continue;
		}
		if (ret && !place_refused(piece, place, first, ret, &tries)) {
			first++;
			tries = 0;
		}
	}
	return last;
}

/* Bring the pages of map to their places. */
static void unmap_to_places(struct piece *piece, const uintptr_t *place, const uint64_t *map)
{
	unsigned first, last, next;

	for_each_run(map, first, last)
	{
		if (piece->ctx->staging.uffd < 0) {
			copy_places(piece, place, first, last);
			continue;
		}
		for (unsigned from = first; from < last;) {
			next = from + 1;
			while (next < last && place[next] == place[from] + bytes(next - from))
				next++;
			from = move_to_places(piece, place, from, next);
		}
	}
}

/* The host addresses of the frames of src that hold the pages of map. */
static void find_places(const struct piece *piece, uintptr_t *place, const uint64_t *map)
{
	for (unsigned i = bit_next(map, 0); i < UMM_BLOCK_PAGES; i = bit_next(map, i + 1))
		place[i] = devmem_host(piece->src, piece->origin[i]);
}

static void unmap_coherent(struct piece *piece)
{
	uintptr_t place[UMM_BLOCK_PAGES];
	uint64_t map[BITMAP_WORDS];

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		map[w] = piece->coherent[w] & ~piece->stay[w];
	if (bit_next(map, 0) == UMM_BLOCK_PAGES)
		return;
	find_places(piece, place, map);
	unmap_to_places(piece, place, map);
}

/* Pages that become exclusive go to their places at once: there is nothing to copy. */
static void unmap_exclusively(struct piece *piece)
{
	uintptr_t place[UMM_BLOCK_PAGES];
	uint64_t map[BITMAP_WORDS];
	unsigned i;

	for (i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES; i = bit_next(piece->all, i + 1))
		place[i] = devmem_host(piece->dst, piece->frames[i]);
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		map[w] = piece->system[w] & ~piece->stay[w];
	unmap_to_places(piece, place, map);
	for (i = bit_next(piece->empty, 0); i < UMM_BLOCK_PAGES; i = bit_next(piece->empty, i + 1))
		if (piece->ctx->staging.uffd >= 0)
			zero_place(piece, place[i]);
	for (i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES; i = bit_next(piece->all, i + 1)) {
		if (bit_test(piece->stay, i))
			continue;
		bit_set(piece->placed, i);
		piece->host[i] = place[i];
	}
}

/* Pages that were exclusive are where they have to be read: in their places. */
static void find_exclusive(struct piece *piece)
{
	if (bit_next(piece->exclusive, 0) == UMM_BLOCK_PAGES)
		return;
	find_places(piece, piece->host, piece->exclusive);
	memcpy(piece->placed, piece->exclusive, sizeof(piece->placed));
}

/* Copies end; from here on these are plain system pages. */
static void end_duplication(struct piece *piece)
{
	unsigned first, last;

	if (bit_next(piece->duplicated, 0) == UMM_BLOCK_PAGES)
		return;
	if (!piece->duplicate) {
		piece_drop_copies(piece, piece->duplicated);
		for_each_run(piece->duplicated, first, last) protect(piece, first, last, false);
	}
	for (unsigned w = 0; w < BITMAP_WORDS; w++) {
		piece->system[w] |= piece->duplicated[w];
		if (!piece->dst)
			piece->stay[w] |= piece->duplicated[w];
	}
	if (!piece->duplicate)
		memset(piece->duplicated, 0, sizeof(piece->duplicated));
}

static int populate_run(struct piece *piece, unsigned first, unsigned last)
{
	int ret = -EBUSY;

	rwlock_take_shared(&piece->ctx->gate);
	if (leave_dropped(piece, first, last) == last)
		ret = uffd_zeropage(piece->ctx->uffd, at(piece, first), bytes(last - first), false,
				    NULL);
	rwlock_drop_shared(&piece->ctx->gate);
	return ret;
}

/* A page that was never touched has to exist before it can be duplicated. */
static void populate_empty(struct piece *piece)
{
	unsigned first, last;
	int ret;

	for_each_run(piece->empty, first, last)
	{
		while ((ret = populate_run(piece, first, last)) == -EAGAIN)
			event_pump(piece->ctx);
		set_run(piece->system, first, last);
		if (ret)
			set_run(piece->stay, first, last);
	}
	memset(piece->empty, 0, sizeof(piece->empty));
}

static bool has_mapped(const struct piece *piece)
{
	return bit_next(piece->system, 0) < UMM_BLOCK_PAGES ||
	       bit_next(piece->claimed, 0) < UMM_BLOCK_PAGES ||
	       bit_next(piece->coherent, 0) < UMM_BLOCK_PAGES;
}

void piece_unmap(struct piece *piece)
{
	if (has_mapped(piece))
		leave_left(piece, bit_next(piece->all, 0), UMM_BLOCK_PAGES);
	if (piece->duplicate)
		populate_empty(piece);
	end_duplication(piece);
	if (piece->dst && piece->dst->places)
		unmap_exclusively(piece);
	else if (piece->dst)
		unmap_system(piece);
	unmap_coherent(piece);
	claim_pages(piece);
	find_exclusive(piece);
	/* Whatever was not taken is still where it was. */
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		piece->stay[w] |= piece->system[w] & ~(piece->slotted[w] | piece->apart[w] |
						       piece->staged[w] | piece->placed[w]);
}
