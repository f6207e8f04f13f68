/* SPDX-License-Identifier: MIT */
/*
 * Devices and their memories: adding and taking away while in use, broken devices,
 * frames for drivers, and every argument that must be refused.
 */
#include "harness.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* ---- creating ----------------------------------------------------------------------- */

static int copy_nothing(void *priv, const struct umm_copy *copies, unsigned ncopies,
			struct umm_fence *done)
{
	(void)priv;
	(void)copies;
	(void)ncopies;
	(void)done;
	return -EIO;
}

static const struct umm_device_ops good_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "test",
	.copy = copy_nothing,
};

static void device_needs_only_a_name_and_a_copy(struct env *e)
{
	struct umm_device *dev;
	int word;

	assert_int_equal(umm_device_create(e->ctx, &good_ops, &word, 0, &dev), 0);
	assert_ptr_equal(umm_device_priv(dev), &word);
	assert_string_equal(umm_device_name(dev), "test");
	umm_device_destroy(dev);
}

static void bad_device_operations_are_refused(struct env *e)
{
	struct {
		struct umm_device_ops ops;
		uint64_t newer;
	} big = { .ops = good_ops, .newer = 1 };
	struct umm_device_ops ops = good_ops;
	struct umm_device *dev = NULL;

	big.ops.size = sizeof(big);
	assert_int_equal(umm_device_create(e->ctx, &big.ops, NULL, 0, &dev), -E2BIG);
	assert_int_equal(umm_device_create(e->ctx, NULL, NULL, 0, &dev), -EINVAL);
	assert_int_equal(umm_device_create(NULL, &ops, NULL, 0, &dev), -EINVAL);
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, 1 << 20, &dev), -EINVAL);
	ops.size = 0;
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, 0, &dev), -EINVAL);
	ops = good_ops;
	ops.api = UMM_DEVICE_API + 1;
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, 0, &dev), -EINVAL);
	ops = good_ops;
	ops.name = NULL;
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, 0, &dev), -EINVAL);
	ops = good_ops;
	ops.copy = NULL;
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, 0, &dev), -EINVAL);
	assert_null(dev);
}

static void bad_memories_are_refused(struct env *e)
{
	struct umm_devmem_options good = { .size = sizeof(good), .nframes = 16 };
	struct {
		struct umm_devmem_options options;
		uint64_t newer;
	} big = { .options = good, .newer = 1 };
	char *base = env_map(e, BLOCK), *managed = env_alloc(e, BLOCK);
	struct umm_devmem_options options = good;
	struct umm_devmem *mem = NULL;
	struct umm_device *dev;

	assert_int_equal(umm_device_create(e->ctx, &good_ops, NULL, 0, &dev), 0);
	big.options.size = sizeof(big);
	assert_int_equal(umm_devmem_add(dev, &big.options, &mem), -E2BIG);
	assert_int_equal(umm_devmem_add(dev, NULL, &mem), -EINVAL);
	options.size = 0;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options = good;
	options.flags = 1 << 20;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options = good;
	options.nframes = 0;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options = good;
	options.base = base;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.type = UMM_DEVMEM_COHERENT;
	options.base = NULL;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.base = base + PAGE;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.base = managed;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.type = (enum umm_devmem_type)7;
	options.base = base;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	assert_null(mem);
	umm_device_destroy(dev);
}

/* A pool of one block at base is refused. */
static void assert_pool_refused(struct umm_device *dev, void *base, int why)
{
	struct umm_devmem_options options = { .size = sizeof(options),
					      .type = UMM_DEVMEM_COHERENT,
					      .nframes = BLOCK_PAGES,
					      .base = base };
	struct umm_devmem *mem;

	assert_int_equal(umm_devmem_add(dev, &options, &mem), why);
}

