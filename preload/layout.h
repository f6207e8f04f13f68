/* SPDX-License-Identifier: MIT */
/* What a range of addresses is to the kernel: how many mappings, and whether they are alike. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct layout {
	unsigned nmappings;
	bool alike;	 /* but for what registered memory has of its own: they would be one */
	uintptr_t start; /* of the first mapping in the range, or its end if there is none */
	uintptr_t hole;	 /* where nothing is mapped from there on, or the end of the range */
};

/* False: the kernel does not say. No malloc. */
bool layout_read(uintptr_t start, uintptr_t end, struct layout *out);

/* Does this kernel's mremap() move several mappings to a given address (6.17)? */
bool layout_may_be_several(void);

#endif
