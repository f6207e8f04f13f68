/* SPDX-License-Identifier: MIT */
/*
 * Withholding memory: what the program gets while the host is nearly full is handed out block by
 * block, when it is first touched and when there is room. So no program can fill the host faster
 * than room is made.
 */
#ifndef GRANT_H
#define GRANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "space.h"

/* From here on there are grants. 0, or a negative errno: nothing is ever withheld. */
int grant_open(void);

/* Readable when somebody waits for a block; -1 where nothing is withheld. */
int grant_fd(void);

/* Inside a change, for new memory: withheld where there is no room for it unasked. */
enum space_kind grant_new_locked(uintptr_t start, size_t len);

/* Inside a change: what of the range was reserved is new memory. True: there was some. */
bool grant_reserved_locked(uintptr_t start, size_t len);

/* Inside a change: what of the range was withheld is native. */
void grant_lift_locked(uintptr_t start, size_t len);

/* Withhold the blocks of this range that the program has and did not touch yet. */
void grant_withhold_untouched(uintptr_t start, uintptr_t end);

/* Inside a change: likewise, where there is no room unasked, of what moved and was withheld. */
void grant_moved_locked(uintptr_t start, size_t len);

/* Withhold nothing any more, and let go of what is withheld; also in a forked child. */
void grant_end(void);

/* An address that somebody waits at. False: nobody waits. */
bool grant_wanted(uintptr_t *addr);

/* Hand out the block around @addr. Pages that became native. */
uint64_t grant_block(uintptr_t addr);

#endif
