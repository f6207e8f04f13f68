/* SPDX-License-Identifier: MIT */
/*
 * The structure that the CPU and the device share, as both of their compilers see it: C and
 * OpenCL C. These are ordinary structs with ordinary pointers; both sides follow the same ones.
 *
 * A *synset* is a meaning: a set of synonyms. A *sense* says that a word has a meaning: it is in
 * the list of the word and in that of the synset. A *link* leads from a synset to a related one;
 * whoever can go there can come back, because the target has a link to the source.
 */
#ifndef WORDNET_GRAPH_H
#define WORDNET_GRAPH_H

/* Where a pointer points to. In C there is but one place. */
#ifdef __OPENCL_C_VERSION__
#define SHARED __global
#else
#define SHARED
#endif

/** What a link means, in the order of link_symbols[]. */
enum link_type {
	LINK_HYPERNYM,		/* the target is the more general meaning */
	LINK_INSTANCE_HYPERNYM, /* the target is the class that this is an instance of */
	LINK_HYPONYM,
	LINK_INSTANCE_HYPONYM,
	LINK_ANTONYM,
	LINK_MEMBER_HOLONYM,
	LINK_SUBSTANCE_HOLONYM,
	LINK_PART_HOLONYM,
	LINK_MEMBER_MERONYM,
	LINK_SUBSTANCE_MERONYM,
	LINK_PART_MERONYM,
	LINK_ATTRIBUTE,
	LINK_DERIVED,
	LINK_DOMAIN_TOPIC,
	LINK_IN_TOPIC,
	LINK_DOMAIN_REGION,
	LINK_IN_REGION,
	LINK_DOMAIN_USAGE,
	LINK_IN_USAGE,
	LINK_ENTAILMENT,
	LINK_CAUSE,
	LINK_ALSO_SEE,
	LINK_VERB_GROUP,
	LINK_SIMILAR,
	LINK_PARTICIPLE,
	LINK_PERTAINYM,
	NLINK_SYMBOLS,
	LINK_BACK = NLINK_SYMBOLS, /* the database has only the other direction */
};

#define LINKS_ALL      0xffffffffu
#define LINKS_HYPERNYM (1u << LINK_HYPERNYM | 1u << LINK_INSTANCE_HYPERNYM)

struct link {
	SHARED struct link *next;
	SHARED struct synset *target;
	unsigned short type;	/* enum link_type */
	unsigned char from, to; /* numbers of the words that are related; 0: the whole synset */
};

struct synset {
	SHARED struct link *links;
	SHARED struct sense *senses; /* its words */
	SHARED const char *gloss;    /* definition and examples */
	unsigned offset;	     /* in the file of the database */
	char pos;		     /* n, v, a, s or r */
};

struct sense {
	SHARED struct sense *next_of_word;
	SHARED struct sense *next_of_synset;
	SHARED struct word *word;
	SHARED struct synset *synset;
};

struct word {
	SHARED struct word *chain; /* next in the bucket of the dictionary */
	SHARED struct sense *senses;
	SHARED const char *text;
};

enum query_kind {
	QUERY_DISTANCE, /* how many links from any sense of one word to any of the other */
	QUERY_HYPERNYM, /* the nearest meaning that covers both, as nouns */
};

#define QUERY_NONE	 (-1) /* no path, or more than DISTANCE_MAX links */
#define QUERY_TOO_LARGE	 (-2) /* the search outgrew struct search */
#define QUERY_UNANSWERED (-3)

#define DISTANCE_MAX 6 /* nobody looks further */

/** A question, and its answer in the last two members. */
struct query {
	SHARED struct word *a;
	SHARED struct word *b;
	unsigned kind;
	int steps;		    /* links in all, or one of the above */
	SHARED struct synset *meet; /* QUERY_HYPERNYM: the meaning, or NULL */
};

#define SYNSETS_MAX 131072u /* so many the marks below have room for */
#define NODES_MAX   4096u   /* no word has more meanings than this within two links */
#define LEVELS_MAX  40u	    /* more general meanings above one another: half as many */

/** One of the two ends that a search grows from, breadth first: level by level. */
struct search_side {
	unsigned depth; /* of the level whose links are being followed */
	unsigned nnodes;
	unsigned dropped;		/* part of the next level did not fit into node[] */
	unsigned overflow;		/* part of this one did not */
	unsigned start[LEVELS_MAX + 2]; /* of each level in node[] */
	unsigned seeding;		/* sense is the next of the word to look at */
	unsigned going;			/* link is the next of node[going - 1] to follow */
	SHARED struct sense *sense;
	SHARED struct link *link;
	SHARED struct synset *node[NODES_MAX]; /* what was reached, nearest first */
	unsigned followed[NODES_MAX / 32];     /* marks: all links of node[i] were followed */
	unsigned seen[SYNSETS_MAX / 32];       /* marks: the i-th synset was reached */
};

/** How far a query got. It survives when a page is missing and the work-item starts again. */
struct search {
	struct search_side side[2];
	unsigned seeded; /* the senses of both words are in */
	unsigned met;	 /* one side reached what the other has seen */
};
#endif /* WORDNET_GRAPH_H */
