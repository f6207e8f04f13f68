/* SPDX-License-Identifier: MIT */
/*
 * Pairs of words drawn from the dictionary by a generator with a fixed seed.
 *
 * Two random words are seldom within reach of each other, so every other distance is asked for
 * a word and one that a short random walk from it ends at.
 */
#include <errno.h>
#include <stdio.h>

#include "questions.h"
#include "random.h"

#define SEED UINT64_C(0x776f72646e6574) /* "wordnet" */

const struct named_pair named_pairs[] = {
	{ "dog", "cat" },   { "wolf", "computer" }, { "coffee", "tea" }, { "river", "money" },
	{ "love", "hate" }, { "violin", "guitar" }, { "king", "queen" }, { "moon", "apple" },
};
const size_t n_named_pairs = sizeof(named_pairs) / sizeof(named_pairs[0]);

static void ask(struct query *query, enum query_kind kind, struct word *a, struct word *b)
{
	*query = (struct query){ .a = a, .b = b, .kind = kind, .steps = QUERY_UNANSWERED };
}

static struct word *any_word(const struct wordnet *w, uint64_t *random)
{
	return &w->words[random_below(random, w->nwords)];
}

static struct word *any_noun(const struct wordnet *w, uint64_t *random)
{
	struct word *word;

	do {
		word = any_word(w, random);
	} while (!word_is_noun(word));
	return word;
}

static struct word *walk(struct word *word, uint64_t *random)
{
	struct synset *synset = word->senses->synset;
	size_t steps = 1 + random_below(random, DISTANCE_MAX), skip;
	struct link *link;

	while (steps--) {
		skip = random_below(random, 8);
		for (link = synset->links; link && link->next && skip--; link = link->next)
			;
		if (!link)
			break;
		synset = link->target;
	}
	return synset->senses->word;
}

static int ask_named(const struct wordnet *w, struct query *query, const struct named_pair *pair)
{
	struct word *a = wordnet_find(w, pair->a), *b = wordnet_find(w, pair->b);

	if (!a || !b) {
		fprintf(stderr, "wordnet-paths: the database does not know the word '%s'\n",
			a ? pair->b : pair->a);
		return -EINVAL;
	}
	ask(&query[0], QUERY_DISTANCE, a, b);
	ask(&query[1], QUERY_HYPERNYM, a, b);
	return 0;
}

int questions_fill(const struct wordnet *w, unsigned round, struct query *queries, size_t n)
{
	uint64_t random = SEED + round;
	struct word *word;
	size_t i;
	int ret;

	for (i = 0; i < 2 * n_named_pairs && i + 1 < n; i += 2) {
		ret = ask_named(w, &queries[i], &named_pairs[i / 2]);
		if (ret)
			return ret;
	}
	for (; i < n; i++) {
		if (i % 2) {
			word = any_noun(w, &random);
			ask(&queries[i], QUERY_HYPERNYM, word, any_noun(w, &random));
			continue;
		}
		word = any_word(w, &random);
		ask(&queries[i], QUERY_DISTANCE, word,
		    i % 4 ? any_word(w, &random) : walk(word, &random));
	}
	return 0;
}
