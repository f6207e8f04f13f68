/* SPDX-License-Identifier: MIT */
/*
 * To be preloaded: a file whose name ends in "late.json" is closed as over NFS or a quota, where
 * only then it is known that what was written found no room. No state, no locks.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((visibility("default"))) int close(int fd)
{
	static const char end[] = "late.json";
	char link[64], name[4096];
	int (*real)(int fd);
	ssize_t len;

	*(void **)&real = dlsym(RTLD_NEXT, "close");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, name, sizeof(name));
	if (real(fd))
		return -1;
	if (len < (ssize_t)strlen(end) || memcmp(name + len - strlen(end), end, strlen(end)) != 0)
		return 0;
	errno = EDQUOT;
	return -1;
}
