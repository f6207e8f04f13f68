/* SPDX-License-Identifier: MIT */
/* A library that is loaded late, and allocates when it is. */
#include "victim.h"

void *library_make(size_t len);
void library_destroy(void *ptr);

static void *early;

__attribute__((constructor)) static void library_start(void)
{
	early = malloc(200000);
	fill(early, 200000, 1);
}

__attribute__((destructor)) static void library_end(void)
{
	check(is_filled(early, 200000, 1));
	free(early);
}

__attribute__((visibility("default"))) void *library_make(size_t len)
{
	void *ptr = malloc(len);

	fill(ptr, len, 11);
	return ptr;
}

__attribute__((visibility("default"))) void library_destroy(void *ptr)
{
	free(ptr);
}
