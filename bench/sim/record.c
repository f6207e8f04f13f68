/* SPDX-License-Identifier: MIT */
/*
 * Traces that the library recorded (libumm/policy/record.h): what happened to the blocks of the
 * memory that was used most, as a trace that can be replayed, beside what the library counted.
 *
 * A use is of the pages that the library's memory had then, of those that the device said it used:
 * OpenCL devices tell of whole blocks. Room for pages is made before they come, so what came
 * belongs to the step at which frames were asked for. What a CPU takes, or is freed, leaves
 * in a replay, too; who goes for lack of room, a replay decides.
 *
 * Pages that move although the memory has copies of them need frames besides those; when these are
 * at hand, the copies go, and then the pages come. Another request for pages of the same block may
 * ask for frames meanwhile, so what comes is of the step for which its copy went.
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
#define TICKS	       (RECORD_BEGAN_MOST + 1)

struct tally {
	uint64_t pages[SIM_WORDS]; /* there now */
	uint32_t most;		   /* as many, at most */
	uint32_t coming;	   /* the step at which frames were last asked for, or NOTHING */
	bool missed;		   /* and what came then was not yet used */
	bool fresh;		   /* nor by the request that it came for */
	uint32_t lacking;	   /* frames that are still to be filled for that step */
	uint32_t anew;		   /* its latest struct copies, from 1 on; 0: none */
	uint32_t left;		   /* its latest departure, a step, or NOTHING */
	bool told;		   /* its pages that left then were named */
};

/* What became of a block's copies while a step waited for what it had frames for. */
struct copies {
	uint64_t gone[SIM_WORDS]; /* which may come, or have left for another reason */
	uint32_t step;		  /* that waits */
	uint32_t first, last;	  /* they left between these */
	uint32_t before;	  /* of an earlier step, from 1 on; 0: none */
};

struct reading {
	uint64_t *event;
	size_t n;
	uint32_t memory;
	uint64_t *block; /* sorted: the first page of each */
	size_t nblocks;
	struct tally *tally;
	struct copies *copies; /* beside the trace's `anew` */
	size_t step_room;
	uint64_t clock;	       /* uses and arrivals so far */
	uint32_t steps[TICKS]; /* that came before the clock was that, modulo TICKS */
	uint32_t began;	       /* the step at which the latest request did */
	bool parts;	       /* a device said that it used less than a block */
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
		r->tally[i].left = r->tally[i].coming = NOTHING;
	return 0;
}

/* NOTHING: it never came to this memory. */
static uint32_t number_of(const struct reading *r, uint64_t event)
{
	uint64_t block = record_page(event) / BLOCK_PAGES;
	const uint64_t *at = bsearch(&block, r->block, r->nblocks, sizeof(*at), by_page);

	return at ? (uint32_t)(at - r->block) : NOTHING;
}

static void pages_set(uint64_t *pages, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n && i < BLOCK_PAGES; i++)
		pages[i / 64] |= UINT64_C(1) << i % 64;
}

/* The n-th item of an array, which has room for a power of two, from 64 on; NULL: no memory. */
static void *grow(void *array, uint32_t n, size_t bytes)
{
	void *more, **at = array;

	if (!n || (n >= 64 && !(n & (n - 1)))) {
		more = realloc(*at, (n ? 2 * (size_t)n : 64) * bytes);
		if (!more)
			return NULL;
		*at = more;
	}
	return (char *)*at + n * bytes;
}

/* The step that it is, or NULL: no memory. */
static struct trace_step *push(struct reading *r, uint32_t block, enum step_kind kind)
{
	struct trace *trace = r->trace;
	struct trace_step *more;

	if (trace_push(trace, block))
		return NULL;
	if (r->step_room < trace->room) {
		more = realloc(trace->step, trace->room * sizeof(*more));
		if (!more)
			return NULL;
		trace->step = more;
		r->step_room = trace->room;
	}
	more = &trace->step[trace->n - 1];
	*more = (struct trace_step){ .kind = kind };
	return more;
}

static void tick(struct reading *r)
{
	r->steps[++r->clock % TICKS] = (uint32_t)r->trace->n;
}

/*
 * Those that are there; of a block of which the trace does not know how it came, all. Where some
 * had to come for it, whoever has less there has them come together.
 */
