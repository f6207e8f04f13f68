/* SPDX-License-Identifier: MIT */
/*
 * A memory node as a device, as a program uses it: pages go there and are found there without
 * a fault, come back, and survive whatever the node does. Where the kernel says that pages
 * are is asked of move_pages(2), not of the library.
 */
#include "rig.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *alloc(struct rig *rig, size_t npages)
{
	void *addr;

	assert_int_equal(umm_alloc(rig->ctx, npages * PAGE, 0, &addr), 0);
	return addr;
}

static void to_node(struct rig *rig, void *addr, size_t npages)
{
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), addr,
					       npages * PAGE),
			 npages);
}

static void assert_state(struct rig *rig, void *addr, size_t npages, enum umm_page_state state)
{
	struct umm_page_info *info = calloc(npages, sizeof(*info));

	assert_non_null(info);
	assert_int_equal(umm_query(rig->ctx, (uintptr_t)addr, npages, info), 0);
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(info[i].state, state);
	free(info);
}

static long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt;
}

struct team_work {
	struct rig *rig;
	char *data;
	atomic_uint calls, wrong_pages;
	atomic_uint numbers; /* bit n: thread n was called */
	unsigned nthreads;
};

static void sum_part(void *arg, unsigned thread)
{
	struct team_work *work = arg;

	atomic_fetch_add(&work->calls, 1);
	atomic_fetch_or(&work->numbers, 1u << thread);
	for (size_t i = thread; i < 512; i += work->nthreads)
		if (!page_is_filled(work->data + i * PAGE, i, 1))
			atomic_fetch_add(&work->wrong_pages, 1);
}

/* ---- COHERENT ----------------------------------------------------------------------- */

static void pages_are_on_the_node_and_are_touched_without_a_fault(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 1024);
	uint64_t faults;
	long minor;

	fill(p, 1024, 1);
	to_node(rig, p, 1024);
	assert_state(rig, p, 1024, UMM_PAGE_COHERENT);
	faults = rig_cpu_faults(rig);
	minor = minor_faults();
	assert_filled(p, 1024, 1);
	fill(p, 1024, 2);
	assert_int_equal(minor_faults(), minor);
	assert_filled(p, 1024, 2);
	assert_int_equal(rig_cpu_faults(rig), faults);
	assert_on_node(p, 1024, umm_numa_node(rig->numa));
}

static void pages_come_home_with_what_was_stored_there(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 600);

	fill(p, 600, 1);
	to_node(rig, p, 600);
	fill(p, 600, 2);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, 600 * PAGE), 600);
	assert_state(rig, p, 600, UMM_PAGE_SYSTEM);
	assert_filled(p, 600, 2);
	assert_int_equal(umm_devmem_nfree(umm_numa_devmem(rig->numa)),
			 umm_devmem_nframes(umm_numa_devmem(rig->numa)));
}

static void block_is_one_copy_by_the_threads_and_a_page_one_by_its_caller(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 2 * 512);
	struct umm_numa_counts before;
	uint64_t copies;

	fill(p, 1024, 1);
	before = rig_counts(rig->numa);
	copies = rig_counter(rig, UMM_COUNT_COPIES);
	to_node(rig, p, 512);
	assert_int_equal(rig_counts(rig->numa).copies_threaded, before.copies_threaded + 1);
	assert_int_equal(rig_counts(rig->numa).copies_inline, before.copies_inline);
	assert_int_equal(rig_counter(rig, UMM_COUNT_COPIES), copies + 1);
	assert_true(rig_counts(rig->numa).bytes_streamed >= before.bytes_streamed + BLOCK);
	to_node(rig, p + BLOCK, 1);
	assert_int_equal(rig_counts(rig->numa).copies_inline, before.copies_inline + 1);
	assert_filled(p, 1024, 1);
}

static void untouched_pages_are_cleared_on_the_node(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 512);
	static const char zero[PAGE];

	to_node(rig, p, 512);
	assert_int_equal(rig_counter(rig, UMM_COUNT_CLEARED), 512);
	for (unsigned i = 0; i < 512; i++)
		assert_memory_equal(p + i * PAGE, zero, PAGE);
	assert_on_node(p, 512, umm_numa_node(rig->numa));
}

