/* SPDX-License-Identifier: MIT */
/*
 * Drivers that set up a migration and do not finalize it: it is undone, whoever waited goes on, and
 * what the driver does later, or never, harms nobody. Devices that never have memory for copies:
 * nothing that takes their pages away waits without an end.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NPAGES	     16
#define DEVICE_PAGES 64

/* A moment: nobody in these tests finalizes in time. */
#define LIMIT_NS UINT64_C(20000000)

struct steps {
	struct umm_migrate migrate;
	uint64_t src[NPAGES];
	uint64_t dst[NPAGES];
};

/* The context that the harness made, again, with another limit for drivers. */
static void limit_drivers(struct env *e, uint64_t finalize_ns)
{
	env_reopen(e, (struct umm_ctx_options){ .finalize_ns = finalize_ns });
}

/* Set up, for all NPAGES pages at p: out to a device, or home. */
static void setup(struct env *e, struct steps *s, char *p, struct ref_device *to)
{
	*s = (struct steps){
		.migrate = {
			.size = sizeof(s->migrate),
			.ctx = e->ctx,
			.start = (uintptr_t)p,
			.end = (uintptr_t)p + NPAGES * PAGE,
			.src = s->src,
			.dst = s->dst,
			.dst_mem = to ? to->mem : NULL,
			.flags = to ? UMM_MIGRATE_SELECT_SYSTEM :
				      UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT,
		},
	};
	assert_int_equal(umm_migrate_setup(&s->migrate), 0);
	assert_int_equal(s->migrate.cpages, NPAGES);
}

static void assert_no_migration_left(struct steps *s)
{
	for (unsigned i = 0; i < NPAGES; i++)
		s->dst[i] |= UMM_MPFN_VALID;
	umm_migrate_pages(&s->migrate);
	assert_int_equal(s->migrate.cpages, 0);
	for (unsigned i = 0; i < NPAGES; i++)
		assert_false(s->src[i] & UMM_MPFN_MIGRATE);
	umm_migrate_finalize(&s->migrate);
	assert_null(s->migrate.core);
	assert_int_equal(s->migrate.cpages, 0);
}

static void a_migration_out_is_undone(struct env *e)
{
	struct ref_device *ref;
	struct steps s;
	char *p;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = env_alloc_small(e, NPAGES * PAGE);
	fill(p, NPAGES, 1);
	setup(e, &s, p, ref);
	assert_int_equal(touch_write(p), 0);
	assert_filled(p, NPAGES, 1);
	assert_state(e, p, NPAGES, UMM_PAGE_SYSTEM);
	assert_no_migration_left(&s);
	to_device(e, ref, p, NPAGES, NPAGES);
	assert_free_frames(ref, DEVICE_PAGES - NPAGES);
	assert_filled(p, NPAGES, 1);
}

/* What the driver writes to the pages that it was given for the copies goes nowhere. */
static void a_migration_home_is_undone_and_its_late_copies_go_nowhere(struct env *e)
{
	struct ref_device *ref;
	struct steps s;
	size_t away;
	void *host;
	char *p;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = env_alloc_small(e, NPAGES * PAGE);
	fill(p, NPAGES, 1);
	to_device(e, ref, p, NPAGES, NPAGES);
	setup(e, &s, p, NULL);
	host = umm_migrate_host(&s.migrate, 0);
	assert_int_equal(touch_write(p), 0);
	assert_filled(p, NPAGES, 1);
	if (host)
		memset(host, 0xee, PAGE);
	assert_null(umm_migrate_host(&s.migrate, 1));
	assert_null(umm_migrate_src_mem(&s.migrate, 1));
	away = count_state(e, p, NPAGES, env_home(e));
	assert_int_equal(umm_migrate_to_system(e->ctx, p, NPAGES * PAGE), away);
	to_device(e, ref, p, NPAGES, NPAGES);
	assert_no_migration_left(&s);
	assert_filled(p, NPAGES, 1);
}

static void the_device_and_the_context_go_without_it(struct env *e)
{
	struct ref_device *ref;
	struct steps s;
	char *p;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = env_alloc_small(e, NPAGES * PAGE);
	fill(p, NPAGES, 1);
	to_device(e, ref, p, NPAGES, NPAGES);
	setup(e, &s, p, NULL);
	assert_true(ref_destroy(ref));
	e->ndevices = 0;
	assert_filled(p, NPAGES, 1);
	umm_ctx_put(e->ctx);
	e->ctx = NULL;
	assert_null(umm_migrate_host(&s.migrate, 0));
	umm_migrate_finalize(&s.migrate);
	assert_null(s.migrate.core);
}

/* The driver, its stack and its arrays are gone. */
static void set_up_and_forget(struct env *e, char *p, struct ref_device *to)
{
	struct steps s;

	setup(e, &s, p, to);
}

static void child_reads(void *arg)
{
	for (unsigned i = 0; i < NPAGES; i++)
		child_check(filled_at(arg, i, 1));
}

static void a_fork_goes_on(struct env *e)
{
	struct ref_device *ref;
	char *p;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = env_alloc_small(e, NPAGES * PAGE);
	fill(p, NPAGES, 1);
	set_up_and_forget(e, p, ref);
	assert_true(in_child(child_reads, p));
	to_device(e, ref, p, NPAGES, NPAGES);
	set_up_and_forget(e, p, NULL);
	assert_true(in_child(child_reads, p));
	assert_filled(p, NPAGES, 1);
}

