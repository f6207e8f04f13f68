/* SPDX-License-Identifier: MIT */
/*
 * How much is done, counted instead of timed: system calls, copies, allocations and context
 * switches of a fault and of a migration. What grows here makes libumm slower on every machine,
 * however busy.
 *
 * The program is linked with --wrap: calls of the functions below by the library, the reference
 * device and the harness come through here, and are counted while counting is on. Counters of
 * calls that later work may save are compared with "at most".
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "../libumm/uapi.h"
#include "ctx.h"

#define NFAULTS	  256
#define SCATTERED 300 /* pages, each in a block of its own */

/* ---- counting ----------------------------------------------------------------------- */

enum call {
	CALL_ALLOC, /* malloc(), calloc(), realloc() */
	CALL_MAP,   /* mmap(), munmap(), madvise() */
	CALL_GIVE,  /* madvise(MADV_DONTNEED) of a server of faults */
	CALL_REMAP,
	CALL_MOVE, /* ioctl() by request */
	CALL_COPY,
	CALL_PROTECT,
	CALL_OTHER,
	CALL_OPEN,
	CALL_SIGNALS, /* pthread_sigmask() */
	NR_CALLS,
};

static atomic_bool counting;
static atomic_uint calls[NR_CALLS];

static void count(enum call call)
{
	if (atomic_load(&counting))
		atomic_fetch_add(&calls[call], 1);
}

/* Define the function that calls of name() come to; the names are the linker's. */
#define WRAPPED(type, name, ...)         \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

WRAPPED(void *, malloc, size_t len)
{
	count(CALL_ALLOC);
	return __real_malloc(len);
}

WRAPPED(void *, calloc, size_t n, size_t len)
{
	count(CALL_ALLOC);
	return __real_calloc(n, len);
}

WRAPPED(void *, realloc, void *old, size_t len)
{
	count(CALL_ALLOC);
	return __real_realloc(old, len);
}

WRAPPED(void *, mmap, void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	count(CALL_MAP);
	return __real_mmap(addr, len, prot, flags, fd, offset);
}

WRAPPED(int, munmap, void *addr, size_t len)
{
	count(CALL_MAP);
	return __real_munmap(addr, len);
}

WRAPPED(void *, mremap, void *old, size_t old_len, size_t len, int flags, void *addr)
{
	count(CALL_REMAP);
	return __real_mremap(old, old_len, len, flags, addr);
}

static bool is_server(void)
{
	char name[16];

	return !pthread_getname_np(pthread_self(), name, sizeof(name)) &&
	       !strcmp(name, "umm-fault");
}

WRAPPED(int, madvise, void *addr, size_t len, int advice)
{
	count(CALL_MAP);
	if (atomic_load(&counting) && advice == MADV_DONTNEED && is_server())
		count(CALL_GIVE);
	return __real_madvise(addr, len, advice);
}

WRAPPED(int, open, const char *path, int flags, mode_t mode)
{
	count(CALL_OPEN);
	return __real_open(path, flags, mode);
}

/* The kernel has no memory for one page more. */
static atomic_bool no_memory;

WRAPPED(int, ioctl, int fd, unsigned long request, void *arg)
{
	count(request == UFFDIO_MOVE	     ? CALL_MOVE :
	      request == UFFDIO_COPY	     ? CALL_COPY :
	      request == UFFDIO_WRITEPROTECT ? CALL_PROTECT :
					       CALL_OTHER);
	if (request == UFFDIO_COPY && atomic_load(&no_memory)) {
		errno = ENOMEM;
		return -1;
	}
	return __real_ioctl(fd, request, arg);
}

WRAPPED(int, pthread_sigmask, int how, const sigset_t *mask, sigset_t *old)
{
	count(CALL_SIGNALS);
	return __real_pthread_sigmask(how, mask, old);
}

static void count_begin(struct env *e)
{
	for (unsigned i = 0; i < NR_CALLS; i++)
		atomic_store(&calls[i], 0);
	env_mark(e);
	atomic_store(&counting, true);
}

static unsigned counted(enum call call)
{
	return atomic_load(&calls[call]);
}

static void assert_at_most(unsigned n, unsigned most, const char *what)
{
	if (n > most)
		fail_msg("%u %s, at most %u were expected", n, what, most);
}

