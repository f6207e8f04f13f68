/* SPDX-License-Identifier: MIT */
/*
 * What the default order misses, beside what some learners do that cannot foresee draws, as
 * Belady's rule does, in multiples of whose misses all is; over many draws of each pattern, and
 * longer ones. They are examples of what can be had of these patterns by who knows them, and no
 * bounds: other orders may miss less than any of them.
 *
 * TOLD knows how likely each block is to be used next, and of a new phase as soon as it begins.
 * What is least likely leaves. Among independent draws of which the chances stay as they are
 * (random, zipf), nobody who cannot foresee them misses less in the mean (Aho, Denning and
 * Ullman, 1971).
 *
 * LEARNS knows all of a pattern but which block is how likely, and which blocks come or go with a
 * phase; when it begins, it is told. It counts uses (those that follow one of the same block are
 * left out), and takes what was used more often in this phase to be likelier. Of what was not used
 * in it, what came with an earlier phase than the first one is still in use, for what leaves is
 * of the first; then comes what was used in the phase before, then the rest. It is granted
 * the room - 1 blocks that it takes to be likeliest, of those that were ever used, besides the one
 * that is in use, as if blocks came and left at no price; of ties, the mean.
 *
 * KNOWS is told, besides, which half of the blocks a phase is over.
 *
 * INFERS takes blocks for names, too, but knows how likely the block at each place of the pattern
 * is in each phase, and keeps how likely each name is to be each place's, by all that was used
 * so far (Bayes; names and places are one to one, which is approached by scaling rows and columns
 * by turns). So counts of earlier phases say which blocks leave, which LEARNS does not see. It is
 * granted the likeliest ones, too; PAGES is the same order with misses that bring a block
 * in place of the least likely one that is there.
 *
 * In loops, scans and walks, all of them are taken to be as good as the optimum.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim.h"

#define BLOCKS 256
#define PHASES 4
#define HALF   (BLOCKS / 2)
#define GOAL   1.25

#define EVERY  16 /* uses after which INFERS weighs names anew */
#define SCALED 5  /* times that it scales rows and columns */

/* The last two take long. */
enum who { OURS, TOLD, KNOWS, LEARNS, NR_FAST, INFERS = NR_FAST, PAGES, NR_WHO };

static const char *const names[NR_WHO] = { "ours", "told", "knows", "learns", "infers", "pages" };

/* Of the logarithms of misses over the optimum's, for each draw. */
struct row {
	double sum[NR_WHO], squares[NR_WHO];
	unsigned n, nwho; /* NR_FAST or NR_WHO */
};

/* The first block of a phase's half. */
static uint32_t begin_of(unsigned phase)
{
	return phase * (BLOCKS - HALF) / (PHASES - 1);
}

/* The last use of each phase but one: what lies before the next half is not used again. */
static void find_ends(const struct trace *trace, size_t *end)
{
	for (unsigned phase = 0; phase + 1 < PHASES; phase++) {
		end[phase] = SIZE_MAX;
		for (size_t i = 0; !strcmp(trace->name, "phase") && i < trace->n; i++)
			if (trace->block[i] < begin_of(phase + 1))
				end[phase] = i;
	}
}

static unsigned phase_of(const size_t *end, size_t i)
{
	unsigned phase = 0;

	while (phase + 1 < PHASES && i > end[phase])
		phase++;
	return phase;
}

/* How likely the next use is one of this block, among those of its pattern. */
static double chance_of(const char *pattern, unsigned phase, uint32_t block)
{
	bool halves = !strcmp(pattern, "phase");
	uint32_t n = halves ? HALF : BLOCKS, first = halves ? begin_of(phase) : 0, rank = 0;

	if (!strcmp(pattern, "random"))
		return 1.0 / BLOCKS;
	if (block < first || block >= first + n)
		return 0;
	while (rank * UINT64_C(2654435761) % n != block - first)
		rank++;
	return log((rank + 2.0) / (rank + 1.0)) / log(n + 1.0);
}

