/* SPDX-License-Identifier: MIT */
/*
 * The shared memory between a program under the shim and the umm command.
 *
 * Who may open the file (channel_file.h) is the kernel's business: it is made anew, mode 0600,
 * never through a link and never into a file that is there already. The reader in turn trusts a
 * file only if it belongs to the user who runs the process of that name, for /dev/shm is
 * everybody's.
 *
 * No locks: single numbers are atomic. The shim calls this on its engine's thread and at exit.
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel_file.h"
#include "raw.h"

/* Who runs the process; -1: there is none. */
static long owner_of(pid_t pid)
{
	char path[CHANNEL_PATH_LEN];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return stat(path, &st) ? -1 : (long)st.st_uid;
}

/* Its memory, as far as nobody has to ask for it. 0 or an errno. */
static int file_fill(int fd, struct channel **out)
{
	int ret = posix_fallocate(fd, 0, offsetof(struct channel, sheet));
	void *shared;

	if (ret)
		return ret;
	shared = raw_mmap(NULL, sizeof(struct channel), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return errno;
	*out = shared;
	return 0;
}

/* Who started this program and wants to read the file when it has ended; 0: nobody. */
static pid_t runner_now(void)
{
	const char *runner = getenv("UMM_RUN_PID");

	return runner && atoi(runner) == getppid() ? getppid() : 0;
}

struct channel *channel_create(int *why)
{
	static struct channel private_one;
	struct channel *channel = &private_one;
	int fd = channel_file_make(sizeof(*channel));
	struct channel_process process;

	*why = fd < 0 ? errno : 0;
	channel_files_clean(CHANNEL_MAGIC);
	if (fd >= 0) {
		*why = file_fill(fd, &channel);
		if (*why)
			channel_remove(getpid());
	}
	channel->head.pid = getpid();
	channel->head.runner = runner_now();
	if (channel_process(getpid(), &process))
		channel->head.start = process.start;
	snprintf(channel->program, sizeof(channel->program), "%.59s",
		 program_invocation_short_name);
	channel->head.magic = CHANNEL_MAGIC;
	return channel;
}

void channel_close(struct channel *channel)
{
	char path[CHANNEL_PATH_LEN];

	if (channel->head.pid != getpid() || runner_now())
		return;
	channel_file_path(path, geteuid(), getpid());
	unlink(path);
}

static struct channel *file_map(int fd, uid_t owner, pid_t pid)
{
	struct stat st;
	void *shared;

	if (fstat(fd, &st) || st.st_uid != owner || !S_ISREG(st.st_mode) ||
	    (size_t)st.st_size < sizeof(struct channel) ||
	    !channel_file_lives(fd, pid, CHANNEL_MAGIC))
		return NULL;
	shared = mmap(NULL, sizeof(struct channel), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return NULL;
	if (((struct channel *)shared)->head.magic == CHANNEL_MAGIC)
		return shared;
	munmap(shared, sizeof(struct channel));
	return NULL;
}

struct channel *channel_open(pid_t pid, char error[SETTINGS_ERROR_LEN])
{
	struct channel *channel = NULL;
	long owner = owner_of(pid);
	char path[CHANNEL_PATH_LEN];
	int fd;

	if (owner < 0) {
		snprintf(error, SETTINGS_ERROR_LEN, "there is no process %d", (int)pid);
		return NULL;
	}
	if (geteuid() && (uid_t)owner != geteuid()) {
		snprintf(error, SETTINGS_ERROR_LEN, "process %d is another user's", (int)pid);
		return NULL;
	}
	channel_file_path(path, (uid_t)owner, pid);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		channel = file_map(fd, (uid_t)owner, pid);
		close(fd);
	}
	if (!channel)
		snprintf(error, SETTINGS_ERROR_LEN,
			 "process %d has nothing to tell: it runs without the shim, or its managed "
			 "memory never came near its limit",
			 (int)pid);
	return channel;
}

struct channel *channel_open_running(pid_t pid, char error[SETTINGS_ERROR_LEN])
{
	struct channel *channel = channel_open(pid, error);

	if (!channel || !channel->is_over)
		return channel;
	munmap(channel, sizeof(*channel));
	snprintf(error, SETTINGS_ERROR_LEN,
		 "process %d filters its system calls: all of its memory is ordinary memory",
		 (int)pid);
	return NULL;
}

void channel_remove(pid_t pid)
{
	long owner = owner_of(pid);
	char path[CHANNEL_PATH_LEN];

	if (owner < 0)
		return;
	channel_file_path(path, (uid_t)owner, pid);
	unlink(path);
}

/* The file of a program that is looked at. */
static int file_reopen(pid_t pid)
{
	long owner = owner_of(pid);
	char path[CHANNEL_PATH_LEN];
	int fd;

	if (owner < 0)
		return -ESRCH;
	channel_file_path(path, (uid_t)owner, pid);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int channel_reserve(const struct channel *channel, const void *part, size_t len)
{
	/* The program's own stays open, for it has the lock. */
	int own = channel->head.pid == getpid() ? channel_file_own() : -1;
	int fd = own < 0 ? file_reopen(channel->head.pid) : own, ret;

	if (fd < 0)
		return fd;
	ret = posix_fallocate(fd, (const char *)part - (const char *)channel, (off_t)len);
	if (fd != own)
		close(fd);
	return -ret;
}

/* ---- for people ----------------------------------------------------------------------- */

struct text {
	char *text;
	size_t len; /* less than CHANNEL_TEXT */
};

static void __attribute__((format(printf, 2, 3))) add(struct text *out, const char *format, ...)
{
	size_t room = CHANNEL_TEXT - out->len;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(out->text + out->len, room, format, args);
	va_end(args);
	if (len > 0)
		out->len += (size_t)len < room ? (size_t)len : room - 1;
}

static void add_bytes(struct text *out, const char *what, uint64_t bytes)
{
	add(out, "  %-38s %10.1f MiB\n", what, (double)bytes / (1 << 20));
}

static void add_count(struct text *out, const char *what, uint64_t n)
{
	add(out, "  %-38s %10llu\n", what, (unsigned long long)n);
}

static void add_name(struct text *out, const char *what, const char *name)
{
	add(out, "  %-38s %10s\n", what, name);
}

size_t channel_describe(const struct channel *channel, char text[CHANNEL_TEXT])
{
	uint32_t placement = channel->placement, sampling = channel->sampling;
	struct text out = { .text = text };
	const _Atomic uint64_t *count = channel->count;

	add(&out, "umm: memory of %s (%d)\n", channel->program, (int)channel->head.pid);
	add_bytes(&out, "host limit", channel->host_limit);
	if (placement < NR_PLACE)
		add_name(&out, "placement", place_policies[placement]->name);
	if (sampling < NR_SAMPLE)
		add_name(&out, "sampling", sample_policies[sampling]->name);
	add_bytes(&out, "managed", count[CHANNEL_MANAGED]);
	add_bytes(&out, "in host frames", count[CHANNEL_HOST]);
	add_bytes(&out, "in host frames at most", count[CHANNEL_HOST_MOST]);
	for (uint32_t i = 0; i < channel->ntiers && i < SETTINGS_DEVICES; i++) {
		add_bytes(&out, channel->tier[i].name, channel->tier[i].used);
		if (channel->tier[i].is_broken)
			add(&out, "    failed while the program ran\n");
	}
	add_bytes(&out, "moved to devices", count[CHANNEL_TO_DEVICE]);
	add_bytes(&out, "moved home", count[CHANNEL_FROM_DEVICE]);
	add_count(&out, "touches of pages on devices", count[CHANNEL_TOUCHED]);
	add_count(&out, "  soon after they had left", count[CHANNEL_RETURNED]);
	add_count(&out, "  of pages that were known to be hot", count[CHANNEL_THRASHED]);
	add_count(&out, "pages brought along", count[CHANNEL_BROUGHT_ALONG]);
	add_count(&out, "pages moved aside for a look", count[CHANNEL_PROBES]);
	add_count(&out, "  that were touched", count[CHANNEL_PROBES_BACK]);
	add(&out, "  %-38s %10.1f ms\n", "  of CPU time", (double)count[CHANNEL_PROBE_NS] / 1e6);
	add_count(&out, "pages let in while none could leave", count[CHANNEL_LATE]);
	add_count(&out, "pages lost with their device", count[CHANNEL_LOST]);
	return out.len;
}
