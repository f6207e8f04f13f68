/* SPDX-License-Identifier: MIT */
/*
 * umm.h is the only header here, and this file is compiled as strict C11 without
 * _GNU_SOURCE: the header must bring everything it needs. The library that is
 * linked must say that it is the version that the header says.
 */
#include "umm.h"

int main(void)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "%d.%d.%d", UMM_VERSION_MAJOR, UMM_VERSION_MINOR,
		 UMM_VERSION_PATCH);
	for (size_t i = 0; i < sizeof(expected) && expected[i] == umm_version()[i]; i++)
		if (!expected[i])
			return 0;
	printf("umm.h says %s, the library says %s\n", expected, umm_version());
	return 1;
}
