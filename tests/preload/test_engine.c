/* SPDX-License-Identifier: MIT */
/*
 * The engine as it is, on libumm as it is, with a reference device: what the program maps is told
 * to the books by this file, as the shim does it. So it runs under sanitizers, which the shim
 * around it cannot (docs/shim.md, section 9). The engine starts once and goes on through all tests.
 * Its clock is the kernel's, but for the test of its budget: there it stands still but for counts.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "budget.h"
#include "channel.h"
#include "channel_file.h"
#include "clock.h"
#include "engine.h"
#include "grant.h"
#include "ref_device.h"
#include "room.h"
#include "shim.h"
#include "space.h"
#include "tiers.h"
#include "touches.h"

#define PAGE  ((size_t)4096)
#define MIB   ((size_t)1 << 20)
#define LIMIT ((size_t)SETTINGS_LIMIT_MIN)
#define FIRST (8 * LIMIT) /* the limit before the first test has lowered it */
/* A block that is handed out, and what comes along with one touch (docs/shim.md, section 5). */
#define SLACK (2 * MIB + LIMIT / 16)
/* The lower watermark is higher, but what comes while the engine counts may count twice. */
#define LEAST (LIMIT / 4)
/* Between the limit and the upper watermark. */
#define MARGIN (4 * MIB)
/*
 * Host frames that are kept for what comes next: an eighth of the limit, 8 MiB at least, and for a
 * moment, before there are that few again, a block that has just left.
 */
#define KEPT  ((LIMIT / 8 > 8 * MIB ? LIMIT / 8 : 8 * MIB) + 2 * MIB)
#define WORDS (PAGE / sizeof(uint64_t))
/* What a count takes of the clock that stands still. */
#define COUNT_NS UINT64_C(1000000)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW 1 /* memory that comes with the program's */
#else
#define HAS_SHADOW 0
#endif

enum {
	DEVICE_PAGES = 65536,
	THREADS = 4,
	TOUCHES = 2000,
	PASSES = 100,
	CAME_MEANWHILE = 500,
	FEW_FRAMES = 5,
	ROUNDS = 1000,
	SEEN_IN_VAIN = 64,
	RESTS = 5,
	LOOKS = 64,
};

static struct settings settings;
static struct ref_device *device;
static struct umm_ctx *engines_ctx;
static _Atomic uint64_t takes;
static struct umm_fence *begun; /* the engine's thread only, as the next */
static uint64_t came_before;
static _Atomic int64_t came_meanwhile; /* along, between the beginning and the end of a take */
static _Atomic(const struct place_ops *) placed_by;
static _Atomic bool stuck; /* whoever moves pages to the device waits */
static _Atomic unsigned stuck_lines;
static _Atomic uint64_t most_free = UINT64_MAX; /* frames, that the device says that it has */
static _Atomic unsigned begun_in_vain;		/* takes, of more than it has */
static _Atomic uint64_t looks;			/* at page tables */
static _Atomic uint64_t clock_at;		/* it stands there; 0: it goes, */
static _Atomic uint64_t clock_ahead;		/* by so much ahead of the kernel's */
static _Atomic unsigned counts;			/* while it stands */
static bool counting;				/* the engine's thread only, */
static unsigned seen_in_vain;			/* and this: the clock, since pages left */

/* ---- the shim around it ----------------------------------------------------------------- */

SHIM_TLS enum thread_mode thread_mode;

const struct settings *shim_settings(void)
{
	return &settings;
}

void shim_say(const char *format, ...)
{
	va_list args;

	if (strstr(format, "stuck"))
		atomic_fetch_add(&stuck_lines, 1);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

unsigned tiers_open(struct umm_ctx *ctx, const struct settings *from)
{
	struct ref_options options = {
		.type = UMM_DEVMEM_PRIVATE,
		.nframes = DEVICE_PAGES,
		.inline_copy = true,
		.keep_freed = true,
	};

	(void)from;
	engines_ctx = ctx;
	if (ref_create(ctx, &options, &device))
		return 0;
	/* What is there from the start does not look like the program's later. */
	for (unsigned i = 0; i < DEVICE_PAGES; i++)
		*(char *)ref_frame(device, i) = 1;
	return 1;
}

void tiers_placement(const struct place_ops *ops)
{
	atomic_store(&placed_by, ops);
}

static struct umm_migrate_request request_of(const struct umm_span *spans, unsigned nspans)
{
	return (struct umm_migrate_request){
		.size = sizeof(struct umm_migrate_request),
		.flags = UMM_MIGRATE_NO_EVICT,
		.dst = device->mem,
		.spans = spans,
		.nspans = nspans,
		.cause = UMM_CAUSE_EVICT,
	};
}

/* Pages that came along so far; one more or less for each touch that is being served. */
static uint64_t came_along(void)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(engines_ctx, &stats), 0);
	return stats.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT] -
	       stats.counter[UMM_COUNT_FAULT_DEVICE];
}

