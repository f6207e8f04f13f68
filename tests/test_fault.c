/* SPDX-License-Identifier: MIT */
/*
 * CPU faults: what one touch brings home and what it leaves, touches from system calls,
 * from many threads and from signal handlers, and devices that fail to give pages back.
 */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hook.h"

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* ---- one touch ---------------------------------------------------------------------- */

static void assert_one_page_came_home(struct env *e, struct ref_device *ref, char *p, size_t i)
{
	assert_state(e, p + i * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_int_equal(count_state(e, p, BLOCK_PAGES, UMM_PAGE_DEVICE), BLOCK_PAGES - 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, 1);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), 1);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, PAGE);
	assert_delta(e, UMM_COUNT_BYTES_IN + UMM_CAUSE_CPU_FAULT, PAGE);
	assert_delta(e, UMM_COUNT_BYTES_OUT + UMM_CAUSE_CPU_FAULT, 0);
	assert_delta(e, UMM_COUNT_COPIES, 1);
	assert_delta(e, UMM_COUNT_FAULT_EMPTY, 0);
	assert_delta(e, UMM_COUNT_FAULT_ERROR, 0);
	assert_int_equal(ref_counts(ref).pages_out, 1);
	wait_until(ref_counts(ref).pages_freed == 1);
}

static void read_brings_exactly_one_page_home(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	assert_true(filled_at(p, 77, 1));
	assert_one_page_came_home(e, ref, p, 77);
	assert_true(filled_at(p, 77, 1));
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_filled(p, BLOCK_PAGES, 1);
}

static void write_brings_exactly_one_page_home(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	p[511 * PAGE + 5] = 'w';
	assert_one_page_came_home(e, ref, p, 511);
	assert_int_equal(p[511 * PAGE + 5], 'w');
	page_fill(p + 511 * PAGE, 511, 1);
	assert_filled(p, BLOCK_PAGES, 1);
}

static void walk_over_a_block_faults_once_per_page(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, BLOCK);
	assert_int_equal(ref_counts(ref).pages_out, BLOCK_PAGES);
	wait_until(env_delta(e, UMM_COUNT_FAULT_NS) > 0);
	fill(p, BLOCK_PAGES, 2);
	assert_filled(p, BLOCK_PAGES, 2);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, BLOCK_PAGES);
}

static void touch_of_a_coherent_page_finds_it_in_place(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_device_sees(ref, p, BLOCK_PAGES, 1);
	fill(p, BLOCK_PAGES, 2);
	assert_device_sees(ref, p, BLOCK_PAGES, 2);
	device_fill(ref, p, BLOCK_PAGES, 3);
	assert_filled(p, BLOCK_PAGES, 3);
	assert_state(e, p, BLOCK_PAGES, UMM_PAGE_COHERENT);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_delta(e, UMM_COUNT_COPIES, 0);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), 0);
}

static void touch_of_an_untouched_page_is_one_fault_and_reads_zero(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	p[0] = 1;
	to_device(e, ref, p, 1, 1);
	env_mark(e);
	assert_zero(p + 3 * PAGE, 1);
	assert_delta(e, UMM_COUNT_FAULT_EMPTY, 1);
	p[4 * PAGE] = 7;
	assert_delta(e, UMM_COUNT_FAULT_EMPTY, 2);
	p[3 * PAGE] = 8;
	assert_int_equal(p[4 * PAGE], 7);
	assert_int_equal(p[3 * PAGE], 8);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_state(e, p + 5 * PAGE, 11, UMM_PAGE_EMPTY);
	assert_zero(p + 5 * PAGE, 11);
}

static void blocks_that_no_device_used_do_not_fault_to_us(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 4 * BLOCK);

	fill(p, 1, 1);
	to_device(e, ref, p, 1, 1);
	env_mark(e);
	fill(p + BLOCK, 3 * BLOCK_PAGES, 2);
	assert_filled(p + BLOCK, 3 * BLOCK_PAGES, 2);
	assert_delta(e, UMM_COUNT_FAULT_EMPTY, 0);
	assert_delta(e, UMM_COUNT_FAULT_SPURIOUS, 0);
}

