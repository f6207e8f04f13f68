/* SPDX-License-Identifier: MIT */
/*
 * Handles: the objects of the public header, and how a live one is told from one that is gone.
 * Every such object begins with a struct handle.
 */
#ifndef HANDLE_H
#define HANDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum handle_kind {
	HANDLE_CTX,
	HANDLE_DEVICE,
	HANDLE_DEVMEM,
	HANDLE_MIRROR,
	HANDLE_NOTIFIER,
	HANDLE_FENCE,
	HANDLE_PIN,
	HANDLE_INVALIDATION,
	HANDLE_KINDS,
};

struct handle {
	_Atomic uint32_t word; /* handle_word() of its kind, or 0: dead */
	struct handle *next;   /* of the dead ones of its kind */
};

#define HANDLE_CLOSING 1u /* bit of the word: its destruction has begun */

static inline uint32_t handle_word(enum handle_kind kind)
{
	return 0x754d6d00u | ((uint32_t)kind << 1);
}

/*
 * Is object (or NULL) a handle of this kind that is not gone? Also while it is being
 * destroyed: ops and callbacks that run then are handed it, and may use it.
 */
static inline bool handle_is(const void *object, enum handle_kind kind)
{
	const struct handle *handle = object;

	/* Pairs with the release in handle_publish(). */
	return handle && (atomic_load_explicit(&handle->word, memory_order_acquire) &
			  ~HANDLE_CLOSING) == handle_word(kind);
}

/*
 * Likewise, and its destruction has not begun. Who asks under a lock that the destruction takes
 * afterwards may name the object in what that lock protects: its end will find it there.
 */
static inline bool handle_is_open(const void *object, enum handle_kind kind)
{
	const struct handle *handle = object;

	return handle &&
	       atomic_load_explicit(&handle->word, memory_order_acquire) == handle_word(kind);
}

/* An object of this kind, zeroed, not yet a live handle; or NULL: no memory. Uses no malloc. */
void *handle_new(enum handle_kind kind);
/* The first of this kind are there before memory is short. False: no memory. */
bool handle_reserve(enum handle_kind kind);
/* It is ready for use. Also for one that is part of another object. */
void handle_publish(void *object, enum handle_kind kind);
/* Begin to destroy it. False: NULL, dead, of another kind, or somebody has begun already. */
bool handle_close(void *object, enum handle_kind kind);
/* It is dead. Its memory is zeroed, and used again when many of its kind have died after it. */
void handle_free(void *object, enum handle_kind kind);
/* It is dead. Its memory stays as it is, for ever. */
void handle_abandon(void *object);

/* Host memory of all handles of the process. */
size_t handle_bytes(void);

/* In a forked child. */
void handle_fork_child(void);

#endif
