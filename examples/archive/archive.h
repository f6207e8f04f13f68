/* SPDX-License-Identifier: MIT */
/* The packages of a Debian archive, as lists of what each depends on, and their texts. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

/** One package. Numbers instead of pointers, so that an archive can be copied. */
struct package {
	uint32_t depends, ndepends; /* items of the list of all dependencies: package numbers */
	uint32_t text, text_len;    /* its description in the archive's words */
	uint32_t size_kib;	    /* when it is installed */
};

struct archive {
	struct package *packages;
	uint32_t *depends;
	char *text;
	uint32_t npackages, ndepends;
	size_t text_len;
};

/**
 * archive_load() - read packages in the form of /var/lib/dpkg/status
 * @archive: filled in
 * @file:    the file; NULL: what "apt-cache dumpavail" prints
 *
 * Of alternatives the first that there is counts; virtual packages do not.
 *
 * Return: 0; -ENOENT there are no packages; or another negative errno. It said why.
 */
int archive_load(struct archive *archive, const char *file);

/** archive_free() - give the memory back */
void archive_free(struct archive *archive);

/** archive_field() - a package's "Package: " or another field, up to the end of line; NULL: none */
const char *archive_field(const char *text, const struct package *package, const char *name,
			  int *len);

#endif
