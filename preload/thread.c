/* SPDX-License-Identifier: MIT */
/*
 * pthread_create(), to know whose thread is whose: what a thread of the shim, of libumm or of a
 * device starts is one of them. Such threads take their memory past every cache, from an arena
 * that is never managed: they may have to run before managed memory can be touched.
 *
 * Threads of the program pay for one comparison. No locks.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "jemalloc_renamed.h"
#include "shim.h"

typedef int pthread_create_fn(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			      void *arg);

struct start {
	void *(*fn)(void *arg);
	void *arg;
};

static pthread_create_fn *next_pthread_create(void)
{
	static _Atomic(pthread_create_fn *) found;
	pthread_create_fn *fn = atomic_load_explicit(&found, memory_order_relaxed);

	if (!fn) {
		*(void **)&fn = dlsym(RTLD_NEXT, "pthread_create");
		atomic_store_explicit(&found, fn, memory_order_relaxed);
	}
	return fn;
}

static void *internal_main(void *arg)
{
	struct start start = *(struct start *)arg;
	bool off = false;

	thread_mode = THREAD_INTERNAL;
	umm_je_mallctl("thread.tcache.enabled", NULL, NULL, &off, sizeof(off));
	free(arg);
	return start.fn(start.arg);
}

PRELOAD_API int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			       void *arg)
{
	pthread_create_fn *next = next_pthread_create();
	struct start *start;
	int ret;

	if (!next)
		return EAGAIN;
	if (thread_mode != THREAD_INTERNAL)
		return next(thread, attr, fn, arg);
	start = malloc(sizeof(*start));
	if (!start)
		return EAGAIN;
	*start = (struct start){ fn, arg };
	ret = next(thread, attr, internal_main, start);
	if (ret)
		free(start);
	return ret;
}
