/* SPDX-License-Identifier: MIT */
/*
 * Blocks: the page states of 2 MiB of address space, and which frames of which
 * device memories hold them. Pure bookkeeping, except that a block knows how to
 * register itself with the userfaultfd.
 */
#ifndef BLOCK_H
#define BLOCK_H

#include "arena.h"
#include "lock.h"
#include "policy/policy.h"
#include "umm.h"

/* The state of a page is the low nibble of its word; the rest are flags. */
enum page_state {
	PG_UNMANAGED,
	PG_NATIVE,     /* managed, not registered: the kernel alone knows more */
	PG_EMPTY,      /* registered, nothing mapped */
	PG_SYSTEM,     /* registered, host frame; or none, if the program dropped it since */
	PG_DEVICE,     /* frame of a PRIVATE memory */
	PG_COHERENT,   /* frame of a COHERENT memory, mapped */
	PG_DUPLICATED, /* host frame, write-protected; frames hold copies */
	PG_MIGRATING,  /* owned by a piece (piece.h) */
	PG_POISONED,
	PG_MIRRORED, /* of a file, shared or hugetlb: stays the kernel's, who is asked every time */
	PG_EXCLUSIVE, /* taken from the CPU: in a place of the device that has it (exclusive.c) */
	PG_STATE_MASK = 0x0f,
	/* MIGRATING; POISONED. */
	PG_DISCARD = 0x10, /* contents were dropped meanwhile: ends EMPTY; or is repaired */
	/* MIGRATING. */
	PG_COLLECT = 0x20,  /* still the CPU's while its piece tells mirrors, or reads it: a missing
			     * fault means that it was dropped, and is filled with zeroes */
	PG_REFILLED = 0x40, /* that has happened: the page stays with the CPU */
	/* POISONED. */
	PG_REPAIRING = 0x400, /* somebody exchanges its mapping (poison.c) */
	/* DEVICE. */
	PG_DEFERRED = 0x80, /* a worker is about to bring it home */
	/* SYSTEM: the program was told to go on and drop it, and may not have done so yet: what
	 * is there must not be moved. See page_drop(). */
	PG_DROPPING = 0x100,
	/* EMPTY, DEVICE, COHERENT, EXCLUSIVE: mirrors have not been told yet of the change that
	 * made it so (change.h). Whoever wants it waits. */
	PG_HELD = 0x200,
	/* SYSTEM: write-protected, though it has no copies (any more), but pages nearby may. The
	 * next write of a CPU ends that, or the next device that asks for a writable page. */
	PG_GUARDED = 0x800,
};

#define BLOCK_MASK   (UMM_BLOCK_SIZE - 1)
#define BITMAP_WORDS (UMM_BLOCK_PAGES / 64)

/* A frame of some memory; mem is NULL: none. */
struct frame {
	struct umm_devmem *mem;
	uint32_t number;
};

/* As many are listed, rather than in a table of all: 128 bytes with the pool's link. */
#define FEW_FRAMES 30

/* Frames of one memory that hold pages of one block. Also the unit of its eviction. */
struct resident {
	struct resident *next; /* of the block */
	struct umm_devmem *mem;
	struct umm_ctx *ctx;
	uintptr_t va;
	uint16_t npages;
	uint32_t base;	  /* frame of page 0, modulo 2^32, while frames == NULL */
	bool few;	  /* frames has a word for each page that is there, in their order */
	uint32_t *frames; /* NULL: consecutive; else, unless few, a word for each page */
	uint64_t bitmap[BITMAP_WORDS];

	struct order_entry order; /* under mem->lock, but for its npages */
};

