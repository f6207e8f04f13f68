/* SPDX-License-Identifier: MIT */
/*
 * Contexts of UMM_CTX_FAULTS_IN_THREAD in a program as it is: the handler that libumm installs, and
 * what was there before it. (What such a context does beyond that is tested with all others, as the
 * variant in-thread; there the test's own handler calls umm_handle_sigbus().)
 *
 * Each case is a process of its own, in which the program's handler is there first, and no handler
 * of the harness: that is used for the devices alone.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "harness.h"
#include "umm.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define NPAGES 64

#define CHECK(what)                                                                        \
	do {                                                                               \
		if (!(what)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
			_exit(1);                                                          \
		}                                                                          \
	} while (0)

static struct {
	struct umm_ctx *ctx;
	struct ref_device *ref;
	unsigned char *memory; /* NPAGES pages */
} world;

static sigjmp_buf escape;
static volatile sig_atomic_t npassed, nserved;

static void programs_handler(int number)
{
	npassed++;
	siglongjmp(escape, number);
}

/* A program's handler that came after ours. */
static void later_handler(int number, siginfo_t *info, void *ucontext)
{
	if (umm_handle_sigbus(info, ucontext))
		nserved++;
	else
		programs_handler(number);
}

/* 0, or the signal that it raised. */
static int touch(volatile unsigned char *addr)
{
	int number = sigsetjmp(escape, 1);

	if (!number)
		(void)*addr;
	return number;
}

static void world_open_with(uint64_t features_off)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = UMM_CTX_FAULTS_IN_THREAD,
					   .kernel_features_off = features_off,
					   .readahead = UMM_READAHEAD_OFF };
	struct ref_options device = { .nframes = NPAGES, .inline_copy = true };
	int ret = umm_ctx_create(&options, &world.ctx);
	struct sigaction ours;
	void *memory;

	if (ret == -EPERM || ret == -EOPNOTSUPP) {
		printf("SKIP no userfaultfd, or not x86-64: %s\n", umm_strerror(ret));
		fflush(stdout);
		_exit(77);
	}
	CHECK(!ret && !sigaction(SIGBUS, NULL, &ours));
	CHECK(!ref_create(world.ctx, &device, &world.ref));
	/* An OpenCL implementation's compiler has handlers, too, which steal the first SIGBUS. */
	CHECK(!sigaction(SIGBUS, &ours, NULL));
	CHECK(!umm_alloc(world.ctx, NPAGES * PAGE, UMM_ALLOC_SMALL_PAGES, &memory));
	world.memory = memory;
}

static void world_open(void)
{
	world_open_with(0);
}

static void world_close(void)
{
	CHECK(ref_destroy(world.ref));
	umm_ctx_put(world.ctx);
}

static void all_to_device(void)
{
	for (size_t i = 0; i < NPAGES; i++)
		world.memory[i * PAGE] = (unsigned char)(i + 1);
	CHECK(umm_migrate_to_device(world.ctx, world.ref->mem, world.memory, NPAGES * PAGE) ==
	      NPAGES);
}

static void check_all(void)
{
	for (size_t i = 0; i < NPAGES; i++)
		CHECK(world.memory[i * PAGE] == i + 1);
}

static uint64_t counted(unsigned counter)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	CHECK(!umm_ctx_stats(world.ctx, &stats));
	return stats.counter[counter];
}

static void handle_by(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };

	CHECK(!sigaction(SIGBUS, &action, NULL));
}

/* Memory beyond the end of a file: its SIGBUS is the program's own. */
static unsigned char *beyond_end(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	void *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

	CHECK(fd >= 0 && map != MAP_FAILED);
	return map;
}

static void faults_are_served_by_the_handler_that_libumm_installs(void)
{
	handle_by(programs_handler);
	world_open();
	all_to_device();
	errno = 12345;
	check_all();
	CHECK(errno == 12345);
	CHECK(!npassed);
	CHECK(counted(UMM_COUNT_FAULT_DEVICE) == NPAGES);
	world_close();
}

static void other_sigbus_reaches_the_handler_before_ours(void)
{
	handle_by(programs_handler);
	world_open();
	all_to_device();
	CHECK(touch(beyond_end()) == SIGBUS);
	CHECK(npassed == 1);
	check_all();
	CHECK(touch(beyond_end()) == SIGBUS);
	CHECK(npassed == 2);
	world_close();
	CHECK(touch(beyond_end()) == SIGBUS);
	CHECK(npassed == 3);
}

