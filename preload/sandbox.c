/* SPDX-License-Identifier: MIT */
/*
 * A filter of system calls (seccomp) goes along with exec(). One that was there when "umm run"
 * started is a container's, and lets libumm work, or umm_probe() says that it does not. One that
 * came after is the program's, or of whoever it is started by, and made for a program
 * without a shim: what managed memory takes may be what it kills for. There is no way to ask
 * a filter; so it is a matter of their number, which only grows.
 *
 * No locks, no state.
 */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define VARIABLE "UMM_RUN_FILTERS"

/* Before Linux 5.9: 1 for any number. 0 also where it cannot be told. */
static unsigned long filters(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long mode = 0, number = 0;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "Seccomp_filters: %lu", &number) != 1)
			sscanf(line, "Seccomp: %lu", &mode);
	if (status)
		fclose(status);
	return number ? number : mode != 0;
}

int sandbox_note(void)
{
	char text[24];

	snprintf(text, sizeof(text), "%lu", filters());
	return setenv(VARIABLE, text, true) ? -errno : 0;
}

bool sandbox_is_tighter(void)
{
	const char *before = getenv(VARIABLE);

	return before && filters() > strtoul(before, NULL, 10);
}
