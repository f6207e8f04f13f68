/* SPDX-License-Identifier: MIT */
/*
 * What the user asked of the shim. Settings travel from "umm run" to the program as
 * environment variables; both sides read and write them by this table, so that an option, a line
 * of a configuration file and a variable of one name mean the same. Nothing here allocates:
 * the shim reads its settings before the program's first instruction.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/place.h"
#include "policy/sample.h"

enum {
	SETTINGS_DEVICES = 8,	 /* most devices */
	SETTINGS_NAME_LEN = 128, /* longest device name, with its zero */
	SETTINGS_ERROR_LEN = 256,
	SETTINGS_LIMIT_MIN = 16 << 20,
	SETTINGS_DEVICE_MIN = 2 << 20,
	SETTINGS_MALLOC_MIN = 65536, /* smallest malloc-threshold but 0 */
};

struct settings_device {
	char scheme[32];	      /* "numa" */
	char name[SETTINGS_NAME_LEN]; /* "1"; may be empty */
	uint64_t len;		      /* bytes of its memory to use; 0: what it has */
};

struct settings {
	uint64_t host_limit;	   /* bytes of managed memory in host frames; 0: no limit */
	uint64_t malloc_threshold; /* allocations from so many bytes on are managed; 0: all */
	uint64_t mmap_threshold;   /* likewise anonymous mappings */
	unsigned cpu_budget;	   /* percent of one CPU for looking for cold memory */
	bool quiet;		   /* no line on standard error where the shim cannot work */
	bool summary;		   /* print one at exit */
	const struct place_ops *placement;
	const struct sample_ops *sampling;
	unsigned ndevices;
	struct settings_device devices[SETTINGS_DEVICES];
};

/* One row of the table: "host-limit", "BYTES", and a line for --help. */
struct settings_key {
	const char *name;
	const char *argument; /* NULL: a switch */
	const char *help;
};

const struct settings_key *settings_keys(size_t *nkeys);

void settings_default(struct settings *settings);

/*
 * Set one. Of several devices the order is kept; a switch takes "yes" or "no". 0; -ENOENT there
 * is no such key; -EINVAL: @error says in one line what is wrong with the value.
 */
int settings_set(struct settings *settings, const char *key, const char *value,
		 char error[SETTINGS_ERROR_LEN]);

/* "8G", "512K", "1.5G", "4096". 0 or -EINVAL. */
int settings_bytes(const char *text, uint64_t *out);

/* The variable of a key: "host-limit" is UMM_HOST_LIMIT. */
void settings_variable(const char *key, char *out, size_t out_len);

/* Take over every variable that is set. As settings_set(); the first error ends it. */
int settings_from_environment(struct settings *settings, char error[SETTINGS_ERROR_LEN]);

#endif
