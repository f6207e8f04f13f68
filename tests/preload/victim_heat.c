/* SPDX-License-Identifier: MIT */
/*
 * Programs whose pages are of different heat, and who count how often they found a page gone: they
 * ask mincore(2) before each touch. The argument is what they do, then MiB that the host may keep.
 */
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "victim.h"

enum { PAGE = 4096, WORDS = PAGE / sizeof(uint64_t), HOT_PART = 12, PASSES = 12 };

static uint64_t *memory;
static unsigned npages;

static uint64_t word_of(unsigned page)
{
	return page * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

/* True: it was not in the host. */
static bool touch(unsigned page)
{
	uint64_t *word = memory + (size_t)page * WORDS;
	unsigned char in_host;

	check(!mincore(word, PAGE, &in_host));
	check(*word == word_of(page));
	return !(in_host & 1);
}

static void make(unsigned mib)
{
	npages = mib * 256;
	memory = aligned_alloc(PAGE, (size_t)npages * PAGE);
	check(memory);
	for (unsigned page = 0; page < npages; page++)
		memory[(size_t)page * WORDS] = word_of(page);
}

static unsigned next_random(void)
{
	static uint64_t seed = 1;

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33);
}

static unsigned hot_page(void)
{
	return next_random() % (npages / HOT_PART) * HOT_PART + 5;
}

/* Of so many touches of hot pages, those that found the page gone. */
static unsigned hot_misses(unsigned touches)
{
	unsigned misses = 0;

	for (unsigned i = 0; i < touches; i++)
		misses += touch(hot_page());
	return misses;
}

/*
 * Four times what the host holds; a third of that is hot. Once it is known to be, everything is
 * read once from end to end, with a touch of a hot page now and then.
 */
static void scan(unsigned host_mib)
{
	unsigned nhot, during = 0, touches = 0, kept = 0, missed = 0;

	make(4 * host_mib);
	nhot = npages / HOT_PART;
	/* What pushes them out is cold pages at random: touched once in a long time. */
	for (unsigned i = 0; i < 2 * npages; i++) {
		hot_misses(4);
		touch(next_random() % npages);
	}
	printf("before %u of %u\n", hot_misses(nhot), nhot);
	for (unsigned page = 0; page < npages; page++) {
		missed += touch(page);
		if (page % 8)
			continue;
		during += touch(hot_page());
		touches++;
	}
	for (unsigned page = 5; page < npages; page += HOT_PART) {
		unsigned char in_host;

		check(!mincore(memory + (size_t)page * WORDS, PAGE, &in_host));
		kept += in_host & 1;
	}
	printf("scanned %u, came home by a touch %u\n", npages, missed);
	printf("during %u of %u\nkept %u of %u\n", during, touches, kept, nhot);
}

/*
 * Four times what the host holds: its first blocks, an eighth of the host, are hot from the
 * beginning, all else is written once, then touched at random, each page seldom.
 */
static void blocks(unsigned host_mib)
{
	unsigned nhot = host_mib * 256 / 8, touches = 0, filling = 0, later = 0;

	npages = 4 * host_mib * 256;
	memory = aligned_alloc((size_t)2 << 20, (size_t)npages * PAGE);
	check(memory);
	for (unsigned page = 0; page < npages; page++) {
		memory[(size_t)page * WORDS] = word_of(page);
		for (unsigned i = 0; page >= nhot && i < 4; i++, touches++)
			filling += touch(next_random() % nhot);
	}
	printf("while it was filled: %u of %u\n", filling, touches);
	for (unsigned i = 0; i < npages; i++) {
		for (unsigned j = 0; j < 4; j++)
			later += touch(next_random() % nhot);
		touch(next_random() % npages);
	}
	printf("later: %u of %u\n", later, 4 * npages);
}

/* Half as much again as the host holds, round and round in an order that nobody can guess. */
static void thrash(unsigned host_mib, unsigned passes)
{
	unsigned *order, misses = 0;

	make(host_mib * 3 / 2);
	order = malloc(npages * sizeof(*order));
	check(order);
	for (unsigned i = 0; i < npages; i++) {
		unsigned j = next_random() % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (unsigned pass = 0; pass < passes; pass++) {
		misses = 0;
		for (unsigned i = 0; i < npages; i++)
			misses += touch(order[i]);
		printf("pass %u: missed %u of %u\n", pass, misses, npages);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "scan"))
		scan((unsigned)atoi(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "blocks"))
		blocks((unsigned)atoi(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "thrash"))
		thrash((unsigned)atoi(argv[2]), PASSES);
	else if (argc == 3 && !strcmp(argv[1], "thrash_until_killed"))
		thrash((unsigned)atoi(argv[2]), UINT_MAX);
	else
		return 2;
	puts("victim: all as it should be");
	return 0;
}
