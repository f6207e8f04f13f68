/* SPDX-License-Identifier: MIT */
/* Traces that the library records in files, and what the simulator makes of them. */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook.h"
#include "policy/record.h"
#include "sim.h"

#define BLOCKS 12
#define ROOM   6
#define USES   240
#define WALK   2048 /* pages */

static char path[64];

static void recording_begin(size_t nevents)
{
	snprintf(path, sizeof(path), "/tmp/umm-trace-test.%d", (int)getpid());
	assert_int_equal(umm_trace(path, nevents), 0);
}

/* 0, or what is wrong. */
static int reads(struct trace *trace, char *why, size_t len)
{
	FILE *file = fopen(path, "re");
	int ret;

	assert_non_null(file);
	ret = record_read(trace, file, why, len);
	fclose(file);
	return ret;
}

static void recording_end(struct trace *trace)
{
	char why[128] = "";

	assert_int_equal(umm_trace(NULL, 0), 0);
	if (reads(trace, why, sizeof(why)))
		fail_msg("%s", why);
	unlink(path);
}

/* A pattern over blocks; of a block, the first pages(block) are wanted. */
static void play(struct env *e, struct ref_device *ref, char *p, unsigned (*pages)(unsigned))
{
	struct trace trace;

	assert_int_equal(pattern_make("zipf", BLOCKS, ROOM, &trace), 0);
	for (size_t i = 0; i < trace.n && i < USES; i++) {
		char *at = p + trace.block[i] * BLOCK;
		unsigned n = pages(trace.block[i]);

		if (state_of(e, at) == env_home(e))
			umm_devmem_touch(ref->mem, (uintptr_t)at, 1);
		else
			to_device(e, ref, at, n, n);
	}
	trace_fini(&trace);
}

static void assert_near(uint64_t got, uint64_t wanted)
{
	if (got * 100 < wanted * 95 || got * 100 > wanted * 105)
		fail_msg("%llu is more than 5 %% off %llu", (unsigned long long)got,
			 (unsigned long long)wanted);
}

/* What was recorded is what the counters say; and a replay in that memory comes to the same. */
static void record_and_replay(struct env *e, enum umm_evict_order order, const char *name,
			      unsigned (*pages)(unsigned))
{
	struct umm_devmem_policy policy = { .size = sizeof(policy), .order = order };
	struct ref_device *ref = env_device(e, ROOM * UMM_BLOCK_PAGES);
	char *p = env_alloc(e, BLOCKS * BLOCK);
	struct sim_result result;
	struct trace trace;
	uint64_t bytes;

	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
	fill(p, BLOCKS * UMM_BLOCK_PAGES, 1);
	env_mark(e);
	recording_begin(0);
	play(e, ref, p, pages);
	recording_end(&trace);
	bytes = env_delta(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT) * PAGE;
	assert_int_equal(trace.frames, ROOM * UMM_BLOCK_PAGES);
	assert_int_equal(trace.seen.evictions, env_delta(e, UMM_COUNT_EVICTIONS));
	assert_int_equal(trace.seen.bytes_in, bytes);
	assert_true(trace.seen.evictions > USES / 10);
	assert_int_equal(sim_replay(&trace, order_by_name(name), trace.frames, &result), 0);
	assert_near(result.misses, trace.seen.misses);
	assert_near(result.evictions, trace.seen.evictions);
	assert_near(result.bytes_in, bytes);
	trace_fini(&trace);
	assert_filled(p, BLOCKS * UMM_BLOCK_PAGES, 1);
	env_device_gone(e, ref);
	assert_int_equal(umm_free(e->ctx, p), 0);
}

static unsigned whole(unsigned block)
{
	(void)block;
	return UMM_BLOCK_PAGES;
}

static unsigned part(unsigned block)
{
	return 200 + block * 26;
}

static void whole_blocks_replay_as_they_were(struct env *e)
{
	record_and_replay(e, UMM_EVICT_LRU, "lru", whole);
	record_and_replay(e, UMM_EVICT_CLOCK, "clock", whole);
	record_and_replay(e, UMM_EVICT_ADAPTIVE, "adaptive", whole);
}

static void parts_of_blocks_replay_as_they_were(struct env *e)
{
	record_and_replay(e, UMM_EVICT_LRU, "lru", part);
	record_and_replay(e, UMM_EVICT_S3FIFO, "s3fifo", part);
}

