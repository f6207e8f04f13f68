/* SPDX-License-Identifier: MIT */
/* Prints what was built, what was found and what it took. */
#include <stdio.h>

#include "questions.h"
#include "report.h"

#define GROUPED_MAX 32

/* 1234567 as 1,234,567. */
static const char *grouped(char text[GROUPED_MAX], uint64_t number)
{
	char *at = text + GROUPED_MAX - 1;
	int digits = 0;

	*at = '\0';
	do {
		if (digits && digits % 3 == 0)
			*--at = ',';
		*--at = (char)('0' + number % 10);
		number /= 10;
		digits++;
	} while (number);
	return at;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

void report_structure(const struct job *job, uint64_t device_bytes)
{
	const struct wordnet *w = job->w;
	char text[3][GROUPED_MAX];

	printf("WordNet: %s meanings, %s words, %s links: %.1f MiB of C structs and pointers.\n",
	       grouped(text[0], w->nsynsets), grouped(text[1], w->nwords),
	       grouped(text[2], w->npointers + w->nback), mib(wordnet_bytes(w)));
	printf("Device:  %s\n         with room for %.1f MiB of it: %.0f %%.\n", job->choice.name,
	       mib(device_bytes), 100.0 * (double)device_bytes / (double)wordnet_bytes(w));
}

void report_pairs(const struct job *job)
{
	const struct query *query, *hypernym;
	size_t i, n = job_named(job);
	unsigned round, shown = job->nrounds < 12 ? job->nrounds : 12;
	char pair[64];

	if (!n)
		return;
	printf("\nHow many links from word to word, round by round. After each the CPU links\n"
	       "the first meanings of one pair directly (1), and a round later cuts what links\n"
	       "them directly. Behind it, the nearest meaning that covers both (first round):\n\n");
	for (i = 0; i < n; i++) {
		query = &job->queries[2 * i];
		hypernym = query + 1;
		snprintf(pair, sizeof(pair), "%s, %s", query->a->text, query->b->text);
		printf("  %-16s", pair);
		for (round = 0; round < shown; round++, query += job->nqueries)
			if (query->steps >= 0)
				printf(" %3d", query->steps);
			else
				printf("  >%d", DISTANCE_MAX);
		printf("    %s\n", hypernym->meet ? synset_name(hypernym->meet) : "none");
	}
}

static void row(const char *name, const char *paged, const char *copied)
{
	printf("  %-34s %18s %22s\n", name, paged, copied);
}

static void row_number(const char *name, uint64_t paged, const uint64_t *copied)
{
	char text[2][GROUPED_MAX];

	row(name, grouped(text[0], paged), copied ? grouped(text[1], *copied) : "");
}

static void row_unit(const char *name, const char *unit, double paged, const double *copied)
{
	char text[2][GROUPED_MAX] = { "", "" };

	snprintf(text[0], sizeof(text[0]), "%.1f %s", paged, unit);
	if (copied)
		snprintf(text[1], sizeof(text[1]), "%.1f %s", *copied, unit);
	row(name, text[0], text[1]);
}

static void row_mib(const char *name, uint64_t paged, const uint64_t *copied)
{
	double other = copied ? mib(*copied) : 0;

	row_unit(name, "MiB", mib(paged), copied ? &other : NULL);
}

void report_tallies(const struct tally *paged, const struct tally *copied)
{
#define OTHER(member) (copied ? &copied->member : NULL)
	printf("\n");
	row("", "pages on demand", copied ? "all copied first" : "");
	row_mib("device memory", paged->device_bytes, OTHER(device_bytes));
	row_number("questions answered", paged->answers, OTHER(answers));
	row_number("  wrong, by plain CPU code", paged->wrong, OTHER(wrong));
	row_number("links changed by the CPU meanwhile", paged->edits, OTHER(edits));
	row_number("kernel runs, replays included", paged->kernel_rounds, OTHER(kernel_rounds));
	row_number("pages that the device missed", paged->device_faults, OTHER(device_faults));
	row_number("pages that the CPU missed", paged->cpu_faults, OTHER(cpu_faults));
	row_mib("sent to the device", paged->bytes_in, OTHER(bytes_in));
	row_mib("  as copies of what stays at home", paged->bytes_copied, OTHER(bytes_copied));
	row_mib("moved home", paged->bytes_out, OTHER(bytes_out));
	row_number("evictions of 2 MiB blocks", paged->evictions, OTHER(evictions));
	row_unit("time", "s", paged->seconds, OTHER(seconds));
	if (copied && copied->device_bytes > paged->device_bytes)
		printf("\n  Pages on demand made do with %.0f %% of the device memory; to copy\n"
		       "  everything first takes a device with room for everything.\n",
		       100.0 * (double)paged->device_bytes / (double)copied->device_bytes);
#undef OTHER
}
