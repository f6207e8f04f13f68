/* SPDX-License-Identifier: MIT */
/*
 * Random changes of mappings, over more memory than the test lets the host have. What each call
 * says and what memory is then goes to standard output, addresses by their places alone: the same
 * with the shim and without. usage: victim_remap SEED
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "victim.h"

#define PAGE	 ((size_t)4096)
#define SLOT	 (64 * MIB)
#define LARGEST	 (40 * MIB)
#define SMALLEST (6 * MIB)

enum { SLOTS = 5, OBJECTS = 4, STEPS = 50 };

/* Of the slots one is free. What is not an object's there is shared, without access. */
static struct object {
	unsigned slot;
	char *addr;
	size_t len;
} objects[OBJECTS];
static char *window;
static unsigned spare;
static uint64_t state;
static uint64_t stamp;

static size_t random_below(size_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % limit;
}

static char *slot_start(unsigned slot)
{
	return window + slot * SLOT + slot * 3 * PAGE;
}

static void reserve(char *addr, size_t len)
{
	check(!len || mmap(addr, len, PROT_NONE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == addr);
}

/* The kernel looks, so that what is not there or forbidden is an error. */
static bool can_read(char *addr, uint64_t *word)
{
	struct iovec here = { word, sizeof(*word) }, there = { addr, sizeof(*word) };

	return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == sizeof(*word);
}

static bool can_write(char *addr, uint64_t *word)
{
	struct iovec here = { word, sizeof(*word) }, there = { addr, sizeof(*word) };

	return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == sizeof(*word);
}

/* What a range holds, and what may be done to it. */
static void tell(const char *what, char *addr, size_t len)
{
	uint64_t sum = 0, word, readable = 0, writable = 0;

	for (size_t at = 0; at < len; at += PAGE) {
		bool may_write;

		if (!can_read(addr + at, &word))
			continue;
		check(*(volatile uint64_t *)(addr + at) == word);
		may_write = can_write(addr + at, &word);
		readable++;
		writable += may_write;
		sum = (sum ^ word ^ at ^ may_write) * 0x9e3779b97f4a7c15u;
	}
	printf(" %s %zu: %016llx %llu %llu", what, len / PAGE, (unsigned long long)sum,
	       (unsigned long long)readable, (unsigned long long)writable);
}

static void write_pages(char *addr, size_t len)
{
	uint64_t word;

	for (size_t at = 0; at < len; at += PAGE)
		if (can_read(addr + at, &word) && can_write(addr + at, &word))
			*(volatile uint64_t *)(addr + at) = ++stamp;
}

static void create(struct object *object)
{
	object->addr = slot_start(object->slot);
	object->len = SMALLEST + random_below(18 * MIB / PAGE) * PAGE;
	check(mmap(object->addr, object->len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == object->addr);
	write_pages(object->addr, object->len);
}

static void destroy(struct object *object)
{
	if (object->addr < window || object->addr >= window + SLOTS * SLOT)
		check(!munmap(object->addr, object->len));
	reserve(slot_start(object->slot), LARGEST + 4 * MIB);
}

static void say(int ret)
{
	printf(" %s", ret ? strerrorname_np(errno) : "ok");
}

/* A part of it; a few pages, or a large one. */
static char *part_of(const struct object *object, size_t *len)
{
	size_t most = object->len / PAGE, first = random_below(most), n;

	n = 1 + random_below(random_below(2) ? 4 : most - first);
	*len = (first + n < most ? n : most - first) * PAGE;
	return object->addr + first * PAGE;
}

static void protects(struct object *object)
{
	static const int prots[] = { PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE };
	size_t which = random_below(3), len;
	char *part = part_of(object, &len);

	printf("mprotect %zu", which);
	say(mprotect(part, len, prots[which]));
}

static void protects_all(struct object *object)
{
	printf("mprotect all");
	say(mprotect(object->addr, object->len, PROT_READ | PROT_WRITE));
}

static void drops(struct object *object)
{
	size_t len;
	char *part = part_of(object, &len);

	printf("madvise");
	say(madvise(part, len, MADV_DONTNEED));
}

static void punches(struct object *object)
{
	size_t len;
	char *part = part_of(object, &len);

	len = len < MIB ? len : PAGE;
	printf("munmap");
	say(munmap(part, len));
}

static void writes(struct object *object)
{
	size_t len;
	char *part = part_of(object, &len);

	printf("write");
	write_pages(part, len);
}

/* Where it now is: where it was, where it should be, or anywhere. */
static bool arrived(struct object *object, char *got, size_t len, const char *wanted)
{
	if (got == MAP_FAILED) {
		say(-1);
		return false;
	}
	printf(" %s", got == object->addr ? "in place" : got == wanted ? "as wanted" : "elsewhere");
	object->addr = got;
	object->len = len;
	return true;
}

/* From wherever to the free slot. */
static void moves_to(struct object *object, size_t len, int flags)
{
	char *old = object->addr, *to = slot_start(spare) + random_below(3) * PAGE;
	size_t old_len = object->len;
	unsigned old_slot = object->slot;

	printf(" fixed %zu to %zu flags %d", old_len / PAGE, len / PAGE, flags);
	errno = 0;
	if (!arrived(object, mremap(old, old_len, len, flags | MREMAP_MAYMOVE | MREMAP_FIXED, to),
		     len, to)) {
		reserve(slot_start(spare), LARGEST + 4 * MIB);
		return;
	}
	check(!errno);
	object->slot = spare;
	spare = old_slot;
	if (flags & MREMAP_DONTUNMAP) {
		tell("left", old, old_len);
		check(!munmap(old, old_len));
	}
	reserve(slot_start(old_slot), LARGEST + 4 * MIB);
}

static void moves(struct object *object)
{
	moves_to(object, object->len, 0);
}

static void moves_and_leaves(struct object *object)
{
	moves_to(object, object->len, MREMAP_DONTUNMAP);
}

static size_t another_length(const struct object *object)
{
	size_t len = random_below(3) ? object->len + (1 + random_below(3 * MIB / PAGE)) * PAGE :
				       object->len - random_below(3 * MIB / PAGE) * PAGE;

	return len < SMALLEST ? SMALLEST : len > LARGEST ? LARGEST : len;
}

static void moves_and_resizes(struct object *object)
{
	moves_to(object, another_length(object), 0);
}

/* With room behind it or without; what goes anywhere comes to the free slot. */
static void resizes(struct object *object)
{
	size_t len = another_length(object), before = object->len;
	int flags = random_below(2) ? MREMAP_MAYMOVE : 0;
	bool has_room = len > before && random_below(2);
	char *start = object->addr;

	if (has_room)
		check(!munmap(start + before, len - before));
	printf("mremap %zu to %zu flags %d%s", before / PAGE, len / PAGE, flags,
	       has_room ? " with room" : "");
	errno = 0;
	if (!arrived(object, mremap(start, before, len, flags, NULL), len, NULL)) {
		if (has_room)
			reserve(start + before, len - before);
		return;
	}
	check(!errno);
	if (object->addr != start)
		moves_to(object, len, 0);
	else if (len < before)
		reserve(start + len, before - len);
}

static void leaves(struct object *object)
{
	char *start = object->addr;
	size_t len = object->len;

	printf("dontunmap %zu", len / PAGE);
	if (!arrived(object, mremap(start, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL), len,
		     NULL))
		return;
	tell("left", start, len);
	moves_to(object, len, 0);
}

/* What makes no sense. */
static void errs(struct object *object)
{
	char *start = object->addr;
	size_t len = object->len;
	int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	printf("errors");
	say(mremap(start, 0, len, MREMAP_MAYMOVE) == MAP_FAILED);
	say(mremap(start + 1, len, len + PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	say(mremap(start, len, 0, MREMAP_MAYMOVE) == MAP_FAILED);
	say(mremap(start, len, len, 64) == MAP_FAILED);
	say(mremap(start, len, len, fixed, start + PAGE) == MAP_FAILED);
	say(mremap(start, len, len, MREMAP_FIXED, slot_start(spare)) == MAP_FAILED);
	say(mremap(start, len, len, fixed, slot_start(spare) + 1) == MAP_FAILED);
	say(mremap(start, len, len + PAGE, fixed | MREMAP_DONTUNMAP, slot_start(spare)) ==
	    MAP_FAILED);
	say(mremap(start, len + SLOT, len + SLOT + PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
}

static void starts_anew(struct object *object)
{
	printf("new");
	destroy(object);
	create(object);
}

static void (*const changes[])(struct object *) = {
	protects,	   drops,   punches,	  writes,  moves,	moves_and_leaves,
	moves_and_resizes, resizes, leaves,	  errs,	   writes,	moves,
	moves_and_resizes, resizes, protects_all, resizes, starts_anew,
};

/* A mapping that goes on behind what moves, and stays; newer kernels move what has a hole. */
static void move_over_a_hole(void)
{
	size_t len = 8 * MIB, wrong = 0;
	char *from =
		mmap(NULL, 2 * len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *found;
	uint64_t *word;

	check(from != MAP_FAILED && to != MAP_FAILED);
	for (size_t at = 0; at < 2 * len; at += PAGE)
		*(uint64_t *)(from + at) = at + 1;
	check(!munmap(from + 2 * MIB, PAGE));
	found = mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
	printf("over a hole: %s\n", found == to ? "as wanted" : strerrorname_np(errno));
	for (size_t at = 0; at < 2 * len; at += PAGE) {
		word = (uint64_t *)((found == to && at < len ? to : from) + at);
		wrong += at != 2 * MIB && *word != at + 1;
	}
	printf("%zu pages are wrong\n", wrong);
	check(!munmap(from, 2 * len) && !munmap(to, len));
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
	window = mmap(NULL, SLOTS * SLOT + SLOT, PROT_NONE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(window != MAP_FAILED);
	window += SLOT - (uintptr_t)window % SLOT;
	for (unsigned i = 0; i < OBJECTS; i++) {
		objects[i].slot = i;
		create(&objects[i]);
	}
	spare = OBJECTS;
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned which = (unsigned)random_below(OBJECTS);

		printf("%u %u: ", i, which);
		changes[random_below(sizeof(changes) / sizeof(changes[0]))](&objects[which]);
		tell(";", objects[which].addr, objects[which].len);
		puts("");
	}
	for (unsigned i = 0; i < OBJECTS; i++)
		tell("end", objects[i].addr, objects[i].len);
	puts("");
	move_over_a_hole();
	return 0;
}
