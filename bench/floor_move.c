/* SPDX-License-Identifier: MIT */
/*
 * Migration of scattered pages by hand: every other page of small ones goes to a buffer and back.
 * A page that no CPU is to change meanwhile is moved to staging by UFFDIO_MOVE, and copied there;
 * neighbours of it that stay keep one call from moving two. The pages of 2 MiB move, then they are
 * copied, as libumm does, and as is faster than page by page here.
 *
 * What a program needs besides to get it right, it leaves out: it knows of no events, keeps no
 * books and locks nothing. A second thread, which sleeps, is there: descriptors cost more then.
 */
#include "floor.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../libumm/uapi.h"
#include "machine.h"

#define PAGE ((size_t)4096)
#define STEP ((size_t)1 << 20) /* of what moves: every other page of 2 MiB */

struct floor_move {
	size_t len; /* of what moves */
	int uffd;
	char *memory, *staging; /* twice that */
	char *device;
	bool back;
	pthread_t sleeper;
	bool sleeps;
};

static int move(struct floor_move *f, char *dst, char *src)
{
	struct uffdio_move arg = { .dst = (uintptr_t)dst, .src = (uintptr_t)src, .len = PAGE };

	return ioctl(f->uffd, UFFDIO_MOVE, &arg) ? -errno : 0;
}

/* Pages from..to of the buffer on the device, each at twice its offset in memory. */
static int out(struct floor_move *f, size_t from, size_t to)
{
	int ret = 0;

	for (size_t at = from; at < to && !ret; at += PAGE)
		ret = move(f, f->staging + 2 * at, f->memory + 2 * at);
	for (size_t at = from; at < to; at += PAGE)
		memcpy(f->device + at, f->staging + 2 * at, PAGE);
	return ret;
}

static int home(struct floor_move *f, size_t from, size_t to)
{
	int ret = 0;

	for (size_t at = from; at < to; at += PAGE)
		memcpy(f->staging + 2 * at, f->device + at, PAGE);
	for (size_t at = from; at < to && !ret; at += PAGE)
		ret = move(f, f->memory + 2 * at, f->staging + 2 * at);
	return ret;
}

int floor_move_run(struct floor_move *f)
{
	int ret = 0;

	for (size_t at = 0; at < f->len && !ret; at += STEP) {
		size_t end = at + STEP < f->len ? at + STEP : f->len;

		ret = f->back ? home(f, at, end) : out(f, at, end);
	}
	f->back = !f->back;
	return ret;
}

static void *sleep_on(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static int build(struct floor_move *f)
{
	struct uffdio_register arg = { .range = { .len = 2 * f->len },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	f->memory = machine_map(2 * f->len, MADV_NOHUGEPAGE, true);
	f->staging = machine_map(2 * f->len, MADV_NOHUGEPAGE, false);
	f->device = machine_map(f->len, MADV_HUGEPAGE, true);
	if (!f->memory || !f->staging || !f->device)
		return -ENOMEM;
	f->uffd = floor_uffd_descriptor(UFFD_FEATURE_MOVE);
	if (f->uffd < 0)
		return f->uffd;
	arg.range.start = (uintptr_t)f->memory;
	if (ioctl(f->uffd, UFFDIO_REGISTER, &arg))
		return -errno;
	arg.range.start = (uintptr_t)f->staging;
	if (ioctl(f->uffd, UFFDIO_REGISTER, &arg))
		return -errno;
	f->sleeps = !pthread_create(&f->sleeper, NULL, sleep_on, NULL);
	return f->sleeps ? 0 : -EAGAIN;
}

int floor_move_open(size_t len, struct floor_move **out)
{
	struct floor_move *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	f->len = len;
	f->uffd = -1;
	ret = build(f);
	if (ret)
		floor_move_close(f);
	else
		*out = f;
	return ret;
}

void floor_move_close(struct floor_move *f)
{
	if (!f)
		return;
	if (f->sleeps) {
		pthread_cancel(f->sleeper);
		pthread_join(f->sleeper, NULL);
	}
	if (f->uffd >= 0)
		close(f->uffd);
	machine_unmap(f->memory, 2 * f->len);
	machine_unmap(f->staging, 2 * f->len);
	machine_unmap(f->device, f->len);
	free(f);
}
