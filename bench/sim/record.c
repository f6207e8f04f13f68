/* SPDX-License-Identifier: MIT */
/*
 * Traces that the library recorded (libumm/policy/record.h): what happened to the blocks of the
 * memory that was used most, as a trace that can be replayed, beside what the library counted.
 *
 * A block's pages come as they are asked for. A replay brings what came since the block last came
 * to the library's memory: as many pages, so far, where its own memory has given them up. A block
 * that left though nobody needed its room leaves in a replay, too: a CPU took it, or it was freed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "policy/record.h"
#include "sim.h"

#define BLOCK_PAGES    512
#define PAGE_BYTES     4096
#define UNFINISHED_MAX 64 /* of threads that were in the middle of an event when it ended */
#define NOTHING	       UINT32_MAX

struct tally {
	uint32_t pages, most; /* there now, and at most */
	uint32_t left;	      /* its latest departure in the trace; NOTHING: there is none */
};

struct reading {
	uint64_t *event;
	size_t n;
	uint32_t memory;
	uint64_t *block; /* sorted: the first page of each */
	size_t nblocks;
	struct tally *tally;
	size_t size_room;
	struct trace *trace;
};

static int wrong(char *why, size_t len, const char *what)
{
	snprintf(why, len, "%s", what);
	return -EINVAL;
}

static bool of_block(uint64_t event)
{
	unsigned kind = record_kind(event);

	return kind == RECORD_ARRIVE || kind == RECORD_USE;
}

static int events_read(struct reading *r, FILE *file, char *why, size_t len)
{
	struct record_head head;

	if (fread(&head, sizeof(head), 1, file) != 1)
		return wrong(why, len, "the file was cut off: not even its head is whole");
	if (head.version != RECORD_VERSION) {
		snprintf(why, len, "version %u of recorded traces, this program reads version %u",
			 head.version, RECORD_VERSION);
		return -EINVAL;
	}
	if (head.event_bytes != sizeof(uint64_t))
		return wrong(why, len, "the head is corrupt: events are of another size");
	if (head.room > UINT32_MAX / 4)
		return wrong(why, len, "the head is corrupt: room for too many events");
	r->n = head.n < head.room ? head.n : head.room;
	r->trace->lost = head.n - r->n;
	r->event = calloc(r->n + 1, sizeof(*r->event));
	if (!r->event)
		return -ENOMEM;
	if (fread(r->event, sizeof(*r->event), r->n, file) == r->n)
		return 0;
	return wrong(why, len, "the file was cut off: it has fewer events than its head says");
}

/* Which memory was used most; its number of frames. */
static int events_check(struct reading *r, char *why, size_t len)
{
	static uint64_t uses[RECORD_MEMORIES];
	size_t unfinished = 0;

	memset(uses, 0, sizeof(uses));
	for (size_t i = 0; i < r->n; i++) {
		uint32_t who = record_memory(r->event[i]);

		unfinished += !r->event[i];
		if (unfinished > UNFINISHED_MAX || record_kind(r->event[i]) >= NR_RECORD_KINDS) {
			snprintf(why, len, "event %zu is corrupt", i);
			return -EINVAL;
		}
		if (of_block(r->event[i]) && ++uses[who] > uses[r->memory])
			r->memory = who;
	}
	for (size_t i = 0; i < r->n; i++)
		if (record_kind(r->event[i]) == RECORD_MEMORY &&
		    record_memory(r->event[i]) == r->memory)
			r->trace->frames = (uint32_t)record_page(r->event[i]);
	if (!uses[r->memory] || !r->trace->frames)
		return wrong(why, len,
			     "nothing came to a device memory: there is nothing to replay");
	return 0;
}

