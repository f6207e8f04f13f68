/* SPDX-License-Identifier: MIT */
/* Reading small files of the kernel's, one call each. No state, no locks. */
#include "sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int sysfs_read(const char *path, char *text, size_t text_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t got;

	text[0] = '\0';
	if (fd < 0)
		return -errno;
	/* The kernel gives long files piece by piece. */
	while ((got = read(fd, text + len, text_len - 1 - len)) > 0)
		len += (size_t)got;
	close(fd);
	if (got < 0) {
		text[0] = '\0';
		return -EIO;
	}
	while (len && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	return 0;
}

uint64_t sysfs_number(const char *path)
{
	char text[32];

	return sysfs_read(path, text, sizeof(text)) ? 0 : strtoull(text, NULL, 10);
}
