/* SPDX-License-Identifier: MIT */
/*
 * Tables for gnuplot, from the results of a run.
 *
 * latency:   the quantile, and what so many of the faults did not exceed, of both sides: us
 * bandwidth: bytes moved at once, out, back, memcpy: GiB/s
 * threads:   their number, faults/s of both sides in thousands, goal
 *
 * A line of a table belongs to one case; a value that was not measured is NaN.
 */
#include "pictures.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct bench_result *find(struct bench_result *results, size_t nresults, const char *name)
{
	for (size_t i = 0; i < nresults; i++)
		if (!strcmp(results[i].bcase->name, name) && results[i].outcome == BENCH_DONE)
			return &results[i];
	return NULL;
}

static bool has_prefix(const struct bench_result *result, const char *prefix)
{
	return result->outcome == BENCH_DONE &&
	       !strncmp(result->bcase->name, prefix, strlen(prefix));
}

static double median(struct bench_result *result, bool theirs)
{
	if (!result)
		return NAN;
	return series_quantile(theirs ? &result->theirs : &result->ours, 0.5);
}

static void latency_write(struct bench_result *results, size_t nresults, FILE *out)
{
	struct bench_result *result = find(results, nresults, "fault/pinned");

	if (!result)
		return;
	for (unsigned i = 0; i < 1000; i++)
		fprintf(out, "%.3f\t%.3f\t%.3f\n", i / 1000.0,
			series_quantile(&result->ours, i / 1000.0),
			series_quantile(&result->theirs, i / 1000.0));
}

/* Cases "size/N-out" and "size/N-back". */
static void bandwidth_write(struct bench_result *results, size_t nresults, FILE *out)
{
	for (size_t i = 0; i < nresults; i++) {
		unsigned long kib;
		char other[32];

		if (!has_prefix(&results[i], "size/") || !strstr(results[i].bcase->name, "-out"))
			continue;
		kib = strtoul(results[i].bcase->name + strlen("size/"), NULL, 10);
		snprintf(other, sizeof(other), "size/%luk-back", kib);
		fprintf(out, "%lu\t%.4f\t%.4f\t%.4f\n", kib * 1024, median(&results[i], false),
			median(find(results, nresults, other), false), median(&results[i], true));
	}
}

static void threads_write(struct bench_result *results, size_t nresults, FILE *out)
{
	for (size_t i = 0; i < nresults; i++)
		if (has_prefix(&results[i], "threads/"))
			fprintf(out, "%s\t%.2f\t%.2f\t%.2f\n",
				results[i].bcase->name + strlen("threads/"),
				median(&results[i], false), median(&results[i], true),
				results[i].bcase->goal * median(&results[i], true));
}

/* A table without a line is no table. */
static int table_write(struct bench_result *results, size_t nresults, const char *path,
		       void (*fn)(struct bench_result *, size_t, FILE *))
{
	FILE *out = fopen(path, "we");
	bool empty;
	int ret;

	if (!out)
		return -errno;
	fn(results, nresults, out);
	empty = ftell(out) == 0;
	ret = ferror(out) ? -EIO : 0;
	if (fclose(out))
		ret = -EIO;
	if (empty)
		unlink(path);
	return ret;
}

int pictures_write(struct bench_result *results, size_t nresults, const char *dir)
{
	static const struct {
		const char *name;
		void (*fn)(struct bench_result *, size_t, FILE *);
	} tables[] = {
		{ "latency", latency_write },
		{ "bandwidth", bandwidth_write },
		{ "threads", threads_write },
	};
	char path[4096];
	int ret = 0;

	if (mkdir(dir, 0777) && errno != EEXIST)
		return -errno;
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables) && !ret; i++) {
		snprintf(path, sizeof(path), "%s/%s.tsv", dir, tables[i].name);
		ret = table_write(results, nresults, path, tables[i].fn);
	}
	return ret;
}
