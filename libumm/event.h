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

/* Waits until everything that the program has done so far has been read and applied. */
void event_await_quiet(struct umm_ctx *ctx);

/*
 * Does anybody change mappings whose message is not read yet? Whosever memory it is of: who unmaps
 * it may be stopped, and the address in use again. A system call for each descriptor.
 */
bool event_is_changing(const struct umm_ctx *ctx);

/*
 * For remap.c: what has to be read before the message at hand can be applied. One message; who
 * faults is sent back to fault again. Under the gate, held exclusively.
 */
void event_read_ahead(struct umm_ctx *ctx);

/* Apply a message that was read, or note it for later. Under the gate, held exclusively. */
void event_dispatch(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/* Read the messages of the watch and of the mark. False: there were none. No lock held. */
bool event_read_watches(struct umm_ctx *ctx);

/*
 * For whoever met EAGAIN: an event has to be read before the kernel lets pages be
 * installed. Reads one message, and serves it if it is a fault; or those of the watch, which may
 * have to be read before it is sent. No lock held.
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
/* It has happened, and its message is read; or it failed. */
void event_expect_end(struct umm_ctx *ctx, struct expect *expect, bool happened);

/*
 * Start .. end was unmapped, or its contents dropped. Under the gate, held exclusively.
 */
void event_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap);

/* What mirrors and notifiers are told of it. */
struct umm_notifier_range event_range(uintptr_t start, uintptr_t end, bool unmap);

/*
 * Stop managing the span, whose contents nobody wants: waits for pages in flight, tells
 * mirrors, gives frames back. No lock held; not on a fault server.
 */
void event_free(struct umm_ctx *ctx, const struct umm_span *span);

/* Mirrored pages of start .. end were unmapped, an interposer says. No lock held. */
void event_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/*
 * What is in no region of start .. end stops being managed and registered, and mirrors are told;
 * nothing is dropped. What is on a device is left to be brought home first, what is in flight is
 * waited for a while. True: all of it is done. No lock held; not on a fault server.
 */
bool event_unmanage(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* Pins of what is in no region of start .. end are forgotten. No lock held. */
void event_unpin(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/* Is a page of start .. end in flight? */
bool event_any_in_flight(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

#endif