static void pool_must_be_plain_memory(struct env *e)
{
	const int prots[] = { PROT_NONE, PROT_READ, PROT_WRITE };
	char *base = env_map(e, BLOCK), *last = base + BLOCK - PAGE;
	int fd = memfd_create("pool", 0);
	struct umm_device *dev;

	/* Not one of a backend, which may make its pool accessible by itself (ops->populate). */
	assert_int_equal(umm_device_create(e->ctx, &good_ops, NULL, 0, &dev), 0);
	for (size_t i = 0; i < sizeof(prots) / sizeof(prots[0]); i++) {
		assert_int_equal(mprotect(last, PAGE, prots[i]), 0);
		assert_pool_refused(dev, base, -EINVAL);
	}
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_ptr_equal(mmap(last, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0),
			 last);
	assert_pool_refused(dev, base, -EINVAL);
	assert_ptr_equal(mmap(last, PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 last);
	assert_pool_refused(dev, base, -EINVAL);
	assert_int_equal(munmap(last, PAGE), 0);
	assert_pool_refused(dev, base, -EFAULT);
	assert_int_equal(munmap(base, BLOCK), 0);
	assert_pool_refused(dev, base, -EFAULT);
	assert_pool_refused(dev, (void *)(UINTPTR_MAX - BLOCK + 1), -EINVAL);
	assert_pool_refused(dev, (void *)((uintptr_t)1 << 47), -EINVAL);
	umm_device_destroy(dev);
	env_forget(e, base, BLOCK);
	close(fd);
}

static void pool_is_of_one_memory_and_not_managed(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other;
	struct ref_options others = { .nframes = 64, .inline_copy = true };
	char *base = env_map(e, 2 * BLOCK);
	struct umm_devmem_options options = { .size = sizeof(options),
					      .type = UMM_DEVMEM_COHERENT,
					      .nframes = BLOCK_PAGES + 1,
					      .base = base };
	struct umm_devmem *mem;
	struct umm_ctx *ctx;
	void *managed;

	assert_int_equal(umm_ctx_create(NULL, &ctx), 0);
	assert_int_equal(ref_create(ctx, &others, &other), 0);
	assert_int_equal(umm_devmem_add(other->dev, &options, &mem), 0);
	assert_pool_refused(ref->dev, base, -EINVAL);
	assert_pool_refused(ref->dev, base + BLOCK, -EINVAL);
	assert_pool_refused(other->dev, base + BLOCK, -EINVAL);
	assert_int_equal(umm_attach(ctx, base, PAGE), -EINVAL);
	assert_int_equal(umm_attach(e->ctx, base + BLOCK, PAGE), -EINVAL);
	assert_int_equal(umm_attach(e->ctx, base + BLOCK + PAGE, PAGE), 0);
	assert_int_equal(umm_detach(e->ctx, base + BLOCK + PAGE), 0);
	umm_devmem_remove(mem);
	assert_int_equal(umm_alloc(ctx, BLOCK, 0, &managed), 0);
	assert_pool_refused(ref->dev, managed, -EINVAL);
	assert_pool_refused(other->dev, managed, -EINVAL);
	assert_int_equal(umm_devmem_add(ref->dev, &options, &mem), 0);
	umm_devmem_remove(mem);
	umm_ctx_put(ctx);
	assert_true(ref_destroy(other));
}

/* Of the tests' own device, which then has no mirror yet: it has nothing to say about that. */
static void device_without_memory_is_destroyed_as_it_should_be(struct env *e)
{
	struct ref_options options = { .inline_copy = true };
	FILE *said = tmpfile();
	struct ref_device *ref;
	int standard_error = dup(STDERR_FILENO), ret;

	assert_non_null(said);
	assert_int_equal(dup2(fileno(said), STDERR_FILENO), STDERR_FILENO);
	ret = ref_create(e->ctx, &options, &ref);
	dup2(standard_error, STDERR_FILENO);
	close(standard_error);
	if (!ret) {
		fclose(said);
		assert_true(ref_destroy(ref));
		env_skip("this backend makes devices of no frames");
	}
	rewind(said);
	for (char line[256]; fgets(line, sizeof(line), said);)
		assert_null(strstr(line, "broke its contract"));
	fclose(said);
}

static void memory_knows_its_device_and_a_word_of_the_driver(struct env *e)
{
	struct ref_device *ref = env_device(e, 100);
	void *before = umm_devmem_priv(ref->mem);
	int word;

	assert_ptr_equal(umm_devmem_device(ref->mem), ref->dev);
	assert_int_equal(umm_devmem_nframes(ref->mem), 100);
	assert_int_equal(umm_devmem_nfree(ref->mem), 100);
	umm_devmem_priv_set(ref->mem, &word);
	assert_ptr_equal(umm_devmem_priv(ref->mem), &word);
	umm_devmem_priv_set(ref->mem, before);
}

/* ---- frames ------------------------------------------------------------------------- */

static int compare_frames(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void frames_are_allocated_once(struct env *e)
{
	enum { N = 300 };
	struct ref_device *ref = env_device(e, N);
	uint32_t frames[N + 1], i;

	for (i = 0; i < N; i += 50)
		assert_int_equal(umm_devmem_alloc(ref->mem, 50, frames + i), 0);
	assert_int_equal(umm_devmem_nfree(ref->mem), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 1, frames + N), -ENOSPC);
	qsort(frames, N, sizeof(*frames), compare_frames);
	for (i = 0; i < N; i++)
		assert_int_equal(frames[i], i);
	umm_devmem_free(ref->mem, 100, frames + 100);
	assert_int_equal(umm_devmem_nfree(ref->mem), 100);
	assert_int_equal(umm_devmem_alloc(ref->mem, 101, frames), -ENOSPC);
	assert_int_equal(umm_devmem_nfree(ref->mem), 100);
	assert_int_equal(umm_devmem_alloc(ref->mem, 0, frames), -EINVAL);
	assert_int_equal(umm_devmem_alloc(ref->mem, 100, frames + 100), 0);
	umm_devmem_free(ref->mem, N, frames);
	assert_int_equal(umm_devmem_nfree(ref->mem), N);
}

static void whole_block_of_frames_is_contiguous_and_aligned(struct env *e)
{
	struct ref_device *ref = env_device(e, 3 * BLOCK_PAGES);
	uint32_t one, frames[BLOCK_PAGES], i;

	/* A single frame must not spoil more than one run. */
	assert_int_equal(umm_devmem_alloc(ref->mem, 1, &one), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, BLOCK_PAGES, frames), 0);
	assert_int_equal(frames[0] % BLOCK_PAGES, 0);
	for (i = 0; i < BLOCK_PAGES; i++)
		assert_int_equal(frames[i], frames[0] + i);
	umm_devmem_free(ref->mem, BLOCK_PAGES, frames);
	umm_devmem_free(ref->mem, 1, &one);
	assert_int_equal(umm_devmem_nfree(ref->mem), 3 * BLOCK_PAGES);
}

