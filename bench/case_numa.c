/* SPDX-License-Identifier: MIT */
/*
 * Moving memory to a node and home again with the NUMA backend: huge pages against memcpy()
 * and, where there are two nodes with memory, against move_pages(2), which moves small pages one by
 * one; and small pages that lie scattered, against move_pages(2) too. How long a thread that
 * reads a page has to wait when the page is moved there and back under it, against move_pages(2),
 * and how many faults there are when it is there. The node is the one farthest from this process's
 * CPUs.
 */
#include "bench.h"

#ifdef BENCH_NUMA

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <umm_numa.h>
#include <unistd.h>

#include "floor.h"
#include "ours.h"

#define SCATTERED_PAGES	 4096
#define SCATTERED_STRIDE 4 /* pages */
#define MOVE_BATCH	 512
#define MPOL_MF_MOVE	 2
#define STALL_MOVES	 200 /* of a run, there and back */

enum numa_variant {
	NUMA_OUT = 0,
	NUMA_BACK = 1,
	NUMA_SCATTERED = 2,
	NUMA_AGAINST_KERNEL = 4, /* or'ed in */
	NUMA_STALL = 8,
	NUMA_FAULTS = 16,
};

/* A thread that loads from one page as fast as it can, and how long that took at worst. */
struct reader {
	const volatile char *page;
	atomic_bool stop;
	atomic_ulong loads;
	_Atomic uint64_t worst_ns; /* since it was last set to 0 */
};

struct numa_state {
	struct bench_env *env;
	int variant;
	struct ours_trip trip;
	struct umm_numa *numa;
	struct floor_copy *floor;
	struct umm_span *spans; /* scattered pages */
	char *theirs;		/* the competitor's, in small pages */
	size_t theirs_len;
	int near, far; /* nodes */
};

static int note_node(void *priv, const struct umm_numa_info *info)
{
	struct numa_state *s = priv;

	if (info->usable)
		return 0;
	if (s->near < 0)
		s->near = info->node;
	s->far = info->node;
	return 0;
}

/* Small pages, every stride-th of which move_pages(2) moves. */
static int theirs_open(struct numa_state *s, size_t len)
{
	s->theirs = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->theirs == MAP_FAILED) {
		s->theirs = NULL;
		return bench_note(s->env, -ENOMEM, "memory for move_pages");
	}
	s->theirs_len = len;
	madvise(s->theirs, len, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < len; at += UMM_PAGE_SIZE)
		s->theirs[at] = 1;
	return 0;
}

static int spans_make(struct numa_state *s)
{
	s->spans = calloc(SCATTERED_PAGES, sizeof(*s->spans));
	if (!s->spans)
		return -ENOMEM;
	for (size_t i = 0; i < SCATTERED_PAGES; i++)
		s->spans[i] = (struct umm_span){
			(uintptr_t)s->trip.memory + i * SCATTERED_STRIDE * UMM_PAGE_SIZE,
			UMM_PAGE_SIZE,
		};
	return 0;
}

static int ours_open(struct numa_state *s, size_t len)
{
	struct umm_numa_options options = { .size = sizeof(options), .node = s->far, .bytes = len };
	void *memory;
	int ret = ours_ctx(s->env, &s->trip.ctx);

	if (ret)
		return ret;
	ret = umm_numa_create(s->trip.ctx, &options, &s->numa);
	if (ret)
		return bench_note(s->env, ret, "node %d: %s", s->far, umm_strerror(ret));
	s->trip.mem = umm_numa_devmem(s->numa);
	if (!(s->variant & (NUMA_SCATTERED | NUMA_STALL)))
		return ours_memory(s->env, s->trip.ctx, len, &s->trip.memory);
	ret = umm_alloc(s->trip.ctx, len, UMM_ALLOC_SMALL_PAGES, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	s->trip.memory = memory;
	for (size_t at = 0; at < len; at += UMM_PAGE_SIZE)
		s->trip.memory[at] = 1;
	return s->variant & NUMA_SCATTERED ? spans_make(s) : 0;
}

static int numa_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct numa_state *s = calloc(1, sizeof(*s));
	size_t len = env->bulk_bytes;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = bcase->variant;
	s->near = s->far = -1;
	if (umm_numa_list(note_node, s) < 0 || s->far < 0)
		return bench_note(env, BENCH_SKIP, "no memory node may be used");
	if (s->variant & NUMA_AGAINST_KERNEL && s->near == s->far)
		return bench_note(env, BENCH_SKIP, "move_pages needs two nodes with memory");
	if (s->variant & NUMA_STALL)
		len = UMM_BLOCK_SIZE;
	if (s->variant & NUMA_SCATTERED)
		len = SCATTERED_PAGES * SCATTERED_STRIDE * UMM_PAGE_SIZE;
	s->trip.back = s->variant & NUMA_BACK;
	s->trip.len = len;
	ret = ours_warm_bulk(env, len);
	if (!ret && s->variant & NUMA_AGAINST_KERNEL)
		ret = theirs_open(s, len);
	else if (!ret && !(s->variant & NUMA_FAULTS) && floor_copy_open(len, &s->floor))
		ret = bench_note(env, -ENOMEM, "buffers for memcpy");
	return ret ? ret : ours_open(s, len);
}

