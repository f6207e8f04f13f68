/* SPDX-License-Identifier: MIT */
/* What the programs under the shim share: they know nothing of it, and check their own data. */
#ifndef VICTIM_H
#define VICTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

#define check(condition)                                                                        \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			_Exit(1);                                                               \
		}                                                                               \
	} while (0)

/* Every word of every page differs from every other's and seed's. */
static inline void fill(void *start, size_t len, uint64_t seed)
{
	uint64_t *word = start;

	for (size_t i = 0; i < len / sizeof(*word); i += 64)
		word[i] = (seed << 40) + i * 0x9e3779b97f4a7c15u;
}

static inline bool is_filled(const void *start, size_t len, uint64_t seed)
{
	const uint64_t *word = start;

	for (size_t i = 0; i < len / sizeof(*word); i += 64)
		if (word[i] != (seed << 40) + i * 0x9e3779b97f4a7c15u)
			return false;
	return true;
}

#endif
