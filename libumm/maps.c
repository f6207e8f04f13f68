/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of this process's mappings.
 *
 * Upper rung: the PROCMAP_QUERY ioctl on /proc/self/maps, one mapping per call.
 * Lower rung: the text of that file, read from a descriptor of its own (a shared one
 * would share its position), in pieces, and parsed byte by byte: a piece may end
 * anywhere in a line, and a line may be longer than the buffer (a path can be 16 KiB
 * long once its odd characters are escaped), so only the beginning of each
 * line is collected. The kernel promises that mappings which do not change while
 * the file is read appear in it.
 *
 * The text is opened afresh each time, but from a directory that is kept: chroot() does not
 * take it away.
 *
 * [vsyscall] is left out on both rungs: it lies outside of the user's address space.
 *
 * Locks: none. Memory: the stack only, some 5 KiB of it.
 */
#include "maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "procfd.h"
#include "signals.h"
#include "uapi.h"
#include "umm.h"
#include "util.h"

#define MAPS_DIR   "/proc/self"
#define MAPS_NAME  "maps"
#define SMAPS_NAME "smaps"
#define MAPS_PATH  MAPS_DIR "/" MAPS_NAME
/* Addresses, permissions, offset, device, inode, padding to column 73; then the name. */
#define MAPS_LINE 192

static procfd_cache cached_fd, cached_dir;

/* Has a mapping without an inode the name of ordinary memory? Others are special. */
static bool name_is_memory(const char *name)
{
	return !*name || !strcmp(name, "[heap]") || !strncmp(name, "[stack", 6) ||
	       !strncmp(name, "[anon:", 6);
}

static bool begins(const char *name, const char *with)
{
	return !strncmp(name, with, strlen(with));
}

/*
 * A file under /dev is a device's memory, but for some that only live there; as are those of sysfs
 * (the resources of PCI devices), and buffers that the kernel shares by descriptors of its own
 * (perf, io_uring, BPF, DMA, packets). What the kernel knows of it (VM_IO, VM_PFNMAP) is in smaps
 * only, which costs a walk of page tables.
 */
static bool name_is_device(const char *name)
{
	if (begins(name, "anon_inode:") || begins(name, "/anon_inode:") ||
	    begins(name, "/dmabuf:") || begins(name, "socket:") || begins(name, "/sys/"))
		return true;
	return begins(name, "/dev/") && !begins(name, "/dev/zero") && !begins(name, "/dev/shm/") &&
	       !begins(name, "/dev/hugepages/");
}

/* What is behind a mapping, by its inode (not 0: a file) and name (NULL: too long to tell). */
static void classify(struct maps_vma *vma, bool file, const char *name)
{
	vma->anon = !file && name && name_is_memory(name);
	vma->special = !vma->anon && name && (!file || name_is_device(name));
	vma->huge =
		file && name && (begins(name, "/anon_hugepage") || begins(name, "/dev/hugepages/"));
}

/* ------------------------------------------------------------------------
 * PROCMAP_QUERY
 */

static int query_once(int fd, uintptr_t addr, char *name, size_t room, struct procmap_query *arg)
{
	memset(arg, 0, sizeof(*arg));
	arg->size = sizeof(*arg);
	arg->query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA;
	arg->query_addr = addr;
	arg->vma_name_addr = (uintptr_t)name;
	arg->vma_name_size = (uint32_t)room;
	if (!ioctl(fd, PROCMAP_QUERY, arg))
		return 0;
	return errno == ENOTTY ? -EOPNOTSUPP : -errno;
}

static int maps_query(uintptr_t addr, struct maps_vma *vma)
{
	struct procmap_query arg;
	char name[128] = "";
	bool named = true;
	int fd, ret;

	fd = procfd_get(&cached_fd, MAPS_PATH);
	if (fd < 0)
		return fd;
	ret = query_once(fd, addr, name, sizeof(name), &arg);
	if (ret == -ENAMETOOLONG) {
		/* Names of anonymous memory are short: this is a file's path. */
		named = false;
		ret = query_once(fd, addr, NULL, 0, &arg);
	}
	if (ret)
		return ret;
	vma->start = (uintptr_t)arg.vma_start;
	vma->end = (uintptr_t)arg.vma_end;
	vma->read = arg.vma_flags & PROCMAP_QUERY_VMA_READABLE;
	vma->write = arg.vma_flags & PROCMAP_QUERY_VMA_WRITABLE;
	vma->exec = arg.vma_flags & PROCMAP_QUERY_VMA_EXECUTABLE;
	vma->shared = arg.vma_flags & PROCMAP_QUERY_VMA_SHARED;
	classify(vma, arg.inode, !named ? NULL : arg.vma_name_size ? name : "");
	vma->huge |= arg.vma_page_size > UMM_PAGE_SIZE;
	vma->order = vma->huge ? (uint8_t)__builtin_ctzll(arg.vma_page_size >> UMM_PAGE_SHIFT) : 0;
	return 0;
}

int maps_open(void)
{
	int dir = procfd_get(&cached_dir, MAPS_DIR);
	int fd = procfd_get(&cached_fd, MAPS_PATH);

	return dir < 0 ? dir : min(fd, 0);
}

