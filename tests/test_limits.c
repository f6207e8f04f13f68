/* SPDX-License-Identifier: MIT */
/*
 * Limits of the process and the machine: permissions, descriptors, mappings, address
 * space; locked memory; many ranges; a process that ends with everything open.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctx.h"

#define NOBODY 65534

/* What a child does with a context of its own. */
static bool little_world(int *created)
{
	struct ref_options options = { .nframes = 64, .inline_copy = true };
	struct ref_device *ref = NULL;
	struct umm_ctx *ctx = NULL;
	void *p = NULL;
	bool good = false;
	size_t i;

	*created = umm_ctx_create(NULL, &ctx);
	if (*created)
		return false;
	if (ref_create(ctx, &options, &ref) == 0 && umm_alloc(ctx, 16 * PAGE, 0, &p) == 0) {
		fill(p, 16, 1);
		good = umm_migrate_to_device(ctx, ref->mem, p, 16 * PAGE) == 16;
		for (i = 0; i < 16; i++)
			good &= filled_at(p, i, 1);
	}
	umm_ctx_put(ctx);
	return ref_destroy(ref) && good;
}

static void skip_unless_children_may_have_threads(void)
{
	if (HARNESS_TSAN)
		env_skip("ThreadSanitizer cannot start threads in a child of threads");
}

static void skip_unless_root(void)
{
	if (geteuid() != 0)
		env_skip("only root can become somebody else");
}

/* ---- permissions -------------------------------------------------------------------- */

static void become_nobody(void)
{
	child_check(setresgid(NOBODY, NOBODY, NOBODY) == 0);
	child_check(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	/* As if nobody had started it: its own /proc/self stays its own. */
	child_check(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}

static void child_is_nobody(void *arg)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	int created;

	(void)arg;
	become_nobody();
	child_check(umm_probe(&info) == 0);
	if (info.uffd_access == UMM_UFFD_NONE)
		_exit(0);
	if (info.uffd_access == UMM_UFFD_USER_MODE_ONLY) {
		child_check(!(info.kernel_features & UMM_KERNEL_SYSCALL_FAULTS));
		child_check(info.advice[0]);
	}
	child_check(little_world(&created));
}

static void unprivileged_process_is_served(struct env *e)
{
	(void)e;
	skip_unless_root();
	skip_unless_children_may_have_threads();
	assert_true(in_child(child_is_nobody, NULL));
}

/* ---- its own /proc is not for this process ------------------------------------------ */

struct hidden {
	struct umm_ctx_options options;
	bool early; /* the context is older than that */
	char room[32];
};

static struct umm_ctx *hidden_open(const struct hidden *h)
{
	struct umm_ctx *ctx = NULL;

	child_check(umm_ctx_create(&h->options, &ctx) == 0);
	return ctx;
}

/* Another user and not dumpable: /proc/self belongs to root. And away from /proc altogether. */
static void hide_proc(const struct hidden *h)
{
	if (h->early)
		child_check(chroot(h->room) == 0 && chdir("/") == 0);
	become_nobody();
	child_check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
	child_check(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) < 0);
}

/* Half of it is filled, one page of that dropped again, the rest never touched. */
static bool hidden_page_is(const char *page, size_t i)
{
	return i < 16 && i != 7 ? page_filled(page, i, 1) : page_zero(page);
}

static void hidden_world(struct umm_ctx *ctx, enum umm_devmem_type type)
{
	struct ref_options options = { .nframes = 64, .inline_copy = true, .type = type };
	struct ref_device *ref;
	char page[PAGE];
	void *map;
	char *p;

	child_check(ref_create(ctx, &options, &ref) == 0);
	map = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	child_check(map != MAP_FAILED && umm_attach(ctx, map, 32 * PAGE) == 0);
	p = map;
	fill(p, 16, 1);
	child_check(madvise(p + 7 * PAGE, PAGE, MADV_DONTNEED) == 0);
	for (int round = 0; round < 2; round++) {
		child_check(umm_migrate_to_device(ctx, ref->mem, p, 32 * PAGE) == 32);
		for (size_t i = 0; i < 32; i++) {
			child_check(ref_read(ref, (uintptr_t)p + i * PAGE, page, PAGE) == 0);
			child_check(hidden_page_is(page, i));
		}
		child_check(umm_migrate_to_system(ctx, p, 16 * PAGE) == 16);
		for (size_t i = 0; i < 32; i++)
			child_check(hidden_page_is(p + i * PAGE, i));
		if (type == UMM_DEVMEM_COHERENT)
			child_check(umm_migrate_to_system(ctx, p, 32 * PAGE) == 16);
		child_check(ref_map(ref, (uintptr_t)p, 32 * PAGE, true) == 0);
	}
	child_check(umm_detach(ctx, p) == 0);
	for (size_t i = 0; i < 32; i++)
		child_check(hidden_page_is(p + i * PAGE, i));
	child_check(ref_destroy(ref));
}

