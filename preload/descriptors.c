/* SPDX-License-Identifier: MIT */
/*
 * close() and its sisters, for the whole program. Daemons close every descriptor that they may have
 * inherited, and shells put files at numbers of their choice. If that closes a userfaultfd,
 * what is on devices reads as zero from there on, without a word.
 *
 * So while the engine opens what it needs all numbers below FIRST are taken; what has been opened
 * meanwhile is remembered, and the program's close() leaves it open, as if the number were free.
 * dup2() onto one fails. Other threads of the program may open files in that time: of these only
 * kinds are mistaken for ours that anybody but us seldom has, and the worst is that one stays
 * open. A number that libumm or a device has given back is recognised by the inode behind it.
 *
 * What the program closes past the C library nobody can keep open in its table. The files of
 * userfaultfds stay open elsewhere (keeper.c), and the engine looks whether the numbers are theirs.
 *
 * A forked child has copies that keep nothing alive: it closes them as it likes. A child of vfork()
 * shares these books; for it they are closed by exec().
 *
 * A thread that has a table for itself (unshare()) may have other files at our numbers, or none: it
 * closes them as it likes, and what it finds says nothing about the others' table.
 *
 * No locks: entries are written before their bit, by the engine's thread. All but what the engine
 * calls is async-signal-safe.
 */
#include "descriptors.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keeper.h"
#include "raw.h"
#include "shim.h"

enum { FIRST = 256, LAST = 4095, WORDS = (LAST + 1) / 64, VITAL = 16 };

struct file {
	dev_t dev;
	ino_t ino;
};

static _Atomic uint64_t fillers[WORDS], others[WORDS], ours[WORDS];
static struct file files[LAST + 1];
static _Atomic bool any, filling;

/* Those without which what is on devices is out of reach. The engine's thread only. */
static int vital[VITAL];
static unsigned nvital;

static int (*next_close)(int fd);
static int (*next_dup2)(int from, int to);
static int (*next_dup3)(int from, int to, int flags);

static bool has(_Atomic uint64_t *set, unsigned fd)
{
	return atomic_load(&set[fd / 64]) >> fd % 64 & 1;
}

static void put(_Atomic uint64_t *set, unsigned fd)
{
	atomic_fetch_or(&set[fd / 64], UINT64_C(1) << fd % 64);
}

static void drop(_Atomic uint64_t *set, unsigned fd)
{
	atomic_fetch_and(&set[fd / 64], ~(UINT64_C(1) << fd % 64));
}

void descriptors_start(void)
{
	*(void **)&next_close = dlsym(RTLD_NEXT, "close");
	*(void **)&next_dup2 = dlsym(RTLD_NEXT, "dup2");
	*(void **)&next_dup3 = dlsym(RTLD_NEXT, "dup3");
}

/* ---- what is ours --------------------------------------------------------------------- */

/* Call for each descriptor of this process that there are books for. */
static void each_open(void (*call)(unsigned fd, const char *link))
{
	DIR *dir = opendir("/proc/thread-self/fd");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		unsigned long fd = strtoul(entry->d_name, NULL, 10);
		char link[128];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		if (len <= 0 || fd > LAST || fd == (unsigned)dirfd(dir))
			continue;
		link[len] = '\0';
		call((unsigned)fd, link);
	}
	if (dir)
		closedir(dir);
}

static void note_other(unsigned fd, const char *link)
{
	(void)link;
	put(others, fd);
}

#define UFFD_LINK "anon_inode:[userfaultfd]"

/* Kinds that hardly anybody else has. */
static bool may_be_ours(const char *link)
{
	static const char *const kinds[] = {
		UFFD_LINK, "anon_inode:[eventfd]", "anon_inode:[eventpoll]", "/dev/",
		"/proc/",  "/memfd:umm-"
	};

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(link, kinds[i], strlen(kinds[i])))
			return true;
	return false;
}

static void note_ours(unsigned fd, const char *link)
{
	struct stat st;

	if (has(others, fd) || has(fillers, fd) || !may_be_ours(link) || fstat((int)fd, &st))
		return;
	files[fd] = (struct file){ st.st_dev, st.st_ino };
	put(ours, fd);
	atomic_store(&any, true);
	if (!strcmp(link, UFFD_LINK) && nvital < VITAL)
		vital[nvital++] = (int)fd;
}

/* Where few are allowed, half of them have to do for ours. */
static int first_number(void)
{
	struct rlimit most;

	if (getrlimit(RLIMIT_NOFILE, &most) || most.rlim_cur / 2 > FIRST)
		return FIRST;
	return (int)(most.rlim_cur / 2);
}