uint64_t tiers_free(void)
{
	uint64_t nfree = umm_devmem_nfree(device->mem), most = atomic_load(&most_free);

	return nfree < most ? nfree : most;
}

void tiers_take_begin(struct umm_ctx *ctx, const struct umm_span *spans, unsigned nspans)
{
	struct umm_migrate_request request = request_of(spans, nspans);
	size_t len = 0;

	for (unsigned i = 0; i < nspans; i++)
		len += spans[i].len;
	atomic_fetch_add(&begun_in_vain, len / PAGE > tiers_free());
	came_before = came_along();
	assert_int_equal(umm_migrate_spans(ctx, &request, &begun), 0);
}

static long begun_wait(void)
{
	long ret = umm_fence_wait(begun, -1);

	atomic_fetch_add(&came_meanwhile, (int64_t)(came_along() - came_before));
	ret = ret ? ret : umm_fence_value(begun);
	umm_fence_put(begun);
	begun = NULL;
	return ret;
}

long tiers_take(struct umm_ctx *ctx, const struct umm_span *spans, unsigned nspans)
{
	struct umm_migrate_request request = request_of(spans, nspans);

	atomic_fetch_add(&takes, 1);
	seen_in_vain = 0;
	while (atomic_load(&stuck))
		usleep(1000);
	if (!begun && !tiers_free())
		return -ENOSPC;
	return begun ? begun_wait() : umm_migrate_spans(ctx, &request, NULL);
}

int tiers_failed(const struct umm_devmem *mem, int error, size_t nlost)
{
	(void)mem;
	(void)error;
	(void)nlost;
	return -ENOENT;
}

bool tiers_use(unsigned i, struct tier_use *out)
{
	(void)i;
	(void)out;
	return false;
}

static uint64_t kernels_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Where nothing can leave for a moment the engine tries again by the clock: then it has to go. */
uint64_t clock_now_ns(void)
{
	uint64_t at = atomic_load(&clock_at);

	counting = false;
	if (at && ++seen_in_vain > SEEN_IN_VAIN) {
		seen_in_vain = 0;
		at = atomic_fetch_add(&clock_at, 20 * COUNT_NS);
	}
	return at ? at : kernels_clock_ns(CLOCK_MONOTONIC) + atomic_load(&clock_ahead);
}

