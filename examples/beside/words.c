/* SPDX-License-Identifier: MIT */
/* See words.h; the formats are those of wndb(5WN). One thread, no locks. */
#include "words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORY  "/usr/share/wordnet"
#define KEY_SHIFT  28
#define LINE_BYTES 65536
#define SKIP	   77

struct visit {
	void (*meaning)(void *priv, uint32_t key, uint32_t file);
	void (*pointer)(void *priv, uint32_t from, uint32_t to);
	void (*sense)(void *priv, uint32_t key);
	void *priv;
};

static char *next(char **at)
{
	static char none[1];
	char *word = strtok_r(NULL, " \n", at);

	return word ? word : none;
}

static void skip(char **at, unsigned long nwords)
{
	while (nwords--)
		next(at);
}

static uint32_t number(char **at, int base)
{
	return (uint32_t)strtoul(next(at), NULL, base);
}

static uint32_t key_of(char part, uint32_t offset)
{
	static const char parts[] = "?nvar";
	const char *at = strchr(parts, part == 's' ? 'a' : part);

	return (uint32_t)(at ? at - parts : 0) << KEY_SHIFT | offset;
}

/* offset file type count (word id)... count (symbol offset part source)... */
static void data_row(const struct visit *visit, char *line)
{
	char *at = line;
	uint32_t offset = (uint32_t)strtoul(strtok_r(line, " ", &at), NULL, 10);
	uint32_t file = number(&at, 10), key = key_of(*next(&at), offset), n;

	if (visit->meaning) {
		visit->meaning(visit->priv, key, file);
		return;
	}
	skip(&at, 2 * (unsigned long)number(&at, 16));
	for (n = number(&at, 10); n; n--) {
		skip(&at, 1);
		offset = number(&at, 10);
		visit->pointer(visit->priv, key, key_of(*next(&at), offset));
		skip(&at, 1);
	}
}

/* word part count count (symbol)... count count (offset)... */
static void index_row(const struct visit *visit, char *line)
{
	char *at = line, part;
	uint32_t n;

	strtok_r(line, " ", &at);
	part = *next(&at);
	n = number(&at, 10);
	skip(&at, number(&at, 10));
	for (skip(&at, 2); n; n--)
		visit->sense(visit->priv, key_of(part, number(&at, 10)));
}

static void rows(const char *path, void (*row)(const struct visit *, char *),
		 const struct visit *visit)
{
	static char line[LINE_BYTES];
	FILE *file = fopen(path, "r");

	if (!file) {
		printf("%s is missing (Debian: apt-get install wordnet-base)\n", path);
		exit(SKIP);
	}
	while (fgets(line, sizeof(line), file))
		if (line[0] != ' ') /* the licence */
			row(visit, line);
	fclose(file);
}

static void tables(const char *name, void (*row)(const struct visit *, char *),
		   const struct visit *visit)
{
	static const char *const parts[] = { "noun", "verb", "adj", "adv" };
	char path[256];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s.%s", DIRECTORY, name, parts[i]);
		rows(path, row, visit);
	}
}

void words_meanings(void (*fn)(void *priv, uint32_t key, uint32_t file), void *priv)
{
	tables("data", data_row, &(struct visit){ .meaning = fn, .priv = priv });
}

void words_pointers(void (*fn)(void *priv, uint32_t from, uint32_t to), void *priv)
{
	tables("data", data_row, &(struct visit){ .pointer = fn, .priv = priv });
}

void words_senses(void (*fn)(void *priv, uint32_t key), void *priv)
{
	tables("index", index_row, &(struct visit){ .sense = fn, .priv = priv });
}
