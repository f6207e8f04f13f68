/* SPDX-License-Identifier: MIT */
/* See exclusive_pages.h. */
#include "exclusive_pages.h"

char *place_of(struct ref_device *ref, const void *addr)
{
	uint64_t entry = ref_entry(ref, (uintptr_t)addr);

	if (!(entry & UMM_ENTRY_VALID) || UMM_ENTRY_ADDR(entry) == (uintptr_t)addr)
		return NULL;
	assert_int_equal(entry & (PAGE - 1), UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	return (char *)UMM_ENTRY_ADDR(entry);
}

void assert_exclusive(struct env *e, struct ref_device *ref, char *p, size_t npages)
{
	assert_state(e, p, npages, UMM_PAGE_EXCLUSIVE);
	for (size_t i = 0; i < npages; i++) {
		assert_non_null(place_of(ref, p + i * PAGE));
		assert_false(cpu_maps(p + i * PAGE));
	}
}

char *exclusive_pages(struct env *e, struct ref_device *ref, size_t npages)
{
	char *p = env_attach(e, npages * PAGE);

	fill(p, npages, 1);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, npages), npages);
	assert_exclusive(e, ref, p, npages);
	return p;
}
