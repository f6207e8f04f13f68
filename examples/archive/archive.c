/* SPDX-License-Identifier: MIT */
/* Reading the archive: stanzas of text become packages, and names of others their numbers. */
#include "archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES ((size_t)1 << 20)

/* A word of the text. */
struct name {
	const char *at;
	int len;
};

static int text_read(struct archive *archive, FILE *file)
{
	size_t room = 0, n;
	char *text;

	do {
		if (archive->text_len + 1 >= room) {
			room = room ? 2 * room : READ_BYTES;
			text = realloc(archive->text, room);
			if (!text)
				return -ENOMEM;
			archive->text = text;
		}
		n = fread(archive->text + archive->text_len, 1, room - archive->text_len - 1, file);
		archive->text_len += n;
	} while (n);
	archive->text[archive->text_len] = '\0';
	return archive->text_len < UINT32_MAX ? 0 : -EFBIG;
}

const char *archive_field(const char *text, const struct package *package, const char *name,
			  int *len)
{
	const char *at = text + package->text, *end = at + package->text_len, *line_end;
	size_t name_len = strlen(name);

	for (; at < end; at = line_end + 1) {
		line_end = memchr(at, '\n', (size_t)(end - at));
		if (!line_end)
			line_end = end;
		if ((size_t)(line_end - at) < name_len || memcmp(at, name, name_len) != 0)
			continue;
		*len = (int)(line_end - at - (ptrdiff_t)name_len);
		return at + name_len;
	}
	return NULL;
}

static int stanzas_find(struct archive *archive)
{
	uint32_t n = 1;

	for (const char *at = archive->text; (at = strstr(at, "\n\n")); at += 2)
		n++;
	archive->packages = calloc(n, sizeof(*archive->packages));
	if (!archive->packages)
		return -ENOMEM;
	for (const char *at = archive->text, *end; *at; at = *end ? end + 2 : end) {
		struct package *package = &archive->packages[archive->npackages];
		const char *size;
		int len;

		end = strstr(at, "\n\n");
		if (!end)
			end = archive->text + archive->text_len;
		package->text = (uint32_t)(at - archive->text);
		package->text_len = (uint32_t)(end - at);
		size = archive_field(archive->text, package, "Installed-Size: ", &len);
		package->size_kib = size ? (uint32_t)strtoul(size, NULL, 10) : 0;
		archive->npackages +=
			archive_field(archive->text, package, "Package: ", &len) != NULL;
	}
	return archive->npackages ? 0 : -ENOENT;
}

static int compare_names(const struct name *a, const struct name *b)
{
	int order = memcmp(a->at, b->at, (size_t)(a->len < b->len ? a->len : b->len));

	return order ? order : a->len - b->len;
}

static struct name package_name(const struct archive *archive, const struct package *package)
{
	struct name name = { "", 0 };
	const char *at = archive_field(archive->text, package, "Package: ", &name.len);

	return at ? (struct name){ at, name.len } : name;
}

static int by_name(const void *first, const void *second, void *archive)
{
	struct name a = package_name(archive, first), b = package_name(archive, second);

	return compare_names(&a, &b);
}

/* The number of the package that is called so; UINT32_MAX: none is. */
static uint32_t name_find(const struct archive *archive, const struct name *name)
{
	uint32_t low = 0, high = archive->npackages, middle;

	while (low < high) {
		struct name other;
		int order;

		middle = low + (high - low) / 2;
		other = package_name(archive, &archive->packages[middle]);
		order = compare_names(name, &other);
		if (!order)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return UINT32_MAX;
}

/* "a (>= 1), b | c": the number of each, or of the first alternative that there is. */
static int depends_parse(struct archive *archive, const char *at, int len, uint32_t *room)
{
	const char *end = at + len;
	uint32_t found = UINT32_MAX;

	for (; at < end; at++) {
		struct name name = { at, (int)strcspn(at, " ,|:(\n") };

		if (found == UINT32_MAX && name.len)
			found = name_find(archive, &name);
		at += strcspn(at, ",|\n");
		if (found != UINT32_MAX && (at >= end || *at != '|')) {
			if (archive->ndepends == *room) {
				uint32_t *more;

				*room = *room ? 2 * *room : 4096;
				more = realloc(archive->depends, *room * sizeof(*more));
				if (!more)
					return -ENOMEM;
				archive->depends = more;
			}
			archive->depends[archive->ndepends++] = found;
			found = UINT32_MAX;
		}
		at += strspn(at, ",| ") - (at < end);
	}
	return 0;
}

static int depends_join(struct archive *archive)
{
	static const char *const fields[] = { "Depends: ", "Pre-Depends: " };
	uint32_t room = 0;
	int ret = 0;

	qsort_r(archive->packages, archive->npackages, sizeof(*archive->packages), by_name,
		archive);
	for (uint32_t i = 0; i < archive->npackages && !ret; i++) {
		struct package *package = &archive->packages[i];

		package->depends = archive->ndepends;
		for (unsigned k = 0; k < 2 && !ret; k++) {
			int len;
			const char *at = archive_field(archive->text, package, fields[k], &len);

			if (at)
				ret = depends_parse(archive, at, len, &room);
		}
		package->ndepends = archive->ndepends - package->depends;
	}
	return ret;
}

int archive_load(struct archive *archive, const char *file)
{
	FILE *stream = file ? fopen(file, "r") : popen("apt-cache dumpavail 2>/dev/null", "r");
	int ret;

	memset(archive, 0, sizeof(*archive));
	ret = stream ? text_read(archive, stream) : -errno;
	if (stream)
		file ? fclose(stream) : pclose(stream);
	if (!ret)
		ret = stanzas_find(archive);
	if (!ret)
		ret = depends_join(archive);
	if (!ret)
		return 0;
	fprintf(stderr, "%s: %s%s\n", file ? file : "apt-cache dumpavail", strerror(-ret),
		file ? "" : ". Try 'apt-get update', or name a file such as /var/lib/dpkg/status");
	archive_free(archive);
	return ret;
}

void archive_free(struct archive *archive)
{
	free(archive->packages);
	free(archive->depends);
	free(archive->text);
}
