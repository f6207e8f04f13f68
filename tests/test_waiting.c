/* SPDX-License-Identifier: MIT */
/*
 * Callbacks that wait for the program: who holds what they wait for goes on using other memory,
 * whatever else waits meanwhile.
 */
#include "holder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define TOUCHERS 20
#define MANY	 70 /* more than there may be workers of a queue */

static struct holder held;

/* From now on whoever changes these pages waits for the holder. */
static struct umm_notifier *hold(struct env *e, void *addr, size_t npages)
{
	return holder_hold(e, addr, npages, &held);
}

static void let_go(void)
{
	holder_let_go(&held);
}

/* ---- threads --------------------------------------------------------------------------- */

static unsigned threads_named(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	char path[300], comm[20] = "";
	struct dirent *task;
	unsigned n = 0;
	FILE *file;

	while (tasks && (task = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file))
			n += !strncmp(comm, name, strlen(name));
		fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return n;
}

static atomic_bool no_threads;
static atomic_uint refused;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg)
{
	refused += no_threads;
	return no_threads ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

static void touch(void *arg)
{
	++*(volatile char *)arg;
}

/* Each page once. */
static void assert_touched(const char *p, size_t npages)
{
	char page[PAGE];

	for (size_t i = 0; i < npages; i++) {
		page_fill(page, i, 1);
		touch(page);
		assert_memory_equal(p + i * PAGE, page, PAGE);
	}
}

/* Threads that touch a page each. */
static void start_touching(struct actor *actors, size_t n, char *p)
{
	for (size_t i = 0; i < n; i++)
		actor_start(&actors[i], touch, p + i * PAGE);
}

static void end_touching(struct actor *actors, size_t n)
{
	for (size_t i = 0; i < n; i++)
		actor_join(&actors[i]);
}

/* Pages on a device of which every change is announced, so that a worker has to bring them home. */
static char *on_device(struct env *e, struct ref_device *ref, size_t npages)
{
	char *p = env_alloc_small(e, npages * PAGE);

	holder_watch(e, p, npages, NULL);
	fill(p, npages, 1);
	to_device(e, ref, p, npages, (long)npages);
	return p;
}

static char *held_on_device(struct env *e, struct ref_device *ref, size_t npages)
{
	char *p = env_alloc_small(e, npages * PAGE);

	fill(p, npages, 1);
	to_device(e, ref, p, npages, (long)npages);
	hold(e, p, npages);
	return p;
}

/* In a thread that may be waited for. */
static void assert_can_be_touched(char *p)
{
	struct actor actor;

	actor_start(&actor, touch, p);
	wait_until(actor.done);
	actor_join(&actor);
}

static void faults_are_served_while_others_wait_for_a_holder(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, TOUCHERS), *q = on_device(e, ref, 1);
	struct actor actors[TOUCHERS];

	start_touching(actors, TOUCHERS, p);
	wait_until(held.waiting == TOUCHERS);
	assert_can_be_touched(q);
	assert_int_equal(held.waiting, TOUCHERS);
	let_go();
	end_touching(actors, TOUCHERS);
	assert_touched(p, TOUCHERS);
	assert_state(e, p, TOUCHERS, UMM_PAGE_SYSTEM);
	assert_state(e, q, 1, UMM_PAGE_SYSTEM);
	/* Who is not needed any more ends. */
	wait_until(threads_named("umm-worker") == 2);
}

struct device_read {
	struct ref_device *ref;
	const char *from;
	char byte;
	int ret;
};

static void read_by_device(void *arg)
{
	struct device_read *read = arg;

	read->ret = ref_read(read->ref, (uintptr_t)read->from, &read->byte, 1);
}

/* Its mirror hears of all pages, and has heard of those that are waited for. */
static void a_device_uses_other_pages_while_others_wait_for_a_holder(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, 1), *q = env_alloc_small(e, PAGE);
	struct device_read read = { .ref = ref, .from = q, .ret = -1 };
	struct actor toucher, device;

	q[0] = 7;
	start_touching(&toucher, 1, p);
	wait_until(held.waiting == 1);
	actor_start(&device, read_by_device, &read);
	wait_until(device.done);
	assert_int_equal(held.waiting, 1);
	let_go();
	end_touching(&toucher, 1);
	actor_join(&device);
	assert_int_equal(read.ret, 0);
	assert_int_equal(read.byte, 7);
	assert_touched(p, 1);
}