static int by_page(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int blocks_find(struct reading *r)
{
	size_t n = 0, kept = 0;

	r->block = calloc(r->n + 1, sizeof(*r->block));
	r->tally = calloc(r->n + 1, sizeof(*r->tally));
	if (!r->block || !r->tally)
		return -ENOMEM;
	for (size_t i = 0; i < r->n; i++)
		if (of_block(r->event[i]) && record_memory(r->event[i]) == r->memory)
			r->block[n++] = record_page(r->event[i]) / BLOCK_PAGES;
	qsort(r->block, n, sizeof(*r->block), by_page);
	for (size_t i = 0; i < n; i++)
		if (!i || r->block[i] != r->block[i - 1])
			r->block[kept++] = r->block[i];
	r->nblocks = kept;
	for (size_t i = 0; i < kept; i++)
		r->tally[i].left = NOTHING;
	return 0;
}

/* NOTHING: it never came to this memory. */
static uint32_t number_of(const struct reading *r, uint64_t event)
{
	uint64_t block = record_page(event) / BLOCK_PAGES;
	const uint64_t *at = bsearch(&block, r->block, r->nblocks, sizeof(*at), by_page);

	return at ? (uint32_t)(at - r->block) : NOTHING;
}

/* A use of it, where it has so many pages. */
static int push(struct reading *r, uint32_t block, uint32_t npages)
{
	struct trace *trace = r->trace;
	uint16_t *more;
	int ret = trace_push(trace, block);

	if (!ret && r->size_room < trace->room) {
		more = realloc(trace->size, trace->room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		trace->size = more;
		r->size_room = trace->room;
	}
	if (!ret)
		trace->size[trace->n - 1] = (uint16_t)npages;
	return ret;
}

/* So many pages of it are there. */
static uint32_t is_large(struct tally *tally, uint32_t npages)
{
	tally->pages = npages < BLOCK_PAGES ? npages : BLOCK_PAGES;
	if (tally->pages > tally->most)
		tally->most = tally->pages;
	return tally->pages;
}

static int block_event(struct reading *r, uint64_t event)
{
	uint32_t number = number_of(r, event);
	struct tally *tally = &r->tally[number == NOTHING ? 0 : number];

	if (number == NOTHING || record_memory(event) != r->memory)
		return 0;
	switch (record_kind(event)) {
	case RECORD_ARRIVE:
		tally->left = NOTHING;
		tally->pages = 0;
		r->trace->seen.misses++;
		return 0; /* until its pages come: room is made for them before */
	case RECORD_USE:
		return push(r, number, is_large(tally, record_npages(event)));
	case RECORD_LEAVE:
		tally->pages = 0;
		tally->left = (uint32_t)r->trace->n;
		return push(r, number | TRACE_GONE, 0);
	default:
		r->trace->seen.evictions++;
		if (tally->left != NOTHING)
			r->trace->block[tally->left] = number | TRACE_LEFT;
		tally->left = NOTHING;
		return 0;
	}
}

static int move_event(struct reading *r, uint64_t event)
{
	uint32_t npages = record_npages(event), number = number_of(r, event);
	struct sim_result *seen = &r->trace->seen;
	struct tally *tally = &r->tally[number == NOTHING ? 0 : number];

	if (number == NOTHING || record_memory(event) != r->memory)
		return 0;
	if (record_kind(event) == RECORD_HOME) {
		seen->bytes_out += (uint64_t)npages * PAGE_BYTES;
		return 0;
	}
	seen->bytes_in += (uint64_t)npages * PAGE_BYTES;
	return push(r, number, is_large(tally, tally->pages + npages));
}

static int events_take(struct reading *r)
{
	int ret = 0;

	r->trace->miss = calloc(r->n + 1, sizeof(*r->trace->miss));
	if (!r->trace->miss)
		return -ENOMEM;
	for (size_t i = 0; i < r->n && !ret; i++)
		switch (record_kind(r->event[i])) {
		case RECORD_ARRIVE:
		case RECORD_USE:
		case RECORD_LEAVE:
		case RECORD_EVICT:
			ret = block_event(r, r->event[i]);
			break;
		case RECORD_OUT:
		case RECORD_HOME:
			ret = move_event(r, r->event[i]);
			break;
		case RECORD_MISS:
			r->trace->miss[r->trace->cpu_misses++] =
				(struct sim_miss){ record_page(r->event[i]),
						   record_thread(r->event[i]) };
			break;
		default:
			break;
		}
	return ret;
}

int record_read(struct trace *trace, FILE *file, char *why, size_t len)
{
	struct reading r = { .trace = trace };
	int ret;

	*trace = (struct trace){ .name = "recorded" };
	ret = events_read(&r, file, why, len);
	if (!ret)
		ret = events_check(&r, why, len);
	if (!ret)
		ret = blocks_find(&r);
	if (!ret)
		ret = events_take(&r);
	for (size_t i = 0; !ret && i < r.nblocks; i++)
		trace->npages += r.tally[i].most;
	trace->seen.uses = trace->n;
	free(r.event);
	free(r.block);
	free(r.tally);
	if (ret)
		trace_fini(trace);
	return ret;
}