/*
 * Of the faults themselves. Servers that get no CPU between the wake-up and the end of a fault have
 * a piece each: the pool of these may have to grow, once and for all, by a mapping and its advice.
 */
static void assert_maps_nothing(void)
{
	assert_at_most(counted(CALL_MAP), 2 * MAX_SERVERS, "calls of mmap() and the like");
	assert_int_equal(counted(CALL_REMAP), 0);
}

/* ---- context switches ----------------------------------------------------------------- */

/* How often all threads of the process went to sleep by themselves. */
static unsigned sleeps(void)
{
	DIR *tasks = opendir("/proc/self/task");
	char path[300], line[128];
	unsigned all = 0, one;
	struct dirent *entry;

	assert_non_null(tasks);
	while ((entry = readdir(tasks))) {
		FILE *status;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		status = fopen(path, "re");
		while (status && fgets(line, sizeof(line), status))
			if (sscanf(line, "voluntary_ctxt_switches: %u", &one) == 1)
				all += one;
		if (status)
			fclose(status);
	}
	closedir(tasks);
	return all;
}

static unsigned own_sleeps(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (unsigned)usage.ru_nvcsw;
}

/* ---- faults --------------------------------------------------------------------------- */

/* Pages on a device, in a context that has done the same before: its pools are filled. */
static char *pages_on_device(struct env *e, struct ref_device **ref)
{
	char *p = env_alloc_small(e, BLOCK);

	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("it is counted how pages are moved by UFFDIO_MOVE");
	*ref = env_device(e, UMM_BLOCK_PAGES);
	fill(p, UMM_BLOCK_PAGES, 1);
	to_device(e, *ref, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	/* Only one by a fault: 512 of them give frames back, by a call. */
	assert_true(filled_at(p, 0, 1));
	to_system(e, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES - 1);
	to_device(e, *ref, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	assert_free_frames(*ref, 0);
	return p;
}

/* Every other page: neighbours are not asked for. */
static void touch_pages(const char *p)
{
	for (size_t i = 0; i < NFAULTS; i++)
		(void)((const volatile char *)p)[2 * i * PAGE];
}

static void count_end(struct env *e, unsigned counter, uint64_t n)
{
	assert_delta(e, counter, n);
	atomic_store(&counting, false);
}

static void fault_copies_one_page_twice_and_allocates_nothing(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref);

	count_begin(e);
	touch_pages(p);
	count_end(e, UMM_COUNT_FAULT_DEVICE, NFAULTS);
	assert_int_equal(counted(CALL_ALLOC), 0);
	assert_maps_nothing();
	assert_int_equal(counted(CALL_MOVE), 0);
	assert_int_equal(counted(CALL_COPY), NFAULTS);
	assert_at_most(counted(CALL_PROTECT), 2 * NFAULTS, "calls of UFFDIO_WRITEPROTECT");
	assert_int_equal(counted(CALL_OTHER), 0);
	assert_delta(e, UMM_COUNT_COPIES, NFAULTS);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, NFAULTS * PAGE);
	assert_delta(e, UMM_COUNT_DEFERRED, 0);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

static void page_moves_home_where_no_memory_is_left_for_a_copy(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref);

	atomic_store(&no_memory, true);
	count_begin(e);
	touch_pages(p);
	count_end(e, UMM_COUNT_FAULT_DEVICE, NFAULTS);
	atomic_store(&no_memory, false);
	assert_int_equal(counted(CALL_MOVE), NFAULTS);
	assert_int_equal(counted(CALL_ALLOC), 0);
	assert_delta(e, UMM_COUNT_COPIES, NFAULTS);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

static size_t kept_pages(struct env *e)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	return stats.cached_bytes / PAGE;
}

/*
 * Else a program would have the frames of its pages twice. Whoever installs pages gives back, so
 * that the kernel has the frames where it takes them from.
 */