/* What a CPU takes leaves in the replay, too: it makes room, and is no eviction. */
static void what_a_cpu_takes_leaves_the_replay(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * UMM_BLOCK_PAGES);
	char *p = env_alloc(e, 3 * BLOCK);
	struct sim_result result;
	struct trace trace;

	fill(p, 3 * UMM_BLOCK_PAGES, 1);
	env_mark(e);
	recording_begin(0);
	to_device(e, ref, p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	to_device(e, ref, p + BLOCK, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	assert_int_equal(umm_migrate_to_system(e->ctx, p, BLOCK), UMM_BLOCK_PAGES);
	to_device(e, ref, p + 2 * BLOCK, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	recording_end(&trace);
	assert_int_equal(trace.seen.misses, 3);
	assert_int_equal(trace.seen.bytes_out, BLOCK);
	assert_int_equal(sim_replay(&trace, &order_lru, trace.frames, &result), 0);
	assert_int_equal(result.misses, 3);
	assert_int_equal(result.evictions, 0);
	assert_delta(e, UMM_COUNT_EVICTIONS, 0);
	trace_fini(&trace);
}

/* A device uses blocks by turns; of what it misses it says that it used it, too, or does not. */
static void loop_of_uses(struct env *e, uint32_t nblocks, bool tells, struct trace *trace)
{
	struct umm_devmem_policy policy = { .size = sizeof(policy), .order = UMM_EVICT_LRU };
	struct ref_device *ref = env_device(e, 4 * UMM_BLOCK_PAGES);
	char *p = env_alloc(e, nblocks * BLOCK), *at;
	bool there;

	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
	fill(p, nblocks * UMM_BLOCK_PAGES, 1);
	recording_begin(0);
	for (unsigned i = 0; i < 10 * nblocks; i++) {
		at = p + i % nblocks * BLOCK;
		there = state_of(e, at) == env_home(e);
		if (!there)
			to_device(e, ref, at, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
		if (there || tells)
			umm_devmem_touch(ref->mem, (uintptr_t)at, BLOCK);
	}
	recording_end(trace);
	env_device_gone(e, ref);
	assert_int_equal(umm_free(e->ctx, p), 0);
}

static void check_uses(struct env *e, uint32_t nblocks, bool tells, uint64_t misses)
{
	struct sim_result result;
	struct trace trace;

	loop_of_uses(e, nblocks, tells, &trace);
	assert_int_equal(sim_replay(&trace, &order_lru, trace.frames, &result), 0);
	assert_int_equal(trace.seen.uses, 10 * nblocks);
	assert_int_equal(result.uses, 10 * nblocks);
	assert_int_equal(result.misses, misses);
	trace_fini(&trace);
}

/* Six blocks by turns in room for four are missed each time; of three, each once. */
static void uses_of_a_device_are_counted_once(struct env *e)
{
	check_uses(e, 6, false, 60);
	check_uses(e, 6, true, 60);
	check_uses(e, 3, false, 3);
	check_uses(e, 3, true, 3);
}

/* What finds no room is missed, and no hit: one request of four blocks, in room for one. */
static void what_finds_no_room_is_missed(struct env *e)
{
	struct ref_device *ref = env_device(e, 4 * UMM_BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);
	struct sim_result result;
	struct trace trace;

	fill(p, 4 * UMM_BLOCK_PAGES, 1);
	recording_begin(0);
	to_device(e, ref, p, 4 * UMM_BLOCK_PAGES, 4 * UMM_BLOCK_PAGES);
	recording_end(&trace);
	assert_int_equal(sim_replay(&trace, &order_lru, trace.frames, &result), 0);
	assert_int_equal(result.uses, 4);
	assert_int_equal(result.misses, 4);
	assert_int_equal(result.hits, 0);
	assert_int_equal(sim_replay(&trace, &order_lru, UMM_BLOCK_PAGES, &result), 0);
	assert_int_equal(result.uses, 4);
	assert_int_equal(result.misses, 4);
	assert_int_equal(result.hits, 0);
	assert_int_equal(result.bytes_in, BLOCK);
	assert_int_equal(sim_optimum(&trace, UMM_BLOCK_PAGES, &result), 0);
	assert_int_equal(result.misses, 4);
	trace_fini(&trace);
}

/* 16 TiB and 128: all that comes stays. */
static void recordings_replay_in_memories_of_terabytes(struct env *e)
{
	struct sim_result result;
	struct trace trace;

	loop_of_uses(e, 6, false, &trace);
	for (unsigned o = 0; o < NR_ORDERS; o++) {
		assert_int_equal(sim_replay(&trace, orders[o], UINT64_C(1) << (o % 2 ? 32 : 35),
					    &result),
				 0);
		assert_int_equal(result.misses, 6);
		assert_int_equal(result.evictions, 0);
	}
	assert_int_equal(sim_optimum(&trace, UINT64_C(1) << 35, &result), 0);
	assert_int_equal(result.misses, 6);
	trace_fini(&trace);
}

static void misses_of_a_cpu_are_recorded(struct env *e)
{
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct trace trace;

	fill(p, 8, 1);
	to_device(e, ref, p, 8, 8);
	env_mark(e);
	recording_begin(0);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 1);
	assert_filled(p, 8, 1);
	recording_end(&trace);
	assert_true(trace.cpu_misses > 0);
	assert_int_equal(trace.cpu_misses, env_delta(e, UMM_COUNT_FAULT_DEVICE));
	trace_fini(&trace);
}

/* Where no device says what it uses, what a CPU missed is what a program used of its memory. */
static void what_a_cpu_missed_replays_as_uses_of_blocks(struct env *e)
{
	static const unsigned block[] = { 1, 0, 0, 2, 1 };
	static const uint32_t uses[] = { 1, 0, 2, 1 };
	struct ref_device *ref = env_device(e, 5);
	char *p = env_alloc_small(e, 3 * BLOCK);
	struct trace trace, misses;

	fill(p, 3 * UMM_BLOCK_PAGES, 1);
	recording_begin(0);
	for (unsigned i = 0; i < 5; i++)
		to_device(e, ref, p + block[i] * BLOCK + i * PAGE, 1, 1);
	for (unsigned i = 0; i < 5; i++)
		(void)*(volatile const char *)(p + block[i] * BLOCK + i * PAGE);
	recording_end(&trace);
	assert_false(record_device_tells(&trace));
	assert_int_equal(record_misses(&trace, &misses), 0);
	assert_null(misses.step);
	assert_int_equal(misses.nblocks, 3);
	assert_int_equal(misses.n, 4);
	assert_memory_equal(misses.block, uses, sizeof(uses));
	trace_fini(&misses);
	trace_fini(&trace);
	recording_begin(0);
	to_device(e, ref, p, 1, 1);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 1);
	recording_end(&trace);
	assert_true(record_device_tells(&trace));
	trace_fini(&trace);
}

/* All goes to the device, for a CPU to miss. */
static void to_device_again(struct env *e, struct ref_device *ref, char *p,
			    enum umm_readahead readahead)
{
	struct umm_span span = { (uintptr_t)p, WALK * PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD,
				     .readahead = readahead };

	to_system(e, p, WALK, (long)count_state(e, p, WALK, env_home(e)));
	to_device(e, ref, p, WALK, WALK);
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	env_mark(e);
}

/* Faults of a CPU that goes over pages of a device in steps; nothing comes but with one. */
static uint64_t walk(struct env *e, struct ref_device *ref, char *p, size_t step,
		     enum umm_readahead readahead)
{
	uint64_t faults;

	to_device_again(e, ref, p, readahead);
	hook_arm_all(HOOK_READAHEAD, p, WALK);
	for (size_t i = 0; i < WALK; i += step)
		(void)*(volatile const char *)(p + i * PAGE);
	faults = env_delta(e, UMM_COUNT_FAULT_DEVICE);
	if (readahead != UMM_READAHEAD_OFF)
		assert_true(hook_stopped());
	hook_go(HOOK_READAHEAD);
	return faults;
}

/* A walk that was recorded without prefetch says what is left of it with prefetch. */
static void check_walk(struct env *e, size_t step)
{
	struct ref_device *ref = env_device(e, WALK);
	char *p = env_alloc_small(e, WALK * PAGE);
	struct sim_coverage out;
	struct trace trace;
	uint64_t faults;

	fill(p, WALK, 1);
	recording_begin(0);
	faults = walk(e, ref, p, step, UMM_READAHEAD_OFF);
	recording_end(&trace);
	assert_int_equal(trace.cpu_misses, faults);
	assert_int_equal(faults, (WALK + step - 1) / step);
	assert_int_equal(sim_coverage_of(&ahead_off, &trace, true, &out), 0);
	assert_int_equal(out.faults, faults);
	assert_int_equal(sim_coverage_of(&ahead_stream, &trace, false, &out), 0);
	assert_near(walk(e, ref, p, step, UMM_READAHEAD_STREAM), out.faults);
	assert_true(out.faults * 5 < faults);
	trace_fini(&trace);
}

static void recorded_misses_say_what_prefetch_leaves(struct env *e)
{
	check_walk(e, 1);
}

static void recorded_strides_say_what_prefetch_leaves(struct env *e)
{
	check_walk(e, 5);
}

/* Likewise several times, and threads bring what they can. */
static uint64_t walks(struct env *e, struct ref_device *ref, char *p, unsigned rounds,
		      enum umm_readahead readahead)
{
	uint64_t faults = 0;

	for (unsigned round = 0; round < rounds; round++) {
		to_device_again(e, ref, p, readahead);
		for (size_t i = 0; i < WALK; i++)
			(void)*(volatile const char *)(p + i * PAGE);
		faults += env_delta(e, UMM_COUNT_FAULT_DEVICE);
	}
	return faults;
}

/* No more is left than where nothing comes but with a fault; less, as threads are fast. */
static void check_left(const struct ahead_ops *ops, const struct trace *trace, uint64_t faults)
{
	struct sim_coverage least, most;

	assert_int_equal(sim_coverage_of(ops, trace, false, &least), 0);
	assert_int_equal(sim_coverage_of(ops, trace, true, &most), 0);
	assert_true(faults * 100 <= least.faults * 105);
	assert_true(most.faults <= least.faults);
	assert_true(least.faults * 5 < trace->cpu_misses);
	assert_int_equal(least.wasted, 0);
	assert_int_equal(most.wasted, 0);
}

/* Each time all goes to the device again, so each time it is missed, and comes along, again. */
static void walks_again_and_again_say_what_prefetch_leaves(struct env *e)
{
	struct ref_device *ref = env_device(e, WALK);
	char *p = env_alloc_small(e, WALK * PAGE);
	struct sim_coverage out;
	struct trace trace;

	fill(p, WALK, 1);
	recording_begin(0);
	assert_int_equal(walks(e, ref, p, 4, UMM_READAHEAD_OFF), 4 * WALK);
	recording_end(&trace);
	assert_int_equal(trace.cpu_misses, 4 * WALK);
	assert_int_equal(sim_coverage_of(&ahead_off, &trace, true, &out), 0);
	assert_int_equal(out.faults, 4 * WALK);
	check_left(&ahead_stream, &trace, walks(e, ref, p, 4, UMM_READAHEAD_STREAM));
	check_left(&ahead_density, &trace, walks(e, ref, p, 4, UMM_READAHEAD_DENSITY));
	trace_fini(&trace);
}

static void recording_is_bounded_and_says_what_is_missing(struct env *e)
{
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	struct trace trace;
	struct stat stat_of;

	fill(p, UMM_BLOCK_PAGES, 1);
	recording_begin(8);
	to_device(e, ref, p, 1, 1);
	for (unsigned i = 0; i < 100; i++)
		umm_devmem_touch(ref->mem, (uintptr_t)p, 1);
	assert_int_equal(stat(path, &stat_of), 0);
	assert_int_equal(stat_of.st_size, sizeof(struct record_head) + 8 * sizeof(uint64_t));
	recording_end(&trace);
	/* A memory, room, an arrival, a move, and uses. */
	assert_int_equal(trace.lost, 104 - 8);
	trace_fini(&trace);
}

static void recordings_are_refused_that_cannot_be(struct env *e)
{
	char long_ago[] = "/tmp/umm-no-such-directory/trace";

	(void)e;
	assert_int_equal(umm_trace("", 0), -EINVAL);
	assert_int_equal(umm_trace("/tmp/x", ((size_t)1 << 30) + 1), -EINVAL);
	assert_int_equal(umm_trace("/tmp", 0), -EEXIST);
	assert_int_equal(umm_trace(long_ago, 0), -ENOENT);
	recording_begin(8);
	assert_int_equal(umm_trace("/tmp/umm-second-trace", 8), -EBUSY);
	assert_int_equal(access("/tmp/umm-second-trace", F_OK), -1);
	assert_int_equal(umm_trace(NULL, 0), 0);
	assert_int_equal(umm_trace(NULL, 0), 0);
	unlink(path);
}

static void a_forked_child_records_nothing(struct env *e)
{
	struct record_head head;
	FILE *file;
	int status;
	pid_t pid;

	(void)e;
	recording_begin(64);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(umm_trace(NULL, 0) || access(path, F_OK) ? 1 : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* The parent's recording goes on. */
	assert_int_equal(umm_trace(path, 0), -EBUSY);
	assert_int_equal(umm_trace(NULL, 0), 0);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fread(&head, sizeof(head), 1, file), 1);
	assert_int_equal(head.room, 64);
	fclose(file);
	unlink(path);
}

static void patch(long at, const void *bytes, size_t len)
{
	FILE *file = fopen(path, "r+e");

	assert_non_null(file);
	assert_int_equal(fseek(file, at, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, len, 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

static void assert_refused(const char *words)
{
	char why[128] = "";
	struct trace trace;

	assert_int_equal(reads(&trace, why, sizeof(why)), -EINVAL);
	if (!strstr(why, words))
		fail_msg("'%s' does not say '%s'", why, words);
}

static void damaged_files_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	const uint64_t none = UINT64_MAX, old = 0, many = UINT64_C(1) << 60;
	const uint32_t other = 1, mine = RECORD_VERSION;
	struct record_head head;
	uint64_t second;

	fill(p, UMM_BLOCK_PAGES, 1);
	recording_begin(16);
	to_device(e, ref, p, 1, 1);
	assert_int_equal(umm_trace(NULL, 0), 0);
	patch(offsetof(struct record_head, version), &other, sizeof(other));
	assert_refused("version 1");
	patch(offsetof(struct record_head, version), &mine, sizeof(mine));
	second = record_pack(RECORD_ARRIVE, 0, (uintptr_t)p / PAGE);
	patch(sizeof(head) + sizeof(second), &none, sizeof(none));
	assert_refused("event 1 is corrupt");
	patch(sizeof(head) + sizeof(second), &second, sizeof(second));
	patch(offsetof(struct record_head, room), &many, sizeof(many));
	assert_refused("head is corrupt");
	patch(offsetof(struct record_head, room), &(uint64_t){ 16 }, sizeof(many));
	patch(offsetof(struct record_head, n), &old, sizeof(old));
	assert_refused("nothing came");
	patch(offsetof(struct record_head, n), &(uint64_t){ 3 }, sizeof(old));
	assert_int_equal(truncate(path, sizeof(head) + 12), 0);
	assert_refused("cut off");
	assert_int_equal(truncate(path, 12), 0);
	assert_refused("not even its head");
	unlink(path);
}

static const struct test_case cases[] = {
	TEST(ONCE, whole_blocks_replay_as_they_were),
	TEST(ONCE, parts_of_blocks_replay_as_they_were),
	TEST(ONCE, what_a_cpu_takes_leaves_the_replay),
	TEST(ONCE, uses_of_a_device_are_counted_once),
	TEST(ONCE, what_finds_no_room_is_missed),
	TEST(ONCE, recordings_replay_in_memories_of_terabytes),
	TEST(ONCE, misses_of_a_cpu_are_recorded),
	TEST(ONCE, what_a_cpu_missed_replays_as_uses_of_blocks),
	TEST(ONCE, recorded_misses_say_what_prefetch_leaves),
	TEST(ONCE, recorded_strides_say_what_prefetch_leaves),
	TEST(ONCE, walks_again_and_again_say_what_prefetch_leaves),
	TEST(ONCE, recording_is_bounded_and_says_what_is_missing),
	TEST(ONCE, recordings_are_refused_that_cannot_be),
	TEST(ONCE, a_forked_child_records_nothing),
	TEST(ONCE, damaged_files_are_refused),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("trace", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
