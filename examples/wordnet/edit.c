/* SPDX-License-Identifier: MIT */
/*
 * What the CPU does to the structure between launches: ordinary list surgery, in place.
 *
 * A *join* gives two synsets a link to each other, a *cut* takes all links between two away.
 * Either way whoever can go somewhere can still come back. The journal has every single link
 * that came or went: played backwards it restores the structure, but for the order of lists.
 */
#include <errno.h>
#include <stdlib.h>

#include "edit.h"
#include "random.h"

#define EDIT_JOINS 48
#define EDIT_CUTS  48

static int journal_add(struct journal *journal, struct synset *from, const struct link *link,
		       bool added)
{
	struct edit *edits;

	if (journal->nedits == journal->capacity) {
		journal->capacity = journal->capacity ? 2 * journal->capacity : 1024;
		edits = reallocarray(journal->edits, journal->capacity, sizeof(*edits));
		if (!edits)
			return -ENOMEM;
		journal->edits = edits;
	}
	journal->edits[journal->nedits++] =
		(struct edit){ .from = from, .link = *link, .added = added };
	return 0;
}

static int add(struct wordnet *w, struct journal *journal, struct synset *from, struct synset *to,
	       enum link_type type)
{
	struct link link = { .target = to, .type = (unsigned short)type };
	int ret = wordnet_link(w, from, &link);

	return ret ? ret : journal_add(journal, from, &link, true);
}

static int join_both(struct wordnet *w, struct journal *journal, struct synset *a, struct synset *b,
		     enum link_type there, enum link_type back)
{
	int ret = add(w, journal, a, b, there);

	return ret ? ret : add(w, journal, b, a, back);
}

/* Take all links from one synset to another away. */
static int clear(struct wordnet *w, struct journal *journal, struct synset *from,
		 const struct synset *to)
{
	struct link *link, *next, gone;
	int ret = 0;

	for (link = from->links; link && !ret; link = next) {
		next = link->next;
		if (link->target != to)
			continue;
		gone = *link;
		ret = wordnet_unlink(w, from, &gone);
		if (!ret)
			ret = journal_add(journal, from, &gone, false);
	}
	return ret;
}

static int cut(struct wordnet *w, struct journal *journal, struct synset *a, struct synset *b)
{
	int ret = clear(w, journal, a, b);

	return ret ? ret : clear(w, journal, b, a);
}

static struct synset *any_synset(struct wordnet *w, uint64_t *random)
{
	return &w->synsets[random_below(random, w->nsynsets)];
}

/* Cut it off from the neighbour that is first in the database: lists may be in any order. */
static int cut_any(struct wordnet *w, struct journal *journal, uint64_t *random)
{
	struct synset *from = any_synset(w, random), *to = NULL;
	const struct link *link;

	for (link = from->links; link; link = link->next)
		if (!to || link->target < to)
			to = link->target;
	return to ? cut(w, journal, from, to) : 0;
}

/* Every other one becomes a more general meaning of the other: hypernyms change too. */
static int join_any(struct wordnet *w, struct journal *journal, uint64_t *random, int nth)
{
	struct synset *a = any_synset(w, random), *b = any_synset(w, random);

	if (nth % 2 && a->pos == 'n' && b->pos == 'n')
		return join_both(w, journal, a, b, LINK_HYPERNYM, LINK_HYPONYM);
	return join_both(w, journal, a, b, LINK_ALSO_SEE, LINK_ALSO_SEE);
}

int edit_round(struct wordnet *w, struct journal *journal, unsigned round, const struct query *join,
	       const struct query *cut_off)
{
	size_t before = journal->nedits;
	uint64_t random = round;
	int i, ret;

	ret = join_both(w, journal, join->a->senses->synset, join->b->senses->synset, LINK_ALSO_SEE,
			LINK_ALSO_SEE);
	if (!ret && cut_off)
		ret = cut(w, journal, cut_off->a->senses->synset, cut_off->b->senses->synset);
	for (i = 0; i < EDIT_JOINS && !ret; i++)
		ret = join_any(w, journal, &random, i);
	for (i = 0; i < EDIT_CUTS && !ret; i++)
		ret = cut_any(w, journal, &random);
	return ret ? ret : (int)(journal->nedits - before);
}

int edit_undo(struct wordnet *w, struct journal *journal, size_t nedits)
{
	const struct edit *edit;
	int ret = 0;

	while (journal->nedits > nedits && !ret) {
		edit = &journal->edits[--journal->nedits];
		ret = edit->added ? wordnet_unlink(w, edit->from, &edit->link) :
				    wordnet_link(w, edit->from, &edit->link);
	}
	return ret;
}

void journal_free(struct journal *journal)
{
	free(journal->edits);
	*journal = (struct journal){ 0 };
}