static double told(const struct trace *trace, uint32_t room)
{
	double chance[BLOCKS] = { 0 };
	bool there[BLOCKS] = { false };
	unsigned phase = PHASES;
	uint32_t n = 0, misses = 0;
	size_t end[PHASES];

	find_ends(trace, end);
	for (size_t i = 0; i < trace->n; i++) {
		uint32_t used = trace->block[i], least = used;

		for (uint32_t k = 0; phase != phase_of(end, i) && k < BLOCKS; k++)
			chance[k] = chance_of(trace->name, phase_of(end, i), k);
		phase = phase_of(end, i);
		if (there[used])
			continue;
		misses++;
		for (uint32_t k = 0; k < BLOCKS && n == room; k++)
			if (there[k] && (least == used || chance[k] < chance[least]))
				least = k;
		there[least] = false;
		n += least == used;
		there[used] = true;
	}
	return misses;
}

/* What is drawn, and for whom. */
struct draws {
	unsigned n, rounds;
	unsigned nwho;
};

/* What it knows of a block. */
struct block {
	bool used, late;	/* at all; first in a later phase than the first */
	uint32_t count, before; /* uses in this phase, and in that before it */
};

/* What it knows of a pattern. */
struct learner {
	struct block block[BLOCKS];
	unsigned phase;
	uint32_t last; /* the block that was used last */
	bool alike;    /* all blocks are equally likely */
	bool knows;    /* which half a phase is over */
};

/* The likelier, the more; never used: 0. */
static uint32_t likely(const struct learner *learner, uint32_t at)
{
	const struct block *block = &learner->block[at];
	uint32_t begin = begin_of(learner->phase);

	if (!block->used)
		return 0;
	if (learner->alike)
		return 1;
	if (block->count)
		return block->count + 3;
	if (learner->knows)
		return at >= begin && at < begin + HALF ? 3 : 1;
	return block->late ? 3 : block->before ? 2 : 1;
}

/*
 * The share of blocks that are worth as much as this that are there, where the room - 1 that are
 * worth most are, and the last. What was never used is worth 0.
 */
static double share_there(const double *worth, uint32_t last, uint32_t used, uint32_t room)
{
	uint32_t above = 0, same = 0;

	for (uint32_t k = 0; k < BLOCKS; k++) {
		above += k != last && worth[k] > worth[used];
		same += k != last && worth[k] == worth[used];
	}
	if (worth[used] == 0 || above >= room - 1)
		return 0;
	return fmin(1, (double)(room - 1 - above) / same);
}

static void learn(struct learner *learner, uint32_t used, unsigned phase)
{
	struct block *block = &learner->block[used];

	block->late |= !block->used && phase;
	block->used = true;
	block->count++;
	learner->last = used;
}

static void begin_phase(struct learner *learner, unsigned phase)
{
	if (phase == learner->phase)
		return;
	learner->phase = phase;
	for (uint32_t k = 0; k < BLOCKS; k++) {
		learner->block[k].before = learner->block[k].count;
		learner->block[k].count = 0;
	}
}

static double learns(const struct trace *trace, uint32_t room, bool knows)
{
	struct learner learner = { .last = BLOCKS,
				   .alike = !strcmp(trace->name, "random"),
				   .knows = knows };
	size_t end[PHASES];
	double misses = 0, worth[BLOCKS];

	find_ends(trace, end);
	for (size_t i = 0; i < trace->n; i++) {
		begin_phase(&learner, phase_of(end, i));
		for (uint32_t k = 0; k < BLOCKS; k++)
			worth[k] = likely(&learner, k);
		misses += 1 - share_there(worth, learner.last, trace->block[i], room);
		learn(&learner, trace->block[i], learner.phase);
	}
	return misses;
}

