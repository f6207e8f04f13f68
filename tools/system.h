/* SPDX-License-Identifier: MIT */
/* What /proc and /sys say of this machine. Absent files are normal: containers hide them. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SYSTEM_VALUE = 128 };

struct system_memory {
	uint64_t total_bytes;
	uint64_t available_bytes;
	uint64_t swap_total_bytes;
	uint64_t swap_free_bytes;
};

/*
 * Read the first line of a small file, without its newline; what does not fit is
 * cut. 0 or -errno; on an error text is empty.
 */
int system_read(const char *path, char *text, size_t text_len);

/* Read a number: true where the file begins with one. */
bool system_read_number(const char *path, uint64_t *number);

/* The word in brackets of "always [madvise] never": 0, or -errno and an empty text. */
int system_read_choice(const char *path, char *text, size_t text_len);

/* Look up "key: 17 kB" in a file like /proc/meminfo, in bytes: true where it is there. */
bool system_read_field(const char *path, const char *key, uint64_t *bytes);

/* false where /proc/meminfo cannot be read. */
bool system_memory(struct system_memory *memory);

/* CPUs that this process may run on. */
unsigned system_cpus(void);

#endif
