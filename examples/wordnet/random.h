/* SPDX-License-Identifier: MIT */
/* The same numbers on every machine: splitmix64. */
#ifndef WORDNET_RANDOM_H
#define WORDNET_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/** random_below() - a number from 0 to @bound - 1 */
static inline size_t random_below(uint64_t *state, size_t bound)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (size_t)((z ^ z >> 31) % bound);
}

#endif /* WORDNET_RANDOM_H */