/* Of names, and of the places in a pattern that they may be of. */
struct beliefs {
	double chance[PHASES][BLOCKS];	/* of a place */
	double odds[PHASES][BLOCKS];	/* the logarithm of the chance by that of no use */
	double without[PHASES][BLOCKS]; /* of the latter */
	uint32_t count[PHASES][BLOCKS]; /* uses of a name */
	uint32_t uses[PHASES];
	double weight[BLOCKS][BLOCKS]; /* how likely a name is to be of a place */
	double worth[BLOCKS];	       /* how likely a name is to be used */
};

static void beliefs_init(struct beliefs *b, const char *pattern)
{
	double chance;

	memset(b, 0, sizeof(*b));
	for (unsigned phase = 0; phase < PHASES; phase++)
		for (uint32_t k = 0; k < BLOCKS; k++) {
			chance = b->chance[phase][k] = chance_of(pattern, phase, k);
			b->odds[phase][k] = chance > 0 ? log(chance / (1 - chance)) : -1e3;
			b->without[phase][k] = log(1 - chance);
		}
}

/* By what was seen of it so far. */
static void weigh_name(struct beliefs *b, uint32_t name, unsigned phase)
{
	double *weight = b->weight[name], top = -INFINITY, sum = 0;

	for (uint32_t k = 0; k < BLOCKS; k++) {
		weight[k] = 0;
		for (unsigned p = 0; p <= phase; p++)
			weight[k] +=
				b->count[p][name] * b->odds[p][k] + b->uses[p] * b->without[p][k];
		top = fmax(top, weight[k]);
	}
	for (uint32_t k = 0; k < BLOCKS; k++)
		sum += weight[k] = exp(weight[k] - top) + 1e-300;
	for (uint32_t k = 0; k < BLOCKS; k++)
		weight[k] /= sum;
}

/* A place has one name, a name one place. */
static void scale(struct beliefs *b)
{
	double column[BLOCKS], row;

	for (uint32_t k = 0; k < BLOCKS; k++)
		column[k] = 1e-290;
	for (uint32_t name = 0; name < BLOCKS; name++)
		for (uint32_t k = 0; k < BLOCKS; k++)
			column[k] += b->weight[name][k];
	for (uint32_t name = 0; name < BLOCKS; name++) {
		row = 0;
		for (uint32_t k = 0; k < BLOCKS; k++)
			row += b->weight[name][k] /= column[k];
		for (uint32_t k = 0; k < BLOCKS; k++)
			b->weight[name][k] /= row;
	}
}

static void weigh(struct beliefs *b, unsigned phase)
{
	for (uint32_t name = 0; name < BLOCKS; name++)
		weigh_name(b, name, phase);
	for (unsigned i = 0; i < SCALED; i++)
		scale(b);
	for (uint32_t name = 0; name < BLOCKS; name++) {
		b->worth[name] = 0;
		for (uint32_t k = 0; k < BLOCKS; k++)
			b->worth[name] += b->weight[name][k] * b->chance[phase][k];
	}
}

/* The one that is there and worth least, besides the last. */
static uint32_t worth_least(const struct beliefs *b, const bool *there, uint32_t last)
{
	uint32_t least = BLOCKS;

	for (uint32_t k = 0; k < BLOCKS; k++)
		if (there[k] && k != last && (least == BLOCKS || b->worth[k] < b->worth[least]))
			least = k;
	return least;
}