static int take_use(struct reading *r, uint32_t block, uint64_t event)
{
	struct trace_step *step = push(r, block, STEP_USE);
	struct tally *tally = &r->tally[block];

	if (!step)
		return -ENOMEM;
	r->parts |= record_npages(event) < BLOCK_PAGES;
	pages_set(step->pages, record_page(event) % BLOCK_PAGES, record_npages(event));
	if (!sim_count(tally->pages))
		memcpy(tally->pages, step->pages, sizeof(tally->pages));
	for (unsigned w = 0; w < SIM_WORDS; w++) {
		step->pages[w] &= tally->pages[w];
		if (tally->missed)
			r->trace->step[tally->coming].pages[w] |= step->pages[w];
	}
	/* Has it come for a request after which no other began? That is what it is used for. */
	step->own = !tally->fresh || tally->coming < r->began;
	tally->missed = tally->fresh = false;
	/* Whoever asked for pages has those that come. */
	tally->lacking = tally->anew = 0;
	tick(r);
	return 0;
}

/* All that there is; unless it is said what. */
static int take_leave(struct reading *r, uint32_t block)
{
	struct trace_step *step = push(r, block, STEP_GONE);
	struct tally *tally = &r->tally[block];

	if (!step)
		return -ENOMEM;
	memset(step->pages, 0xff, sizeof(step->pages));
	memset(tally->pages, 0, sizeof(tally->pages));
	tally->left = (uint32_t)r->trace->n - 1;
	tally->told = false;
	tally->lacking = tally->anew = 0;
	return 0;
}

static int take_room(struct reading *r, uint32_t block, uint64_t event)
{
	bool evicts = record_kind(event) == RECORD_ROOM;
	struct trace_step *step = push(r, block, evicts ? STEP_BRING : STEP_SPARE);
	uint64_t began = record_began(event);

	if (!step)
		return -ENOMEM;
	step->after = r->steps[(r->clock - (began < r->clock ? began : r->clock)) % TICKS];
	r->tally[block].coming = (uint32_t)r->trace->n - 1;
	r->tally[block].missed = r->tally[block].fresh = evicts;
	r->tally[block].lacking = record_npages(event);
	step->own = evicts;
	if (step->after > r->began)
		r->began = step->after;
	return 0;
}

static int take_arrival(struct reading *r, uint32_t block)
{
	struct tally *tally = &r->tally[block];

	tally->left = NOTHING;
	if (tally->coming != NOTHING) {
		r->trace->step[tally->coming].whole = true;
		r->trace->seen.misses += r->trace->step[tally->coming].kind == STEP_BRING;
	}
	tick(r);
	return 0;
}

/* They are of that step. */
static void come(struct reading *r, uint32_t at, const uint64_t *pages)
{
	struct trace_step *step = &r->trace->step[at];

	r->trace->seen.faults += !step->came;
	step->came = true;
	for (unsigned w = 0; w < SIM_WORDS; w++)
		step->pages[w] |= pages[w];
}

/* The copies have not left by themselves. */
static void stay(struct reading *r, const struct copies *copies, const uint64_t *pages)
{
	uint32_t block = r->trace->block[copies->step];

	for (uint32_t i = copies->first; i <= copies->last; i++)
		for (unsigned w = 0; w < SIM_WORDS; w++)
			if (r->trace->block[i] == block && r->trace->step[i].kind == STEP_GONE)
				r->trace->step[i].pages[w] &= ~pages[w];
}

/* Those of which there were copies are of the steps for which these went; the rest is left. */
static void come_anew(struct reading *r, uint32_t last, uint64_t *pages)
{
	uint64_t mine[SIM_WORDS];
	struct copies *copies;

	for (; last; last = copies->before) {
		copies = &r->copies[last - 1];
		for (unsigned w = 0; w < SIM_WORDS; w++) {
			mine[w] = pages[w] & copies->gone[w];
			pages[w] &= ~mine[w];
			copies->gone[w] &= ~mine[w];
			r->trace->anew[last - 1].pages[w] |= mine[w];
		}
		if (!sim_count(mine))
			continue;
		come(r, copies->step, mine);
		stay(r, copies, mine);
	}
}

