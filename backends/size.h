/* SPDX-License-Identifier: MIT */
/* For backends: the rule for structures that start with their size: see umm.h. */
#ifndef BACKENDS_SIZE_H
#define BACKENDS_SIZE_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define SIZE_MOST ((size_t)4096) /* bytes; no structure of any version is larger */

/* May the caller's structure be taken for one of our_size bytes? 0, -EINVAL or -E2BIG. */
static inline int size_check(const void *theirs, size_t our_size)
{
	const unsigned char *bytes = theirs;
	size_t their_size;

	if (!theirs)
		return -EINVAL;
	memcpy(&their_size, theirs, sizeof(their_size));
	if (their_size < sizeof(their_size))
		return -EINVAL;
	if (their_size > SIZE_MOST)
		return -E2BIG;
	for (size_t i = our_size; i < their_size; i++)
		if (bytes[i])
			return -E2BIG;
	return 0;
}

/* Copy the caller's structure into ours; what it lacks is zero. */
static inline int size_in(void *ours, size_t our_size, const void *theirs)
{
	size_t their_size;
	int ret = size_check(theirs, our_size);

	if (ret)
		return ret;
	memcpy(&their_size, theirs, sizeof(their_size));
	memset(ours, 0, our_size);
	memcpy(ours, theirs, their_size < our_size ? their_size : our_size);
	return 0;
}

/* Copy ours into the caller's, as far as that goes; its size stays. */
static inline void size_out(void *theirs, const void *ours, size_t our_size)
{
	size_t their_size, len;

	memcpy(&their_size, theirs, sizeof(their_size));
	len = their_size < our_size ? their_size : our_size;
	memcpy((char *)theirs + sizeof(size_t), (const char *)ours + sizeof(size_t),
	       len - sizeof(size_t));
}

#endif