static void pages_that_come_home_one_by_one_give_back_as_many_frames(struct env *e)
{
	const size_t npages = 4 * UMM_BLOCK_PAGES;
	struct ref_device *ref;
	char *p;

	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("without UFFDIO_MOVE no frames are kept");
	ref = env_device(e, npages);
	p = env_alloc_small(e, npages * PAGE);
	fill(p, npages, 1);
	to_device(e, ref, p, npages, (long)npages);
	assert_int_equal(kept_pages(e), npages);
	count_begin(e);
	for (size_t i = 0; i < npages; i += 2)
		assert_true(filled_at(p, i, 1));
	wait_until(kept_pages(e) == npages / 2);
	/* A moment later. */
	wait_until(counted(CALL_GIVE) == npages / 2 / UMM_BLOCK_PAGES);
	count_end(e, UMM_COUNT_FAULT_DEVICE, npages / 2);
	assert_int_equal(counted(CALL_ALLOC), 0);
	assert_filled(p, npages, 1);
}

/* Copies would leave all of the frames behind, to be used one by one from there on. */
static void pages_that_come_home_together_take_the_frames_that_are_kept(struct env *e)
{
	struct umm_span spans[UMM_BLOCK_PAGES / 2];
	struct umm_migrate_request request = { .size = sizeof(request),
					       .spans = spans,
					       .nspans = ARRAY_SIZE(spans),
					       .cause = UMM_CAUSE_CPU_FAULT };
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref);
	size_t kept = kept_pages(e);

	for (size_t i = 0; i < ARRAY_SIZE(spans); i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + 2 * i * PAGE, PAGE };
	count_begin(e);
	assert_int_equal(umm_migrate_spans(e->ctx, &request, NULL), ARRAY_SIZE(spans));
	count_end(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, ARRAY_SIZE(spans));
	assert_int_equal(counted(CALL_MOVE), ARRAY_SIZE(spans));
	assert_int_equal(counted(CALL_COPY), 0);
	assert_int_equal(kept_pages(e), kept - ARRAY_SIZE(spans));
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

struct turns {
	pthread_barrier_t barrier;
	const char *p;
};

/* The odd pages, while the other thread has the even ones: one fault each at a time. */
static void *take_odd_turns(void *arg)
{
	struct turns *turns = arg;

	for (size_t i = 0; i < NFAULTS; i++) {
		pthread_barrier_wait(&turns->barrier);
		pthread_barrier_wait(&turns->barrier);
		(void)((const volatile char *)turns->p)[2 * i * PAGE];
	}
	return NULL;
}

/* Each look at where a thread runs opens a file. */
static void threads_that_take_turns_are_looked_for_ever_fewer_times(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref), *q = env_alloc_small(e, BLOCK);
	struct ref_device *other = env_device(e, UMM_BLOCK_PAGES);
	struct turns turns = { .p = q };
	pthread_t thread;

	fill(q, UMM_BLOCK_PAGES, 1);
	to_device(e, other, q, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	pthread_barrier_init(&turns.barrier, NULL, 2);
	count_begin(e);
	assert_int_equal(pthread_create(&thread, NULL, take_odd_turns, &turns), 0);
	for (size_t i = 0; i < NFAULTS; i++) {
		pthread_barrier_wait(&turns.barrier);
		(void)((const volatile char *)p)[2 * i * PAGE];
		pthread_barrier_wait(&turns.barrier);
	}
	pthread_join(thread, NULL);
	count_end(e, UMM_COUNT_FAULT_DEVICE, 2 * NFAULTS);
	/* After 8, 16, 32, 64, 128 and 256 turns: of each of the servers, in between 8 in a row. */
	assert_at_most(counted(CALL_OPEN), NFAULTS / 8, "looks at where a thread runs");
	pthread_barrier_destroy(&turns.barrier);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
	assert_filled(q, UMM_BLOCK_PAGES, 1);
}

/* Each page that moved away from its neighbours is an allocation with counters of its own. */
static void fault_on_moved_memory_allocates_nothing(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref), *to = env_map(e, BLOCK);

	for (size_t i = 0; i < UMM_BLOCK_PAGES; i += 2)
		assert_ptr_equal(mremap(p + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
					to + i * PAGE),
				 to + i * PAGE);
	count_begin(e);
	touch_pages(to);
	count_end(e, UMM_COUNT_FAULT_DEVICE, NFAULTS);
	assert_int_equal(counted(CALL_ALLOC), 0);
	assert_maps_nothing();
	for (size_t i = 0; i < UMM_BLOCK_PAGES; i += 2)
		assert_true(filled_at(to, i, 1));
}

