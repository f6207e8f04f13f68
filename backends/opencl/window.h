/* SPDX-License-Identifier: MIT */
/* Windows: ranges of managed memory as buffers. */
#ifndef OPENCL_WINDOW_H
#define OPENCL_WINDOW_H

#include "device.h"
#include "watch.h"

struct umm_opencl_window {
	struct umm_opencl *ocl;
	struct umm_notifier *notifier; /* over start .. end */
	uintptr_t start;
	uintptr_t end;
	uint32_t npages;
	bool track;

	/* Under windows.residency: */
	struct umm_opencl_window *next; /* used less recently */
	struct umm_devmem *mem;		/* PLACED; NULL: it has no device memory now */
	struct pools pools;		/* its one buffer */
	cl_mem shadow;			/* track: what the pages were */
	bool remembered;		/* when it was acquired for writing, since nobody held it */

	/* Protects: what follows. Never held while libumm is called. Inside: nothing. */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* nobody holds it, or events are done */

	unsigned held;	   /* acquired so often more than released */
	unsigned resident; /* access for which all pages were in the buffer as of seq; 0: none */
	unsigned access;   /* what it was acquired for since nobody held it; 0: never */
	unsigned uses;	   /* what holders and events may do with it, at most */
	uint64_t seq;
	cl_event *events;  /* to wait for before pages leave */
	cl_uint nevents;   /* of these, and */
	unsigned draining; /* threads that wait for others that were there */
};

struct windows {
	struct watcher watcher; /* of who waits for windows */

	/* Protects: the list, and device memory of windows; held while libumm is called, no
	 * callback takes it. Inside: nothing. */
	pthread_mutex_t residency;

	struct umm_opencl_window *first; /* the one acquired last */
	uint64_t bytes;			 /* of device memory at most, */
	uint64_t used;			 /* and now */
	cl_program program;		 /* that compares; NULL: not built yet */
	cl_kernel compare;
};

/* 0 or -ENOMEM. bytes: device memory for windows, 0 for the default. */
int windows_create(struct umm_opencl *ocl, uint64_t bytes);

/* The device goes away: wait until nobody holds a window or uses its buffer. */
void windows_quiesce(struct umm_opencl *ocl);
/* After that, and after the core has brought pages home; NULL is fine. */
void windows_destroy(struct umm_opencl *ocl);
/* The same in a forked child: host memory only. */
void windows_forget(struct umm_opencl *ocl);

/* Wait for the events of a window that nobody holds. */
void window_drain(struct umm_opencl_window *window);

/* All pages were seen in the buffer as of seq: hold it for that access, unless it has changed. */
bool window_hold_seen(struct umm_opencl_window *window, unsigned access, uint64_t seq);

/* window_fill.c, under windows.residency: bring what it lacks, and hold it. 0 or an error. */
int window_fill(struct umm_opencl_window *window, unsigned access);

/*
 * window_memory.c, under windows.residency. Have device memory, for which others may lose
 * theirs: 0; -ENOSPC; -ENOMEM; or another error. Take it away.
 */
int window_back(struct umm_opencl_window *window);
void window_unback(struct umm_opencl_window *window);
/* Release the buffers of a window whose memory the core has removed. */
void window_release_buffers(struct umm_opencl_window *window);
/* Remember what is in the buffer; say which pages differ from that since. 0 or an error. */
int window_remember(struct umm_opencl_window *window);
int window_compare(struct umm_opencl_window *window, uint64_t *bits);

static inline size_t window_words(const struct umm_opencl_window *window)
{
	return (window->npages + 63) / 64;
}

#endif
