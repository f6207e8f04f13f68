/* SPDX-License-Identifier: MIT */
/* Data with checksums, on either side, and the way there and back. */
#include "harness.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t fill_word(size_t page, size_t word, unsigned seed)
{
	return (seed + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15) ^
	       (page * 512 + word + 1) * UINT64_C(0xc2b2ae3d27d4eb4f);
}

void page_fill(void *page, size_t i, unsigned seed)
{
	uint64_t *words = page;

	for (size_t w = 0; w < PAGE / sizeof(*words); w++)
		words[w] = fill_word(i, w, seed);
}

void copies_make(char *frames, const struct umm_copy *copies, unsigned ncopies)
{
	for (unsigned i = 0; i < ncopies; i++) {
		char *frame = frames + (size_t)copies[i].frame * PAGE;
		size_t len = (size_t)copies[i].npages * PAGE;

		if (copies[i].dir == UMM_COPY_FROM_DEVICE)
			memcpy(copies[i].host, frame, len);
		else if (copies[i].host)
			memcpy(frame, copies[i].host, len);
		else
			memset(frame, 0, len);
	}
}

bool page_filled(const void *page, size_t i, unsigned seed)
{
	const uint64_t *words = page;

	for (size_t w = 0; w < PAGE / sizeof(*words); w++)
		if (words[w] != fill_word(i, w, seed))
			return false;
	return true;
}

bool page_zero(const void *page)
{
	const uint64_t *words = page;

	for (size_t w = 0; w < PAGE / sizeof(*words); w++)
		if (words[w])
			return false;
	return true;
}

bool filled_at(const void *base, size_t i, unsigned seed)
{
	return page_filled((const char *)base + i * PAGE, i, seed);
}

void fill(void *addr, size_t npages, unsigned seed)
{
	for (size_t i = 0; i < npages; i++)
		page_fill((char *)addr + i * PAGE, i, seed);
}

void assert_filled_part(const void *base, size_t first, size_t npages, unsigned seed)
{
	for (size_t i = first; i < first + npages; i++)
		if (!filled_at(base, i, seed))
			fail_msg("page %zu has lost its data; it starts with %#llx", i,
				 *(const unsigned long long *)((const char *)base + i * PAGE));
}

void assert_filled(const void *addr, size_t npages, unsigned seed)
{
	assert_filled_part(addr, 0, npages, seed);
}

void assert_zero(const void *addr, size_t npages)
{
	for (size_t i = 0; i < npages; i++)
		if (!page_zero((const char *)addr + i * PAGE))
			fail_msg("page %zu is not zero; it starts with %#llx", i,
				 *(const unsigned long long *)((const char *)addr + i * PAGE));
}

void device_fill(struct ref_device *ref, void *addr, size_t npages, unsigned seed)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < npages; i++) {
		page_fill(page, i, seed);
		assert_int_equal(ref_write(ref, (uintptr_t)addr + i * PAGE, page, PAGE), 0);
	}
}

void assert_device_sees(struct ref_device *ref, const void *addr, size_t npages, unsigned seed)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < npages; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)addr + i * PAGE, page, PAGE), 0);
		if (!page_filled(page, i, seed))
			fail_msg("the device reads something else in page %zu", i);
	}
}

void assert_device_sees_zero(struct ref_device *ref, const void *addr, size_t npages)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < npages; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)addr + i * PAGE, page, PAGE), 0);
		if (!page_zero(page))
			fail_msg("the device reads no zeroes in page %zu", i);
	}
}

void to_device(struct env *env, struct ref_device *ref, void *addr, size_t npages, long moved)
{
	assert_int_equal(umm_migrate_to_device(env->ctx, ref->mem, addr, npages * PAGE), moved);
}

void to_system(struct env *env, void *addr, size_t npages, long moved)
{
	assert_int_equal(umm_migrate_to_system(env->ctx, addr, npages * PAGE), moved);
}

long migrate(struct env *env, struct ref_device *ref, void *addr, size_t npages, uint64_t flags)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = npages * PAGE };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.flags = flags,
		.spans = &span,
		.nspans = 1,
		.dst = ref ? ref->mem : NULL,
	};

	return umm_migrate_spans(env->ctx, &req, NULL);
}

struct umm_fence *migrate_start(struct env *env, struct ref_device *ref, void *addr, size_t npages)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = npages * PAGE };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.spans = &span,
		.nspans = 1,
		.dst = ref ? ref->mem : NULL,
	};
	struct umm_fence *fence = NULL;

	assert_int_equal(umm_migrate_spans(env->ctx, &req, &fence), 0);
	assert_non_null(fence);
	return fence;
}

static uint64_t pagemap_entry(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;
	ssize_t n = -1;

	if (fd >= 0) {
		n = pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)addr / PAGE * 8));
		close(fd);
	}
	return n == (ssize_t)sizeof(entry) ? entry : 0;
}

bool cpu_maps(const void *addr)
{
	return pagemap_entry(addr) >> 63;
}

bool kernel_has_zero_page(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool is_its_own;

	if (p == MAP_FAILED)
		return true;
	touch_read(p);
	is_its_own = pagemap_entry(p) >> 56 & 1;
	munmap(p, PAGE);
	return !is_its_own;
}
