/* SPDX-License-Identifier: MIT */
/* Serving a kernel while it runs: the pages that its work-items wait for. */
#ifndef OPENCL_ATTEND_H
#define OPENCL_ATTEND_H

#include "round.h"

/* Can work-items of this device wait, and when do they? Sets umm_opencl.can_wait and most_items. */
void attend_decide(struct umm_opencl *ocl);

/* 0 or -ENOMEM. */
int attend_create(struct umm_opencl *ocl);
void attend_destroy(struct umm_opencl *ocl);

/*
 * Is it the faster way for so many work-items to wait, by what is known? Not for many, nor where it
 * took longer than being run again.
 */
bool attend_pays(struct umm_opencl *ocl, uint32_t nitems);

/* A launch begins: what was slower may have become faster. */
void attend_forget(struct umm_opencl *ocl);

/* So many work-items were run again after so long, for so many pages. */
void attend_learn_replay(struct umm_opencl *ocl, uint32_t nitems, uint64_t ns, uint64_t npages);

/*
 * The kernel of this round is about to be handed over, and its work-items may wait for pages.
 * Where they cannot, because no thread is to be had, they do not. nitems: so many have something
 * to do, and stop waiting where that turns out to be slower; 0: they do not mind.
 */
void attend_begin(struct umm_opencl *ocl, uint32_t nitems);

/*
 * The kernel is over, and so is the round for all others: wait until nothing is under way, and
 * put into outcome what came, and for faults those that are left.
 */
void attend_end(struct umm_opencl *ocl, struct round_outcome *outcome);

/*
 * Let nobody wait any longer in the round that runs, if one does: who misses a page from now on
 * is run again. The caller holds umm_opencl.update.
 */
void attend_stop_locked(struct umm_opencl *ocl);

/* May the device's copy of the table have an entry for this address while the round runs? */
bool attend_may_set_locked(struct umm_opencl *ocl, uintptr_t addr);

/* Put the entry of the address, which the table has, into the device's copy. */
void attend_publish_locked(struct umm_opencl *ocl, uintptr_t addr);

#endif