static void block_of_frames_may_be_scattered_when_memory_is(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	static uint32_t all[2 * BLOCK_PAGES], frames[BLOCK_PAGES];
	uint32_t i, k = 0;

	assert_int_equal(umm_devmem_alloc(ref->mem, BLOCK_PAGES, all), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, BLOCK_PAGES, all + BLOCK_PAGES), 0);
	for (i = 0; i < 2 * BLOCK_PAGES; i += 2)
		umm_devmem_free(ref->mem, 1, &all[i]);
	assert_int_equal(umm_devmem_alloc(ref->mem, BLOCK_PAGES, frames), 0);
	for (i = 0; i < BLOCK_PAGES; i++)
		k += frames[i] % 2 == all[0] % 2;
	assert_int_equal(k, BLOCK_PAGES);
	for (i = 1; i < 2 * BLOCK_PAGES; i += 2)
		umm_devmem_free(ref->mem, 1, &all[i]);
	umm_devmem_free(ref->mem, BLOCK_PAGES, frames);
	assert_int_equal(umm_devmem_nfree(ref->mem), 2 * BLOCK_PAGES);
}

static void scattered_frames_hold_a_block_all_the_same(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK), *q = env_alloc_small(e, BLOCK);
	static uint32_t all[2 * BLOCK_PAGES];
	uint32_t i;

	assert_int_equal(umm_devmem_alloc(ref->mem, BLOCK_PAGES, all), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, BLOCK_PAGES, all + BLOCK_PAGES), 0);
	for (i = 0; i < 2 * BLOCK_PAGES; i += 2)
		umm_devmem_free(ref->mem, 1, &all[i]);
	fill(p, BLOCK_PAGES, 1);
	fill(q, BLOCK_PAGES, 2);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_device_sees(ref, p, BLOCK_PAGES, 1);
	to_system(e, p, BLOCK_PAGES, BLOCK_PAGES);
	to_device(e, ref, q, BLOCK_PAGES, BLOCK_PAGES);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_filled(q, BLOCK_PAGES, 2);
	for (i = 1; i < 2 * BLOCK_PAGES; i += 2)
		umm_devmem_free(ref->mem, 1, &all[i]);
}

