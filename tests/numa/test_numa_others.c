/* SPDX-License-Identifier: MIT */
/*
 * Others' hands on pages that are on the node: their policies and migrations, pins, and memory
 * that the administrator removes. Pages keep their data, libumm says where they really are, and
 * the node is used again when that is possible.
 *
 * Memory is removed in the guest of tests/guest alone (UMM_TEST_GUEST), whose farthest node is one
 * DIMM that can be.
 */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device.h"
#include "sysfs.h"

#define NPAGES	       1024
#define MASK_BITS      1024ul
#define MODE_DEFAULT   0
#define MODE_PREFERRED 1
#define MODE_BIND      2
#define MOVE	       2 /* MPOL_MF_MOVE */
#define BLOCKS_MAX     64

struct mask {
	unsigned long word[MASK_BITS / 64];
};

static struct mask only(int node)
{
	struct mask mask = { { 0 } };

	mask.word[node / 64] = 1ul << node % 64;
	return mask;
}

static char *alloc_on_node(struct rig *rig, size_t npages, unsigned seed)
{
	void *addr;

	assert_int_equal(umm_alloc(rig->ctx, npages * PAGE, 0, &addr), 0);
	fill(addr, npages, seed);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), addr,
					       npages * PAGE),
			 npages);
	return addr;
}

static long to_node(struct rig *rig, void *addr, size_t npages)
{
	return umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), addr, npages * PAGE);
}

/* Frames that the kernel does not move back at once are left out for a second. */
static long goes_to_node(struct rig *rig, void *addr, size_t npages)
{
	long moved = -ENOSPC;

	wait_until(moved != -ENOSPC || (moved = to_node(rig, addr, npages)) != -ENOSPC);
	return moved;
}

static size_t pages_in_state(struct rig *rig, void *addr, size_t npages, enum umm_page_state state)
{
	struct umm_range_place sum = { .size = sizeof(sum) };

	assert_int_equal(umm_locate_range(rig->ctx, (uintptr_t)addr, npages * PAGE, &sum), 0);
	return sum.state[state];
}

/* libumm says of each page the node that the kernel does. */
static void assert_located(struct rig *rig, char *addr, size_t npages)
{
	struct umm_page_place *place = calloc(npages, sizeof(*place));

	assert_non_null(place);
	assert_int_equal(umm_locate(rig->ctx, (uintptr_t)addr, npages, place), 0);
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(place[i].node, node_of(addr + i * PAGE));
	free(place);
}

/* ---- policies and migrations ---------------------------------------------------------- */

static void pages_that_mbind_moves_are_said_to_be_there(void **state)
{
	struct rig *rig = *state;
	int near = rig->nodes.info[0].node, far = umm_numa_node(rig->numa);
	struct mask mask = only(near);
	char *p;

	rig_need_nodes(rig, 2);
	p = alloc_on_node(rig, NPAGES, 1);
	assert_on_node(p, NPAGES, far);
	assert_int_equal(
		syscall(SYS_mbind, p, NPAGES * PAGE, MODE_BIND, mask.word, MASK_BITS, MOVE), 0);
	assert_on_node(p, NPAGES, near);
	assert_located(rig, p, NPAGES);
	assert_int_equal(pages_in_state(rig, p, NPAGES, UMM_PAGE_COHERENT), NPAGES);
	assert_filled(p, NPAGES, 1);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	assert_filled(p, NPAGES, 1);
	assert_int_equal(syscall(SYS_mbind, p, NPAGES * PAGE, MODE_DEFAULT, NULL, 0ul, 0), 0);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_on_node(p, NPAGES, far);
	assert_filled(p, NPAGES, 1);
}

/* Frames come home as strays, and are looked at by a copy thread while they are asked for again. */
static void frames_that_others_moved_are_lent_again_at_once(void **state)
{
	struct rig *rig = *state;
	struct mask mask = only(rig->nodes.info[0].node);
	char *p;

	rig_need_nodes(rig, 2);
	p = alloc_on_node(rig, NPAGES, 6);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(syscall(SYS_mbind, p, NPAGES * PAGE, MODE_BIND, mask.word,
					 MASK_BITS, MOVE),
				 0);
		assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
		assert_int_equal(syscall(SYS_mbind, p, NPAGES * PAGE, MODE_DEFAULT, NULL, 0ul, 0),
				 0);
		assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
		assert_on_node(p, NPAGES, umm_numa_node(rig->numa));
		assert_filled(p, NPAGES, 6);
	}
}

