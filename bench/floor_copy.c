/* SPDX-License-Identifier: MIT */
/*
 * memcpy() of a large buffer by one thread, both buffers warm and in huge pages. Scattered: the
 * first buffer is small pages, every other one of which is copied.
 *
 * C libraries switch to streaming stores above some size, which nearly doubles the speed
 * on machines where the buffers do not fit the cache; below it a call per block is slower, but on
 * others it is faster. Which it is here is found out when the copy is opened.
 */
#include "floor.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"

#define PAGE ((size_t)4096)
#define STEP ((size_t)1 << 21)

struct floor_copy {
	size_t len;
	size_t step;
	size_t gap; /* in buffer a, after each step */
	char *a;
	char *b;
	bool back;
};

static void copy(struct floor_copy *f, size_t step)
{
	size_t at, n;
	char *a = f->a;

	for (at = 0; at < f->len; at += step, a += step + f->gap) {
		n = step < f->len - at ? step : f->len - at;
		if (f->back)
			memcpy(a, f->b + at, n);
		else
			memcpy(f->b + at, a, n);
	}
	f->back = !f->back;
}

static uint64_t best_of(struct floor_copy *f, size_t step)
{
	uint64_t best = UINT64_MAX;
	int i;

	for (i = 0; i < 4; i++) {
		uint64_t begin = machine_now();
		uint64_t took;

		copy(f, step);
		took = machine_now() - begin;
		best = took < best ? took : best;
	}
	return best;
}

static int open_copy(size_t len, size_t gap, struct floor_copy **out)
{
	struct floor_copy *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->len = len;
	f->gap = gap;
	f->step = PAGE;
	f->a = machine_map(f->gap ? 2 * len : len, f->gap ? MADV_NOHUGEPAGE : MADV_HUGEPAGE, true);
	f->b = machine_map(len, MADV_HUGEPAGE, true);
	if (!f->a || !f->b) {
		floor_copy_close(f);
		return -ENOMEM;
	}
	if (!gap)
		f->step = best_of(f, len) <= best_of(f, STEP) ? len : STEP;
	*out = f;
	return 0;
}

int floor_copy_open(size_t len, struct floor_copy **out)
{
	return open_copy(len, 0, out);
}

int floor_copy_open_scattered(size_t len, struct floor_copy **out)
{
	return open_copy(len, PAGE, out);
}

void floor_copy_run(struct floor_copy *f)
{
	copy(f, f->step);
}

void floor_copy_close(struct floor_copy *f)
{
	if (!f)
		return;
	machine_unmap(f->a, f->gap ? 2 * f->len : f->len);
	machine_unmap(f->b, f->len);
	free(f);
}
