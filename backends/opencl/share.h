/* SPDX-License-Identifier: MIT */
/* Bringing many pages with two threads. */
#ifndef OPENCL_SHARE_H
#define OPENCL_SHARE_H

#include "device.h"

#define SHARE_REQUESTS 2

/* ocl->share; on failure what there is of it is left to share_destroy(). 0 or -ENOMEM. */
int share_create(struct umm_opencl *ocl);
void share_destroy(struct umm_opencl *ocl);

/* Would bringing these pages take less time so? */
bool share_pays(const struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans);

/*
 * Another thread begins to bring the pages of a request: all of its spans, which are sorted, and
 * stay as they are until share_finish(). At most SHARE_REQUESTS of them before that.
 */
void share_begin(struct umm_opencl *ocl, const struct umm_migrate_request *request);

/*
 * Help that thread, and wait until all is there. Pages moved; 0, also where they refused to;
 * -EIO some are lost; other errors of umm_migrate_spans() where nothing moved.
 */
long share_finish(struct umm_opencl *ocl);

#endif
