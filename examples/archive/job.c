/* SPDX-License-Identifier: MIT */
/*
 * Traversal of the dependency graph: from each package to all that it needs, directly or not.
 * A package's text is read when it sets a record.
 */
#include "job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "umm.h"

#define BLOCK_UP(len) (((len) + UMM_BLOCK_SIZE - 1) & ~(UMM_BLOCK_SIZE - 1))
#define PAGE_UP(len)  (((len) + UMM_PAGE_SIZE - 1) & ~(size_t)(UMM_PAGE_SIZE - 1))

/* One traversal at a time: who has been seen in it, and who is still to be looked at. */
struct walk {
	const struct job_data *data;
	const struct package *packages;
	const uint32_t *depends;
	uint32_t *touches;
	uint32_t *seen; /* the number of the traversal that saw a package last */
	uint32_t *stack;
	uint32_t turn;
};

static struct package *packages_of(const struct job_data *data, unsigned copy)
{
	return (struct package *)(data->base + copy * data->one_hot);
}

static uint32_t *depends_of(const struct job_data *data, unsigned copy)
{
	return (uint32_t *)(packages_of(data, copy) + data->npackages);
}

static char *text_of(const struct job_data *data, unsigned copy)
{
	return data->base + data->hot_len + copy * data->one_cold;
}

void job_layout(struct job_data *data, const struct archive *archive, unsigned ncopies)
{
	data->ncopies = ncopies;
	data->npackages = archive->npackages;
	data->ndepends = archive->ndepends;
	data->one_hot = PAGE_UP(archive->npackages * sizeof(*archive->packages) +
				archive->ndepends * sizeof(*archive->depends));
	data->one_cold = PAGE_UP(archive->text_len);
	data->hot_len = BLOCK_UP(ncopies * data->one_hot);
	data->cold_len = BLOCK_UP(ncopies * data->one_cold);
}

void job_fill(const struct job_data *data, const struct archive *archive)
{
	for (unsigned copy = 0; copy < data->ncopies; copy++) {
		memcpy(packages_of(data, copy), archive->packages,
		       archive->npackages * sizeof(*archive->packages));
		memcpy(depends_of(data, copy), archive->depends,
		       archive->ndepends * sizeof(*archive->depends));
		memcpy(text_of(data, copy), archive->text, archive->text_len);
	}
}

static inline void touch(const struct walk *walk, const void *at)
{
	if (walk->touches)
		walk->touches[(size_t)((const char *)at - walk->data->base) / UMM_PAGE_SIZE]++;
}

/* Everything that a package brings with it, itself included. */
static uint32_t traverse(struct walk *walk, uint32_t from, uint64_t *kib)
{
	uint32_t n = 0, depth = 0;

	walk->turn++;
	walk->seen[from] = walk->turn;
	walk->stack[depth++] = from;
	while (depth) {
		const struct package *package = &walk->packages[walk->stack[--depth]];
		const uint32_t *depends = walk->depends + package->depends;

		touch(walk, package);
		*kib += package->size_kib;
		n++;
		for (uint32_t i = 0; i < package->ndepends; i++) {
			touch(walk, &depends[i]);
			if (walk->seen[depends[i]] == walk->turn)
				continue;
			walk->seen[depends[i]] = walk->turn;
			walk->stack[depth++] = depends[i];
		}
	}
	return n;
}

static void record(const struct walk *walk, unsigned copy, uint32_t number,
		   struct job_result *result)
{
	const char *text = text_of(walk->data, copy), *name, *title;
	int name_len, title_len;

	name = archive_field(text, &walk->packages[number], "Package: ", &name_len);
	title = archive_field(text, &walk->packages[number], "Description: ", &title_len);
	touch(walk, text + walk->packages[number].text);
	snprintf(result->title, sizeof(result->title), "%.*s (%.*s)", name ? name_len : 0,
		 name ? name : "", title ? title_len : 0, title ? title : "");
	result->largest = number;
}

static void walk_from(struct walk *walk, unsigned copy, uint32_t number, struct job_result *result)
{
	uint64_t kib = 0;
	uint32_t n;

	walk->packages = packages_of(walk->data, copy);
	walk->depends = depends_of(walk->data, copy);
	n = traverse(walk, number, &kib);
	result->visited += n;
	result->kib += kib;
	if (n <= result->brings)
		return;
	result->brings = n;
	result->largest_kib = kib;
	record(walk, copy, number, result);
}

int job_run(const struct job_data *data, uint32_t *touches, struct job_result *result)
{
	struct walk walk = { .data = data, .touches = touches };

	memset(result, 0, sizeof(*result));
	walk.seen = calloc(data->npackages, sizeof(*walk.seen));
	walk.stack = calloc(data->npackages, sizeof(*walk.stack));
	/* The copies in turn: as large a job as they are together. */
	if (walk.seen && walk.stack)
		for (uint32_t i = 0; i < data->npackages; i++)
			for (unsigned copy = 0; copy < data->ncopies; copy++)
				walk_from(&walk, copy, i, result);
	free(walk.seen);
	free(walk.stack);
	return walk.seen && walk.stack ? 0 : -ENOMEM;
}

uint32_t job_search(const struct job_data *data, unsigned copy, const char *start)
{
	const struct package *packages = packages_of(data, copy);
	const char *text = text_of(data, copy);
	uint32_t n = 0;
	int len;

	for (uint32_t i = 0; i < data->npackages; i++)
		n += archive_field(text, &packages[i], start, &len) != NULL;
	return n;
}