/* Every 16th part of two blocks, so many pages of each. */
static void spread_to_node(struct rig *rig, char *p, unsigned npages)
{
	struct umm_span spans[64];
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = spans, .nspans = 64, .dst = umm_numa_devmem(rig->numa)
	};

	for (unsigned i = 0; i < 64; i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + i * 16 * PAGE, npages * PAGE };
	assert_int_equal(umm_migrate_spans(rig->ctx, &req, NULL), 64 * npages);
	for (unsigned i = 0; i < 1024; i++)
		assert_state(rig, p + i * PAGE, 1,
			     i % 16 < npages ? UMM_PAGE_COHERENT : UMM_PAGE_SYSTEM);
	for (unsigned i = 0; i < 1024; i += 16)
		assert_on_node(p + i * PAGE, npages, umm_numa_node(rig->numa));
	assert_filled(p, 1024, 1);
}

static void scattered_pages_move_alone_and_are_copied_by_their_caller(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 1024);

	fill(p, 1024, 1);
	spread_to_node(rig, p, 1);
	assert_int_equal(rig_counts(rig->numa).copies_threaded, 0);
	assert_int_equal(rig_counts(rig->numa).copies_inline, 2);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, 1024 * PAGE), 64);
	assert_filled(p, 1024, 1);
}

static void longer_runs_are_copied_by_the_threads(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 1024);

	fill(p, 1024, 1);
	spread_to_node(rig, p, 8);
	assert_int_equal(rig_counts(rig->numa).copies_inline, 0);
	assert_int_equal(rig_counts(rig->numa).copies_threaded, 2);
}

static void more_than_the_pool_streams_through(void **state)
{
	struct rig *rig = *state;
	size_t npages = 3 * (size_t)umm_devmem_nframes(umm_numa_devmem(rig->numa));
	char *p = alloc(rig, npages);

	fill(p, npages, 1);
	for (size_t i = 0; i < npages; i += 2048)
		to_node(rig, p + i * PAGE, 2048);
	assert_true(rig_counter(rig, UMM_COUNT_EVICTIONS) > 0);
	assert_filled(p, npages, 1);
}

static void child_and_parent_go_their_own_ways(void **state)
{
	struct rig *rig = *state;
	void *memory;
	char *p;
	int status;
	pid_t pid;

	/* Of a huge page that both sides have written to, the kernel moves no part afterwards. */
	assert_int_equal(umm_alloc(rig->ctx, 512 * PAGE, UMM_ALLOC_SMALL_PAGES, &memory), 0);
	p = memory;

	fill(p, 512, 1);
	to_node(rig, p, 512);
	pid = fork();
	if (!pid) {
		for (size_t i = 0; i < 512; i++)
			if (!page_is_filled(p + i * PAGE, i, 1))
				_exit(1);
		memset(p, 0, 512 * PAGE);
		if (umm_numa_run(rig->numa, sum_part, NULL, 1, NULL) != -ENODEV)
			_exit(2);
		_exit(umm_numa_offline(rig->numa) == -ENODEV ? 0 : 3);
	}
	fill(p, 256, 2);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_filled(p, 256, 2);
	assert_true(page_is_filled(p + 256 * PAGE, 256, 1));
	to_node(rig, p, 512);
	assert_on_node(p, 512, umm_numa_node(rig->numa));
	assert_filled(p, 256, 2);
	assert_true(page_is_filled(p + 511 * PAGE, 511, 1));
}

/* ---- where is it? ------------------------------------------------------------------- */

/* Node by node as move_pages(2) says; everything else as the books do. */
static void assert_place(struct rig *rig, char *p, size_t i, enum umm_page_state state, int cause)
{
	struct umm_page_place place;

	assert_int_equal(umm_locate(rig->ctx, (uintptr_t)(p + i * PAGE), 1, &place), 0);
	assert_int_equal(place.state, state);
	assert_int_equal(place.cause, cause);
	assert_int_equal(place.node, state == UMM_PAGE_EMPTY || state == UMM_PAGE_DEVICE ?
					     -1 :
					     node_of(p + i * PAGE));
	assert_int_equal(place.flags, state == UMM_PAGE_EMPTY ? 0 : UMM_PLACE_DIRTY);
}

