/* SPDX-License-Identifier: MIT */
/*
 * Reads the WordNet database and builds a linked structure of it in managed memory.
 *
 * Nothing in here knows of devices: structs are carved from arrays that umm_alloc() gave
 * instead of malloc(), and that is all the difference. The format is that of wndb(5WN): one
 * synset a line,
 *
 *	offset file pos nwords word id word id ... nlinks symbol offset pos fromto ... | gloss
 *
 * A first pass over the lines makes synsets, words and senses; links need both of their ends,
 * so a second pass makes them. Synsets lie in the order of the files, with offsets that grow
 * within each file: that is how an offset finds its synset.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "wordnet.h"

#define NFILES 4

static const char *const file_names[NFILES] = { "data.noun", "data.verb", "data.adj", "data.adv" };

static const char *const link_symbols[NLINK_SYMBOLS] = {
	[LINK_HYPERNYM] = "@",
	[LINK_INSTANCE_HYPERNYM] = "@i",
	[LINK_HYPONYM] = "~",
	[LINK_INSTANCE_HYPONYM] = "~i",
	[LINK_ANTONYM] = "!",
	[LINK_MEMBER_HOLONYM] = "#m",
	[LINK_SUBSTANCE_HOLONYM] = "#s",
	[LINK_PART_HOLONYM] = "#p",
	[LINK_MEMBER_MERONYM] = "%m",
	[LINK_SUBSTANCE_MERONYM] = "%s",
	[LINK_PART_MERONYM] = "%p",
	[LINK_ATTRIBUTE] = "=",
	[LINK_DERIVED] = "+",
	[LINK_DOMAIN_TOPIC] = ";c",
	[LINK_IN_TOPIC] = "-c",
	[LINK_DOMAIN_REGION] = ";r",
	[LINK_IN_REGION] = "-r",
	[LINK_DOMAIN_USAGE] = ";u",
	[LINK_IN_USAGE] = "-u",
	[LINK_ENTAILMENT] = "*",
	[LINK_CAUSE] = ">",
	[LINK_ALSO_SEE] = "^",
	[LINK_VERB_GROUP] = "$",
	[LINK_SIMILAR] = "&",
	[LINK_PARTICIPLE] = "<",
	[LINK_PERTAINYM] = "\\",
};

/* What is only needed while the structure is being built. */
struct builder {
	struct wordnet *w;
	char *text[NFILES];	  /* the files */
	size_t first[NFILES + 1]; /* index of the first synset of each */
	const char **links;	  /* for each synset, where its line tells of links */
};

/* ---- memory ---- */

static void *pool_take(struct wordnet *w, int which, size_t len)
{
	struct pool *pool = &w->pool[which];
	void *memory = pool->base + pool->used_bytes;

	if (len > POOL_BYTES - pool->used_bytes) {
		fprintf(stderr, "wordnet-paths: no room for more %s than %zu MiB\n", pool->name,
			POOL_BYTES >> 20);
		return NULL;
	}
	pool->used_bytes += len;
	return memory;
}

