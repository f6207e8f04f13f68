/* SPDX-License-Identifier: MIT */
/* Forked children of a process that has OpenCL devices: they have the data, and no device. */
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS (PAGE / 4)

/* What the child finds; its exit status. */
static int child_main(struct rig *rig, uint32_t *words, cl_kernel kernel, size_t n)
{
	struct umm_opencl_options options = { .size = sizeof(options) };
	struct umm_opencl_result result;
	struct umm_opencl *ocl;

	for (size_t i = 0; i < n; i++)
		if (words[i] != 3 * i + 1)
			return 1;
	words[0] = 5;
	if (rig_try(rig, kernel, n, &result) != -ENODEV)
		return 2;
	if (umm_opencl_create(rig->ctx, &options, &ocl) != -ENODEV)
		return 3;
	umm_opencl_destroy(rig->ocl);
	umm_ctx_put(rig->ctx);
	return 0;
}

static void a_forked_child_has_the_data_and_no_device(void **state)
{
	struct rig *rig = *state;
	size_t n = 60 * WORDS;
	uint32_t *words;
	cl_kernel kernel;
	pid_t child;
	int status;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, 60);
	kernel = rig_kernel(rig, "map");
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, (uintptr_t)words);
	rig_launch(rig, kernel, n);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(child_main(rig, words, kernel, n));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	rig_launch(rig, kernel, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(words[i], 9 * i + 4);
}

/* Words of a snapshot that launches write turn by turn: of one turn, or of two in a row. */
static int child_check(const uint32_t *words, size_t npages)
{
	uint32_t low = UINT32_MAX, high = 0;

	for (size_t i = 0; i < npages; i++) {
		low = words[i * WORDS] < low ? words[i * WORDS] : low;
		high = words[i * WORDS] > high ? words[i * WORDS] : high;
	}
	return high - low > 1;
}

struct turns {
	struct rig *rig;
	cl_kernel kernel;
	size_t npages;
	int ret;
	pthread_mutex_t lock; /* of the following */
	pthread_cond_t changed;
	bool stop, over;
	unsigned turn; /* the last that began */
};

/* Number of the next turn; 0: there is none. */
static unsigned next_turn(struct turns *turns)
{
	unsigned turn;

	pthread_mutex_lock(&turns->lock);
	turns->over = turns->ret || turns->stop;
	turn = turns->over ? 0 : ++turns->turn;
	pthread_cond_signal(&turns->changed);
	pthread_mutex_unlock(&turns->lock);
	return turn;
}

static void *launch_in_turns(void *priv)
{
	struct turns *turns = priv;
	struct umm_opencl_result result;
	unsigned turn;

	while ((turn = next_turn(turns))) {
		rig_uint(turns->kernel, 2, turn);
		turns->ret = rig_try(turns->rig, turns->kernel, turns->npages, &result);
	}
	return NULL;
}

/* Another launch has begun, or they ended early. */
static void wait_for_next(struct turns *turns)
{
	unsigned before;

	pthread_mutex_lock(&turns->lock);
	for (before = turns->turn; turns->turn == before && !turns->over;)
		pthread_cond_wait(&turns->changed, &turns->lock);
	pthread_mutex_unlock(&turns->lock);
}

static void a_child_forked_while_launches_run_has_a_snapshot(void **state)
{
	struct rig *rig = *state;
	struct turns turns = {
		.rig = rig,
		.npages = 100,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	uint32_t *words;
	pthread_t thread;
	pid_t child;
	int status, bad = 0;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_alloc(rig, turns.npages * PAGE);
	turns.kernel = rig_kernel(rig, "store");
	rig_ulong(turns.kernel, 0, (uintptr_t)words);
	rig_ulong(turns.kernel, 1, PAGE);
	assert_int_equal(pthread_create(&thread, NULL, launch_in_turns, &turns), 0);
	for (int i = 0; i < 10; i++) {
		wait_for_next(&turns);
		child = fork();
		if (!child)
			_exit(child_check(words, turns.npages));
		bad += child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
		       WEXITSTATUS(status);
	}
	pthread_mutex_lock(&turns.lock);
	turns.stop = true;
	pthread_mutex_unlock(&turns.lock);
	pthread_join(thread, NULL);
	assert_int_equal(bad, 0);
	assert_int_equal(turns.ret, 0);
	assert_true(turns.turn >= 10);
	for (size_t i = 0; i < turns.npages; i++)
		assert_int_equal(words[i * WORDS], turns.turn);
}
static int take_device(void *priv, const struct umm_opencl_info *info)
{
	(void)info;
	*(unsigned *)priv += 1;
	return 0;
}

/* What the child of its own accord gets; its exit status. */
static int child_with_a_context(cl_context shared)
{
	struct umm_opencl_options options = { .size = sizeof(options), .device_bytes = MIB };
	struct umm_opencl *ocl;
	struct umm_ctx *ctx;
	unsigned told = 0;

	alarm(60);
	if (umm_opencl_list(take_device, &told) != -ENODEV || told)
		return 1;
	if (umm_ctx_create(NULL, &ctx))
		return 2;
	if (umm_opencl_create(ctx, &options, &ocl) != -ENODEV)
		return 3;
	options.context = shared;
	if (umm_opencl_create(ctx, &options, &ocl) != -ENODEV)
		return 4;
	umm_ctx_put(ctx);
	return 0;
}

/* Its parent's OpenCL has left locks and threads behind, for which a child would wait for ever. */
static void a_forked_child_gets_no_device_for_a_context_of_its_own(void **state)
{
	struct rig *rig = *state;
	pid_t child;
	int status;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	rig_skip("sanitizers cannot start threads in a child of threads: their locks may be held");
#endif
	rig_open(rig, 4 * MIB, NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(child_with_a_context(umm_opencl_cl_context(rig->ocl)));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(a_forked_child_has_the_data_and_no_device),
		rig_test(a_child_forked_while_launches_run_has_a_snapshot),
		rig_test(a_forked_child_gets_no_device_for_a_context_of_its_own),
	};

	return rig_main("opencl fork", tests, argc, argv);
}
