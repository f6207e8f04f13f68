/* SPDX-License-Identifier: MIT */
/*
 * What the process may have of a node's memory, and what it is told when that is no more: its
 * cpuset, its memory cgroup, the node's own size. Whatever happens, pages keep their data.
 *
 * Most of it takes root; what fills a node up takes a machine where nobody else is, which the
 * guest of tests/guest says that it is (UMM_TEST_GUEST).
 */
#include "rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cgroup.h"
#include "device.h"
#include "limit.h"

#define MIB	       ((size_t)1 << 20)
#define POOL_PAGES     (8 * 512)
#define MODE_PREFERRED 1

static char *alloc_filled(struct rig *rig, size_t npages, unsigned seed)
{
	void *addr;

	assert_int_equal(umm_alloc(rig->ctx, npages * PAGE, 0, &addr), 0);
	fill(addr, npages, seed);
	return addr;
}

static long to_node(struct rig *rig, void *addr, size_t npages)
{
	return umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), addr, npages * PAGE);
}

static uint64_t on_device(struct rig *rig)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(rig->ctx, &stats), 0);
	return stats.device_pages;
}

/* ---- cpusets ------------------------------------------------------------------------ */

/* This process, on all nodes but the farthest. */
static void cpuset_enter(struct rig *rig, struct cgroup *group)
{
	char mems[256] = "";
	size_t len = 0;

	rig_need_nodes(rig, 2);
	if (!cgroup_create(group, "cpuset"))
		rig_skip("no cpuset can be made: %s", strerror(errno));
	for (unsigned i = 0; i + 1 < rig->nodes.count; i++)
		len += (size_t)snprintf(mems + len, sizeof(mems) - len, "%s%d", len ? "," : "",
					rig->nodes.info[i].node);
	assert_true(cgroup_write(group, "cpuset.mems", mems));
	if (!group->unified)
		assert_true(cgroup_write(group, "cpuset.cpus", "0"));
	assert_true(cgroup_enter(group));
}

static void node_outside_of_the_cpuset_is_refused(void **state)
{
	struct umm_numa_options options = { .size = sizeof(options), .bytes = BLOCK };
	struct rig *rig = *state;
	struct umm_numa *numa = NULL;
	struct cgroup group;
	int far, ret;

	far = options.node = umm_numa_node(rig->numa);
	cpuset_enter(rig, &group);
	rig_log_clear();
	ret = umm_numa_create(rig->ctx, &options, &numa);
	options.node = UMM_NUMA_FAR;
	if (ret == -ENODEV)
		assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), 0);
	cgroup_leave(&group);
	assert_int_equal(ret, -ENODEV);
	assert_logged("is outside of this process's cpuset: add it to cpuset.mems");
	assert_int_not_equal(umm_numa_node(numa), far);
	umm_numa_destroy(numa);
}

static void cpuset_that_shrinks_keeps_pages_away_until_it_grows(void **state)
{
	struct rig *rig = *state;
	char *there = alloc_filled(rig, 512, 1), *here = alloc_filled(rig, 1024, 2);
	int far = umm_numa_node(rig->numa);
	struct cgroup group;

	assert_int_equal(to_node(rig, there, 512), 512);
	cpuset_enter(rig, &group);
	rig_log_clear();
	assert_true(to_node(rig, here, 1024) <= 0);
	assert_filled(there, 512, 1);
	assert_filled(here, 1024, 2);
	for (unsigned i = 0; i < 1024; i++)
		assert_int_not_equal(node_of(here + i * PAGE), far);
	cgroup_leave(&group);
	assert_logged("has left this process's cpuset");
	/* A memory that had no room is asked again after a while. */
	wait_until(to_node(rig, here, 1024) >= 0 && to_node(rig, there, 512) >= 0 &&
		   on_device(rig) == 1536);
	assert_int_equal(umm_migrate_to_system(rig->ctx, there, BLOCK), 512);
	assert_int_equal(to_node(rig, there, 512), 512);
	assert_on_node(here, 1024, far);
	assert_on_node(there, 512, far);
	assert_filled(there, 512, 1);
	assert_filled(here, 1024, 2);
}

/* ---- memory cgroups ------------------------------------------------------------------- */

static const char *limit_file(const struct cgroup *group)
{
	return group->unified ? "memory.max" : "memory.limit_in_bytes";
}

/* Who is in it may have so much more; what there is already stays charged elsewhere. */
static void memory_create(struct cgroup *group, size_t bytes)
{
	char text[32];

	if (RIG_SANITIZED)
		rig_skip("a sanitizer's own memory counts for the limit, too");
	if (!cgroup_create(group, "memory"))
		rig_skip("no memory cgroup can be made: %s", strerror(errno));
	snprintf(text, sizeof(text), "%zu", bytes);
	assert_true(cgroup_write(group, limit_file(group), text));
	/* Else what does not fit may be swapped out instead. */
	cgroup_write(group, group->unified ? "memory.swap.max" : "memory.swappiness", "0");
}

