/* SPDX-License-Identifier: MIT */
/*
 * Replaying a trace of blocks in a memory that is too small: through an order of eviction, the one
 * file that the library runs, or by Belady's rule, which knows the future. A block that is missed
 * comes whole, and where there is no room another goes first. Of a recorded trace, those of its
 * pages come that were missed or used and are not there; what the library recorded of requests says
 * what may go for them. What finds no room is missed all the same.
 *
 * Belady, of blocks that are one large: evict what is used again last. A heap has the blocks that
 * are there by their next use; entries that a later use has outdated stay in it, and are skipped
 * when they come up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define BLOCK_BYTES (UINT64_C(2) << 20)
#define BLOCK_PAGES 512
#define PAGE_BYTES  4096
#define VICTIMS	    8 /* go at a time */
#define NOBODY	    (UINT32_MAX - 1)

const struct sim_device sim_devices[NR_DEVICES] = {
	{ "pcie4", "a GPU behind PCIe 4.0 x16", 20, 10, 24, 1.0 },
	{ "pcie5", "a GPU behind PCIe 5.0 x16", 17, 8, 48, 0.8 },
	{ "cxl", "a CXL 2.0 memory", 0, 4, 28, 0.3 },
	{ "remote", "a memory behind a 100 Gbit/s network", 0, 12, 11, 3.0 },
};

double sim_stall_s(const struct sim_result *result, const struct sim_device *device)
{
	double bytes = (double)(result->bytes_in + result->bytes_out);

	return ((double)result->batches * device->batch_us +
		(double)result->faults * device->fault_us) /
		       1e6 +
	       bytes / (device->gib_s * (double)(1 << 30));
}

/* Who goes, for a use that misses something. */
struct want {
	uint64_t excess; /* so much is to go, */
	uint32_t keep;	 /* but not of that block; NOBODY */
	uint64_t before; /* nor what was used since: by the clock of the order */
};

/* What a memory holds. Blocks are one large, or (recorded) as many pages as are there. */
struct memory {
	const struct trace *trace;
	uint64_t (*pages)[SIM_WORDS]; /* recorded: those of each block that are there */
	uint32_t *size;		      /* of each block; 0: it is not there */
	uint64_t *clock;	      /* recorded: of the order, before each step */
	uint64_t room, used;
	unsigned batch;	  /* faults of the batch that is open; 0: none is */
	uint32_t request; /* recorded: when that of the batch began */
	struct sim_result *out;
	/* Whoever decides who goes. */
	void (*make_room)(struct memory *m, const struct want *want);
	struct order *order; /* by an order, */
	struct order_entry *entry;
	size_t *due; /* or knowing when each block that is there is used next */
	struct heap *heap;
};

static uint64_t bytes_of(const struct memory *m, uint32_t size)
{
	return size * (m->pages ? (uint64_t)PAGE_BYTES : BLOCK_BYTES);
}

/* The library's keys are addresses. */
static uintptr_t key_of(uint32_t block)
{
	return (uintptr_t)(block + 1) * BLOCK_BYTES;
}

static void memory_resize(struct memory *m, uint32_t block, uint32_t size)
{
	m->used += size;
	m->used -= m->size[block];
	m->size[block] = size;
	if (m->order)
		m->entry[block].npages = (uint16_t)size;
}

static void memory_leave(struct memory *m, uint32_t block)
{
	if (m->order)
		order_remove(m->order, &m->entry[block]);
	memory_resize(m, block, 0);
	if (m->pages)
		memset(m->pages[block], 0, sizeof(m->pages[block]));
}

static void memory_evict(struct memory *m, uint32_t block)
{
	m->out->evictions++;
	m->out->bytes_out += bytes_of(m, m->size[block]);
	memory_leave(m, block);
}

static void memory_touch(struct memory *m, uint32_t block)
{
	if (m->order)
		order_touch(m->order, &m->entry[block]);
}

/* Work-items miss side by side, until one has what it needs. */
static void memory_fault(struct memory *m)
{
	m->out->faults++;
	m->out->batches += !m->batch;
	m->batch = (m->batch + 1) % SIM_BATCH;
}

/* It has so much more of a block, which it may have nothing of yet. */
static void memory_grow(struct memory *m, uint32_t block, uint32_t more)
{
	if (!m->size[block] && m->order)
		order_insert(m->order, &m->entry[block], key_of(block));
	memory_resize(m, block, m->size[block] + more);
	m->out->bytes_in += bytes_of(m, more);
}

static void memory_room(struct memory *m, uint32_t more, struct want want)
{
	if (m->used + more <= m->room)
		return;
	want.excess = m->used + more - m->room;
	m->make_room(m, &want);
}

/* A use of a block that is one large. */
static void block_use(struct memory *m, uint32_t block)
{
	m->out->uses++;
	if (m->size[block]) {
		m->out->hits++;
		memory_touch(m, block);
		m->batch = 0;
		return;
	}
	m->out->misses++;
	memory_fault(m);
	memory_room(m, 1, (struct want){ .keep = block, .before = UINT64_MAX });
	memory_grow(m, block, 1);
}