static void place_of_a_page_is_what_the_kernel_says(void **state)
{
	struct rig *rig = *state;
	struct umm_range_place sum = { .size = sizeof(sum) };
	struct umm_page_place place;
	char *p = alloc(rig, 1536);

	fill(p, 1024, 1);
	assert_place(rig, p, 0, UMM_PAGE_SYSTEM, -1);
	assert_place(rig, p, 1024, UMM_PAGE_EMPTY, -1);
	to_node(rig, p, 600);
	assert_place(rig, p, 0, UMM_PAGE_COHERENT, UMM_CAUSE_EXPLICIT);
	assert_place(rig, p, 599, UMM_PAGE_COHERENT, UMM_CAUSE_EXPLICIT);
	assert_place(rig, p, 600, UMM_PAGE_SYSTEM, -1);
	assert_int_equal(umm_locate(rig->ctx, (uintptr_t)p, 1, &place), 0);
	assert_ptr_equal(place.mem, umm_numa_devmem(rig->numa));
	assert_int_equal(place.order, 9);
	assert_int_equal(place.node, umm_numa_node(rig->numa));
	assert_int_equal(umm_locate_range(rig->ctx, (uintptr_t)p, 1536 * PAGE, &sum), 0);
	assert_int_equal(sum.npages, 1536);
	assert_int_equal(sum.state[UMM_PAGE_COHERENT], 600);
	assert_int_equal(sum.state[UMM_PAGE_SYSTEM], 424);
	assert_int_equal(sum.state[UMM_PAGE_EMPTY], 512);
	assert_int_equal(sum.huge, 512);
	assert_int_equal(sum.dirty, 1024);
	assert_int_equal(sum.held, 0);
	assert_int_equal(sum.cause[UMM_CAUSE_EXPLICIT], 600);
	assert_true(sum.node[umm_numa_node(rig->numa)] >= 600);
	assert_int_equal(umm_devmem_evict(umm_numa_devmem(rig->numa),
					  umm_devmem_nframes(umm_numa_devmem(rig->numa))),
			 0);
	assert_place(rig, p, 599, UMM_PAGE_SYSTEM, UMM_CAUSE_EVICT);
	assert_int_equal(umm_locate_range(rig->ctx, (uintptr_t)p + 1, PAGE, &sum), -EINVAL);
	assert_int_equal(umm_locate_range(rig->ctx, (uintptr_t)p, 0, &sum), -EINVAL);
}

static void place_of_a_private_page_tells_of_its_fault(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 16);

	fill(p, 16, 1);
	to_node(rig, p, 16);
	assert_place(rig, p, 3, UMM_PAGE_DEVICE, UMM_CAUSE_EXPLICIT);
	assert_true(page_is_filled(p + 3 * PAGE, 3, 1));
	assert_place(rig, p, 3, UMM_PAGE_SYSTEM, UMM_CAUSE_CPU_FAULT);
	assert_place(rig, p, 4, UMM_PAGE_DEVICE, UMM_CAUSE_EXPLICIT);
}

/* ---- PRIVATE ------------------------------------------------------------------------ */

static void private_page_comes_home_by_one_fault(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 512);
	uint64_t threaded;

	fill(p, 512, 1);
	to_node(rig, p, 512);
	assert_state(rig, p, 512, UMM_PAGE_DEVICE);
	threaded = rig_counts(rig->numa).copies_threaded;
	assert_true(page_is_filled(p + 5 * PAGE, 5, 1));
	wait_until(rig_counter(rig, UMM_COUNT_FAULT_DEVICE) == 1);
	assert_state(rig, p + 5 * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_state(rig, p + 6 * PAGE, 1, UMM_PAGE_DEVICE);
	assert_int_equal(rig_counts(rig->numa).copies_threaded, threaded);
	assert_filled(p, 512, 1);
	assert_int_equal(rig_counter(rig, UMM_COUNT_DEFERRED), 0);
}

static void private_memory_is_a_tier_larger_than_itself(void **state)
{
	struct rig *rig = *state;
	size_t npages = 2 * (size_t)umm_devmem_nframes(umm_numa_devmem(rig->numa));
	char *p = alloc(rig, npages);

	fill(p, npages, 1);
	for (size_t i = 0; i < npages; i += 2048)
		to_node(rig, p + i * PAGE, 2048);
	assert_filled(p, npages, 1);
}

/* ---- teams -------------------------------------------------------------------------- */