static char *pool_text(struct wordnet *w, const char *text, size_t len)
{
	char *copy = pool_take(w, POOL_TEXT, len + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

static int pools_init(struct wordnet *w)
{
	static const char *const names[NPOOLS] = {
		[POOL_SYNSETS] = "synsets", [POOL_LINKS] = "links", [POOL_SENSES] = "senses",
		[POOL_WORDS] = "words",	    [POOL_TEXT] = "text",
	};
	void *memory;
	int i, ret;

	for (i = 0; i < NPOOLS; i++) {
		ret = umm_alloc(w->ctx, POOL_BYTES, 0, &memory);
		if (ret) {
			fprintf(stderr, "wordnet-paths: %zu MiB of address space: %s\n",
				POOL_BYTES >> 20, umm_strerror(ret));
			return ret;
		}
		w->pool[i] = (struct pool){ .name = names[i], .base = memory };
	}
	w->synsets = (struct synset *)w->pool[POOL_SYNSETS].base;
	w->words = (struct word *)w->pool[POOL_WORDS].base;
	w->buckets = calloc((size_t)1 << BUCKETS_BITS, sizeof(struct word *));
	return w->buckets ? 0 : -ENOMEM;
}

size_t wordnet_bytes(const struct wordnet *w)
{
	size_t bytes = 0;
	int i;

	for (i = 0; i < NPOOLS; i++)
		bytes += (w->pool[i].used_bytes + UMM_PAGE_SIZE - 1) & ~(UMM_PAGE_SIZE - 1);
	return bytes;
}

void wordnet_free(struct wordnet *w)
{
	int i;

	for (i = 0; i < NPOOLS; i++)
		if (w->pool[i].base)
			umm_free(w->ctx, w->pool[i].base);
	free(w->buckets);
	*w = (struct wordnet){ 0 };
}

/* ---- the dictionary: words by their text, capitals or not ---- */

static struct word **dictionary_bucket(const struct wordnet *w, const char *text, size_t len)
{
	uint32_t hash = 2166136261u;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ (uint32_t)tolower((unsigned char)text[i])) * 16777619u;
	return &w->buckets[(hash ^ hash >> BUCKETS_BITS) & ((1u << BUCKETS_BITS) - 1)];
}

static struct word *dictionary_find(const struct wordnet *w, const char *text, size_t len)
{
	struct word *word = *dictionary_bucket(w, text, len);

	while (word && (strncasecmp(word->text, text, len) != 0 || word->text[len]))
		word = word->chain;
	return word;
}

static struct word *dictionary_add(struct wordnet *w, const char *text, size_t len)
{
	struct word **bucket = dictionary_bucket(w, text, len);
	struct word *word = dictionary_find(w, text, len);
	char *copy;

	if (word) {
		/* "cat" rather than "CAT": small letters are the greater ones. */
		if (memcmp(word->text, text, len) < 0)
			memcpy((char *)word->text, text, len);
		return word;
	}
	word = pool_take(w, POOL_WORDS, sizeof(*word));
	copy = pool_text(w, text, len);
	if (!word || !copy)
		return NULL;
	word->text = copy;
	word->chain = *bucket;
	*bucket = word;
	w->nwords++;
	return word;
}

struct word *wordnet_find(const struct wordnet *w, const char *text)
{
	return dictionary_find(w, text, strlen(text));
}

bool word_is_noun(const struct word *word)
{
	const struct sense *sense;

	for (sense = word->senses; sense; sense = sense->next_of_word)
		if (sense->synset->pos == 'n')
			return true;
	return false;
}

/* ---- links ---- */

static struct link *link_take(struct wordnet *w)
{
	struct link *link = w->free_links;

	if (link) {
		w->free_links = link->next;
		return link;
	}
	return pool_take(w, POOL_LINKS, sizeof(*link));
}

int wordnet_link(struct wordnet *w, struct synset *from, const struct link *link)
{
	struct link *new = link_take(w);

	if (!new)
		return -ENOMEM;
	*new = *link;
	new->next = from->links;
	from->links = new;
	return 0;
}

int wordnet_unlink(struct wordnet *w, struct synset *from, const struct link *link)
{
	struct link **at, *old;

	for (at = &from->links; *at; at = &(*at)->next) {
		old = *at;
		if (old->target != link->target || old->type != link->type ||
		    old->from != link->from || old->to != link->to)
			continue;
		*at = old->next;
		old->next = w->free_links;
		w->free_links = old;
		return 0;
	}
	return -ENOENT;
}

uint64_t wordnet_checksum(const struct wordnet *w)
{
	const struct link *link;
	uint64_t sum = 0, item;
	size_t i;

	for (i = 0; i < w->nsynsets; i++)
		for (link = w->synsets[i].links; link; link = link->next) {
			item = i << 40 ^ synset_index(w, link->target) << 16 ^
			       (uint64_t)link->type << 58 ^ (uint64_t)(link->from << 8 | link->to);
			item *= UINT64_C(0x9e3779b97f4a7c15);
			sum += (item ^ item >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
		}
	return sum;
}

/* ---- the format ---- */

/* The token at *text, which moves behind it. Lines have no tabs and tokens no spaces. */
static const char *token(const char **text, size_t *len)
{
	const char *start = *text + strspn(*text, " ");

	*len = strcspn(start, " \n");
	*text = start + *len;
	return start;
}

static unsigned long token_number(const char **text, int base)
{
	size_t len;

	return strtoul(token(text, &len), NULL, base);
}

static int parse_word(struct builder *b, struct synset *synset, struct sense ***tail,
		      const char **text)
{
	struct wordnet *w = b->w;
	struct sense **of_word, *sense;
	size_t len;
	const char *name = token(text, &len);
	const char *marker = memchr(name, '(', len); /* where an adjective may stand */

	if (marker)
		len = (size_t)(marker - name);
	token_number(text, 16);
	sense = pool_take(w, POOL_SENSES, sizeof(*sense));
	if (!sense)
		return -ENOMEM;
	sense->synset = synset;
	sense->word = dictionary_add(w, name, len);
	if (!sense->word)
		return -ENOMEM;
	for (of_word = &sense->word->senses; *of_word; of_word = &(*of_word)->next_of_word)
		;
	*of_word = sense;
	**tail = sense;
	*tail = &sense->next_of_synset;
	w->nsenses++;
	return 0;
}

static const char *parse_gloss(struct wordnet *w, const char *line)
{
	const char *end = line + strcspn(line, "\n");
	const char *bar = memchr(line, '|', (size_t)(end - line));
	const char *gloss = bar ? bar + 1 : end;

	while (gloss < end && *gloss == ' ')
		gloss++;
	while (gloss < end && end[-1] == ' ')
		end--;
	return pool_text(w, gloss, (size_t)(end - gloss));
}

static int parse_synset(struct builder *b, const char *line)
{
	struct wordnet *w = b->w;
	struct synset *synset = pool_take(w, POOL_SYNSETS, sizeof(*synset));
	struct sense **tail;
	unsigned long nwords;
	size_t len;
	int ret = 0;

	if (!synset || w->nsynsets == SYNSETS_MAX)
		return -ENOMEM;
	synset->offset = (unsigned)token_number(&line, 10);
	token_number(&line, 10);
	synset->pos = *token(&line, &len);
	nwords = token_number(&line, 16);
	if (!strchr("nvasr", synset->pos) || !nwords)
		return -EINVAL;
	for (tail = &synset->senses; nwords && !ret; nwords--)
		ret = parse_word(b, synset, &tail, &line);
	if (ret)
		return ret;
	b->links[w->nsynsets++] = line;
	synset->gloss = parse_gloss(w, line);
	return synset->gloss ? 0 : -ENOMEM;
}

static struct synset *find_synset(const struct builder *b, char pos, unsigned offset)
{
	const char *letters = "nvar", *letter = strchr(letters, pos == 's' ? 'a' : pos);
	size_t low, high, middle;

	if (!letter || !pos)
		return NULL;
	low = b->first[letter - letters];
	high = b->first[letter - letters + 1];
	while (low < high) {
		middle = (low + high) / 2;
		if (b->w->synsets[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == b->first[letter - letters + 1] || b->w->synsets[low].offset != offset)
		return NULL;
	return &b->w->synsets[low];
}

static int parse_link(struct builder *b, struct link *link, const char **text)
{
	size_t len;
	const char *symbol = token(text, &len);
	unsigned offset = (unsigned)token_number(text, 10);
	char pos = *token(text, &(size_t){ 0 });
	unsigned long from_to = token_number(text, 16);
	unsigned type;

	for (type = 0; type < NLINK_SYMBOLS; type++)
		if (strlen(link_symbols[type]) == len && !memcmp(link_symbols[type], symbol, len))
			break;
	*link = (struct link){ .target = find_synset(b, pos, offset),
			       .type = (unsigned short)type,
			       .from = (unsigned char)(from_to >> 8),
			       .to = (unsigned char)from_to };
	return type < NLINK_SYMBOLS && link->target ? 0 : -EINVAL;
}

/* All links of one synset, in the order of the database. */
static int parse_links(struct builder *b, struct synset *synset, const char *text)
{
	unsigned long nlinks = token_number(&text, 10);
	struct link **tail = &synset->links;
	int ret;

	for (; nlinks; nlinks--) {
		*tail = pool_take(b->w, POOL_LINKS, sizeof(**tail));
		if (!*tail)
			return -ENOMEM;
		ret = parse_link(b, *tail, &text);
		if (ret)
			return ret;
		tail = &(*tail)->next;
		b->w->npointers++;
	}
	return 0;
}

static bool leads_to(const struct synset *from, const struct synset *to)
{
	const struct link *link;

	for (link = from->links; link; link = link->next)
		if (link->target == to)
			return true;
	return false;
}

/* Most links have a counterpart in the database: a hyponym for each hypernym. Give the rest one. */
static int link_back(struct wordnet *w)
{
	struct link *link, back;
	size_t i;
	int ret;

	for (i = 0; i < w->nsynsets; i++)
		for (link = w->synsets[i].links; link; link = link->next) {
			if (leads_to(link->target, &w->synsets[i]))
				continue;
			back = (struct link){ .target = &w->synsets[i],
					      .type = LINK_BACK,
					      .from = link->to,
					      .to = link->from };
			ret = wordnet_link(w, link->target, &back);
			if (ret)
				return ret;
			w->nback++;
		}
	return 0;
}

/* ---- files ---- */

static int file_read(const char *dir, const char *name, char **out)
{
	char *path = NULL;
	FILE *file = NULL;
	size_t capacity = (size_t)32 << 20, len;
	char *text = malloc(capacity);
	int ret = -ENOMEM;

	if (!text || asprintf(&path, "%s/%s", dir, name) < 0)
		goto out;
	file = fopen(path, "r");
	if (!file) {
		ret = -errno;
		fprintf(stderr,
			"wordnet-paths: %s: %s\n"
			"The WordNet database is in Debian's package wordnet-base:\n"
			"\n\tapt-get install wordnet-base\n\n"
			"If it is elsewhere, say where with --data DIR.\n",
			path, strerror(-ret));
		goto out;
	}
	len = fread(text, 1, capacity, file);
	if (ferror(file) || len == capacity) {
		ret = len == capacity ? -EFBIG : -EIO;
		fprintf(stderr, "wordnet-paths: %s: %s\n", path, strerror(-ret));
		goto out;
	}
	text[len] = '\0';
	*out = text;
	text = NULL;
	ret = 0;
out:
	if (file)
		fclose(file);
	free(path);
	free(text);
	return ret;
}

static int file_parse(struct builder *b, int which)
{
	const char *line = b->text[which];
	unsigned lineno;
	int ret;

	b->first[which] = b->w->nsynsets;
	for (lineno = 1; *line; lineno++) {
		ret = *line == ' ' ? 0 : parse_synset(b, line); /* the licence is indented */
		if (ret) {
			fprintf(stderr, "wordnet-paths: %s, line %u: %s\n", file_names[which],
				lineno,
				ret == -EINVAL ? "not a line of a WordNet database" :
						 strerror(-ret));
			return ret;
		}
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	b->first[which + 1] = b->w->nsynsets;
	return 0;
}

static int build(struct builder *b, const char *dir)
{
	size_t i;
	int ret, f;

	for (f = 0; f < NFILES; f++) {
		ret = file_read(dir, file_names[f], &b->text[f]);
		if (ret)
			return ret;
	}
	for (f = 0; f < NFILES; f++) {
		ret = file_parse(b, f);
		if (ret)
			return ret;
	}
	for (i = 0; i < b->w->nsynsets; i++) {
		ret = parse_links(b, &b->w->synsets[i], b->links[i]);
		if (ret) {
			fprintf(stderr, "wordnet-paths: the links of synset %08u (%s): %s\n",
				b->w->synsets[i].offset, synset_name(&b->w->synsets[i]),
				ret == -EINVAL ?
					"of no known kind, or to a synset that no file has" :
					strerror(-ret));
			return ret;
		}
	}
	return link_back(b->w);
}

int wordnet_load(struct wordnet *w, struct umm_ctx *ctx, const char *dir)
{
	struct builder b = { .w = w, .links = calloc(SYNSETS_MAX, sizeof(*b.links)) };
	int ret, f;

	*w = (struct wordnet){ .ctx = ctx };
	ret = b.links ? pools_init(w) : -ENOMEM;
	if (!ret)
		ret = build(&b, dir);
	for (f = 0; f < NFILES; f++)
		free(b.text[f]);
	free(b.links);
	if (ret)
		wordnet_free(w);
	return ret;
}