static int numa_ours(void *state, struct series *out)
{
	struct numa_state *s = state;
	struct umm_migrate_request there = {
		.size = sizeof(there),
		.spans = s->spans,
		.nspans = SCATTERED_PAGES,
		.dst = s->trip.mem,
	};
	struct umm_migrate_request home = there;
	uint64_t begin;
	long moved;

	if (!s->spans)
		return ours_trip(s->env, &s->trip, out);
	home.dst = NULL;
	begin = machine_now();
	moved = umm_migrate_spans(s->trip.ctx, &there, NULL);
	series_push(out, ours_gib_per_s(SCATTERED_PAGES * UMM_PAGE_SIZE, machine_now() - begin));
	if (moved != SCATTERED_PAGES || umm_migrate_spans(s->trip.ctx, &home, NULL) != moved)
		return bench_note(s->env, -EIO, "%ld of %d pages moved", moved, SCATTERED_PAGES);
	return 0;
}

/* Every stride-th page to the node; the time in nanoseconds. */
static uint64_t kernel_moves(struct numa_state *s, size_t stride, int node)
{
	int nodes[MOVE_BATCH], status[MOVE_BATCH];
	uint64_t begin = machine_now();
	void *pages[MOVE_BATCH];
	unsigned n = 0;

	for (size_t at = 0; at < s->theirs_len; at += stride * UMM_PAGE_SIZE) {
		pages[n] = s->theirs + at;
		nodes[n++] = node;
		if (n < MOVE_BATCH && at + stride * UMM_PAGE_SIZE < s->theirs_len)
			continue;
		syscall(SYS_move_pages, 0, (unsigned long)n, pages, nodes, status, MPOL_MF_MOVE);
		n = 0;
	}
	return machine_now() - begin;
}

static int numa_theirs(void *state, struct series *out)
{
	size_t stride, len;
	struct numa_state *s = state;
	uint64_t begin, ns;

	if (s->floor) {
		begin = machine_now();
		floor_copy_run(s->floor);
		series_push(out, ours_gib_per_s(s->trip.len, machine_now() - begin));
		return 0;
	}
	stride = s->spans ? SCATTERED_STRIDE : 1;
	len = s->theirs_len / stride;
	kernel_moves(s, stride, s->near);
	ns = kernel_moves(s, stride, s->far);
	series_push(out, ours_gib_per_s(len, ns));
	return 0;
}

static void *reader_main(void *arg)
{
	struct reader *reader = arg;
	uint64_t before = machine_now(), now;

	while (!atomic_load(&reader->stop)) {
		(void)*reader->page;
		now = machine_now();
		if (now - before > atomic_load(&reader->worst_ns))
			atomic_store(&reader->worst_ns, now - before);
		before = now;
		atomic_fetch_add(&reader->loads, 1);
	}
	return NULL;
}

/* Two more loads: the second one began after the move. */
static void reader_wait(struct reader *reader)
{
	unsigned long loads = atomic_load(&reader->loads);

	while (atomic_load(&reader->loads) < loads + 2)
		sched_yield();
}

/* One page to the node or back, by libumm or by the kernel. */
static long stall_move(struct numa_state *s, bool ours, bool back)
{
	int node = back ? s->near : s->far, status = -1;
	void *page = s->theirs;

	if (!ours)
		return syscall(SYS_move_pages, 0, 1ul, &page, &node, &status, MPOL_MF_MOVE) ?
			       -errno :
			       status == node;
	if (back)
		return umm_migrate_to_system(s->trip.ctx, s->trip.memory, UMM_PAGE_SIZE);
	return umm_migrate_to_device(s->trip.ctx, s->trip.mem, s->trip.memory, UMM_PAGE_SIZE);
}

