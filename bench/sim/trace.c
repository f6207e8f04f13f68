/* SPDX-License-Identifier: MIT */
/*
 * Trace files: text, so that anything can write one.
 *
 *	umm-blocks 1 NAME
 *	BLOCK			decimal numbers, a use each, in order
 *	end USES
 *
 * The last line tells a whole file from one that was cut off, and nothing comes after it. USES are
 * the lines between: a use of the same block as the one before counts there, though it is none
 * of the trace. Blocks that are not used take nothing: what is read has numbers of its own.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define MAGIC	    "umm-blocks "
#define VERSION	    1
#define MOST_BLOCKS (1u << 28) /* 512 TiB */

int trace_write(const struct trace *trace, FILE *file)
{
	fprintf(file, MAGIC "%d %s\n", VERSION, trace->name);
	for (size_t i = 0; i < trace->n; i++)
		fprintf(file, "%" PRIu32 "\n",
			trace->number ? trace->number[trace->block[i]] : trace->block[i]);
	fprintf(file, "end %zu\n", trace->n);
	return ferror(file) ? -EIO : 0;
}

static int bad(char *why, size_t len, size_t line, const char *what)
{
	snprintf(why, len, "line %zu: %s", line, what);
	return -EINVAL;
}

static int read_head(struct trace *trace, const char *text, char *why, size_t len)
{
	unsigned long long version = 0;
	char *end = NULL;

	if (!strncmp(text, MAGIC, strlen(MAGIC)) && isdigit((unsigned char)text[strlen(MAGIC)]))
		version = strtoull(text + strlen(MAGIC), &end, 10);
	if (!end || *end != ' ' || sscanf(end, "%31s", trace->name) != 1)
		return bad(why, len, 1, "not a trace: it has to begin with 'umm-blocks 1 NAME'");
	if (version != VERSION) {
		snprintf(why, len, "version %llu of traces, this program reads version %d", version,
			 VERSION);
		return -EINVAL;
	}
	return 0;
}

/* One line after the first. 1: it was the last. */
static int read_line(struct trace *trace, const char *text, size_t line, char *why, size_t len)
{
	unsigned long long number;
	char *end;

	if (!strncmp(text, "end ", 4)) {
		number = strtoull(text + 4, &end, 10);
		if (*end != '\n' || number != line - 2)
			return bad(why, len, line, "so many uses are not what came before");
		return 1;
	}
	number = strtoull(text, &end, 10);
	if (end == text || *end != '\n' || text[0] == '-')
		return bad(why, len, line, "not the number of a block");
	if (number >= MOST_BLOCKS)
		return bad(why, len, line, "a block beyond 512 TiB");
	return trace_add(trace, (uint32_t)number);
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Blocks that are used are numbered from 0 on, in the order of their numbers in the file. */
static int renumber(struct trace *trace)
{
	uint32_t *number = calloc(trace->n, sizeof(*number)), *at, kept = 0;

	if (!number)
		return -ENOMEM;
	memcpy(number, trace->block, trace->n * sizeof(*number));
	qsort(number, trace->n, sizeof(*number), by_number);
	for (size_t i = 0; i < trace->n; i++)
		if (!i || number[i] != number[kept - 1])
			number[kept++] = number[i];
	for (size_t i = 0; i < trace->n; i++) {
		at = bsearch(&trace->block[i], number, kept, sizeof(*number), by_number);
		trace->block[i] = (uint32_t)(at - number);
	}
	trace->number = number;
	trace->nblocks = kept;
	return 0;
}

int trace_read(struct trace *trace, FILE *file, char *why, size_t len)
{
	char text[128];
	size_t line = 1;
	int ret;

	*trace = (struct trace){ 0 };
	if (!fgets(text, sizeof(text), file))
		return bad(why, len, 1, "the file is empty");
	ret = read_head(trace, text, why, len);
	while (!ret && fgets(text, sizeof(text), file))
		ret = read_line(trace, text, ++line, why, len);
	if (!ret)
		ret = bad(why, len, line, "the file was cut off: its last line 'end' is missing");
	if (ret == 1 && fgetc(file) != EOF)
		ret = bad(why, len, line + 1, "something comes after the last line 'end'");
	if (ret == 1 && !trace->n)
		ret = bad(why, len, line, "a trace of no uses");
	if (ret == 1)
		ret = renumber(trace);
	if (ret)
		trace_fini(trace);
	return ret;
}
