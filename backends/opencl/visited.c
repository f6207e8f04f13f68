/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "visited.h"

#define MIN_SIZE 256

static uint64_t *find(uint64_t *keys, uint32_t size, uint64_t key)
{
	uint32_t i = (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (size - 1);

	while (keys[i] && keys[i] != key)
		i = (i + 1) & (size - 1);
	return &keys[i];
}

static bool grow(struct visited *visited)
{
	uint32_t size = visited->size ? 2 * visited->size : MIN_SIZE;
	uint64_t *keys = size ? calloc(size, sizeof(*keys)) : NULL;

	if (!keys)
		return false;
	for (uint32_t i = 0; i < visited->size; i++)
		if (visited->keys[i])
			*find(keys, size, visited->keys[i]) = visited->keys[i];
	free(visited->keys);
	visited->keys = keys;
	visited->size = size;
	return true;
}

bool visited_add(struct visited *visited, uint64_t addr)
{
	uint64_t *slot, key = addr + 1; /* 0 is an empty slot */

	if (visited->count >= visited->size / 2 && !grow(visited))
		return false;
	slot = find(visited->keys, visited->size, key);
	if (*slot)
		return false;
	*slot = key;
	visited->count++;
	return true;
}

void visited_clear(struct visited *visited)
{
	free(visited->keys);
	*visited = (struct visited){ 0 };
}
