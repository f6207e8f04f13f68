/* SPDX-License-Identifier: MIT */
/* Address-space events: what the program does to its mappings while we manage them. */
#ifndef EVENT_H
#define EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "block.h"

struct umm_ctx;
struct uffd_msg_info;

/*
 * Read one message of the context's userfaultfd, with the gate closed; an event is applied
 * before the gate opens again. 1: *info is a fault to serve; 0: nothing was there or it was an
 * event (*again says which); or -errno.
 */
int event_read(struct umm_ctx *ctx, struct uffd_msg_info *info, bool *again);

/* Read the messages of the watch, likewise. */
void event_read_watch(struct umm_ctx *ctx);

/*
 * For whoever met EAGAIN: an event has to be read before the kernel lets pages be
 * installed. Reads one message; a fault goes to the workers. No lock held.
 */
void event_pump(struct umm_ctx *ctx);

/*
 * Something that the core is about to do to the program's mapping raises an
 * event for start .. end (at most 2 MiB), which is not the program's. Begin and end it around
 * the call. No lock held.
 */
struct expect {
	uintptr_t start, end;
	uint64_t met[BITMAP_WORDS]; /* pages, from start: at most a block's */
	struct expect *next;
};
void event_expect(struct umm_ctx *ctx, struct expect *expect, uintptr_t start, uintptr_t end);
void event_expect_end(struct umm_ctx *ctx, struct expect *expect);

/* Drop start .. end, of one mapping, as MADV_DONTNEED. No lock held. 0 or -errno. */
int event_drop(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/* Where mremap() has moved the page lately, perhaps several times; 0: nowhere. The gate is held. */
uintptr_t event_moved_to(const struct umm_ctx *ctx, uintptr_t addr);

/*
 * Stop managing start .. end, or empty it: waits for pages in flight, invalidates
 * mirrors, gives frames back. No lock held; not on a fault server.
 */
void event_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap);

/* Mirrored pages of start .. end were unmapped, an interposer says. No lock held. */
void event_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/*
 * Wait until nothing of an earlier use of these addresses is in flight. No lock held; not on a
 * fault server or worker.
 */
void event_wait(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

#endif
