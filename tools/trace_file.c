/* SPDX-License-Identifier: MIT */
/*
 * The file of a trace, an array of events in Chrome's JSON format.
 *
 * The last record holds the totals and closes the array; it has one length, always. A flush
 * writes new events over it, and it anew behind them, in one call. So whoever looks between two
 * flushes, or after the command was killed, finds a whole array. When the disk is full the file
 * keeps the events that found room with that record behind them, and only the record changes from
 * there on, in place.
 *
 * One file at a time for each structure; no locks.
 */
#include "trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <umm.h>

enum { LAST_LEN = 2048 };

static const char *const kind_names[TRACE_NR_KINDS] = {
	"fault", "evict", "bring along", "fork", "grant", "invalidation",
};

/* Why pages moved: as the counters of libumm have it. */
static const char *const kind_causes[TRACE_NR_KINDS] = {
	"cpu_fault", "evict", "cpu_fault", "fork", NULL, NULL,
};

static const char *event_name(const struct trace_event *event)
{
	static const char *const changes[] = {
		[UMM_EVENT_UNMAP] = "unmap",
		[UMM_EVENT_CLEAR] = "clear",
		[UMM_EVENT_PROTECTION_PAGE] = "protect page",
		[UMM_EVENT_MIGRATE] = "migrate",
		[UMM_EVENT_PROTECTION_VMA] = "protect",
		[UMM_EVENT_EXCLUSIVE] = "exclusive",
		[UMM_EVENT_SOFT_DIRTY] = "soft dirty",
		[UMM_EVENT_ADVICE] = "advice",
		[UMM_EVENT_RELEASE] = "release",
	};

	if (event->kind != TRACE_INVALIDATION)
		return kind_names[event->kind];
	if (event->detail < sizeof(changes) / sizeof(changes[0]))
		return changes[event->detail];
	return kind_names[TRACE_INVALIDATION];
}

/* The last record, padded. */
static void last_make(const struct trace_file *file, const struct trace_totals *totals,
		      char last[LAST_LEN])
{
	int len =
		snprintf(last, LAST_LEN,
			 "{\"name\":\"totals\",\"cat\":\"umm\",\"ph\":\"M\",\"pid\":%d,\"args\":{",
			 (int)file->pid);

	for (unsigned i = 0; i < TRACE_NR_KINDS; i++)
		len += snprintf(last + len, (size_t)(LAST_LEN - len),
				"%s\"%s\":{\"seen\":%" PRIu64 ",\"written\":%" PRIu64
				",\"dropped\":%" PRIu64 ",\"pages\":%" PRIu64 "}",
				i ? "," : "", kind_names[i], totals->seen[i], file->written[i],
				totals->dropped[i] + file->unwritten[i], totals->pages[i]);
	len += snprintf(last + len, (size_t)(LAST_LEN - len), "}}");
	memset(last + len, ' ', (size_t)(LAST_LEN - len));
	last[LAST_LEN - 3] = '\n';
	last[LAST_LEN - 2] = ']';
	last[LAST_LEN - 1] = '\n';
}

/* 0 or a negative errno; how much was written goes to @written in both cases. */
static int write_all(int fd, const char *from, size_t len, uint64_t at, size_t *written)
{
	for (*written = 0; *written < len;) {
		ssize_t done = pwrite(fd, from + *written, len - *written, (off_t)(at + *written));

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		*written += (size_t)done;
	}
	return 0;
}

/* Room for so much more, what is collected included. */
static bool has_room(const struct trace_file *file, size_t len)
{
	return file->end + file->len + len + LAST_LEN <= file->size_max;
}

static bool append(struct trace_file *file, const char *from, size_t len)
{
	if (file->len + len > file->capacity) {
		size_t capacity = 2 * (file->len + len);
		char *text = realloc(file->text, capacity);

		if (!text)
			return false;
		file->text = text;
		file->capacity = capacity;
	}
	memcpy(file->text + file->len, from, len);
	file->len += len;
	return true;
}

static bool __attribute__((format(printf, 2, 3)))
add(struct trace_file *file, const char *format, ...)
{
	char line[512];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	return len >= 0 && (size_t)len < sizeof(line) && has_room(file, (size_t)len) &&
	       append(file, line, (size_t)len);
}

static void name_clean(char *name)
{
	name[strcspn(name, "\n")] = '\0';
	for (; *name; name++)
		if ((unsigned char)*name < 0x20 || (unsigned char)*name > 0x7e || *name == '"' ||
		    *name == '\\')
			*name = '?';
}

/* What the kernel calls a process, or a thread of it. */
static void name_of(pid_t pid, int32_t tid, char *name, size_t len)
{
	char path[64];
	FILE *comm;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)pid, (int)tid);
	comm = fopen(path, "re");
	if (!comm || !fgets(name, (int)len, comm))
		snprintf(name, len, "%d", (int)tid);
	if (comm)
		fclose(comm);
	name_clean(name);
}

static void tid_name(struct trace_file *file, int32_t tid)
{
	char name[32];

	for (unsigned i = 0; i < file->ntids; i++)
		if (file->tid[i] == tid)
			return;
	if (file->ntids == TRACE_TIDS)
		return;
	name_of(file->pid, tid, name, sizeof(name));
	if (add(file,
		"{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":"
		"\"%s\"}},\n",
		(int)file->pid, (int)tid, name))
		file->tid[file->ntids++] = tid;
}

