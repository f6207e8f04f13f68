/* SPDX-License-Identifier: MIT */
/* Waits that may never end: one that takes long is written to the log. */
#ifndef OPENCL_WATCH_H
#define OPENCL_WATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One wait, on the stack of who waits. */
struct watch {
	struct watch *next;
	uint64_t until_ns;
	uintptr_t addr;
	const char *why;
	bool said;
};

/* Zeroed, then: */
struct watcher {
	/* Protects: what follows. Held for a few instructions. Inside: nothing. */
	pthread_mutex_t lock;
	pthread_cond_t changed;

	struct watch *first; /* the one that began first */
	pthread_t thread;
	bool started;
	bool idle; /* the thread has nothing to look at, and sleeps until it is told */
	bool stop;
};

void watcher_init(struct watcher *watcher);
/* Nobody waits any more. */
void watcher_fini(struct watcher *watcher);

/* Have its thread: 0, or an error, reported. Without it nothing is written. */
int watcher_start(struct watcher *watcher);

/* A wait for memory at addr begins; it ends. why: a constant. */
void watch_begin(struct watcher *watcher, struct watch *watch, uintptr_t addr, const char *why);
void watch_end(struct watcher *watcher, struct watch *watch);

#endif
