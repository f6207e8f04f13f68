/* SPDX-License-Identifier: MIT */
/*
 * Unmapping a piece: its pages are taken from the CPU (take.c), so that their data can be read
 * while nobody changes it; system pages into a staging slot, coherent and exclusive ones to or from
 * the places of their frames.
 *
 * Pages to be duplicated are write-protected and read in place, by process_vm_readv(), which
 * says EFAULT where a plain load would be a SIGSEGV; into staging, or where the host
 * reaches the frames, into those. All pages of a piece that reads are marked
 * COLLECT until it has read the last: so no reader ever waits for its own piece, nor for another
 * reader, at whatever address the program lets them meet.
 *
 * Invariants: what is in `slotted` or `apart` cannot be changed by the CPU any more; what is
 * in `stay` is as mapped as before.
 * Locks: none where the kernel may fault or deliver an event.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "claim.h"
#include "event.h"
#include "mlocked.h"
#include "take.h"
#include "uffd.h"
#include "util.h"

/* A page that is shared since a fork is ours after one; the kernel's own short holds pass. */
#define BUSY_TRIES 4

#define READ_VECTORS 64 /* stretches that one call reads */
#define FETCHED	     16 /* pages that lie alone: as many as caches have room for */
#define CACHE_LINE   64

/* Pages to read in place, and the vectors of one call. */
struct reading {
	uint16_t pages[UMM_BLOCK_PAGES];
	unsigned n;
	struct iovec local[READ_VECTORS], remote[READ_VECTORS];
	unsigned nlocal, nremote;
};

/* Another page at the end of a list. False: the list is full. */
static bool vector_add(struct iovec *vectors, unsigned *n, uintptr_t page)
{
	struct iovec *last = &vectors[*n - 1];

	if (*n && (uintptr_t)last->iov_base + last->iov_len == page) {
		last->iov_len += UMM_PAGE_SIZE;
		return true;
	}
	if (*n == READ_VECTORS)
		return false;
	vectors[(*n)++] = (struct iovec){ (void *)page, UMM_PAGE_SIZE };
	return true;
}

/* Have caches begin to load a page, of which it does not matter whether it is there. */
static void fetch_page(uintptr_t page)
{
	for (uintptr_t at = page; at < page + UMM_PAGE_SIZE; at += CACHE_LINE)
		__builtin_prefetch((const void *)at);
}

/* No hardware foresees where copies leap to: each page, and each frame, would be waited for. */
static void fetch(const struct piece *piece, const struct reading *reading, unsigned k, unsigned n)
{
	for (; k < n; k++) {
		fetch_page(piece_at(piece, reading->pages[k]));
		fetch_page(piece->host[reading->pages[k]]);
	}
}

/* Read pages from the k-th on, as many as one call takes. How many could be read. */
static unsigned read_some(const struct piece *piece, struct reading *reading, unsigned k,
			  unsigned *asked)
{
	bool apart = true;
	unsigned n = k;
	ssize_t got;

	reading->nlocal = reading->nremote = 0;
	while (n < reading->n && !(apart && n - k == FETCHED) &&
	       vector_add(reading->remote, &reading->nremote, piece_at(piece, reading->pages[n])) &&
	       vector_add(reading->local, &reading->nlocal, piece->host[reading->pages[n]])) {
		n++;
		apart &= reading->nremote == n - k;
	}
	if (apart)
		fetch(piece, reading, k, n);
	/* A page that only found a place in the first list has no room to be read into. */
	got = process_vm_readv(getpid(), reading->local, reading->nlocal, reading->remote,
			       reading->nremote, 0);
	*asked = n - k;
	return (unsigned)(max(got, (ssize_t)0) >> UMM_PAGE_SHIFT);
}

/* Read pages in place, many at a time; those that cannot be read stay. */
static void read_pages(struct piece *piece, const uint64_t *map)
{
	struct reading reading = { .n = 0 };
	unsigned got, asked;

	for (unsigned i = bit_next(map, 0); i < UMM_BLOCK_PAGES; i = bit_next(map, i + 1))
		if (!bit_test(piece->stay, i))
			reading.pages[reading.n++] = (uint16_t)i;
	for (unsigned k = 0; k < reading.n; k += got) {
		got = read_some(piece, &reading, k, &asked);
		if (got < asked)
			bit_set(piece->stay, reading.pages[k + got++]);
	}
}