uint32_t sim_count(const uint64_t *pages)
{
	uint32_t n = 0;

	for (unsigned w = 0; w < SIM_WORDS; w++)
		n += (uint32_t)__builtin_popcountll(pages[w]);
	return n;
}

/* Those of these pages that are not there, as far as there is room; how many. */
static uint32_t pages_come(struct memory *m, uint32_t block, const uint64_t *pages)
{
	uint64_t left = m->room > m->used ? m->room - m->used : 0;
	uint64_t *there = m->pages[block], more;
	uint32_t n = 0;

	for (unsigned w = 0; w < SIM_WORDS; w++)
		for (more = pages[w] & ~there[w]; more && n < left; more &= more - 1, n++)
			there[w] |= more & -more;
	if (n)
		memory_grow(m, block, n);
	return n;
}

static uint32_t missing(const struct memory *m, uint32_t block, const uint64_t *pages)
{
	uint64_t more[SIM_WORDS];

	for (unsigned w = 0; w < SIM_WORDS; w++)
		more[w] = pages[w] & ~m->pages[block][w];
	return sim_count(more);
}

/* Those that are there as copies, and come anew. */
static uint32_t copied(const struct memory *m, uint32_t block, const struct trace_step *step)
{
	uint64_t pages[SIM_WORDS];

	if (!step->anew)
		return 0;
	for (unsigned w = 0; w < SIM_WORDS; w++)
		pages[w] = m->trace->anew[step->anew - 1].pages[w] & m->pages[block][w];
	return sim_count(pages);
}

/* Told of what an earlier step was for, it is a use only if it has to wait once more. */
static void pages_used(struct memory *m, uint32_t block, const struct trace_step *step,
		       uint32_t lacking)
{
	if (!lacking && step->kind == STEP_USE)
		m->batch = 0;
	if (!lacking && !step->own)
		return;
	m->out->uses++;
	m->out->hits += !lacking;
	m->out->misses += lacking && !m->size[block];
	if (lacking)
		memory_fault(m);
}

static void pages_want(struct memory *m, uint32_t block, const struct trace_step *step)
{
	struct want want = { .keep = block, .before = UINT64_MAX };
	uint32_t copies = copied(m, block, step), lacking;
	bool known = m->size[block];
	uint64_t left;

	/* The library's own batches are known: what one request brought. */
	if (step->kind == STEP_BRING && step->after != m->request)
		m->batch = 0;
	if (step->kind == STEP_BRING)
		m->request = step->after;
	if (step->kind == STEP_BRING && m->order)
		want.before = m->clock[step->after];
	if (step->kind != STEP_SPARE) {
		lacking = missing(m, block, step->pages) + copies;
		pages_used(m, block, step, lacking);
		memory_room(m, lacking, want);
	}
	lacking = pages_come(m, block, step->pages);
	left = m->room > m->used ? m->room - m->used : 0;
	copies = copies < left ? copies : (uint32_t)left;
	m->out->bytes_in += bytes_of(m, copies);
	if (step->kind == STEP_SPARE && lacking + copies)
		memory_fault(m);
	/* What was new to the library is in use here. */
	if (m->size[block] && (step->kind == STEP_USE || (known && step->whole)))
		memory_touch(m, block);
}

static void pages_leave(struct memory *m, uint32_t block, const uint64_t *pages)
{
	uint32_t size;

	if (!m->size[block])
		return;
	for (unsigned w = 0; w < SIM_WORDS; w++)
		m->pages[block][w] &= ~pages[w];
	size = sim_count(m->pages[block]);
	if (size)
		memory_resize(m, block, size);
	else
		memory_leave(m, block);
}

static void memory_step(struct memory *m, size_t i)
{
	const struct trace_step *step = m->trace->step + i;
	uint32_t block = m->trace->block[i];

	if (!m->pages) {
		block_use(m, block);
		return;
	}
	m->clock[i] = m->order ? m->order->clock : 0;
	switch (step->kind) {
	case STEP_USE:
	case STEP_BRING:
	case STEP_SPARE:
		pages_want(m, block, step);
		break;
	case STEP_GONE:
		pages_leave(m, block, step->pages);
		break;
	case STEP_MISS:
		m->out->cpu_faults += 1 - missing(m, block, step->pages);
		break;
	case STEP_EMPTY:
		memory_room(m, step->after, (struct want){ .keep = NOBODY, .before = UINT64_MAX });
		break;
	default:
		break;
	}
}

static void memory_fini(struct memory *m)
{
	free(m->size);
	free(m->pages);
	free(m->clock);
}

static int memory_init(struct memory *m, const struct trace *trace, uint64_t room,
		       struct sim_result *out)
{
	*out = (struct sim_result){ 0 };
	*m = (struct memory){ .trace = trace,
			      .room = room,
			      .out = out,
			      .size = calloc(trace->nblocks + 1, sizeof(*m->size)) };
	if (!trace->step)
		return m->size ? 0 : -ENOMEM;
	m->pages = calloc(trace->nblocks + 1, sizeof(*m->pages));
	m->clock = calloc(trace->n + 1, sizeof(*m->clock));
	return m->size && m->pages && m->clock ? 0 : -ENOMEM;
}