static void memory_limit_stops_the_pool_not_the_process(void **state)
{
	struct rig *rig = *state;
	struct cgroup group;
	char *data;
	long moved;

	memory_create(&group, 40 * MIB);
	assert_true(cgroup_enter(&group));
	data = alloc_filled(rig, POOL_PAGES, 3);
	rig_log_clear();
	moved = to_node(rig, data, POOL_PAGES);
	assert_filled(data, POOL_PAGES, 3);
	/* Some went, not all; and those come home while the pool keeps its frames. */
	assert_in_range(moved, 512, POOL_PAGES - 1);
	assert_int_equal(on_device(rig), moved);
	assert_logged("a memory cgroup leaves no room for more");
	assert_logged(limit_file(&group));
	assert_int_equal(umm_migrate_to_system(rig->ctx, data, POOL_PAGES * PAGE), moved);
	assert_filled(data, POOL_PAGES, 3);
	assert_true(cgroup_write(&group, limit_file(&group), "1G"));
	wait_until(to_node(rig, data, POOL_PAGES) >= 0 && on_device(rig) == POOL_PAGES);
	assert_filled(data, POOL_PAGES, 3);
	assert_int_equal(umm_free(rig->ctx, data), 0);
	cgroup_leave(&group);
}

static void limit_of_the_group_above_counts_too(void **state)
{
	struct rig *rig = *state;
	struct cgroup group, inside;
	char *data;
	long moved;

	memory_create(&group, 20 * MIB);
	assert_true(cgroup_create_inside(&group, "memory", &inside));
	assert_true(cgroup_enter(&inside));
	data = alloc_filled(rig, POOL_PAGES / 2, 4);
	rig_log_clear();
	moved = to_node(rig, data, POOL_PAGES / 2);
	assert_true(moved < POOL_PAGES / 2);
	assert_filled(data, POOL_PAGES / 2, 4);
	cgroup_leave(&inside);
	cgroup_leave(&group);
	assert_logged("a memory cgroup leaves no room for more");
}

/* A context of its own in the group, with a pool that has room for all of it. */
static void pool_open(struct rig *rig, size_t npages, size_t frame_cache)
{
	struct umm_ctx_options ctx_options = { .size = sizeof(ctx_options),
					       .frame_cache = frame_cache,
					       .readahead = UMM_READAHEAD_OFF };
	struct umm_numa_options options = { .size = sizeof(options),
					    .node = umm_numa_node(rig->numa),
					    .bytes = npages * PAGE };

	umm_numa_destroy(rig->numa);
	rig->numa = NULL;
	umm_ctx_put(rig->ctx);
	rig->ctx = NULL;
	assert_int_equal(umm_ctx_create(&ctx_options, &rig->ctx), 0);
	assert_int_equal(umm_numa_create(rig->ctx, &options, &rig->numa), 0);
}

static char *grow(size_t len)
{
	char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	memset(at, 1, len);
	return at;
}

#define GROWN_PAGES (16 * 512)

/* A first block is there; what the program takes next is not forgotten when more follows. */
static void program_that_grows_leaves_less_for_the_pool(void **state)
{
	struct rig *rig = *state;
	struct cgroup group;
	char *data, *grown;
	long moved;

	memory_create(&group, 150 * MIB);
	assert_true(cgroup_enter(&group));
	pool_open(rig, GROWN_PAGES, BLOCK);
	data = alloc_filled(rig, GROWN_PAGES, 6);
	assert_int_equal(to_node(rig, data, 512), 512);
	grown = grow(96 * MIB);
	rig_log_clear();
	moved = to_node(rig, data, GROWN_PAGES);
	assert_filled(data, GROWN_PAGES, 6);
	assert_true(moved < GROWN_PAGES - 512);
	assert_logged("a memory cgroup leaves no room for more");
	assert_logged(limit_file(&group));
	moved = (long)on_device(rig);
	assert_int_equal(umm_migrate_to_system(rig->ctx, data, GROWN_PAGES * PAGE), moved);
	assert_filled(data, GROWN_PAGES, 6);
	munmap(grown, 96 * MIB);
	assert_int_equal(umm_free(rig->ctx, data), 0);
	cgroup_leave(&group);
}

static bool kernel_moves(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	assert_int_equal(umm_probe(&info), 0);
	return info.kernel_features & UMM_KERNEL_MOVE;
}

