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

const struct sim_device sim_devices[NR_DEVICES] = {
	{ "pcie4", "a GPU behind PCIe 4.0 x16", 30, 24 },
	{ "pcie5", "a GPU behind PCIe 5.0 x16", 25, 48 },
	{ "cxl", "a CXL 2.0 memory", 4, 28 },
	{ "remote", "a memory behind a 100 Gbit/s network", 12, 11 },
};

double sim_stall_s(const struct sim_result *result, const struct sim_device *device)
{
	double bytes = (double)(result->misses + result->evictions) * BLOCK_BYTES;

	return (double)result->misses * device->fault_us / 1e6 +
	       bytes / (device->gib_s * (double)(1 << 30));
}

int sim_replay(const struct trace *trace, const struct order_ops *ops, uint32_t room,
	       struct sim_result *out)
{
	struct order_entry *entry = calloc(trace->nblocks, sizeof(*entry)), *victim;
	bool *there = calloc(trace->nblocks, sizeof(*there));
	void *memory = calloc(1, order_bytes(ops, room));
	struct order_want want = { .before = UINT64_MAX, .except = 1 };
	struct order *order;
	int ret = entry && there && memory ? 0 : -ENOMEM;

	*out = (struct sim_result){ .uses = trace->n };
	order = ret ? NULL : order_init(memory, ops, room);
	for (size_t i = 0; order && i < trace->n; i++) {
		uint32_t block = trace->block[i];

		if (there[block]) {
			order_touch(order, &entry[block]);
			continue;
		}
		out->misses++;
		want.ticket = order_ticket(order);
		if (order->nentries >= room && (victim = order_victim(order, &want))) {
			there[victim - entry] = false;
			order_remove(order, victim);
			out->evictions++;
		}
		/* The library's keys are addresses. */
		order_insert(order, &entry[block], (uintptr_t)(block + 1) * BLOCK_BYTES);
		there[block] = true;
	}
	free(memory);
	free(there);
	free(entry);
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

/* For each use, when the same block is used next: n, and never, past the end. */
static void next_uses(const struct trace *trace, size_t *next, size_t *last)
{
	for (uint32_t b = 0; b < trace->nblocks; b++)
		last[b] = SIZE_MAX;
	for (size_t i = trace->n; i-- > 0;) {
		next[i] = last[trace->block[i]];
		last[trace->block[i]] = i;
	}
}

static void optimum_run(const struct trace *trace, uint32_t room, const size_t *next, size_t *due,
			struct heap *heap, struct sim_result *out)
{
	struct use use;
	uint32_t nthere = 0;

	/* due: the next use of a block that is there; 0: it is not. */
	for (uint32_t b = 0; b < trace->nblocks; b++)
		due[b] = 0;
	for (size_t i = 0; i < trace->n; i++) {
		uint32_t block = trace->block[i];

		if (!due[block]) {
			out->misses++;
			nthere++;
		}
		while (nthere > room) {
			use = heap_pop(heap);
			if (due[use.block] != use.next)
				continue;
			due[use.block] = 0;
			nthere--;
			out->evictions++;
		}
		due[block] = next[i];
		heap_push(heap, (struct use){ .next = next[i], .block = block });
	}
}

int sim_optimum(const struct trace *trace, uint32_t room, struct sim_result *out)
{
	size_t *next = calloc(trace->n + 1, sizeof(*next));
	size_t *due = calloc(trace->nblocks + 1, sizeof(*due));
	struct heap heap = { .use = calloc(trace->n + 1, sizeof(*heap.use)) };
	int ret = next && due && heap.use ? 0 : -ENOMEM;

	*out = (struct sim_result){ .uses = trace->n };
	if (!ret) {
		next_uses(trace, next, due);
		optimum_run(trace, room, next, due, &heap, out);
	}
	free(heap.use);
	free(due);
	free(next);
	return ret;
}