bool maps_has_query(void)
{
	struct maps_vma vma;

	return !maps_query((uintptr_t)&vma, &vma);
}

/* ------------------------------------------------------------------------
 * The text
 */

/* Parse hexadecimal digits at *p and step over them; false if there are none. */
static bool parse_hex(const char **p, uint64_t *value)
{
	const char *start = *p;

	for (*value = 0;; (*p)++) {
		char c = **p;

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*value = *value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return *p != start;
	}
}

static bool parse_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

/* "start-end rwxp offset major:minor inode   name"; false if that is not what line is. */
static bool parse_line(const char *line, struct maps_vma *vma)
{
	uint64_t start, end, offset, major, minor, inode;
	const char *p = line, *perms;

	if (!parse_hex(&p, &start) || !parse_char(&p, '-') || !parse_hex(&p, &end) ||
	    !parse_char(&p, ' '))
		return false;
	perms = p;
	if (strnlen(perms, 5) < 5)
		return false;
	p += 4;
	/* The inode is decimal, but only whether it is 0 matters. */
	if (!parse_char(&p, ' ') || !parse_hex(&p, &offset) || !parse_char(&p, ' ') ||
	    !parse_hex(&p, &major) || !parse_char(&p, ':') || !parse_hex(&p, &minor) ||
	    !parse_char(&p, ' ') || !parse_hex(&p, &inode))
		return false;
	while (parse_char(&p, ' '))
		;
	if (!strcmp(p, "[vsyscall]"))
		return false;
	vma->start = (uintptr_t)start;
	vma->end = (uintptr_t)end;
	vma->read = perms[0] == 'r';
	vma->write = perms[1] == 'w';
	vma->exec = perms[2] == 'x';
	vma->shared = perms[3] == 's';
	vma->order = 0;
	classify(vma, inode, p);
	return true;
}

struct text_scan {
	uintptr_t addr;
	bool with_order; /* smaps: the mapping is found when its line of the page size is */
	bool found;
	char line[MAPS_LINE];
	size_t line_len; /* collected of the present line; the rest is dropped */
};

/* One line of maps, or of smaps; true when all that is wanted of the mapping is known. */
static bool scan_line(struct text_scan *scan, struct maps_vma *vma)
{
	static const char size[] = "KernelPageSize:";
	struct maps_vma seen;
	unsigned long kib;

	if (scan->found && begins(scan->line, size)) {
		kib = strtoul(scan->line + sizeof(size) - 1, NULL, 10);
		vma->order = kib > 4 ? (uint8_t)__builtin_ctzl(kib / 4) : 0;
		return true;
	}
	if (scan->found || !parse_line(scan->line, &seen) || seen.end <= scan->addr)
		return false;
	*vma = seen;
	scan->found = true;
	return !scan->with_order;
}

/* Feed a piece of the file; true when the mapping was found. */
static bool scan_piece(struct text_scan *scan, const char *piece, size_t len, struct maps_vma *vma)
{
	for (size_t i = 0; i < len; i++) {
		if (piece[i] != '\n') {
			if (scan->line_len < MAPS_LINE - 1)
				scan->line[scan->line_len++] = piece[i];
			continue;
		}
		scan->line[scan->line_len] = '\0';
		scan->line_len = 0;
		if (scan_line(scan, vma))
			return true;
	}
	return false;
}

static int read_text(int fd, const char *file, uintptr_t addr, struct maps_vma *vma)
{
	struct text_scan scan = { .addr = addr, .with_order = !strcmp(file, SMAPS_NAME) };
	char piece[4096];
	ssize_t got;
	int ret;

	for (;;) {
		got = read(fd, piece, sizeof(piece));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			ret = got ? -errno : -ENOENT;
			break;
		}
		if (scan_piece(&scan, piece, (size_t)got, vma)) {
			ret = 0;
			break;
		}
	}
	return ret;
}

static int open_text(const char *file)
{
	int dir = procfd_get(&cached_dir, MAPS_DIR), fd;

	if (dir < 0)
		return dir;
	fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? procfd_error() : fd;
}

/* Of the file maps or smaps, the latter for the page size. */
static int maps_text(const char *file, uintptr_t addr, struct maps_vma *vma)
{
	int cancel = cancel_hold(), fd = open_text(file), ret = fd;

	if (fd >= 0) {
		ret = read_text(fd, file, addr, vma);
		close(fd);
	}
	cancel_let(cancel);
	return ret;
}

int maps_find(uintptr_t addr, bool allow_ioctl, struct maps_vma *vma)
{
	int ret = allow_ioctl ? maps_query(addr, vma) : -EOPNOTSUPP;

	return ret == -EOPNOTSUPP ? maps_text(MAPS_NAME, addr, vma) : ret;
}

unsigned maps_huge_order(const struct maps_vma *vma)
{
	struct maps_vma seen;

	if (vma->order)
		return vma->order;
	if (maps_text(SMAPS_NAME, vma->start, &seen) || !seen.order)
		return UMM_BLOCK_SHIFT - UMM_PAGE_SHIFT;
	return seen.order;
}
