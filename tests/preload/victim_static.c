/* SPDX-License-Identifier: MIT */
/* A program that nothing can be put in front of. */
#include "victim.h"

int main(void)
{
	char *ptr = malloc(64 * MIB);

	check(ptr);
	fill(ptr, 64 * MIB, 1);
	check(is_filled(ptr, 64 * MIB, 1));
	free(ptr);
	puts("victim: all as it should be");
	return 0;
}