uint64_t clock_cpu_ns(void)
{
	return kernels_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* The first look at more than a block since the engine saw the clock begins a count. */
static void count_takes_time(size_t len)
{
	if (!atomic_load(&clock_at) || len <= 2 * MIB || counting)
		return;
	counting = true;
	atomic_fetch_add(&clock_at, COUNT_NS);
	atomic_fetch_add(&counts, 1);
}

int mincore(void *start, size_t len, unsigned char *present)
{
	atomic_fetch_add(&looks, 1);
	count_takes_time(len);
	return (int)syscall(SYS_mincore, start, len, present);
}

static uint64_t *get(size_t len)
{
	struct space_change change;
	void *start;

	space_change_begin(&change, 0, 0);
	start = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(start, MAP_FAILED);
	assert_int_equal(space_add_locked((uintptr_t)start, len,
					  grant_new_locked((uintptr_t)start, len)),
			 0);
	space_change_end(&change);
	engine_consider();
	return start;
}

static void drop(void *start, size_t len)
{
	struct space_change change;

	space_change_begin(&change, (uintptr_t)start, len);
	assert_int_equal(munmap(start, len), 0);
	space_remove_locked((uintptr_t)start, len);
	space_change_end(&change);
}

/* ---- the program ------------------------------------------------------------------------ */

static size_t there(const void *start, size_t len)
{
	unsigned char present;
	size_t n = 0;

	for (size_t i = 0; i < len; i += PAGE)
		n += !mincore((char *)start + i, PAGE, &present) && present & 1;
	return n * PAGE;
}

/* Each page says which it is; the most that was in the host, seen once a MiB. */
static size_t fill(uint64_t *memory, size_t len)
{
	size_t most = 0, now;

	for (size_t page = 0; page < len / PAGE; page++) {
		memory[page * WORDS] = page;
		now = page % (MIB / PAGE) ? 0 : there(memory, len);
		most = now > most ? now : most;
	}
	return most;
}

static void *touch_at_random(void *arg)
{
	uint64_t *memory = arg, seed = (uintptr_t)&seed, wrong = 0;

	for (unsigned i = 0; i < TOUCHES; i++) {
		size_t page;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		page = (seed >> 33) % (3 * LIMIT / PAGE);
		wrong += memory[page * WORDS] != page;
	}
	return (void *)(uintptr_t)wrong;
}

static void more_than_the_limit_stays_within_it(void **state)
{
	uint64_t *memory = get(3 * LIMIT);

	(void)state;
	assert_in_range(fill(memory, 3 * LIMIT), LEAST, LIMIT + SLACK);
	assert_true(atomic_load(&takes) > 0);
	for (unsigned pass = 0; pass < 3; pass++)
		for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
			assert_int_equal(memory[page * WORDS]++, page + pass);
	assert_in_range(there(memory, 3 * LIMIT), LEAST, LIMIT + SLACK);
	drop(memory, 3 * LIMIT);
}

static size_t kept(void)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(engines_ctx, &stats), 0);
	return stats.cached_bytes;
}

/* As "umm top" and "umm set" do it. */
static struct channel *numbers(void)
{
	static struct channel *channel;

	if (channel)
		return channel;
	channel = mmap(NULL, sizeof(*channel), PROT_READ | PROT_WRITE, MAP_SHARED,
		       channel_file_own(), 0);
	assert_ptr_not_equal(channel, MAP_FAILED);
	return channel;
}

static void a_lower_limit_keeps_fewer_frames_for_reuse(void **state)
{
	size_t len = FIRST + 4 * LIMIT;
	uint64_t *memory = get(len);

	(void)state;
	fill(memory, len);
	assert_true(kept() > KEPT);
	numbers()->host_limit = LIMIT;
	while (there(memory, len) > LIMIT + SLACK)
		usleep(1000);
	assert_true(kept() <= KEPT);
	for (size_t page = 0; page < len / PAGE; page++) {
		assert_int_equal(memory[page * WORDS], page);
		assert_true(page % 64 || kept() <= KEPT);
	}
	drop(memory, len);
}

/* What comes next finds room: pages leave until the upper watermark is reached, touched or not. */
static void pages_leave_ahead_of_need(void **state)
{
	uint64_t *memory = get(3 * LIMIT);

	(void)state;
	fill(memory, 3 * LIMIT);
	while (there(memory, 3 * LIMIT) > LIMIT - MARGIN)
		usleep(1000);
	for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
		assert_int_equal(memory[page * WORDS], page);
	drop(memory, 3 * LIMIT);
}

/* Both copy: one after the other, a program that goes through memory would wait for both. */
static void pages_leave_while_others_come(void **state)
{
	uint64_t *memory = get(3 * LIMIT);
	int64_t before = atomic_load(&came_meanwhile);

	(void)state;
	fill(memory, 3 * LIMIT);
	for (unsigned pass = 0;
	     pass < PASSES && atomic_load(&came_meanwhile) - before < CAME_MEANWHILE; pass++)
		for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
			assert_int_equal(memory[page * WORDS]++, page + pass);
	assert_true(atomic_load(&came_meanwhile) - before >= CAME_MEANWHILE);
	drop(memory, 3 * LIMIT);
}

/* In the middle of no round. */
static void frames_set(uint64_t nframes)
{
	engine_hold();
	atomic_store(&most_free, nframes);
	engine_release();
}

static void a_pass_with_so_few_frames(uint64_t *memory, uint64_t nframes)
{
	frames_set(UINT64_MAX);
	while (there(memory, 3 * LIMIT) > LIMIT + SLACK)
		usleep(1000);
	frames_set(nframes);
	for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
		assert_int_equal(memory[page * WORDS], page);
}

