/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's driver has the kernel for: which descriptors are open devices, and the
 * address space of the process, a context that is made when the first of them is opened.
 *
 * A unit is created by who opens it first and goes when the last one closes it; its pages
 * come home then. What a process inherits by fork() is of no use to it: descriptors mean
 * the devices of its parent, which answers to nobody but that. It opens its own, as with
 * the kernel's driver.
 *
 * Descriptors are recognised by number: what dup() makes of them is no device.
 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "device.h"
#include "driver.h"
#include "mirror.h"
#include "pages.h"
#include "umm.h"

#define GUP_PATH "/sys/kernel/debug/gup_test"

struct unit {
	const char *path;
	enum umm_devmem_type type;
	unsigned files;	       /* that have it open, or are being opened or closed */
	struct device *device; /* NULL: there are none. It does not change while there are some */
};

struct file {
	struct file *next;
	int fd;
	unsigned refs;
	struct unit *unit;     /* NULL: gup_test */
	struct mirror *mirror; /* NULL: gup_test */
};

/* Protects: files, units; inside: nothing. Held while the context and devices are created. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct file *files;
static struct unit units[DMIRROR_UNITS] = {
	{ .path = "/dev/hmm_dmirror0", .type = UMM_DEVMEM_PRIVATE },
	{ .path = "/dev/hmm_dmirror1", .type = UMM_DEVMEM_PRIVATE },
	{ .path = "/dev/hmm_dmirror2", .type = UMM_DEVMEM_COHERENT },
	{ .path = "/dev/hmm_dmirror3", .type = UMM_DEVMEM_COHERENT },
};

_Atomic uintptr_t pages_next = (uintptr_t)3 << 44;

static _Atomic(struct umm_ctx *) ctx;
static struct umm_ctx *inherited; /* of the parent; only to be dropped */

/* ---- the address space ------------------------------------------------------------ */

struct umm_ctx *process_ctx(void)
{
	return atomic_load(&ctx);
}

static int ctx_need_locked(void)
{
	struct umm_ctx_options options = {
		.size = sizeof(options),
		.flags = UMM_CTX_WHOLE_PROCESS,
		/* As in the kernel, a page comes home when it is touched. */
		.readahead = UMM_READAHEAD_OFF,
	};
	struct umm_ctx *mine;
	int ret;

	if (process_ctx())
		return 0;
	umm_ctx_put(inherited);
	inherited = NULL;
	ret = umm_ctx_create(&options, &mine);
	if (ret == 0)
		atomic_store(&ctx, mine);
	return ret;
}

/* A new process: what there was is its parent's. */
static void forked(void)
{
	pthread_mutex_init(&lock, NULL);
	files = NULL;
	for (unsigned i = 0; i < DMIRROR_UNITS; i++) {
		units[i].device = NULL;
		units[i].files = 0;
	}
	if (process_ctx())
		inherited = process_ctx();
	atomic_store(&ctx, NULL);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forked);
}

/* ---- units ------------------------------------------------------------------------ */

static struct unit *unit_find(const char *path)
{
	for (unsigned i = 0; i < DMIRROR_UNITS; i++)
		if (strcmp(path, units[i].path) == 0)
			return &units[i];
	return NULL;
}

bool process_has(const char *path)
{
	return path && (unit_find(path) || strcmp(path, GUP_PATH) == 0);
}

/* Have the context, and of a unit the device. NULL: the context alone. */
static int unit_get(struct unit *unit)
{
	int ret;

	pthread_mutex_lock(&lock);
	ret = ctx_need_locked();
	if (!ret && unit && !unit->device)
		ret = device_create(process_ctx(), unit->type, &unit->device);
	if (!ret && unit)
		unit->files++;
	pthread_mutex_unlock(&lock);
	return ret;
}

/* Pages come home when the last goes; whoever uses other devices does not wait for that. */
static void unit_put(struct unit *unit)
{
	struct device *device = NULL;

	pthread_mutex_lock(&lock);
	if (--unit->files == 0) {
		device = unit->device;
		unit->device = NULL;
	}
	pthread_mutex_unlock(&lock);
	if (device)
		device_destroy(device);
}

/* ---- files ------------------------------------------------------------------------ */

/* The context, and of a unit's file the unit and a mirror. 0 or a negative errno. */
static int file_open(struct file *file)
{
	int ret = unit_get(file->unit);

	if (ret || !file->unit)
		return ret;
	ret = mirror_open(file->unit->device, &file->mirror);
	if (ret)
		unit_put(file->unit);
	return ret;
}

int process_open(const char *path, int flags)
{
	struct file *file = pages_alloc(sizeof(*file));
	int ret = -ENOMEM, fd;

	if (!file)
		return -ENOMEM;
	file->refs = 1;
	file->unit = unit_find(path);
	file->fd = memfd_create(strrchr(path, '/') + 1, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
	if (file->fd < 0) {
		ret = -errno;
		goto err_free;
	}
	ret = file_open(file);
	if (ret)
		goto err_close;
	fd = file->fd;
	pthread_mutex_lock(&lock);
	file->next = files;
	files = file;
	pthread_mutex_unlock(&lock);
	return fd;

err_close:
	close(file->fd);
err_free:
	pages_free(file, sizeof(*file));
	return ret;
}

static struct file **file_find_locked(int fd)
{
	struct file **at = &files;

	while (*at && (*at)->fd != fd)
		at = &(*at)->next;
	return at;
}

struct file *process_file_get(int fd)
{
	struct file *file;

	pthread_mutex_lock(&lock);
	file = *file_find_locked(fd);
	if (file)
		file->refs++;
	pthread_mutex_unlock(&lock);
	return file;
}

void process_file_put(struct file *file)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = --file->refs == 0;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	if (file->unit) {
		mirror_close(file->mirror);
		unit_put(file->unit);
	}
	pages_free(file, sizeof(*file));
}

void process_close(int fd)
{
	struct file **at, *file;

	pthread_mutex_lock(&lock);
	at = file_find_locked(fd);
	file = *at;
	if (file)
		*at = file->next;
	pthread_mutex_unlock(&lock);
	if (file)
		process_file_put(file);
}

int process_ioctl(struct file *file, uint32_t request, void *arg)
{
	if (!file->unit)
		return driver_gup_ioctl(process_ctx(), request, arg);
	return driver_ioctl(file->mirror, request, arg);
}