static void team_runs_next_to_the_node(void **state)
{
	struct rig *rig = *state;
	struct team_work work = { .rig = rig, .data = alloc(rig, 512), .nthreads = 3 };
	struct umm_fence *fence;

	fill(work.data, 512, 1);
	to_node(rig, work.data, 512);
	assert_int_equal(umm_numa_run(rig->numa, sum_part, &work, 3, &fence), 0);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_int_equal(work.calls, 3);
	assert_int_equal(work.numbers, 7);
	assert_int_equal(work.wrong_pages, 0);
	assert_int_equal(rig_counts(rig->numa).teams, 1);
	assert_int_equal(rig_counter(rig, UMM_COUNT_FAULT_DEVICE), 0);
}

static int note_cpus(void *priv, const struct umm_numa_info *info)
{
	struct umm_numa_info *out = priv;

	if (info->node != out->node)
		return 0;
	out->cpus = strdup(info->cpus);
	return 0;
}

static void note_affinity(void *arg, unsigned thread)
{
	(void)thread;
	sched_getaffinity(0, sizeof(cpu_set_t), arg);
}

static void team_has_the_cpus_that_are_listed(void **state)
{
	struct rig *rig = *state;
	struct umm_numa_info info = { .node = umm_numa_node(rig->numa) };
	cpu_set_t cpus;
	char text[64] = "";
	size_t len = 0;

	assert_true(umm_numa_list(note_cpus, &info) > 0);
	assert_int_equal(umm_numa_run(rig->numa, note_affinity, &cpus, 1, NULL), 0);
	for (int cpu = 0; cpu < 64; cpu++) {
		int last = cpu;

		if (!CPU_ISSET(cpu, &cpus))
			continue;
		while (CPU_ISSET(last + 1, &cpus))
			last++;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%d", len ? "," : "",
					cpu);
		if (last > cpu)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "-%d", last);
		cpu = last;
	}
	assert_string_equal(text, info.cpus);
	free((void *)(uintptr_t)info.cpus);
}

struct gate {
	atomic_bool inside, open, destroyed;
	struct umm_numa *numa;
};

static void wait_at_gate(void *arg, unsigned thread)
{
	struct gate *gate = arg;

	(void)thread;
	atomic_store(&gate->inside, true);
	while (!atomic_load(&gate->open))
		rig_sleep_ms();
}

static void *destroy_run(void *arg)
{
	struct gate *gate = arg;

	umm_numa_destroy(gate->numa);
	atomic_store(&gate->destroyed, true);
	return NULL;
}

static void destroying_waits_for_teams(void **state)
{
	struct rig *rig = *state;
	struct gate gate = { .numa = rig->numa };
	struct umm_fence *fence;
	pthread_t thread;

	assert_int_equal(umm_numa_run(rig->numa, wait_at_gate, &gate, 1, &fence), 0);
	wait_until(atomic_load(&gate.inside));
	assert_int_equal(pthread_create(&thread, NULL, destroy_run, &gate), 0);
	/* It says that it is going before it waits. */
	wait_until(umm_numa_run(rig->numa, note_affinity, &(cpu_set_t){ 0 }, 1, NULL) == -ENODEV);
	assert_false(atomic_load(&gate.destroyed));
	assert_int_equal(umm_fence_poll(fence), -EAGAIN);
	atomic_store(&gate.open, true);
	pthread_join(thread, NULL);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	rig->numa = NULL;
}

/* ---- nodes that go, and frames that others move -------------------------------------- */

static void offline_gives_everything_back_and_online_takes_it_again(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 1024);

	fill(p, 1024, 1);
	to_node(rig, p, 1024);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_state(rig, p, 1024, UMM_PAGE_SYSTEM);
	assert_true(umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), p, 1024 * PAGE) <=
		    0);
	assert_state(rig, p, 1024, UMM_PAGE_SYSTEM);
	assert_filled(p, 1024, 1);
	assert_int_equal(umm_numa_online(rig->numa), 0);
	to_node(rig, p, 1024);
	assert_state(rig, p, 1024, UMM_PAGE_COHERENT);
	assert_on_node(p, 1024, umm_numa_node(rig->numa));
	assert_filled(p, 1024, 1);
}