void descriptors_open_begin(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), first = first_number();

	atomic_store(&filling, true);
	while (fd >= 0 && fd < first) {
		int filler = fd;

		put(fillers, (unsigned)filler);
		fd = fcntl(filler, F_DUPFD_CLOEXEC, 0);
	}
	if (fd >= 0)
		raw_close(fd);
	each_open(note_other);
}

static void fillers_close(void)
{
	for (unsigned fd = 0; fd < FIRST; fd++)
		if (has(fillers, fd)) {
			drop(fillers, fd);
			raw_close((int)fd);
		}
}

void descriptors_open_end(void)
{
	each_open(note_ours);
	fillers_close();
	atomic_store(&filling, false);
	memset((void *)others, 0, sizeof(others));
}

void descriptors_keep(void)
{
	keeper_start(vital, nvital);
}

static void forget(void)
{
	nvital = 0;
	if (!atomic_exchange(&any, false))
		return;
	memset((void *)ours, 0, sizeof(ours));
}

void descriptors_keep_no_more(void)
{
	keeper_end();
}

void descriptors_let_go(void)
{
	keeper_end();
	forget();
}

void descriptors_fork_child(void)
{
	if (atomic_exchange(&filling, false))
		fillers_close();
	forget();
}

/* ---- what the program closes ---------------------------------------------------------- */

/* As this thread sees it. */
static bool is_still_there(unsigned fd)
{
	struct stat st;

	return !fstat((int)fd, &st) && st.st_dev == files[fd].dev && st.st_ino == files[fd].ino;
}

static bool is_ours(unsigned fd)
{
	return fd <= LAST && atomic_load_explicit(&any, memory_order_relaxed) && has(ours, fd) &&
	       is_still_there(fd);
}

bool descriptors_are_whole(void)
{
	for (unsigned i = 0; i < nvital; i++)
		if (!is_still_there((unsigned)vital[i]))
			return false;
	return true;
}

/* The first of ours from @fd to @last; @last + 1: there is none. */
static uint64_t ours_from(uint64_t fd, uint64_t last)
{
	for (; fd <= last && fd <= LAST; fd++)
		if (is_ours((unsigned)fd))
			return fd;
	return last + 1;
}

static bool is_internal(const void *caller)
{
	return thread_mode == THREAD_INTERNAL || shim_is_internal_code(caller);
}

bool descriptors_refuse(int fd, int error, const void *caller)
{
	if (!is_ours((unsigned)fd) || is_internal(caller))
		return false;
	errno = error;
	return true;
}

PRELOAD_API int close(int fd)
{
	if (descriptors_refuse(fd, EBADF, __builtin_return_address(0)))
		return -1;
	return next_close ? next_close(fd) : raw_close(fd);
}

static int close_others(unsigned first, unsigned last, int flags)
{
	uint64_t from = first, to;

	for (; from <= last; from = to + 1) {
		to = ours_from(from, last);
		if (to > from && raw_close_range((unsigned)from, (unsigned)(to - 1), flags))
			return -1;
	}
	return 0;
}

int descriptors_close_range(unsigned first, unsigned last, int flags, const void *caller)
{
	if (first > last || is_internal(caller))
		return raw_close_range(first, last, flags);
	return close_others(first, last, flags);
}

PRELOAD_API int close_range(unsigned first, unsigned last, int flags)
{
	return descriptors_close_range(first, last, flags, __builtin_return_address(0));
}

PRELOAD_API void closefrom(int first)
{
	unsigned from = first > 0 ? (unsigned)first : 0;
	long most = sysconf(_SC_OPEN_MAX);

	if (!close_others(from, UINT_MAX, 0))
		return;
	/* A kernel before 5.9. */
	for (long fd = from; fd < (most > 0 ? most : LAST); fd++)
		if (!is_ours((unsigned)fd))
			raw_close((int)fd);
}

PRELOAD_API int dup2(int from, int to)
{
	if (from != to && descriptors_refuse(to, EBUSY, __builtin_return_address(0)))
		return -1;
	if (next_dup2)
		return next_dup2(from, to);
	if (from == to)
		return fcntl(from, F_GETFD) < 0 ? -1 : to;
	return raw_dup3(from, to, 0);
}

PRELOAD_API int dup3(int from, int to, int flags)
{
	if (from != to && descriptors_refuse(to, EBUSY, __builtin_return_address(0)))
		return -1;
	return next_dup3 ? next_dup3(from, to, flags) : raw_dup3(from, to, flags);
}
