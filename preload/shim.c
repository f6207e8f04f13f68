/* SPDX-License-Identifier: MIT */
/*
 * The shim as a whole: reads its settings before main(), arms the allocator and the mappings if
 * there is something to do, and sees fork() through.
 *
 * Order matters in fork(). Handlers registered last run first before the fork and last after it:
 * the engine's (registered when it starts, after libumm's) stop it, libumm's bring pages home,
 * jemalloc's take its locks, and those here, registered before jemalloc's, take the lock of the
 * books, which is innermost.
 *
 * Where the settings make no sense the program runs with an ordinary malloc, after one line that
 * says why. No locks.
 */
#include "shim.h"

#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <umm.h>

#include "child.h"
#include "descriptors.h"
#include "engine.h"
#include "filter.h"
#include "heap.h"
#include "lent.h"
#include "rights.h"
#include "sandbox.h"
#include "say.h"
#include "space.h"
#include "state.h"
#include "tight.h"
#include "turns.h"

struct code {
	uintptr_t start, end;
};

enum { CODE_LIBUMM, CODE_LOADER, NR_CODES };

static struct settings settings;
static struct code codes[NR_CODES];
static _Atomic bool armed, decided;
static _Atomic bool used;

SHIM_TLS enum thread_mode thread_mode;

bool shim_is_armed(void)
{
	return atomic_load_explicit(&armed, memory_order_acquire);
}

bool shim_is_decided(void)
{
	return atomic_load_explicit(&decided, memory_order_acquire);
}

bool shim_disarm(void)
{
	return atomic_exchange(&armed, false);
}

const struct settings *shim_settings(void)
{
	return &settings;
}

void shim_say(const char *format, ...)
{
	va_list args;

	if (settings.quiet)
		return;
	va_start(args, format);
	say_line("umm: ", format, args);
	va_end(args);
}

static void fork_child(void)
{
	space_fork_child();
	descriptors_fork_child();
	/* Who is at rest may have a filter of system calls. */
	if (!shim_is_armed())
		return;
	rights_fork_child();
	filter_start();
	state_fork_child();
}

void shim_first_use(void)
{
	if (!atomic_exchange(&used, true))
		pthread_atfork(space_fork_prepare, space_fork_parent, fork_child);
}

bool shim_is_internal_code(const void *addr)
{
	for (unsigned i = 0; i < NR_CODES; i++)
		if ((uintptr_t)addr - codes[i].start < codes[i].end - codes[i].start)
			return true;
	return false;
}

static int code_find(struct dl_phdr_info *info, size_t len, void *priv)
{
	uintptr_t inside = *(uintptr_t *)priv, start = UINTPTR_MAX, end = 0;
	unsigned which = inside == (uintptr_t)umm_version ? CODE_LIBUMM : CODE_LOADER;

	(void)len;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + segment->p_vaddr;

		if (segment->p_type != PT_LOAD)
			continue;
		start = at < start ? at : start;
		end = at + segment->p_memsz > end ? at + segment->p_memsz : end;
	}
	if (inside < start || inside >= end)
		return 0;
	codes[which] = (struct code){ start, end };
	return 1;
}

static void codes_find(void)
{
	uintptr_t libumm = (uintptr_t)umm_version, loader = getauxval(AT_BASE);

	dl_iterate_phdr(code_find, &libumm);
	if (loader)
		dl_iterate_phdr(code_find, &loader);
}

static void arm(void)
{
	char error[SETTINGS_ERROR_LEN];
	const char *tool;

	settings_default(&settings);
	if (settings_from_environment(&settings, error)) {
		shim_say("%s; running without managed memory", error);
		return;
	}
	if (!settings.ndevices || !settings.host_limit)
		return;
	if (!tight_is_enough(&settings, error)) {
		shim_say("running without managed memory: %s", error);
		return;
	}
	if (sandbox_is_tighter()) {
		shim_say("running without managed memory: a filter of system calls was set since "
			 "\"umm run\" started");
		return;
	}
	tool = turns_given_by();
	if (tool) {
		shim_say("running without managed memory: under %s one thread runs at a time, and "
			 "who waits for a page holds up who brings it",
			 tool);
		return;
	}
	codes_find();
	say_log();
	heap_arm(settings.malloc_threshold);
	atomic_store_explicit(&armed, true, memory_order_release);
}

/* Before the constructors of libraries that might allocate much; after libc's. */
__attribute__((constructor(101))) static void shim_start(void)
{
	shim_first_use();
	say_start();
	descriptors_start();
	lent_start();
	child_start();
	rights_start();
	filter_start();
	arm();
	atomic_store_explicit(&decided, true, memory_order_release);
}

__attribute__((destructor(101))) static void shim_end(void)
{
	if (shim_is_armed())
		engine_end();
}

/* Past all destructors, as forked children end; also in signal handlers. */
PRELOAD_API void _exit(int status)
{
	if (shim_is_armed())
		engine_exit();
	for (;;)
		syscall(SYS_exit_group, status);
}

PRELOAD_API void _Exit(int status) __attribute__((alias("_exit")));
