/* SPDX-License-Identifier: MIT */
/*
 * Recording traces: a file of a bounded size, mapped, into which whoever has something to record
 * stores 8 bytes where the counter in the head of the file says. So it costs two atomic additions
 * and a store, waits for nobody, and what was recorded survives the process, however it ends. The
 * disk space is reserved before: a full disk is an error at the beginning, no signal later.
 *
 * Invariant: the mapping stays while `users` is not 0. Who ends a recording turns it off first, and
 * waits until nobody is on his way into it.
 *
 * Locks: none. `turning` is true while a recording begins or ends; a second one to do so is
 * refused.
 */
#include "tracefile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "notifier.h"
#include "util.h"

#define EVENTS_USUAL ((size_t)1 << 20)
#define EVENTS_MOST  ((size_t)1 << 30)

struct tracefile {
	struct record_head head;
	_Atomic uint64_t event[];
};

_Atomic uint32_t tracefile_on;
static _Atomic(struct tracefile *) current;
static size_t room; /* of events in it; not what the file says, which others may write to */
static _Atomic unsigned users;
static _Atomic bool turning;
static uint32_t generation; /* while turning */

static size_t file_bytes(size_t nevents)
{
	return sizeof(struct tracefile) + nevents * sizeof(uint64_t);
}

UMM_FAULT_PATH void tracefile_put(enum record_kind kind, uint32_t who, uintptr_t addr)
{
	struct tracefile *file;
	uint64_t at;

	atomic_fetch_add(&users, 1);
	file = atomic_load(&current);
	if (file) {
		at = __atomic_fetch_add(&file->head.n, 1, __ATOMIC_RELAXED);
		if (at < room)
			atomic_store_explicit(&file->event[at],
					      record_pack(kind, who, addr >> UMM_PAGE_SHIFT),
					      memory_order_relaxed);
	}
	atomic_fetch_sub(&users, 1);
}

/* A new file of that name: whoever maps an older one keeps it. */
static int file_make(const char *path, size_t bytes)
{
	struct stat stat;
	int fd, ret;

	if (!lstat(path, &stat) && !S_ISREG(stat.st_mode))
		return -EEXIST;
	if (unlink(path) && errno != ENOENT)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	ret = posix_fallocate(fd, 0, (off_t)bytes);
	if (!ret)
		return fd;
	close(fd);
	unlink(path);
	return -ret;
}

static int file_open(const char *path, size_t nevents)
{
	size_t bytes = file_bytes(nevents);
	struct tracefile *file;
	int fd = file_make(path, bytes);

	if (fd < 0)
		return fd;
	file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (file == MAP_FAILED) {
		unlink(path);
		return -ENOMEM;
	}
	file->head = (struct record_head){ .magic = RECORD_MAGIC,
					   .version = RECORD_VERSION,
					   .event_bytes = sizeof(uint64_t),
					   .room = nevents };
	room = nevents;
	atomic_store(&current, file);
	generation = generation + 1 ? generation + 1 : 1;
	atomic_store(&tracefile_on, generation);
	return 0;
}

static void file_close(void)
{
	struct tracefile *file = atomic_load(&current);

	atomic_store(&tracefile_on, 0);
	atomic_store(&current, NULL);
	while (atomic_load(&users))
		sched_yield();
	if (file)
		munmap(file, file_bytes(room));
}

int umm_trace(const char *path, size_t nevents)
{
	int ret = 0;

	if (path && (!*path || nevents > EVENTS_MOST))
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	if (atomic_exchange(&turning, true))
		return -EBUSY;
	if (!path)
		file_close();
	else if (atomic_load(&current))
		ret = -EBUSY;
	else
		ret = file_open(path, nevents ? nevents : EVENTS_USUAL);
	atomic_store(&turning, false);
	return ret;
}

/* "%p" is the process: several that inherit a variable need several files. */
static bool path_make(const char *wanted, char *out, size_t len)
{
	const char *pid = strstr(wanted, "%p");
	int n;

	if (pid)
		n = snprintf(out, len, "%.*s%d%s", (int)(pid - wanted), wanted, (int)getpid(),
			     pid + 2);
	else
		n = snprintf(out, len, "%s", wanted);
	return n >= 0 && (size_t)n < len;
}

static size_t events_wanted(void)
{
	const char *text = getenv("UMM_TRACE_EVENTS");
	unsigned long long n;
	char *end;

	if (!text || !*text)
		return EVENTS_USUAL;
	n = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && n && n <= EVENTS_MOST)
		return (size_t)n;
	log_warning("UMM_TRACE_EVENTS=%s is no number from 1 to %zu: it is %zu", text, EVENTS_MOST,
		    EVENTS_USUAL);
	return EVENTS_USUAL;
}

static void from_environment_once(void)
{
	const char *wanted = getenv("UMM_TRACE");
	char path[PATH_MAX];
	int ret = -ENAMETOOLONG;

	if (!wanted || !*wanted)
		return;
	if (path_make(wanted, path, sizeof(path)))
		ret = umm_trace(path, events_wanted());
	if (ret)
		log_warning("UMM_TRACE=%s: %s; nothing is recorded", wanted, strerrordesc_np(-ret));
}

void tracefile_from_environment(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, from_environment_once);
}

void tracefile_fork_child(void)
{
	atomic_store(&tracefile_on, 0);
	atomic_store(&current, NULL);
	atomic_store(&users, 0);
	atomic_store(&turning, false);
}