/* ---- going away while in use -------------------------------------------------------- */

struct user {
	struct actor actor;
	struct env *env;
	struct ref_device *ref;
	char *p;
	size_t npages;
	atomic_bool *stop;
	atomic_uint rounds;
	bool wrong;
};

/* The CPU's side: reads and writes its pages, over and over. */
static void user_cpu(void *arg)
{
	struct user *u = arg;
	unsigned seed = 1;
	size_t i;

	while (!atomic_load(u->stop)) {
		for (i = 0; i < u->npages; i++) {
			u->wrong |= !filled_at(u->p, i, seed);
			page_fill(u->p + i * PAGE, i, seed + 1);
		}
		seed++;
		atomic_fetch_add(&u->rounds, 1);
	}
	for (i = 0; i < u->npages; i++) {
		u->wrong |= !filled_at(u->p, i, seed);
		page_fill(u->p + i * PAGE, i, 1);
	}
}

/* The device's side: until the device is gone. */
static void user_device(void *arg)
{
	struct user *u = arg;
	uint64_t page[PAGE / sizeof(uint64_t)];
	size_t i;
	int ret;

	while (!atomic_load(u->stop)) {
		for (i = 0; i < u->npages; i++) {
			ret = ref_read(u->ref, (uintptr_t)u->p + i * PAGE, page, PAGE);
			if (ret == -ENODEV)
				return;
			u->wrong |= ret || !page_filled(page, i, 1);
		}
		atomic_fetch_add(&u->rounds, 1);
	}
}

#define USER_PAGES 128

static void users_start(struct user *users, struct env *e, struct ref_device *ref, char *p,
			atomic_bool *stop)
{
	unsigned i;

	for (i = 0; i < 3; i++) {
		users[i] = (struct user){ .env = e,
					  .ref = ref,
					  .stop = stop,
					  .p = p + (size_t)i * USER_PAGES * PAGE,
					  .npages = USER_PAGES };
		fill(users[i].p, USER_PAGES, 1);
		to_device(e, ref, users[i].p, USER_PAGES, USER_PAGES);
	}
	for (i = 0; i < 3; i++)
		actor_start(&users[i].actor, i < 2 ? user_cpu : user_device, &users[i]);
	for (i = 0; i < 3; i++)
		wait_until(atomic_load(&users[i].rounds) >= 2);
}

static void users_end(struct user *users, atomic_bool *stop)
{
	unsigned i;

	atomic_store(stop, true);
	for (i = 0; i < 3; i++)
		actor_join(&users[i].actor);
	for (i = 0; i < 3; i++) {
		assert_false(users[i].wrong);
		assert_filled(users[i].p, USER_PAGES, 1);
	}
}

static void device_is_destroyed_while_in_use(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, 3 * USER_PAGES * PAGE);
	struct user users[3];
	atomic_bool stop = false;

	users_start(users, e, ref, p, &stop);
	umm_device_destroy(ref->dev);
	assert_int_equal(ref_counts(ref).destroys, 1);
	users_end(users, &stop);
	assert_state(e, p, 3 * USER_PAGES, UMM_PAGE_SYSTEM);
}

static void memory_is_removed_while_in_use(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, 3 * USER_PAGES * PAGE);
	struct umm_devmem *second;
	struct user users[3];
	atomic_bool stop = false;
	unsigned i;

	users_start(users, e, ref, p, &stop);
	for (i = 0; i < 5; i++) {
		assert_int_equal(ref_memory_add(ref, e->variant.type, 256, &second), 0);
		assert_true(umm_migrate_to_device(e->ctx, second, p, 3 * USER_PAGES * PAGE) >= 0);
		umm_devmem_remove(second);
	}
	users_end(users, &stop);
	assert_filled_part(p, 0, USER_PAGES, 1);
}