/* The turn of a block is not taken, and what is native stays so, for pages that have no place. */
static void no_more_begin_to_leave_than_devices_have_room_for(void **state)
{
	uint64_t *memory = get(3 * LIMIT), before = came_along();

	(void)state;
	fill(memory, 3 * LIMIT);
	for (unsigned pass = 0; pass < PASSES && came_along() - before < CAME_MEANWHILE; pass++) {
		a_pass_with_so_few_frames(memory, 0);
		a_pass_with_so_few_frames(memory, FEW_FRAMES);
	}
	assert_true(came_along() - before >= CAME_MEANWHILE);
	assert_int_equal(atomic_load(&begun_in_vain), 0);
	frames_set(UINT64_MAX);
	drop(memory, 3 * LIMIT);
}

/* The process's, whosever, by its page tables: RssAnon is behind by some for each CPU. */
static size_t frames(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	char line[256];
	size_t kib = 0;

	assert_non_null(file);
	while (!kib && fgets(line, sizeof(line), file))
		sscanf(line, "Anonymous: %zu", &kib);
	fclose(file);
	return kib << 10;
}

/* One page after the other, round and round. */
static size_t next_of_a_pass(uint64_t i, size_t npages)
{
	return i % npages;
}

static uint64_t scrambled(uint64_t i)
{
	uint64_t random = (i + 1) * 6364136223846793005u;

	return (random ^ random >> 29) * 0x9e3779b97f4a7c15u;
}

/* Some pages far more often than most: a 2^k-th of them as often as each other 2^k-th. */
static size_t next_of_zipf(uint64_t i, size_t npages)
{
	uint64_t random = scrambled(i);

	return (size_t)(random >> 32) % (npages >> random % 8);
}

static size_t next_of_random(uint64_t i, size_t npages)
{
	return (size_t)(scrambled(i) >> 32) % npages;
}

static void frames_hold_for(size_t (*next)(uint64_t i, size_t npages), size_t others)
{
	size_t npages = 3 * LIMIT / PAGE, most_kept = 0;
	uint64_t *memory = get(3 * LIMIT);

	fill(memory, 3 * LIMIT);
	for (uint64_t i = 0; i < 8 * npages; i++) {
		size_t page = next(i, npages), now;

		assert_int_equal(memory[page * WORDS], page);
		if (i % 64)
			continue;
		now = kept();
		most_kept = now > most_kept ? now : most_kept;
		assert_true(now <= KEPT);
		if (!HAS_SHADOW && !(i % 512))
			assert_true(frames() <= others + LIMIT + SLACK + KEPT);
	}
	assert_true(most_kept > 0);
	assert_in_range(there(memory, 3 * LIMIT), 0, LIMIT + SLACK);
	drop(memory, 3 * LIMIT);
}

/* What is kept for reuse is not in the count, but is no more than it is said to be. */
static void frames_outside_of_the_limit_are_few(void **state)
{
	size_t others = frames() - kept();

	(void)state;
	frames_hold_for(next_of_a_pass, others);
	frames_hold_for(next_of_zipf, others);
}

/*
 * Page by page, of half as much again as the limit: what left is wanted again soon. How often, of
 * LOOKS in the second half, nearly all of the limit was in use.
 */
static unsigned thrash(uint64_t *memory)
{
	size_t npages = 3 * LIMIT / 2 / PAGE;
	unsigned often = 0;

	fill(memory, 3 * LIMIT / 2);
	for (uint64_t i = 0; i < 16 * npages; i++) {
		size_t page = next_of_random(i, npages);

		assert_int_equal(memory[page * WORDS], page);
		if (i >= 8 * npages && !(i % (8 * npages / LOOKS)))
			often += there(memory, 3 * LIMIT / 2) >= LIMIT - LIMIT / 8;
	}
	return often;
}

static void whoever_thrashes_has_nearly_all_of_the_limit(void **state)
{
	uint64_t *memory = get(3 * LIMIT / 2);

	(void)state;
	assert_in_range(thrash(memory), LOOKS / 2, LOOKS);
	assert_in_range(there(memory, 3 * LIMIT / 2), LEAST, LIMIT + SLACK);
	drop(memory, 3 * LIMIT / 2);
}

/* For so many rounds the engine does not look at page tables. */
static bool is_quiet(void)
{
	uint64_t before = atomic_load(&looks);
	uint64_t until = numbers()->count[CHANNEL_ROUNDS] + ROUNDS;

	while (numbers()->count[CHANNEL_ROUNDS] < until)
		usleep(1000);
	return atomic_load(&looks) == before;
}