struct block {
	struct lock lock; /* RANK_BLOCK. Protects: everything below */
	uintptr_t va;	  /* 0: not in use; memory of a block never becomes anything else */
	uint16_t nmanaged;
	uint16_t npieces;    /* that have collected pages here, and look here for them */
	bool waiters;	     /* a CPU fault waits for a MIGRATING or HELD page */
	uint64_t held;	     /* number of the last change that made pages HELD */
	uint64_t dropped_ns; /* when a page became DROPPING last */
	struct resident *residents;
	struct block_pins *pins; /* pin.h; NULL: no page is pinned */
	/* Pages of which entries were given out that allow reading, and writing (prot.h). */
	uint64_t readable[BITMAP_WORDS], writable[BITMAP_WORDS];
	uint16_t page[UMM_BLOCK_PAGES];
	uint8_t history[UMM_BLOCK_PAGES]; /* of each page: cause of its last migration + 1, or 0 */
};

#define HISTORY_HELD	0x80 /* it stayed when it was last to move */
#define HISTORY_REFUSED 0x40 /* it could not be brought to a place of EXCLUSIVE pages */

#define DIR_SLOTS 8192 /* 2^13 x 2^13 blocks of 2^21 bytes: 47 bits of address */

struct block_leaf {
	_Atomic(struct block *) block[DIR_SLOTS];
};

struct blocks {
	_Atomic(struct block_leaf *) *dir;
	struct pool leaf_pool; /* leaves stay as long as the context: each is zeroed once */
	struct pool pool;
	struct pool resident_pool;
	struct pool frames_pool;
	struct pool few_pool;
	struct pool pins_pool;
	_Atomic size_t leaf_bytes;
};

int blocks_init(struct blocks *blocks);
void blocks_fini(struct blocks *blocks);
size_t blocks_bytes(const struct blocks *blocks);