/* As it was when the device was made: the other nodes' memory has come since. */
static void device_that_was_alone_hears_of_other_nodes(void **state)
{
	struct rig *rig = *state;
	struct mask mask = only(rig->nodes.info[0].node);
	char *p;

	rig_need_nodes(rig, 2);
	atomic_store(&rig->numa->frames.alone, true);
	atomic_store(&rig->numa->frames.alone_ns, 0);
	p = alloc_on_node(rig, NPAGES, 7);
	assert_int_equal(
		syscall(SYS_mbind, p, NPAGES * PAGE, MODE_BIND, mask.word, MASK_BITS, MOVE), 0);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	assert_int_equal(syscall(SYS_mbind, p, NPAGES * PAGE, MODE_DEFAULT, NULL, 0ul, 0), 0);
	wait_until(rig_counts(rig->numa).frames_checked >= NPAGES);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_on_node(p, NPAGES, umm_numa_node(rig->numa));
	assert_filled(p, NPAGES, 7);
}

static bool kernel_moves(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	assert_int_equal(umm_probe(&info), 0);
	return info.kernel_features & UMM_KERNEL_MOVE;
}

/* A frame stays where it is when it is moved into bound memory; the kernel makes pages there. */
static void bound_memory_goes_where_the_program_sends_it(void **state)
{
	struct rig *rig = *state;
	int near = rig->nodes.info[0].node;
	struct mask mask = only(near);
	void *addr;

	rig_need_nodes(rig, 2);
	assert_int_equal(umm_alloc(rig->ctx, NPAGES * PAGE, 0, &addr), 0);
	assert_int_equal(
		syscall(SYS_mbind, addr, NPAGES * PAGE, MODE_BIND, mask.word, MASK_BITS, 0), 0);
	fill(addr, NPAGES, 2);
	assert_int_equal(to_node(rig, addr, NPAGES), NPAGES);
	assert_filled(addr, NPAGES, 2);
	assert_located(rig, addr, NPAGES);
	if (kernel_moves())
		assert_on_node(addr, NPAGES, umm_numa_node(rig->numa));
	else
		assert_on_node(addr, NPAGES, near);
	assert_int_equal(umm_migrate_to_system(rig->ctx, addr, NPAGES * PAGE), NPAGES);
	assert_filled(addr, NPAGES, 2);
}

/* What migratepages(8) does, to pages in use and to frames that nobody uses. */
static void process_that_is_moved_off_the_node_goes_back(void **state)
{
	struct rig *rig = *state;
	int near = rig->nodes.info[0].node, far = umm_numa_node(rig->numa);
	struct mask from = only(far), to = only(near);
	struct umm_numa_counts counts;
	char *p;

	rig_need_nodes(rig, 2);
	p = alloc_on_node(rig, NPAGES, 3);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p + BLOCK, BLOCK), 512);
	wait_until(rig_counts(rig->numa).frames_checked >= 512);
	counts = rig_counts(rig->numa);
	assert_true(syscall(SYS_migrate_pages, 0, MASK_BITS, from.word, to.word) >= 0);
	assert_int_not_equal(node_of(p), far);
	assert_located(rig, p, NPAGES);
	assert_filled(p, NPAGES, 3);
	assert_int_equal(goes_to_node(rig, p + BLOCK, 512), 512);
	assert_on_node(p + BLOCK, 512, far);
	assert_true(rig_counts(rig->numa).frames_strayed > counts.frames_strayed);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, BLOCK), 512);
	assert_int_equal(goes_to_node(rig, p, 512), 512);
	assert_on_node(p, NPAGES, far);
	assert_filled(p, NPAGES, 3);
}

/* ---- holds ------------------------------------------------------------------------------ */

static void assert_held(struct rig *rig, char *p, size_t nheld, enum umm_page_state state)
{
	struct umm_range_place sum = { .size = sizeof(sum) };
	struct umm_page_place place[8];

	assert_int_equal(umm_locate(rig->ctx, (uintptr_t)p, 8, place), 0);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(!!(place[i].flags & UMM_PLACE_HELD), i < nheld);
		assert_int_equal(place[i].state, i < nheld ? state : place[i].state);
	}
	assert_int_equal(umm_locate_range(rig->ctx, (uintptr_t)p, NPAGES * PAGE, &sum), 0);
	assert_int_equal(sum.held, nheld);
}