/* There is an end to that, which the log tells; and no fault is lost. */
static void count_lines(void *priv, enum umm_log_level level, const char *line)
{
	(void)level;
	*(atomic_uint *)priv += strstr(line, "no other can be started") != NULL;
}

static void there_is_a_most_of_workers(struct env *e)
{
	struct ref_device *ref = env_device(e, 128);
	char *p = held_on_device(e, ref, MANY);
	struct actor actors[MANY];
	atomic_uint lines = 0;

	umm_log_set(count_lines, &lines, UMM_LOG_WARNING);
	start_touching(actors, MANY, p);
	wait_until(lines);
	assert_int_equal(held.waiting, 64);
	let_go();
	end_touching(actors, MANY);
	assert_touched(p, MANY);
	assert_int_equal(lines, 1);
	assert_state(e, p, MANY, UMM_PAGE_SYSTEM);
	wait_until(threads_named("umm-worker") == 2);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
}

static void a_thread_that_cannot_be_started_is_tried_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, 3);
	struct actor actors[3];
	atomic_uint lines = 0;

	umm_log_set(count_lines, &lines, UMM_LOG_WARNING);
	start_touching(actors, 2, p);
	wait_until(held.waiting == 2);
	actor_start(&actors[2], touch, p + 2 * PAGE);
	no_threads = true;
	/* Perhaps the third had its worker before. */
	if (held.waiting == 2)
		wait_until(held.waiting == 3 || refused >= 3);
	assert_true(lines <= 1);
	no_threads = false;
	wait_until(held.waiting == 3);
	let_go();
	end_touching(actors, 3);
	assert_touched(p, 3);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
}

static void requests_with_a_fence_do_not_wait_for_one_that_waits_for_a_holder(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, 1), *q = on_device(e, ref, 1);
	struct umm_fence *first = migrate_start(e, NULL, p, 1), *second;

	wait_until(held.waiting == 1);
	second = migrate_start(e, NULL, q, 1);
	assert_int_equal(umm_fence_wait(second, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_value(second), 1);
	assert_int_equal(held.waiting, 1);
	let_go();
	assert_int_equal(umm_fence_wait(first, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_value(first), 1);
	umm_fence_put(first);
	umm_fence_put(second);
}

/* The first waits for pages that the other thread has in flight. */
static void nor_for_one_that_waits_for_such_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, 1), *q = on_device(e, ref, 1);
	struct umm_fence *first, *second;
	struct actor actor;

	actor_start(&actor, touch, p);
	wait_until(held.waiting == 1);
	first = migrate_start(e, NULL, p, 1);
	second = migrate_start(e, NULL, q, 1);
	assert_int_equal(umm_fence_wait(second, PATIENCE_MS), 0);
	let_go();
	assert_int_equal(umm_fence_wait(first, PATIENCE_MS), 0);
	actor_join(&actor);
	umm_fence_put(first);
	umm_fence_put(second);
}

/* ---- who stops listening ----------------------------------------------------------------- */

static void run_unlisten(void *arg)
{
	struct env *e = arg;
	struct ref_device *other = env_device(e, 64);

	env_device_gone(e, other);
}

static void run_remove(void *arg)
{
	umm_notifier_remove(arg);
}

static void others_stop_listening_while_a_callback_waits_for_a_holder(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, 1);
	struct umm_notifier *other = holder_watch(e, p, 1, NULL), *after;
	struct actor toucher, actor;
	uint64_t seq;

	actor_start(&toucher, touch, p);
	wait_until(held.waiting == 1);
	/* Its memory is changing, it has been called, or will be: neither is so now. */
	actor_start(&actor, run_remove, other);
	wait_until(actor.done);
	actor_join(&actor);
	actor_start(&actor, run_unlisten, e);
	wait_until(actor.done);
	actor_join(&actor);
	assert_int_equal(held.waiting, 1);
	let_go();
	actor_join(&toucher);
	/* The books of what is under way are right: this one is quiet. */
	after = holder_watch(e, p, 1, NULL);
	seq = umm_notifier_read_begin(after);
	assert_false(umm_notifier_read_retry(after, seq));
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
}

