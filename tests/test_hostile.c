/* SPDX-License-Identifier: MIT */
/*
 * What a program does to its own memory, on every kind of memory, before it has migrated, in the
 * middle of it, and afterwards. What the call returns, and what is at the addresses then, is
 * compared with what the same call does to the same memory that nobody manages. The device must
 * see what the CPU does; and when all is over it has its frames back.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hooked.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define FRAMES 1024
#define SMALL  16 /* pages of memory that is not huge */

enum kind {
	KIND_PRIVATE,
	KIND_HEAP,
	KIND_STACK,
	KIND_HUGE,
	KIND_PRIVATE_FILE,
	KIND_SHARED,
	KIND_SHARED_FILE,
	KIND_TMPFS,
	KIND_HUGETLB,
	NR_KINDS,
};

static const char *const kind_names[] = {
	"private anonymous", "heap",	    "stack", "huge",	"private file",
	"shared anonymous",  "shared file", "tmpfs", "hugetlb",
};

enum moment { BEFORE, COLLECTED, COPIED, AFTER, NR_MOMENTS };

static const char *const moment_names[] = { "before", "while collected", "while copied", "after" };

struct memory {
	enum kind kind;
	char *p, *to; /* to: room for it to move to */
	size_t npages;
	size_t first, n; /* the part that calls are about */
	int fd;
};

/* ---- memory ------------------------------------------------------------------------- */

/*
 * Addresses, aligned to a block, with nothing behind them: far below those that the kernel hands
 * out by itself, so that nobody else gets what is unmapped there. Each is used once.
 */
