/* SPDX-License-Identifier: MIT */
/* A library that is loaded late, and allocates when it is. */
#include "victim.h"

void *library_make(size_t len);
void library_destroy(void *ptr);

static void *early;
static size_t early_len;

/* While the dynamic loader is locked: more than the limit, if that is wanted. */
__attribute__((constructor)) static void library_start(void)
{
	early_len = getenv("VICTIM_LOADER") ? 48 * MIB : 200000;
	early = malloc(early_len);
	fill(early, early_len, 1);
}

__attribute__((destructor)) static void library_end(void)
{
	check(is_filled(early, early_len, 1));
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