/* ---- fork() ------------------------------------------------------------------------------ */

struct forker {
	char *pages[3]; /* eight each, filled with 1; NULL: none */
	bool right;
};

static void child_reads(void *arg)
{
	struct forker *f = arg;

	for (size_t i = 0; i < 3; i++)
		for (size_t page = 0; f->pages[i] && page < 8; page++)
			child_check(filled_at(f->pages[i], page, 1));
}

static void run_fork(void *arg)
{
	struct forker *f = arg;

	f->right = in_child(child_reads, f);
}

struct move {
	struct env *env;
	struct ref_device *ref;
	char *p;
	long ret;
};

static void run_move(void *arg)
{
	struct move *m = arg;

	m->ret = migrate(m->env, m->ref, m->p, 8, 0);
}

/* What the holder needs before it lets go. */
static void assert_moves(struct env *e, struct ref_device *ref, char *p)
{
	struct move move = { .env = e, .ref = ref, .p = p };
	struct actor actor;

	actor_start(&actor, run_move, &move);
	wait_until(actor.done);
	actor_join(&actor);
	assert_int_equal(move.ret, 8);
}

static void a_holder_migrates_while_a_fork_waits_for_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = held_on_device(e, ref, 8), *q = env_alloc_small(e, 8 * PAGE);
	struct forker forker = { .pages = { p, q } };
	struct actor actor;

	fill(q, 8, 1);
	actor_start(&actor, run_fork, &forker);
	wait_until(held.waiting == 1);
	assert_moves(e, ref, q);
	assert_state(e, q, 8, env_home(e));
	assert_int_equal(held.waiting, 1);
	assert_false(actor.done);
	let_go();
	actor_join(&actor);
	assert_true(forker.right);
	assert_filled(p, 8, 1);
	assert_filled(q, 8, 1);
}

/* Likewise where it waits for another thread's migration, and that for the holder. */
static void a_holder_migrates_while_a_fork_waits_for_who_waits_for_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE), *q = env_alloc_small(e, 8 * PAGE);
	struct move move = { .env = e, .ref = ref, .p = p };
	struct forker forker = { .pages = { p, q } };
	struct actor fork_actor, move_actor;

	fill(p, 8, 1);
	fill(q, 8, 1);
	hold(e, p, 8);
	actor_start(&move_actor, run_move, &move);
	wait_until(held.waiting == 1);
	actor_start(&fork_actor, run_fork, &forker);
	assert_true(actor_blocks(&fork_actor));
	assert_moves(e, ref, q);
	assert_int_equal(held.waiting, 1);
	let_go();
	actor_join(&move_actor);
	actor_join(&fork_actor);
	assert_int_equal(move.ret, 8);
	assert_true(forker.right);
	assert_filled(p, 8, 1);
	assert_filled(q, 8, 1);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, faults_are_served_while_others_wait_for_a_holder),
	TEST(PRIVATE, a_device_uses_other_pages_while_others_wait_for_a_holder),
	TEST(ONCE, there_is_a_most_of_workers),
	TEST(ONCE, a_thread_that_cannot_be_started_is_tried_again),
	TEST(ALL, requests_with_a_fence_do_not_wait_for_one_that_waits_for_a_holder),
	TEST(PRIVATE, nor_for_one_that_waits_for_such_pages),
	TEST(PRIVATE, others_stop_listening_while_a_callback_waits_for_a_holder),
	TEST(PRIVATE, a_holder_migrates_while_a_fork_waits_for_it),
	TEST(ALL, a_holder_migrates_while_a_fork_waits_for_who_waits_for_it),
};

int main(int argc, char **argv)
{
	harness_cleanup(let_go);
	return harness_main("test_waiting", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
