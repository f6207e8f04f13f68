/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of mappings and pages. Every question is put to both rungs of
 * the ladder (the ioctl and the text or binary file); the answers must be the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "maps.h"
#include "pagemap.h"
#include "uapi.h"
#include "uffd.h"
#include "umm.h"
#include "util.h"

#define PAGE	 UMM_PAGE_SIZE
#define NR_PAGES 512

static char *map_anon(size_t len, int prot)
{
	char *map = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

/* Ask both rungs, insist that they agree, return what they say. */
static int find(uintptr_t addr, struct maps_vma *vma)
{
	struct maps_vma text = { 0 };
	int ret, text_ret;

	memset(vma, 0, sizeof(*vma));
	ret = maps_find(addr, true, vma);
	text_ret = maps_find(addr, false, &text);
	assert_int_equal(ret, text_ret);
	assert_int_equal(vma->start, text.start);
	assert_int_equal(vma->end, text.end);
	assert_int_equal(vma->read, text.read);
	assert_int_equal(vma->write, text.write);
	assert_int_equal(vma->shared, text.shared);
	assert_int_equal(vma->anon, text.anon);
	return ret;
}

static void populated(const char *start, size_t npages, uint64_t *bitmap)
{
	uint64_t file[NR_PAGES / 64];
	size_t bytes = (npages + 63) / 64 * sizeof(file[0]);

	/* Both clear what was there before. */
	memset(bitmap, 0xff, bytes);
	memset(file, 0xff, bytes);
	assert_int_equal(pagemap_populated((uintptr_t)start, npages, true, bitmap), 0);
	assert_int_equal(pagemap_populated((uintptr_t)start, npages, false, file), 0);
	assert_memory_equal(bitmap, file, bytes);
}

static bool bit(const uint64_t *bitmap, size_t i)
{
	return bitmap[i / 64] >> i % 64 & 1;
}

/* ------------------------------------------------------------------------
 * Mappings
 */

static void anonymous_mapping_is_found_from_inside(void **state)
{
	char *map = map_anon(16 * PAGE, PROT_READ | PROT_WRITE);
	struct maps_vma vma;

	(void)state;
	/* Guards on both sides keep the kernel from joining it with its neighbours. */
	assert_int_equal(mprotect(map, PAGE, PROT_NONE), 0);
	assert_int_equal(mprotect(map + 15 * PAGE, PAGE, PROT_NONE), 0);
	for (size_t i = 1; i < 15; i++) {
		assert_int_equal(find((uintptr_t)map + i * PAGE + 123, &vma), 0);
		assert_int_equal(vma.start, (uintptr_t)map + PAGE);
		assert_int_equal(vma.end, (uintptr_t)map + 15 * PAGE);
		assert_true(vma.read && vma.write && vma.anon);
		assert_false(vma.shared);
	}
	munmap(map, 16 * PAGE);
}

static void hole_yields_the_next_mapping_above(void **state)
{
	char *map = map_anon(16 * PAGE, PROT_READ);
	struct maps_vma vma;

	(void)state;
	assert_int_equal(munmap(map + 4 * PAGE, 4 * PAGE), 0);
	assert_int_equal(find((uintptr_t)map + 5 * PAGE, &vma), 0);
	assert_int_equal(vma.start, (uintptr_t)map + 8 * PAGE);
	assert_false(vma.write);
	/* The end is not part of a mapping. */
	assert_int_equal(find((uintptr_t)map + 4 * PAGE, &vma), 0);
	assert_int_equal(vma.start, (uintptr_t)map + 8 * PAGE);
	assert_int_equal(find((uintptr_t)map + 4 * PAGE - 1, &vma), 0);
	assert_int_equal(vma.end, (uintptr_t)map + 4 * PAGE);
	munmap(map, 16 * PAGE);
}

static void nothing_lies_above_the_last_mapping(void **state)
{
	struct maps_vma vma;

	(void)state;
	/* [vsyscall] may be listed in the text, but is no memory of the process. */
	assert_int_equal(find(0xffffffffff600000, &vma), -ENOENT);
	assert_int_equal(find(UINTPTR_MAX, &vma), -ENOENT);
	assert_int_equal(find(0, &vma), 0);
}

static void kinds_of_mappings_are_told_apart(void **state)
{
	uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
	struct maps_vma vma;
	char *heap = malloc(1), *shared;
	static char data = 1;

	(void)state;
	assert_int_equal(find((uintptr_t)&vma, &vma), 0);
	assert_true(vma.anon && vma.write);
	if (vdso) {
		assert_int_equal(find(vdso, &vma), 0);
		assert_false(vma.anon);
	}
	assert_int_equal(find((uintptr_t)kinds_of_mappings_are_told_apart, &vma), 0);
	assert_false(vma.anon || vma.write);
	assert_int_equal(find((uintptr_t)&data, &vma), 0);
	assert_false(vma.anon);
	assert_int_equal(find((uintptr_t)heap, &vma), 0);
	assert_true(vma.anon);
	free(heap);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_int_equal(find((uintptr_t)shared, &vma), 0);
	assert_true(vma.shared);
	assert_false(vma.anon);
	munmap(shared, PAGE);
}

static void named_anonymous_memory_is_anonymous(void **state)
{
	/* As long as a name may be: 79 bytes. */
	static const char name[] =
		"012345678901234567890123456789012345678901234567890123456789012345678"
		"9012345678";
	char *map = map_anon(3 * PAGE, PROT_READ | PROT_WRITE);
	struct maps_vma vma;

	(void)state;
	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, map + PAGE, PAGE, name)) {
		munmap(map, 3 * PAGE);
		print_message("skipped: this kernel cannot name anonymous memory\n");
		skip();
	}
	assert_int_equal(find((uintptr_t)map + PAGE, &vma), 0);
	assert_int_equal(vma.start, (uintptr_t)map + PAGE);
	assert_int_equal(vma.end, (uintptr_t)map + 2 * PAGE);
	assert_true(vma.anon);
	munmap(map, 3 * PAGE);
}

