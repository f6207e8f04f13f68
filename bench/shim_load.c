/* SPDX-License-Identifier: MIT */
/*
 * What case_shim.c measures: a program that knows nothing of libumm, one kind of work for each
 * first argument. Prints two numbers: the figure (what it is depends on the work), and the most
 * memory that it ever had in the host, KiB.
 *
 * Threads share nothing but memory that one has got and another frees.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "shim_paging.h"

#define PAGE	  4096
#define MIB	  ((size_t)1 << 20)
#define LARGE_LEN ((size_t)64 << 10)

enum { THREADS_MAX = 4, SLOTS = 4096 };

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

/* ---- malloc --------------------------------------------------------------------------- */

static void *_Atomic slots[SLOTS];
static uint64_t rounds;

/* Mostly small ones, as programs have them; one of 1024 is large. */
static size_t some_len(uint64_t *seed)
{
	uint64_t r = next_random(seed);

	if (r % 1024 == 0)
		return LARGE_LEN + r % (8 * LARGE_LEN);
	return 16 + (r >> 10) % (r % 8 ? 256 : 8192);
}

static void *malloc_thread(void *number)
{
	uint64_t seed = (uintptr_t)number + 1;

	for (uint64_t i = 0; i < rounds; i++) {
		size_t len = some_len(&seed);
		char *mine = malloc(len);

		if (!mine)
			exit(1);
		mine[0] = mine[len - 1] = 1;
		free(atomic_exchange(&slots[next_random(&seed) % SLOTS], mine));
	}
	return NULL;
}

/* Milliseconds for so many thousand rounds of each thread. */
static double run_malloc(unsigned threads, unsigned thousands)
{
	pthread_t thread[THREADS_MAX];
	double begin = now();

	rounds = (uint64_t)thousands * 1000;
	threads = threads > THREADS_MAX ? THREADS_MAX : threads;
	for (uintptr_t i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, malloc_thread, (void *)i))
			exit(1);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	return (now() - begin) * 1000;
}

/* ---- memory --------------------------------------------------------------------------- */

static uint64_t *memory_fill(uint64_t *memory, size_t len)
{
	if (!memory)
		exit(1);
	for (size_t i = 0; i < len / sizeof(*memory); i++)
		memory[i] = i;
	return memory;
}

static uint64_t sum(const uint64_t *from, size_t n)
{
	uint64_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += from[i];
	return all;
}

/* GiB/s of passes that read all of it and write it anew, the first one not counted. */
static double run_passes(unsigned mib, unsigned passes)
{
	size_t n = mib * MIB / sizeof(uint64_t);
	uint64_t *memory = memory_fill(aligned_alloc(PAGE, mib * MIB), mib * MIB);
	double begin = 0;

	for (unsigned pass = 0; pass <= passes; pass++) {
		if (pass == 1)
			begin = now();
		for (size_t i = 0; i < n; i++)
			memory[i] = memory[i] * 3 + 1;
	}
	return (double)mib / 1024 * passes / (now() - begin);
}

/* The rank of a page, by Gray's method; zeta is the sum of 1 / i^0.99. */
struct zipf {
	double n, zeta, theta, alpha, eta;
};

static struct zipf zipf_make(unsigned n)
{
	struct zipf zipf = { .n = n, .theta = 0.99 };

	for (unsigned i = 1; i <= n; i++)
		zipf.zeta += 1 / pow(i, zipf.theta);
	zipf.alpha = 1 / (1 - zipf.theta);
	zipf.eta = (1 - pow(2 / zipf.n, 1 - zipf.theta)) /
		   (1 - (1 + pow(0.5, zipf.theta)) / zipf.zeta);
	return zipf;
}

static unsigned zipf_rank(const struct zipf *zipf, uint64_t *seed)
{
	double u = (double)next_random(seed) / (double)(UINT64_C(1) << 31), uz = u * zipf->zeta;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, zipf->theta))
		return 1;
	return (unsigned)(zipf->n * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha));
}