/* A limit that cannot be asked for may be near. */
static void without_descriptors_nothing_is_taken(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_filled(rig, 512, 3), file[LIMIT_FILE];
	struct rlimit none, before;
	struct umm_pin *pin;

	/* Managed by now: an older kernel would want a descriptor for that, too. */
	assert_int_equal(umm_pin(rig->ctx, (uintptr_t)p, 512, 0, &pin), 0);
	umm_unpin(pin);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	rig_log_clear();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(limit_headroom(1, file), 0);
	assert_false(limit_ask(PAGE, 0, file));
	assert_true(to_node(rig, p, 512) <= 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_non_null(strstr(file, "'ulimit -n'"));
	assert_logged("'ulimit -n'");
	assert_int_equal(on_device(rig), 0);
	/* Frames that were refused are asked for again after a second. */
	wait_until(to_node(rig, p, 512) == 512 || on_device(rig) == 512);
	assert_filled(p, 512, 3);
}

/* Room for some of it only: as pages come home, the pool gives its frames back. */
static void pages_come_home_to_a_program_that_has_grown(void **state)
{
	struct rig *rig = *state;
	char *data, *grown, file[LIMIT_FILE];
	struct cgroup group;
	size_t len;

	memory_create(&group, 160 * MIB);
	assert_true(cgroup_enter(&group));
	pool_open(rig, GROWN_PAGES, BLOCK);
	data = alloc_filled(rig, GROWN_PAGES, 7);
	assert_int_equal(to_node(rig, data, GROWN_PAGES), GROWN_PAGES);
	len = limit_headroom(UINT64_MAX, file) - 20 * MIB;
	grown = grow(len);
	rig_log_clear();
	assert_int_equal(umm_migrate_to_system(rig->ctx, data, GROWN_PAGES * PAGE), GROWN_PAGES);
	assert_filled(data, GROWN_PAGES, 7);
	/* Else the program has had pages of its own all the time. */
	if (kernel_moves()) {
		assert_logged("leaves no room for pages that are to come home");
		assert_logged(limit_file(&group));
		assert_true(atomic_load(&rig->numa->frames.held) < GROWN_PAGES);
	}
	munmap(grown, len);
	assert_int_equal(umm_free(rig->ctx, data), 0);
	cgroup_leave(&group);
}

/* None at all: they stay, and come when there is some. */
static void pages_without_room_at_home_stay_on_the_node(void **state)
{
	struct rig *rig = *state;
	char *data, *grown, file[LIMIT_FILE];
	struct cgroup group;
	size_t len;

	if (!kernel_moves())
		rig_skip("without UFFDIO_MOVE it takes memory to leave pages where they are");
	memory_create(&group, 160 * MIB);
	assert_true(cgroup_enter(&group));
	pool_open(rig, GROWN_PAGES, BLOCK);
	data = alloc_filled(rig, GROWN_PAGES, 8);
	assert_int_equal(to_node(rig, data, GROWN_PAGES), GROWN_PAGES);
	len = limit_headroom(UINT64_MAX, file) - MIB / 2;
	grown = grow(len);
	rig_log_clear();
	/* But for a block, for which the recycled frames make room. */
	assert_true(umm_migrate_to_system(rig->ctx, data, GROWN_PAGES * PAGE) <= 512);
	assert_true(on_device(rig) >= GROWN_PAGES - 512);
	assert_filled(data, GROWN_PAGES, 8);
	assert_logged("leaves no room for pages that are to come home");
	assert_int_equal(umm_numa_offline(rig->numa), -EBUSY);
	assert_logged("pages did not come home");
	assert_filled(data, GROWN_PAGES, 8);
	munmap(grown, len);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_int_equal(on_device(rig), 0);
	assert_filled(data, GROWN_PAGES, 8);
	assert_int_equal(umm_free(rig->ctx, data), 0);
	cgroup_leave(&group);
}

static void frames_kept_for_reuse_are_few_where_there_is_a_limit(void **state)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	struct rig *rig = *state;
	struct cgroup group;
	char *data;

	memory_create(&group, 160 * MIB);
	assert_true(cgroup_enter(&group));
	pool_open(rig, GROWN_PAGES, 0);
	data = alloc_filled(rig, GROWN_PAGES, 9);
	assert_int_equal(to_node(rig, data, GROWN_PAGES), GROWN_PAGES);
	assert_int_equal(umm_ctx_stats(rig->ctx, &stats), 0);
	assert_in_range(stats.cached_bytes, 0, 160 * MIB / 16);
	assert_filled(data, GROWN_PAGES, 9);
	assert_int_equal(umm_free(rig->ctx, data), 0);
	cgroup_leave(&group);
}