/* ---- touches from elsewhere --------------------------------------------------------- */

static void skip_without_syscall_faults(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	assert_int_equal(umm_probe(&info), 0);
	if (!(info.kernel_features & UMM_KERNEL_SYSCALL_FAULTS))
		env_skip("system calls may not fault on managed memory here: %s", info.advice);
}

static void write_call_sends_device_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE), page[PAGE];
	int pair[2];
	size_t i;

	skip_without_syscall_faults();
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_int_equal(pipe(pair), 0);
	for (i = 0; i < 16; i++) {
		assert_int_equal(write(pair[1], p + i * PAGE, PAGE), PAGE);
		assert_int_equal(read(pair[0], page, PAGE), PAGE);
		assert_true(page_filled(page, i, 1));
	}
	close(pair[0]);
	close(pair[1]);
	if (e->variant.type == UMM_DEVMEM_PRIVATE)
		assert_delta(e, UMM_COUNT_FAULT_DEVICE, 16);
}

static void read_call_fills_device_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE), page[PAGE];
	int pair[2];
	size_t i;

	skip_without_syscall_faults();
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	for (i = 0; i < 16; i += 2) {
		page_fill(page, i, 2);
		assert_int_equal(write(pair[1], page, PAGE), PAGE);
		/* Half of the data of this page is its own. */
		assert_int_equal(read(pair[0], p + i * PAGE + PAGE / 2, PAGE / 2), PAGE / 2);
		assert_memory_equal(p + i * PAGE + PAGE / 2, page, PAGE / 2);
		assert_int_equal(read(pair[0], p + i * PAGE, PAGE / 2), PAGE / 2);
		assert_memory_equal(p + i * PAGE, page + PAGE / 2, PAGE / 2);
	}
	for (i = 1; i < 16; i += 2)
		assert_true(filled_at(p, i, 1));
	close(pair[0]);
	close(pair[1]);
}

static void process_vm_calls_see_device_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE), *copy = malloc(16 * PAGE);
	struct iovec local = { copy, 16 * PAGE }, remote = { p, 16 * PAGE };

	skip_without_syscall_faults();
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_int_equal(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 16 * PAGE);
	assert_filled(copy, 16, 1);
	to_device(e, ref, p, 16, e->variant.type == UMM_DEVMEM_PRIVATE ? 16 : 0);
	fill(copy, 16, 2);
	assert_int_equal(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), 16 * PAGE);
	assert_filled(p, 16, 2);
	free(copy);
}

static void system_calls_on_device_pages_are_efault_in_user_mode(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE), page[PAGE];
	struct iovec local = { page, PAGE }, remote = { p + 8 * PAGE, PAGE };
	int pair[2];

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	env_mark(e);
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(write(pair[1], p + 3 * PAGE, PAGE), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_state(e, p, 16, UMM_PAGE_DEVICE);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	/* The program's own touch is served, and then the call finds the page. */
	assert_true(filled_at(p, 3, 1));
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_int_equal(write(pair[1], p + 3 * PAGE, PAGE), PAGE);
	assert_int_equal(read(pair[0], page, PAGE), PAGE);
	assert_true(page_filled(page, 3, 1));
	close(pair[0]);
	close(pair[1]);
	assert_filled(p, 16, 1);
}

static char *handler_page;
static volatile sig_atomic_t handler_saw;

static void handler(int number)
{
	(void)number;
	handler_saw = *(volatile char *)handler_page;
}

static void signal_handlers_touch_device_pages(struct env *e)
{
	struct sigaction action = { .sa_handler = handler }, before;
	struct ref_device *ref = env_device(e, 64);

	handler_page = env_alloc(e, PAGE);
	*handler_page = 99;
	to_device(e, ref, handler_page, 1, 1);
	handler_saw = 0;
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	raise(SIGUSR1);
	sigaction(SIGUSR1, &before, NULL);
	assert_int_equal(handler_saw, 99);
}

struct faulter {
	struct ref_device *ref;
	char *p;
	long ret;
};

