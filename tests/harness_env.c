/* SPDX-License-Identifier: MIT */
/*
 * A test's environment: devices, memory, counters, page states. What a test leaves is
 * destroyed by its teardown; all of these are for the test's own thread.
 */
#include "harness.h"

#include <stdlib.h>
#include <sys/mman.h>

struct ref_device *env_device_with(struct env *env, struct ref_options options)
{
	struct ref_device *ref;

	assert_in_range(env->ndevices, 0, MAX_DEVICES - 1);
	options.type = env->variant.type;
	options.inline_copy = env->variant.inline_copy;
	if (!variant_has_syscalls(&env->variant))
		options.touch = touch_read;
	assert_int_equal(ref_create(env->ctx, &options, &ref), 0);
	env->devices[env->ndevices++] = ref;
	return ref;
}

struct ref_device *env_device(struct env *env, uint32_t nframes)
{
	return env_device_with(env, (struct ref_options){ .nframes = nframes });
}

void env_device_gone(struct env *env, struct ref_device *ref)
{
	unsigned i;

	for (i = 0; i < env->ndevices; i++)
		if (env->devices[i] == ref)
			env->devices[i] = NULL;
	assert_true(ref_destroy(ref));
}

void env_close(struct env *env)
{
	struct umm_ctx *ctx = env->ctx;

	env->ctx = NULL;
	umm_ctx_put(ctx);
}

void env_reopen(struct env *env, struct umm_ctx_options options)
{
	options.size = sizeof(options);
	options.flags |= env->variant.ctx_flags;
	options.kernel_features_off |= env->variant.features_off;
	env_close(env);
	assert_int_equal(umm_ctx_create(&options, &env->ctx), 0);
}

/* What fits into one block lies in one: so one device access concerns all of it. */
static char *alloc_in_block(struct env *env, size_t len, uint64_t flags)
{
	void *addr, *next, *crossing = NULL;

	assert_int_equal(umm_alloc(env->ctx, len, flags, &addr), 0);
	/* Those that do not are kept, in a list through their first words, or they come again. */
	while (len <= BLOCK && (uintptr_t)addr / BLOCK != ((uintptr_t)addr + len - 1) / BLOCK) {
		*(void **)addr = crossing;
		crossing = addr;
		assert_int_equal(umm_alloc(env->ctx, len, flags, &addr), 0);
	}
	for (; crossing; crossing = next) {
		next = *(void **)crossing;
		umm_free(env->ctx, crossing);
	}
	return addr;
}

char *env_alloc(struct env *env, size_t len)
{
	return alloc_in_block(env, len, 0);
}

char *env_alloc_small(struct env *env, size_t len)
{
	return alloc_in_block(env, len, UMM_ALLOC_SMALL_PAGES);
}

/* Remember it; somebody else may get these addresses once they are unmapped. */
static void mapping_add(struct env *env, char *addr, size_t len)
{
	assert_in_range(env->nmappings, 0, MAX_MAPPINGS - 1);
	env->mappings[env->nmappings].addr = addr;
	env->mappings[env->nmappings].len = len;
	env->nmappings++;
}

char *env_map(struct env *env, size_t len)
{
	size_t all = len + BLOCK;
	char *map, *start;

	map = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	start = map + (BLOCK - (uintptr_t)map % BLOCK) % BLOCK;
	/* Alone: what comes before and after must not merge with it. */
	if (start > map)
		munmap(map, (size_t)(start - map));
	if (map + all > start + len)
		munmap(start + len, (size_t)(map + all - (start + len)));
	madvise(start, len, MADV_NOHUGEPAGE);
	mapping_add(env, start, len);
	return start;
}

void env_forget(struct env *env, void *addr, size_t len)
{
	char *from = addr, *to = from + len;
	unsigned i, n = env->nmappings;

	for (i = 0; i < n; i++) {
		struct mapping m = env->mappings[i];

		if (m.addr >= to || m.addr + m.len <= from)
			continue;
		env->mappings[i].len = 0;
		if (m.addr < from)
			mapping_add(env, m.addr, (size_t)(from - m.addr));
		if (m.addr + m.len > to)
			mapping_add(env, to, (size_t)(m.addr + m.len - to));
	}
}

void env_unmap(struct env *env, void *addr, size_t len)
{
	assert_int_equal(munmap(addr, len), 0);
	env_forget(env, addr, len);
}

char *env_attach(struct env *env, size_t len)
{
	char *addr = env_map(env, len);

	assert_int_equal(umm_attach(env->ctx, addr, len), 0);
	return addr;
}

void env_mark(struct env *env)
{
	env->mark.size = sizeof(env->mark);
	assert_int_equal(umm_ctx_stats(env->ctx, &env->mark), 0);
}

uint64_t env_delta(struct env *env, unsigned counter)
{
	struct umm_stats now = { .size = sizeof(now) };

	assert_int_equal(umm_ctx_stats(env->ctx, &now), 0);
	return now.counter[counter] - env->mark.counter[counter];
}

uint64_t env_delta_causes(struct env *env, unsigned first)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < UMM_NR_CAUSES; i++)
		sum += env_delta(env, first + i);
	return sum;
}

void assert_delta(struct env *env, unsigned counter, uint64_t n)
{
	uint64_t until = harness_now_ms() + PATIENCE_MS, delta;

	while ((delta = env_delta(env, counter)) < n && harness_now_ms() < until)
		harness_yield();
	if (delta != n)
		fail_msg("%s grew by %llu, not by %llu", umm_counter_name(counter),
			 (unsigned long long)delta, (unsigned long long)n);
}

void assert_free_frames(struct ref_device *ref, uint32_t n)
{
	uint64_t until = harness_now_ms() + PATIENCE_MS;

	while (umm_devmem_nfree(ref->mem) < n && harness_now_ms() < until)
		harness_yield();
	assert_int_equal(umm_devmem_nfree(ref->mem), n);
}

enum umm_page_state env_home(const struct env *env)
{
	return env->variant.type == UMM_DEVMEM_PRIVATE ? UMM_PAGE_DEVICE : UMM_PAGE_COHERENT;
}

size_t count_state(struct env *env, const void *addr, size_t npages, enum umm_page_state state)
{
	struct umm_page_info info[64];
	size_t i, n, count = 0;

	for (i = 0; i < npages; i += n) {
		n = npages - i < 64 ? npages - i : 64;
		assert_int_equal(umm_query(env->ctx, (uintptr_t)addr + i * PAGE, n, info), 0);
		for (size_t j = 0; j < n; j++)
			count += info[j].state == state;
	}
	return count;
}

enum umm_page_state state_of(struct env *env, const void *addr)
{
	struct umm_page_info info;

	assert_int_equal(umm_query(env->ctx, (uintptr_t)addr, 1, &info), 0);
	return info.state;
}

void assert_state(struct env *env, const void *addr, size_t npages, enum umm_page_state state)
{
	enum umm_page_state is;
	size_t i;

	if (count_state(env, addr, npages, state) == npages)
		return;
	for (i = 0; i < npages; i++) {
		is = state_of(env, (const char *)addr + i * PAGE);
		if (is != state)
			fail_msg("page %zu of %zu is in state %d, not %d", i, npages, (int)is,
				 (int)state);
	}
}
