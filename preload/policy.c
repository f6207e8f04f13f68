/* SPDX-License-Identifier: MIT */
/*
 * Which pages leave the host.
 *
 * Blocks give pages in turn, first those that have been there longest. Which pages of a block may
 * go, a policy of sampling says (libumm/policy/sample.h): it hears of those that are wanted back.
 *
 * Blocks that a stream of touches in order has left behind are an exception: they give pages next.
 * So what goes round and round over more than the host holds finds as much of it as the host
 * can keep, instead of nothing.
 *
 * Order in what is touched is seen as the kernel's readahead does: a few streams remember which
 * page they expect next, and each time that they are right they fetch twice as many. That page
 * is a mark in the middle of what they fetch: when it is touched the next pages are fetched while
 * the program works on those behind the mark.
 *
 * Where the policy of sampling asks for probes, the blocks that are first in line are looked at:
 * one page of each, anywhere in it.
 *
 * A page costs two bytes once its block has been on a device, before that nothing; a block 40.
 *
 * Invariants: blocks in line have an entry in the directory and the other way round.
 */
#include "policy.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "raw.h"

#define PAGE_SHIFT  12
#define BLOCK_SHIFT 21
#define BLOCK	    ((uintptr_t)1 << BLOCK_SHIFT)

enum {
	DIR_BITS = 13,
	DIR_SLOTS = 1 << DIR_BITS,
	STREAMS = 16,
	POOL_LEN = 1 << 20,
	JUDGED = 4096, /* touches after which thrashing is judged anew */
	POOR_PART = 32,
	PROBED_PART = 4,  /* of the blocks are looked at before their turn, */
	PROBED_MIN = 4,	  /* but no fewer than so many, */
	PROBED_MAX = 128, /* and no more: what leaves at once, a few times over */
};

/* Of one block; in a list while it is of none. */
union heats {
	struct sample_page page[POLICY_PAGES];
	union heats *next_free;
};

struct block {
	uintptr_t base;
	struct block *next, *previous; /* in line, which is a ring */
	union heats *pages;	       /* NULL: no page of it ever left */
	unsigned touched;	       /* pages, since somebody asked */
	uint16_t probe;		       /* 1 + the page that was moved aside for a look; 0: none */
	bool was_probed;	       /* since its last turn */
};

struct leaf {
	struct block *block[DIR_SLOTS];
};

struct stream {
	uintptr_t start; /* the page that was touched last */
	uintptr_t mark;	 /* the page that it expects; it was not fetched */
	uintptr_t end;	 /* what was fetched ends here, behind the mark */
	unsigned window;
	bool has_two;  /* touches next to each other, as an object over a page's border makes */
	unsigned used; /* for replacement */
};

static struct leaf *dir[DIR_SLOTS];
static struct block line = { .next = &line, .previous = &line };
static size_t nblocks;
static struct block *free_blocks; /* linked by next */
static union heats *free_pages;
static char *pool;
static size_t pool_left;

static const struct sample_ops *sampling = &sample_refault;
static struct sample sample;
static struct stream streams[STREAMS];
static unsigned stream_clock;
static struct policy_counts counts;
static uint64_t judged_touched, judged_returned, judged_readahead;
static bool thrashing, scattered;
static size_t poor_turns;   /* in a row: fewer pages left than were wanted, */
static uint64_t poor_pages; /* so many in all of them */
static uint64_t nprobes;

/* ---- memory --------------------------------------------------------------------------- */

static void *pool_take(size_t len)
{
	void *taken;

	if (pool_left < len) {
		pool = raw_mmap(NULL, POOL_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				-1, 0);
		if (pool == MAP_FAILED) {
			pool_left = 0;
			return NULL;
		}
		pool_left = POOL_LEN;
	}
	taken = pool;
	pool += len;
	pool_left -= len;
	return taken;
}

static union heats *pages_take(void)
{
	union heats *pages = free_pages;

	if (!pages)
		return pool_take(sizeof(*pages));
	free_pages = pages->next_free;
	memset(pages, 0, sizeof(*pages));
	return pages;
}

static struct block **slot_of(uintptr_t base, bool make)
{
	uintptr_t index = base >> BLOCK_SHIFT;
	struct leaf **leaf = &dir[(index >> DIR_BITS) % DIR_SLOTS];

