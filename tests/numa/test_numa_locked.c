/* SPDX-License-Identifier: MIT */
/*
 * Locked memory: a part of it that the program locks (mlock()), and all that there is or will
 * be (mlockall()), which is also what the library has reserved. Pages go where they are
 * asked to, nothing is lost, and what is only reserved takes no memory.
 */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device.h"

#define NPAGES	 1024
#define LARGE_KB (96ul << 10) /* the library's windows are larger, and nothing else is */

static long to_node(struct rig *rig, void *addr, size_t npages)
{
	return umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), addr, npages * PAGE);
}

static char *alloc_filled(struct rig *rig, unsigned seed)
{
	void *addr;

	assert_int_equal(umm_alloc(rig->ctx, NPAGES * PAGE, 0, &addr), 0);
	fill(addr, NPAGES, seed);
	return addr;
}

/* Not by the C library's function: that of sanitizers does nothing. */
static void lock(void *addr, size_t npages)
{
	if (syscall(SYS_mlock, addr, npages * PAGE))
		rig_skip("mlock: %s", strerror(errno));
}

static void lock_all(int flags)
{
	struct rlimit limit;

	if (RIG_SANITIZED)
		rig_skip("sanitizers have more memory than can be locked");
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (geteuid() && limit.rlim_cur != RLIM_INFINITY)
		rig_skip("not all there is may be locked (ulimit -l)");
	if (syscall(SYS_mlockall, flags))
		rig_skip("mlockall: %s", strerror(errno));
}

static void unlock_all(void)
{
	assert_int_equal(syscall(SYS_munlockall), 0);
}

/* Of mappings that are larger than any of the program's own: what they have in memory. */
static unsigned long large_resident_kb(void)
{
	unsigned long size = 0, resident, sum = 0;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[512];

	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		sscanf(line, "Size: %lu", &size);
		if (sscanf(line, "Rss: %lu", &resident) == 1 && size >= LARGE_KB)
			sum += resident;
	}
	fclose(smaps);
	return sum;
}

/* ---- mlock() ---------------------------------------------------------------------------- */

static void locked_memory_goes_to_the_node_and_stays_one_mapping(void **state)
{
	struct rig *rig = *state;
	struct umm_probe_info info = { .size = sizeof(info) };
	char *p = alloc_filled(rig, 1), *moved = p;

	assert_int_equal(umm_probe(&info), 0);
	lock(p, NPAGES);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_on_node(p, NPAGES, umm_numa_node(rig->numa));
	assert_filled(p, NPAGES, 1);
	/* That takes one mapping, which without UFFDIO_MOVE there is not, locked or not. */
	if (info.kernel_features & UMM_KERNEL_MOVE)
		moved = mremap(p, NPAGES * PAGE, 2 * NPAGES * PAGE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(moved, MAP_FAILED);
	assert_filled(moved, NPAGES, 1);
	assert_int_equal(umm_migrate_to_system(rig->ctx, moved, NPAGES * PAGE), NPAGES);
	assert_filled(moved, NPAGES, 1);
}

static void memory_locked_on_the_node_comes_home_and_goes_again(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_filled(rig, 2);

	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	lock(p, NPAGES);
	assert_filled(p, NPAGES, 2);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	assert_filled(p, NPAGES, 2);
	lock(p, NPAGES);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_filled(p, NPAGES, 2);
}

static void only_blocks_that_migrate_lose_their_lock(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_filled(rig, 3);

	lock(p, NPAGES);
	assert_int_equal(to_node(rig, p, 8), 8);
	assert_int_equal(syscall(SYS_msync, p, PAGE, MS_ASYNC | MS_INVALIDATE), 0);
	/* The kernel refuses this of locked memory. */
	assert_int_equal(syscall(SYS_msync, p + BLOCK, BLOCK, MS_ASYNC | MS_INVALIDATE), -1);
	assert_int_equal(errno, EBUSY);
	assert_filled(p, NPAGES, 3);
}

/* ---- mlockall() ------------------------------------------------------------------------- */

/* Pages are on the node when everything is locked, which fills the places of their frames. */
static void everything_locked_at_once(struct rig *rig)
{
	char *p = alloc_filled(rig, 4);

	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	rig_log_clear();
	lock_all(MCL_CURRENT);
	assert_filled(p, NPAGES, 4);
	umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE);
	for (unsigned i = 0; i < 2; i++) {
		assert_filled(p, NPAGES, 4);
		assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
		assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	}
	assert_filled(p, NPAGES, 4);
	assert_int_equal(large_resident_kb(), 0);
	assert_not_logged("was gone");
	unlock_all();
}

