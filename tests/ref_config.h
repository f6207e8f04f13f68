/* SPDX-License-Identifier: MIT */
/*
 * What tests set on the reference device while it runs: which copies fail, who watches
 * its invalidations.
 */
#ifndef REF_CONFIG_H
#define REF_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "ref_device.h"

/*
 * Never changed, only replaced: who reads it is ordered
 * after the test by a page fault at most, which is no order to the language.
 */
struct config {
	struct config *older;
	struct ref_failure failure;
	_Atomic unsigned failures_left;
	void (*watch_fn)(void *priv, const struct umm_notifier_range *range);
	void *watch_priv;
};

static inline bool failure_hits(const struct ref_failure *failure, const struct umm_copy *copy)
{
	bool dir = copy->dir == UMM_COPY_TO_DEVICE ? failure->to_device : failure->from_device;

	if (!dir)
		return false;
	return failure->nframes == 0 || (copy->frame < failure->frame + failure->nframes &&
					 failure->frame < copy->frame + copy->npages);
}

/* The error that this call is to end with. Counts it against config.failures_left. */
static inline int config_failure(struct config *config, const struct umm_copy *copies,
				 unsigned ncopies)
{
	const struct ref_failure *failure = &config->failure;
	unsigned left, i;

	for (i = 0; i < ncopies; i++)
		if (failure->error && failure_hits(failure, &copies[i]))
			break;
	if (!failure->error || i == ncopies)
		return 0;
	if (failure->times) {
		left = atomic_load(&config->failures_left);
		do {
			if (left == 0)
				return 0;
		} while (!atomic_compare_exchange_weak(&config->failures_left, &left, left - 1));
	}
	return failure->error;
}

/* A copy of the configuration, for the caller to change and to publish; NULL: no memory. */
static inline struct config *config_copy(struct config *older)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return NULL;
	config->older = older;
	if (older) {
		config->failure = older->failure;
		config->failures_left = older->failures_left;
		config->watch_fn = older->watch_fn;
		config->watch_priv = older->watch_priv;
	}
	return config;
}

#endif
