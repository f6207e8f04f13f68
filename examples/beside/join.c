/* SPDX-License-Identifier: MIT */
/*
 * A hash join of two tables of WordNet: how many senses of words are there of each of the 45 kinds
 * of meaning (animals, feelings, ...)? Table, lookup and counts are in managed memory: the device
 * builds the table there, and the CPU reads the counts.
 */
#include <stdio.h>
#include <stdlib.h>

#include "beside.h"
#include "words.h"

#define BITS 18

extern const char join_cl[];

struct meaning {
	uint32_t key;
	uint32_t file;
};

struct join { /* as in join.cl */
	struct meaning *meanings;
	uint32_t *senses;
	uint32_t *slots;
	uint32_t *counts;
	uint64_t bits;
};

static uint32_t nmeanings, nsenses;

static void add_meaning(void *priv, uint32_t key, uint32_t file)
{
	struct join *join = priv;

	beside_need(nmeanings < WORDS_MOST_MEANINGS && file < WORDS_FILES, "WordNet has grown");
	join->meanings[nmeanings++] = (struct meaning){ .key = key, .file = file };
}

static void add_sense(void *priv, uint32_t key)
{
	struct join *join = priv;

	beside_need(nsenses < WORDS_MOST_SENSES, "WordNet has grown");
	join->senses[nsenses++] = key;
}

static struct join *load_tables(struct beside *b)
{
	struct join *join = beside_alloc(b, sizeof(*join));

	join->meanings = beside_alloc(b, WORDS_MOST_MEANINGS * sizeof(struct meaning));
	join->senses = beside_alloc(b, WORDS_MOST_SENSES * sizeof(uint32_t));
	join->slots = beside_alloc(b, sizeof(uint32_t) << BITS);
	join->counts = beside_alloc(b, WORDS_FILES * sizeof(uint32_t));
	join->bits = BITS;
	words_meanings(add_meaning, join);
	words_senses(add_sense, join);
	return join;
}

/* The same by hand. The bytes copied. */
static size_t by_hand(struct beside *b, const struct join *join, uint32_t *counts)
{
	size_t meanings_bytes = nmeanings * sizeof(struct meaning),
	       senses_bytes = nsenses * sizeof(uint32_t);
	cl_mem meanings = beside_buffer(b, meanings_bytes, join->meanings);
	cl_mem senses = beside_buffer(b, senses_bytes, join->senses);
	cl_mem slots = beside_buffer(b, sizeof(uint32_t) << BITS, NULL);
	cl_mem sums = beside_buffer(b, WORDS_FILES * sizeof(uint32_t), NULL);

	beside_run(b, "copied_build", nmeanings, 2, (cl_mem[]){ meanings, slots }, BITS);
	beside_run(b, "copied_probe", nsenses, 4, (cl_mem[]){ meanings, senses, slots, sums },
		   BITS);
	beside_read(b, sums, WORDS_FILES * sizeof(uint32_t), counts);
	clReleaseMemObject(meanings);
	clReleaseMemObject(senses);
	clReleaseMemObject(slots);
	clReleaseMemObject(sums);
	return meanings_bytes + senses_bytes + (sizeof(uint32_t) << BITS);
}

int main(void)
{
	uint32_t counts[WORDS_FILES], wrong = 0, joined = 0;
	struct join *join;
	struct beside b;
	double start, middle;
	size_t copied;

	beside_start(&b);
	join = load_tables(&b);
	beside_open(&b, join_cl, 4 << 20);
	start = beside_seconds();
	beside_launch(&b, "build", nmeanings, 1, (cl_ulong[]){ (uintptr_t)join });
	beside_launch(&b, "probe", nsenses, 1, (cl_ulong[]){ (uintptr_t)join });
	middle = beside_seconds();
	copied = by_hand(&b, join, counts);
	beside_report(&b, middle - start, beside_seconds() - middle, copied);
	for (int i = 0; i < WORDS_FILES; i++) {
		wrong += join->counts[i] != counts[i];
		joined += join->counts[i];
	}
	printf("%u of %u senses joined with %u meanings, %u counts differ\n", joined, nsenses,
	       nmeanings, wrong);
	beside_close(&b);
	return wrong || joined != nsenses;
}