/* A page goes there and back under a reader; the wait that one of a hundred moves exceeds. */
static int stall_run(struct numa_state *s, bool ours, struct series *out)
{
	struct reader reader = { .page = ours ? s->trip.memory : s->theirs };
	struct series waits = { 0 };
	pthread_t thread;
	long moved = 1;

	if (pthread_create(&thread, NULL, reader_main, &reader))
		return bench_note(s->env, -EAGAIN, "no thread for the reader");
	reader_wait(&reader);
	for (unsigned i = 0; i < 2 * STALL_MOVES && moved == 1; i++) {
		atomic_store(&reader.worst_ns, 0);
		moved = stall_move(s, ours, i % 2);
		reader_wait(&reader);
		series_push(&waits, (double)atomic_load(&reader.worst_ns) / 1000);
	}
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	series_push(out, series_quantile(&waits, 0.99));
	series_fini(&waits);
	return moved == 1 ? 0 : bench_note(s->env, -EIO, "the page did not move: %ld", moved);
}

static int stall_ours(void *state, struct series *out)
{
	return stall_run(state, true, out);
}

static int stall_theirs(void *state, struct series *out)
{
	return stall_run(state, false, out);
}

/* What libumm and the kernel count while a thread uses all pages that are on the node. */
static int faults_ours(void *state, struct series *out)
{
	struct numa_state *s = state;
	struct umm_stats before = { .size = sizeof(before) }, after = before;
	size_t npages = s->trip.len / UMM_PAGE_SIZE;
	struct rusage begin, end;
	uint64_t faults = 0;
	long moved = umm_migrate_to_device(s->trip.ctx, s->trip.mem, s->trip.memory, s->trip.len);

	umm_ctx_stats(s->trip.ctx, &before);
	getrusage(RUSAGE_THREAD, &begin);
	for (size_t i = 0; i < npages; i++)
		((volatile char *)s->trip.memory)[i * UMM_PAGE_SIZE + 8]++;
	getrusage(RUSAGE_THREAD, &end);
	umm_ctx_stats(s->trip.ctx, &after);
	for (unsigned i = UMM_COUNT_FAULT_EMPTY; i <= UMM_COUNT_FAULT_ERROR; i++)
		faults += after.counter[i] - before.counter[i];
	series_push(out, (double)faults + (double)(end.ru_minflt - begin.ru_minflt));
	if (moved != (long)npages ||
	    umm_migrate_to_system(s->trip.ctx, s->trip.memory, s->trip.len) != moved)
		return bench_note(s->env, -EIO, "%ld of %zu pages moved", moved, npages);
	return 0;
}

static void numa_teardown(void *state)
{
	struct numa_state *s = state;

	if (!s)
		return;
	floor_copy_close(s->floor);
	if (s->theirs)
		munmap(s->theirs, s->theirs_len);
	umm_ctx_put(s->trip.ctx);
	free(s->spans);
	free(s);
}

#define NUMA_CASE(case_name, text, whom, target, which)                                     \
	{                                                                                   \
		.name = (case_name), .summary = (text), .against = (whom), .unit = "GiB/s", \
		.kind = BENCH_SPEED, .goal = (target), .pairs = 10, .variant = (which),     \
		.setup = numa_setup, .ours = numa_ours, .theirs = numa_theirs,              \
		.teardown = numa_teardown,                                                  \
	}

#endif

const struct bench_case case_numa[] = {
#ifdef BENCH_NUMA
	NUMA_CASE("numa/out", "migration of huge pages to the farthest memory node", "memcpy", 0.9,
		  NUMA_OUT),
	NUMA_CASE("numa/back", "the same memory brought home", "memcpy", 0.9, NUMA_BACK),
	NUMA_CASE("numa/out-pages", "as out, against the kernel moving small pages", "move_pages",
		  2.0, NUMA_OUT | NUMA_AGAINST_KERNEL),
	NUMA_CASE("numa/scattered", "small pages here and there, to the node", "move_pages", 1.0,
		  NUMA_SCATTERED | NUMA_AGAINST_KERNEL),
	{
		.name = "numa/stall",
		.summary = "a reader's longest wait while its page is moved, 99 % of moves",
		.against = "move_pages",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.5,
		.pairs = 10,
		.variant = NUMA_STALL | NUMA_AGAINST_KERNEL,
		.setup = numa_setup,
		.ours = stall_ours,
		.theirs = stall_theirs,
		.teardown = numa_teardown,
	},
	{
		.name = "numa/faults",
		.summary = "faults of all kinds when pages on the node are used: none is the goal",
		.unit = "faults",
		.kind = BENCH_LIMIT,
		.goal = 0.5,
		.pairs = 5,
		.variant = NUMA_FAULTS,
		.setup = numa_setup,
		.ours = faults_ours,
		.teardown = numa_teardown,
	},
#endif
	{ 0 },
};