static void devmem_remove_run(void *mem)
{
	umm_devmem_remove(mem);
}

static void removal_waits_for_migrations_that_are_queued(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 32 * PAGE);
	struct umm_span span = { (uintptr_t)p + 16 * PAGE, 16 * PAGE };
	struct umm_migrate_request req = { .size = sizeof(req), .spans = &span, .nspans = 1 };
	struct umm_fence *first, *second;
	struct actor remover;

	assert_int_equal(ref_memory_add(ref, e->variant.type, 64, &req.dst), 0);
	fill(p, 32, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	first = migrate_start(e, ref, p, 16);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	assert_int_equal(umm_migrate_spans(e->ctx, &req, &second), 0);
	actor_start(&remover, devmem_remove_run, req.dst);
	assert_true(actor_blocks(&remover));
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&remover);
	assert_int_equal(umm_fence_wait(first, -1), 0);
	assert_true(umm_fence_wait(second, -1) == 0 || umm_fence_wait(second, -1) == -ENODEV);
	umm_fence_put(first);
	umm_fence_put(second);
	assert_state(e, p + 16 * PAGE, 16, UMM_PAGE_SYSTEM);
	assert_filled(p, 32, 1);
}

static void removed_memory_leaves_its_pages_at_home(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, 64 * PAGE);
	struct umm_devmem *second;

	assert_int_equal(ref_memory_add(ref, e->variant.type, 64, &second), 0);
	fill(p, 64, 1);
	to_device(e, ref, p, 16, 16);
	assert_int_equal(umm_migrate_to_device(e->ctx, second, p + 16 * PAGE, 32 * PAGE), 32);
	env_mark(e);
	umm_devmem_remove(second);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_REMOVE, 32);
	assert_state(e, p, 16, env_home(e));
	assert_state(e, p + 16 * PAGE, 48, UMM_PAGE_SYSTEM);
	assert_filled(p, 64, 1);
	assert_int_equal(ref_counts(ref).destroys, 0);
}

static void duplicates_end_with_their_memory(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	env_device_gone(e, ref);
	assert_state(e, p, 16, UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 1);
	fill(p, 16, 2);
	assert_filled(p, 16, 2);
}

static void devices_come_and_go_over_the_same_pages(struct env *e)
{
	char *p = env_alloc(e, BLOCK);
	struct ref_device *ref;
	unsigned i;

	for (i = 0; i < 6; i++) {
		ref = env_device(e, BLOCK_PAGES);
		e->ndevices--; /* its slot is free again at the end of the round */
		fill(p, BLOCK_PAGES, i);
		to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
		device_fill(ref, p, BLOCK_PAGES, i + 100);
		assert_true(ref_destroy(ref));
		assert_filled(p, BLOCK_PAGES, i + 100);
	}
}

static void device_goes_with_its_context(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_attach(e, 32 * PAGE);

	fill(p, 32, 1);
	to_device(e, a, p, 16, 16);
	to_device(e, b, p + 16 * PAGE, 8, 8);
	env_close(e);
	assert_int_equal(ref_counts(a).destroys, 1);
	assert_int_equal(ref_counts(b).destroys, 1);
	assert_filled(p, 32, 1);
}

/* ---- broken devices ----------------------------------------------------------------- */