/* Where these pages are read to. 0 or -ENOMEM. */
static int choose_hosts(struct piece *piece, const uint64_t *map)
{
	const struct umm_device *dev = piece->dst->dev;
	uint64_t rest[BITMAP_WORDS];
	void *host;

	memcpy(rest, map, sizeof(rest));
	for (unsigned i = bit_next(map, 0); dev->ops.frame_host && i < UMM_BLOCK_PAGES;
	     i = bit_next(map, i + 1)) {
		host = dev->ops.frame_host(dev->priv, piece->dst, piece->frames[i]);
		if (!host)
			continue;
		piece->host[i] = (uintptr_t)host;
		bit_set(piece->placed, i);
		bit_clear(rest, i);
	}
	return piece_stage(piece, rest);
}

/* For duplication: the pages stay where they are, read-only. */
static void copy_runs(struct piece *piece, const uint64_t *runs)
{
	int ret = choose_hosts(piece, runs);

	take_begin_touching(piece, runs);
	if (!ret)
		take_protect_map(piece, runs, true);
	for (unsigned w = 0; ret && w < BITMAP_WORDS; w++)
		piece->stay[w] |= runs[w];
	read_pages(piece, runs);
	take_end_touching(piece, runs);
	take_unprotect_stayed(piece, runs);
}

/* These pages are in the slot, unless they stay. */
static void set_slotted(struct piece *piece, const uint64_t *map, unsigned first, unsigned last)
{
	uint64_t taken[BITMAP_WORDS] = { 0 };

	bits_set(taken, first, last);
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		piece->slotted[w] |= map[w] & taken[w] & ~piece->stay[w];
}

static unsigned move_to_slot(struct piece *piece, const uint64_t *map, unsigned first,
			     unsigned last, int *ret)
{
	unsigned next = take_by_move(piece, NULL, map, first, last, ret);

	set_slotted(piece, map, first, next);
	return next;
}