static void locked_pages_are_moved_or_said_to_stay(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 16);
	int ret;

	fill(p, 16, 1);
	to_node(rig, p, 16);
	if (mlock(p, 16 * PAGE))
		rig_skip("mlock: %s", strerror(errno));
	ret = umm_numa_offline(rig->numa);
	assert_true(ret == 0 || ret == -EBUSY);
	if (ret)
		assert_logged("pages did not come home");
	assert_state(rig, p, 16, ret ? UMM_PAGE_COHERENT : UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 1);
	munlock(p, 16 * PAGE);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_filled(p, 16, 1);
}

#define RING_BUFFERS 0 /* IORING_REGISTER_BUFFERS */

/* The pages stay where they are for as long as the ring is there. Skips the test if it cannot. */
static int pin_by_io_uring(void *addr, size_t len)
{
	struct io_uring_params params = { 0 };
	struct {
		void *base;
		size_t len;
	} buffer = { addr, len };
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0 || syscall(SYS_io_uring_register, ring, RING_BUFFERS, &buffer, 1)) {
		if (ring >= 0)
			close(ring);
		rig_skip("io_uring cannot pin a page here: %s", strerror(errno));
	}
	return ring;
}

static void pages_pinned_by_others_are_said_to_stay_on_the_node(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 16);
	int ring;

	fill(p, 16, 1);
	to_node(rig, p, 16);
	ring = pin_by_io_uring(p + 6 * PAGE, PAGE);
	if (node_of(p + 6 * PAGE) != umm_numa_node(rig->numa)) {
		close(ring);
		rig_skip("to pin a page of memory that may be removed moves it away first");
	}
	rig_log_clear();
	assert_int_equal(umm_numa_offline(rig->numa), -EBUSY);
	assert_logged("1 pages did not come home");
	assert_state(rig, p, 6, UMM_PAGE_SYSTEM);
	assert_state(rig, p + 6 * PAGE, 1, UMM_PAGE_COHERENT);
	assert_state(rig, p + 7 * PAGE, 9, UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 1);
	close(ring);
	/* The ring goes away in its own time. */
	wait_until(umm_numa_offline(rig->numa) == 0);
	assert_state(rig, p, 16, UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 1);
}

static void frames_that_others_moved_go_back_to_the_node(void **state)
{
	struct rig *rig = *state;
	char *p = alloc(rig, 64);
	struct umm_numa_counts counts;
	int nodes[64], status[64];
	void *pages[64];

	rig_need_nodes(rig, 2);
	fill(p, 64, 1);
	to_node(rig, p, 64);
	for (unsigned i = 0; i < 64; i++) {
		pages[i] = p + i * PAGE;
		nodes[i] = rig->nodes.info[0].node;
	}
	assert_int_equal(syscall(SYS_move_pages, 0, 64UL, pages, nodes, status, 2), 0);
	assert_on_node(p, 64, nodes[0]);
	assert_filled(p, 64, 1);
	counts = rig_counts(rig->numa);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, 64 * PAGE), 64);
	assert_filled(p, 64, 1);
	wait_until(rig_counts(rig->numa).frames_checked >= counts.frames_checked + 64);
	counts = rig_counts(rig->numa);
	assert_int_equal(counts.frames_strayed, counts.frames_returned);
	to_node(rig, p, 64);
	assert_on_node(p, 64, umm_numa_node(rig->numa));
	assert_filled(p, 64, 1);
}

/* ---- bad input ------------------------------------------------------------------------ */

static void bad_arguments_are_refused(void **state)
{
	struct rig *rig = *state;
	struct umm_numa_options options = { .size = sizeof(options), .node = UMM_NUMA_FAR };
	struct umm_numa_counts counts = { 0 };
	struct umm_numa *numa = NULL;

	assert_int_equal(umm_numa_create(NULL, &options, &numa), -EINVAL);
	assert_int_equal(umm_numa_create(rig->ctx, &options, NULL), -EINVAL);
	options.flags = 1 << 5;
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -EINVAL);
	options.flags = 0;
	options.size = 0;
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -EINVAL);
	assert_null(numa);
	assert_int_equal(umm_numa_run(rig->numa, NULL, NULL, 1, NULL), -EINVAL);
	assert_int_equal(umm_numa_run(NULL, sum_part, NULL, 1, NULL), -EINVAL);
	assert_int_equal(umm_numa_counts(rig->numa, &counts), -EINVAL);
	assert_int_equal(umm_numa_counts(NULL, &counts), -EINVAL);
	assert_int_equal(umm_numa_list(NULL, NULL), -EINVAL);
	assert_int_equal(umm_numa_offline(NULL), -EINVAL);
	assert_int_equal(umm_numa_online(NULL), -EINVAL);
	assert_int_equal(umm_numa_node(NULL), -EINVAL);
	assert_null(umm_numa_device(NULL));
	assert_null(umm_numa_devmem(NULL));
	umm_numa_destroy(NULL);
}

