/* SPDX-License-Identifier: MIT */
/* Changes of the structure by the CPU, written down so that they can be undone. */
#ifndef WORDNET_EDIT_H
#define WORDNET_EDIT_H

#include "wordnet.h"

/** One link that came or went. */
struct edit {
	struct synset *from;
	struct link link;
	bool added;
};

/** What was changed, in order. All zero is an empty one. */
struct journal {
	struct edit *edits;
	size_t nedits;
	size_t capacity;
};

/**
 * edit_round() - what the CPU changes after round @round: the same for the same @round
 * @join: the words of this question get a direct link, from first sense to first sense
 * @cut:  those of this one lose every direct link between these senses; or NULL
 *
 * Return: the number of changes; -ENOMEM.
 */
int edit_round(struct wordnet *w, struct journal *journal, unsigned round, const struct query *join,
	       const struct query *cut);

/**
 * edit_undo() - undo the latest changes
 * @nedits: how many to leave
 *
 * Return: 0; -ENOENT a link that the journal added is not there: the structure is damaged;
 *         -ENOMEM.
 */
int edit_undo(struct wordnet *w, struct journal *journal, size_t nedits);

/** journal_free() - forget everything */
void journal_free(struct journal *journal);

#endif /* WORDNET_EDIT_H */