static void pinned_pages_are_said_to_be_held_wherever_they_are(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_on_node(rig, NPAGES, 8);
	struct umm_pin *pin;

	assert_held(rig, p, 0, UMM_PAGE_COHERENT);
	assert_int_equal(umm_pin(rig->ctx, (uintptr_t)p, 4, UMM_PIN_WRITE, &pin), 0);
	assert_held(rig, p, 4, UMM_PAGE_COHERENT);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES - 4);
	assert_held(rig, p, 4, UMM_PAGE_COHERENT);
	umm_unpin(pin);
	assert_held(rig, p, 0, UMM_PAGE_COHERENT);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), 4);
	assert_int_equal(umm_pin(rig->ctx, (uintptr_t)p, 4, UMM_PIN_WRITE, &pin), 0);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES - 4);
	assert_held(rig, p, 4, UMM_PAGE_SYSTEM);
	umm_unpin(pin);
	assert_held(rig, p, 0, UMM_PAGE_SYSTEM);
	assert_filled(p, NPAGES, 8);
}

/* ---- devices that leave their node -------------------------------------------------------- */

/* Frames that have memory, by the kernel. */
static size_t frames_there(struct rig *rig)
{
	const struct frames *frames = &rig->numa->frames;
	size_t n = 0;

	for (uint32_t f = 0; f < frames->nframes; f++) {
		void *page = frames_at(frames, f);
		int status = -ENOENT;

		assert_int_equal(syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0), 0);
		n += status >= 0;
	}
	return n;
}

static void offline_leaves_no_frame_anywhere(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_on_node(rig, NPAGES, 1);

	assert_int_equal(umm_migrate_to_system(rig->ctx, p, 512 * PAGE), 512);
	assert_true(frames_there(rig) >= 512);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_int_equal(frames_there(rig), 0);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_numa_devmem(rig->numa), p, PAGE),
			 -ENODEV);
	assert_int_equal(frames_there(rig), 0);
	assert_filled(p, NPAGES, 1);
	assert_int_equal(umm_numa_online(rig->numa), 0);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_on_node(p, NPAGES, umm_numa_node(rig->numa));
	assert_filled(p, NPAGES, 1);
}

static void frames_that_the_program_has_are_said_to_be_left(void **state)
{
	struct rig *rig = *state;
	uint32_t frame;

	assert_int_equal(umm_devmem_alloc(umm_numa_devmem(rig->numa), 1, &frame), 0);
	rig_log_clear();
	assert_int_equal(umm_numa_offline(rig->numa), -EBUSY);
	assert_logged("the pool keeps 2 MiB of it");
	*frames_at(&rig->numa->frames, frame) = 1;
	umm_devmem_free(umm_numa_devmem(rig->numa), 1, &frame);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_int_equal(frames_there(rig), 0);
}

static void *go_offline(void *numa)
{
	return (void *)(intptr_t)umm_numa_offline(numa);
}

static void threads_may_go_offline_at_once(void **state)
{
	struct rig *rig = *state;
	char *p = alloc_on_node(rig, NPAGES, 1);
	pthread_t threads[4];
	void *ret;

	for (unsigned round = 0; round < 8; round++) {
		assert_true(to_node(rig, p, NPAGES) >= 0);
		assert_int_equal(pages_in_state(rig, p, NPAGES, UMM_PAGE_COHERENT), NPAGES);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, go_offline, rig->numa),
					 0);
		for (unsigned i = 0; i < 4; i++) {
			pthread_join(threads[i], &ret);
			assert_int_equal((intptr_t)ret, 0);
		}
		assert_filled(p, NPAGES, 1);
		assert_int_equal(umm_numa_online(rig->numa), 0);
	}
}

/* ---- memory that is removed --------------------------------------------------------------- */

/* The node's blocks of memory, by their files in /sys. */
struct blocks {
	unsigned count;
	char dir[BLOCKS_MAX][64];
};

static bool block_set(const char *dir, const char *state)
{
	char path[96];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/state", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, state, strlen(state)) > 0;
	close(fd);
	return done;
}

static struct blocks blocks_find(int node)
{
	struct blocks blocks = { 0 };
	const struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)) && blocks.count < BLOCKS_MAX)
		if (!strncmp(entry->d_name, "memory", 6) && entry->d_name[6] >= '0' &&
		    entry->d_name[6] <= '9')
			snprintf(blocks.dir[blocks.count++], sizeof(blocks.dir[0]),
				 "/sys/devices/system/memory/%.24s", entry->d_name);
	closedir(dir);
	return blocks;
}

static bool block_is_off(const char *dir)
{
	char path[96], state[16];

	snprintf(path, sizeof(path), "%s/state", dir);
	return !sysfs_read(path, state, sizeof(state)) && !strcmp(state, "offline");
}

/* All of the node's memory. The kernel may take several tries to move what is in use. */
static void node_remove(const struct blocks *blocks)
{
	for (unsigned i = 0; i < blocks->count; i++)
		wait_until(block_is_off(blocks->dir[i]) || block_set(blocks->dir[i], "offline"));
}

