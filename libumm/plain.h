/* SPDX-License-Identifier: MIT */
/* Plain pages: the system's, in a mapping that may be read and written. */
#ifndef PLAIN_H
#define PLAIN_H

#include "prot.h"

/*
 * How many there are, from first on and before last, of which the books say all, as far as the
 * mapping allows it. Block locked.
 */
unsigned plain_pages(const struct umm_range *range, const struct block *block, unsigned first,
		     unsigned last);

/* Note that n pages from first on were given out for reading and writing. Block locked. */
void plain_give(struct block *block, unsigned first, unsigned n);

/* Their entries. */
void plain_fill(uint64_t *entry, uintptr_t addr, size_t n);

/*
 * The end of the blocks from `at` on, or parts of some at `at` and `stop`, of which all is plain:
 * their entries may be given out. Of no other is that noted. Nothing locked.
 */
uintptr_t plain_end(const struct umm_range *range, struct prot *prot, uintptr_t at, uintptr_t stop);

#endif