static void child_hides_its_proc(void *arg)
{
	const struct hidden *h = arg;
	struct umm_ctx *ctx = NULL;

	if (h->early)
		ctx = hidden_open(h);
	hide_proc(h);
	if (!h->early)
		ctx = hidden_open(h);
	hidden_world(ctx, UMM_DEVMEM_PRIVATE);
	hidden_world(ctx, UMM_DEVMEM_COHERENT);
	umm_ctx_put(ctx);
}

static void skip_unless_proc_can_be_hidden(void)
{
	skip_unless_root();
	skip_unless_children_may_have_threads();
}

static void process_that_may_not_read_its_pagemap_is_served(struct env *e)
{
	struct hidden h = { .options = { .size = sizeof(h.options),
					 .flags = e->variant.ctx_flags,
					 .kernel_features_off = e->variant.features_off } };

	skip_unless_proc_can_be_hidden();
	assert_true(in_child(child_hides_its_proc, &h));
}

static void context_outlives_access_to_proc(struct env *e)
{
	struct hidden h = { .options = { .size = sizeof(h.options),
					 .flags = e->variant.ctx_flags,
					 .kernel_features_off = e->variant.features_off },
			    .early = true,
			    .room = "/tmp/umm-test-XXXXXX" };

	if (ref_backend_used())
		env_skip("in a room without /sys and libraries there is no other device");
	skip_unless_proc_can_be_hidden();
	if (!mkdtemp(h.room))
		env_skip("no directory in /tmp: %s", strerror(errno));
	assert_true(in_child(child_hides_its_proc, &h));
	rmdir(h.room);
}

/* A system call that fails from now on, like in a container. */
static bool forbid(unsigned nr, unsigned err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void child_is_forbidden(void *arg)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	int created, fd;

	(void)arg;
	become_nobody();
	/* /dev/userfaultfd is not for nobody. */
	fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (fd >= 0 || !forbid(SYS_userfaultfd, EPERM))
		_exit(0);
	child_check(umm_probe(&info) == 0);
	child_check(info.uffd_access == UMM_UFFD_NONE);
	child_check(info.uffd_error == -EPERM);
	child_check(info.advice[0]);
	child_check(!little_world(&created));
	child_check(created == -EPERM);
}

static void refused_userfaultfd_is_eperm_and_says_what_to_do(struct env *e)
{
	(void)e;
	skip_unless_root();
	assert_true(in_child(child_is_forbidden, NULL));
}

/* ---- descriptors, mappings, address space ------------------------------------------- */

static void count_line(void *priv, enum umm_log_level level, const char *line)
{
	(void)level;
	*(unsigned *)priv += strstr(line, "ulimit -n") != NULL;
}

static void no_descriptor_left_is_enomem(struct env *e)
{
	struct rlimit before, few;
	struct umm_ctx *ctx;
	unsigned nlines;
	int fd, i, ret;

	(void)e;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	fd = dup(0);
	assert_true(fd >= 0);
	close(fd);
	/* Room for so many; with enough of them it works, and nothing leaks before. */
	for (i = 0; i < 20; i++) {
		few = before;
		few.rlim_cur = (rlim_t)fd + (rlim_t)i;
		nlines = 0;
		umm_log_set(count_line, &nlines, UMM_LOG_WARNING);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		ret = umm_ctx_create(NULL, &ctx);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		umm_log_set(NULL, NULL, UMM_LOG_WARNING);
		if (ret == 0)
			break;
		assert_int_equal(ret, -ENOMEM);
		/* Whatever it was that failed, a message says what to do. */
		assert_true(nlines);
	}
	assert_in_range(i, 1, 19);
	umm_ctx_put(ctx);
	ret = dup(0);
	close(ret);
	assert_int_equal(ret, fd);
}