static void faulter_run(void *arg)
{
	struct faulter *f = arg;
	uint64_t entry;
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(f->ref->mirror),
		.start = (uintptr_t)f->p,
		.end = (uintptr_t)f->p + PAGE,
		.entries = &entry,
		.default_flags = UMM_ENTRY_REQ_FAULT,
		.owner = f->ref->dev,
	};

	do {
		range.seq = umm_notifier_read_begin(range.notifier);
		f->ret = umm_range_fault(&range, PATIENCE_MS);
	} while (f->ret == -EBUSY);
}

static atomic_uint signalled;

static void on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&signalled, 1);
}

/* There is no -EINTR: a handler runs, and the wait goes on to its deadline. */
static void signals_are_handled_while_a_device_fault_waits(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct sigaction action = { .sa_handler = on_signal }, before;
	char *p = env_alloc_small(e, PAGE);
	struct faulter f = { .ref = ref, .p = p };
	struct umm_fence *fence;
	struct actor actor;

	fill(p, 1, 1);
	atomic_store(&signalled, 0);
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	ref_gate_close(ref, REF_GATE_COPY);
	fence = migrate_start(e, ref, p, 1);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	actor_start(&actor, faulter_run, &f);
	assert_true(actor_blocks(&actor));
	assert_int_equal(pthread_kill(actor.thread, SIGUSR1), 0);
	wait_until(atomic_load(&signalled) == 1);
	assert_true(actor_blocks(&actor));
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&actor);
	assert_int_equal(f.ret, 1);
	umm_fence_put(fence);
	sigaction(SIGUSR1, &before, NULL);
}

static void touches_work_with_all_signals_blocked(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 8 * PAGE);
	sigset_t all, before;

	if (e->variant.ctx_flags & UMM_CTX_FAULTS_IN_THREAD)
		env_skip("a blocked SIGBUS that a thread causes itself ends the process");
	fill(p, 8, 1);
	to_device(e, ref, p, 8, 8);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	assert_filled(p, 8, 1);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- many threads ------------------------------------------------------------------- */

#define THREADS 8

struct crowd {
	struct actor actor;
	pthread_barrier_t *barrier;
	char *base;
	size_t first, step, end;
	size_t wrong;
};

static void crowd_walk(void *arg)
{
	struct crowd *c = arg;
	size_t i;

	pthread_barrier_wait(c->barrier);
	for (i = c->first; i < c->end; i += c->step)
		c->wrong += !filled_at(c->base, i, 1);
}

/* All threads walk over npages pages, from the same first one or each from its own. */
static void crowd_run(char *base, size_t npages, bool together)
{
	struct crowd crowd[THREADS];
	pthread_barrier_t barrier;
	size_t i;

	pthread_barrier_init(&barrier, NULL, THREADS);
	for (i = 0; i < THREADS; i++) {
		crowd[i] = (struct crowd){ .barrier = &barrier,
					   .base = base,
					   .first = together ? 0 : i,
					   .step = together ? 1 : THREADS,
					   .end = npages };
		actor_start(&crowd[i].actor, crowd_walk, &crowd[i]);
	}
	for (i = 0; i < THREADS; i++) {
		actor_join(&crowd[i].actor);
		assert_int_equal(crowd[i].wrong, 0);
	}
	pthread_barrier_destroy(&barrier);
}

static void many_threads_on_one_page_cause_one_copy(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 20 * PAGE), *page;
	unsigned round;

	/* Each round has a page of its own: a server that is late would bring the same one home. */
	for (round = 0; round < 20; round++) {
		page = p + round * PAGE;
		fill(page, 1, 1);
		to_device(e, ref, page, 1, 1);
		env_mark(e);
		crowd_run(page, 1, true);
		assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
		assert_delta(e, UMM_COUNT_COPIES, 1);
		assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, 1);
	}
	assert_int_equal(ref_counts(ref).pages_out, 20);
}