static void poisoned_page_reaches_the_handler_before_ours(void)
{
	struct ref_failure failure = { .error = -EIO, .from_device = true };

	handle_by(programs_handler);
	world_open();
	all_to_device();
	CHECK(!ref_fail(world.ref, &failure));
	CHECK(touch(world.memory) == SIGBUS);
	CHECK(touch(world.memory) == SIGBUS);
	CHECK(npassed == 2);
	CHECK(!ref_fail(world.ref, NULL));
	CHECK(!touch(world.memory + PAGE));
	CHECK(world.memory[PAGE] == 2);
	CHECK(umm_clear_poison(world.ctx, (uintptr_t)world.memory, 1, NULL) == 1);
	CHECK(!world.memory[0]);
	world_close();
}

static void handler_that_came_later_asks_ours(void)
{
	struct sigaction action = { .sa_sigaction = later_handler, .sa_flags = SA_SIGINFO };

	world_open();
	CHECK(!sigaction(SIGBUS, &action, NULL));
	all_to_device();
	check_all();
	CHECK(nserved == NPAGES);
	CHECK(touch(beyond_end()) == SIGBUS);
	CHECK(npassed == 1);
	world_close();
}

/* How a child of this process ends that does so. */
static int child_ends(void (*fn)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		fn();
		_exit(0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	return status;
}

static void touch_beyond_end(void)
{
	(void)*(volatile unsigned char *)beyond_end();
}

static void without_a_handler_other_sigbus_ends_the_process(void)
{
	handle_by(SIG_DFL);
	world_open();
	all_to_device();
	CHECK(WTERMSIG(child_ends(touch_beyond_end)) == SIGBUS);
	check_all();
	world_close();
}

static void send_sigbus(void)
{
	raise(SIGBUS);
}

static void sent_sigbus_ends_the_process_where_it_did(void)
{
	handle_by(SIG_DFL);
	world_open();
	all_to_device();
	CHECK(WTERMSIG(child_ends(send_sigbus)) == SIGBUS);
	check_all();
	world_close();
}

static void ignored_sigbus_is_survived_but_for_faults(void)
{
	handle_by(SIG_IGN);
	world_open();
	all_to_device();
	raise(SIGBUS);
	CHECK(!sigqueue(getpid(), SIGBUS, (union sigval){ 0 }));
	check_all();
	CHECK(WTERMSIG(child_ends(touch_beyond_end)) == SIGBUS);
	world_close();
}

static int file;

/* Passed on after a few times; asked again, the memory is there when the handler returns. */
static void handler_that_mends(int number, siginfo_t *info, void *ucontext)
{
	if (!umm_handle_sigbus(info, ucontext))
		programs_handler(number);
	nserved++;
	if (npassed)
		CHECK(!ftruncate(file, PAGE));
}

static void fault_after_one_that_was_passed_on_is_tried_again(void)
{
	struct sigaction action = { .sa_sigaction = handler_that_mends, .sa_flags = SA_SIGINFO };
	unsigned char *map;
	int served;

	world_open();
	CHECK(!sigaction(SIGBUS, &action, NULL));
	file = memfd_create("test", MFD_CLOEXEC);
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
	CHECK(file >= 0 && map != MAP_FAILED);
	CHECK(touch(map) == SIGBUS);
	served = nserved;
	CHECK(served >= 1 && npassed == 1);
	CHECK(!touch(map));
	CHECK(nserved == served + 1 && npassed == 1);
	world_close();
}

/* What the kernel tells the handler of a read of this page. */
static int handle_read_of(void *addr)
{
	siginfo_t info = { .si_signo = SIGBUS, .si_code = BUS_ADRERR };
	ucontext_t context = { 0 };

	info.si_addr = addr;
	return umm_handle_sigbus(&info, &context);
}

/* Each may have lost a race of its own. Only what comes at once, again and again, is another's. */
static void faults_that_nothing_explains_now_and_then_are_tried_again(void)
{
	unsigned char *map = beyond_end();
	unsigned n = 0;

	world_open();
	for (int i = 0; i < 8; i++) {
		CHECK(handle_read_of(map));
		usleep(5000);
	}
	while (handle_read_of(map))
		CHECK(++n < 10000);
	CHECK(n >= 1);
	/* And is so when it comes the next time, but not at once. */
	CHECK(handle_read_of(map));
	world_close();
}

static void forked_child_reads_what_was_on_the_device(void)
{
	handle_by(programs_handler);
	world_open();
	all_to_device();
	CHECK(child_ends(check_all) == 0);
	check_all();
	world_close();
}

static void two_contexts_serve(uint64_t features_off)
{
	unsigned char *first;
	struct ref_device *ref;
	struct umm_ctx *ctx;

	handle_by(programs_handler);
	world_open_with(features_off);
	all_to_device();
	first = world.memory;
	ref = world.ref;
	ctx = world.ctx;
	world_open_with(features_off);
	all_to_device();
	CHECK(first[PAGE] == 2 && world.memory[2 * PAGE] == 3);
	CHECK(counted(UMM_COUNT_FAULT_DEVICE) == 1);
	CHECK(touch(beyond_end()) == SIGBUS);
	world_close();
	world.ctx = ctx;
	world.ref = ref;
	world.memory = first;
	check_all();
	CHECK(counted(UMM_COUNT_FAULT_DEVICE) == NPAGES);
	world_close();
}

static void two_contexts_serve_their_own(void)
{
	two_contexts_serve(0);
}

/* Whose a page is has to be found out another way there. */
static void two_contexts_serve_their_own_without_move(void)
{
	two_contexts_serve(UMM_KERNEL_MOVE);
}

/* What mremap() leaves behind is registered, but in no books; read-only memory refuses moves. */
static void read_what_was_left(uint64_t features_off)
{
	void *to = mmap(NULL, NPAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	handle_by(programs_handler);
	world_open_with(features_off);
	all_to_device();
	CHECK(!umm_mremap(world.memory, NPAGES * PAGE, NPAGES * PAGE,
			  MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, &to));
	CHECK(!mprotect(world.memory, NPAGES * PAGE / 2, PROT_READ));
	for (size_t i = 0; i < NPAGES; i++)
		CHECK(!touch(world.memory + i * PAGE) && !world.memory[i * PAGE]);
	world.memory = to;
	check_all();
	CHECK(touch(beyond_end()) == SIGBUS);
	world_close();
}

static void memory_that_was_left_and_made_read_only_reads_zero(void)
{
	read_what_was_left(0);
}

static void memory_that_was_left_and_made_read_only_reads_zero_without_move(void)
{
	read_what_was_left(UMM_KERNEL_MOVE);
}

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
#define CASE(fn)        \
	{               \
#fn, fn \
	}
	CASE(faults_are_served_by_the_handler_that_libumm_installs),
	CASE(other_sigbus_reaches_the_handler_before_ours),
	CASE(poisoned_page_reaches_the_handler_before_ours),
	CASE(handler_that_came_later_asks_ours),
	CASE(without_a_handler_other_sigbus_ends_the_process),
	CASE(sent_sigbus_ends_the_process_where_it_did),
	CASE(ignored_sigbus_is_survived_but_for_faults),
	CASE(fault_after_one_that_was_passed_on_is_tried_again),
	CASE(faults_that_nothing_explains_now_and_then_are_tried_again),
	CASE(forked_child_reads_what_was_on_the_device),
	CASE(two_contexts_serve_their_own),
	CASE(two_contexts_serve_their_own_without_move),
	CASE(memory_that_was_left_and_made_read_only_reads_zero),
	CASE(memory_that_was_left_and_made_read_only_reads_zero_without_move),
};

int main(void)
{
	unsigned n = sizeof(cases) / sizeof(cases[0]), nfailed = 0, nskipped = 0;
	int status = harness_backend("test_in_thread");

	if (status)
		return status;
	for (unsigned i = 0; i < n; i++) {
		printf("[ RUN      ] %s\n", cases[i].name);
		fflush(stdout);
		status = child_ends(cases[i].fn);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			nskipped++;
		else if (status)
			nfailed++;
		printf("%s %s\n", status ? "[  FAILED  ]" : "[       OK ]", cases[i].name);
	}
	return nfailed ? 1 : nskipped == n ? 77 : 0;
}
