/* SPDX-License-Identifier: MIT */
/*
 * The reference: the same questions over the same structure, by code that has nothing in common
 * with the kernel but the structs. It follows pointers like any program would.
 *
 * Where the kernel searches from both words at once, this goes from one word outwards until it
 * comes upon the other; where the kernel climbs to the hypernyms level by level, this climbs
 * recursively. steps[] has how far each synset is from the first word, and forgets nothing that
 * reached[] does not name.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#define FAR 255

struct cpu {
	const struct wordnet *w;
	unsigned char *steps;	 /* of each synset, from one word; FAR: not reached */
	unsigned char *steps2;	 /* from the other */
	struct synset **reached; /* what has steps, in the order in which it was reached */
	struct synset **reached2;
	size_t nreached;
	size_t nreached2;
};

struct cpu *cpu_create(const struct wordnet *w)
{
	struct cpu *cpu = calloc(1, sizeof(*cpu));

	if (!cpu)
		return NULL;
	cpu->w = w;
	cpu->steps = malloc(w->nsynsets);
	cpu->steps2 = malloc(w->nsynsets);
	cpu->reached = calloc(w->nsynsets, sizeof(struct synset *));
	cpu->reached2 = calloc(w->nsynsets, sizeof(struct synset *));
	if (!cpu->steps || !cpu->steps2 || !cpu->reached || !cpu->reached2) {
		cpu_destroy(cpu);
		return NULL;
	}
	memset(cpu->steps, FAR, w->nsynsets);
	memset(cpu->steps2, FAR, w->nsynsets);
	return cpu;
}

void cpu_destroy(struct cpu *cpu)
{
	if (!cpu)
		return;
	free(cpu->reached2);
	free(cpu->reached);
	free(cpu->steps2);
	free(cpu->steps);
	free(cpu);
}

static void forget(struct cpu *cpu)
{
	while (cpu->nreached)
		cpu->steps[synset_index(cpu->w, cpu->reached[--cpu->nreached])] = FAR;
	while (cpu->nreached2)
		cpu->steps2[synset_index(cpu->w, cpu->reached2[--cpu->nreached2])] = FAR;
}

static void reach(struct cpu *cpu, struct synset *synset, int steps)
{
	size_t index = synset_index(cpu->w, synset);

	/* A damaged structure may spoil the answer, but not crash the check. */
	if (index >= cpu->w->nsynsets || cpu->steps[index] != FAR)
		return;
	cpu->steps[index] = (unsigned char)steps;
	cpu->reached[cpu->nreached++] = synset;
}

static bool means(const struct word *word, const struct synset *synset)
{
	const struct sense *sense;

	for (sense = word->senses; sense; sense = sense->next_of_word)
		if (sense->synset == synset)
			return true;
	return false;
}

static int distance(struct cpu *cpu, const struct word *a, const struct word *b)
{
	const struct sense *sense;
	const struct link *link;
	struct synset *synset;
	size_t i;
	int steps;

	for (sense = a->senses; sense; sense = sense->next_of_word)
		reach(cpu, sense->synset, 0);
	for (i = 0; i < cpu->nreached; i++) {
		synset = cpu->reached[i];
		steps = cpu->steps[synset_index(cpu->w, synset)];
		if (means(b, synset))
			return steps;
		if (steps == DISTANCE_MAX)
			continue;
		for (link = synset->links; link; link = link->next)
			reach(cpu, link->target, steps + 1);
	}
	return QUERY_NONE;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the taxonomy, some twenty calls */
static void climb(const struct wordnet *w, struct synset *synset, int steps, unsigned char *known,
		  struct synset **reached, size_t *nreached)
{
	size_t index = synset_index(w, synset);
	const struct link *link;

	if (index >= w->nsynsets || known[index] <= steps || steps == FAR)
		return;
	if (known[index] == FAR)
		reached[(*nreached)++] = synset;
	known[index] = (unsigned char)steps;
	for (link = synset->links; link; link = link->next)
		if (link->type == LINK_HYPERNYM || link->type == LINK_INSTANCE_HYPERNYM)
			climb(w, link->target, steps + 1, known, reached, nreached);
}

/* Fewest steps in all; of several such, the first of the database. */
static int nearest_hypernym(struct cpu *cpu, const struct word *a, const struct word *b,
			    struct synset **meet)
{
	const struct sense *sense;
	int best = QUERY_NONE, sum;
	size_t i, index;

	for (sense = a->senses; sense; sense = sense->next_of_word)
		if (sense->synset->pos == 'n')
			climb(cpu->w, sense->synset, 0, cpu->steps, cpu->reached, &cpu->nreached);
	for (sense = b->senses; sense; sense = sense->next_of_word)
		if (sense->synset->pos == 'n')
			climb(cpu->w, sense->synset, 0, cpu->steps2, cpu->reached2,
			      &cpu->nreached2);
	for (i = 0; i < cpu->nreached; i++) {
		index = synset_index(cpu->w, cpu->reached[i]);
		if (cpu->steps2[index] == FAR)
			continue;
		sum = cpu->steps[index] + cpu->steps2[index];
		if (best != QUERY_NONE && (sum > best || (sum == best && cpu->reached[i] > *meet)))
			continue;
		best = sum;
		*meet = cpu->reached[i];
	}
	return best;
}

void cpu_answer(struct cpu *cpu, struct query *query)
{
	query->meet = NULL;
	if (query->kind == QUERY_DISTANCE)
		query->steps = distance(cpu, query->a, query->b);
	else
		query->steps = nearest_hypernym(cpu, query->a, query->b, &query->meet);
	forget(cpu);
}
