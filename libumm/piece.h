/* SPDX-License-Identifier: MIT */
/*
 * A piece: pages of one block on their way from one home to another. Its life:
 *
 *	collect		pages become MIGRATING; frames are taken     block lock
 *	invalidate	mirrors forget them			     nothing locked
 *	unmap		the CPU can no longer change them (unmap.c)  nothing locked
 *	copy in		device frames -> staging, asynchronous	     nothing locked
 *	copy out	staging -> device frames, asynchronous	     nothing locked
 *	commit		pages get their new home (commit.c)	     gate, block lock
 *
 * Nobody waits between the last four: the completion of one starts the next. A CPU
 * that touches a page of it meanwhile waits, and is woken at the end.
 */
#ifndef PIECE_H
#define PIECE_H

#include "ctx.h"
#include "device.h"

struct batch;

struct piece {
	struct umm_ctx *ctx;
	struct batch *batch;
	struct piece *next; /* umm_migrate_setup()'s list */
	uintptr_t va;
	struct umm_devmem *dst; /* NULL: system */
	struct umm_devmem *src; /* of `device`, `coherent`, `exclusive`; one per piece */
	enum umm_cause cause;
	bool duplicate;
	bool blockable;
	bool failed;	/* the frames of its pages are gone: nothing comes home */
	bool last_try;	/* a source that lacks memory for the copies has lost the pages */
	bool may_stay;	/* nobody waits for it at home */
	bool by_driver; /* umm_migrate_setup(): copies and frames are the driver's affair */

	/* Of the context, under its pieces_lock. */
	struct piece *next_in_flight, **link_in_flight;

	uint64_t claimable[BITMAP_WORDS]; /* those of the wanted pages that may be claimed */
	/* Which pages, by what they were; disjoint. */
	uint64_t all[BITMAP_WORDS];
	uint64_t system[BITMAP_WORDS];	   /* mapped host frames */
	uint64_t empty[BITMAP_WORDS];	   /* nothing */
	uint64_t device[BITMAP_WORDS];	   /* frames of a PRIVATE src */
	uint64_t coherent[BITMAP_WORDS];   /* frames of a COHERENT src */
	uint64_t exclusive[BITMAP_WORDS];  /* places of src */
	uint64_t duplicated[BITMAP_WORDS]; /* host frames with copies */
	uint64_t claimed[BITMAP_WORDS];	   /* written pages of private file mappings (claim.c) */
	/* How they fare. */
	uint64_t stay[BITMAP_WORDS];	/* still mapped: stays what it was */
	uint64_t guarded[BITMAP_WORDS]; /* still write-protected: their copies are gone */
	uint64_t slotted[BITMAP_WORDS]; /* moved into `slot`, each at its place */
	uint64_t apart[BITMAP_WORDS];	/* moved into `scratch`, each at its place */
	uint64_t staged[BITMAP_WORDS];	/* host[] was taken from staging page by page */
	uint64_t placed[BITMAP_WORDS];	/* host[] is a place, of src or of dst, or a frame of dst */
	uint64_t lost[BITMAP_WORDS];	/* the source device failed */
	int lost_error;			/* what it said of the last of them */
	uint64_t undo[BITMAP_WORDS];	/* the destination failed: back to where it was */
	uint64_t done[BITMAP_WORDS];	/* committed to the new home */
	uint64_t settled[BITMAP_WORDS]; /* committed: no longer the piece's */

	/*
	 * Pages that have left their address: their mapping has moved to where[], or (0) is gone.
	 * Changed with the gate held exclusively and the lock of the block that they leave.
	 */
	uint64_t left[BITMAP_WORDS];
	uintptr_t where[UMM_BLOCK_PAGES];

	uintptr_t slot;	   /* 0: none taken */
	uintptr_t scratch; /* 2 MiB of address space of its own; 0: none */
	uintptr_t host[UMM_BLOCK_PAGES];
	uint32_t frames[UMM_BLOCK_PAGES]; /* of dst */
	uint32_t origin[UMM_BLOCK_PAGES]; /* frames of src that pages come from */
	uint32_t freed[UMM_BLOCK_PAGES];  /* frames of src to give back */
	unsigned nfreed;
	unsigned moved;
	unsigned let_write; /* of `guarded`: who waited is awake */

	bool trims; /* staging has become too large */
	bool copying_in;
	bool retrying;	/* page by page, to find out which ones the device lost */
	unsigned retry; /* the page being retried */
	int refused;	/* what the destination said */
	bool deferred;	/* given up, as a callback would have slept: its fault is still waiting */
	uint64_t copy_began;
	unsigned ncopies;
	struct umm_copy copies[UMM_BLOCK_PAGES];
	struct umm_fence *fence;
};

