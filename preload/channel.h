/* SPDX-License-Identifier: MIT */
/*
 * What a program under the shim tells the umm command, and is told by it: one structure in a file
 * of shared memory that only the program's user can open, /dev/shm/umm-UID-PID. The shim's engine
 * writes the numbers once a round; a reader may see some of one round and some of the next.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "channel_file.h"
#include "settings.h"
#include "sheet.h"
#include "trace_ring.h"

#define CHANNEL_MAGIC UINT64_C(0x384c4e4843204d55) /* changes with the layout */

enum { CHANNEL_TEXT = 4096 };

enum channel_count {
	CHANNEL_MANAGED,       /* bytes of address space that are kept track of */
	CHANNEL_HOST,	       /* bytes in host frames: a bound */
	CHANNEL_HOST_MOST,     /* the most that it was */
	CHANNEL_TO_DEVICE,     /* bytes copied */
	CHANNEL_FROM_DEVICE,   /* bytes copied */
	CHANNEL_TOUCHED,       /* touches of pages on devices, */
	CHANNEL_RETURNED,      /* those soon after the page had left, */
	CHANNEL_THRASHED,      /* and those of pages that were known to be hot */
	CHANNEL_BROUGHT_ALONG, /* pages */
	CHANNEL_FAULT_NS,      /* time that fault servers worked */
	CHANNEL_PROBES,	       /* pages that were moved aside for a look, */
	CHANNEL_PROBES_BACK,   /* those that were touched, */
	CHANNEL_PROBE_NS,      /* and the CPU time of both */
	CHANNEL_GRANTS,	       /* blocks that were waited for */
	CHANNEL_LOST,	       /* pages */
	CHANNEL_LATE,	       /* pages that came over the limit: the engine was stuck */
	CHANNEL_ROUNDS,	       /* of the engine */
	CHANNEL_NR_COUNTS,
};

struct channel_tier {
	char name[SETTINGS_NAME_LEN];
	_Atomic uint64_t bytes, used;
	_Atomic uint32_t is_broken;
};

struct channel {
	struct channel_head head;
	char program[60];
	_Atomic uint64_t host_limit; /* bytes; the umm command may change it, */
	_Atomic uint32_t cpu_budget; /* this, */
	_Atomic uint32_t placement;  /* this: a number of place.h, */
	_Atomic uint32_t sampling;   /* and this: one of sample.h */
	_Atomic uint32_t is_thrashing;
	_Atomic uint64_t count[CHANNEL_NR_COUNTS];
	_Atomic uint32_t ntiers;
	_Atomic uint32_t is_over; /* the engine has ended before the program: numbers stay */
	struct channel_tier tier[SETTINGS_DEVICES];
	/* From here on there is memory only once channel_reserve() was called. */
	struct sheet sheet;
	struct trace_ring trace;
};

/* The program's side: make it. Where that fails for @why, a private one, which nobody else sees. */
struct channel *channel_create(int *why);
/* Take its name away, unless the "umm run" that started this program wants to read it. */
void channel_close(struct channel *channel);

/* The command's side. NULL: @error says in one line why. */
struct channel *channel_open(pid_t pid, char error[SETTINGS_ERROR_LEN]);
/* The same, of one whose engine answers still. */
struct channel *channel_open_running(pid_t pid, char error[SETTINGS_ERROR_LEN]);
/* While there is such a process, or what is left of it until somebody has waited for it. */
void channel_remove(pid_t pid);

/*
 * Have memory for a part of it: without it who writes there gets SIGBUS when /dev/shm is full. 0 or
 * a negative errno.
 */
int channel_reserve(const struct channel *channel, const void *part, size_t len);

/* One screen: where memory is and what moved. Its length; no malloc. */
size_t channel_describe(const struct channel *channel, char text[CHANNEL_TEXT]);

#endif
