/* SPDX-License-Identifier: MIT */
/*
 * CPUs and forks that wait for a window: whoever is to let them go on goes on meanwhile, with other
 * memory, another window, another device. What never ends is ended by an alarm.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NPAGES	 40
#define NWORDS	 (NPAGES * PAGE / 4)
#define RW	 (UMM_OPENCL_READ | UMM_OPENCL_WRITE)
#define PATIENCE 120 /* seconds */
#define TOUCHERS 6

static uint32_t *open_numbered(struct rig *rig)
{
	alarm(PATIENCE);
	rig_open(rig, MIB, NULL);
	rig_build(rig);
	return rig_numbered(rig, NPAGES);
}

static struct umm_opencl_window *window(struct umm_opencl *ocl, void *addr)
{
	struct umm_opencl_window *out = NULL;

	assert_int_equal(umm_opencl_window_create(ocl, addr, NPAGES * PAGE, 0, &out), 0);
	return out;
}

static cl_mem acquire(struct umm_opencl_window *w)
{
	cl_mem mem = NULL;

	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), 0);
	return mem;
}

static void release(struct umm_opencl_window *w)
{
	assert_int_equal(umm_opencl_window_release(w, 0, NULL), 0);
}

/* In which word i is 3 * i + 1, and that a device has alone. */
static uint32_t *on_device(struct rig *rig)
{
	uint32_t *words = rig_numbered(rig, NPAGES);

	rig_launch(rig, rig_map(rig, words, words), NWORDS);
	assert_int_equal(rig_pages_in(rig, words, NPAGES * PAGE, UMM_PAGE_DEVICE), NPAGES);
	return words;
}

static void assert_mapped(const uint32_t *words)
{
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(words[i], 3 * (uint32_t)i + 1);
}

/* ---- threads that each read a page of a window, and wait for it ------------------------- */

struct toucher {
	pthread_t thread;
	_Atomic int tid;
	_Atomic bool done;
	volatile uint32_t *word;
	uint32_t seen;
};

static void *toucher_main(void *priv)
{
	struct toucher *toucher = priv;

	toucher->tid = (int)syscall(SYS_gettid);
	toucher->seen = *toucher->word;
	toucher->done = true;
	return NULL;
}

static void start_touching(struct toucher *touchers, uint32_t *words)
{
	for (unsigned i = 0; i < TOUCHERS; i++) {
		touchers[i] = (struct toucher){ .word = words + i * PAGE / 4 };
		assert_int_equal(
			pthread_create(&touchers[i].thread, NULL, toucher_main, &touchers[i]), 0);
	}
	for (unsigned i = 0; i < TOUCHERS; i++)
		rig_eventually(touchers[i].tid && rig_sleeps(touchers[i].tid));
}

static void assert_all_wait(const struct toucher *touchers)
{
	for (unsigned i = 0; i < TOUCHERS; i++)
		assert_false(touchers[i].done);
}

static void end_touching(struct toucher *touchers)
{
	for (unsigned i = 0; i < TOUCHERS; i++) {
		pthread_join(touchers[i].thread, NULL);
		assert_int_equal(touchers[i].seen, i * PAGE / 4);
	}
}

static void the_holder_of_a_window_uses_other_memory_while_cpus_wait_for_it(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *other = on_device(rig);
	struct umm_opencl_window *w = window(rig->ocl, words);
	struct toucher touchers[TOUCHERS];

	acquire(w);
	start_touching(touchers, words);
	assert_mapped(other);
	assert_all_wait(touchers);
	release(w);
	end_touching(touchers);
}

/* The command that the window waits for misses pages itself, as any CPU does. */
static void commands_that_fault_complete_while_cpus_wait_for_their_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *other = on_device(rig);
	struct umm_opencl_window *w = window(rig->ocl, words);
	struct toucher touchers[TOUCHERS];
	cl_event gate, read;
	cl_mem mem;

	if (rig_is_at_once())
		rig_skip("commands are done before they are handed over");
	gate = rig_gate_new(rig);
	mem = acquire(w);
	assert_int_equal(clEnqueueReadBuffer(umm_opencl_cl_queue(rig->ocl), mem, CL_FALSE, 0,
					     NPAGES * PAGE, other, 1, &gate, &read),
			 CL_SUCCESS);
	clFlush(umm_opencl_cl_queue(rig->ocl));
	assert_int_equal(umm_opencl_window_release(w, 1, &read), 0);
	start_touching(touchers, words);
	assert_all_wait(touchers);
	rig_gate_open(gate);
	end_touching(touchers);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(other[i], i);
	clReleaseEvent(gate);
	clReleaseEvent(read);
}

