/* SPDX-License-Identifier: MIT */
/* The WordNet database as a linked structure in managed memory. */
#ifndef WORDNET_H
#define WORDNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umm.h"
#include "graph.h"

/** Where structures of one kind are taken from, one after the other: an array that grows. */
struct pool {
	const char *name; /* for people: "synsets" */
	char *base;
	size_t used_bytes;
};

enum {
	POOL_SYNSETS,
	POOL_LINKS,
	POOL_SENSES,
	POOL_WORDS,
	POOL_TEXT,
	NPOOLS,
};

#define POOL_BYTES   ((size_t)64 << 20) /* reserved for each; costs nothing until it is touched */
#define BUCKETS_BITS 18

struct wordnet {
	struct umm_ctx *ctx;
	struct pool pool[NPOOLS];
	struct synset *synsets; /* the pools as arrays */
	struct word *words;
	size_t nsynsets;
	size_t nwords;
	size_t nsenses;
	size_t npointers;	 /* links that the database has, */
	size_t nback;		 /* and those that were added so that every link has its way back */
	struct link *free_links; /* unlinked, for the next wordnet_link() */
	struct word **buckets;	 /* of the dictionary, in ordinary memory */
};

/**
 * wordnet_load() - read the database and build the structure
 * @w:   filled in
 * @ctx: where the memory comes from
 * @dir: the folder of data.noun, data.verb, data.adj and data.adv
 *
 * Return: 0; -ENOENT there is no database in @dir; or another negative errno. It said why.
 */
int wordnet_load(struct wordnet *w, struct umm_ctx *ctx, const char *dir);

/** wordnet_free() - give the memory back */
void wordnet_free(struct wordnet *w);

/** wordnet_find() - a word by its text, as "dog" or "ice_cream"; NULL: there is none */
struct word *wordnet_find(const struct wordnet *w, const char *text);

/** wordnet_bytes() - size of the structure, in whole pages */
size_t wordnet_bytes(const struct wordnet *w);

/** synset_index() - which synset it is, counted from 0 */
static inline size_t synset_index(const struct wordnet *w, const struct synset *synset)
{
	return (size_t)(synset - w->synsets);
}

/** synset_name() - its first word */
static inline const char *synset_name(const struct synset *synset)
{
	return synset->senses->word->text;
}

/** word_is_noun() - is any of its senses a noun? */
bool word_is_noun(const struct word *word);

/**
 * wordnet_link() - add a link in front of a synset's list
 * @link: copied, but for its place in the list
 *
 * Return: 0; -ENOMEM no room in the pool.
 */
int wordnet_link(struct wordnet *w, struct synset *from, const struct link *link);

/**
 * wordnet_unlink() - take the first link that is equal to @link out of a synset's list
 *
 * Return: 0; -ENOENT there is none.
 */
int wordnet_unlink(struct wordnet *w, struct synset *from, const struct link *link);

/** wordnet_checksum() - the same for structures with the same links, in whatever order */
uint64_t wordnet_checksum(const struct wordnet *w);

#endif /* WORDNET_H */