/* They are of the step that asked for room for them; or of none, and come now. */
static int take_out(struct reading *r, uint32_t block, uint64_t event)
{
	uint32_t first = record_page(event) % BLOCK_PAGES, n = record_npages(event);
	struct tally *tally = &r->tally[block];
	uint64_t pages[SIM_WORDS] = { 0 };

	r->trace->seen.bytes_in += (uint64_t)n * PAGE_BYTES;
	pages_set(pages, first, n);
	pages_set(tally->pages, first, n);
	come_anew(r, tally->anew, pages);
	if (sim_count(pages) && tally->coming == NOTHING) {
		if (!push(r, block, STEP_SPARE))
			return -ENOMEM;
		tally->coming = (uint32_t)r->trace->n - 1;
	}
	if (sim_count(pages))
		come(r, tally->coming, pages);
	tally->lacking -= n < tally->lacking ? n : tally->lacking;
	n = sim_count(tally->pages);
	if (n > tally->most)
		tally->most = n;
	return 0;
}

/* Copies left at that step; while another waits, which may be why. */
static int note_copies(struct reading *r, struct tally *tally, uint32_t at, const uint64_t *gone)
{
	struct copies *copies = tally->anew ? &r->copies[tally->anew - 1] : NULL;
	struct trace *trace = r->trace;

	if (!tally->lacking)
		return 0;
	if (!copies || copies->step != tally->coming) {
		copies = grow(&r->copies, trace->nanew, sizeof(*copies));
		if (!copies || !grow(&trace->anew, trace->nanew, sizeof(*trace->anew)))
			return -ENOMEM;
		*copies = (struct copies){ .step = tally->coming,
					   .first = at,
					   .before = tally->anew };
		trace->anew[trace->nanew] = (struct trace_anew){ 0 };
		tally->anew = trace->step[tally->coming].anew = ++trace->nanew;
	}
	copies->last = at;
	for (unsigned w = 0; w < SIM_WORDS; w++)
		copies->gone[w] |= gone[w];
	return 0;
}

static int take_home(struct reading *r, uint32_t block, uint64_t event)
{
	uint32_t first = record_page(event) % BLOCK_PAGES, n = record_npages(event);
	struct tally *tally = &r->tally[block];
	struct trace_step *step;
	uint64_t gone[SIM_WORDS] = { 0 };

	if (record_kind(event) != RECORD_GONE)
		r->trace->seen.bytes_out += (uint64_t)n * PAGE_BYTES;
	pages_set(gone, first, n);
	for (unsigned w = 0; w < SIM_WORDS; w++)
		tally->pages[w] &= ~gone[w];
	if (record_kind(event) == RECORD_OFF && tally->left != NOTHING)
		r->trace->step[tally->left].kind = STEP_NONE;
	if (record_kind(event) == RECORD_OFF)
		return 0;
	step = tally->left == NOTHING ? push(r, block, STEP_GONE) : &r->trace->step[tally->left];
	if (!step)
		return -ENOMEM;
	if (tally->left != NOTHING && !tally->told)
		memset(step->pages, 0, sizeof(step->pages));
	tally->told = tally->left != NOTHING;
	pages_set(step->pages, first, n);
	if (record_kind(event) != RECORD_GONE || tally->left != NOTHING)
		return 0;
	return note_copies(r, tally, (uint32_t)(step - r->trace->step), gone);
}

static void take_eviction(struct reading *r, struct tally *tally)
{
	r->trace->seen.evictions++;
	if (tally->left != NOTHING)
		r->trace->step[tally->left].kind = STEP_NONE;
	tally->left = NOTHING;
}

static int take_empty(struct reading *r, uint64_t event)
{
	struct trace_step *step = push(r, 0, STEP_EMPTY);

	if (!step)
		return -ENOMEM;
	step->after = (uint32_t)record_page(event);
	return 0;
}

/* Of this memory: it counts if it was there. */
static int take_miss(struct reading *r, uint64_t event)
{
	uint32_t block = number_of(r, event), page = record_page(event) % BLOCK_PAGES;
	struct trace_step *step;

	r->trace->miss[r->trace->cpu_misses++] =
		(struct sim_miss){ record_page(event), record_thread(event) };
	if (block == NOTHING || !(r->tally[block].pages[page / 64] >> page % 64 & 1))
		return 0;
	r->trace->seen.cpu_faults++;
	step = push(r, block, STEP_MISS);
	if (!step)
		return -ENOMEM;
	pages_set(step->pages, page, 1);
	return 0;
}

