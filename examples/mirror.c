/* SPDX-License-Identifier: MIT */
/*
 * A device without memory of its own: it uses the program's pages where they are, through a page
 * table that it fills by itself, while the CPU writes to them and drops them.
 *
 *	cc mirror.c $(pkg-config --cflags --libs umm) -pthread
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <umm.h>

#define PAGES  64
#define ROUNDS 400

/* What the CPU writes and the device reads; and the least that is in each page by now. */
static _Alignas(UMM_PAGE_SIZE) _Atomic uint64_t memory[PAGES][UMM_PAGE_SIZE / 8];
static _Atomic uint64_t written[PAGES];

/* The device: an entry for each page, 0 where it has to ask. */
static pthread_mutex_t update = PTHREAD_MUTEX_INITIALIZER; /* Protects: table, forgotten */
static uint64_t table[PAGES];
static unsigned forgotten, faults, stale;
static struct umm_notifier *notifier;

/* The core calls this before pages in the range change: forget where they were. */
static int invalidate(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	if (range->blockable)
		pthread_mutex_lock(&update);
	else if (pthread_mutex_trylock(&update))
		return -EAGAIN; /* ask again where it may wait */
	for (size_t i = 0; i < PAGES; i++)
		if (range->start < (uintptr_t)memory[i + 1] && range->end > (uintptr_t)memory[i]) {
			forgotten += table[i] != 0;
			table[i] = 0;
		}
	pthread_mutex_unlock(&update);
	return 0;
}

static void release(void *priv)
{
	(void)priv;
}

/* A device fault: ask for page i, and enter the answer if it still holds. */
static int fault(size_t i, uint64_t *entry)
{
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = notifier,
		.start = (uintptr_t)memory[i],
		.end = (uintptr_t)memory[i] + UMM_PAGE_SIZE,
		.entries = entry,
		.default_flags = UMM_ENTRY_REQ_FAULT,
	};
	bool holds;
	long ret;

	faults++;
	do {
		range.seq = umm_notifier_read_begin(notifier);
		ret = umm_range_fault(&range, 1000);
		if (ret < 0 && ret != -EBUSY)
			return (int)ret;
		pthread_mutex_lock(&update); /* and where it changed meanwhile, start over */
		holds = ret >= 0 && !umm_notifier_read_retry(notifier, range.seq);
		if (holds)
			table[i] = *entry;
		pthread_mutex_unlock(&update);
	} while (!holds);
	return 0;
}

/*
 * The device loads a word of page i, through its table; without the lock: it may have to wait for
 * the core, and that for invalidate(). Memory that may be unmapped it would process_vm_readv().
 */
static int device_load(size_t i, uint64_t *word)
{
	uint64_t entry;

	pthread_mutex_lock(&update);
	entry = table[i];
	pthread_mutex_unlock(&update);
	if (!entry && fault(i, &entry))
		return -1;
	*word = atomic_load((_Atomic uint64_t *)UMM_ENTRY_ADDR(entry));
	return 0;
}

/* The CPU counts in every page, and drops some of them on the way. */
static void *cpu(void *arg)
{
	for (uint64_t round = 1; round <= ROUNDS; round++)
		for (size_t i = 0; i < PAGES; i++) {
			if ((round + i) % 4 == 0)
				madvise(memory[i], UMM_PAGE_SIZE, MADV_DONTNEED);
			atomic_store(memory[i], round);
			atomic_store(&written[i], round);
		}
	return arg;
}

/* Devices with memory copy; this one is never asked to. */
static int copy(void *priv, const struct umm_copy *copies, unsigned ncopies, struct umm_fence *done)
{
	(void)priv, (void)copies, (void)ncopies, (void)done;
	return -EOPNOTSUPP;
}

int main(void)
{
	struct umm_device_ops device_ops = {
		.size = sizeof(device_ops), .api = UMM_DEVICE_API, .name = "mirror", .copy = copy
	};
	struct umm_mirror_ops mirror_ops = { .size = sizeof(mirror_ops),
					     .invalidate = invalidate,
					     .release = release };
	uint64_t least, word = 0;
	struct umm_mirror *mirror;
	struct umm_device *device;
	struct umm_ctx *ctx;
	pthread_t thread;

	if (umm_ctx_create(NULL, &ctx) || umm_attach(ctx, memory, sizeof(memory)) ||
	    umm_device_create(ctx, &device_ops, NULL, 0, &device) ||
	    umm_mirror_register(device, &mirror_ops, NULL, &mirror))
		return 77; /* the library has said why */
	notifier = umm_mirror_notifier(mirror);
	pthread_create(&thread, NULL, cpu, NULL);
	while (atomic_load(&written[PAGES - 1]) < ROUNDS)
		for (size_t i = 0; i < PAGES; i++) {
			least = atomic_load(&written[i]);
			if (device_load(i, &word))
				return 1;
			/* A page that was dropped reads zero until it is written to. */
			stale += word && word < least;
		}
	pthread_join(thread, NULL);
	umm_ctx_put(ctx);
	printf("%u device faults, %u entries forgotten, %u stale loads\n", faults, forgotten,
	       stale);
	return stale || !forgotten;
}