static int call_everything(void *priv, const struct umm_notifier_range *range)
{
	struct umm_numa_options options = { .size = sizeof(options), .node = UMM_NUMA_FAR };
	struct umm_numa *numa = NULL;
	struct rig *rig = priv;

	(void)range;
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -EDEADLK);
	assert_null(numa);
	assert_int_equal(umm_numa_run(rig->numa, sum_part, NULL, 1, NULL), -EDEADLK);
	assert_int_equal(umm_numa_offline(rig->numa), -EDEADLK);
	assert_int_equal(umm_numa_online(rig->numa), -EDEADLK);
	rig_log_clear();
	umm_numa_destroy(rig->numa);
	assert_logged("from a callback");
	return 0;
}

static void calls_from_a_callback_are_refused_not_waited_for(void **state)
{
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = call_everything };
	struct umm_span span = { BLOCK, PAGE };
	struct umm_notifier_range change = {
		.start = BLOCK, .end = BLOCK + PAGE, .event = UMM_EVENT_CLEAR, .blockable = true
	};
	struct umm_invalidation *invalidation;
	struct umm_notifier *notifier;
	struct rig *rig = *state;

	assert_int_equal(umm_notifier_insert(rig->ctx, &span, &ops, rig, &notifier), 0);
	assert_int_equal(umm_invalidate_range_start(rig->ctx, &change, &invalidation), 0);
	umm_invalidate_range_end(rig->ctx, invalidation);
	assert_int_equal(umm_notifier_remove(notifier), 0);
	/* It is still there, and on line. */
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_int_equal(umm_numa_online(rig->numa), 0);
}

static void options_of_the_future_are_e2big(void **state)
{
	struct rig *rig = *state;
	struct {
		struct umm_numa_options options;
		uint64_t more;
	} future = { .options = { .size = sizeof(future), .node = UMM_NUMA_FAR }, .more = 1 };
	struct umm_numa *numa;

	assert_int_equal(umm_numa_create(rig->ctx, &future.options, &numa), -E2BIG);
	future.more = 0;
	future.options.bytes = BLOCK;
	assert_int_equal(umm_numa_create(rig->ctx, &future.options, &numa), 0);
	assert_int_equal(umm_devmem_nframes(umm_numa_devmem(numa)), 512);
	umm_numa_destroy(numa);
}

static void node_that_does_not_exist_is_named(void **state)
{
	struct rig *rig = *state;
	struct umm_numa_options options = { .size = sizeof(options), .node = 777 };
	struct umm_numa *numa;

	rig_log_clear();
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -ENODEV);
	assert_logged("there is no memory node 777; nodes that may be used:");
}

static void pool_larger_than_the_node_is_refused(void **state)
{
	struct rig *rig = *state;
	struct umm_numa_options options = { .size = sizeof(options),
					    .node = umm_numa_node(rig->numa),
					    .bytes = UINT64_C(1) << 50 };
	struct umm_numa *numa;

	rig_log_clear();
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -ENOSPC);
	assert_logged("a pool of 1073741824 MiB was asked for, and node");
	options.bytes = UINT64_MAX;
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -ENOSPC);
}

#define MODE_BIND 2

/* What numactl --membind does. */
static int bind_to(int node)
{
	unsigned long mask[16] = { 0 };

	if (node >= 0)
		mask[node / 64] = 1ul << node % 64;
	return (int)syscall(SYS_set_mempolicy, node < 0 ? 0 : MODE_BIND, node < 0 ? NULL : mask,
			    node < 0 ? 0ul : 1024ul);
}

static void node_outside_of_what_the_process_is_bound_to_is_refused(void **state)
{
	struct rig *rig = *state;
	struct umm_numa_options options = { .size = sizeof(options),
					    .node = umm_numa_node(rig->numa) };
	struct umm_numa *numa;
	int near = rig->nodes.info[0].node;

	rig_need_nodes(rig, 2);
	rig_log_clear();
	assert_int_equal(bind_to(near), 0);
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -ENODEV);
	assert_logged("is not among those that this process is bound to");
	options.node = UMM_NUMA_FAR;
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), 0);
	assert_int_equal(umm_numa_node(numa), near);
	umm_numa_destroy(numa);
	assert_int_equal(bind_to(-1), 0);
}