/* Nothing of this process may be opened: not even its mappings can be looked at. */
static void child_without_descriptors(void *arg)
{
	const struct umm_ctx_options options = {
		.size = sizeof(options),
		.kernel_features_off = UMM_KERNEL_PROCMAP_QUERY,
	};
	struct ref_options ref_options = { .nframes = 64, .inline_copy = true };
	struct rlimit none = { 0, 0 };
	struct ref_device *ref = NULL;
	struct umm_ctx *ctx = NULL;
	struct umm_range range = { .size = sizeof(range) };
	struct umm_pin *pin;
	uint64_t entry;
	void *p = NULL, *q = NULL;

	(void)arg;
	child_check(umm_ctx_create(&options, &ctx) == 0);
	child_check(ref_create(ctx, &ref_options, &ref) == 0);
	child_check(umm_alloc(ctx, 16 * PAGE, 0, &p) == 0);
	fill(p, 16, 1);
	range.entries = &entry;
	range.owner = ref->dev;
	range.notifier = umm_mirror_notifier(ref->mirror);
	/* The device has used this page before; those of the other block, never. */
	child_check(umm_alloc(ctx, BLOCK, UMM_ALLOC_SMALL_PAGES, &q) == 0);
	fill(q, 1, 1);
	child_check(ref_map(ref, (uintptr_t)q, PAGE, false) == 0);
	range.start = (uintptr_t)q;
	range.end = range.start + PAGE;
	range.seq = umm_notifier_read_begin(range.notifier);
	child_check(setrlimit(RLIMIT_NOFILE, &none) == 0);
	child_check(umm_migrate_to_device(ctx, ref->mem, p, 16 * PAGE) == -ENOMEM);
	child_check(umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + PAGE, &entry) ==
		    -ENOMEM);
	child_check(umm_pin(ctx, (uintptr_t)p, 1, 0, &pin) == -ENOMEM);
	child_check(ref_map(ref, (uintptr_t)q, PAGE, false) == -ENOMEM);
	child_check(umm_range_snapshot(&range) == -ENOMEM);
	for (size_t i = 0; i < 16; i++)
		child_check(filled_at(p, i, 1));
}

static void mappings_that_cannot_be_looked_at_are_enomem(struct env *e)
{
	(void)e;
	skip_unless_children_may_have_threads();
	assert_true(in_child(child_without_descriptors, NULL));
}

/* Blocks that a device has used are mappings of their own, and those are limited. */
static void mapping_limit_is_enomem_and_harmless(struct env *e)
{
	const size_t len = (size_t)1 << 38;
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 8 * PAGE), *many;
	uint64_t entry;
	struct umm_range range = { .size = sizeof(range),
				   .entries = &entry,
				   .owner = ref->dev,
				   .notifier = umm_mirror_notifier(ref->mirror) };
	size_t at;
	long ret = 0;

	if (HARNESS_TSAN)
		env_skip("ThreadSanitizer itself needs mappings, and ends without");
	if (!(e->ctx->features & UMM_KERNEL_PROCMAP_QUERY))
		env_skip("each look reads all of /proc/self/maps, which grows: an hour");
	many = env_alloc(e, len);
	fill(p, 8, 1);
	to_device(e, ref, p, 8, 8);
	for (at = 0; at < len && ret >= 0; at += 2 * BLOCK) {
		range.start = (uintptr_t)many + at;
		range.end = range.start + PAGE;
		range.seq = umm_notifier_read_begin(range.notifier);
		ret = umm_range_snapshot(&range);
	}
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(migrate(e, ref, many + at, 1, 0), -ENOMEM);
	assert_int_equal(umm_free(e->ctx, many), 0);
	assert_filled(p, 8, 1);
	to_device(e, ref, p, 8, e->variant.type == UMM_DEVMEM_PRIVATE ? 8 : 0);
	assert_filled(p, 8, 1);
}

