/* SPDX-License-Identifier: MIT */
/* The table, what libumm counted, and a question to the texts. */
#include <stdio.h>

#include "tiers.h"

#define MIB(bytes) ((double)(bytes) / (1 << 20))

static const char *const titles[NPLACES] = {
	[PLACE_NEAR] = "--preferred, near node",
	[PLACE_FAR] = "--preferred, far node",
	[PLACE_INTERLEAVE] = "--interleave=all",
	[PLACE_UMM] = "libumm, texts far",
};

struct search {
	const struct job_data *data;
	_Atomic uint32_t found;
};

static void search_task(void *arg, unsigned thread)
{
	struct search *search = arg;

	if (thread < search->data->ncopies)
		search->found += job_search(search->data, thread, "Homepage: ");
}

/* What is to be done with the texts is done next to them, by a team with a thread for each copy. */
static int search_texts(struct tiers *tiers)
{
	struct search search = { .data = &tiers->place[PLACE_UMM].data };
	double begin = tiers_now();
	int ret = umm_numa_run(tiers->far, search_task, &search, search.data->ncopies, NULL);

	if (!ret)
		printf("\nA team next to node %d read all texts there in %.0f ms: %u of %u "
		       "packages have a home page.\n",
		       place_far(&tiers->nodes), 1e3 * (tiers_now() - begin), search.found,
		       search.data->ncopies * search.data->npackages);
	return ret;
}

static void report_places(const struct tiers *tiers)
{
	const struct place *first = &tiers->place[PLACE_NEAR];
	const struct job_result *result = &first->result;

	printf("Memory near: node %d. Far: node %d.%s\n\n", place_near(&tiers->nodes),
	       place_far(&tiers->nodes),
	       tiers->nodes.count > 1 ? "" :
					" There is no other: host and device share it, and what "
					"differs is\nonly how the memory is made.");
	printf("%-24s %10s %10s %16s %12s %10s\n", "placement", "near MiB", "other MiB",
	       "accesses to other", "page faults", "best ms");
	for (unsigned kind = 0; kind < NPLACES; kind++) {
		const struct place *place = &tiers->place[kind];

		printf("%-24s %10.1f %10.1f %15.1f %% %12ld %10.1f\n", titles[kind],
		       MIB(place->near_pages * UMM_PAGE_SIZE),
		       MIB(place->other_pages * UMM_PAGE_SIZE), place->other_pct, place->faults,
		       1e3 * place->seconds);
	}
	printf("\n%u packages, %u dependencies, %u cop%s. From every package to all that it "
	       "needs: %llu visits.\nThe most is brought by %s: %u packages, %.1f GiB.\n",
	       tiers->archive.npackages, tiers->archive.ndepends, tiers->options.copies,
	       tiers->options.copies == 1 ? "y" : "ies", (unsigned long long)result->visited,
	       result->title, result->brings, (double)result->largest_kib / (1 << 20));
}

static void row(const char *name, uint64_t value)
{
	printf("%-24s %12llu\n", name, (unsigned long long)value);
}

static void report_counters(const struct tiers *tiers)
{
	struct umm_numa_counts counts = { .size = sizeof(counts) };
	struct umm_stats stats = { .size = sizeof(stats) };

	if (umm_ctx_stats(tiers->ctx, &stats) || umm_numa_counts(tiers->far, &counts))
		return;
	printf("\nlibumm counted:\n");
	umm_stats_print(&stats, stdout);
	row("frames taken", counts.frames_taken);
	row("frames refused", counts.frames_refused);
	row("bytes past the caches", counts.bytes_streamed);
}

int report(struct tiers *tiers)
{
	int ret;

	report_places(tiers);
	ret = search_texts(tiers);
	if (!ret)
		report_counters(tiers);
	return ret;
}