/* Microseconds for each read of 4 KiB, of so many thousands; as many before are not counted. */
static double run_zipf(uint64_t *memory, unsigned mib, unsigned thousands)
{
	unsigned pages = mib * 256, reads = thousands * 1000;
	uint64_t seed = 1, wrong = 0;
	struct zipf zipf = zipf_make(pages);
	const size_t words = PAGE / sizeof(*memory);
	double begin = 0;

	memory_fill(memory, mib * MIB);
	for (unsigned i = 0; i < 2 * reads; i++) {
		/* Hot pages lie anywhere: an odd factor mixes them. */
		size_t page = (size_t)zipf_rank(&zipf, &seed) * 40503 % pages;
		uint64_t first = page * words;

		if (i == reads)
			begin = now();
		wrong += sum(memory + first, words) != words * first + words * (words - 1) / 2;
	}
	if (wrong)
		exit(1);
	return (now() - begin) * 1e6 / reads;
}

/* How many of so many touches found the page gone, as mincore(2) says. */
static unsigned hot_touches(const uint64_t *memory, unsigned pages, unsigned touches,
			    uint64_t *seed)
{
	const size_t words = PAGE / sizeof(*memory);
	unsigned gone = 0;

	for (unsigned i = 0; i < touches; i++) {
		const uint64_t *word = memory + next_random(seed) % pages * words;
		unsigned char there;

		if (mincore((void *)word, PAGE, &there) || *word != (uint64_t)(word - memory))
			exit(1);
		gone += !(there & 1);
	}
	return gone;
}

/*
 * A sixteenth of the memory, its first blocks, is in use from the beginning; all else is filled,
 * then read at random, each page seldom. Per mill of touches of what is in use that found it gone.
 */
static double run_hot(unsigned mib, unsigned passes)
{
	const size_t words = PAGE / sizeof(uint64_t);
	unsigned pages = mib * 256, nhot = pages / 16;
	uint64_t *memory = aligned_alloc(2 * MIB, mib * MIB), seed = 1;
	double gone = 0, touches = 0;

	if (!memory)
		exit(1);
	for (unsigned page = 0; page < pages * (1 + passes); page++, touches += 4) {
		size_t at = (page < pages ? page : next_random(&seed) % pages) * words;

		if (page < pages)
			memory[at] = at;
		else if (memory[at] != at)
			exit(1);
		gone += hot_touches(memory, page < nhot ? page + 1 : nhot, 4, &seed);
	}
	return 1000 * gone / touches;
}

/* Percent of a CPU that the process takes while it waits, once it had a second to settle. */
static double run_idle(unsigned mib, unsigned seconds)
{
	uint64_t *memory = memory_fill(aligned_alloc(PAGE, mib * MIB), mib * MIB);
	double begin, cpu, percent;

	sleep(1);
	cpu = cpu_seconds();
	begin = now();
	sleep(seconds);
	percent = 100 * (cpu_seconds() - cpu) / (now() - begin);
	if (sum(memory, 1))
		exit(1);
	return percent;
}

int main(int argc, char **argv)
{
	unsigned a = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	unsigned b = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	unsigned c = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
	struct rusage usage;
	double figure = 0;

	if (argc > 1 && !strcmp(argv[1], "malloc"))
		figure = run_malloc(a, b);
	else if (argc > 1 && !strcmp(argv[1], "passes"))
		figure = run_passes(a, b);
	else if (argc > 1 && !strcmp(argv[1], "zipf"))
		figure = run_zipf(aligned_alloc(PAGE, a * MIB), a, b);
	else if (argc > 1 && !strcmp(argv[1], "zipf-paged"))
		figure = run_zipf(paging_alloc(a * MIB, c * MIB), a, b);
	else if (argc > 1 && !strcmp(argv[1], "hot"))
		figure = run_hot(a, b);
	else if (argc > 1 && !strcmp(argv[1], "idle"))
		figure = run_idle(a, b);
	else if (argc < 2 || strcmp(argv[1], "start") != 0)
		return 2;
	getrusage(RUSAGE_SELF, &usage);
	printf("%.9g %ld\n", figure, usage.ru_maxrss);
	return 0;
}
