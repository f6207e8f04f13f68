/* SPDX-License-Identifier: MIT */
/*
 * The shared memory between a program under the shim and the umm command.
 *
 * Who may open the file is the kernel's business: it is made anew, mode 0600, never through a link
 * and never into a file that is there already. The reader in turn trusts a file only if it
 * belongs to the user who runs the process of that name, for /dev/shm is everybody's.
 *
 * No locks: single numbers are atomic. The shim calls this on its engine's thread and at exit.
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raw.h"

static void path_make(char *path, size_t path_len, uid_t uid, pid_t pid)
{
	snprintf(path, path_len, "/dev/shm/umm-%u-%d", (unsigned)uid, (int)pid);
}

static int file_make(const char *path)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = open(path, flags, 0600);

	/* Of a program that was here before this one, or of one with our number. */
	if (fd < 0 && errno == EEXIST && !unlink(path))
		fd = open(path, flags, 0600);
	if (fd >= 0 && (ftruncate(fd, sizeof(struct channel)) ||
			posix_fallocate(fd, 0, offsetof(struct channel, sheet)))) {
		close(fd);
		unlink(path);
		return -1;
	}
	return fd;
}

struct channel *channel_create(void)
{
	static struct channel private_one;
	struct channel *channel = &private_one;
	char path[64];
	void *shared;
	int fd;

	path_make(path, sizeof(path), geteuid(), getpid());
	fd = file_make(path);
	if (fd >= 0) {
		shared =
			raw_mmap(NULL, sizeof(*channel), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (shared != MAP_FAILED)
			channel = shared;
		close(fd);
	}
	channel->pid = getpid();
	snprintf(channel->program, sizeof(channel->program), "%.59s",
		 program_invocation_short_name);
	channel->magic = CHANNEL_MAGIC;
	return channel;
}

void channel_close(struct channel *channel)
{
	const char *runner = getenv("UMM_RUN_PID");
	char path[64];

	if (channel->pid != getpid() || (runner && atoi(runner) == getppid()))
		return;
	path_make(path, sizeof(path), geteuid(), getpid());
	unlink(path);
}

/* Who runs the process; -1: there is none. */
static long owner_of(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return stat(path, &st) ? -1 : (long)st.st_uid;
}

static struct channel *file_map(int fd, uid_t owner)
{
	struct stat st;
	void *shared;

	if (fstat(fd, &st) || st.st_uid != owner || !S_ISREG(st.st_mode) ||
	    (size_t)st.st_size < sizeof(struct channel))
		return NULL;
	shared = mmap(NULL, sizeof(struct channel), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return NULL;
	if (((struct channel *)shared)->magic == CHANNEL_MAGIC)
		return shared;
	munmap(shared, sizeof(struct channel));
	return NULL;
}

struct channel *channel_open(pid_t pid, char error[SETTINGS_ERROR_LEN])
{
	struct channel *channel = NULL;
	long owner = owner_of(pid);
	char path[64];
	int fd;

	if (owner < 0) {
		snprintf(error, SETTINGS_ERROR_LEN, "there is no process %d", (int)pid);
		return NULL;
	}
	if (geteuid() && (uid_t)owner != geteuid()) {
		snprintf(error, SETTINGS_ERROR_LEN, "process %d is another user's", (int)pid);
		return NULL;
	}
	path_make(path, sizeof(path), (uid_t)owner, pid);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		channel = file_map(fd, (uid_t)owner);
		close(fd);
	}
	if (!channel)
		snprintf(error, SETTINGS_ERROR_LEN,
			 "process %d has nothing to tell: it runs without the shim, or its managed "
			 "memory never came near its limit",
			 (int)pid);
	return channel;
}

void channel_remove(pid_t pid)
{
	char path[64];

	path_make(path, sizeof(path), geteuid(), pid);
	unlink(path);
}

int channel_reserve(const struct channel *channel, const void *part, size_t len)
{
	long owner = owner_of(channel->pid);
	char path[64];
	int fd, ret;

	if (owner < 0)
		return -ESRCH;
	path_make(path, sizeof(path), (uid_t)owner, channel->pid);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = posix_fallocate(fd, (const char *)part - (const char *)channel, (off_t)len);
	close(fd);
	return -ret;
}

/* ---- for people ----------------------------------------------------------------------- */

static void print_bytes(FILE *out, const char *what, uint64_t bytes)
{
	fprintf(out, "  %-38s %10.1f MiB\n", what, (double)bytes / (1 << 20));
}

static void print_count(FILE *out, const char *what, uint64_t n)
{
	fprintf(out, "  %-38s %10llu\n", what, (unsigned long long)n);
}

void channel_print(const struct channel *channel, FILE *out)
{
	const _Atomic uint64_t *count = channel->count;

	fprintf(out, "umm: memory of %s (%d)\n", channel->program, (int)channel->pid);
	print_bytes(out, "host limit", channel->host_limit);
	print_bytes(out, "managed", count[CHANNEL_MANAGED]);
	print_bytes(out, "in host frames", count[CHANNEL_HOST]);
	print_bytes(out, "in host frames at most", count[CHANNEL_HOST_MOST]);
	for (uint32_t i = 0; i < channel->ntiers && i < SETTINGS_DEVICES; i++) {
		print_bytes(out, channel->tier[i].name, channel->tier[i].used);
		if (channel->tier[i].is_broken)
			fprintf(out, "    failed while the program ran\n");
	}
	print_bytes(out, "moved to devices", count[CHANNEL_TO_DEVICE]);
	print_bytes(out, "moved home", count[CHANNEL_FROM_DEVICE]);
	print_count(out, "touches of pages on devices", count[CHANNEL_TOUCHED]);
	print_count(out, "  soon after they had left", count[CHANNEL_RETURNED]);
	print_count(out, "  of pages that were known to be hot", count[CHANNEL_THRASHED]);
	print_count(out, "pages brought along", count[CHANNEL_BROUGHT_ALONG]);
	print_count(out, "pages lost with their device", count[CHANNEL_LOST]);
}