/* The block that holds addr, locked; or NULL: none was needed so far. O(1). */
struct block *block_find(struct umm_ctx *ctx, uintptr_t addr);
/* Likewise, created where something is managed; NULL: nothing is, or (errno) -ENOMEM in *ret. */
struct block *block_get(struct umm_ctx *ctx, uintptr_t addr, int *ret);
/* A new allocation appeared: existing blocks learn of it. Under regions.lock. */
void blocks_set_native(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* Pages of start .. end that live on devices. */
uint64_t blocks_device_pages(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* The first existing block that overlaps start .. end, locked; NULL: none. */
struct block *block_next(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* Unlock; a block that manages nothing any more is given back. */
void block_put(struct umm_ctx *ctx, struct block *block);

/* Pages of start .. end inside this block, as indexes; returns false when there are none. */
bool block_clip(const struct block *block, uintptr_t start, uintptr_t end, unsigned *first,
		unsigned *last);

static inline unsigned page_index(uintptr_t addr)
{
	return (addr & BLOCK_MASK) >> UMM_PAGE_SHIFT;
}

static inline uintptr_t page_addr(const struct block *block, unsigned i)
{
	return block->va + ((uintptr_t)i << UMM_PAGE_SHIFT);
}

static inline enum page_state page_state(const struct block *block, unsigned i)
{
	return (enum page_state)(block->page[i] & PG_STATE_MASK);
}

/* Change a page's state; keeps the counts of the block. Drops all flags. */
void page_set(struct block *block, unsigned i, enum page_state state);
/* The same for pages first .. last - 1, which are managed and stay so; word: state and flags. */
void pages_set(struct block *block, unsigned first, unsigned last, uint16_t word);
/* Has any of these pages any of these flags? */
bool pages_any(const struct block *block, unsigned first, unsigned last, uint16_t flags);

/*
 * SYSTEM from here on, but the program is between its message and dropping the page. How far it
 * got nobody tells: until the page is seen to be gone, or a second later, it stays.
 */
void page_drop(struct block *block, unsigned i);
/*
 * Is that over? Then the page is what it seems: SYSTEM, or EMPTY. The gate is held, so that no
 * message is read but not applied that says where the page has moved to.
 */
bool page_drop_is_over(struct umm_ctx *ctx, struct block *block, unsigned i);

/*
 * Register NATIVE pages with the userfaultfd and find out what they hold. MIRRORED ones are looked
 * at again: nobody may have told that something else is mapped there. Under the gate: no
 * message is applied in between. 0 or -errno.
 */
int block_register(struct umm_ctx *ctx, struct block *block);

struct resident *resident_find(struct block *block, const struct umm_devmem *mem);
/* The memory that page i is in, NULL: none. */
struct resident *resident_of(struct block *block, unsigned i);
uint32_t resident_frame(const struct resident *resident, unsigned i);
/* Record that page i is in this frame. -ENOMEM. */
int resident_set(struct umm_ctx *ctx, struct block *block, struct umm_devmem *mem, unsigned i,
		 uint32_t frame);
/* Forget it. The resident is gone when its last page is. */
void resident_clear(struct umm_ctx *ctx, struct block *block, struct resident *resident,
		    unsigned i);
/*
 * The same for pages first .. last - 1, in frames that follow each other from `frame` on. False:
 * nothing was done, for there is another table, or no memory; they have to be done one by one.
 */
bool resident_set_run(struct umm_ctx *ctx, struct block *block, struct umm_devmem *mem,
		      unsigned first, unsigned last, uint32_t frame);
bool resident_clear_run(struct umm_ctx *ctx, struct block *block, struct resident *resident,
			unsigned first, unsigned last);

/*
 * Take the frames that hold these pages away from the block, copies included, and put them on
 * *list (linked by `next`); their memories stay until they are given back. Without a list, or
 * memory to note them, they are lost to their device: the log says so.
 */
void residents_detach(struct umm_ctx *ctx, struct block *block, const uint64_t *pages,
		      struct resident **list);
/*
 * Give frames of one of such a list, which hold these pages, back to their device; true: that was
 * all, and it is gone. Or those of a list. Nothing locked.
 */
bool resident_release(struct umm_ctx *ctx, struct resident *resident, const uint64_t *pages);
void residents_release(struct umm_ctx *ctx, struct resident *list);

/* The first page before last, behind page first, whose word is another than its; or last. */
unsigned pages_alike(const struct block *block, unsigned first, unsigned last);

/* Small helpers on bitmaps of a block's pages. */
static inline bool bit_test(const uint64_t *map, unsigned i)
{
	return map[i / 64] >> (i % 64) & 1;
}

static inline void bit_set(uint64_t *map, unsigned i)
{
	map[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void bit_clear(uint64_t *map, unsigned i)
{
	map[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* Is any page in it? */
static inline bool bit_any(const uint64_t *map)
{
	uint64_t any = 0;

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		any |= map[w];
	return any;
}

/* Half open. */
void bits_set(uint64_t *map, unsigned first, unsigned last);
void bits_clear(uint64_t *map, unsigned first, unsigned last);
unsigned bit_search(const uint64_t *map, unsigned from);     /* first set bit >= from, or 512 */
unsigned bit_next_clear(const uint64_t *map, unsigned from); /* first clear bit >= from, or 512 */
unsigned bit_count(const uint64_t *map);
unsigned bits_below(const uint64_t *map, unsigned i); /* that are set */

/* As bit_search(): in most bitmaps it is the very next one. */
static inline unsigned bit_next(const uint64_t *map, unsigned from)
{
	return from < UMM_BLOCK_PAGES && bit_test(map, from) ? from : bit_search(map, from);
}

/* The first bit before last, behind bit first, that is not as it is; or last. */
static inline unsigned bits_alike(const uint64_t *map, unsigned first, unsigned last)
{
	unsigned end = bit_test(map, first) ? bit_next_clear(map, first) : bit_search(map, first);

	return end < last ? end : last;
}

/* for each maximal run first .. last (half open) of set bits */
#define for_each_run(map, first, last)                                        \
	for ((first) = bit_next(map, 0), (last) = bit_next_clear(map, first); \
	     (first) < UMM_BLOCK_PAGES;                                       \
	     (first) = bit_next(map, last), (last) = bit_next_clear(map, first))

#endif