static void many_threads_on_one_block_copy_each_page_once(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	bool together;

	fill(p, BLOCK_PAGES, 1);
	for (together = false;; together = true) {
		to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
		env_mark(e);
		crowd_run(p, BLOCK_PAGES, together);
		assert_delta(e, UMM_COUNT_FAULT_DEVICE, BLOCK_PAGES);
		assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, BLOCK);
		assert_state(e, p, BLOCK_PAGES, UMM_PAGE_SYSTEM);
		if (together)
			break;
	}
}

static void touch_page_home(void *arg)
{
	(void)*(volatile char *)arg;
}

static void stuck_device_does_not_hold_up_another(struct env *e)
{
	enum { STUCK = 6 };
	struct ref_device *slow = env_device(e, 64), *fast = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE), *q = env_alloc_small(e, 16 * PAGE);
	struct actor actors[STUCK];
	struct umm_fence *fence;
	size_t i;

	fill(p, 16, 1);
	fill(q, 16, 2);
	to_device(e, slow, p, 16, 16);
	to_device(e, fast, q, 16, 16);
	ref_gate_close(slow, REF_GATE_COPY);
	for (i = 0; i < STUCK; i++)
		actor_start(&actors[i], touch_page_home, p + i * PAGE);
	assert_true(ref_gate_wait(slow, REF_GATE_COPY, PATIENCE_MS));
	for (i = 0; i < STUCK; i++)
		assert_true(actor_blocks(&actors[i]));
	/* Now the other device, in both directions, and ordinary memory. */
	assert_filled_part(q, 0, 8, 2);
	fence = migrate_start(e, fast, q, 16);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_filled(q, 16, 2);
	ref_gate_open(slow, REF_GATE_COPY);
	for (i = 0; i < STUCK; i++)
		actor_join(&actors[i]);
	assert_filled(p, 16, 1);
}

/* ---- devices that fail -------------------------------------------------------------- */

static uint32_t frame_of(struct env *e, const void *addr)
{
	struct umm_page_info info;

	assert_int_equal(umm_query(e->ctx, (uintptr_t)addr, 1, &info), 0);
	assert_true(info.state == UMM_PAGE_DEVICE || info.state == UMM_PAGE_COHERENT);
	return info.frame;
}

static void lost_page_is_sigbus_and_its_neighbours_are_fine(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE), byte;
	struct iovec local = { &byte, 1 }, remote = { p + 7 * PAGE, 1 };

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO,
					     .from_device = true,
					     .frame = frame_of(e, p + 7 * PAGE),
					     .nframes = 1 });
	env_mark(e);
	assert_int_equal(touch_read(p + 6 * PAGE), 0);
	assert_int_equal(touch_read(p + 7 * PAGE), SIGBUS);
	assert_int_equal(touch_read(p + 8 * PAGE), 0);
	assert_int_equal(touch_read(p + 7 * PAGE + 100), SIGBUS);
	assert_int_equal(touch_write(p + 7 * PAGE), SIGBUS);
	assert_state(e, p + 7 * PAGE, 1, UMM_PAGE_POISONED);
	assert_delta(e, UMM_COUNT_POISONED, 1);
	wait_until(env_delta(e, UMM_COUNT_FAULT_ERROR) >= 1);
	assert_true(ref_counts(ref).failures >= 1);
	assert_int_equal(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), -1);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 7 * PAGE, &byte, 1), -EFAULT);
	/* The device is mended; the page stays lost. */
	ref_fail(ref, NULL);
	assert_int_equal(touch_read(p + 7 * PAGE), SIGBUS);
	assert_int_equal(migrate(e, ref, p + 7 * PAGE, 1, 0), 0);
	assert_filled_part(p, 0, 7, 1);
	assert_filled_part(p, 8, 8, 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(ref, 64);
}

static void device_that_refuses_a_copy_loses_the_page_too(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);

	fill(p, 4, 1);
	to_device(e, ref, p, 4, 4);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO,
					     .from_device = true,
					     .refuse = true,
					     .frame = frame_of(e, p),
					     .nframes = 1 });
	assert_int_equal(touch_write(p), SIGBUS);
	assert_filled_part(p, 1, 3, 1);
	assert_state(e, p, 1, UMM_PAGE_POISONED);
}