/* A path of the greatest length, all of it characters that the text escapes fourfold. */
static void very_long_escaped_path_does_not_confuse(void **state)
{
	char root[] = "/tmp/umm-maps-XXXXXX", part[241];
	int depth = 0, start, dir, fd;
	struct maps_vma vma;
	char *map, *after;

	(void)state;
	memset(part, '\n', sizeof(part) - 1);
	part[sizeof(part) - 1] = '\0';
	start = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(start >= 0);
	assert_non_null(mkdtemp(root));
	assert_int_equal(chdir(root), 0);
	while (depth < 15 && !mkdir(part, 0700) && !chdir(part))
		depth++;
	assert_int_equal(depth, 15);
	fd = open("file\n0-ffffffffffff rwxp 0 0:0 0", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	after = map_anon(2 * PAGE, PROT_READ | PROT_WRITE);
	map = mmap(after, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
	assert_ptr_equal(map, after);

	assert_int_equal(find((uintptr_t)map, &vma), 0);
	assert_int_equal(vma.start, (uintptr_t)map);
	assert_int_equal(vma.end, (uintptr_t)map + PAGE);
	assert_false(vma.anon);
	assert_int_equal(find((uintptr_t)map + PAGE, &vma), 0);
	assert_int_equal(vma.start, (uintptr_t)map + PAGE);
	assert_true(vma.anon);

	munmap(map, 2 * PAGE);
	close(fd);
	unlink("file\n0-ffffffffffff rwxp 0 0:0 0");
	while (depth--) {
		dir = chdir("..");
		assert_int_equal(dir, 0);
		assert_int_equal(rmdir(part), 0);
	}
	assert_int_equal(fchdir(start), 0);
	assert_int_equal(rmdir(root), 0);
	close(start);
}

/* More mappings than any buffer holds, each of them asked for. */
static void many_mappings_are_all_found(void **state)
{
	const size_t count = 3000;
	char *map = map_anon(count * PAGE, PROT_READ | PROT_WRITE);
	struct maps_vma vma;

	(void)state;
	for (size_t i = 0; i < count; i += 2)
		assert_int_equal(mprotect(map + i * PAGE, PAGE, PROT_READ), 0);
	for (size_t i = 1; i < count - 1; i += 97) {
		assert_int_equal(find((uintptr_t)map + i * PAGE, &vma), 0);
		assert_int_equal(vma.start, (uintptr_t)map + i * PAGE);
		assert_int_equal(vma.end, (uintptr_t)map + (i + 1) * PAGE);
		assert_int_equal(vma.write, i % 2);
	}
	munmap(map, count * PAGE);
}

/* ------------------------------------------------------------------------
 * Pages
 */

static void pages_have_moved_that_are_there_and_no_longer_here(void **state)
{
	char *src = map_anon(NR_PAGES * PAGE, PROT_READ | PROT_WRITE);
	char *dst = map_anon(NR_PAGES * PAGE, PROT_READ | PROT_WRITE);
	uintptr_t to = (uintptr_t)dst, from = (uintptr_t)src;

	(void)state;
	assert_int_equal(madvise(src, NR_PAGES * PAGE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(madvise(dst, NR_PAGES * PAGE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(pagemap_moved(to, from, NR_PAGES, true), 0);
	for (size_t i = 0; i < NR_PAGES; i++)
		dst[i * PAGE] = 1;
	assert_int_equal(pagemap_moved(to, from, NR_PAGES, true), NR_PAGES);
	assert_int_equal(pagemap_moved(to, from, 5, false), 5);
	/* At both places: it has not moved. */
	src[100 * PAGE] = 1;
	assert_int_equal(pagemap_moved(to, from, NR_PAGES, true), 100);
	/* At none. */
	assert_int_equal(madvise(dst + 70 * PAGE, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(pagemap_moved(to, from, NR_PAGES, false), 70);
	munmap(src, NR_PAGES * PAGE);
	munmap(dst, NR_PAGES * PAGE);
}

static void touched_pages_are_populated(void **state)
{
	char *map = map_anon((NR_PAGES + 1) * PAGE, PROT_READ | PROT_WRITE);
	uint64_t bitmap[NR_PAGES / 64];

	(void)state;
	assert_int_equal(madvise(map, (NR_PAGES + 1) * PAGE, MADV_NOHUGEPAGE), 0);
	populated(map, NR_PAGES, bitmap);
	for (size_t i = 0; i < NR_PAGES; i++)
		assert_false(bit(bitmap, i));
	/* Every other page makes more runs than one scan returns. */
	for (size_t i = 1; i < NR_PAGES; i += 2)
		map[i * PAGE] = 1;
	map[NR_PAGES * PAGE] = 1;
	populated(map, NR_PAGES, bitmap);
	for (size_t i = 0; i < NR_PAGES; i++)
		assert_int_equal(bit(bitmap, i), i % 2);
	munmap(map, (NR_PAGES + 1) * PAGE);
}

static void zero_page_is_populated(void **state)
{
	char *map = map_anon(8 * PAGE, PROT_READ | PROT_WRITE);
	uint64_t bitmap;

	(void)state;
	assert_int_equal(madvise(map, 8 * PAGE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(*(volatile char *)(map + 3 * PAGE), 0);
	populated(map, 8, &bitmap);
	assert_int_equal(bitmap, 1 << 3);
	munmap(map, 8 * PAGE);
}

static void huge_pages_are_populated(void **state)
{
	char *map = map_anon(2 * UMM_BLOCK_SIZE, PROT_READ | PROT_WRITE);
	char *block = (char *)align_up((uintptr_t)map, UMM_BLOCK_SIZE);
	uint64_t bitmap[NR_PAGES / 64];

	(void)state;
	madvise(block, UMM_BLOCK_SIZE, MADV_HUGEPAGE);
	/* The whole block, so that it is full of small pages where no huge one was had. */
	memset(block, 1, UMM_BLOCK_SIZE);
	populated(block, NR_PAGES, bitmap);
	for (size_t i = 0; i < NR_PAGES; i++)
		assert_true(bit(bitmap, i));
	/* From the middle of it, and past its end into memory never touched. */
	assert_int_equal(munmap(block + UMM_BLOCK_SIZE - PAGE, PAGE), 0);
	populated(block + 500 * PAGE, 12, bitmap);
	assert_int_equal(bitmap[0], 0x7ff);
	munmap(map, 2 * UMM_BLOCK_SIZE);
}

static void holes_are_not_populated(void **state)
{
	char *map = map_anon(8 * PAGE, PROT_READ | PROT_WRITE);
	uint64_t bitmap;

	(void)state;
	memset(map, 1, 8 * PAGE);
	assert_int_equal(munmap(map + 2 * PAGE, 2 * PAGE), 0);
	assert_int_equal(mprotect(map + 5 * PAGE, PAGE, PROT_NONE), 0);
	populated(map, 8, &bitmap);
	assert_int_equal(bitmap, 0xf3);
	munmap(map, 8 * PAGE);
}

static void poisoned_page_is_populated(void **state)
{
	char *map = map_anon(8 * PAGE, PROT_READ | PROT_WRITE);
	enum umm_uffd_access access;
	uint64_t features = 0, bitmap;
	int uffd = uffd_open(0, &features, &access);

	(void)state;
	if (uffd < 0 || !(features & UMM_KERNEL_POISON)) {
		if (uffd >= 0)
			close(uffd);
		munmap(map, 8 * PAGE);
		print_message("skipped: no userfaultfd, or no UFFDIO_POISON (Linux 6.6)\n");
		skip();
	}
	assert_int_equal(uffd_register(uffd, (uintptr_t)map, 8 * PAGE), 0);
	assert_int_equal(uffd_poison(uffd, (uintptr_t)map + 2 * PAGE, PAGE), 0);
	populated(map, 8, &bitmap);
	assert_int_equal(bitmap, 1 << 2);
	close(uffd);
	munmap(map, 8 * PAGE);
}

static void bad_page_counts_are_refused(void **state)
{
	uint64_t bitmap[NR_PAGES / 64 + 1];
	uintptr_t page = align_down((uintptr_t)bitmap, PAGE);

	(void)state;
	assert_int_equal(pagemap_populated(page, 0, true, bitmap), -EINVAL);
	assert_int_equal(pagemap_populated(page, NR_PAGES + 1, true, bitmap), -EINVAL);
	assert_int_equal(pagemap_populated(page + 1, 1, true, bitmap), -EINVAL);
}

/* ------------------------------------------------------------------------
 * Kept descriptors
 */

/* In the child: is what the parent's descriptors would say no longer believed? */
static int child_sees_itself(char *map)
{
	struct maps_vma vma;
	uint64_t bitmap;

	if (munmap(map, 2 * PAGE))
		return 1;
	map[2 * PAGE] = 1;
	if (maps_find((uintptr_t)map, true, &vma) || vma.start != (uintptr_t)map + 2 * PAGE)
		return 2;
	if (pagemap_populated((uintptr_t)map, 4, true, &bitmap) || bitmap != 1 << 2)
		return 3;
	return 0;
}

static void forked_child_sees_its_own_memory(void **state)
{
	char *map = map_anon(4 * PAGE, PROT_READ | PROT_WRITE);
	struct maps_vma vma;
	uint64_t bitmap;
	int status;
	pid_t pid;

	(void)state;
	map[0] = 1;
	assert_int_equal(find((uintptr_t)map, &vma), 0);
	populated(map, 4, &bitmap);
	assert_int_equal(bitmap, 1);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(child_sees_itself(map));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	populated(map, 4, &bitmap);
	assert_int_equal(bitmap, 1);
	munmap(map, 4 * PAGE);
}

static size_t count_descriptors(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void *ask_often(void *arg)
{
	struct maps_vma vma;
	uint64_t bitmap;
	uintptr_t errors = 0;

	for (unsigned i = 0; i < 200; i++) {
		errors += maps_find((uintptr_t)arg, i % 2, &vma) != 0;
		errors += vma.start > (uintptr_t)arg || vma.end <= (uintptr_t)arg;
		errors += pagemap_populated((uintptr_t)arg, 1, i % 2, &bitmap) || bitmap != 1;
	}
	return (void *)errors;
}

static void descriptors_are_kept_not_leaked(void **state)
{
	char *map = map_anon(PAGE, PROT_READ | PROT_WRITE);
	pthread_t threads[4];
	struct maps_vma vma;
	uint64_t bitmap;
	size_t before;

	(void)state;
	map[0] = 1;
	assert_int_equal(find((uintptr_t)map, &vma), 0);
	populated(map, 1, &bitmap);
	before = count_descriptors();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_often, map), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *errors;

		assert_int_equal(pthread_join(threads[i], &errors), 0);
		assert_null(errors);
	}
	assert_int_equal(count_descriptors(), before);
	munmap(map, PAGE);
}

static int report_rungs(void **state)
{
	(void)state;
	print_message("PROCMAP_QUERY %s, PAGEMAP_SCAN %s\n",
		      maps_has_query() ? "is compared with the text" : "is absent: text only",
		      pagemap_has_scan() ? "is compared with the file" : "is absent: file only");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(anonymous_mapping_is_found_from_inside),
		cmocka_unit_test(hole_yields_the_next_mapping_above),
		cmocka_unit_test(nothing_lies_above_the_last_mapping),
		cmocka_unit_test(kinds_of_mappings_are_told_apart),
		cmocka_unit_test(named_anonymous_memory_is_anonymous),
		cmocka_unit_test(very_long_escaped_path_does_not_confuse),
		cmocka_unit_test(many_mappings_are_all_found),
		cmocka_unit_test(pages_have_moved_that_are_there_and_no_longer_here),
		cmocka_unit_test(touched_pages_are_populated),
		cmocka_unit_test(zero_page_is_populated),
		cmocka_unit_test(huge_pages_are_populated),
		cmocka_unit_test(holes_are_not_populated),
		cmocka_unit_test(poisoned_page_is_populated),
		cmocka_unit_test(bad_page_counts_are_refused),
		cmocka_unit_test(forked_child_sees_its_own_memory),
		cmocka_unit_test(descriptors_are_kept_not_leaked),
	};

	return cmocka_run_group_tests_name("maps", tests, report_rungs, NULL);
}
