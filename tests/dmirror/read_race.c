/* SPDX-License-Identifier: MIT */
/*
 * A program for the test driver: of two threads with one descriptor, the one has the device read
 * pages over and over, the other writes to them and has the device take them for itself alone.
 * Nobody may wait for ever, and no read may be older than what was written before it.
 *
 * Exit status: 0; 1 with a reason; 77 there is no userfaultfd to be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"

#define PAGES  16u
#define WORDS  (4096 / sizeof(uint64_t))
#define ROUNDS 100u

static int device;
static _Atomic uint64_t (*memory)[WORDS]; /* each page begins with its last round */

static _Atomic uint64_t started, written; /* rounds */
static unsigned long reads;		  /* under lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t read_once = PTHREAD_COND_INITIALIZER;
static atomic_bool stop;

static _Noreturn void fail(const char *what, int error)
{
	fprintf(stderr, "read_race: %s%s%s\n", what, error ? ": " : "",
		error ? strerror(error) : "");
	exit(1);
}

/* 0 or an errno. */
static int ask(unsigned long request, uint64_t (*answer)[WORDS])
{
	struct dmirror_cmd cmd = { .addr = (uintptr_t)memory,
				   .ptr = (uintptr_t)answer,
				   .npages = PAGES };

	return ioctl(device, request, &cmd) ? errno : 0;
}

static void check(uint64_t (*answer)[WORDS], uint64_t least)
{
	uint64_t most = atomic_load(&started);

	for (unsigned i = 0; i < PAGES; i++)
		if (answer[i][0] < least || answer[i][0] > most)
			fail("the device has read what was not there", 0);
}

static void *reader(void *arg)
{
	static uint64_t answer[PAGES][WORDS];
	uint64_t least;
	int error;

	while (!atomic_load(&stop)) {
		least = atomic_load(&written);
		error = ask(DMIRROR_READ, answer);
		if (error)
			fail("a read failed", error);
		check(answer, least);
		pthread_mutex_lock(&lock);
		reads++;
		pthread_cond_signal(&read_once);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

/* Wait until a whole read lies between then and now. */
static void let_read(void)
{
	unsigned long end;

	pthread_mutex_lock(&lock);
	end = reads + 2;
	while (reads < end)
		pthread_cond_wait(&read_once, &lock);
	pthread_mutex_unlock(&lock);
}

/* Was it to be had? The reader may be in the way, before or after. */
static bool take(void)
{
	static uint64_t answer[PAGES][WORDS];
	int error = ask(DMIRROR_EXCLUSIVE, answer);

	if (error && error != EBUSY && error != ENOENT)
		fail("exclusive access failed", error);
	if (!error)
		check(answer, atomic_load(&written));
	return !error;
}

int main(void)
{
	unsigned taken = 0;
	pthread_t thread;

	device = open("/dev/hmm_dmirror0", O_RDWR);
	if (device < 0 && errno == EPERM) {
		printf("SKIP: there is no userfaultfd to be had\n");
		return 77;
	}
	if (device < 0)
		fail("/dev/hmm_dmirror0 does not open", errno);
	memory = mmap(NULL, sizeof(*memory) * PAGES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("no memory", errno);
	pthread_create(&thread, NULL, reader, NULL);
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		let_read();
		atomic_store(&started, round);
		for (unsigned i = 0; i < PAGES; i++)
			atomic_store(&memory[i][0], round);
		atomic_store(&written, round);
		let_read();
		taken += take();
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	printf("%lu reads; the pages were taken %u times of %u\n", reads, taken, ROUNDS);
	if (!taken)
		fail("the pages were never to be had", 0);
	return 0;
}
