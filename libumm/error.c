/* SPDX-License-Identifier: MIT */
/*
 * What errors mean, in libumm's own terms, and what this library is. Nothing here
 * allocates, locks or keeps state, so all of it is async-signal-safe.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "umm.h"
#include "util.h"

#define STRING_OF(x)	#x
#define DOTTED(a, b, c) STRING_OF(a) "." STRING_OF(b) "." STRING_OF(c)

const char *umm_version(void)
{
	return DOTTED(UMM_VERSION_MAJOR, UMM_VERSION_MINOR, UMM_VERSION_PATCH);
}

size_t umm_page_size(void)
{
	return UMM_PAGE_SIZE;
}

static const struct {
	int err;
	const char *text;
} messages[] = {
	{ 0, "success" },
	{ EINVAL, "invalid argument: zero, misaligned, overflowing or unknown" },
	{ EFAULT, "the address is not managed, or not mapped, memory" },
	{ EEXIST, "the range overlaps memory that is already managed" },
	{ ENOENT, "nothing in the range qualifies" },
	{ EBUSY, "invalidated meanwhile, pinned or still in use: try again" },
	{ EAGAIN,
	  "not done yet, it would have to sleep, or no thread can be started: try again later" },
	{ ETIME, "the deadline passed" },
	{ EPERM, "permission denied" },
	{ ENOMEM, "host memory, or the kernel's limit on mappings or descriptors, is exhausted" },
	{ ENOSPC, "device memory is full" },
	{ EOPNOTSUPP, "the operation, or the kernel feature that it needs, is absent" },
	{ ENODEV,
	  "no such device: none found, removed, or of the process that this one was forked from" },
	{ EIO, "the device failed; pages that were only there are lost and poisoned" },
	{ EDEADLK, "the call would wait for itself: it is in a callback, or moves its own stack" },
	{ E2BIG, "the caller's structure is newer than this library" },
};

const char *umm_strerror(int err)
{
	const char *text;

	/* Compare both signs: negating the most negative integer is undefined. */
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (err == messages[i].err || err == -messages[i].err)
			return messages[i].text;
	/* Not ours: a device's own. The C library's descriptions are static, too. */
	text = err > -4096 && err < 4096 ? strerrordesc_np(err < 0 ? -err : err) : NULL;
	return text ? text : "unknown error";
}

static void write_all(const char *text)
{
	ssize_t written = write(STDERR_FILENO, text, strlen(text));

	(void)written;
}

void util_assert_failed(const char *expr, const char *file, int line)
{
	char digits[12];
	char *p = digits + sizeof(digits) - 1;

	*p = '\0';
	do {
		*--p = (char)('0' + line % 10);
		line /= 10;
	} while (line);
	write_all("libumm: ");
	write_all(file);
	write_all(":");
	write_all(p);
	write_all(": broken invariant: ");
	write_all(expr);
	write_all("\n");
	abort();
}
