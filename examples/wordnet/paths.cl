/* SPDX-License-Identifier: MIT */
/*
 * The device's side: one work-item answers one query by following the CPU's pointers.
 *
 * It searches breadth first from both words at once: each side has the synsets that it reached,
 * level by level, and marks which they are. For a distance the side with the smaller level goes
 * on until it reaches something that the other has seen; for the nearest common hypernym both
 * climb to the top, and the best synset that both have reached wins.
 *
 * A page that the device lacks makes umm_faulted() true; the host brings it and starts the
 * work-item again. Two things keep that cheap. How far the search got is in struct search, in
 * a plain buffer: the work-item goes on from there instead of from its start, and needs only a
 * few pages at a time. And the links of each synset are followed with a copy of the translation
 * state, so that a missing page stops only the synset that needs it: one pass asks for many
 * pages. To follow a synset twice is harmless, since what is marked as seen is not reached again.
 *
 * graph.h comes before this text.
 */

/* The structs are those of the CPU: this does not compile where pointers have another size. */
typedef char pointers_have_64_bits[sizeof(__global void *) == 8 ? 1 : -1];

/* Few enough that all work-items together ask for no more than a small device holds. */
#define PASS_MISSES_MAX 24

static bool test_bit(__global const uint *bits, uint i)
{
	return bits[i / 32] >> (i % 32) & 1;
}

static void set_bit(__global uint *bits, uint i)
{
	bits[i / 32] |= 1u << (i % 32);
}

static uint level_size(__global const struct search_side *side)
{
	return side->start[side->depth + 1] - side->start[side->depth];
}

/* What does not change during a search. */
struct question {
	__global struct search *search;
	ulong synsets; /* the array that all synsets are in: gives each a number */
	uint links;    /* bits of the types of links to follow */
};

static void reach(const struct question *question, int which, __global struct synset *synset)
{
	__global struct search_side *side = &question->search->side[which];
	uint index = (uint)(((ulong)synset - question->synsets) / sizeof(struct synset));

	if (index >= SYNSETS_MAX) /* no synset: it may spoil the answer, but not the memory */
		return;
	if (test_bit(question->search->side[!which].seen, index))
		question->search->met = 1;
	if (test_bit(side->seen, index))
		return;
	set_bit(side->seen, index);
	if (side->nnodes == NODES_MAX)
		side->dropped = 1;
	else
		side->node[side->nnodes++] = synset;
}

/* The synsets of a word become the first level of a side. False: a page is missing. */
static bool seed(struct umm *u, const struct question *question, int which,
		 __global struct word *word)
{
	__global struct search_side *side = &question->search->side[which];
	__global struct sense *sense;
	__global struct synset *synset;
	char pos;

	sense = side->seeding ? side->sense :
				(__global struct sense *)umm_load_ptr(u, (ulong)&word->senses);
	while (!umm_faulted(u)) {
		side->seeding = 1;
		side->sense = sense;
		if (!sense)
			break;
		synset = (__global struct synset *)umm_load_ptr(u, (ulong)&sense->synset);
		pos = umm_load_char(u, (ulong)&synset->pos);
		sense = (__global struct sense *)umm_load_ptr(u, (ulong)&sense->next_of_word);
		if (!umm_faulted(u) && (pos == 'n' || question->links != LINKS_HYPERNYM))
			reach(question, which, synset);
	}
	side->start[1] = side->nnodes;
	return !umm_faulted(u);
}

/*
 * Reach whatever node[i] has links to. False: a page is missing; then the first such node
 * keeps its place, so that links on many pages are not needed all at once.
 */
static bool follow(struct umm *u, const struct question *question, int which, uint i, bool first)
{
	__global struct search_side *side = &question->search->side[which];
	__global struct link *link, *next;
	__global struct synset *target;
	ushort type;

	link = side->going == i + 1 ?
		       side->link :
		       (__global struct link *)umm_load_ptr(u, (ulong)&side->node[i]->links);
	while (!umm_faulted(u)) {
		if (first) {
			side->going = i + 1;
			side->link = link;
		}
		if (!link)
			break;
		target = (__global struct synset *)umm_load_ptr(u, (ulong)&link->target);
		type = umm_load_ushort(u, (ulong)&link->type);
		next = (__global struct link *)umm_load_ptr(u, (ulong)&link->next);
		if (!umm_faulted(u) && question->links >> type & 1)
			reach(question, which, target);
		link = next;
	}
	return !umm_faulted(u);
}

static bool found(const struct question *question)
{
	return question->search->met && question->links != LINKS_HYPERNYM;
}

