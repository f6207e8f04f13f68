/* SPDX-License-Identifier: MIT */
/*
 * Books of the address space that may be managed: private anonymous memory which the program
 * got through the shim, and how far each part of it is.
 */
#ifndef SPACE_H
#define SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum space_kind {
	SPACE_RESERVED, /* no access: what is not there needs no room */
	SPACE_NATIVE,	/* the kernel's: may be filled without anybody being told */
	SPACE_WITHHELD, /* untouched; the first touch asks for room (grant.h) */
	SPACE_MANAGED,	/* libumm's: pages of it may be on devices */
	SPACE_GROWN,	/* new, in a mapping of libumm's: it fills what is touched, no more */
	SPACE_PINNED,	/* locked by the program: stays in the host, whoever manages it */
	SPACE_NR_KINDS,
};

#define SPACE_FILLED  (1 << SPACE_MANAGED | 1 << SPACE_GROWN) /* by libumm alone */
#define SPACE_USED    (1 << SPACE_NATIVE | 1 << SPACE_WITHHELD | SPACE_FILLED)
#define SPACE_COUNTED (SPACE_USED | 1 << SPACE_PINNED)

struct space_range {
	uintptr_t start, end;
	enum space_kind kind;
};

/* Nothing of it is in the books: answered without a lock where that is easy to see. */
bool space_is_foreign(uintptr_t start, size_t len);

/*
 * Between begin and end the books of start..start+len are the caller's, and no holder
 * (space_hold()) is at work on them; the caller makes its system call in between. Signals wait
 * meanwhile: a handler might map memory too.
 */
struct space_change {
	uint64_t sigmask;
};
void space_change_begin(struct space_change *change, uintptr_t start, size_t len);
void space_change_end(struct space_change *change);

/* The same for the holder itself, who need not wait. */
void space_enter(struct space_change *change);
void space_leave(struct space_change *change);

/* Inside a change. add replaces what was there; -ENOMEM: the range stays unmanaged. */
int space_add_locked(uintptr_t start, size_t len, enum space_kind kind);
void space_remove_locked(uintptr_t start, size_t len);
/* Parts of the range that are @from become @to. True: there were some. */
bool space_turn_locked(uintptr_t start, size_t len, enum space_kind from, enum space_kind to);
/* What the books say of one address. */
bool space_find_locked(uintptr_t addr, struct space_range *out);

/* Is memory that is new from here on locked? What it then is, if it is not withheld. */
void space_pin_new(bool pin);
enum space_kind space_new_kind(void);

/* Bytes of these kinds (bits). */
uint64_t space_bytes(unsigned kinds);
/* Bytes that ceased to be libumm's so far: unmapped, moved, locked. */
uint64_t space_gone(void);

/* What is left of the first range of these kinds (bits) that ends after @from. False: none. */
bool space_next(uintptr_t from, unsigned kinds, struct space_range *out);
bool space_next_locked(uintptr_t from, unsigned kinds, struct space_range *out); /* in a change */

/*
 * Until space_release() nobody changes this range. One holder, one range at a time; a second call
 * narrows it.
 */
void space_hold(uintptr_t start, uintptr_t end);
void space_release(void);

/* In a forked child: what is in the books is nobody's to manage any more. */
void space_clear(void);

/* fork(): the books are whole in the child. */
void space_fork_prepare(void);
void space_fork_parent(void);
void space_fork_child(void);

#endif
