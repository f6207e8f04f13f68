/* SPDX-License-Identifier: MIT */
/*
 * Private mappings of files: pages that the program has written to are its own and migrate; what it
 * has only read, or not touched, stays of the file. No store is lost on the way, and
 * the file never changes.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctx.h"
#include "hook.h"

#define PAGES	16
#define WRITTEN 4 /* pages 4 to 7 are */
#define FIRST	4

static int fd = -1;

static void file_close(void)
{
	hook_set(HOOK_CLAIMING, NULL, NULL);
	if (fd >= 0)
		close(fd);
	fd = -1;
}

/* Over these pages a private mapping of a file, filled from seed 1 and attached. */
static void file_map_over(struct env *e, char *p, size_t npages)
{
	char page[PAGE];

	fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		env_skip("no file in /tmp: %s", strerror(errno));
	for (size_t i = 0; i < npages; i++) {
		page_fill(page, i, 1);
		assert_int_equal(pwrite(fd, page, PAGE, (off_t)(i * PAGE)), PAGE);
	}
	assert_ptr_equal(
		mmap(p, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0), p);
	assert_int_equal(umm_attach(e->ctx, p, npages * PAGE), 0);
}

static char *file_map(struct env *e, size_t npages)
{
	char *p = env_map(e, npages * PAGE);

	file_map_over(e, p, npages);
	return p;
}

static void write_pages(char *p, size_t first, size_t npages, unsigned seed)
{
	for (size_t i = first; i < first + npages; i++)
		page_fill(p + i * PAGE, i, seed);
}

/* Sixteen pages, of which four are written to. */
static char *written_map(struct env *e)
{
	char *p = file_map(e, PAGES);

	write_pages(p, FIRST, WRITTEN, 2);
	return p;
}

/* What written_map() made, as the CPU sees it; and the file as it was. */
static void assert_as_written(const char *p)
{
	char page[PAGE];

	for (size_t i = 0; i < PAGES; i++) {
		assert_true(filled_at(p, i, i >= FIRST && i < FIRST + WRITTEN ? 2 : 1));
		assert_int_equal(pread(fd, page, PAGE, (off_t)(i * PAGE)), PAGE);
		assert_true(page_filled(page, i, 1));
	}
}

static void only_written_pages_migrate(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e);

	(void)touch_read(p);
	to_device(e, ref, p, PAGES, WRITTEN);
	assert_state(e, p, FIRST, UMM_PAGE_MIRRORED);
	assert_state(e, p + FIRST * PAGE, WRITTEN, env_home(e));
	assert_state(e, p + (FIRST + WRITTEN) * PAGE, PAGES - FIRST - WRITTEN, UMM_PAGE_MIRRORED);
	assert_free_frames(ref, 64 - WRITTEN);
	assert_as_written(p);
	/* Now they are as any page of the program's. */
	to_device(e, ref, p, PAGES, e->variant.type == UMM_DEVMEM_PRIVATE ? WRITTEN : 0);
	to_system(e, p, PAGES, WRITTEN);
	assert_as_written(p);
}

static void device_reads_and_writes_the_mix(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e), page[PAGE];

	to_device(e, ref, p, PAGES, WRITTEN);
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)p + i * PAGE, page, PAGE), 0);
		assert_true(page_filled(page, i, i >= FIRST && i < FIRST + WRITTEN ? 2 : 1));
	}
	device_fill(ref, p, PAGES, 3);
	assert_filled(p, PAGES, 3);
	assert_int_equal(pread(fd, page, PAGE, 0), PAGE);
	assert_true(page_filled(page, 0, 1));
}

static void a_whole_block_migrates(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * UMM_BLOCK_PAGES);
	char *p = file_map(e, UMM_BLOCK_PAGES);

	fill(p, UMM_BLOCK_PAGES, 2);
	to_device(e, ref, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	assert_filled(p, UMM_BLOCK_PAGES, 2);
}

static void pages_that_nobody_wrote_to_qualify_for_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = file_map(e, PAGES);

	assert_filled(p, PAGES, 1);
	env_mark(e);
	to_device(e, ref, p, PAGES, 0);
	assert_int_equal(ref_counts(ref).invalidations, 0);
	assert_int_equal(ref_counts(ref).calls, 0);
	assert_delta(e, UMM_COUNT_BUSY, 0);
	assert_int_equal(migrate(e, ref, p, PAGES, UMM_MIGRATE_DUPLICATE), 0);
}