static void broken_device_takes_only_its_own_pages_along(struct env *e)
{
	struct ref_device *bad = env_device(e, 64), *good = env_device(e, 64);
	char *p = env_attach(e, 64 * PAGE);
	size_t i;

	fill(p, 48, 1);
	to_device(e, bad, p, 16, 16);
	to_device(e, good, p + 16 * PAGE, 16, 16);
	assert_int_equal(migrate(e, bad, p + 32 * PAGE, 8, UMM_MIGRATE_DUPLICATE), 8);
	ref_fail(bad,
		 &(struct ref_failure){ .error = -EIO, .from_device = true, .to_device = true });
	env_device_gone(e, bad);
	assert_state(e, p, 16, UMM_PAGE_POISONED);
	for (i = 0; i < 16; i++)
		assert_int_equal(touch_read(p + i * PAGE), SIGBUS);
	assert_filled_part(p, 16, 32, 1);
	assert_zero(p + 48 * PAGE, 16);
	fill(p + 16 * PAGE, 48, 2);
	assert_filled(p + 16 * PAGE, 48, 2);
	/* Lost is lost, after the context too: never zeroes. */
	env_close(e);
	assert_int_equal(touch_read(p + 3 * PAGE), SIGBUS);
	assert_int_equal(touch_write(p + 15 * PAGE), SIGBUS);
	assert_filled(p + 16 * PAGE, 48, 2);
}

static void device_that_breaks_during_eviction_loses_the_victim_only(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, BLOCK), *q = env_alloc_small(e, BLOCK);

	fill(p, 64, 1);
	fill(q, 64, 2);
	to_device(e, ref, p, 64, 64);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .from_device = true });
	migrate(e, ref, q, 64, 0);
	ref_fail(ref, NULL);
	assert_filled(q, 64, 2);
	assert_int_equal(
		count_state(e, p, 64, env_home(e)) + count_state(e, p, 64, UMM_PAGE_POISONED), 64);
}

static void hung_device_hangs_only_who_needs_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE), *q = env_alloc_small(e, 16 * PAGE);
	struct umm_fence *fence;

	fill(p, 16, 1);
	fill(q, 16, 2);
	ref_gate_close(ref, REF_GATE_SIGNAL);
	fence = migrate_start(e, ref, p, 16);
	assert_true(ref_gate_wait(ref, REF_GATE_SIGNAL, PATIENCE_MS));
	assert_int_equal(umm_fence_wait(fence, 30), -ETIME);
	to_device(e, other, q, 16, 16);
	assert_device_sees(other, q, 16, 2);
	assert_filled(q, 16, 2);
	assert_int_equal(umm_free(e->ctx, q), 0);
	ref_gate_open(ref, REF_GATE_SIGNAL);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_filled(p, 16, 1);
}

/* A driver's mistake, and nobody hangs. */
static void pool_pages_that_the_driver_dropped_are_made_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	to_system(e, p, 16, 16);
	assert_int_equal(madvise(ref_frame(ref, 0), 16 * PAGE, MADV_DONTNEED), 0);
	to_device(e, ref, p, 16, 16);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
}

/* A device whose memory has only so many of its frames. */
static struct {
	char *frames;
	atomic_uint limit, calls, refused;
} sparse;

static int sparse_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		       struct umm_fence *done)
{
	(void)priv;
	copies_make(sparse.frames, copies, ncopies);
	umm_fence_signal(done, 0, 0);
	return 0;
}

static int sparse_populate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	(void)priv;
	(void)mem;
	atomic_fetch_add(&sparse.calls, 1);
	if (frame + nframes <= atomic_load(&sparse.limit))
		return 0;
	atomic_fetch_add(&sparse.refused, 1);
	return -ENOSPC;
}