static void whoever_thrashed_and_rests_is_not_counted_on_and_on(void **state)
{
	uint64_t *memory = get(3 * LIMIT / 2);
	unsigned tries = 0;

	(void)state;
	thrash(memory);
	while (!is_quiet())
		assert_true(++tries < RESTS);
	drop(memory, 3 * LIMIT / 2);
}

/* All that it has saved is left to it, and @percent from here on, of a clock that stands. */
static void budget_begin(unsigned percent)
{
	engine_hold();
	atomic_store(&clock_at, clock_now_ns() + 100 * BUDGET_SAVED_NS);
	atomic_store(&counts, 0);
	numbers()->cpu_budget = percent;
	engine_release();
}

/* The time by then. */
static uint64_t budget_end(void)
{
	uint64_t now = kernels_clock_ns(CLOCK_MONOTONIC), at;

	engine_hold();
	at = atomic_load(&clock_at);
	numbers()->cpu_budget = settings.cpu_budget;
	atomic_store(&clock_ahead, at > now ? at - now : 0);
	atomic_store(&clock_at, 0);
	engine_release();
	return at;
}

/*
 * While the program goes through more than the limit, each time that room has to be made is one to
 * count. The budget is the share of what was saved and of the time that counts take; the last one
 * may go over it. Where nothing can leave for a moment that is counted, too, whatever the budget.
 */
static void counts_are(uint64_t *memory, unsigned percent, unsigned wanted)
{
	unsigned more = 3, most;
	uint64_t begin;

	budget_begin(percent);
	begin = atomic_load(&clock_at);
	for (unsigned pass = 0; pass < PASSES && more; pass++) {
		more -= atomic_load(&counts) >= wanted;
		for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
			assert_int_equal(memory[page * WORDS], page);
	}
	most = (unsigned)((BUDGET_SAVED_NS + budget_end() - begin) * percent / 100 / COUNT_NS);
	assert_in_range(atomic_load(&counts), wanted, most + 1 + wanted / 4 + 1);
}

static void a_budget_that_is_changed_is_that_of_counts(void **state)
{
	uint64_t *memory = get(3 * LIMIT);

	(void)state;
	fill(memory, 3 * LIMIT);
	counts_are(memory, 2, 3); /* 2 % of 100 ms, and of what they take */
	counts_are(memory, 50, 100);
	counts_are(memory, 10, 12);
	drop(memory, 3 * LIMIT);
}

/* One that began after this, and ended. */
static void round_passes(void)
{
	uint64_t until = numbers()->count[CHANNEL_ROUNDS] + 2;

	while (numbers()->count[CHANNEL_ROUNDS] < until)
		usleep(1000);
}

static void policies_change_between_rounds(void **state)
{
	uint64_t *memory = get(3 * LIMIT), probes, pass;

	(void)state;
	fill(memory, 3 * LIMIT);
	assert_ptr_equal(atomic_load(&placed_by), &place_first);
	assert_int_equal(numbers()->count[CHANNEL_PROBES], 0);
	numbers()->placement = place_number(&place_interleave);
	numbers()->sampling = sample_number(&sample_probe);
	for (pass = 0; pass < PASSES && !numbers()->count[CHANNEL_PROBES]; pass++)
		for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
			assert_int_equal(memory[page * WORDS]++, page + pass);
	assert_true(numbers()->count[CHANNEL_PROBES] > 0);
	/* What the umm command would not write changes nothing. */
	numbers()->placement = NR_PLACE;
	numbers()->sampling = NR_SAMPLE;
	round_passes();
	assert_ptr_equal(atomic_load(&placed_by), &place_interleave);
	numbers()->placement = place_number(&place_first);
	numbers()->sampling = sample_number(&sample_refault);
	round_passes();
	assert_ptr_equal(atomic_load(&placed_by), &place_first);
	probes = numbers()->count[CHANNEL_PROBES];
	for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
		assert_int_equal(memory[page * WORDS], page + pass);
	round_passes();
	assert_int_equal(numbers()->count[CHANNEL_PROBES], probes);
	drop(memory, 3 * LIMIT);
}