static void node_add(const struct blocks *blocks)
{
	for (unsigned i = 0; i < blocks->count; i++)
		assert_true(block_set(blocks->dir[i], "online_movable"));
}

static void need_removable(struct rig *rig, struct blocks *blocks)
{
	rig_need_nodes(rig, 2);
	if (!getenv("UMM_TEST_GUEST"))
		rig_skip("it removes memory: in the guest of tests/guest only");
	*blocks = blocks_find(umm_numa_node(rig->numa));
	assert_true(blocks->count > 0);
}

static void node_that_was_left_is_removed_and_used_again(void **state)
{
	struct umm_numa_options options = { .size = sizeof(options), .bytes = BLOCK };
	struct rig *rig = *state;
	int far = umm_numa_node(rig->numa);
	struct umm_numa *numa = NULL;
	struct blocks blocks;
	char *p;

	need_removable(rig, &blocks);
	p = alloc_on_node(rig, NPAGES, 5);
	assert_int_equal(umm_numa_offline(rig->numa), 0);
	assert_int_equal(pages_in_state(rig, p, NPAGES, UMM_PAGE_SYSTEM), NPAGES);
	assert_filled(p, NPAGES, 5);
	node_remove(&blocks);
	assert_filled(p, NPAGES, 5);
	options.node = far;
	rig_log_clear();
	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), -ENODEV);
	assert_logged("has no memory: choose one that has");
	assert_int_equal(umm_numa_online(rig->numa), -ENODEV);
	assert_true(to_node(rig, p, NPAGES) <= 0);
	assert_filled(p, NPAGES, 5);
	node_add(&blocks);
	assert_int_equal(umm_numa_online(rig->numa), 0);
	assert_int_equal(to_node(rig, p, NPAGES), NPAGES);
	assert_on_node(p, NPAGES, far);
	assert_filled(p, NPAGES, 5);
}

struct reader {
	const char *data;
	atomic_bool stop;
	atomic_uint rounds, wrong;
};

static void *read_on(void *arg)
{
	struct reader *reader = arg;

	while (!atomic_load(&reader->stop)) {
		for (size_t i = 0; i < NPAGES; i++)
			if (!page_is_filled(reader->data + i * PAGE, i, 6))
				atomic_fetch_add(&reader->wrong, 1);
		atomic_fetch_add(&reader->rounds, 1);
	}
	return NULL;
}

/* Nobody has told libumm: the kernel moves the frames away, under a thread that reads. */
static void node_that_is_removed_under_its_pages_loses_none(void **state)
{
	struct rig *rig = *state;
	int far = umm_numa_node(rig->numa);
	struct reader reader = { 0 };
	struct blocks blocks;
	pthread_t thread;
	char *p;

	need_removable(rig, &blocks);
	reader.data = p = alloc_on_node(rig, NPAGES, 6);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
	node_remove(&blocks);
	wait_until(atomic_load(&reader.rounds) > 1);
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(reader.wrong, 0);
	assert_int_equal(pages_in_state(rig, p, NPAGES, UMM_PAGE_COHERENT), NPAGES);
	assert_located(rig, p, NPAGES);
	assert_int_not_equal(node_of(p), far);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	assert_filled(p, NPAGES, 6);
	/* The node takes nothing now. */
	rig_log_clear();
	assert_true(to_node(rig, p, NPAGES) <= 0);
	assert_logged("has no memory any more");
	assert_filled(p, NPAGES, 6);
	node_add(&blocks);
	wait_until(to_node(rig, p, NPAGES) >= 0 &&
		   pages_in_state(rig, p, NPAGES, UMM_PAGE_COHERENT) == NPAGES);
	assert_on_node(p, NPAGES, far);
	assert_filled(p, NPAGES, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(pages_that_mbind_moves_are_said_to_be_there),
		RIG_TEST(frames_that_others_moved_are_lent_again_at_once),
		RIG_TEST(device_that_was_alone_hears_of_other_nodes),
		RIG_TEST(bound_memory_goes_where_the_program_sends_it),
		RIG_TEST(process_that_is_moved_off_the_node_goes_back),
		RIG_TEST(pinned_pages_are_said_to_be_held_wherever_they_are),
		RIG_TEST(offline_leaves_no_frame_anywhere),
		RIG_TEST(frames_that_the_program_has_are_said_to_be_left),
		RIG_TEST(threads_may_go_offline_at_once),
		RIG_TEST(node_that_was_left_is_removed_and_used_again),
		RIG_TEST(node_that_is_removed_under_its_pages_loses_none),
	};

	return cmocka_run_group_tests_name("numa_others", tests, NULL, NULL);
}