static void another_device_comes_and_goes_while_cpus_wait_for_a_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device_name = rig_device_name(),
					      .device_bytes = MIB };
	struct umm_opencl_window *w = window(rig->ocl, words);
	struct toucher touchers[TOUCHERS];
	struct umm_opencl *other;

	acquire(w);
	start_touching(touchers, words);
	assert_int_equal(umm_opencl_create(rig->ctx, &options, &other), 0);
	umm_opencl_destroy(other);
	assert_all_wait(touchers);
	release(w);
	end_touching(touchers);
}

/* ---- fork() ------------------------------------------------------------------------------ */

struct forker {
	pthread_t thread;
	_Atomic int tid;
	_Atomic bool done;
	const uint32_t *words, *more; /* word i is i */
	int status;
};

static int child_main(const struct forker *forker)
{
	for (size_t i = 0; i < NWORDS; i++)
		if (forker->words[i] != i || forker->more[i] != i)
			return 1;
	return 0;
}

static void *forker_main(void *priv)
{
	struct forker *forker = priv;
	pid_t child;

	forker->tid = (int)syscall(SYS_gettid);
	child = fork();
	if (!child)
		_exit(child_main(forker));
	forker->done = true;
	waitpid(child, &forker->status, 0);
	return NULL;
}

static void a_holder_acquires_another_window_while_a_fork_waits_for_the_first(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *more = rig_numbered(rig, NPAGES);
	struct umm_opencl_window *w = window(rig->ocl, words), *v = window(rig->ocl, more);
	struct forker forker = { .words = words, .more = more, .status = -1 };

	acquire(w);
	assert_int_equal(pthread_create(&forker.thread, NULL, forker_main, &forker), 0);
	rig_eventually(forker.tid && rig_sleeps(forker.tid));
	acquire(v);
	assert_false(forker.done);
	release(w);
	release(v);
	pthread_join(forker.thread, NULL);
	assert_int_equal(forker.status, 0);
}

/* ---- what others do to memory of a held window -------------------------------------------- */

struct dropper {
	pthread_t thread;
	void *from;
	size_t len;
	int ret;
};

static void *dropper_main(void *priv)
{
	struct dropper *dropper = priv;

	dropper->ret = madvise(dropper->from, dropper->len, MADV_DONTNEED);
	return NULL;
}

/* Another thread drops all that two windows are over, one of which is held, and is done. */
static void drop(void *from, size_t npages)
{
	struct dropper dropper = { .from = from, .len = npages * PAGE };

	assert_int_equal(pthread_create(&dropper.thread, NULL, dropper_main, &dropper), 0);
	pthread_join(dropper.thread, NULL);
	assert_int_equal(dropper.ret, 0);
}

static void launches_and_other_windows_go_on_while_dropped_memory_is_held(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *other = rig_numbered(rig, NPAGES);
	uint32_t *both = rig_numbered(rig, 2 * NPAGES);
	struct umm_opencl_window *w = window(rig->ocl, both);
	struct umm_opencl_window *v = window(rig->ocl, both + NWORDS);

	acquire(v);
	release(v);
	acquire(w);
	drop(both, 2 * NPAGES);
	/* The device knows of what was dropped, and so does the other window. */
	rig_launch(rig, rig_map(rig, words, other), NWORDS);
	acquire(v);
	release(v);
	for (size_t i = 0; i < NWORDS; i++) {
		assert_int_equal(other[i], 3 * (uint32_t)i + 1);
		assert_int_equal(both[NWORDS + i], 0);
	}
	release(w);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(both[i], 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(the_holder_of_a_window_uses_other_memory_while_cpus_wait_for_it),
		rig_test(commands_that_fault_complete_while_cpus_wait_for_their_window),
		rig_test(another_device_comes_and_goes_while_cpus_wait_for_a_window),
		rig_test(a_holder_acquires_another_window_while_a_fork_waits_for_the_first),
		rig_test(launches_and_other_windows_go_on_while_dropped_memory_is_held),
	};

	return rig_main("opencl window waits", tests, argc, argv);
}