	if (!*leaf && make) {
		void *fresh = raw_mmap(NULL, sizeof(**leaf), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (fresh != MAP_FAILED)
			*leaf = fresh;
	}
	return *leaf ? &(*leaf)->block[index % DIR_SLOTS] : NULL;
}

static struct block *block_of(uintptr_t addr)
{
	struct block **slot = slot_of(addr, false);

	return slot ? *slot : NULL;
}

/* ---- the line ------------------------------------------------------------------------- */

static void line_append(struct block *block)
{
	block->next = &line;
	block->previous = line.previous;
	line.previous->next = block;
	line.previous = block;
}

/* Its turn is next. */
static void line_prepend(struct block *block)
{
	block->previous = &line;
	block->next = line.next;
	line.next->previous = block;
	line.next = block;
}

static void line_leave(struct block *block)
{
	block->previous->next = block->next;
	block->next->previous = block->previous;
}

void policy_resize(uint64_t npages)
{
	sample.room = npages;
}

void policy_sampling(const struct sample_ops *ops)
{
	if (ops == sampling)
		return;
	sampling = ops;
	sample = (struct sample){ .room = sample.room, .left = sample.left };
	for (struct block *block = line.next; block != &line; block = block->next)
		for (unsigned i = 0; block->pages && i < POLICY_PAGES; i++)
			block->pages->page[i].heat = 0;
}

int policy_see(uintptr_t base)
{
	struct block **slot = slot_of(base, true);
	struct block *block;

	if (!slot)
		return -ENOMEM;
	if (*slot)
		return 0;
	block = free_blocks;
	if (block)
		free_blocks = block->next;
	else
		block = pool_take(sizeof(*block));
	if (!block)
		return -ENOMEM;
	*block = (struct block){ .base = base };
	*slot = block;
	line_append(block);
	nblocks++;
	return 0;
}

size_t policy_blocks(void)
{
	return nblocks;
}

bool policy_turn(uintptr_t *base)
{
	struct block *block = line.next;

	if (block == &line)
		return false;
	line_leave(block);
	line_append(block);
	*base = block->base;
	return true;
}

/* ---- heat ----------------------------------------------------------------------------- */

/*
 * A whole round in which hardly any page was not hot: stays grow shorter. Otherwise a program that
 * needs more than the host holds, and all of it, would exceed its limit.
 */
static void turn_taken(unsigned want, unsigned chosen)
{
	poor_turns++;
	poor_pages += chosen;
	if (chosen >= want) {
		poor_turns = 0;
		poor_pages = 0;
	}
	if (poor_turns <= nblocks)
		return;
	if (poor_pages < sample.room / POOR_PART)
		sample.hurry += SAMPLE_EPOCHS;
	poor_turns = 0;
	poor_pages = 0;
}

void policy_forget(uintptr_t base)
{
	struct block **slot = slot_of(base, false);
	struct block *block = slot ? *slot : NULL;

	if (!block)
		return;
	line_leave(block);
	*slot = NULL;
	nblocks--;
	nprobes -= block->probe != 0;
	if (block->pages) {
		for (unsigned i = 0; i < POLICY_PAGES; i++)
			sampling->leaves(&sample, &block->pages->page[i]);
		block->pages->next_free = free_pages;
		free_pages = block->pages;
	}
	block->next = free_blocks;
	free_blocks = block;
}

unsigned policy_choose(uintptr_t base, unsigned char present[POLICY_PAGES], unsigned want)
{
	struct block *block = block_of(base);
	unsigned chosen = 0;

	for (unsigned i = 0; i < POLICY_PAGES; i++) {
		struct sample_page *page = block && block->pages ? &block->pages->page[i] : NULL;

		if (present[i] && page && !page->away && chosen < want)
			present[i] = sampling->may_go(&sample, page);
		present[i] &= chosen < want;
		chosen += present[i];
	}
	turn_taken(want, chosen);
	return chosen;
}

/* ---- probes --------------------------------------------------------------------------- */

bool policy_probe_next(uintptr_t *base)
{
	size_t n = nblocks / PROBED_PART;

	if (!sampling->passes)
		return false;
	n = n < PROBED_MIN ? PROBED_MIN : n > PROBED_MAX ? PROBED_MAX : n;
	for (struct block *at = line.next; at != &line && n--; at = at->next) {
		if (at->was_probed || at->probe)
			continue;
		at->was_probed = true;
		*base = at->base;
		return true;
	}
	return false;
}

unsigned policy_probe_choose(const unsigned char present[POLICY_PAGES])
{
	static uint64_t seed;
	unsigned at;

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	at = (unsigned)(seed >> 33) % POLICY_PAGES;
	for (unsigned i = 0; i < POLICY_PAGES; i++, at = (at + 1) % POLICY_PAGES)
		if (present[at])
			return at;
	return POLICY_PAGES;
}

void policy_probed(uintptr_t addr)
{
	struct block *block = block_of(addr);

	if (!block)
		return;
	nprobes += !block->probe;
	block->probe = 1 + (addr >> PAGE_SHIFT) % POLICY_PAGES;
}

static void probe_gone(struct block *block, uintptr_t addr)
{
	if (block->probe != 1 + (addr >> PAGE_SHIFT) % POLICY_PAGES)
		return;
	block->probe = 0;
	nprobes--;
}

uint64_t policy_probes(void)
{
	return nprobes;
}

uintptr_t policy_probe_of(uintptr_t base)
{
	struct block *block = block_of(base);

	if (!block)
		return 0;
	block->was_probed = false;
	return block->probe ? base + ((uintptr_t)(block->probe - 1) << PAGE_SHIFT) : 0;
}

bool policy_probe_end(uintptr_t base, enum policy_probe what)
{
	uintptr_t probe = policy_probe_of(base);

	if (!probe)
		return false;
	if (what != POLICY_PROBE_ASIDE)
		probe_gone(block_of(base), probe);
	/* Whoever asked for it may have been replaced since. */
	return what != POLICY_PROBE_GONE && sampling->passes &&
	       sampling->passes(&sample, what == POLICY_PROBE_BACK);
}

void policy_demoted(uintptr_t start, size_t npages)
{
	for (size_t i = 0; i < npages; i++) {
		uintptr_t addr = start + (i << PAGE_SHIFT);
		struct block *block = block_of(addr);
		struct sample_page *page;

		if (!block)
			continue;
		probe_gone(block, addr);
		if (!block->pages)
			block->pages = pages_take();
		if (!block->pages)
			continue;
		page = &block->pages->page[(addr >> PAGE_SHIFT) % POLICY_PAGES];
		sampling->leaves(&sample, page);
		sample_leave(&sample, page);
	}
	sample.left += npages;
}

static void judge(void)
{
	uint64_t touched = counts.touched - judged_touched;

	if (touched < JUDGED)
		return;
	thrashing = 2 * (counts.returned - judged_returned) > touched;
	scattered = counts.readahead - judged_readahead < touched;
	judged_touched = counts.touched;
	judged_returned = counts.returned;
	judged_readahead = counts.readahead;
}

static void is_back(struct sample_page *page)
{
	enum sample_return how = sampling->touched(&sample, page);

	counts.returned += how != SAMPLE_LATE;
	counts.thrashed += how == SAMPLE_AGAIN;
}

/* ---- order ---------------------------------------------------------------------------- */

/* A small host has no room for much that may not be wanted. */
static unsigned window_max(void)
{
	uint64_t part = sample.room / 32;

	if (part > POLICY_READAHEAD)
		return POLICY_READAHEAD;
	return part < POLICY_READAHEAD_FIRST ? POLICY_READAHEAD_FIRST : (unsigned)part;
}

/*
 * A stream is behind these blocks. If it comes round again, then after everything else: they give
 * pages next, and what it has not reached yet is left in the host for it.
 */
static void passed(uintptr_t start, uintptr_t end)
{
	for (uintptr_t base = start & ~(BLOCK - 1); base + BLOCK <= end; base += BLOCK) {
		struct block *block = block_of(base);

		if (!block)
			continue;
		line_leave(block);
		line_prepend(block);
	}
}

/* The stream goes on at @addr: fetch up to two windows from there. */
static struct policy_fetch stream_go_on(struct stream *stream, uintptr_t addr)
{
	const uintptr_t page = (uintptr_t)1 << PAGE_SHIFT;
	struct policy_fetch fetch = { .start = addr + page };
	bool was_right = addr == stream->mark && stream->window;
	unsigned window = was_right ? 2 * stream->window : POLICY_READAHEAD_FIRST;

