/* SPDX-License-Identifier: MIT */
/*
 * The only door to userfaultfd: everything returns 0, a count or -errno, and knows
 * no object of libumm. All ranges are page aligned.
 */
#ifndef UFFD_H
#define UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umm.h"

/* A decoded message. */
enum uffd_kind {
	UFFD_FAULT,  /* addr: page of the fault; write, wp say of what kind; thread */
	UFFD_UNMAP,  /* addr .. end went away */
	UFFD_REMAP,  /* addr .. end moved to to */
	UFFD_REMOVE, /* contents of addr .. end are about to be dropped */
	UFFD_OTHER,
};

struct uffd_msg_info {
	enum uffd_kind kind;
	uintptr_t addr;
	uintptr_t end;
	uintptr_t to;
	bool write;
	bool wp;
	bool again;    /* it has waited already, and was counted */
	bool admitted; /* the page may come to the host (admit.h) */
	bool whole;    /* with all of its block */
	uint32_t thread;
};

struct uffd_msg;

enum uffd_open_flag {
	UFFD_OPEN_EVENTS = 1 << 0,    /* unmap, remap and remove messages, too */
	UFFD_OPEN_USER_MODE = 1 << 1, /* no faults of system calls, even where they could be had */
	UFFD_OPEN_SIGBUS = 1 << 2,    /* a fault is SIGBUS, or EFAULT, instead of a message */
};

/*
 * Open a non-blocking, close-on-exec descriptor, by the best way there is, and enable the
 * features. Kernel features (enum umm_kernel_feature) that it has are stored in *features.
 * Returns the descriptor, or -EPERM, -EOPNOTSUPP (no such call, or required features
 * absent), -ENOMEM (no memory, or no descriptor left). Nothing is logged.
 */
int uffd_open(unsigned flags, uint64_t *features, enum umm_uffd_access *access);

/*
 * Open a descriptor that only watches: whatever memory is registered with uffd_watch(), files
 * included, tells of being unmapped, moved or dropped, and never faults. -EOPNOTSUPP before 6.7.
 */
int uffd_open_watch(void);
/* Likewise one that does not hear of what is dropped, nor has anybody wait who drops it: mark.h. */
int uffd_open_mark(void);
/* With either. Of files only the first can; -EBUSY: another descriptor has it. */
int uffd_watch(int uffd, uintptr_t start, size_t len);

int uffd_register(int uffd, uintptr_t start, size_t len); /* missing + write-protect */
int uffd_register_missing(int uffd, uintptr_t start, size_t len);
int uffd_unregister(int uffd, uintptr_t start, size_t len);

/*
 * Is some of the range registered with any userfaultfd? The kernel only tells by refusing it to a
 * second one. Slow: takes the lock of all mappings. False where that cannot be asked.
 */
bool uffd_is_registered(uintptr_t start, size_t len);

/*
 * Is the page registered with this descriptor? 0; -ENOENT no; -EAGAIN as below. Of what fills pages
 * only MOVE looks whose they are: the others fill what another descriptor has. Without it, and
 * where memory refuses moves, this is slow, as above.
 */
int uffd_owns(int uffd, uintptr_t addr, bool has_move);

/* Is there an event that was not read yet? Until then everything answers -EAGAIN. */
bool uffd_is_changing(int uffd);

/* Sleep until there is a message, or for so long (less than a second). */
void uffd_await(int uffd, long ns);

/* Read one message: 1, 0 when there is none, or -errno. */
int uffd_read(int uffd, struct uffd_msg_info *info);
/* Pure: decode a kernel message. */
void uffd_decode(const struct uffd_msg *msg, struct uffd_msg_info *info);

/*
 * The movers: do all of the range, retrying partial progress; *done (may be NULL) says how many
 * bytes are in place. -EAGAIN: an event is waiting to be read (nothing further is
 * tried); -EEXIST, -ENOENT, -EBUSY, -EINVAL, -ESRCH, -ENOMEM speak of the page at *done.
 * MOVE answers -EBUSY for a page that is pinned, and for one that a fork has shared, even
 * when the child is gone, until it is written to (MADV_POPULATE_WRITE does that).
 */
int uffd_move(int uffd, uintptr_t dst, uintptr_t src, size_t len, bool wake, size_t *done);
int uffd_copy(int uffd, uintptr_t dst, const void *src, size_t len, bool wake, size_t *done);
int uffd_zeropage(int uffd, uintptr_t dst, size_t len, bool wake, size_t *done);
int uffd_poison(int uffd, uintptr_t dst, size_t len);
/* protect: write-protect without waking; else unprotect, and wake if asked. -EAGAIN as above. */
int uffd_writeprotect(int uffd, uintptr_t start, size_t len, bool protect, bool wake);
int uffd_wake(int uffd, uintptr_t start, size_t len);

#endif