static int take_of_block(struct reading *r, uint64_t event)
{
	uint32_t block = number_of(r, event);

	if (block == NOTHING)
		return 0;
	switch (record_kind(event)) {
	case RECORD_ARRIVE:
		return take_arrival(r, block);
	case RECORD_USE:
		return take_use(r, block, event);
	case RECORD_LEAVE:
		return take_leave(r, block);
	case RECORD_EVICT:
		take_eviction(r, &r->tally[block]);
		return 0;
	case RECORD_OUT:
		return take_out(r, block, event);
	case RECORD_HOME:
	case RECORD_OFF:
	case RECORD_GONE:
		return take_home(r, block, event);
	case RECORD_ROOM:
	case RECORD_SPARE:
		return take_room(r, block, event);
	default:
		return 0;
	}
}

/* Where pages are, whichever memory: a block that leaves has none there any more. */
static void note_move(struct reading *r, uint64_t event)
{
	unsigned kind = record_kind(event);
	struct sim_move move = { .page = record_page(event),
				 .npages = record_npages(event),
				 .memory = record_memory(event),
				 .after = r->trace->cpu_misses,
				 .comes = kind == RECORD_OUT };

	if (kind == RECORD_LEAVE) {
		move.page -= move.page % BLOCK_PAGES;
		move.npages = BLOCK_PAGES;
	}
	if (kind == RECORD_OUT || kind == RECORD_HOME || kind == RECORD_OFF ||
	    kind == RECORD_GONE || kind == RECORD_LEAVE)
		r->trace->move[r->trace->nmoves++] = move;
}

static int take(struct reading *r, uint64_t event)
{
	if (record_kind(event) == RECORD_MISS)
		return take_miss(r, event);
	note_move(r, event);
	if (!event || record_memory(event) != r->memory)
		return 0;
	if (record_kind(event) == RECORD_EMPTY)
		return take_empty(r, event);
	return take_of_block(r, event);
}

static int events_take(struct reading *r)
{
	int ret = 0;

	r->trace->miss = calloc(r->n + 1, sizeof(*r->trace->miss));
	r->trace->move = calloc(r->n + 1, sizeof(*r->trace->move));
	if (!r->trace->miss || !r->trace->move)
		return -ENOMEM;
	for (size_t i = 0; i < r->n && !ret; i++)
		ret = take(r, r->event[i]);
	return ret;
}

/*
 * Which steps are uses of their own. A device that says what it uses may or may not do so of what
 * came because it missed it: if of most, those are one use with what came.
 */
static void uses_count(struct trace *trace)
{
	size_t came = 0, again = 0;
	struct trace_step *step;

	for (size_t i = 0; i < trace->n; i++) {
		step = &trace->step[i];
		came += step->own && step->kind == STEP_BRING;
		again += !step->own && step->kind == STEP_USE;
	}
	for (size_t i = 0; i < trace->n; i++) {
		step = &trace->step[i];
		step->own |= step->kind == STEP_USE && 2 * again < came;
		step->own &= sim_count(step->pages) > 0;
		trace->seen.uses += step->own;
	}
}

bool record_device_tells(const struct trace *trace)
{
	for (size_t i = 0; i < trace->n; i++)
		if (trace->step[i].kind == STEP_USE)
			return true;
	return false;
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
	if (!ret)
		uses_count(trace);
	trace->blocks = !ret && !r.parts && record_device_tells(trace);
	free(r.event);
	free(r.block);
	free(r.tally);
	free(r.copies);
	if (ret)
		trace_fini(trace);
	return ret;
}

/*
 * What a program used of its memory where no device says what it uses: the blocks of what its
 * CPUs missed.
 */
int record_misses(const struct trace *trace, struct trace *out)
{
	uint64_t *block = calloc(trace->cpu_misses + 1, sizeof(*block)), key, *at;
	size_t kept = 0;
	int ret = block ? 0 : -ENOMEM;

	*out = (struct trace){ 0 };
	memcpy(out->name, trace->name, sizeof(out->name));
	for (size_t i = 0; !ret && i < trace->cpu_misses; i++)
		block[i] = trace->miss[i].page / BLOCK_PAGES;
	if (!ret)
		qsort(block, trace->cpu_misses, sizeof(*block), by_page);
	for (size_t i = 0; !ret && i < trace->cpu_misses; i++)
		if (!i || block[i] != block[kept - 1])
			block[kept++] = block[i];
	for (size_t i = 0; !ret && i < trace->cpu_misses; i++) {
		key = trace->miss[i].page / BLOCK_PAGES;
		at = bsearch(&key, block, kept, sizeof(*block), by_page);
		ret = trace_add(out, (uint32_t)(at - block));
	}
	free(block);
	if (ret)
		trace_fini(out);
	return ret;
}