static void child_has_no_address_space(void *arg)
{
	struct rlimit before, limit;
	struct umm_ctx *ctx = NULL;
	size_t room;
	void *p;
	int ret = -ENOMEM;

	(void)arg;
	child_check(getrlimit(RLIMIT_AS, &before) == 0);
	/* More and more room, until a context fits in; then an allocation does not. */
	for (room = (size_t)16 << 20; ret && room < (size_t)1 << 46; room *= 2) {
		limit = before;
		limit.rlim_cur = room;
		child_check(setrlimit(RLIMIT_AS, &limit) == 0);
		ret = umm_ctx_create(NULL, &ctx);
		child_check(ret == 0 || ret == -ENOMEM || ret == -EAGAIN);
	}
	child_check(ret == 0);
	child_check(umm_alloc(ctx, room * 2, 0, &p) == -ENOMEM);
	child_check(setrlimit(RLIMIT_AS, &before) == 0);
	child_check(umm_alloc(ctx, PAGE, 0, &p) == 0);
	umm_ctx_put(ctx);
}

/* What the process has now, and as much more as libumm says it needs. */
static void child_has_little_address_space(void *arg)
{
	struct rlimit limit;
	long pages = 0;
	FILE *statm;
	int created;

	(void)arg;
	/* What a backend loads, compilers for example, is none of ours. */
	if (ref_backend_used())
		child_check(little_world(&created));
	statm = fopen("/proc/self/statm", "r");
	child_check(statm && fscanf(statm, "%ld", &pages) == 1);
	fclose(statm);
	child_check(getrlimit(RLIMIT_AS, &limit) == 0);
	for (size_t room = (size_t)256 << 20; room <= (size_t)4096 << 20; room += 173u << 20) {
		limit.rlim_cur = (rlim_t)pages * PAGE + room;
		child_check(setrlimit(RLIMIT_AS, &limit) == 0);
		child_check(little_world(&created));
	}
}

static void limited_address_space_is_enough(struct env *e)
{
	(void)e;
	if (HARNESS_TSAN || HARNESS_ASAN)
		env_skip("sanitizers need all of the address space");
	assert_true(in_child(child_has_little_address_space, NULL));
}

static void address_space_limit_is_enomem(struct env *e)
{
	(void)e;
	if (HARNESS_TSAN || HARNESS_ASAN)
		env_skip("sanitizers need all of the address space");
	assert_true(in_child(child_has_no_address_space, NULL));
}

/* ---- refusals ----------------------------------------------------------------------- */

/* The lines of errors, and the last of them. */
struct errors {
	unsigned nlines;
	char last[400];
};

static void take_error(void *priv, enum umm_log_level level, const char *line)
{
	struct errors *errors = priv;

	if (level != UMM_LOG_ERROR)
		return;
	errors->nlines++;
	strncpy(errors->last, line, sizeof(errors->last) - 1);
}

/* No context, with this error, and one line that has these words. */
static void child_gets_no_context(int ret, const char *words)
{
	struct errors errors = { 0 };
	struct umm_ctx *ctx;

	umm_log_set(take_error, &errors, UMM_LOG_WARNING);
	child_check(umm_ctx_create(NULL, &ctx) == ret);
	child_check(errors.nlines == 1);
	child_check(strstr(errors.last, words));
}

static void child_maps_nothing(void *arg)
{
	(void)arg;
	child_check(forbid(SYS_mmap, ENOMEM));
	child_gets_no_context(-ENOMEM, "vm.max_map_count");
}

static void no_context_for_want_of_mappings_is_said_to_be(struct env *e)
{
	(void)e;
	if (HARNESS_TSAN || HARNESS_ASAN)
		env_skip("sanitizers need all of the address space");
	assert_true(in_child(child_maps_nothing, NULL));
}

static void child_controls_nothing(void *arg)
{
	child_check(forbid(SYS_ioctl, *(unsigned *)arg));
	child_gets_no_context(-EPERM, "seccomp");
}

static void filtered_ioctls_are_eperm(struct env *e)
{
	unsigned errors[] = { ENOTTY, EPERM, EACCES };

	(void)e;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		assert_true(in_child(child_controls_nothing, &errors[i]));
}

static void child_starts_no_thread(void *arg)
{
	(void)arg;
	child_check(forbid(SYS_clone, EAGAIN) && forbid(SYS_clone3, EAGAIN));
	child_gets_no_context(-EAGAIN, "no thread can be started");
}

static void no_thread_is_eagain_and_said_to_be(struct env *e)
{
	(void)e;
	assert_true(in_child(child_starts_no_thread, NULL));
}

/* ---- odd memory --------------------------------------------------------------------- */