/* What it misses at no price; *pages: on demand. */
static double infers(const struct trace *trace, uint32_t room, unsigned every, double *pages)
{
	static struct beliefs beliefs;
	bool there[BLOCKS] = { false };
	double misses = 0, worth[BLOCKS] = { 0 };
	uint32_t n = 0, last = BLOCKS;
	unsigned phase = PHASES;
	size_t end[PHASES];

	find_ends(trace, end);
	beliefs_init(&beliefs, trace->name);
	*pages = 0;
	for (size_t i = 0; i < trace->n; i++) {
		uint32_t used = trace->block[i];

		if (phase != phase_of(end, i) || i % every == 0) {
			phase = phase_of(end, i);
			weigh(&beliefs, phase);
			for (uint32_t k = 0; k < BLOCKS; k++)
				worth[k] = worth[k] > 0 ? beliefs.worth[k] : 0;
		}
		misses += 1 - share_there(worth, last, used, room);
		if (!there[used]) {
			++*pages;
			if (n == room)
				there[worth_least(&beliefs, there, last)] = false;
			else
				n++;
			there[used] = true;
		}
		beliefs.count[phase][used]++;
		beliefs.uses[phase]++;
		worth[used] = beliefs.worth[used];
		last = used;
	}
	return misses;
}

static void add_draw(struct row *row, const struct trace *trace, uint32_t room, bool drawn)
{
	struct sim_result best, ours;
	double misses[NR_WHO], more;

	assert_int_equal(sim_optimum(trace, room, &best), 0);
	assert_int_equal(sim_replay(trace, &order_adaptive, room, &ours), 0);
	misses[OURS] = (double)ours.misses;
	misses[TOLD] = drawn ? told(trace, room) : (double)best.misses;
	misses[KNOWS] = drawn ? learns(trace, room, true) : (double)best.misses;
	misses[LEARNS] = drawn ? learns(trace, room, false) : (double)best.misses;
	misses[INFERS] = misses[PAGES] = (double)best.misses;
	if (drawn && row->nwho == NR_WHO)
		misses[INFERS] = infers(trace, room, EVERY, &misses[PAGES]);
	for (unsigned w = 0; w < row->nwho; w++) {
		more = log(misses[w] / (double)best.misses);
		row->sum[w] += more;
		row->squares[w] += more * more;
	}
	row->n++;
}

static double spread(const struct row *row, unsigned who)
{
	double mean = row->sum[who] / row->n;

	return sqrt(fmax(0, row->squares[who] / row->n - mean * mean));
}

static struct row pattern_row(const char *name, uint32_t room, struct draws draws)
{
	bool drawn = !strcmp(name, "random") || !strcmp(name, "zipf") || !strcmp(name, "phase");
	bool random = drawn || !strcmp(name, "scan");
	struct row row = { .nwho = draws.nwho };
	struct trace trace;

	for (unsigned k = 1; k <= (random ? draws.n : 1); k++) {
		struct pattern_draw draw = { .seed = k * UINT64_C(0x9e3779b97f4a7c15),
					     .rounds = draws.rounds };

		assert_int_equal(pattern_drawn(name, BLOCKS, room, draw, &trace), 0);
		add_draw(&row, &trace, room, drawn);
		trace_fini(&trace);
	}
	print_message("%-10s room for %3u:", name, room);
	for (unsigned w = 0; w < row.nwho; w++)
		print_message(" %s %.3f +- %.3f", names[w], exp(row.sum[w] / row.n),
			      spread(&row, w));
	print_message("\n");
	return row;
}

/* The geometric means over all patterns and memories. */
static void means(struct draws draws, double *mean)
{
	double sum[NR_WHO] = { 0 };

	for (unsigned run = 0; run < NR_PATTERNS * NR_SHARES; run++) {
		struct row row = pattern_row(pattern_names[run / NR_SHARES],
					     BLOCKS * sim_shares[run % NR_SHARES] / 100, draws);

		for (unsigned w = 0; w < row.nwho; w++)
			sum[w] += row.sum[w] / row.n;
	}
	print_message("mean, %u draws of %u rounds:", draws.n, draws.rounds);
	for (unsigned w = 0; w < draws.nwho; w++) {
		mean[w] = exp(sum[w] / (NR_PATTERNS * NR_SHARES));
		print_message(" %s %.4f", names[w], mean[w]);
	}
	print_message("\n");
}