/* What to collect. */
struct piece_want {
	uintptr_t va; /* of the block */
	const uint64_t *pages;
	struct umm_devmem *dst;
	const struct umm_device *src_dev; /* only its pages; NULL: of any */
	const struct umm_devmem *src;	  /* only its pages; NULL: of any */
	const struct umm_devmem *leave;	  /* but not its pages */
	uint64_t select;		  /* UMM_MIGRATE_SELECT_* */
	enum umm_cause cause;
	bool duplicate;
	bool no_evict;
	bool ahead;   /* nobody has missed them yet */
	bool unasked; /* nor asked for them: nobody's callback sleeps for them */
	bool blockable;
	bool no_wait; /* nor may a callback sleep where this thread may */
	bool watched; /* one sleeps only if its notifier watches all of the piece */
	bool failed;
	bool last_try;
	bool may_stay;
	bool by_driver;
	uint64_t clock;		   /* evict only what was used before */
	struct hint_cursor *hints; /* for heed.c; NULL: nothing is hinted */
};

/* What a collect found. */
struct piece_found {
	bool busy;     /* some wanted pages are MIGRATING: wait for `settled` to change */
	bool more;     /* some are left for another piece */
	bool full;     /* dst had no frames */
	bool mirrored; /* there are MIRRORED ones, of which nobody knows whether to claim them */
	uint32_t settled;
	uint64_t pinned[BITMAP_WORDS];	/* stay because they are pinned */
	uint64_t refused[BITMAP_WORDS]; /* where a callback that would have to sleep watches */
};

/* For collect.c: a piece in the list of those in flight, without pages; NULL: no memory. */
struct piece *piece_new(struct umm_ctx *ctx, const struct piece_want *want);
void piece_free(struct piece *piece);

/*
 * Collect and invalidate (collect.c). NULL: nothing qualified, or *ret (-EAGAIN: a callback would
 * have to sleep, and all pages are where they were: without those in found->refused, which at least
 * one of the wanted is, the others may be had; -ENOMEM, -ENODEV, -EFAULT).
 */
struct piece *piece_collect(struct umm_ctx *ctx, const struct piece_want *want,
			    struct piece_found *found, int *ret);
/* Take the pages from the CPU (unmap.c). */
void piece_unmap(struct piece *piece);
/* Start copies; the piece commits and ends by itself, perhaps before this returns. */
void piece_copy(struct piece *piece);
/* Put the pages where they belong (commit.c), then let waiters go. */
void piece_commit(struct piece *piece);
/* Give back what it holds; counts; the piece is gone. */
void piece_finish(struct piece *piece);

/* The copies, in all memories, of these duplicated pages end. Nothing locked. */
void piece_drop_copies(struct piece *piece, const uint64_t *pages);

/* Host pages for the pages in map: sets host[] and staged. 0 or -ENOMEM. */
int piece_stage(struct piece *piece, const uint64_t *map);

/*
 * The mapping of the MIGRATING page at `from` moved to `to`, or (0) is gone: its piece looks for it
 * there. *source is the frame that it comes from, which is the piece's alone where the page
 * is gone. Under the gate, held exclusively; the block of `from` is locked or the page not in it.
 */
void piece_redirect(struct umm_ctx *ctx, uintptr_t from, uintptr_t to, struct frame *source);

/* Is the MIGRATING page at addr still to be taken from the CPU? Under the gate, exclusive. */
bool piece_expects_mapped(struct umm_ctx *ctx, uintptr_t addr);

/* Where a piece is in flight; 0: nowhere. */
uintptr_t piece_any_in_flight(struct umm_ctx *ctx);

/* Pages that are the piece's no more where they were, or have nothing to keep. Block locked. */
static inline bool piece_lost_sight(const struct piece *piece, const struct block *block,
				    unsigned i)
{
	return bit_test(piece->left, i) || block->page[i] & PG_DISCARD;
}

/* Does page i come from a frame of src? */
static inline bool piece_has_origin(const struct piece *piece, unsigned i)
{
	return bit_test(piece->device, i) || bit_test(piece->coherent, i) ||
	       bit_test(piece->exclusive, i);
}

/* The host page that the piece has of page i; 0: none. */
static inline uintptr_t piece_host(const struct piece *piece, unsigned i)
{
	uintptr_t offset = (uintptr_t)i << UMM_PAGE_SHIFT;

	if (bit_test(piece->slotted, i))
		return piece->slot + offset;
	if (bit_test(piece->apart, i))
		return piece->scratch + offset;
	return bit_test(piece->staged, i) || bit_test(piece->placed, i) ? piece->host[i] : 0;
}

/* Address of its first page. */
static inline uintptr_t piece_start(const struct piece *piece)
{
	return piece->va + ((uintptr_t)bit_next(piece->all, 0) << UMM_PAGE_SHIFT);
}

/* What became of one piece. */
struct piece_outcome {
	unsigned moved;
	int refused; /* what the destination said */
	bool lost;   /* the source lost pages */
};

/* A batch ended one piece. */
void batch_piece_done(struct batch *batch, const struct piece_outcome *outcome);

#endif
