/* SPDX-License-Identifier: MIT */
/*
 * What a range of addresses is to the kernel, by the text of /proc/self/maps: it needs no
 * descriptor that stays open, and is the same on all kernels. What registration with a userfaultfd
 * cuts looks alike there: all of a line but addresses and offset. Files' mappings never do, for
 * the books have none. What the text does not show (advice, locks, policies of memory nodes) counts
 * as alike: each mapping keeps its own.
 *
 * No locks; the caller sees to it that nothing changes meanwhile.
 */
#include "layout.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "raw.h"

#define PAGE ((size_t)4096)

struct text {
	int fd;
	size_t at, len;
	char buffer[4096];
};

struct mapping {
	uintptr_t start, end;
	uint64_t kind;
};

enum { FIELD_PERMISSIONS = 1, FIELD_OFFSET, FIELD_DEVICE, FIELD_INODE };

/* 0 at the end. */
static char text_next(struct text *text)
{
	long len;

	if (text->at == text->len) {
		len = raw_syscall(SYS_read, text->fd, (long)text->buffer, sizeof(text->buffer), 0,
				  0, 0);
		if (len <= 0)
			return 0;
		text->at = 0;
		text->len = (size_t)len;
	}
	return text->buffer[text->at++];
}

/* What is there of digits; the character behind them is eaten. */
static uintptr_t text_hex(struct text *text)
{
	uintptr_t value = 0;
	char c;

	while ((c = text_next(text)) && c != '-' && c != ' ')
		value = value << 4 | (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	return value;
}

/* The rest of a line as a number; no two files' are alike. */
static uint64_t text_kind(struct text *text, uintptr_t start)
{
	uint64_t kind = 0xcbf29ce484222325;
	unsigned field = FIELD_PERMISSIONS;
	bool file = false;
	char c;

	while ((c = text_next(text)) && c != '\n') {
		file |= field == FIELD_INODE && c >= '1' && c <= '9';
		if (field != FIELD_OFFSET)
			kind = (kind ^ (unsigned char)c) * 0x100000001b3;
		field += c == ' ';
	}
	return file ? kind ^ start : kind;
}

static bool text_mapping(struct text *text, struct mapping *out)
{
	out->start = text_hex(text);
	out->end = text_hex(text);
	out->kind = text_kind(text, out->start);
	return out->end;
}

bool layout_read(uintptr_t start, uintptr_t end, struct layout *out)
{
	struct layout layout = { .alike = true, .start = end, .hole = end };
	struct text text = { .fd = (int)raw_syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/maps",
						    O_RDONLY | O_CLOEXEC, 0, 0, 0) };
	struct mapping mapping;
	uint64_t kind = 0;
	uintptr_t at = 0;

	if (text.fd < 0)
		return false;
	while (text_mapping(&text, &mapping) && mapping.start < end) {
		if (mapping.end <= start)
			continue;
		if (!layout.nmappings++) {
			layout.start = mapping.start > start ? mapping.start : start;
			kind = mapping.kind;
		} else if (mapping.start > at) {
			break;
		}
		layout.alike &= mapping.kind == kind;
		at = mapping.end;
	}
	raw_close(text.fd);
	if (layout.nmappings && at < end)
		layout.hole = at;
	*out = layout;
	return true;
}

bool layout_may_be_several(void)
{
	char *pages = raw_mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool may;

	if (pages == MAP_FAILED || raw_mprotect(pages, PAGE, PROT_READ))
		return false;
	may = raw_mremap(pages, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 pages + 2 * PAGE) != MAP_FAILED;
	raw_munmap(pages, 4 * PAGE);
	return may;
}
