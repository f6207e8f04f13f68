/* SPDX-License-Identifier: MIT */
/*
 * Replaying a trace of blocks in a memory that is too small: through an order of eviction, the one
 * file that the library runs, or by Belady's rule, which knows the future. A block that is missed
 * comes whole, and where there is no room another goes first.
 *
 * Belady: evict what is used again last. A heap has the blocks that are there by their next use;
 * entries that a later use has outdated stay in it, and are skipped when they come up.
 */
#include <errno.h>
#include <stdlib.h>

#include "sim.h"

#define BLOCK_BYTES (UINT64_C(2) << 20)
#define BLOCK_PAGES 512
#define PAGE_BYTES  4096

const struct sim_device sim_devices[NR_DEVICES] = {
	{ "pcie4", "a GPU behind PCIe 4.0 x16", 30, 24, 1.0 },
	{ "pcie5", "a GPU behind PCIe 5.0 x16", 25, 48, 0.8 },
	{ "cxl", "a CXL 2.0 memory", 4, 28, 0.3 },
	{ "remote", "a memory behind a 100 Gbit/s network", 12, 11, 3.0 },
};

double sim_stall_s(const struct sim_result *result, const struct sim_device *device)
{
	double bytes = (double)(result->bytes_in + result->bytes_out);

	return (double)result->misses * device->fault_us / 1e6 +
	       bytes / (device->gib_s * (double)(1 << 30));
}

/* What a memory holds. Blocks are one large, or (recorded) as many pages as came of them. */
struct memory {
	const struct trace *trace;
	uint32_t *size;	  /* of each block; 0: nothing of it came yet */
	uint32_t *wanted; /* recorded: as large as it was in the library's memory */
	bool *there;
	uint32_t room, used;
	struct sim_result *out;
	/* Whoever decides who goes makes so much room if he can, but keeps that block. */
	void (*make_room)(struct memory *m, uint32_t excess, uint32_t keep);
	struct order *order; /* by an order, */
	struct order_entry *entry;
	size_t *due; /* or knowing when each block that is there is used next */
	struct heap *heap;
};

static uint64_t bytes_of(const struct memory *m, uint32_t size)
{
	return size * (m->trace->size ? (uint64_t)PAGE_BYTES : BLOCK_BYTES);
}

static void memory_resize(struct memory *m, uint32_t block, uint32_t size)
{
	m->used += size - m->size[block];
	m->size[block] = size;
	if (m->order)
		m->entry[block].npages = (uint16_t)size;
}

static void memory_leave(struct memory *m, uint32_t block)
{
	m->there[block] = false;
	if (m->order)
		order_remove(m->order, &m->entry[block]);
	memory_resize(m, block, 0);
}

static void memory_evict(struct memory *m, uint32_t block)
{
	m->out->evictions++;
	m->out->bytes_out += bytes_of(m, m->size[block]);
	memory_leave(m, block);
}

static void memory_enter(struct memory *m, uint32_t block)
{
	m->there[block] = true;
	m->out->misses++;
	/* The library's keys are addresses. */
	if (m->order)
		order_insert(m->order, &m->entry[block], (uintptr_t)(block + 1) * BLOCK_BYTES);
}

/* The library's has so many pages of it: what it lost, other than all at once, nobody has. */
static void memory_want(struct memory *m, uint32_t block, uint32_t npages)
{
	uint32_t lost = m->wanted[block] > npages ? m->wanted[block] - npages : 0;

	lost = lost < m->size[block] ? lost : m->size[block];
	memory_resize(m, block, m->size[block] - lost);
	m->wanted[block] = npages;
}

static void memory_use(struct memory *m, uint32_t block, uint32_t wanted)
{
	uint32_t more = wanted > m->size[block] ? wanted - m->size[block] : 0;
	bool known;

	if (m->used + more > m->room)
		m->make_room(m, m->used + more - m->room, block);
	known = m->there[block];
	if (!known)
		memory_enter(m, block);
	memory_resize(m, block, m->size[block] + more);
	if (known && m->order)
		order_touch(m->order, &m->entry[block]);
	m->out->bytes_in += bytes_of(m, more);
}

