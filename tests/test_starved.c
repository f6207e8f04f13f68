/* SPDX-License-Identifier: MIT */
/*
 * No page of address space is left: pages still come home, and what the program does to its
 * mappings is still followed. Each test is a child, since a process has one limit.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define STARVED_PAGES 2048

/* No page more than what the process has mapped already. */
static void address_space_close(void)
{
	struct rlimit limit;
	unsigned long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "r");

	child_check(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	child_check(getrlimit(RLIMIT_AS, &limit) == 0);
	limit.rlim_cur = pages * PAGE;
	child_check(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void child_reads_without_memory(void *arg)
{
	struct env *e = arg;
	struct ref_options options = { .nframes = STARVED_PAGES,
				       .type = e->variant.type,
				       .inline_copy = e->variant.inline_copy };
	struct umm_ctx_options ctx_options = { .size = sizeof(ctx_options) };
	struct umm_stats stats = { .size = sizeof(stats) };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *p;

	ctx_options.flags = e->variant.ctx_flags;
	ctx_options.kernel_features_off = e->variant.features_off;
	child_check(umm_ctx_create(&ctx_options, &ctx) == 0);
	child_check(ref_create(ctx, &options, &ref) == 0);
	child_check(umm_alloc(ctx, STARVED_PAGES * PAGE, UMM_ALLOC_SMALL_PAGES, &p) == 0);
	fill(p, STARVED_PAGES, 1);
	child_check(umm_migrate_to_device(ctx, ref->mem, p, STARVED_PAGES * PAGE) == STARVED_PAGES);
	address_space_close();
	for (size_t i = 0; i < STARVED_PAGES; i++)
		child_check(filled_at(p, i, 1));
	child_check(umm_ctx_stats(ctx, &stats) == 0);
	child_check(stats.counter[UMM_COUNT_POISONED] == 0);
}

static void host_memory_that_runs_out_costs_no_page(struct env *e)
{
	if (HARNESS_TSAN || HARNESS_ASAN)
		env_skip("sanitizers need all of the address space");
	if (!e->variant.inline_copy)
		env_skip("the reference device's worker needs memory of its own");
	if (harness_is_llvmpipe())
		env_skip("rusticl ends a process that has no memory for its commands");
	assert_true(in_child(child_reads_without_memory, e));
}

/* A range for each page, and every fault is counted for another one. */
static void child_counts_without_memory(void *arg)
{
	struct env *e = arg;
	struct umm_stats stats = { .size = sizeof(stats) };
	struct umm_ctx_options ctx_options = { .size = sizeof(ctx_options),
					       .flags = e->variant.ctx_flags,
					       .readahead = UMM_READAHEAD_OFF };
	struct ref_options options = { .nframes = STARVED_PAGES, .inline_copy = true };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	char *p = mmap(NULL, STARVED_PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	child_check(p != MAP_FAILED);
	child_check(umm_ctx_create(&ctx_options, &ctx) == 0);
	child_check(ref_create(ctx, &options, &ref) == 0);
	for (size_t i = 0; i < STARVED_PAGES; i++)
		child_check(umm_attach(ctx, p + i * PAGE, PAGE) == 0);
	fill(p, STARVED_PAGES, 1);
	child_check(umm_migrate_to_device(ctx, ref->mem, p, STARVED_PAGES * PAGE) == STARVED_PAGES);
	address_space_close();
	for (size_t i = 0; i < STARVED_PAGES; i++)
		child_check(filled_at(p, i, 1));
	child_check(umm_ctx_stats(ctx, &stats) == 0);
	child_check(stats.managed_bytes == STARVED_PAGES * PAGE);
	for (size_t i = 0; i < STARVED_PAGES; i++)
		child_check(umm_detach(ctx, p + i * PAGE) == 0);
}

static void small_range_stays_managed_without_memory_to_count_for_it(struct env *e)
{
	if (HARNESS_TSAN || HARNESS_ASAN)
		env_skip("sanitizers need all of the address space");
	if (harness_is_llvmpipe())
		env_skip("rusticl ends a process that has no memory for its commands");
	assert_true(in_child(child_counts_without_memory, e));
}

#define MOVED_BLOCKS 20
#define LOW_ADDRESS  0x200000000000

/* What one child does to memory on a device, and the kernel has done when libumm hears of it. */
struct starved {
	struct umm_ctx *ctx;
	struct ref_device *ref;
	char *map;  /* MOVED_BLOCKS blocks, the pages scattered over the frames */
	char *room; /* addresses that nothing is mapped at */
};

/* Frames that follow each other are few words; others need a word a page. */
static void scatter(struct starved *s)
{
	size_t n = MOVED_BLOCKS * UMM_BLOCK_PAGES;
	struct umm_span *spans = calloc(n, sizeof(*spans));
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.spans = spans,
		.nspans = n / 2,
		.dst = s->ref->mem,
	};

	child_check(spans != NULL);
	for (unsigned odd = 0; odd < 2; odd++) {
		for (size_t i = 0; i < n / 2; i++)
			spans[i] =
				(struct umm_span){ (uintptr_t)s->map + (2 * i + odd) * PAGE, PAGE };
		child_check(umm_migrate_spans(s->ctx, &req, NULL) == (long)n / 2);
	}
	free(spans);
}

static void starved_open(struct starved *s, const struct variant *v)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = v->ctx_flags,
					   .kernel_features_off = v->features_off };
	struct ref_options ref_options = { .nframes = MOVED_BLOCKS * UMM_BLOCK_PAGES,
					   .type = v->type,
					   .inline_copy = v->inline_copy };
	size_t len = MOVED_BLOCKS * BLOCK;
	void *map;

	child_check(umm_ctx_create(&options, &s->ctx) == 0);
	child_check(ref_create(s->ctx, &ref_options, &s->ref) == 0);
	/* Where nobody is given addresses: the room stays free. */
	map = mmap((void *)LOW_ADDRESS, 2 * len + 3 * BLOCK, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	child_check(map != MAP_FAILED);
	s->map = (char *)map + (BLOCK - (uintptr_t)map % BLOCK) % BLOCK;
	s->room = s->map + len + BLOCK;
	child_check(madvise(map, 2 * len + 3 * BLOCK, MADV_NOHUGEPAGE) == 0);
	child_check(munmap(s->map + len, len + BLOCK) == 0);
	child_check(umm_attach(s->ctx, s->map, len) == 0);
	fill(s->map, MOVED_BLOCKS * UMM_BLOCK_PAGES, 1);
	scatter(s);
}

static void count_loss(void *priv, enum umm_log_level level, const char *line)
{
	(void)level;
	*(atomic_uint *)priv += strstr(line, "no memory") != NULL;
}

/* Block k was moved in pieces to room, not aligned as it was; half of its pages are dropped. */
static void starved_block(struct starved *s, size_t k)
{
	char *from = s->map + k * BLOCK, *to = s->room + k * BLOCK + 3 * PAGE;

	child_check(mremap(from, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	child_check(munmap(to + 8 * PAGE, 8 * PAGE) == 0);
	address_space_close();
	child_check(madvise(to + 100 * PAGE, 256 * PAGE, MADV_DONTNEED) == 0);
}

static void starved_block_check(struct starved *s, size_t k)
{
	char *to = s->room + k * BLOCK + 3 * PAGE, page[PAGE];

	for (size_t i = 0; i < UMM_BLOCK_PAGES; i++) {
		int ret = ref_read(s->ref, (uintptr_t)to + i * PAGE, page, PAGE);
		bool dropped = i >= 100 && i < 356;

		if (i >= 8 && i < 16) {
			child_check(ret == -EFAULT);
			continue;
		}
		child_check(ret == 0);
		child_check(dropped ? page_zero(page) :
				      page_filled(page, k * UMM_BLOCK_PAGES + i, 1));
		child_check(dropped ? page_zero(to + i * PAGE) :
				      page_filled(to + i * PAGE, k * UMM_BLOCK_PAGES + i, 1));
	}
}

static void child_changes_without_memory(void *arg)
{
	const struct env *e = arg;
	struct umm_stats stats = { .size = sizeof(stats) };
	struct rlimit before;
	atomic_uint lost = 0;
	struct starved s;

	starved_open(&s, &e->variant);
	umm_log_set(count_loss, &lost, UMM_LOG_WARNING);
	child_check(getrlimit(RLIMIT_AS, &before) == 0);
	address_space_close();
	for (size_t k = 0; k < MOVED_BLOCKS; k++)
		starved_block(&s, k);
	child_check(setrlimit(RLIMIT_AS, &before) == 0);
	for (size_t k = 0; k < MOVED_BLOCKS; k++)
		starved_block_check(&s, k);
	child_check(umm_bring_home(s.ctx) >= 0);
	child_check(umm_ctx_stats(s.ctx, &stats) == 0);
	child_check(stats.counter[UMM_COUNT_POISONED] == 0);
	for (int i = 0; umm_devmem_nfree(s.ref->mem) < MOVED_BLOCKS * UMM_BLOCK_PAGES; i++) {
		child_check(i < 1000);
		usleep(10000);
	}
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	child_check(atomic_load(&lost) == 0);
	umm_ctx_put(s.ctx);
	child_check(ref_destroy(s.ref));
}

/* The kernel has moved and dropped the pages already: no memory to note it is no excuse. */
static void events_are_followed_where_no_memory_is_left(struct env *e)
{
	if (HARNESS_TSAN || HARNESS_ASAN)
		env_skip("sanitizers need all of the address space");
	assert_true(in_child(child_changes_without_memory, e));
}

static const struct test_case cases[] = {
	TEST(PRIVATE, host_memory_that_runs_out_costs_no_page),
	TEST(ONCE, small_range_stays_managed_without_memory_to_count_for_it),
	TEST(KERNEL, events_are_followed_where_no_memory_is_left),
	TEST(COHERENT_ONCE, events_are_followed_where_no_memory_is_left),
};

int main(int argc, char **argv)
{
	return harness_main("test_starved", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