static void who_knows_a_pattern_comes_near_the_goal(void **state)
{
	double mean[NR_WHO];

	(void)state;
	means((struct draws){ 8, PATTERN_ROUNDS, NR_FAST }, mean);
	assert_true(mean[TOLD] < GOAL && mean[KNOWS] < GOAL);
	assert_true(mean[LEARNS] > GOAL && mean[LEARNS] < 1.01 * GOAL);
	/* And the default is hardly worse. */
	assert_true(mean[OURS] > mean[LEARNS] && mean[OURS] < 1.03 * mean[LEARNS]);
}

static void of_longer_patterns_they_stay_above_it(void **state)
{
	double mean[NR_WHO];

	(void)state;
	means((struct draws){ 2, 4 * PATTERN_ROUNDS, NR_FAST }, mean);
	assert_true(mean[TOLD] > GOAL);
	assert_true(mean[LEARNS] > mean[KNOWS] && mean[KNOWS] > mean[TOLD]);
	assert_true(mean[OURS] < 1.03 * mean[LEARNS]);
}

/* What was used in earlier phases tells which blocks leave: counts of this one are not all. */
static void who_infers_misses_less_than_who_counts(void **state)
{
	struct row row;

	(void)state;
	row = pattern_row("phase", BLOCKS / 4, (struct draws){ 1, PATTERN_ROUNDS, NR_WHO });
	assert_true(row.sum[INFERS] < row.sum[LEARNS]);
	assert_true(row.sum[INFERS] < row.sum[PAGES] && row.sum[PAGES] < row.sum[OURS]);
	assert_true(row.sum[TOLD] < row.sum[INFERS]);
}

static void fill(struct trace *trace, const uint32_t *blocks, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(trace_add(trace, blocks[i]), 0);
}

/* By hand: what was used most often is there, of a tie half. */
static void what_they_miss_by_hand(void **state)
{
	static const uint32_t blocks[] = { 1, 2, 1, 3, 2, 3 };
	struct trace trace = { .name = "zipf" };
	double pages;

	(void)state;
	fill(&trace, blocks, sizeof(blocks) / sizeof(blocks[0]));
	/* New: 1, 2, 3. The second 1 is the one other block; the second 2 and 3 are behind 1. */
	assert_true(fabs(learns(&trace, 2, false) - 5) < 1e-9);
	/* Among chances that stay as they are, counts are all that is to be inferred. */
	assert_true(fabs(infers(&trace, 2, 1, &pages) - 5) < 1e-9);
	/* On demand 1 leaves for the second 2, as 3 was used last: so 3 is still there. */
	assert_true(fabs(pages - 4) < 1e-9);
	/* With room for one more, none of them is missed again. */
	assert_true(fabs(learns(&trace, 3, false) - 3) < 1e-9);
	assert_true(fabs(infers(&trace, 3, 1, &pages) - 3) < 1e-9);
	assert_true(fabs(pages - 3) < 1e-9);
	memcpy(trace.name, "random", sizeof("random"));
	/* All alike: of the two others one is there. */
	assert_true(fabs(learns(&trace, 2, false) - 4) < 1e-9);
	assert_true(fabs(infers(&trace, 2, 1, &pages) - 4) < 1e-9);
	trace_fini(&trace);
}

/* usage: test_learners [DRAWS TIMES]: prints the means of so many draws, of patterns so long. */
int main(int argc, char **argv)
{
	double mean[NR_WHO];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_they_miss_by_hand),
		cmocka_unit_test(who_knows_a_pattern_comes_near_the_goal),
		cmocka_unit_test(of_longer_patterns_they_stay_above_it),
		cmocka_unit_test(who_infers_misses_less_than_who_counts),
	};

	if (argc == 3) {
		means((struct draws){ (unsigned)atoi(argv[1]),
				      (unsigned)atoi(argv[2]) * PATTERN_ROUNDS, NR_WHO },
		      mean);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