/* The library asks for the next few, and then they leave. */
static void order_makes_room(struct memory *m, const struct want *why)
{
	struct order_want want = { .before = why->before,
				   .ticket = order_ticket(m->order),
				   .except = why->keep == NOBODY ? 0 : key_of(why->keep) };
	uint64_t goal = m->used > why->excess ? m->used - why->excess : 0, going;
	uint32_t victim[VICTIMS];
	struct order_entry *entry;
	unsigned n;

	do {
		for (n = going = 0; n < VICTIMS && m->used - going > goal; n++) {
			entry = order_victim(m->order, &want);
			if (!entry)
				break;
			victim[n] = (uint32_t)(entry - m->entry);
			going += m->size[victim[n]];
		}
		for (unsigned i = 0; i < n; i++)
			memory_evict(m, victim[i]);
	} while (n && m->used > goal);
}

int sim_replay(const struct trace *trace, const struct order_ops *ops, uint64_t room,
	       struct sim_result *out)
{
	uint64_t all = (uint64_t)trace->nblocks * (trace->step ? BLOCK_PAGES : 1);
	/* What has room for more than there is has nothing to choose. */
	uint64_t most = room < all ? room : all;
	uint32_t nblocks = (uint32_t)(trace->step ? (most + BLOCK_PAGES - 1) / BLOCK_PAGES : most);
	void *memory = calloc(1, order_bytes(ops, nblocks));
	struct memory m;
	int ret = memory_init(&m, trace, room, out);

	m.entry = calloc(trace->nblocks + 1, sizeof(*m.entry));
	m.make_room = order_makes_room;
	if (!memory || !m.entry)
		ret = -ENOMEM;
	if (!ret)
		m.order = order_init(memory, ops, nblocks, most);
	for (size_t i = 0; !ret && i < trace->n; i++)
		memory_step(&m, i);
	free(memory);
	free(m.entry);
	memory_fini(&m);
	return ret;
}

void heap_push(struct heap *heap, struct use use)
{
	size_t i = heap->n++, up;

	for (; i && heap->use[up = (i - 1) / 2].next < use.next; i = up)
		heap->use[i] = heap->use[up];
	heap->use[i] = use;
}

struct use heap_pop(struct heap *heap)
{
	struct use first = heap->use[0], last = heap->use[--heap->n];
	size_t i = 0, down;

	while ((down = 2 * i + 1) < heap->n) {
		if (down + 1 < heap->n && heap->use[down + 1].next > heap->use[down].next)
			down++;
		if (heap->use[down].next <= last.next)
			break;
		heap->use[i] = heap->use[down];
		i = down;
	}
	heap->use[i] = last;
	return first;
}

/* For each use, when the same block is used next; never: past the end. */
static void next_uses(const struct trace *trace, size_t *next, size_t *last)
{
	for (uint32_t b = 0; b < trace->nblocks; b++)
		last[b] = SIZE_MAX;
	for (size_t i = trace->n; i-- > 0;) {
		next[i] = last[trace->block[i]];
		last[trace->block[i]] = i;
	}
}

static void optimum_makes_room(struct memory *m, const struct want *why)
{
	uint64_t goal = m->used > why->excess ? m->used - why->excess : 0;
	struct use use;

	while (m->used > goal && m->heap->n) {
		use = heap_pop(m->heap);
		if (m->size[use.block] && m->due[use.block] == use.next && use.block != why->keep)
			memory_evict(m, use.block);
	}
}

static void optimum_run(struct memory *m, const size_t *next)
{
	const struct trace *trace = m->trace;
	uint32_t block;

	for (size_t i = 0; i < trace->n; i++) {
		block = trace->block[i];
		block_use(m, block);
		m->due[block] = next[i];
		heap_push(m->heap, (struct use){ .next = next[i], .block = block });
	}
}

static int belady(const struct trace *trace, uint64_t room, struct sim_result *out)
{
	size_t *next = calloc(trace->n + 1, sizeof(*next));
	struct heap heap = { .use = calloc(trace->n + 1, sizeof(*heap.use)) };
	struct memory m;
	int ret = memory_init(&m, trace, room, out);

	m.due = calloc(trace->nblocks + 1, sizeof(*m.due));
	m.heap = &heap;
	m.make_room = optimum_makes_room;
	if (!next || !m.due || !heap.use)
		ret = -ENOMEM;
	if (!ret) {
		next_uses(trace, next, m.due);
		optimum_run(&m, next);
	}
	free(heap.use);
	free(m.due);
	free(next);
	memory_fini(&m);
	return ret;
}

int sim_optimum(const struct trace *trace, uint64_t room, struct sim_result *out)
{
	return trace->step ? sim_bound(trace, room, out) : belady(trace, room, out);
}