static char *room(size_t len)
{
	static uintptr_t next = HARNESS_TSAN ? (uintptr_t)1 << 38 : (uintptr_t)1 << 45;
	char *map = mmap((void *)next, len, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(map, (void *)next);
	next += (len / BLOCK + 2) * BLOCK;
	return map;
}

static char *heap(size_t len)
{
	char *end = sbrk((intptr_t)(len + BLOCK));

	if (end == (void *)-1)
		return MAP_FAILED;
	return end + (BLOCK - (uintptr_t)end % BLOCK) % BLOCK;
}

static int file_of(enum kind kind, size_t len)
{
	int fd = kind == KIND_TMPFS ? memfd_create("umm-test", MFD_CLOEXEC) :
				      open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

static int flags_of(enum kind kind)
{
	switch (kind) {
	case KIND_STACK:
		return MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE;
	case KIND_PRIVATE_FILE:
		return MAP_PRIVATE;
	case KIND_SHARED:
		return MAP_SHARED | MAP_ANONYMOUS;
	case KIND_SHARED_FILE:
	case KIND_TMPFS:
		return MAP_SHARED;
	case KIND_HUGETLB:
		return MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	default:
		return MAP_PRIVATE | MAP_ANONYMOUS;
	}
}

/* False: this machine has none. Otherwise filled with seed 1. */
static bool memory_make(struct memory *m, enum kind kind)
{
	bool file = kind == KIND_PRIVATE_FILE || kind == KIND_SHARED_FILE || kind == KIND_TMPFS;
	size_t len;

	*m = (struct memory){ .kind = kind, .npages = SMALL, .first = 4, .n = 4, .fd = -1 };
	if (kind == KIND_HUGE)
		m->npages = UMM_BLOCK_PAGES, m->first = 128, m->n = 64;
	if (kind == KIND_HUGETLB)
		m->npages = UMM_BLOCK_PAGES, m->first = 0, m->n = UMM_BLOCK_PAGES;
	len = m->npages * PAGE;
	if (file)
		m->fd = file_of(kind, len);
	m->p = room(len);
	if (kind == KIND_HEAP) {
		munmap(m->p, len);
		m->p = heap(len);
	} else {
		m->p = mmap(m->p, len, PROT_READ | PROT_WRITE, flags_of(kind) | MAP_FIXED, m->fd,
			    0);
	}
	if (m->p == MAP_FAILED) {
		printf("without %s memory: %s\n", kind_names[kind], strerror(errno));
		return false;
	}
	if (kind != KIND_HUGETLB)
		madvise(m->p, len, kind == KIND_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	m->to = room(len);
	fill(m->p, m->npages, 1);
	return true;
}

static void memory_end(struct memory *m)
{
	munmap(m->p, m->npages * PAGE);
	munmap(m->to, m->npages * PAGE);
	if (m->fd >= 0)
		close(m->fd);
}

static bool migrates(enum kind kind)
{
	return kind <= KIND_PRIVATE_FILE;
}

/* ---- calls: 0 or -errno ------------------------------------------------------------- */

static int result(int ret)
{
	return ret ? -errno : 0;
}

static void *part(const struct memory *m)
{
	return m->p + m->first * PAGE;
}

static int call_read_only(const struct memory *m)
{
	return result(mprotect(part(m), m->n * PAGE, PROT_READ));
}

static int call_no_access(const struct memory *m)
{
	return result(mprotect(part(m), m->n * PAGE, PROT_NONE));
}

static int call_no_access_and_back(const struct memory *m)
{
	int ret = result(mprotect(part(m), m->n * PAGE, PROT_NONE));

	return ret ? ret : result(mprotect(part(m), m->n * PAGE, PROT_READ | PROT_WRITE));
}

static int call_unmap(const struct memory *m)
{
	return result(munmap(part(m), m->n * PAGE));
}

static int call_move(const struct memory *m)
{
	size_t len = m->npages * PAGE;

	return result(mremap(m->p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, m->to) == MAP_FAILED);
}

static int call_move_part(const struct memory *m)
{
	size_t len = m->n * PAGE;

	return result(mremap(part(m), len, len, MREMAP_MAYMOVE | MREMAP_FIXED, m->to) ==
		      MAP_FAILED);
}

static int call_move_and_leave(const struct memory *m)
{
	size_t len = m->npages * PAGE;

	return result(mremap(m->p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			     m->to) == MAP_FAILED);
}

static int call_shrink(const struct memory *m)
{
	size_t len = m->npages * PAGE;

	return result(mremap(m->p, len, len / 2, 0) == MAP_FAILED);
}

static int call_dontneed(const struct memory *m)
{
	return result(madvise(part(m), m->n * PAGE, MADV_DONTNEED));
}

static int call_free(const struct memory *m)
{
	return result(madvise(part(m), m->n * PAGE, MADV_FREE));
}

static int call_remove(const struct memory *m)
{
	return result(madvise(part(m), m->n * PAGE, MADV_REMOVE));
}

/* It may or may not find a huge page: what it answers does not matter. */
static int call_collapse(const struct memory *m)
{
	madvise(m->p, m->npages * PAGE, MADV_COLLAPSE);
	return 0;
}

static int call_lock(const struct memory *m)
{
	return result(mlock(part(m), m->n * PAGE));
}

static int call_lock_and_unlock(const struct memory *m)
{
	int ret = result(mlock(part(m), m->n * PAGE));

	return ret ? ret : result(munlock(part(m), m->n * PAGE));
}

/* The child sees what the parent had, and writes. */
static int call_fork(const struct memory *m)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		bool right = true;

		for (size_t i = 0; i < m->npages && right; i++)
			right = filled_at(m->p, i, 1);
		for (size_t i = m->first; i < m->first + m->n; i++)
			page_fill(m->p + i * PAGE, i, 2);
		_exit(right ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -ECHILD;
}

/* ---- what is there ------------------------------------------------------------------ */

/* Of one page: a signal, or what it holds; and whether a store is allowed. */
enum content { ZERO = 100, FIRST, SECOND, OTHER };

struct seen {
	int content;
	int store; /* 0 or the signal */
};

static struct seen see(char *page, size_t i)
{
	struct seen seen = { .content = touch_read(page) };
	char first;

	if (seen.content)
		return seen;
	seen.content = page_zero(page)	       ? ZERO :
		       page_filled(page, i, 1) ? FIRST :
		       page_filled(page, i, 2) ? SECOND :
						 OTHER;
	first = *page;
	seen.store = touch_write(page);
	if (!seen.store)
		*page = first;
	return seen;
}

struct outcome {
	int ret;
	struct seen from[UMM_BLOCK_PAGES], to[UMM_BLOCK_PAGES];
};

static void look(const struct memory *m, struct outcome *out)
{
	bool part_moved = false;

	for (size_t i = 0; i < m->npages; i++)
		out->from[i] = see(m->p + i * PAGE, i);
	/* What moved as a part begins with the part's first page. */
	part_moved = !touch_read(m->to) && touch_read(m->to + m->n * PAGE);
	for (size_t i = 0; i < m->npages; i++)
		out->to[i] = see(m->to + i * PAGE, part_moved ? m->first + i : i);
}

typedef int call_fn(const struct memory *m);

struct scene {
	struct env *env;
	struct ref_device *ref;
	call_fn *call;
	enum moment moment;
	struct memory m;
	int ret;
};

#define expect(scene, condition, ...)                                          \
	do {                                                                   \
		if (!(condition)) {                                            \
			printf("%s memory, %s: ", kind_names[(scene)->m.kind], \
			       moment_names[(scene)->moment]);                 \
			printf(__VA_ARGS__);                                   \
			printf("\n");                                          \
			fail_msg("%s", #condition);                            \
		}                                                              \
	} while (0)

/* MADV_FREE leaves what was there or zeroes, as the kernel likes. */
static bool alike(const struct scene *s, const struct seen *plain, const struct seen *got)
{
	if (s->call == call_free && plain->content == FIRST && got->content == ZERO)
		return plain->store == got->store;
	return plain->content == got->content && plain->store == got->store;
}

/* Where faults of system calls are not served mlock() cannot touch pages that are not there. */
static bool lock_is_refused(const struct scene *s, int ret)
{
	return !variant_has_syscalls(&s->env->variant) && ret == -ENOMEM &&
	       (s->call == call_lock || s->call == call_lock_and_unlock);
}

static void compare(const struct scene *s, const struct outcome *plain, const struct outcome *got)
{
	expect(s, plain->ret == got->ret || lock_is_refused(s, got->ret), "%d instead of %d",
	       got->ret, plain->ret);
	for (size_t i = 0; i < s->m.npages; i++) {
		expect(s, alike(s, &plain->from[i], &got->from[i]), "page %zu is %d/%d, not %d/%d",
		       i, got->from[i].content, got->from[i].store, plain->from[i].content,
		       plain->from[i].store);
		expect(s, alike(s, &plain->to[i], &got->to[i]),
		       "page %zu of where it moved is %d/%d, not %d/%d", i, got->to[i].content,
		       got->to[i].store, plain->to[i].content, plain->to[i].store);
	}
}

/* The device sees what the CPU does, where it may. */
static void compare_device(const struct scene *s, char *base, const struct seen *seen)
{
	char page[PAGE];
	int ret;

	for (size_t i = 0; i < s->m.npages; i += s->m.npages / SMALL) {
		char *at = base + i * PAGE;

		if (state_of(s->env, at) == UMM_PAGE_UNMANAGED)
			continue;
		ret = ref_read(s->ref, (uintptr_t)at, page, PAGE);
		expect(s, !ret == (seen[i].content >= ZERO), "the device gets %d for page %zu: %d",
		       ret, i, seen[i].content);
		if (ret)
			continue;
		expect(s, !memcmp(page, at, PAGE), "the device sees another page %zu", i);
		ret = ref_write(s->ref, (uintptr_t)at, page, PAGE);
		expect(s, !ret == !seen[i].store, "the device's store to page %zu gives %d", i,
		       ret);
	}
}

/* ---- scenes ------------------------------------------------------------------------- */

static void scene_call(void *arg)
{
	struct scene *s = arg;

	s->ret = s->call(&s->m);
}

static void scene_migrate(void *arg)
{
	struct scene *s = arg;

	umm_migrate_to_device(s->env->ctx, s->ref->mem, s->m.p, s->m.npages * PAGE);
}

static void scene_in_the_middle(struct scene *s, enum hook_point point)
{
	struct actor mover, caller;

	hook_arm(point, s->m.p, s->m.npages);
	actor_start(&mover, scene_migrate, s);
	expect(s, hook_stopped(), "nothing migrates");
	actor_start(&caller, scene_call, s);
	actor_blocks(&caller); /* or it is done: either is right */
	hook_go(point);
	actor_join(&caller);
	actor_join(&mover);
}

static void scene_play(struct scene *s)
{
	switch (s->moment) {
	case BEFORE:
		scene_call(s);
		scene_migrate(s);
		break;
	case COLLECTED:
		scene_in_the_middle(s, HOOK_COLLECTED);
		break;
	case COPIED:
		scene_in_the_middle(s, HOOK_COPIED);
		break;
	default:
		scene_migrate(s);
		scene_call(s);
		break;
	}
}

static void plain_outcome(call_fn *call, enum kind kind, struct outcome *out)
{
	struct memory m;

	assert_true(memory_make(&m, kind));
	out->ret = call(&m);
	look(&m, out);
	memory_end(&m);
}

/* One scene; true: this machine has such memory. */
static bool scene_run(struct scene *s, enum kind kind)
{
	static struct outcome plain, got;
	size_t len;

	if (!memory_make(&s->m, kind))
		return false;
	len = s->m.npages * PAGE;
	plain_outcome(s->call, kind, &plain);
	assert_int_equal(umm_attach(s->env->ctx, s->m.p, len), 0);
	assert_int_equal(ref_map(s->ref, (uintptr_t)s->m.p, len, false), 0);
	scene_play(s);
	got.ret = s->ret;
	/* What has migrated of a private file is anonymous memory from then on. */
	if (kind == KIND_PRIVATE_FILE && got.ret != plain.ret && s->moment != BEFORE)
		plain_outcome(s->call, KIND_PRIVATE, &plain);
	look(&s->m, &got);
	compare(s, &plain, &got);
	compare_device(s, s->m.p, got.from);
	compare_device(s, s->m.to, got.to);
	look(&s->m, &got);
	compare(s, &plain, &got);
	umm_detach(s->env->ctx, s->m.p);
	umm_detach(s->env->ctx, s->m.to);
	memory_end(&s->m);
	assert_free_frames(s->ref, FRAMES);
	return true;
}

static void on_every_memory(struct env *e, call_fn *call)
{
	struct scene s = { .env = e, .call = call };

	s.ref = env_device(e, FRAMES);
	for (int kind = 0; kind < NR_KINDS; kind++)
		for (int moment = 0; moment < NR_MOMENTS; moment++) {
			if ((moment == COLLECTED || moment == COPIED) && !migrates((enum kind)kind))
				continue;
			s.moment = (enum moment)moment;
			if (!scene_run(&s, (enum kind)kind))
				break;
		}
}

#define CALL(name)                                \
	static void hostile_##name(struct env *e) \
	{                                         \
		on_every_memory(e, call_##name);  \
	}

CALL(read_only)
CALL(no_access)
CALL(no_access_and_back)
CALL(unmap)
CALL(move)
CALL(move_part)
CALL(move_and_leave)
CALL(shrink)
CALL(dontneed)
CALL(free)
CALL(remove)
CALL(collapse)
CALL(lock)
CALL(lock_and_unlock)
CALL(fork)

static const struct test_case cases[] = {
	TEST(KERNEL, hostile_read_only),
	TEST(COHERENT_ONCE, hostile_read_only),
	TEST(KERNEL, hostile_no_access),
	TEST(COHERENT_ONCE, hostile_no_access),
	TEST(KERNEL, hostile_no_access_and_back),
	TEST(COHERENT_ONCE, hostile_no_access_and_back),
	TEST(KERNEL, hostile_unmap),
	TEST(COHERENT_ONCE, hostile_unmap),
	TEST(KERNEL, hostile_move),
	TEST(COHERENT_ONCE, hostile_move),
	TEST(KERNEL, hostile_move_part),
	TEST(COHERENT_ONCE, hostile_move_part),
	TEST(KERNEL, hostile_move_and_leave),
	TEST(COHERENT_ONCE, hostile_move_and_leave),
	TEST(KERNEL, hostile_shrink),
	TEST(COHERENT_ONCE, hostile_shrink),
	TEST(KERNEL, hostile_dontneed),
	TEST(COHERENT_ONCE, hostile_dontneed),
	TEST(KERNEL, hostile_free),
	TEST(COHERENT_ONCE, hostile_free),
	TEST(KERNEL, hostile_remove),
	TEST(COHERENT_ONCE, hostile_remove),
	TEST(KERNEL, hostile_collapse),
	TEST(COHERENT_ONCE, hostile_collapse),
	TEST(KERNEL, hostile_lock),
	TEST(COHERENT_ONCE, hostile_lock),
	TEST(KERNEL, hostile_lock_and_unlock),
	TEST(COHERENT_ONCE, hostile_lock_and_unlock),
	TEST(KERNEL, hostile_fork),
	TEST(COHERENT_ONCE, hostile_fork),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_hostile", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