static void threads_find_what_they_left(void **state)
{
	uint64_t *memory = get(3 * LIMIT);
	pthread_t thread[THREADS];
	void *wrong;

	(void)state;
	fill(memory, 3 * LIMIT);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, touch_at_random, memory), 0);
	/* Meanwhile memory comes and goes. */
	for (unsigned i = 0; i < 10; i++) {
		uint64_t *more = get(2 * MIB);

		fill(more, 2 * MIB);
		drop(more, 2 * MIB);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(thread[i], &wrong), 0);
		assert_null(wrong);
	}
	assert_in_range(there(memory, 3 * LIMIT), 0, LIMIT + SLACK);
	drop(memory, 3 * LIMIT);
}

/* The child has all of it in ordinary memory; the parent's engine goes on. */
static void a_forked_child_has_what_was_away(void **state)
{
	uint64_t *memory = get(3 * LIMIT), wrong = 0;
	int status;
	pid_t pid;

	(void)state;
	fill(memory, 3 * LIMIT);
	pid = fork();
	assert_true(pid >= 0);
	for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
		wrong += memory[page * WORDS] != page;
	if (!pid)
		_exit(wrong != 0);
	assert_int_equal(wrong, 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	drop(memory, 3 * LIMIT);
}

static void *check_all(void *arg)
{
	uint64_t *memory = arg, wrong = 0;

	for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
		wrong += memory[page * WORDS] != page;
	return (void *)(uintptr_t)wrong;
}

/* Pages come late, but not without end; and when the engine goes on, so does the program. */
static void while_it_is_stuck_the_limit_is_exceeded_by_so_many_pages(void **state)
{
	uint64_t *memory = get(3 * LIMIT), late;
	pthread_t thread;
	unsigned before;
	void *wrong;

	(void)state;
	fill(memory, 3 * LIMIT);
	before = atomic_load(&stuck_lines);
	late = room_late();
	atomic_store(&stuck, true);
	assert_int_equal(pthread_create(&thread, NULL, check_all, memory), 0);
	while (atomic_load(&stuck_lines) == before)
		usleep(1000);
	assert_true(room_late() - late >= ROOM_LATE_MOST);
	assert_in_range(there(memory, 3 * LIMIT), LIMIT, LIMIT + SLACK + ROOM_LATE_MOST * PAGE);
	atomic_store(&stuck, false);
	assert_int_equal(pthread_join(thread, &wrong), 0);
	assert_null(wrong);
	fill(memory, 3 * LIMIT);
	assert_in_range(there(memory, 3 * LIMIT), 0, LIMIT + SLACK);
	drop(memory, 3 * LIMIT);
}

/* Its stop must not stop the program: other libraries' destructors still run. */
static void after_its_end_nobody_waits_for_room(void **state)
{
	uint64_t *memory = get(3 * LIMIT);

	(void)state;
	fill(memory, 3 * LIMIT);
	engine_end();
	for (size_t page = 0; page < 3 * LIMIT / PAGE; page++)
		assert_int_equal(memory[page * WORDS], page);
	assert_int_equal(there(memory, 3 * LIMIT), 3 * LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lower_limit_keeps_fewer_frames_for_reuse),
		cmocka_unit_test(more_than_the_limit_stays_within_it),
		cmocka_unit_test(pages_leave_ahead_of_need),
		cmocka_unit_test(pages_leave_while_others_come),
		cmocka_unit_test(no_more_begin_to_leave_than_devices_have_room_for),
		cmocka_unit_test(frames_outside_of_the_limit_are_few),
		cmocka_unit_test(whoever_thrashes_has_nearly_all_of_the_limit),
		cmocka_unit_test(whoever_thrashed_and_rests_is_not_counted_on_and_on),
		cmocka_unit_test(a_budget_that_is_changed_is_that_of_counts),
		cmocka_unit_test(policies_change_between_rounds),
		cmocka_unit_test(threads_find_what_they_left),
		cmocka_unit_test(a_forked_child_has_what_was_away),
		cmocka_unit_test(while_it_is_stuck_the_limit_is_exceeded_by_so_many_pages),
		cmocka_unit_test(after_its_end_nobody_waits_for_room),
	};
	struct umm_probe_info info = { .size = sizeof(info) };

	if (umm_probe(&info) || info.uffd_access == UMM_UFFD_NONE ||
	    info.uffd_access == UMM_UFFD_USER_MODE_ONLY) {
		printf("SKIPPED: %s\n", info.advice);
		return 77;
	}
	settings_default(&settings);
	settings.host_limit = FIRST;
	settings.quiet = true;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
