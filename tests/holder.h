/* SPDX-License-Identifier: MIT */
/* Who has callbacks wait, as the holder of a window does, until it lets go. */
#ifndef HOLDER_H
#define HOLDER_H

#include "harness.h"

struct holder {
	bool let; /* under a lock of holder.c */
	atomic_uint waiting;
};

/*
 * Hear of these pages by a callback that must not be asked where it may not sleep, and that then
 * waits for the holder (NULL: for nobody).
 */
struct umm_notifier *holder_watch_span(struct env *e, const struct umm_span *span,
				       struct holder *holder);
struct umm_notifier *holder_watch(struct env *e, void *addr, size_t npages, struct holder *holder);
/* From now on whoever changes these pages waits for the holder. */
struct umm_notifier *holder_hold(struct env *e, void *addr, size_t npages, struct holder *holder);
void holder_let_go(struct holder *holder);

#endif
