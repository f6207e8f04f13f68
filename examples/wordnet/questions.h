/* SPDX-License-Identifier: MIT */
/* What is asked: pairs of real words. */
#ifndef WORDNET_QUESTIONS_H
#define WORDNET_QUESTIONS_H

#include "wordnet.h"

/** The same pairs in every round, for people to look at. */
struct named_pair {
	const char *a;
	const char *b;
};

extern const struct named_pair named_pairs[];
extern const size_t n_named_pairs;

/**
 * questions_fill() - write one round's questions
 * @w:         the words
 * @round:     which; the same questions for the same @round
 * @queries:   @n of them: first the distance and the hypernym of each named pair, as far as
 *             there is room, then random pairs
 *
 * Return: 0; -EINVAL the database lacks a named word (it said which).
 */
int questions_fill(const struct wordnet *w, unsigned round, struct query *queries, size_t n);

#endif /* WORDNET_QUESTIONS_H */
