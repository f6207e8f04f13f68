/* SPDX-License-Identifier: MIT */
/*
 * A program that is killed leaves its file behind. The next one that starts, or "umm top", takes it
 * away. Numbers of processes are used again, so a number alone does not tell whether the
 * file's program lives: the program holds a lock on its file. The kernel releases it when the
 * program is killed, ends, or becomes another one by exec(), for the descriptor is closed then; a
 * forked child does not inherit it. It holds across PID namespaces that share the directory.
 *
 * Without a lock a file is kept in two cases only: for a program that has ended but was not waited
 * for by the "umm run" that reads the summary there; and while there is a process of that
 * number and the file has no content yet, or that of another version.
 *
 * Whoever takes a file away holds its lock and has made sure that the name still means that file;
 * whoever makes a file anew takes the old one away by the same rule. So nobody takes away
 * a newborn.
 *
 * Files of other users are never touched, whatever their name says: the directory is everybody's.
 *
 * The program's side runs on the engine's thread; no locks but those of files.
 */
#include "channel_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The kernel's PF_EXITING: it lets go of its locks some time before it is a zombie. */
#define EXITING 4

static struct own {
	int fd;
	pid_t pid;
	dev_t dev;
	ino_t ino;
} own = { .fd = -1 };

void channel_file_path(char path[CHANNEL_PATH_LEN], uid_t uid, pid_t pid)
{
	snprintf(path, CHANNEL_PATH_LEN, CHANNEL_DIR "/umm-%u-%d", (unsigned)uid, (int)pid);
}

pid_t channel_file_pid(const char *name)
{
	char prefix[32], *end;
	size_t len = (size_t)snprintf(prefix, sizeof(prefix), "umm-%u-", (unsigned)geteuid());
	long pid;

	if (strncmp(name, prefix, len) != 0)
		return 0;
	pid = strtol(name + len, &end, 10);
	return *end || pid <= 0 || pid > INT32_MAX ? 0 : (pid_t)pid;
}

bool channel_process(pid_t pid, struct channel_process *out)
{
	unsigned long long start = 0;
	char path[CHANNEL_PATH_LEN], text[1024], state;
	unsigned flags;
	const char *end;
	ssize_t len;
	int fd, parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	/* A name may have anything in it; behind it are the third field and on. */
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1,
			   " %c %d %*s %*s %*s %*s %u %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			   "%*s %*s %llu",
			   &state, &parent, &flags, &start) != 4)
		return false;
	*out = (struct channel_process){ start, parent, state == 'Z' || flags & EXITING };
	return true;
}

/* The whole file. @wait: for who looks at it at this moment. */
static bool lock_take(int fd, bool wait)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return !fcntl(fd, wait ? F_SETLKW : F_SETLK, &lock);
}

static bool is_locked(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return !fcntl(fd, F_GETLK, &lock) && lock.l_type != F_UNLCK;
}

/* What is to be thought of a file that nobody has locked, by whose name it is process @pid's. */
static bool lives_unlocked(int fd, pid_t pid, uint64_t magic)
{
	struct channel_head head = { 0 };
	struct channel_process process;

	if (!channel_process(pid, &process) || pread(fd, &head, sizeof(head), 0) < 0)
		return false;
	if (head.magic != magic)
		return true;
	return process.has_ended && process.start == head.start && head.runner &&
	       head.runner == process.parent;
}

bool channel_file_lives(int fd, pid_t pid, uint64_t magic)
{
	return is_locked(fd) || lives_unlocked(fd, pid, magic);
}

static bool is_ours(int fd, struct stat *st)
{
	return !fstat(fd, st) && S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

/* The name still means this file. */
static bool is_named(const struct stat *st, const char *path)
{
	struct stat now;

	return !lstat(path, &now) && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

static int leftover_open(const char *path)
{
	return open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static void clean_one(const char *path, pid_t pid, uint64_t magic)
{
	int fd = leftover_open(path);
	struct stat st;

	if (fd < 0)
		return;
	if (is_ours(fd, &st) && lock_take(fd, false) && is_named(&st, path) &&
	    !lives_unlocked(fd, pid, magic))
		unlink(path);
	close(fd);
}

void channel_files_clean(uint64_t magic)
{
	DIR *dir = opendir(CHANNEL_DIR);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		pid_t pid = channel_file_pid(entry->d_name);
		char path[CHANNEL_PATH_LEN];

		/* Closing its own would release the lock of this process. */
		if (!pid || pid == getpid())
			continue;
		channel_file_path(path, geteuid(), pid);
		clean_one(path, pid, magic);
	}
	if (dir)
		closedir(dir);
}

/* Of a program that had this number before, or that this one was before exec(). */
static void leftover_take_away(const char *path)
{
	int fd = leftover_open(path);
	struct stat st;

	if (fd >= 0 && is_ours(fd, &st))
		lock_take(fd, true);
	unlink(path);
	if (fd >= 0)
		close(fd);
}

/* The number is not one that the program has closed and uses itself. */
static bool is_still_own(void)
{
	struct stat st;

	return own.fd >= 0 && !fstat(own.fd, &st) && st.st_dev == own.dev && st.st_ino == own.ino;
}

/* In a forked child, the parent's. */
static void own_close(void)
{
	if (is_still_own())
		close(own.fd);
	own.fd = -1;
}

int channel_file_make(size_t len)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	char path[CHANNEL_PATH_LEN];
	struct stat st;
	int fd;

	own_close();
	channel_file_path(path, geteuid(), getpid());
	fd = open(path, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		leftover_take_away(path);
		fd = open(path, flags, 0600);
	}
	if (fd < 0)
		return -1;
	if (!lock_take(fd, true) || ftruncate(fd, (off_t)len) || fstat(fd, &st)) {
		int why = errno;

		unlink(path);
		close(fd);
		errno = why;
		return -1;
	}
	own = (struct own){ .fd = fd, .pid = getpid(), .dev = st.st_dev, .ino = st.st_ino };
	return fd;
}

int channel_file_own(void)
{
	return own.pid == getpid() ? own.fd : -1;
}

void channel_file_give(uid_t from, uid_t to)
{
	char old_path[CHANNEL_PATH_LEN], path[CHANNEL_PATH_LEN];

	if (own.pid != getpid() || !is_still_own())
		return;
	channel_file_path(old_path, from, getpid());
	channel_file_path(path, to, getpid());
	if (fchown(own.fd, to, (gid_t)-1))
		return;
	if (rename(old_path, path) && fchown(own.fd, from, (gid_t)-1))
		unlink(old_path); /* a name under which nobody would look for it */
}