static void pinned_pages_stay_of_the_file(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e);
	struct umm_pin *pin;

	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p + FIRST * PAGE, 2, UMM_PIN_WRITE, &pin), 0);
	to_device(e, ref, p, PAGES, WRITTEN - 2);
	assert_state(e, p + FIRST * PAGE, 2, UMM_PAGE_MIRRORED);
	umm_unpin(pin);
	assert_as_written(p);
}

static void pages_that_the_device_refuses_are_system_pages(struct env *e)
{
	struct ref_failure failure = { .error = -EIO, .to_device = true };
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e);

	assert_int_equal(ref_fail(ref, &failure), 0);
	assert_int_equal(migrate(e, ref, p, PAGES, 0), -EIO);
	assert_state(e, p + FIRST * PAGE, WRITTEN, UMM_PAGE_SYSTEM);
	assert_as_written(p);
	assert_free_frames(ref, 64);
}

static void unmapping_takes_both_kinds(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e);

	to_device(e, ref, p, PAGES, WRITTEN);
	env_unmap(e, p, 6 * PAGE);
	assert_free_frames(ref, 64 - 2);
	for (size_t i = 6; i < PAGES; i++)
		assert_true(filled_at(p, i, i < FIRST + WRITTEN ? 2 : 1));
}

static void read_only_mappings_stay_until_they_are_writable(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e);

	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ), 0);
	to_device(e, ref, p, PAGES, 0);
	assert_as_written(p);
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
	to_device(e, ref, p, PAGES, WRITTEN);
	/* And the other way round: what has migrated follows, too. */
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ), 0);
	assert_as_written(p);
	assert_int_equal(touch_write(p + FIRST * PAGE), SIGSEGV);
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
}

static void pages_that_have_migrated_move_with_mremap(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e), *to = env_map(e, WRITTEN * PAGE);

	to_device(e, ref, p, PAGES, WRITTEN);
	assert_ptr_equal(mremap(p + FIRST * PAGE, WRITTEN * PAGE, WRITTEN * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 to);
	env_forget(e, p + FIRST * PAGE, WRITTEN * PAGE);
	for (size_t i = 0; i < WRITTEN; i++)
		assert_true(page_filled(to + i * PAGE, FIRST + i, 2));
	assert_filled(p, FIRST, 1);
	to_system(e, to, WRITTEN, e->variant.type == UMM_DEVMEM_PRIVATE ? 0 : WRITTEN);
	assert_free_frames(ref, 64);
}

static void child_sees_the_mix(void *arg)
{
	char *p = arg;

	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(p, i, i >= FIRST && i < FIRST + WRITTEN ? 2 : 1));
	write_pages(p, 0, PAGES, 9);
}

static void a_child_has_its_own_copy_of_the_mix(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = written_map(e);

	to_device(e, ref, p, PAGES, WRITTEN);
	assert_true(in_child(child_sees_the_mix, p));
	assert_as_written(p);
	/* Shared with a child, and the process's own again. */
	write_pages(p, FIRST, WRITTEN, 2);
	to_device(e, ref, p, PAGES, WRITTEN);
	assert_as_written(p);
}

/* ---- races -------------------------------------------------------------------------- */

struct race {
	char *p;
	atomic_bool done;
};

/* The pages are referred to, and still the program's. */
static void store_meanwhile(void *priv, enum hook_point point, uintptr_t addr)
{
	struct race *race = priv;

	(void)point;
	(void)addr;
	if (!atomic_exchange(&race->done, true))
		write_pages(race->p, FIRST, WRITTEN, 5);
}

static void a_store_while_pages_are_claimed_counts(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct race race = { .p = written_map(e) };
	char page[PAGE];

	hook_set(HOOK_CLAIMING, store_meanwhile, &race);
	to_device(e, ref, race.p, PAGES, WRITTEN);
	assert_true(race.done);
	for (size_t i = FIRST; i < FIRST + WRITTEN; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)race.p + i * PAGE, page, PAGE), 0);
		assert_true(page_filled(page, i, 5));
		assert_true(filled_at(race.p, i, 5));
	}
}

