/* SPDX-License-Identifier: MIT */
/*
 * Handles. Objects of one kind come from a pool of the process that is never given
 * back, so that a pointer to one that is gone can still be looked at: its word says that
 * it is dead. The dead wait in a queue, first in, first out; only when it holds
 * HANDLE_QUARANTINE bytes, or memory is short, does the oldest become an object again. Until
 * then every use of the old pointer is found out, with one load.
 *
 * Invariants: an object is with its user, in the queue, or free in the pool; dead and free
 * ones are zero, but for the queue's link.
 *
 * Locks: each pool's own. A thread that destroys an object while another one uses it
 * is not guarded against.
 */
#include "handle.h"

#include <pthread.h>
#include <string.h>

#include "arena.h"
#include "ctx.h"
#include "device.h"
#include "devmem.h"
#include "fence.h"
#include "mirror.h"
#include "pin.h"
#include "util.h"

#define HANDLE_QUARANTINE ((size_t)256 << 10)

_Static_assert(offsetof(struct umm_ctx, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_device, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_devmem, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_mirror, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_notifier, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_fence, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_pin, handle) == 0, "a handle comes first");
_Static_assert(offsetof(struct umm_invalidation, handle) == 0, "a handle comes first");

static const size_t sizes[HANDLE_KINDS] = {
	[HANDLE_CTX] = sizeof(struct umm_ctx),
	[HANDLE_DEVICE] = sizeof(struct umm_device),
	[HANDLE_DEVMEM] = sizeof(struct umm_devmem),
	[HANDLE_MIRROR] = sizeof(struct umm_mirror),
	[HANDLE_NOTIFIER] = sizeof(struct umm_notifier),
	[HANDLE_FENCE] = sizeof(struct umm_fence),
	[HANDLE_PIN] = sizeof(struct umm_pin),
	[HANDLE_INVALIDATION] = sizeof(struct umm_invalidation),
};

/* Objects of one kind; pool.lock protects all of it. */
struct handles {
	struct pool pool;
	struct handle *oldest, *newest; /* of the dead */
	size_t ndead;
};

static struct handles all[HANDLE_KINDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void handles_init(void)
{
	for (unsigned kind = 0; kind < HANDLE_KINDS; kind++)
		pool_init(&all[kind].pool, sizes[kind], NULL);
}

bool handle_reserve(enum handle_kind kind)
{
	pthread_once(&once, handles_init);
	return pool_reserve(&all[kind].pool);
}

/* The one that has waited longest, or NULL. */
static struct handle *queue_oldest_locked(struct handles *handles)
{
	struct handle *oldest = handles->oldest;

	if (!oldest)
		return NULL;
	handles->oldest = oldest->next;
	if (!handles->oldest)
		handles->newest = NULL;
	handles->ndead--;
	oldest->next = NULL;
	return oldest;
}

void *handle_new(enum handle_kind kind)
{
	struct handles *handles = &all[kind];
	void *object;

	pthread_once(&once, handles_init);
	object = pool_alloc(&handles->pool);
	if (object)
		return object;
	/* Rather than to fail where memory is short. */
	lock_take(&handles->pool.lock);
	object = queue_oldest_locked(handles);
	lock_drop(&handles->pool.lock);
	return object;
}

void handle_publish(void *object, enum handle_kind kind)
{
	struct handle *handle = object;

	/* Pairs with the load in handle_is(). */
	atomic_store_explicit(&handle->word, handle_word(kind), memory_order_release);
}

bool handle_close(void *object, enum handle_kind kind)
{
	struct handle *handle = object;
	uint32_t word = handle_word(kind);

	return handle &&
	       atomic_compare_exchange_strong(&handle->word, &word, word | HANDLE_CLOSING);
}

/* Put it at the end of the queue; the first has waited long enough once the queue is full. */
static void queue_rotate(struct handles *handles, struct handle *handle, size_t size)
{
	lock_take(&handles->pool.lock);
	if (handles->newest)
		handles->newest->next = handle;
	else
		handles->oldest = handle;
	handles->newest = handle;
	if (++handles->ndead * size > HANDLE_QUARANTINE)
		pool_free_locked(&handles->pool, queue_oldest_locked(handles));
	lock_drop(&handles->pool.lock);
}

void handle_free(void *object, enum handle_kind kind)
{
	struct handle *handle = object;

	handle_abandon(handle);
	handle->next = NULL;
	memset(handle + 1, 0, sizes[kind] - sizeof(*handle));
	queue_rotate(&all[kind], handle, sizes[kind]);
}

void handle_abandon(void *object)
{
	struct handle *handle = object;

	atomic_store_explicit(&handle->word, 0, memory_order_release);
}

size_t handle_bytes(void)
{
	size_t n = 0;

	for (unsigned kind = 0; kind < HANDLE_KINDS; kind++)
		n += atomic_load(&all[kind].pool.mapped);
	return n;
}

void handle_fork_child(void)
{
	pthread_once(&once, handles_init);
	for (unsigned kind = 0; kind < HANDLE_KINDS; kind++) {
		if (!pool_fork_child(&all[kind].pool))
			continue;
		/* The dead stay dead. */
		all[kind].oldest = NULL;
		all[kind].newest = NULL;
		all[kind].ndead = 0;
	}
}