static void frames_without_memory_are_done_without_until_there_is_some(struct env *e)
{
	static const struct umm_device_ops ops = {
		.size = sizeof(ops),
		.api = UMM_DEVICE_API,
		.name = "sparse",
		.copy = sparse_copy,
		.populate = sparse_populate,
	};
	struct umm_devmem_options options = { .size = sizeof(options), .nframes = 4 * 512 };
	char *p = env_alloc(e, 4 * BLOCK);
	struct umm_device *dev;
	struct umm_devmem *mem;

	sparse.frames = env_map(e, 4 * BLOCK);
	atomic_store(&sparse.limit, 2 * 512);
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, UMM_DEVICE_INLINE_COPY, &dev), 0);
	assert_int_equal(umm_devmem_add(dev, &options, &mem), 0);
	fill(p, 2048, 1);
	/* What there is room for goes; then others are evicted, as if the memory were smaller. */
	assert_int_equal(umm_migrate_to_device(e->ctx, mem, p, 4 * BLOCK), 1024);
	assert_int_equal(sparse.refused, 2);
	assert_int_equal(count_state(e, p, 2048, UMM_PAGE_DEVICE), 1024);
	assert_int_equal(umm_devmem_nfree(mem), 0);
	assert_int_equal(umm_migrate_to_device(e->ctx, mem, p + 3 * BLOCK, BLOCK), 512);
	assert_state(e, p + 3 * BLOCK, 512, UMM_PAGE_DEVICE);
	assert_filled(p, 2048, 1);
	/* Later it is asked again. */
	atomic_store(&sparse.limit, 4 * 512);
	wait_until(umm_migrate_to_device(e->ctx, mem, p, 4 * BLOCK) >= 0 &&
		   count_state(e, p, 2048, UMM_PAGE_DEVICE) == 2048);
	assert_int_equal(sparse.calls, sparse.refused + 4);
	assert_filled(p, 2048, 1);
	umm_device_destroy(dev);
}

static int never_populate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	(void)mem;
	(void)frame;
	(void)nframes;
	atomic_fetch_add((atomic_uint *)priv, 1);
	return -ENOMEM;
}

/* What a device has exclusively stays in memory of the host's, none of which is its own to make. */
static void device_is_not_asked_for_the_memory_of_exclusive_pages(struct env *e)
{
	static const struct umm_device_ops ops = {
		.size = sizeof(ops),
		.api = UMM_DEVICE_API,
		.name = "without memory",
		.copy = sparse_copy,
		.populate = never_populate,
	};
	char *p = env_alloc_small(e, 4 * PAGE);
	uint64_t entries[4];
	atomic_uint calls = 0;
	struct umm_device *dev;

	fill(p, 4, 1);
	assert_int_equal(umm_device_create(e->ctx, &ops, &calls, UMM_DEVICE_INLINE_COPY, &dev), 0);
	assert_int_equal(umm_make_exclusive(dev, (uintptr_t)p, (uintptr_t)p + 4 * PAGE, entries),
			 4);
	assert_state(e, p, 4, UMM_PAGE_EXCLUSIVE);
	assert_filled(p, 4, 1);
	umm_device_destroy(dev);
	assert_int_equal(atomic_load(&calls), 0);
}

static const struct test_case cases[] = {
	TEST(KERNEL, device_is_not_asked_for_the_memory_of_exclusive_pages),
	TEST(ONCE, device_needs_only_a_name_and_a_copy),
	TEST(ONCE, bad_device_operations_are_refused),
	TEST(ONCE, bad_memories_are_refused),
	TEST(KERNEL, pool_must_be_plain_memory),
	TEST(ONCE, pool_is_of_one_memory_and_not_managed),
	TEST(ONCE, device_without_memory_is_destroyed_as_it_should_be),
	TEST(ALL, memory_knows_its_device_and_a_word_of_the_driver),
	TEST(ALL, frames_are_allocated_once),
	TEST(ALL, whole_block_of_frames_is_contiguous_and_aligned),
	TEST(ALL, block_of_frames_may_be_scattered_when_memory_is),
	TEST(ALL, scattered_frames_hold_a_block_all_the_same),
	TEST(ALL, device_is_destroyed_while_in_use),
	TEST(ALL, memory_is_removed_while_in_use),
	TEST(ASYNC, removal_waits_for_migrations_that_are_queued),
	TEST(ALL, removed_memory_leaves_its_pages_at_home),
	TEST(ALL, duplicates_end_with_their_memory),
	TEST(ALL, devices_come_and_go_over_the_same_pages),
	TEST(ALL, device_goes_with_its_context),
	TEST(ALL, broken_device_takes_only_its_own_pages_along),
	TEST(ALL, device_that_breaks_during_eviction_loses_the_victim_only),
	TEST(ASYNC, hung_device_hangs_only_who_needs_it),
	TEST(ONCE, frames_without_memory_are_done_without_until_there_is_some),
	TEST(COHERENT, pool_pages_that_the_driver_dropped_are_made_again),
};

int main(int argc, char **argv)
{
	return harness_main("test_device", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