static void fault_puts_two_threads_to_sleep_once(struct env *e)
{
	unsigned own, all, own_before, before;
	struct ref_device *ref;
	char *p;

	if (harness_is_llvmpipe())
		env_skip("threads of the device sleep for each of its copies, too");
	p = pages_on_device(e, &ref);
	before = sleeps();
	own_before = own_sleeps();
	count_begin(e);
	touch_pages(p);
	own = own_sleeps() - own_before;
	count_end(e, UMM_COUNT_FAULT_DEVICE, NFAULTS);
	all = sleeps() - before;
	/* A tenth more: threads of the harness and of sanitizers sleep, too. */
	assert_at_most(own, NFAULTS, "times the faulting thread slept");
	assert_at_most(all, 2 * NFAULTS + NFAULTS / 5, "times threads slept");
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

static void write_to_a_duplicate_copies_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	char *p = env_alloc_small(e, BLOCK);

	fill(p, UMM_BLOCK_PAGES, 1);
	assert_int_equal(migrate(e, ref, p, UMM_BLOCK_PAGES, UMM_MIGRATE_DUPLICATE),
			 UMM_BLOCK_PAGES);
	count_begin(e);
	for (size_t i = 0; i < NFAULTS; i++)
		((volatile char *)p)[2 * i * PAGE] = p[2 * i * PAGE];
	count_end(e, UMM_COUNT_FAULT_WRITE, NFAULTS);
	assert_int_equal(counted(CALL_ALLOC), 0);
	assert_maps_nothing();
	assert_int_equal(counted(CALL_MOVE) + counted(CALL_COPY), 0);
	/* It wakes, too. */
	assert_int_equal(counted(CALL_PROTECT), NFAULTS);
	assert_int_equal(counted(CALL_OTHER), 0);
	assert_delta(e, UMM_COUNT_COPIES, 0);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

/* A call costs more than the entries of a few pages more. */
static void scattered_duplicates_share_their_protection(struct env *e)
{
	enum { N = 128, STEP = 4 };
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	char *p = env_alloc_small(e, BLOCK);
	struct umm_span spans[N];
	struct umm_migrate_request request = { .size = sizeof(request),
					       .flags = UMM_MIGRATE_DUPLICATE,
					       .spans = spans,
					       .nspans = N,
					       .dst = ref->mem };

	fill(p, UMM_BLOCK_PAGES, 1);
	for (size_t i = 0; i < N; i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + STEP * i * PAGE, PAGE };
	count_begin(e);
	assert_int_equal(umm_migrate_spans(e->ctx, &request, NULL), N);
	count_end(e, UMM_COUNT_DUPLICATED, N);
	assert_at_most(counted(CALL_PROTECT), 4, "calls of UFFDIO_WRITEPROTECT");
	assert_at_most(counted(CALL_SIGNALS), N / 2, "calls of pthread_sigmask()");
	/* What was protected along with them: one fault behind each of them. */
	count_begin(e);
	for (size_t i = 0; i < UMM_BLOCK_PAGES; i++)
		if (i % STEP)
			((volatile char *)p)[i * PAGE] = p[i * PAGE];
	count_end(e, UMM_COUNT_FAULT_WRITE, 0);
	assert_int_equal(counted(CALL_PROTECT), N);
	count_begin(e);
	assert_int_equal(umm_migrate_to_system(e->ctx, p, BLOCK), 0);
	count_end(e, UMM_COUNT_FAULT_WRITE, 0);
	assert_at_most(counted(CALL_PROTECT), 4, "calls of UFFDIO_WRITEPROTECT");
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

/* ---- migrations ----------------------------------------------------------------------- */

static void block_moves_in_one_call_and_one_copy(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref);

	to_system(e, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	count_begin(e);
	to_device(e, ref, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	count_end(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT, UMM_BLOCK_PAGES);
	assert_int_equal(counted(CALL_MOVE), 1);
	assert_int_equal(counted(CALL_COPY), 0);
	assert_delta(e, UMM_COUNT_COPIES, 1);
	count_begin(e);
	to_system(e, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	count_end(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT, UMM_BLOCK_PAGES);
	assert_int_equal(counted(CALL_MOVE), 1);
	assert_int_equal(counted(CALL_COPY), 0);
	assert_delta(e, UMM_COUNT_COPIES, 1);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

/* Of which a call can move one; all else is done for many of them at once. */
static void assert_scattered(struct env *e, struct umm_devmem *dst, char *p, unsigned counter)
{
	struct umm_span spans[UMM_BLOCK_PAGES / 2];
	struct umm_migrate_request request = {
		.size = sizeof(request), .spans = spans, .nspans = ARRAY_SIZE(spans), .dst = dst
	};

	for (size_t i = 0; i < ARRAY_SIZE(spans); i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + 2 * i * PAGE, PAGE };
	count_begin(e);
	assert_int_equal(umm_migrate_spans(e->ctx, &request, NULL), ARRAY_SIZE(spans));
	count_end(e, counter, ARRAY_SIZE(spans));
	assert_int_equal(counted(CALL_MOVE), ARRAY_SIZE(spans));
	assert_int_equal(counted(CALL_COPY) + counted(CALL_REMAP) + counted(CALL_OTHER), 0);
	assert_at_most(counted(CALL_PROTECT), ARRAY_SIZE(spans) / 6,
		       "calls of UFFDIO_WRITEPROTECT");
	assert_at_most(counted(CALL_SIGNALS), ARRAY_SIZE(spans) / 6, "calls of pthread_sigmask()");
}

static void scattered_pages_share_all_but_their_moves(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref);

	to_system(e, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	assert_scattered(e, ref->mem, p, UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT);
	assert_scattered(e, NULL, p, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

/* Each leaves a page in a slot of its own: more of them than there are slots. */
static void scattered_pages_never_run_out_of_room(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options), .frame_cache = BLOCK };
	struct ref_options device = { .nframes = SCATTERED, .inline_copy = true };
	struct umm_span spans[SCATTERED];
	struct umm_migrate_request request = { .size = sizeof(request),
					       .spans = spans,
					       .nspans = SCATTERED };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *memory;
	char *p;

	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("without UFFDIO_MOVE there are no slots");
	assert_int_equal(umm_ctx_create(&options, &ctx), 0);
	assert_int_equal(ref_create(ctx, &device, &ref), 0);
	assert_int_equal(umm_alloc(ctx, SCATTERED * BLOCK, UMM_ALLOC_SMALL_PAGES, &memory), 0);
	p = memory;
	for (size_t i = 0; i < SCATTERED; i++) {
		page_fill(p + i * BLOCK, i, 1);
		spans[i] = (struct umm_span){ (uintptr_t)p + i * BLOCK, PAGE };
	}
	request.dst = ref->mem;
	atomic_store(&counting, true);
	assert_int_equal(umm_migrate_spans(ctx, &request, NULL), SCATTERED);
	atomic_store(&counting, false);
	assert_int_equal(counted(CALL_REMAP), 0);
	for (size_t i = 0; i < SCATTERED; i++)
		assert_true(page_filled(p + i * BLOCK, i, 1));
	assert_true(ref_destroy(ref));
	umm_ctx_put(ctx);
}

static void scattered_pages_that_come_ahead_of_need_come_as_copies(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref);
	struct umm_span spans[NFAULTS];
	struct umm_migrate_request request = { .size = sizeof(request),
					       .spans = spans,
					       .nspans = NFAULTS,
					       .cause = UMM_CAUSE_READAHEAD };

	for (size_t i = 0; i < NFAULTS; i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + 2 * i * PAGE, PAGE };
	count_begin(e);
	assert_int_equal(umm_migrate_spans(e->ctx, &request, NULL), NFAULTS);
	count_end(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_READAHEAD, NFAULTS);
	assert_int_equal(counted(CALL_MOVE), 0);
	assert_int_equal(counted(CALL_COPY), NFAULTS);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

#define RESIDENT 16 /* blocks */

static void resident_memory_is_reported_without_a_call_for_each_block(struct env *e)
{
	static uint64_t entries[RESIDENT * UMM_BLOCK_PAGES];
	struct ref_device *ref = env_device(e, 1);
	char *p = env_alloc(e, RESIDENT * BLOCK);
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + RESIDENT * BLOCK,
		.entries = entries,
		.default_flags = UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE,
	};

	fill(p, RESIDENT * UMM_BLOCK_PAGES, 1);
	for (unsigned i = 0; i < 2; i++) {
		/* The first time memory is made known to the kernel. */
		count_begin(e);
		range.seq = umm_notifier_read_begin(range.notifier);
		assert_int_equal(umm_range_fault(&range, 1000), RESIDENT * UMM_BLOCK_PAGES);
		atomic_store(&counting, false);
	}
	/* They are held once; and let in on the way, where many blocks are behind it. */
	assert_at_most(counted(CALL_SIGNALS), 4, "calls of pthread_sigmask()");
	/* The mapping is asked for once: pages that are there need not be made resident. */
	assert_at_most(counted(CALL_OTHER), 1, "other ioctls");
	assert_int_equal(counted(CALL_ALLOC) + counted(CALL_MAP) + counted(CALL_OPEN), 0);
}

static void sequences_are_read_without_holding_signals(struct env *e)
{
	struct umm_notifier *notifier = umm_mirror_notifier(env_device(e, 1)->mirror);

	count_begin(e);
	for (unsigned i = 0; i < NFAULTS; i++)
		assert_false(umm_notifier_read_retry(notifier, umm_notifier_read_begin(notifier)));
	atomic_store(&counting, false);
	/* Threads that the context has just begun with may still let signals go. */
	assert_at_most(counted(CALL_SIGNALS), NFAULTS / 8, "calls of pthread_sigmask()");
}

static void memory_that_no_device_wants_costs_no_call(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_on_device(e, &ref), *other = env_alloc_small(e, BLOCK);

	count_begin(e);
	fill(other, UMM_BLOCK_PAGES, 2);
	count_end(e, UMM_COUNT_FAULT_EMPTY, 0);
	/* Threads that have just served something may still let signals go. */
	for (unsigned i = 0; i < CALL_SIGNALS; i++)
		assert_int_equal(counted((enum call)i), 0);
	assert_filled(other, UMM_BLOCK_PAGES, 2);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

static void stop_counting(void)
{
	atomic_store(&counting, false);
	atomic_store(&no_memory, false);
}

/* A hundred ranges of a page each, side by side. */
static void prefetch_of_neighbours_looks_at_their_mapping_once(struct env *e)
{
	const size_t npages = 100;
	char *p = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	struct umm_span span = { (uintptr_t)p, npages * PAGE };
	struct umm_prefetch req = { .size = sizeof(req), .spans = &span, .nspans = 1 };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_ptr_not_equal(p, MAP_FAILED);
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(umm_attach(e->ctx, p + i * PAGE, PAGE), 0);
	count_begin(e);
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), npages);
	atomic_store(&counting, false);
	/* Once to know it, once to mark it. */
	assert_at_most(counted(CALL_OTHER) + counted(CALL_OPEN), 2, "questions and registrations");
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.prefetched, 1);
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(umm_detach(e->ctx, p + i * PAGE), 0);
	munmap(p, npages * PAGE);
}

static const struct test_case cases[] = {
	TEST(ONCE, fault_copies_one_page_twice_and_allocates_nothing),
	TEST(ONCE, page_moves_home_where_no_memory_is_left_for_a_copy),
	TEST(ONCE, pages_that_come_home_one_by_one_give_back_as_many_frames),
	TEST(ONCE, pages_that_come_home_together_take_the_frames_that_are_kept),
	TEST(ONCE, threads_that_take_turns_are_looked_for_ever_fewer_times),
	TEST(ONCE, fault_on_moved_memory_allocates_nothing),
	TEST(ONCE, fault_puts_two_threads_to_sleep_once),
	TEST(ONCE, write_to_a_duplicate_copies_nothing),
	TEST(ONCE, scattered_duplicates_share_their_protection),
	TEST(ONCE, block_moves_in_one_call_and_one_copy),
	TEST(ONCE, scattered_pages_share_all_but_their_moves),
	TEST(ONCE, scattered_pages_never_run_out_of_room),
	TEST(ONCE, scattered_pages_that_come_ahead_of_need_come_as_copies),
	TEST(ONCE, resident_memory_is_reported_without_a_call_for_each_block),
	TEST(ONCE, sequences_are_read_without_holding_signals),
	TEST(ONCE, memory_that_no_device_wants_costs_no_call),
	TEST(ONCE, prefetch_of_neighbours_looks_at_their_mapping_once),
};

int main(int argc, char **argv)
{
	harness_cleanup(stop_counting);
	return harness_main("test_counts", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
