/* SPDX-License-Identifier: MIT */
/* What the parts of the reference device share. Locks: see ref_device.c. */
#ifndef REF_PRIVATE_H
#define REF_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "quiet_lock.h"
#include "ref_config.h"
#include "ref_device.h"
#include "ref_memory.h"
#include "ref_queue.h"
#include "ref_table.h"

struct ref_private {
	struct ref_device *ref;
	struct ref_options options;
	_Atomic int policy;
	struct memory *memories; /* grows only; changes while nothing of the device is used */

	struct ref_counts counts; /* atomics, by count_add() and count_of() */
	_Atomic(struct config *) config;
	_Atomic unsigned refuse; /* invalidations to answer with -EAGAIN */
	_Atomic int callbacks;	 /* mirror callbacks that run now */

	pthread_rwlock_t use_lock; /* shared by who uses the umm objects, against quiesce */
	_Atomic bool quiesced;

	struct quiet_lock table_lock; /* Protects: table; inside: nothing */
	struct ref_table table;

	pthread_mutex_t watch_lock; /* orders a look at counts.events against watch_cond */
	pthread_cond_t watch_cond;
	_Atomic unsigned watchers; /* threads that wait there */

	struct queue queue;   /* not of an inline device */
	struct ref_real real; /* the backend below, if there is one */
};

static inline uint64_t count_add(uint64_t *counter, uint64_t n)
{
	return __atomic_fetch_add(counter, n, __ATOMIC_SEQ_CST);
}

static inline uint64_t count_of(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

/* The op: enter what is there of pages that the device is hinted to access (ref_access.c). */
void ref_op_accessed(void *priv, uintptr_t start, uintptr_t end);

#endif
