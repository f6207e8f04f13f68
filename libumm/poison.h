/* SPDX-License-Identifier: MIT */
/* Pages that are lost: every touch of one is a SIGBUS. */
#ifndef POISON_H
#define POISON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;
struct umm_ctx;

/*
 * Poison a page that is in state POISONED; again does no harm. Returns false when that has to
 * wait for somewhere where one may sleep: the next touch of the page will ask again. No lock held.
 */
bool poison_page(struct umm_ctx *ctx, uintptr_t addr, bool may_sleep);

/*
 * The program drops these pages of a block, which is locked: what is poisoned of them becomes
 * DISCARD, unless the kernel itself ends the poison of what is dropped.
 */
void poison_drop(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last);

/*
 * In a forked child: pages that it cannot have. Where no file can be mapped, touching them is
 * a SIGSEGV. Takes no lock, and no memory.
 */
void poison_inherited(uintptr_t start, size_t len);

#endif