static void child_finalizes(void *arg)
{
	struct steps *s = arg;

	child_check(!umm_migrate_host(&s->migrate, 0));
	umm_migrate_finalize(&s->migrate);
	child_check(!s->migrate.core && !s->migrate.cpages);
}

/* It would work on the parent's memory. */
static void a_forked_child_finalizes_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, DEVICE_PAGES);
	char *p = env_alloc_small(e, NPAGES * PAGE);
	struct steps s;

	fill(p, NPAGES, 1);
	to_device(e, ref, p, NPAGES, NPAGES);
	setup(e, &s, p, NULL);
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, 0);
	assert_true(in_child(child_finalizes, &s));
	umm_migrate_finalize(&s.migrate);
	assert_filled(p, NPAGES, 1);
}

/* Is there a thread of this process with this name? */
static bool has_thread(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	char path[300], comm[32] = "";
	struct dirent *entry;
	bool found = false;
	FILE *file;

	assert_non_null(tasks);
	while (!found && (entry = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file))
			found = !strncmp(comm, name, strlen(name));
		fclose(file);
	}
	closedir(tasks);
	return found;
}

static void without_a_limit_nobody_watches(struct env *e)
{
	char *p;
	struct steps s;

	limit_drivers(e, UINT64_MAX);
	p = env_alloc_small(e, NPAGES * PAGE);
	fill(p, NPAGES, 1);
	setup(e, &s, p, env_device(e, DEVICE_PAGES));
	assert_false(has_thread("umm-watchdog"));
	umm_migrate_finalize(&s.migrate);
	limit_drivers(e, 0);
}

#define NLOST 4

/* Attached pages on a device that has no memory for copies of some of its first frames. */
static char *pages_of_a_device_without_memory(struct env *e, struct ref_device *ref, unsigned times)
{
	char *p = env_attach(e, NPAGES * PAGE);

	fill(p, NPAGES, 1);
	to_device(e, ref, p, NPAGES, NPAGES);
	env_mark(e);
	assert_int_equal(ref_fail(ref, &(struct ref_failure){ .error = -ENOMEM,
							      .from_device = true,
							      .refuse = true,
							      .nframes = NLOST,
							      .times = times }),
			 0);
	return p;
}

/* As many pages as that are lost, the others whole. */
static void assert_some_lost(const char *p)
{
	unsigned lost = 0;

	for (unsigned i = 0; i < NPAGES; i++)
		if (touch_read(p + i * PAGE) == SIGBUS)
			lost++;
		else
			assert_true(filled_at(p, i, 1));
	assert_int_equal(lost, NLOST);
}

static void detach_waits_for_a_device_that_lacks_memory(struct env *e)
{
	struct ref_device *ref = env_device(e, DEVICE_PAGES);
	char *p = pages_of_a_device_without_memory(e, ref, 5);

	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(ref_counts(ref).failures, 5);
	assert_delta(e, UMM_COUNT_POISONED, 0);
	assert_filled(p, NPAGES, 1);
	assert_free_frames(ref, DEVICE_PAGES);
}

static void detach_does_not_wait_for_ever_for_it(struct env *e)
{
	struct ref_device *ref;
	char *p;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = pages_of_a_device_without_memory(e, ref, 0);
	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	assert_int_equal(umm_detach(e->ctx, p), -EIO);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_delta(e, UMM_COUNT_POISONED, NLOST);
	assert_free_frames(ref, DEVICE_PAGES);
	assert_some_lost(p);
}

static void its_memory_and_the_device_go_without_them(struct env *e)
{
	struct ref_device *ref;
	char *p, *q;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = pages_of_a_device_without_memory(e, ref, 0);
	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	umm_devmem_remove(ref->mem);
	assert_int_equal(count_state(e, p, NPAGES, UMM_PAGE_POISONED), NLOST);
	assert_int_equal(count_state(e, p, NPAGES, UMM_PAGE_SYSTEM), NPAGES - NLOST);
	env_device_gone(e, ref);
	assert_some_lost(p);
	ref = env_device(e, DEVICE_PAGES);
	q = pages_of_a_device_without_memory(e, ref, 0);
	env_device_gone(e, ref);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_delta(e, UMM_COUNT_POISONED, NLOST);
	assert_int_equal(count_state(e, q, NPAGES, UMM_PAGE_POISONED), NLOST);
	assert_some_lost(q);
}

static void the_context_goes_without_them(struct env *e)
{
	struct ref_device *ref;
	char *p;

	limit_drivers(e, LIMIT_NS);
	ref = env_device(e, DEVICE_PAGES);
	p = pages_of_a_device_without_memory(e, ref, 0);
	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	env_close(e);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_some_lost(p);
}

static const struct test_case cases[] = {
	TEST(ALL, detach_waits_for_a_device_that_lacks_memory),
	TEST(ALL, detach_does_not_wait_for_ever_for_it),
	TEST(ALL, its_memory_and_the_device_go_without_them),
	TEST(ALL, the_context_goes_without_them),
	TEST(ALL, a_migration_out_is_undone),
	TEST(ALL, a_migration_home_is_undone_and_its_late_copies_go_nowhere),
	TEST(ALL, the_device_and_the_context_go_without_it),
	TEST(ALL, a_fork_goes_on),
	TEST(ONCE, a_forked_child_finalizes_nothing),
	TEST(ONCE, without_a_limit_nobody_watches),
};

int main(int argc, char **argv)
{
	return harness_main("test_unfinalized", cases, sizeof(cases) / sizeof(cases[0]), argc,
			    argv);
}