	window = window > window_max() ? window_max() : window;
	/* Whole blocks, each in one piece; the mark is the first page of one. */
	if (window >= POLICY_PAGES)
		window -= window % POLICY_PAGES;
	passed(stream->start, addr);
	if (stream->end > fetch.start)
		fetch.start = stream->end;
	stream->window = window;
	stream->start = addr;
	stream->mark = addr + (window + 1) * page;
	if (window >= POLICY_PAGES)
		stream->mark &= ~(BLOCK - 1);
	if (stream->mark < fetch.start)
		stream->mark = fetch.start;
	stream->end = stream->mark + window * page;
	stream->used = stream_clock;
	fetch.mark = stream->mark;
	fetch.npages = (unsigned)((stream->end - fetch.start) >> PAGE_SHIFT);
	return fetch;
}

/* Of one touch, expecting the next page. */
static struct stream stream_make(uintptr_t addr)
{
	uintptr_t next = addr + ((uintptr_t)1 << PAGE_SHIFT);

	return (struct stream){ .mark = next, .start = addr, .end = next, .used = stream_clock };
}

static struct policy_fetch readahead(uintptr_t addr)
{
	const uintptr_t page = (uintptr_t)1 << PAGE_SHIFT;
	struct stream *oldest = &streams[0];

	stream_clock++;
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *stream = &streams[i];
		uintptr_t near = stream->end + stream->window * page;