/* In MB/s and ns, of the firmware's table; 0: it says nothing. */
static uint32_t told_by_the_kernel(int node, const char *what)
{
	char path[128];
	uint32_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/access0/initiators/%s", node,
		 what);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%u", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

/* UMM_TEST_HMAT: "NODE:MB/s:ns" of every node, the fastest first, as the machine was made. */
static void ranks_are_those_of_this_machines_firmware(void **state)
{
	struct rig *rig = *state;
	const char *wanted = getenv("UMM_TEST_HMAT");
	unsigned node, bandwidth, latency, i = 0;
	int used;

	if (!wanted)
		rig_skip("only the guest's HMAT is known beforehand");
	for (; sscanf(wanted, " %u:%u:%u%n", &node, &bandwidth, &latency, &used) == 3;
	     wanted += used, i++) {
		assert_true(i < rig->nodes.count);
		assert_int_equal(rig->nodes.info[i].node, node);
		assert_int_equal(rig->nodes.info[i].read_bandwidth, bandwidth);
		assert_int_equal(rig->nodes.info[i].read_latency, latency);
		assert_int_equal(told_by_the_kernel((int)node, "read_bandwidth"), bandwidth);
		assert_int_equal(told_by_the_kernel((int)node, "read_latency"), latency);
	}
	assert_int_equal(i, rig->nodes.count);
}

static void null_options_take_the_farthest_node(void **state)
{
	struct rig *rig = *state;
	struct umm_numa *numa;

	assert_int_equal(umm_numa_create(rig->ctx, NULL, &numa), 0);
	assert_int_equal(umm_numa_node(numa), rig->nodes.info[rig->nodes.count - 1].node);
	assert_string_equal(umm_device_name(umm_numa_device(numa)), "numa");
	assert_ptr_equal(umm_devmem_device(umm_numa_devmem(numa)), umm_numa_device(numa));
	umm_numa_destroy(numa);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(pages_are_on_the_node_and_are_touched_without_a_fault),
		RIG_TEST(pages_come_home_with_what_was_stored_there),
		RIG_TEST(block_is_one_copy_by_the_threads_and_a_page_one_by_its_caller),
		RIG_TEST(untouched_pages_are_cleared_on_the_node),
		RIG_TEST(scattered_pages_move_alone_and_are_copied_by_their_caller),
		RIG_TEST(longer_runs_are_copied_by_the_threads),
		RIG_TEST(more_than_the_pool_streams_through),
		RIG_TEST(child_and_parent_go_their_own_ways),
		RIG_TEST(place_of_a_page_is_what_the_kernel_says),
		RIG_TEST_PRIVATE(place_of_a_private_page_tells_of_its_fault),
		RIG_TEST_PRIVATE(private_page_comes_home_by_one_fault),
		RIG_TEST_PRIVATE(private_memory_is_a_tier_larger_than_itself),
		RIG_TEST(team_runs_next_to_the_node),
		RIG_TEST(team_has_the_cpus_that_are_listed),
		RIG_TEST(destroying_waits_for_teams),
		RIG_TEST(offline_gives_everything_back_and_online_takes_it_again),
		RIG_TEST(locked_pages_are_moved_or_said_to_stay),
		RIG_TEST(pages_pinned_by_others_are_said_to_stay_on_the_node),
		RIG_TEST(frames_that_others_moved_go_back_to_the_node),
		RIG_TEST(bad_arguments_are_refused),
		RIG_TEST(calls_from_a_callback_are_refused_not_waited_for),
		RIG_TEST(options_of_the_future_are_e2big),
		RIG_TEST(node_that_does_not_exist_is_named),
		RIG_TEST(pool_larger_than_the_node_is_refused),
		RIG_TEST(node_outside_of_what_the_process_is_bound_to_is_refused),
		RIG_TEST(ranks_are_those_of_this_machines_firmware),
		RIG_TEST(null_options_take_the_farthest_node),
	};

	return cmocka_run_group_tests_name("numa_device", tests, NULL, NULL);
}