static void memory_step(struct memory *m, size_t i)
{
	uint32_t what = m->trace->block[i], block = what & TRACE_BLOCK;

	if (what & (TRACE_GONE | TRACE_LEFT))
		m->wanted[block] = 0;
	if (what & TRACE_GONE && m->there[block])
		memory_leave(m, block);
	if (what & (TRACE_GONE | TRACE_LEFT))
		return;
	if (m->trace->size)
		memory_want(m, block, m->trace->size[i]);
	memory_use(m, block, m->trace->size ? m->trace->size[i] : 1);
}

static void memory_fini(struct memory *m)
{
	free(m->size);
	free(m->wanted);
	free(m->there);
}

static int memory_init(struct memory *m, const struct trace *trace, uint32_t room,
		       struct sim_result *out)
{
	*out = (struct sim_result){ .uses = trace->n };
	*m = (struct memory){ .trace = trace,
			      .room = room,
			      .out = out,
			      .size = calloc(trace->nblocks + 1, sizeof(*m->size)),
			      .wanted = calloc(trace->nblocks + 1, sizeof(*m->wanted)),
			      .there = calloc(trace->nblocks + 1, sizeof(*m->there)) };
	return m->size && m->wanted && m->there ? 0 : -ENOMEM;
}

static void order_makes_room(struct memory *m, uint32_t excess, uint32_t keep)
{
	struct order_want want = { .before = UINT64_MAX,
				   .ticket = order_ticket(m->order),
				   .except = (uintptr_t)(keep + 1) * BLOCK_BYTES };
	uint32_t goal = m->used > excess ? m->used - excess : 0;
	struct order_entry *victim;

	while (m->used > goal && (victim = order_victim(m->order, &want)))
		memory_evict(m, (uint32_t)(victim - m->entry));
}

int sim_replay(const struct trace *trace, const struct order_ops *ops, uint32_t room,
	       struct sim_result *out)
{
	uint32_t nblocks = trace->size ? (room + BLOCK_PAGES - 1) / BLOCK_PAGES : room;
	void *memory = calloc(1, order_bytes(ops, nblocks));
	struct memory m;
	int ret = memory_init(&m, trace, room, out);

	m.entry = calloc(trace->nblocks + 1, sizeof(*m.entry));
	m.make_room = order_makes_room;
	if (!memory || !m.entry)
		ret = -ENOMEM;
	if (!ret)
		m.order = order_init(memory, ops, nblocks, room);
	for (size_t i = 0; !ret && i < trace->n; i++)
		memory_step(&m, i);
	free(memory);
	free(m.entry);
	memory_fini(&m);
	return ret;
}

struct use {
	size_t next; /* when the block is used again */
	uint32_t block;
};

struct heap {
	struct use *use;
	size_t n;
};

static void heap_push(struct heap *heap, struct use use)
{
	size_t i = heap->n++, up;

	for (; i && heap->use[up = (i - 1) / 2].next < use.next; i = up)
		heap->use[i] = heap->use[up];
	heap->use[i] = use;
}

static struct use heap_pop(struct heap *heap)
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

/* For each use, when the same block is used next; never: past the end, or once it is gone. */
static void next_uses(const struct trace *trace, size_t *next, size_t *last)
{
	uint32_t block;

	for (uint32_t b = 0; b < trace->nblocks; b++)
		last[b] = SIZE_MAX;
	for (size_t i = trace->n; i-- > 0;) {
		block = trace->block[i] & TRACE_BLOCK;
		next[i] = last[block];
		if (trace->block[i] & TRACE_GONE)
			last[block] = SIZE_MAX;
		else if (!(trace->block[i] & TRACE_LEFT))
			last[block] = i;
	}
}

static void optimum_makes_room(struct memory *m, uint32_t excess, uint32_t keep)
{
	uint32_t goal = m->used > excess ? m->used - excess : 0;
	struct use use;

	while (m->used > goal && m->heap->n) {
		use = heap_pop(m->heap);
		if (m->there[use.block] && m->due[use.block] == use.next && use.block != keep)
			memory_evict(m, use.block);
	}
}

static void optimum_run(struct memory *m, const size_t *next)
{
	const struct trace *trace = m->trace;
	uint32_t block;

	for (size_t i = 0; i < trace->n; i++) {
		memory_step(m, i);
		if (trace->block[i] & (TRACE_GONE | TRACE_LEFT))
			continue;
		block = trace->block[i];
		m->due[block] = next[i];
		heap_push(m->heap, (struct use){ .next = next[i], .block = block });
	}
}

int sim_optimum(const struct trace *trace, uint32_t room, struct sim_result *out)
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