		if (stream->used < oldest->used)
			oldest = stream;
		if (addr == stream->mark && !stream->has_two) {
			*stream = stream_make(addr);
			stream->has_two = true;
			return (struct policy_fetch){ .npages = 0 };
		}
		/* A touch behind what was fetched skips what is there, or is mere chance. */
		if (addr == stream->mark || (addr >= stream->end && addr <= near && stream->window))
			return stream_go_on(stream, addr);
		if (addr >= stream->start && addr < stream->end) {
			stream->used = stream_clock; /* it was quicker than what is on its way */
			return (struct policy_fetch){ .npages = 0 };
		}
	}
	*oldest = stream_make(addr);
	return (struct policy_fetch){ .npages = 0 };
}

/* Many pages of it are on their way: its turn comes last. */
static void line_renew(struct block *block)
{
	if (!block)
		return;
	line_leave(block);
	line_append(block);
}

static void come_along(uintptr_t addr, bool is_last)
{
	struct block *block = block_of(addr);
	struct sample_page *page;

	if (!block)
		return;
	if (is_last || !(addr % BLOCK))
		line_renew(block);
	probe_gone(block, addr); /* nobody touched it */
	page = block->pages ? &block->pages->page[(addr >> PAGE_SHIFT) % POLICY_PAGES] : NULL;
	if (page && page->away)
		sampling->came(&sample, page);
}

/* All of it but the mark is on its way. */
static void fetch_comes(const struct policy_fetch *fetch)
{
	for (unsigned i = 0; i < fetch->npages; i++) {
		uintptr_t addr = fetch->start + ((uintptr_t)i << PAGE_SHIFT);

		if (addr == fetch->mark)
			continue;
		come_along(addr, i + 1 == fetch->npages);
		counts.readahead++;
	}
}

struct policy_fetch policy_touched(uintptr_t addr)
{
	struct block *block = block_of(addr);
	struct policy_fetch fetch;

	addr &= ~(((uintptr_t)1 << PAGE_SHIFT) - 1);
	counts.touched++;
	if (block)
		block->touched++;
	if (block && block->pages) {
		struct sample_page *page = &block->pages->page[(addr >> PAGE_SHIFT) % POLICY_PAGES];

		if (page->away)
			is_back(page);
	}
	judge();
	fetch = readahead(addr);
	if (fetch.npages)
		line_renew(block);
	fetch_comes(&fetch);
	return fetch;
}

unsigned policy_touches_take(uintptr_t base)
{
	struct block *block = block_of(base);
	unsigned touched = block ? block->touched : 0;

	if (block)
		block->touched = 0;
	return touched;
}

bool policy_is_thrashing(void)
{
	return thrashing;
}

bool policy_is_scattered(void)
{
	return scattered;
}

const struct policy_counts *policy_counts(void)
{
	return &counts;
}

void policy_reset(void)
{
	while (line.next != &line)
		policy_forget(line.next->base);
	memset(streams, 0, sizeof(streams));
	counts = (struct policy_counts){ 0 };
	sample = (struct sample){ .room = sample.room };
	judged_touched = judged_returned = judged_readahead = poor_pages = 0;
	poor_turns = 0;
	thrashing = scattered = false;
}