static void locked_memory_keeps_its_data(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	if (mlock(p, 16 * PAGE))
		env_skip("mlock: %s", strerror(errno));
	assert_true(migrate(e, ref, p, 16, 0) >= 0);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
	device_fill(ref, p, 16, 2);
	assert_int_equal(munlock(p, 16 * PAGE), 0);
	assert_filled(p, 16, 2);
	to_device(e, ref, p, 16, (long)(16 - count_state(e, p, 16, env_home(e))));
	assert_filled(p, 16, 2);
}

static void memory_locked_on_the_device_comes_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	/* mlock() touches every page, from inside the kernel. */
	if (mlock(p, 16 * PAGE))
		env_skip("mlock: %s", strerror(errno));
	assert_filled(p, 16, 1);
	to_system(e, p, 16, (long)count_state(e, p, 16, env_home(e)));
	assert_filled(p, 16, 1);
	munlock(p, 16 * PAGE);
}

static void many_ranges_are_as_good_as_few(struct env *e)
{
	enum { N = 5000 };
	struct ref_device *ref = env_device(e, 512);
	struct umm_stats stats = { .size = sizeof(stats) };
	char **p = calloc(N, sizeof(*p));
	size_t i;

	for (i = 0; i < N; i++) {
		p[i] = env_alloc(e, (1 + i % 3) * PAGE);
		page_fill(p[i], i, 1);
		if (i % 10 == 0)
			to_device(e, ref, p[i], 1, 1);
	}
	for (i = 0; i < N; i++)
		assert_true(page_filled(p[i], i, 1));
	for (i = 0; i < N; i++)
		assert_int_equal(umm_free(e->ctx, p[(i * 7) % N]), 0);
	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	assert_int_equal(stats.managed_bytes, 0);
	assert_free_frames(ref, 512);
	free(p);
}

static void recycled_frames_are_limited(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .frame_cache = 4 * BLOCK,
					   .flags = e->variant.ctx_flags,
					   .kernel_features_off = e->variant.features_off };
	struct ref_options device = { .nframes = 16 * UMM_BLOCK_PAGES, .inline_copy = true };
	struct umm_stats stats = { .size = sizeof(stats) };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *p;
	int i;

	assert_int_equal(umm_ctx_create(&options, &ctx), 0);
	assert_int_equal(ref_create(ctx, &device, &ref), 0);
	assert_int_equal(umm_alloc(ctx, 16 * BLOCK, 0, &p), 0);
	fill(p, 16 * UMM_BLOCK_PAGES, 1);
	for (i = 0; i < 3; i++) {
		assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, 16 * BLOCK),
				 16 * UMM_BLOCK_PAGES);
		assert_int_equal(umm_ctx_stats(ctx, &stats), 0);
		assert_in_range(stats.cached_bytes, 0, 4 * BLOCK);
		assert_int_equal(umm_migrate_to_system(ctx, p, 16 * BLOCK), 16 * UMM_BLOCK_PAGES);
		assert_int_equal(umm_ctx_stats(ctx, &stats), 0);
		assert_in_range(stats.cached_bytes, 0, 4 * BLOCK);
	}
	assert_filled(p, 16 * UMM_BLOCK_PAGES, 1);
	umm_ctx_put(ctx);
	assert_true(ref_destroy(ref));
}

/* ---- somebody else's userfaultfd ---------------------------------------------------- */

struct filler {
	int uffd;
	int stop; /* closed at its other end when the test is over */
	unsigned filled;
};

/* Fill every page that is touched with the low byte of its number. */
static void filler_run(void *arg)
{
	static char page[PAGE] __attribute__((aligned(4096)));
	struct filler *f = arg;
	struct pollfd fds[2] = { { .fd = f->uffd, .events = POLLIN },
				 { .fd = f->stop, .events = POLLIN } };
	struct uffd_msg msg;

	while (poll(fds, 2, -1) >= 0 && !fds[1].revents) {
		struct uffdio_copy copy = { .src = (uintptr_t)page, .len = PAGE };

		if (read(f->uffd, &msg, sizeof(msg)) != (ssize_t)sizeof(msg))
			continue;
		copy.dst = msg.arg.pagefault.address & ~(PAGE - 1);
		memset(page, (int)(copy.dst / PAGE % 256), PAGE);
		f->filled += ioctl(f->uffd, UFFDIO_COPY, &copy) == 0;
	}
}

