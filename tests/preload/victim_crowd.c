/* SPDX-License-Identifier: MIT */
/*
 * Programs that bring memory to the host as fast as four threads can, in one of several ways. The
 * arguments are the way, and MiB of memory. A device that stalls counts meanwhile how much of it is
 * there (tier_ref.c); not while it is given back, too, for then what was counted may have gone.
 */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "victim.h"

enum { PAGE = 4096, THREADS = 4, ROUNDS = 1, GROWS_FROM = 512 };

static char *memory;
static size_t npages;

/* The device's to read and to write. */
#define SHOWN __attribute__((visibility("default")))
SHOWN char *_Atomic victim_memory;
SHOWN _Atomic size_t victim_pages, victim_most;

static uint64_t *word_of(size_t page)
{
	return (uint64_t *)(memory + page * PAGE);
}

/* Each thread has a part of the pages to itself. */
static size_t part_len(void)
{
	return npages / THREADS;
}

static void fill_part(size_t first)
{
	for (size_t i = first; i < first + part_len(); i++)
		*word_of(i) = i + 1;
}

static void check_part(size_t first)
{
	for (size_t i = first; i < first + part_len(); i++)
		check(*word_of(i) == i + 1);
}

/* Touches that nobody can guess, of pages most of which are on a device. */
static void *touch_part(void *number)
{
	size_t first = (uintptr_t)number * part_len();
	uint64_t seed = first + 1;

	fill_part(first);
	for (size_t i = 0; i < ROUNDS * part_len(); i++) {
		size_t page;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		page = first + (seed >> 33) % part_len();
		check(*word_of(page) == page + 1);
	}
	check_part(first);
	return NULL;
}

/* Gives memory back, and fills it again. */
static void *empty_part(void *number)
{
	size_t first = (uintptr_t)number * part_len();

	for (unsigned round = 0; round < ROUNDS; round++) {
		fill_part(first);
		check_part(first);
		check(!madvise(memory + first * PAGE, part_len() * PAGE, MADV_DONTNEED));
		check(!*word_of(first));
	}
	fill_part(first);
	check_part(first);
	return NULL;
}

static void crowd(void *(*way)(void *))
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		check(!pthread_create(&threads[i], NULL, way, (void *)i));
	for (unsigned i = 0; i < THREADS; i++)
		check(!pthread_join(threads[i], NULL));
}

static char *map(int prot, int flags)
{
	void *start = mmap(NULL, npages * PAGE, prot,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

	check(start != MAP_FAILED);
	return start;
}

/* Fills as much first, and gives it back: from here on the shim is at work. */
static void prepare(void)
{
	memory = map(PROT_READ | PROT_WRITE, 0);
	for (size_t i = 0; i < npages; i++)
		*word_of(i) = 1;
	check(!munmap(memory, npages * PAGE));
}

/* A small mapping grows to all of it. */
static char *grown(void)
{
	void *start = mmap(NULL, (size_t)GROWS_FROM * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(start != MAP_FAILED);
	start = mremap(start, (size_t)GROWS_FROM * PAGE, npages * PAGE, MREMAP_MAYMOVE);
	check(start != MAP_FAILED);
	return start;
}

int main(int argc, char **argv)
{
	void *(*way)(void *) = touch_part;

	check(argc == 3);
	npages = (size_t)atoi(argv[2]) * 256;
	prepare();
	if (!strcmp(argv[1], "grows")) {
		memory = grown();
	} else if (!strcmp(argv[1], "reserves")) {
		memory = map(PROT_NONE, 0);
		check(!mprotect(memory, npages * PAGE, PROT_READ | PROT_WRITE));
	} else {
		memory = map(PROT_READ | PROT_WRITE,
			     strcmp(argv[1], "populates") ? 0 : MAP_POPULATE);
	}
	if (!strcmp(argv[1], "empties")) {
		way = empty_part;
	} else {
		victim_memory = memory;
		victim_pages = npages;
	}
	crowd(way);
	printf("most in the host: %zu\n", victim_most / 256);
	puts("victim: all as it should be");
	return 0;
}