static void failing_bulk_copy_loses_only_the_bad_frame(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	long moved;

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO,
					     .from_device = true,
					     .frame = frame_of(e, p + 300 * PAGE),
					     .nframes = 2 });
	moved = umm_migrate_to_system(e->ctx, p, BLOCK);
	assert_true(moved == -EIO || moved == BLOCK_PAGES - 2);
	assert_int_equal(count_state(e, p, BLOCK_PAGES, UMM_PAGE_POISONED), 2);
	assert_int_equal(count_state(e, p, BLOCK_PAGES, UMM_PAGE_SYSTEM), BLOCK_PAGES - 2);
	assert_int_equal(touch_read(p + 300 * PAGE), SIGBUS);
	assert_int_equal(touch_read(p + 301 * PAGE), SIGBUS);
	assert_filled_part(p, 0, 300, 1);
	assert_filled_part(p, 302, BLOCK_PAGES - 302, 1);
}

static void passing_failure_never_shows_garbage(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	size_t i;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .from_device = true, .times = 3 });
	for (i = 0; i < 16; i++)
		assert_true(touch_read(p + i * PAGE) == SIGBUS || filled_at(p, i, 1));
	assert_in_range(count_state(e, p, 16, UMM_PAGE_POISONED), 0, 3);
}

static void poisoned_page_is_poisoned_in_bring_home_and_detach(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO,
					     .from_device = true,
					     .frame = frame_of(e, p + 3 * PAGE),
					     .nframes = 1 });
	assert_int_equal(umm_bring_home(e->ctx), -EIO);
	assert_int_equal(count_state(e, p, 16, UMM_PAGE_SYSTEM), 15);
	assert_int_equal(touch_read(p + 3 * PAGE), SIGBUS);
	to_device(e, ref, p + 4 * PAGE, 4, 4);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO,
					     .from_device = true,
					     .frame = frame_of(e, p + 5 * PAGE),
					     .nframes = 1 });
	assert_int_equal(umm_detach(e->ctx, p), -EIO);
	assert_int_equal(touch_read(p + 5 * PAGE), SIGBUS);
	assert_int_equal(touch_read(p + 3 * PAGE), SIGBUS);
	assert_filled_part(p, 0, 3, 1);
	assert_filled_part(p, 6, 10, 1);
}

static atomic_int nended;

static void hear_end(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	if (level == UMM_LOG_ERROR && strstr(line, "a fault server ends"))
		atomic_fetch_add(&nended, 1);
}

static void close_all(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)addr;
	hook_set(point, NULL, NULL);
	closefrom(*(int *)priv);
}

static void act_touch(void *arg)
{
	touch_read(arg);
}

/* The server that serves the fault finds its descriptors gone when it comes back. */
static void child_closes_descriptors(void *arg)
{
	struct umm_ctx_options options = { .size = sizeof(options) };
	struct ref_options device = { .nframes = 4, .inline_copy = true };
	int first = STDERR_FILENO + 1;
	struct ref_device *ref;
	struct umm_ctx *ctx;
	struct actor actor;
	char *p;

	(void)arg;
	child_check(umm_ctx_create(&options, &ctx) == 0);
	child_check(ref_create(ctx, &device, &ref) == 0);
	child_check(umm_alloc(ctx, 3 * PAGE, UMM_ALLOC_SMALL_PAGES, (void **)&p) == 0);
	/* Two pages of one block. */
	if ((uintptr_t)(p + PAGE) % BLOCK == 0)
		p += PAGE;
	*p = 1;
	child_check(umm_migrate_to_device(ctx, ref->mem, p, PAGE) == 1);
	umm_log_set(hear_end, NULL, UMM_LOG_ERROR);
	hook_set(HOOK_FAULT_READ, close_all, &first);
	actor_start(&actor, act_touch, p + PAGE);
	for (uint64_t until = harness_now_ms() + PATIENCE_MS;
	     !atomic_load(&nended) && harness_now_ms() < until;)
		harness_yield();
	/* Another server ends, too, if it was not asleep just then. */
	child_check(atomic_load(&nended) >= 1);
	_exit(0);
}