static int filler_open(char *p, size_t len)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)p, len },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* What another userfaultfd of the process fills stays its affair, and nobody waits for ever. */
static void memory_of_another_userfaultfd_is_left_alone(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 16 * PAGE), byte;
	struct filler f = { .uffd = filler_open(p, 16 * PAGE) };
	struct actor actor;
	int pair[2];

	if (f.uffd < 0)
		env_skip("a second userfaultfd: %s", strerror(errno));
	assert_int_equal(pipe(pair), 0);
	f.stop = pair[0];
	actor_start(&actor, filler_run, &f);
	assert_int_equal((unsigned char)p[3 * PAGE], (uintptr_t)p / PAGE % 256 + 3);
	assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
	assert_int_equal(migrate(e, ref, p, 16, 0), 0);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 5 * PAGE, &byte, 1), 0);
	assert_int_equal((unsigned char)byte, (uintptr_t)p / PAGE % 256 + 5);
	assert_int_equal((unsigned char)p[7 * PAGE], (uintptr_t)p / PAGE % 256 + 7);
	assert_int_equal((unsigned char)p[3 * PAGE], (uintptr_t)p / PAGE % 256 + 3);
	close(pair[1]);
	actor_join(&actor);
	assert_int_equal(f.filled, 3);
	close(pair[0]);
	close(f.uffd);
}

/* ---- the end of the process --------------------------------------------------------- */

struct open_end {
	struct umm_ctx *ctx;
	struct ref_device *ref;
	char *p;
};

static void *open_end_run(void *arg)
{
	struct open_end *o = arg;

	for (;;) {
		umm_migrate_to_device(o->ctx, o->ref->mem, o->p, 64 * PAGE);
		(void)touch_read(o->p + 5 * PAGE);
	}
	return NULL;
}

static void child_ends_in_the_middle(void *arg)
{
	static struct open_end o;
	pthread_t thread;
	struct ref_options options = { .nframes = 64, .inline_copy = *(bool *)arg };
	void *p;
	int i;

	child_check(umm_ctx_create(NULL, &o.ctx) == 0);
	child_check(ref_create(o.ctx, &options, &o.ref) == 0);
	child_check(umm_alloc(o.ctx, 64 * PAGE, 0, &p) == 0);
	o.p = p;
	fill(p, 64, 1);
	for (i = 0; i < 2; i++)
		child_check(pthread_create(&thread, NULL, open_end_run, &o) == 0);
	for (i = 0; i < 200; i++)
		child_check(filled_at(p, (size_t)i % 64, 1));
	exit(0);
}

static void process_exits_with_everything_open(struct env *e)
{
	int i;

	skip_unless_children_may_have_threads();
	for (i = 0; i < 5; i++)
		assert_true(in_child(child_ends_in_the_middle, &e->variant.inline_copy));
}

/* First those with children: children may use OpenCL only where their parent has not yet. */
static const struct test_case cases[] = {
	TEST(ONCE, unprivileged_process_is_served),
	TEST(KERNEL, process_that_may_not_read_its_pagemap_is_served),
	TEST(KERNEL, context_outlives_access_to_proc),
	TEST(ONCE, refused_userfaultfd_is_eperm_and_says_what_to_do),
	TEST(ONCE, no_descriptor_left_is_enomem),
	TEST(ONCE, mappings_that_cannot_be_looked_at_are_enomem),
	TEST(ONCE, address_space_limit_is_enomem),
	TEST(ONCE, no_context_for_want_of_mappings_is_said_to_be),
	TEST(ONCE, filtered_ioctls_are_eperm),
	TEST(ONCE, no_thread_is_eagain_and_said_to_be),
	TEST(ONCE, limited_address_space_is_enough),
	TEST(ALL, process_exits_with_everything_open),
	TEST(ONCE, mapping_limit_is_enomem_and_harmless),
	TEST(ALL, locked_memory_keeps_its_data),
	TEST(SYSCALLS, memory_locked_on_the_device_comes_home),
	TEST(KERNEL, many_ranges_are_as_good_as_few),
	TEST(KERNEL, recycled_frames_are_limited),
	TEST(KERNEL, memory_of_another_userfaultfd_is_left_alone),
};

int main(int argc, char **argv)
{
	return harness_main("test_limits", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
