/* SPDX-License-Identifier: MIT */
/*
 * The measuring loop of everything that faults, the same for libumm and its competitors. What is
 * timed is the one load or store that faults; what was read is checked.
 *
 * The order is a shuffle that is the same in every run of the program.
 */
#include "touches.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void shuffle(uint32_t *order, size_t npages)
{
	uint64_t x = UINT64_C(0x9e3779b97f4a7c15);
	size_t i;

	for (i = 0; i < npages; i++) {
		size_t j;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		j = x % (i + 1);
		order[i] = order[j];
		order[j] = (uint32_t)i;
	}
}

int touches_init(struct touches *t)
{
	t->order = calloc(t->npages, sizeof(*t->order));
	t->took_ns = calloc(t->npages, sizeof(*t->took_ns));
	if (!t->order || !t->took_ns)
		return -ENOMEM;
	shuffle(t->order, t->npages);
	return 0;
}

void touches_fini(struct touches *t)
{
	free(t->order);
	free(t->took_ns);
}

void touches_stamp(const struct touches *t, char *memory)
{
	size_t i, at;

	for (i = 0; i < t->npages; i++) {
		at = i * t->stride;
		memcpy(memory + at, &at, sizeof(at));
	}
}

/* Touch a page; true: its data is wrong. */
static inline bool touch(const struct touches *t, char *memory, size_t at)
{
	volatile size_t *words = (volatile size_t *)(memory + at);

	if (t->write)
		words[1] = at;
	return words[0] != at;
}

int touches_run(struct bench_env *env, const struct touches *t, char *memory, struct series *out)
{
	size_t i, wrong = 0;
	int ret;

	ret = machine_bind(env->machine, t->cpu);
	if (ret)
		return bench_note(env, ret, "binding to CPU %d", t->cpu);
	for (i = 0; i < t->npages; i++) {
		size_t at = t->order[i] * t->stride;
		uint64_t begin = machine_now();

		wrong += touch(t, memory, at);
		t->took_ns[i] = (uint32_t)(machine_now() - begin);
	}
	machine_bind(env->machine, -1);
	if (wrong)
		return bench_note(env, -EIO, "%zu pages came back with wrong data", wrong);
	for (i = 0; i < t->npages; i++)
		series_push(out, t->took_ns[i] / 1000.0);
	return 0;
}

size_t touches_walk(const struct touches *t, char *memory)
{
	size_t i, wrong = 0;

	for (i = 0; i < t->npages; i++)
		wrong += touch(t, memory, t->order[i] * t->stride);
	return wrong;
}
