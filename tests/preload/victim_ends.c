/* SPDX-License-Identifier: MIT */
/*
 * Programs whose memory outlives, or does not, who allocated it: a library with an allocator of
 * its own that is unloaded, threads that end, children that share all memory until they end, and
 * many small mappings. The argument is which.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

#define LARGE ((size_t)700 * 1024)

enum { THREADS = 16, ROUNDS = 8, SMALL = 64, PARTS = 16 };

/* ---- a library with an allocator of its own ------------------------------------------------- */

static void *(*make)(size_t len);
static void (*destroy)(void *ptr);

/* Several threads are in the library's allocator and in ours by turns. */
static void *mix(void *seed)
{
	for (unsigned i = 0; i < 8; i++) {
		void *theirs = make(3 * MIB), *mine = malloc(2 * MIB);

		fill(mine, 2 * MIB, (uintptr_t)seed);
		check(is_filled(theirs, 3 * MIB, 11) && is_filled(mine, 2 * MIB, (uintptr_t)seed));
		destroy(theirs);
		free(mine);
	}
	return NULL;
}

static void library(void)
{
	void *object = dlopen(getenv("VICTIM_LIBRARY_OWN"), RTLD_NOW);
	char *mine = malloc(48 * MIB), *theirs[PARTS];
	size_t (*calls)(void);
	pthread_t thread[4];

	check(object);
	*(void **)&make = dlsym(object, "library_make");
	*(void **)&destroy = dlsym(object, "library_destroy");
	*(void **)&calls = dlsym(object, "library_calls");
	check(make && destroy && calls);
	fill(mine, 48 * MIB, 1);
	for (unsigned i = 0; i < PARTS; i++)
		theirs[i] = make(4 * MIB);
	check(calls() == PARTS);
	for (uintptr_t i = 0; i < 4; i++)
		check(!pthread_create(&thread[i], NULL, mix, (void *)(i + 2)));
	for (unsigned i = 0; i < 4; i++)
		check(!pthread_join(thread[i], NULL));
	check(calls() == PARTS + 32);
	check(is_filled(mine, 48 * MIB, 1));
	for (unsigned i = 0; i < PARTS; i++) {
		check(is_filled(theirs[i], 4 * MIB, 11));
		destroy(theirs[i]);
	}
	check(!dlclose(object));
	check(is_filled(mine, 48 * MIB, 1));
	free(mine);
}

/* ---- threads that end ----------------------------------------------------------------------- */

static pthread_key_t key;

/* What a thread leaves to others, and what its end allocates and frees. */
struct left {
	unsigned seed;
	char *large, *small[SMALL], *at_end;
	struct left *for_end;
};

static void left_fill(struct left *left, unsigned seed)
{
	left->seed = seed;
	fill(left->large = malloc(LARGE), LARGE, seed);
	for (unsigned i = 0; i < SMALL; i++)
		memset(left->small[i] = malloc(16 + 100 * i), (int)seed, 16 + 100 * i);
}

static void left_check_and_free(struct left *left)
{
	check(is_filled(left->large, LARGE, left->seed));
	free(left->large);
	for (unsigned i = 0; i < SMALL; i++) {
		check(left->small[i][0] == (char)left->seed);
		check(left->small[i][15 + 100 * i] == (char)left->seed);
		free(left->small[i]);
	}
}

/* After the allocator's own destructor, perhaps: as of a thread that it has never seen. */
static void thread_end(void *arg)
{
	struct left *left = arg;

	left_check_and_free(left->for_end);
	free(left->for_end);
	fill(left->at_end = malloc(LARGE), LARGE, left->seed + 1);
	free(malloc(100));
}

static void *thread_main(void *arg)
{
	struct left *left = arg;

	left_fill(left, left->seed);
	left_fill(left->for_end = calloc(1, sizeof(*left)), left->seed + 2);
	check(!pthread_setspecific(key, left));
	if (left->seed % 2)
		pthread_exit(NULL);
	return NULL;
}

static size_t address_space(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t npages = 0;

	check(file && fscanf(file, "%zu", &npages) == 1 && !fclose(file));
	return npages * 4096;
}

static void round_of_threads(void)
{
	struct left *left = calloc(THREADS, sizeof(*left));
	pthread_t thread[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		left[i].seed = i + 1;
		check(!pthread_create(&thread[i], NULL, thread_main, &left[i]));
	}
	for (unsigned i = 0; i < THREADS; i++)
		check(!pthread_join(thread[i], NULL));
	for (unsigned i = 0; i < THREADS; i++) {
		left_check_and_free(&left[i]);
		check(is_filled(left[i].at_end, LARGE, left[i].seed + 1));
		free(left[i].at_end);
	}
	free(left);
}

/* Their caches go with them, what they leave stays, and nothing of them is left in the end. */
static void threads(void)
{
	char *ballast = malloc(64 * MIB);
	size_t before = 0;

	fill(ballast, 64 * MIB, 9);
	check(!pthread_key_create(&key, thread_end));
	for (unsigned i = 0; i < ROUNDS; i++) {
		round_of_threads();
		before = i == ROUNDS / 2 ? address_space() : before;
	}
	check(address_space() < before + 16 * MIB);
	check(is_filled(ballast, 64 * MIB, 9));
	free(ballast);
}

/* ---- children that share all memory --------------------------------------------------------- */

static void child_end(int pid, int with)
{
	int status;

	check(pid > 0 && waitpid(pid, &status, 0) == pid);
	check(WIFEXITED(status) && WEXITSTATUS(status) == with);
}

/* They end in ways that are theirs alone: the parent's engine goes on. */
static void vforks(void)
{
	char *memory = malloc(96 * MIB);
	int pid;

	fill(memory, 96 * MIB, 3);
	pid = vfork();
	if (!pid)
		_exit(3);
	child_end(pid, 3);
	pid = vfork();
	if (!pid) {
		execl("/nonexistent", "nonexistent", NULL);
		execl("/bin/sh", "sh", "-c", "exit 4", NULL);
		_exit(5);
	}
	child_end(pid, 4);
	check(is_filled(memory, 96 * MIB, 3));
	fill(memory, 96 * MIB, 4);
	check(is_filled(memory, 96 * MIB, 4));
	free(memory);
}

/* ---- many small mappings -------------------------------------------------------------------- */

static void mappings(void)
{
	static char *part[768];

	for (unsigned i = 0; i < 768; i++) {
		part[i] = mmap(NULL, MIB / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
		check(part[i] != MAP_FAILED);
		fill(part[i], MIB / 8, i);
	}
	for (unsigned i = 0; i < 768; i++)
		check(is_filled(part[i], MIB / 8, i) && !munmap(part[i], MIB / 8));
}

static const struct {
	const char *name;
	void (*run)(void);
} programs[] = {
	{ "library", library },
	{ "threads", threads },
	{ "vforks", vforks },
	{ "mappings", mappings },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!strcmp(programs[i].name, argv[1])) {
			programs[i].run();
			puts("victim: all as it should be");
			return 0;
		}
	return 2;
}
