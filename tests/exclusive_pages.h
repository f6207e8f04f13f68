/* SPDX-License-Identifier: MIT */
/* Pages to which a device has exclusive access. All of these fail the test. */
#ifndef EXCLUSIVE_PAGES_H
#define EXCLUSIVE_PAGES_H

#include "harness.h"

/* Where the device has the page; NULL: not exclusively. */
char *place_of(struct ref_device *ref, const void *addr);
void assert_exclusive(struct env *env, struct ref_device *ref, char *p, size_t npages);
/* Attached pages, filled with seed 1, and exclusively the device's. */
char *exclusive_pages(struct env *env, struct ref_device *ref, size_t npages);

#endif