/* Go one level further from one side. False: pages are missing. */
static bool expand(const struct umm *u, const struct question *question, int which)
{
	__global struct search_side *side = &question->search->side[which];
	uint i, nmisses = 0, end = side->start[side->depth + 1];
	struct umm own = *u;

	for (i = side->start[side->depth]; i < end && nmisses < PASS_MISSES_MAX; i++) {
		if (found(question))
			break;
		if (test_bit(side->followed, i))
			continue;
		if (follow(&own, question, which, i, nmisses == 0)) {
			set_bit(side->followed, i);
		} else {
			own = *u;
			nmisses++;
		}
	}
	if (nmisses && !found(question))
		return false;
	side->depth++;
	side->start[side->depth + 1] = side->nnodes;
	side->overflow = side->dropped;
	return true;
}

static int smaller_side(__global const struct search *search)
{
	__global const struct search_side *side = search->side;

	if (side[0].overflow || side[1].overflow)
		return side[0].overflow ? 1 : 0;
	return level_size(&side[1]) < level_size(&side[0]);
}

/*
 * Every link has its way back, so a synset that one side reaches at this depth and the other has
 * seen is in the other's deepest level: the sum of both depths is the distance.
 */
static int find_distance(const struct umm *u, const struct question *question)
{
	__global struct search *search = question->search;
	__global struct search_side *side = search->side;
	int which;

	while (!found(question)) {
		if (side[0].depth + side[1].depth == DISTANCE_MAX)
			return QUERY_NONE;
		if (side[0].overflow && side[1].overflow)
			return QUERY_TOO_LARGE;
		which = smaller_side(search);
		if (level_size(&side[which]) == 0)
			return QUERY_NONE;
		if (!expand(u, question, which))
			return QUERY_UNANSWERED;
	}
	return side[0].depth + side[1].depth;
}

static uint depth_of(__global const struct search_side *side, uint node)
{
	uint depth = 0;

	while (side->start[depth + 1] <= node)
		depth++;
	return depth;
}

/* Fewest steps from both words; of several such synsets the first. */
static int nearest_common(__global const struct search_side *side, __global struct synset **meet)
{
	int best = QUERY_NONE, steps;
	uint i, j;

	for (i = 0; i < side[0].nnodes; i++) {
		for (j = 0; j < side[1].nnodes && side[1].node[j] != side[0].node[i]; j++)
			;
		if (j == side[1].nnodes)
			continue;
		steps = depth_of(&side[0], i) + depth_of(&side[1], j);
		if (best == QUERY_NONE || steps < best ||
		    (steps == best && side[0].node[i] < *meet)) {
			best = steps;
			*meet = side[0].node[i];
		}
	}
	return best;
}

static int find_hypernym(const struct umm *u, const struct question *question,
			 __global struct synset **meet)
{
	__global struct search_side *side = question->search->side;
	int which;

	for (which = 0; which < 2; which++)
		while (level_size(&side[which]) > 0 || side[which].overflow) {
			if (side[which].overflow || side[which].depth == LEVELS_MAX)
				return QUERY_TOO_LARGE;
			if (!expand(u, question, which))
				return QUERY_UNANSWERED;
		}
	return nearest_common(side, meet);
}

__kernel void paths(UMM_KERNEL_ARGS, ulong queries, ulong synsets, __global struct search *searches)
{
	__global struct query *query = (__global struct query *)queries + get_global_id(0);
	struct question question = { searches + get_global_id(0), synsets, LINKS_ALL };
	__global struct synset *meet = 0;
	__global struct word *a, *b;
	struct umm u;
	int steps;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	if (umm_load_uint(&u, (ulong)&query->kind) == QUERY_HYPERNYM)
		question.links = LINKS_HYPERNYM;
	a = (__global struct word *)umm_load_ptr(&u, (ulong)&query->a);
	b = (__global struct word *)umm_load_ptr(&u, (ulong)&query->b);
	if (umm_faulted(&u) || !a || !b)
		return;
	if (!question.search->seeded) {
		if (!seed(&u, &question, 0, a) || !seed(&u, &question, 1, b))
			return;
		question.search->seeded = 1;
	}
	if (question.links == LINKS_HYPERNYM)
		steps = find_hypernym(&u, &question, &meet);
	else
		steps = find_distance(&u, &question);
	if (steps == QUERY_UNANSWERED)
		return;
	umm_store_int(&u, (ulong)&query->steps, steps);
	umm_store_ptr(&u, (ulong)&query->meet, (ulong)meet);
}