static void unmap_meanwhile(void *priv, enum hook_point point, uintptr_t addr)
{
	struct race *race = priv;

	(void)point;
	(void)addr;
	if (!atomic_exchange(&race->done, true))
		munmap(race->p, PAGES * PAGE);
}

/* Where no thread's mmap() goes by itself, as it may into a hole among other mappings. */
#define FAR_AWAY ((void *)0x7e9000000000)

static void nothing_is_put_where_pages_were_unmapped(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct race race = { .p = mmap(FAR_AWAY, PAGES * PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };

	assert_ptr_not_equal(race.p, MAP_FAILED);
	file_map_over(e, race.p, PAGES);
	write_pages(race.p, FIRST, WRITTEN, 2);
	hook_set(HOOK_CLAIMING, unmap_meanwhile, &race);
	assert_int_equal(migrate(e, ref, race.p, PAGES, 0), 0);
	assert_true(race.done);
	assert_int_equal(msync(race.p + FIRST * PAGE, WRITTEN * PAGE, MS_ASYNC), -1);
	assert_int_equal(errno, ENOMEM);
	assert_free_frames(ref, 64);
}

static void drop_meanwhile(void *priv, enum hook_point point, uintptr_t addr)
{
	struct race *race = priv;

	(void)point;
	(void)addr;
	if (!atomic_exchange(&race->done, true))
		madvise(race->p, PAGES * PAGE, MADV_DONTNEED);
}

static void pages_that_are_dropped_meanwhile_are_the_file_s_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct race race = { .p = written_map(e) };

	if (!(e->ctx->features & UMM_KERNEL_PAGEMAP_SCAN))
		env_skip("nobody tells what happens to files here");
	hook_set(HOOK_CLAIMING, drop_meanwhile, &race);
	assert_int_equal(migrate(e, ref, race.p, PAGES, 0), 0);
	assert_true(race.done);
	assert_state(e, race.p, PAGES, UMM_PAGE_MIRRORED);
	assert_filled(race.p, PAGES, 1);
	assert_free_frames(ref, 64);
}

struct hammer {
	char *p;
	atomic_bool stop;
	_Atomic uint64_t rounds;
};

/* Count up one word of each page. */
static void hammer_run(void *arg)
{
	struct hammer *h = arg;

	while (!atomic_load(&h->stop)) {
		uint64_t round = atomic_load(&h->rounds) + 1;

		for (size_t i = 0; i < PAGES; i++)
			*(volatile uint64_t *)(h->p + i * PAGE) = round;
		atomic_store(&h->rounds, round);
	}
}

static void no_store_is_lost_under_load(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct hammer h = { .p = file_map(e, PAGES) };
	struct actor actor;

	actor_start(&actor, hammer_run, &h);
	wait_until(atomic_load(&h.rounds));
	for (unsigned round = 0; round < 20; round++)
		assert_true(migrate(e, ref, h.p, PAGES, 0) >= 0);
	atomic_store(&h.stop, true);
	actor_join(&actor);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(*(uint64_t *)(h.p + i * PAGE), atomic_load(&h.rounds));
}

static const struct test_case cases[] = {
	TEST(ALL, only_written_pages_migrate),
	TEST(ALL, device_reads_and_writes_the_mix),
	TEST(KERNEL, a_whole_block_migrates),
	TEST(ALL, pages_that_nobody_wrote_to_qualify_for_nothing),
	TEST(KERNEL, pinned_pages_stay_of_the_file),
	TEST(ALL, pages_that_the_device_refuses_are_system_pages),
	TEST(ALL, unmapping_takes_both_kinds),
	TEST(KERNEL, read_only_mappings_stay_until_they_are_writable),
	TEST(ALL, pages_that_have_migrated_move_with_mremap),
	TEST(ALL, a_child_has_its_own_copy_of_the_mix),
	TEST(ALL, a_store_while_pages_are_claimed_counts),
	TEST(KERNEL, nothing_is_put_where_pages_were_unmapped),
	TEST(KERNEL, pages_that_are_dropped_meanwhile_are_the_file_s_again),
	TEST(ALL, no_store_is_lost_under_load),
};

int main(int argc, char **argv)
{
	harness_cleanup(file_close);
	return harness_main("test_private_files", cases, sizeof(cases) / sizeof(cases[0]), argc,
			    argv);
}
