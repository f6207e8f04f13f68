/* SPDX-License-Identifier: MIT */
/* Address-space events: what the program does to its mappings while we manage them. */
#ifndef EVENT_H
#define EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "block.h"

struct umm_ctx;
struct work;
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
 * installed. Reads one message, and serves it if it is a fault. No lock held.
 */
void event_pump(struct umm_ctx *ctx);

/*
 * Something that the core is about to do to the program's mapping raises one event, which
 * is not the program's: of exactly these addresses (`to`, of a remap, is nobody else's).
 * Begin and end it around the call. No lock held.
 */
struct expect {
	uintptr_t start, end;
	uintptr_t to; /* 0: not a remap */
	bool met;
	struct expect *next;
};
void event_expect(struct umm_ctx *ctx, struct expect *expect);
void event_expect_end(struct umm_ctx *ctx, struct expect *expect);

/*
 * For remap.c. Change the states of pages that are dropped or unmapped: true when a worker has
 * to follow. Under the gate, held exclusively.
 */
bool event_clear_blocks(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap);
/*
 * Queue the work after an event: the program goes on as soon as its event is read, the workers tell
 * mirrors later. Until then umm_notifier_read_begin() waits: so a device that begins
 * after the call does not miss it.
 */
void event_announce(struct umm_ctx *ctx, struct work *work);
/* Tell mirrors and notifiers. No lock held. */
void event_notify(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap);

/*
 * Stop managing start .. end, or empty it: waits for pages in flight, invalidates
 * mirrors, gives frames back. No lock held; not on a fault server.
 */
void event_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap);

/* Mirrored pages of start .. end were unmapped, an interposer says. No lock held. */
void event_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/*
 * Stop managing start .. end, dropping nothing: what is on a device is left to be brought
 * home first, what is in flight is waited for a while. True: all of it is done. No lock
 * held; not on a fault server.
 */
bool event_unmanage(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/*
 * Wait until nothing of an earlier use of these addresses is in flight. No lock held; not on a
 * fault server or worker.
 */
void event_wait(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

#endif