static void server_without_descriptors_ends(struct env *e)
{
	if (ref_backend_used())
		env_skip("an OpenCL platform's threads do not follow into a forked child");
	(void)e;
	assert_true(in_child(child_closes_descriptors, NULL));
}

static atomic_int nlost;

static void hear_lost(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	if (level == UMM_LOG_ERROR && strstr(line, "closed descriptors that it did not open; what"))
		atomic_fetch_add(&nlost, 1);
}

/* What has the numbers of the library's descriptors by then is left alone. */
static void child_closes_a_context_without_descriptors(void *arg)
{
	struct umm_ctx_options options = { .size = sizeof(options) };
	struct ref_options device = { .nframes = 4, .inline_copy = true };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	char *p, byte;
	int fd;

	(void)arg;
	child_check(umm_ctx_create(&options, &ctx) == 0);
	child_check(ref_create(ctx, &device, &ref) == 0);
	child_check(umm_alloc(ctx, PAGE, UMM_ALLOC_SMALL_PAGES, (void **)&p) == 0);
	*p = 1;
	child_check(umm_migrate_to_device(ctx, ref->mem, p, PAGE) == 1);
	umm_log_set(hear_lost, NULL, UMM_LOG_ERROR);
	closefrom(STDERR_FILENO + 1);
	fd = memfd_create("test", MFD_CLOEXEC);
	for (int i = 0; i < 64; i++)
		child_check(dup(fd) > fd);
	umm_device_destroy(ref->dev);
	child_check(atomic_load(&nlost) == 1);
	umm_ctx_put(ctx);
	child_check(atomic_load(&nlost) == 2);
	child_check(umm_ctx_get(ctx) == NULL);
	child_check(pread(fd, &byte, 1, 0) == 0);
	_exit(0);
}

static void context_without_descriptors_is_left_as_it_is(struct env *e)
{
	if (ref_backend_used())
		env_skip("an OpenCL platform's threads do not follow into a forked child");
	(void)e;
	assert_true(in_child(child_closes_a_context_without_descriptors, NULL));
}

static const struct test_case cases[] = {
	TEST(PRIVATE, read_brings_exactly_one_page_home),
	TEST(PRIVATE, write_brings_exactly_one_page_home),
	TEST(PRIVATE, walk_over_a_block_faults_once_per_page),
	TEST(COHERENT, touch_of_a_coherent_page_finds_it_in_place),
	TEST(ALL, touch_of_an_untouched_page_is_one_fault_and_reads_zero),
	TEST(ALL, blocks_that_no_device_used_do_not_fault_to_us),
	TEST(SYSCALLS, write_call_sends_device_pages),
	TEST(SYSCALLS, read_call_fills_device_pages),
	TEST(SYSCALLS, process_vm_calls_see_device_pages),
	TEST(USER_MODE, system_calls_on_device_pages_are_efault_in_user_mode),
	TEST(ALL, signal_handlers_touch_device_pages),
	TEST(ASYNC, signals_are_handled_while_a_device_fault_waits),
	TEST(ALL, touches_work_with_all_signals_blocked),
	TEST(PRIVATE, many_threads_on_one_page_cause_one_copy),
	TEST(PRIVATE, many_threads_on_one_block_copy_each_page_once),
	TEST(ASYNC_PRIVATE, stuck_device_does_not_hold_up_another),
	TEST(PRIVATE, lost_page_is_sigbus_and_its_neighbours_are_fine),
	TEST(PRIVATE, device_that_refuses_a_copy_loses_the_page_too),
	TEST(ALL, failing_bulk_copy_loses_only_the_bad_frame),
	TEST(PRIVATE, passing_failure_never_shows_garbage),
	TEST(ALL, poisoned_page_is_poisoned_in_bring_home_and_detach),
	TEST(ONCE, server_without_descriptors_ends),
	TEST(ONCE, context_without_descriptors_is_left_as_it_is),
};

int main(int argc, char **argv)
{
	return harness_main("test_fault", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
