/* SPDX-License-Identifier: MIT */
/* A program that brings its own malloc(), made of mmap(): it keeps it, its mappings are managed. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "victim.h"

static unsigned own_calls;

struct header {
	size_t len;
	char pad[48];
};

void *malloc(size_t len)
{
	struct header *header = mmap(NULL, len + sizeof(*header), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	own_calls++;
	if (header == MAP_FAILED) {
		errno = ENOMEM;
		return NULL;
	}
	header->len = len;
	return header + 1;
}

void free(void *ptr)
{
	struct header *header = (struct header *)ptr - 1;

	if (ptr)
		munmap(header, header->len + sizeof(*header));
}

void *calloc(size_t n, size_t len)
{
	return malloc(n * len);
}

void *realloc(void *ptr, size_t len)
{
	void *larger = malloc(len);

	if (ptr && larger) {
		struct header *header = (struct header *)ptr - 1;

		memcpy(larger, ptr, header->len < len ? header->len : len);
		free(ptr);
	}
	return larger;
}

int main(void)
{
	char *parts[24];

	for (unsigned i = 0; i < 24; i++)
		fill(parts[i] = malloc(4 * MIB), 4 * MIB, i);
	check(own_calls >= 24);
	for (unsigned i = 0; i < 24; i++) {
		check(is_filled(parts[i], 4 * MIB, i));
		free(parts[i]);
	}
	puts("victim: all as it should be");
	return 0;
}