static void what_others_were_allowed_is_not_there_twice(void **state)
{
	struct rig *rig = *state;
	char file[LIMIT_FILE];
	struct cgroup group;

	(void)rig;
	memory_create(&group, 64 * MIB);
	assert_true(cgroup_enter(&group));
	assert_true(limit_ask(20 * MIB, 0, file));
	assert_true(limit_ask(20 * MIB, 0, file));
	assert_false(limit_ask(40 * MIB, 0, file));
	assert_non_null(strstr(file, limit_file(&group)));
	assert_false(limit_ask(10 * MIB, 30 * MIB, file));
	limit_taken(20 * MIB);
	limit_taken(20 * MIB);
	assert_true(limit_ask(40 * MIB, 0, file));
	limit_taken(40 * MIB);
	cgroup_leave(&group);
}

/* ---- addresses -------------------------------------------------------------------------- */

static size_t addresses_used(void)
{
	unsigned long npages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu", &npages), 1);
	fclose(file);
	return npages * PAGE;
}

static void pool_without_addresses_is_said_to_have_none(void **state)
{
	struct umm_numa_options options = { .size = sizeof(options), .bytes = 200 * MIB };
	struct rig *rig = *state;
	struct rlimit old, limit;
	struct umm_numa *numa = NULL;
	int ret;

	options.node = umm_numa_node(rig->numa);
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	limit = old;
	limit.rlim_cur = addresses_used() + 64 * MIB;
	rig_log_clear();
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	ret = umm_numa_create(rig->ctx, &options, &numa);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(ret, -ENOMEM);
	assert_logged("there are no addresses for a pool of 200 MiB: raise 'ulimit -v'");
}

/* ---- a node that others fill ------------------------------------------------------------ */

/* All memory of the node that the kernel gives: what it first takes from elsewhere is the last. */
static char *ballast_load(int node, size_t *len)
{
	size_t room = 4096 * MIB;
	unsigned long mask[16] = { 0 };
	char *at = mmap(NULL, room, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	mask[node / 64] = 1ul << node % 64;
	assert_int_equal(syscall(SYS_mbind, at, room, MODE_PREFERRED, mask, 1024ul, 0), 0);
	for (*len = 0; *len < room && (!*len || node_of(at + *len - PAGE) == node); *len += MIB)
		assert_int_equal(madvise(at + *len, MIB, MADV_POPULATE_WRITE), 0);
	assert_int_equal(munmap(at + *len, room - *len), 0);
	return at;
}

static void node_that_fills_up_is_named_and_pages_stay(void **state)
{
	struct umm_numa_options options = { .size = sizeof(options), .bytes = 64 * MIB };
	struct rig *rig = *state;
	size_t npages = 64 * MIB / PAGE, len;
	int far = umm_numa_node(rig->numa);
	char *data, *ballast, text[64];
	long moved;

	rig_need_nodes(rig, 2);
	if (!getenv("UMM_TEST_GUEST"))
		rig_skip("it fills a node: in the guest of tests/guest only");
	umm_numa_destroy(rig->numa);
	options.node = far;
	assert_int_equal(umm_numa_create(rig->ctx, &options, &rig->numa), 0);
	data = alloc_filled(rig, npages, 5);
	ballast = ballast_load(far, &len);
	rig_log_clear();
	moved = to_node(rig, data, npages);
	assert_filled(data, npages, 5);
	assert_true(moved < (long)npages);
	assert_int_equal(on_device(rig), moved > 0 ? moved : 0);
	assert_true(rig_counts(rig->numa).frames_refused > 0);
	if (moved > 0)
		assert_on_node(data, (size_t)moved, far);
	snprintf(text, sizeof(text), "node %d is full after", far);
	assert_logged(text);
	assert_logged("Free memory there ('numactl -H'), or ask for a smaller pool");
	munmap(ballast, len);
	wait_until(to_node(rig, data, npages) >= 0 && on_device(rig) == npages);
	assert_on_node(data, npages, far);
	assert_filled(data, npages, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(node_outside_of_the_cpuset_is_refused),
		RIG_TEST(cpuset_that_shrinks_keeps_pages_away_until_it_grows),
		RIG_TEST(memory_limit_stops_the_pool_not_the_process),
		RIG_TEST(limit_of_the_group_above_counts_too),
		RIG_TEST(program_that_grows_leaves_less_for_the_pool),
		RIG_TEST(without_descriptors_nothing_is_taken),
		RIG_TEST(pages_come_home_to_a_program_that_has_grown),
		RIG_TEST(pages_without_room_at_home_stay_on_the_node),
		RIG_TEST(frames_kept_for_reuse_are_few_where_there_is_a_limit),
		RIG_TEST(what_others_were_allowed_is_not_there_twice),
		RIG_TEST(pool_without_addresses_is_said_to_have_none),
		RIG_TEST(node_that_fills_up_is_named_and_pages_stay),
	};

	return cmocka_run_group_tests_name("numa_limits", tests, NULL, NULL);
}