/* Behind what is in the text so far an event of the kind will be. False: no memory. */
static bool mark_make(struct trace_file *file, uint32_t kind)
{
	if (file->nmarks == file->marks_capacity) {
		size_t capacity = 2 * file->marks_capacity + 64;
		struct trace_mark *mark = realloc(file->mark, capacity * sizeof(*mark));

		if (!mark)
			return false;
		file->mark = mark;
		file->marks_capacity = capacity;
	}
	file->mark[file->nmarks].kind = kind;
	return true;
}

/* A pipe would let its opener wait, and nothing in it can be written anew. */
static bool is_pipe(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISFIFO(st.st_mode);
}

/*
 * An array without events takes the place of what the file held; where that fails it holds that
 * still. So what needs room is written first: all behind the old end, or a byte that shows that
 * the file may be so large.
 */
static int begin(struct trace_file *file)
{
	static const struct trace_totals none;
	char text[2 + LAST_LEN] = "[\n";
	size_t from = sizeof(text) - 1, there;
	struct stat st;
	int ret;

	last_make(file, &none, text + 2);
	if (fstat(file->fd, &st))
		return -errno;
	if (st.st_size < (off_t)from)
		from = (size_t)st.st_size;
	ret = write_all(file->fd, text + from, sizeof(text) - from, from, &there);
	if (!ret)
		ret = write_all(file->fd, text, sizeof(text), 0, &there);
	if (S_ISREG(st.st_mode) && ftruncate(file->fd, ret ? st.st_size : (off_t)sizeof(text)) &&
	    !ret)
		ret = -errno;
	file->end = 2;
	return ret;
}

int trace_file_open(struct trace_file *file, const char *path, uint64_t size_max)
{
	struct stat st;
	bool is_new = lstat(path, &st) && errno == ENOENT;
	int ret;

	*file = (struct trace_file){ .size_max = size_max };
	if (is_pipe(path))
		return -ESPIPE;
	file->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (file->fd < 0)
		return -errno;
	ret = begin(file);
	if (ret && is_new)
		unlink(path);
	if (ret)
		trace_file_close(file);
	return ret;
}

void trace_file_event(struct trace_file *file, const struct trace_event *event)
{
	const char *cause;
	bool added;

	if (event->kind >= TRACE_NR_KINDS)
		return;
	tid_name(file, event->tid);
	cause = kind_causes[event->kind];
	added = mark_make(file, event->kind) &&
		add(file,
		    "{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,"
		    "\"pid\":%d,\"tid\":%d,\"args\":{\"addr\":\"0x%" PRIx64 "\",\"len\":%" PRIu64
		    ",\"pages\":%" PRIu32 "%s%s%s}},\n",
		    event_name(event), kind_names[event->kind], (double)event->start_ns / 1000,
		    (double)event->duration_ns / 1000, (int)file->pid, (int)event->tid, event->addr,
		    event->len, event->npages, cause ? ",\"cause\":\"" : "", cause ? cause : "",
		    cause ? "\"" : "");
	if (added) {
		file->mark[file->nmarks++].end = file->len;
		file->written[event->kind]++;
	} else {
		file->unwritten[event->kind]++;
	}
}

void trace_file_memory(struct trace_file *file, uint64_t time_ns, uint64_t host, uint64_t devices)
{
	add(file,
	    "{\"name\":\"memory\",\"ph\":\"C\",\"ts\":%.3f,\"pid\":%d,\"args\":{\"host "
	    "MiB\":%.2f,\"devices MiB\":%.2f}},\n",
	    (double)time_ns / 1000, (int)file->pid, (double)host / (1 << 20),
	    (double)devices / (1 << 20));
}

/* Of the text those events that fit, with the last record, into @room bytes: no others count. */
static size_t text_cut(struct trace_file *file, size_t room)
{
	size_t len = 0;

	for (size_t i = 0; i < file->nmarks; i++) {
		if (file->mark[i].end + LAST_LEN <= room) {
			len = file->mark[i].end;
		} else {
			file->written[file->mark[i].kind]--;
			file->unwritten[file->mark[i].kind]++;
		}
	}
	return len;
}

int trace_file_flush(struct trace_file *file, const struct trace_totals *totals)
{
	size_t len = file->len, there = 0, ignored;
	char last[LAST_LEN];
	int ret;

	last_make(file, totals, last);
	ret = append(file, last, sizeof(last)) ?
		      write_all(file->fd, file->text, file->len, file->end, &there) :
		      -ENOMEM;
	if (ret) {
		len = text_cut(file, there);
		last_make(file, totals, last);
		file->size_max = file->end + len + sizeof(last);
		if (!write_all(file->fd, last, sizeof(last), file->end + len, &ignored) &&
		    ftruncate(file->fd, (off_t)file->size_max))
			ret = -errno;
	}
	file->end += len;
	file->len = 0;
	file->nmarks = 0;
	return ret;
}

int trace_file_close(struct trace_file *file)
{
	int ret = close(file->fd) ? -errno : 0;

	free(file->text);
	free(file->mark);
	return ret;
}
