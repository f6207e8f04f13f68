/* SPDX-License-Identifier: MIT */
/*
 * The reference device as a kind of memory for the shim: ref[:OPTION...]=BYTES. Options, separated
 * by '+': "worker" copies on a thread of its own, "dies" fails every copy home from the 100th
 * on, "refuses" cannot be opened, "slow" takes its time to open, "stalls" lets more pages come
 * home before it takes any than it takes, if they come; "sticks" takes no more for ever once some
 * have come home; "hoards" has a thread of its own, which another one starts, fill much memory.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ref_device.h"
#include "umm_tier.h"

enum {
	DEFAULT_FRAMES = 65536,
	COPIES_BEFORE_DEATH = 100,
	SLOW_SECONDS = 2,
	STALLS = 20,
	STALL_PAGES = 4096,
	STALL_MS = 50,
	HOME_BEFORE_STUCK = 2000,
	HOARD = 64 << 20, /* bytes, allocated, and as many mapped */
};

static int check(const char *name, uint64_t bytes, struct umm_tier_reason *reason)
{
	(void)bytes;
	if (!strstr(name, "refuses"))
		return 0;
	snprintf(reason->text, reason->len, "it was told to refuse");
	return -ENODEV;
}

static void die(void *priv, const struct umm_notifier_range *range)
{
	static unsigned heard;
	struct ref_failure failure = { .error = -EIO, .from_device = true };

	if (range->event == UMM_EVENT_MIGRATE && !range->owner &&
	    __atomic_add_fetch(&heard, 1, __ATOMIC_RELAXED) == COPIES_BEFORE_DEATH)
		ref_fail(priv, &failure);
}

/* The program's memory that is in the host, where it says which (victim_crowd.c). */
static void count_there(void)
{
	char *_Atomic *memory = dlsym(RTLD_DEFAULT, "victim_memory");
	_Atomic size_t *npages = dlsym(RTLD_DEFAULT, "victim_pages");
	_Atomic size_t *most = dlsym(RTLD_DEFAULT, "victim_most");
	unsigned char there;
	size_t n = 0;

	if (!memory || !npages || !most)
		return;
	for (size_t i = 0; i < *npages; i++)
		n += !mincore(*memory + i * UMM_PAGE_SIZE, UMM_PAGE_SIZE, &there) && there & 1;
	if (n > *most)
		*most = n;
}

/* Whoever moves pages here, and has taken them from the program, is held up. */
static void stall(void *priv, const struct umm_notifier_range *range)
{
	static _Atomic uint64_t home, stalled;
	uint64_t until;

	(void)priv;
	if (range->event != UMM_EVENT_MIGRATE)
		return;
	if (!range->owner) {
		atomic_fetch_add(&home, (range->end - range->start) / UMM_PAGE_SIZE);
		return;
	}
	if (!atomic_load(&home) || atomic_fetch_add(&stalled, 1) >= STALLS)
		return;
	until = atomic_load(&home) + STALL_PAGES;
	for (unsigned i = 0; i < STALL_MS && atomic_load(&home) < until; i++)
		usleep(1000);
	count_there();
}

static void stick(void *priv, const struct umm_notifier_range *range)
{
	static _Atomic uint64_t home;

	(void)priv;
	if (range->event != UMM_EVENT_MIGRATE)
		return;
	if (!range->owner)
		atomic_fetch_add(&home, (range->end - range->start) / UMM_PAGE_SIZE);
	while (range->owner && atomic_load(&home) >= HOME_BEFORE_STUCK)
		pause();
}

static void *hoard(void *arg)
{
	void *mapped =
		mmap(NULL, HOARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static void *_Atomic allocated; /* for good */

	allocated = malloc(HOARD);
	if (allocated && mapped != MAP_FAILED) {
		memset(allocated, 1, HOARD);
		memset(mapped, 1, HOARD);
	}
	return arg;
}

static void *start_hoard(void *arg)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, hoard, NULL))
		pthread_join(thread, NULL);
	return arg;
}

static int open(struct umm_ctx *ctx, const char *name, uint64_t bytes, struct umm_devmem **out,
		struct umm_tier_reason *reason)
{
	struct ref_options options = {
		.type = UMM_DEVMEM_PRIVATE,
		.nframes = bytes ? (uint32_t)(bytes / UMM_PAGE_SIZE) : DEFAULT_FRAMES,
		.inline_copy = !strstr(name, "worker"),
		.keep_freed = true,
	};
	int ret = check(name, bytes, reason);
	struct ref_device *device;
	pthread_t thread;

	if (strstr(name, "slow"))
		sleep(SLOW_SECONDS);
	if (!ret)
		ret = ref_create(ctx, &options, &device);
	if (ret)
		return ret;
	if (strstr(name, "hoards") && !pthread_create(&thread, NULL, start_hoard, NULL))
		pthread_join(thread, NULL);
	if (strstr(name, "dies"))
		ref_watch(device, die, device);
	if (strstr(name, "stalls"))
		ref_watch(device, stall, NULL);
	if (strstr(name, "sticks"))
		ref_watch(device, stick, NULL);
	*out = device->mem;
	return 0;
}

const struct umm_tier_ops umm_tier_ops = {
	.size = sizeof(umm_tier_ops),
	.api = UMM_TIER_API,
	.flags = UMM_TIER_FORKS,
	.check = check,
	.open = open,
};
