/* SPDX-License-Identifier: MIT */
/*
 * A library that is loaded late and brings its own malloc(), linked so that it alone uses it. Made
 * as allocators are: slabs that are mapped too large and trimmed until they are aligned, reserved
 * first and committed as they fill; what is freed is given back by madvise(), and a slab that is
 * empty by munmap().
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "victim.h"

#define SLAB	(16 * MIB)
#define PAGE	((size_t)4096)
#define SHOWN	__attribute__((visibility("default")))
#define FORWARD (PAGE) /* the header of a slab has a page of its own */

struct slab {
	size_t used, committed, live;
};

static struct slab *current;
static atomic_flag busy = ATOMIC_FLAG_INIT;

SHOWN void *library_make(size_t len);
SHOWN void library_destroy(void *ptr);
SHOWN size_t library_calls(void);

static size_t calls;

static size_t round_up(size_t len)
{
	return (len + PAGE - 1) & ~(PAGE - 1);
}

static struct slab *slab_map(void)
{
	char *start = mmap(NULL, 2 * SLAB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	check(start != MAP_FAILED);
	before = -(uintptr_t)start % SLAB;
	check(!before || !munmap(start, before));
	check(before == SLAB || !munmap(start + before + SLAB, SLAB - before));
	start += before;
	check(!mprotect(start, MIB, PROT_READ | PROT_WRITE));
	*(struct slab *)start = (struct slab){ .used = FORWARD, .committed = MIB };
	return (struct slab *)start;
}

static void *take(size_t len)
{
	struct slab *slab = current;
	char *ptr;

	if (!slab || slab->used + len > SLAB)
		slab = current = slab_map();
	ptr = (char *)slab + slab->used;
	slab->used += len;
	slab->live++;
	for (; slab->committed < slab->used; slab->committed += MIB)
		check(!mprotect((char *)slab + slab->committed, MIB, PROT_READ | PROT_WRITE));
	return ptr;
}

/* At most a slab; the first page of each says how long it is. */
SHOWN void *malloc(size_t len)
{
	size_t *ptr;

	while (atomic_flag_test_and_set(&busy))
		;
	calls++;
	len = round_up(len) + PAGE;
	ptr = len <= SLAB - FORWARD ? take(len) : NULL;
	if (ptr)
		*ptr = len;
	atomic_flag_clear(&busy);
	return ptr ? (char *)ptr + PAGE : NULL;
}

SHOWN void free(void *ptr)
{
	char *start = (char *)ptr - PAGE;
	struct slab *slab = (struct slab *)((uintptr_t)start & ~(SLAB - 1));

	if (!ptr)
		return;
	while (atomic_flag_test_and_set(&busy))
		;
	check(!madvise(start, *(size_t *)start, MADV_DONTNEED));
	if (!--slab->live && slab != current)
		check(!munmap(slab, SLAB));
	atomic_flag_clear(&busy);
}

void *library_make(size_t len)
{
	void *ptr = malloc(len);

	fill(ptr, len, 11);
	return ptr;
}

void library_destroy(void *ptr)
{
	free(ptr);
}

size_t library_calls(void)
{
	return calls;
}