static void everything_locked_at_once_goes_on_moving(void **state)
{
	everything_locked_at_once(*state);
}

static void everything_locked_at_once_goes_on_moving_to_private_memory(void **state)
{
	everything_locked_at_once(*state);
}

static void what_will_be_locked_reserves_no_memory_and_moves(void **state)
{
	struct umm_numa_options options = { .size = sizeof(options), .node = UMM_NUMA_FAR };
	struct rig *outer = *state, rig = { 0 };
	char *p;

	options.bytes = 64 * BLOCK;
	if (outer->nodes.info[outer->nodes.count - 1].total_bytes < options.bytes)
		rig_skip("the node is too small");
	lock_all(MCL_CURRENT | MCL_FUTURE);
	assert_int_equal(umm_ctx_create(NULL, &rig.ctx), 0);
	assert_int_equal(umm_numa_create(rig.ctx, &options, &rig.numa), 0);
	assert_int_equal(large_resident_kb(), 0);
	p = alloc_filled(&rig, 5);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(to_node(&rig, p, NPAGES), NPAGES);
		assert_on_node(p, NPAGES, umm_numa_node(rig.numa));
		assert_filled(p, NPAGES, 5);
		assert_int_equal(umm_migrate_to_system(rig.ctx, p, NPAGES * PAGE), NPAGES);
		assert_filled(p, NPAGES, 5);
	}
	assert_int_equal(large_resident_kb(), 0);
	unlock_all();
	umm_numa_destroy(rig.numa);
	umm_ctx_put(rig.ctx);
}

/* Frames that have memory. */
static size_t frames_resident(struct rig *rig)
{
	const struct frames *frames = &rig->numa->frames;
	unsigned char there;
	size_t n = 0;

	for (uint32_t f = 0; f < frames->nframes; f++) {
		assert_int_equal(mincore(frames_at(frames, f), PAGE, &there), 0);
		n += there & 1;
	}
	return n;
}

static void pool_that_was_given_back_is_not_filled_by_a_lock(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_filled(rig, 6);

	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	assert_true(frames_resident(rig) >= NPAGES);
	assert_true(umm_devmem_trim(umm_numa_devmem(rig->numa)) >= NPAGES);
	assert_int_equal(frames_resident(rig), 0);
	lock_all(MCL_CURRENT);
	assert_int_equal(frames_resident(rig), 0);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_int_equal(frames_resident(rig), 0);
	assert_filled(p, NPAGES, 6);
	unlock_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(locked_memory_goes_to_the_node_and_stays_one_mapping),
		RIG_TEST(memory_locked_on_the_node_comes_home_and_goes_again),
		RIG_TEST(only_blocks_that_migrate_lose_their_lock),
		RIG_TEST(everything_locked_at_once_goes_on_moving),
		RIG_TEST_PRIVATE(everything_locked_at_once_goes_on_moving_to_private_memory),
		RIG_TEST(what_will_be_locked_reserves_no_memory_and_moves),
		RIG_TEST(pool_that_was_given_back_is_not_filled_by_a_lock),
	};

	return cmocka_run_group_tests_name("numa_locked", tests, NULL, NULL);
}