/* One page that would not move. Returns true to try it again. */
static bool move_refused(struct piece *piece, unsigned i, unsigned last, int why, unsigned *tries)
{
	switch (why) {
	case -ENOENT:
		/* Nothing is mapped here (any more): its contents are zero. */
		if (take_moved_away(piece, i)) {
			bit_set(piece->stay, i);
		} else {
			bit_clear(piece->system, i);
			bit_set(piece->empty, i);
		}
		return false;
	case -EBUSY:
	case -EAGAIN:
		if ((*tries)++ < BUSY_TRIES) {
			take_unshare(piece, i, last);
			return !bit_test(piece->stay, i);
		}
		bit_set(piece->stay, i);
		return false;
	case -EEXIST:
		/* Somebody touched the slot, as mlockall() does. What follows is unused. */
		mlocked_drop(take_target(piece, NULL, i), run_bytes(UMM_BLOCK_PAGES - i));
		if ((*tries)++ < BUSY_TRIES)
			return true;
		bit_set(piece->stay, i);
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
static unsigned move_one_mapping(struct piece *piece, const uint64_t *map, unsigned first,
				 unsigned last)
{
	unsigned end = take_mapping_end(piece, first, last), next = first;
	int ret = -EINVAL;

	if (end < last)
		next = move_to_slot(piece, map, first, end, &ret);
	if (next > first)
		return next;
	if (ret == -EINVAL && take_unlock(piece, take_target(piece, NULL, first), first))
		return first;
	if (ret == -EINVAL) {
		take_by_remap(piece, first, end);
		return end;
	}
	if (ret == -EBUSY) {
		take_unshare(piece, first, end);
		next = move_to_slot(piece, map, first, end, &ret);
	}
	if (next == first)
		bit_set(piece->stay, next++);
	return next;
}

static void move_pages_out(struct piece *piece, const uint64_t *map)
{
	unsigned first = 0, next, tries = 0, last;
	int ret;

	while ((first = next_going(piece, map, first)) < UMM_BLOCK_PAGES) {
		next = move_to_slot(piece, map, first, UMM_BLOCK_PAGES, &ret);
		if (next > first)
			tries = 0;
		first = next;
		last = bit_next_clear(map, first);
		if (ret == -EINVAL) {
			first = move_one_mapping(piece, map, first, last);
		} else if (ret && !move_refused(piece, first, last, ret, &tries)) {
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
	if (!bit_any(run))
		return;
	if (piece->duplicate) {
		copy_runs(piece, run);
		return;
	}
	if (move) {
		piece->slot = staging_take_slot(&piece->ctx->staging);
		move = piece->slot;
	}
	if (move)
		move_pages_out(piece, run);
	for_each_run(run, first, last) if (!move) take_by_remap(piece, first, last);
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
	take_by_remap(piece, first, last);
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
	mlocked_drop(place, UMM_PAGE_SIZE);
	uffd_zeropage(uffd, place, UMM_PAGE_SIZE, false, NULL);
}

/* One page that would not move to its place. Returns true to try it again. */
static bool place_refused(struct piece *piece, const uintptr_t *place, unsigned i, int why,
			  unsigned *tries)
{
	switch (why) {
	case -ENOENT:
		if (take_moved_away(piece, i)) {
			bit_set(piece->stay, i);
			return false;
		}
		/* Dropped by the program: the frame needs a page again. */
		zero_place(piece, place[i]);
		return false;
	case -EEXIST:
		/* Somebody touched the place, though it was empty. */
		mlocked_drop(place[i], UMM_PAGE_SIZE);
		if ((*tries)++ < BUSY_TRIES)
			return true;
		bit_set(piece->stay, i);
		return false;
	case -EBUSY:
	case -EAGAIN:
		if ((*tries)++ < BUSY_TRIES) {
			take_unshare(piece, i, i + 1);
			return !bit_test(piece->stay, i);
		}
		bit_set(piece->stay, i);
		return false;
	case -EINVAL:
		if (take_unlock(piece, place[i], i))
			return true;
		copy_places(piece, place, i, i + 1);
		return false;
	default:
		bit_set(piece->stay, i);
		return false;
	}
}

/* Bring pages to their places, as far as one mapping goes: returns its end. */
static unsigned move_to_places(struct piece *piece, const uintptr_t *place, const uint64_t *map,
			       unsigned first)
{
	unsigned last = UMM_BLOCK_PAGES, tries = 0, next, end;
	int ret;

	while ((first = next_going(piece, map, first)) < last) {
		next = take_by_move(piece, place, map, first, last, &ret);
		if (next > first)
			tries = 0;
		first = next;
		end = ret == -EINVAL ? take_mapping_end(piece, first, last) : last;
		if (end < last) {
			last = end;
		} else if (ret && !place_refused(piece, place, first, ret, &tries)) {
			first++;
			tries = 0;
		}
	}
	return last;
}

/* Bring the pages of map to their places. */
static void unmap_to_places(struct piece *piece, const uintptr_t *place, const uint64_t *map)
{
	unsigned first, last;

	if (piece->ctx->staging.uffd >= 0) {
		for (first = 0; first < UMM_BLOCK_PAGES;)
			first = move_to_places(piece, place, map, first);
		return;
	}
	for_each_run(map, first, last) copy_places(piece, place, first, last);
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
	if (!bit_any(map))
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
	if (!bit_any(piece->exclusive))
		return;
	find_places(piece, piece->host, piece->exclusive);
	memcpy(piece->placed, piece->exclusive, sizeof(piece->placed));
}

/* Copies end; from here on these are plain system pages. */
static void end_duplication(struct piece *piece)
{
	if (!bit_any(piece->duplicated))
		return;
	if (!piece->duplicate)
		piece_drop_copies(piece, piece->duplicated);
	/* The page of a fault: its protection ends with the commit, which wakes who waits. */
	if (!piece->duplicate && !piece->dst && piece->cause == UMM_CAUSE_CPU_FAULT)
		memcpy(piece->guarded, piece->duplicated, sizeof(piece->guarded));
	else if (!piece->duplicate)
		take_protect_map(piece, piece->duplicated, false);
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
	if (!take_leave_dropped(piece, piece->empty, first, last))
		ret = uffd_zeropage(piece->ctx->uffd, piece_at(piece, first),
				    run_bytes(last - first), false, NULL);
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
		bits_set(piece->system, first, last);
		if (ret)
			bits_set(piece->stay, first, last);
	}
	memset(piece->empty, 0, sizeof(piece->empty));
}

static bool has_mapped(const struct piece *piece)
{
	return bit_any(piece->system) || bit_any(piece->claimed) || bit_any(piece->coherent);
}

void piece_unmap(struct piece *piece)
{
	if (has_mapped(piece))
		take_leave_left(piece, bit_next(piece->all, 0), UMM_BLOCK_PAGES);
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
