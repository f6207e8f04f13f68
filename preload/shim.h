/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the shim share: whether it is at work, which thread is whose, and the one
 * line that it may say.
 */
#ifndef SHIM_H
#define SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "settings.h"

#define PRELOAD_API __attribute__((visibility("default")))

/* Looked at by every malloc(): not by way of a table of addresses. */
#define SHIM_HIDDEN __attribute__((visibility("hidden")))

/* initial-exec: the other models call malloc on a thread's first access. */
#define SHIM_TLS _Thread_local __attribute__((tls_model("initial-exec")))

enum thread_mode {
	THREAD_FRESH,	 /* has not allocated yet */
	THREAD_PLAIN,	 /* the program's */
	THREAD_INTERNAL, /* the shim's, libumm's or a device's: no managed memory for it */
};

extern SHIM_TLS enum thread_mode thread_mode SHIM_HIDDEN;

/*
 * Armed: there is a device and a limit, so memory is kept track of. False: the shim is an ordinary
 * malloc. It becomes true once, in the constructor, and false again where the shim has to rest.
 */
bool shim_is_armed(void);
/* True: it was armed. */
bool shim_disarm(void);
/* The constructor has run: whether it is armed does not change any more. */
bool shim_is_decided(void);
const struct settings *shim_settings(void);

/* Before the very first allocation: fork()'s handlers have an order. */
void shim_first_use(void);

/* True where the code at @addr is libumm's or the dynamic loader's. */
bool shim_is_internal_code(const void *addr);

/* One line on standard error, "umm: ...", unless it is to be quiet (say.h). No malloc, no stdio. */
void shim_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
