/* SPDX-License-Identifier: MIT */
/*
 * The door to userfaultfd, on the real kernel: what the movers do with whole, missing,
 * occupied and pinned pages, what happens while an event is unread, and what messages
 * say. Threads that fault or raise an event are waited for with poll(), never timed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pagemap.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

#define PAGE UMM_PAGE_SIZE

/* What each test starts with. */
struct fixture {
	int uffd;
	uint64_t features;
	enum umm_uffd_access access;
	char *dst; /* 2 MiB, aligned to that, registered, empty */
	char *src; /* the same, registered for missing pages like a staging block */
	void *map;
};

/* One thing that another thread does to memory. */
struct deed {
	pthread_t thread;
	int (*fn)(struct deed *deed);
	char *addr;
	size_t len;
	char *result;
	atomic_uint tid;
	int ret;
	int value;
};

static void *deed_run(void *arg)
{
	struct deed *deed = arg;

	atomic_store(&deed->tid, (unsigned)gettid());
	deed->ret = deed->fn(deed);
	return NULL;
}

static void deed_start(struct deed *deed)
{
	assert_int_equal(pthread_create(&deed->thread, NULL, deed_run, deed), 0);
}

static void deed_join(struct deed *deed)
{
	assert_int_equal(pthread_join(deed->thread, NULL), 0);
	assert_int_equal(deed->ret, 0);
}

static int do_read(struct deed *deed)
{
	deed->value = *(volatile char *)deed->addr;
	return 0;
}

static int do_write(struct deed *deed)
{
	*(volatile char *)deed->addr = 'w';
	return 0;
}

static int do_drop(struct deed *deed)
{
	return madvise(deed->addr, deed->len, MADV_DONTNEED);
}

static int do_unmap(struct deed *deed)
{
	return munmap(deed->addr, deed->len);
}

static int do_remap(struct deed *deed)
{
	deed->result = mremap(deed->addr, deed->len, deed->len, MREMAP_MAYMOVE | MREMAP_FIXED,
			      deed->result);
	return deed->result == MAP_FAILED ? -1 : 0;
}

static void wait_readable(int uffd)
{
	struct pollfd poll_fd = { .fd = uffd, .events = POLLIN };

	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	assert_int_equal(poll_fd.revents, POLLIN);
}

static void read_message(const struct fixture *fix, struct uffd_msg_info *info)
{
	wait_readable(fix->uffd);
	assert_int_equal(uffd_read(fix->uffd, info), 1);
}

static int setup(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));
	char *map;

	*state = fix;
	fix->uffd = uffd_open(UFFD_OPEN_EVENTS, &fix->features, &fix->access);
	if (fix->uffd < 0)
		return 0;
	map = mmap(NULL, 3 * UMM_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	if (map == MAP_FAILED)
		return -1;
	fix->map = map;
	fix->dst = (char *)align_up((uintptr_t)map, UMM_BLOCK_SIZE);
	fix->src = fix->dst + UMM_BLOCK_SIZE;
	if (uffd_register(fix->uffd, (uintptr_t)fix->dst, UMM_BLOCK_SIZE))
		return -1;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fix = *state;

	/* First the descriptor: events that nobody reads would block the unmapping. */
	if (fix->uffd >= 0)
		close(fix->uffd);
	if (fix->map)
		munmap(fix->map, 3 * UMM_BLOCK_SIZE);
	free(fix);
	return 0;
}

static struct fixture *require_uffd(void **state)
{
	struct fixture *fix = *state;

	if (fix->uffd < 0) {
		print_message("skipped: userfaultfd cannot be opened: %s\n",
			      umm_strerror(fix->uffd));
		skip();
	}
	return fix;
}

static struct fixture *require_feature(void **state, uint64_t feature, const char *what)
{
	struct fixture *fix = require_uffd(state);

	if (!(fix->features & feature)) {
		print_message("skipped: this kernel has no %s\n", what);
		skip();
	}
	return fix;
}

static struct fixture *require_move(void **state)
{
	return require_feature(state, UMM_KERNEL_MOVE, "UFFDIO_MOVE (Linux 6.8)");
}

static struct fixture *require_poison(void **state)
{
	return require_feature(state, UMM_KERNEL_POISON, "UFFDIO_POISON (Linux 6.6)");
}

static uintptr_t addr_of(const char *p)
{
	return (uintptr_t)p;
}

/* Each page of start..start+len filled with a byte of its own. */
static void fill(char *start, size_t len)
{
	for (size_t i = 0; i < len / PAGE; i++)
		memset(start + i * PAGE, (int)(i % 127 + 1), PAGE);
}

static void check_filled(const char *start, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (start[i] != (char)(i / PAGE % 127 + 1))
			fail_msg("byte %zu is %d", i, start[i]);
}

static size_t count_populated(const char *start)
{
	uint64_t bitmap[UMM_BLOCK_PAGES / 64];
	size_t count = 0;

	assert_int_equal(pagemap_populated(addr_of(start), UMM_BLOCK_PAGES, true, bitmap), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bitmap); i++)
		count += (size_t)__builtin_popcountll(bitmap[i]);
	return count;
}

/* ------------------------------------------------------------------------
 * Opening and registering
 */

static void descriptor_is_nonblocking_and_closed_on_exec(void **state)
{
	struct fixture *fix = require_uffd(state);

	assert_int_equal(fcntl(fix->uffd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(fix->uffd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_true(fix->features & UMM_KERNEL_UFFD_WP);
	assert_true(fix->features & UMM_KERNEL_UFFD_EVENTS);
	assert_int_equal(!(fix->features & UMM_KERNEL_SYSCALL_FAULTS),
			 fix->access == UMM_UFFD_USER_MODE_ONLY);
}

static void without_events_unmapping_is_silent(void **state)
{
	enum umm_uffd_access access;
	struct uffd_msg_info info;
	uint64_t features;
	char *map;
	int uffd;

	require_uffd(state);
	uffd = uffd_open(0, &features, &access);
	assert_true(uffd >= 0);
	assert_false(features & UMM_KERNEL_UFFD_EVENTS);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(uffd_register(uffd, addr_of(map), PAGE), 0);
	assert_int_equal(munmap(map, PAGE), 0);
	assert_int_equal(uffd_read(uffd, &info), 0);
	close(uffd);
}

static void registering_nonsense_is_refused(void **state)
{
	struct fixture *fix = require_uffd(state);
	enum umm_uffd_access access;
	uint64_t features;
	char *map;
	int other;

	assert_int_equal(uffd_register(fix->uffd, addr_of(fix->dst) + 1, PAGE), -EINVAL);
	assert_int_equal(uffd_register(fix->uffd, addr_of(fix->dst), 0), -EINVAL);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(munmap(map, PAGE), 0);
	assert_int_equal(uffd_register(fix->uffd, addr_of(map), PAGE), -EINVAL);
	other = uffd_open(UFFD_OPEN_EVENTS, &features, &access);
	assert_true(other >= 0);
	assert_int_equal(uffd_register(other, addr_of(fix->dst), PAGE), -EBUSY);
	close(other);
}

static void unregistered_memory_faults_natively(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct uffd_msg_info info;

	assert_int_equal(uffd_unregister(fix->uffd, addr_of(fix->dst), UMM_BLOCK_SIZE), 0);
	assert_int_equal(*(volatile char *)fix->dst, 0);
	assert_int_equal(uffd_read(fix->uffd, &info), 0);
	assert_int_equal(uffd_zeropage(fix->uffd, addr_of(fix->dst), PAGE, true, NULL), -ENOENT);
	assert_int_equal(uffd_writeprotect(fix->uffd, addr_of(fix->dst), PAGE, true, false),
			 -ENOENT);
}

/* ------------------------------------------------------------------------
 * Movers
 */

static void move_takes_a_whole_huge_page(void **state)
{
	struct fixture *fix = require_move(state);
	size_t done = 0;

	assert_int_equal(madvise(fix->dst, 2 * UMM_BLOCK_SIZE, MADV_HUGEPAGE), 0);
	fill(fix->src, UMM_BLOCK_SIZE);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst), addr_of(fix->src), UMM_BLOCK_SIZE,
				   true, &done),
			 0);
	assert_int_equal(done, UMM_BLOCK_SIZE);
	check_filled(fix->dst, UMM_BLOCK_SIZE);
	assert_int_equal(count_populated(fix->src), 0);
	assert_int_equal(count_populated(fix->dst), UMM_BLOCK_PAGES);
}

static void move_takes_small_pages_both_ways(void **state)
{
	struct fixture *fix = require_move(state);
	size_t done = 0;

	assert_int_equal(madvise(fix->dst, 2 * UMM_BLOCK_SIZE, MADV_NOHUGEPAGE), 0);
	fill(fix->src, UMM_BLOCK_SIZE);
	assert_int_equal(uffd_register_missing(fix->uffd, addr_of(fix->src), UMM_BLOCK_SIZE), 0);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst), addr_of(fix->src), UMM_BLOCK_SIZE,
				   true, &done),
			 0);
	assert_int_equal(done, UMM_BLOCK_SIZE);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->src), addr_of(fix->dst), UMM_BLOCK_SIZE,
				   false, &done),
			 0);
	check_filled(fix->src, UMM_BLOCK_SIZE);
	assert_int_equal(count_populated(fix->dst), 0);
}

static void move_stops_at_a_hole(void **state)
{
	struct fixture *fix = require_move(state);
	size_t done = 99;

	assert_int_equal(madvise(fix->dst, 2 * UMM_BLOCK_SIZE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst), addr_of(fix->src), 8 * PAGE, true,
				   &done),
			 -ENOENT);
	assert_int_equal(done, 0);
	fill(fix->src, 3 * PAGE);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst), addr_of(fix->src), 8 * PAGE, true,
				   &done),
			 -ENOENT);
	assert_int_equal(done, 3 * PAGE);
	check_filled(fix->dst, 3 * PAGE);
}

static void movers_stop_at_a_page_that_exists(void **state)
{
	struct fixture *fix = require_uffd(state);
	uintptr_t dst = addr_of(fix->dst);
	size_t done = 99;

	assert_int_equal(madvise(fix->dst, 2 * UMM_BLOCK_SIZE, MADV_NOHUGEPAGE), 0);
	fill(fix->src, 8 * PAGE);
	assert_int_equal(uffd_zeropage(fix->uffd, dst + 4 * PAGE, PAGE, true, NULL), 0);

	assert_int_equal(uffd_copy(fix->uffd, dst, fix->src, 8 * PAGE, true, &done), -EEXIST);
	assert_int_equal(done, 4 * PAGE);
	check_filled(fix->dst, 4 * PAGE);
	assert_int_equal(uffd_copy(fix->uffd, dst, fix->src, 8 * PAGE, true, &done), -EEXIST);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_zeropage(fix->uffd, dst + 4 * PAGE, PAGE, true, &done), -EEXIST);
	assert_int_equal(done, 0);
	if (!(fix->features & UMM_KERNEL_MOVE))
		return;
	assert_int_equal(uffd_move(fix->uffd, dst + 4 * PAGE, addr_of(fix->src), PAGE, true, &done),
			 -EEXIST);
	assert_int_equal(done, 0);
	check_filled(fix->src, 8 * PAGE);
}

/*
 * Pages that fork has shared may not move, even when the child is gone, until the
 * parent has written to them.
 */
static void move_refuses_pages_shared_by_fork(void **state)
{
	struct fixture *fix = require_move(state);
	size_t done = 0;
	int pipe_fds[2];
	pid_t pid;
	char c;

	assert_int_equal(madvise(fix->dst, 2 * UMM_BLOCK_SIZE, MADV_NOHUGEPAGE), 0);
	fill(fix->src, 8 * PAGE);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(pipe_fds[1]);
		_exit(read(pipe_fds[0], &c, 1) != 0);
	}
	fill(fix->src, 5 * PAGE); /* copied on write: these are the parent's own again */
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst), addr_of(fix->src), 8 * PAGE, true,
				   &done),
			 -EBUSY);
	assert_int_equal(done, 5 * PAGE);
	close(pipe_fds[1]);
	close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	check_filled(fix->dst, 5 * PAGE);

	assert_int_equal(madvise(fix->src + 5 * PAGE, 3 * PAGE, MADV_POPULATE_WRITE), 0);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst) + 5 * PAGE,
				   addr_of(fix->src) + 5 * PAGE, 3 * PAGE, true, &done),
			 0);
	check_filled(fix->dst, 8 * PAGE);
}

/* A ring whose registered buffer pins one page for as long as it is open; or skip. */
static int pin_page(char *page)
{
	struct io_uring_params params = { 0 };
	struct iovec buffer = { .iov_base = page, .iov_len = PAGE };
	long ring = syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1)) {
		print_message("skipped: io_uring cannot pin a page here: %s\n", strerror(errno));
		skip();
	}
	return (int)ring;
}

static void move_stops_at_a_pinned_page(void **state)
{
	struct fixture *fix = require_move(state);
	size_t done = 0;
	int ring;

	assert_int_equal(madvise(fix->dst, 2 * UMM_BLOCK_SIZE, MADV_NOHUGEPAGE), 0);
	fill(fix->src, 8 * PAGE);
	ring = pin_page(fix->src + 5 * PAGE);
	assert_int_equal(uffd_move(fix->uffd, addr_of(fix->dst), addr_of(fix->src), 8 * PAGE, true,
				   &done),
			 -EBUSY);
	assert_int_equal(done, 5 * PAGE);
	close(ring);
	check_filled(fix->dst, 5 * PAGE);
	assert_int_equal(fix->src[5 * PAGE], 6);
}

static void moving_nothing_succeeds(void **state)
{
	struct fixture *fix = require_uffd(state);
	size_t done = 99;

	assert_int_equal(uffd_copy(fix->uffd, addr_of(fix->dst), fix->src, 0, true, &done), 0);
	assert_int_equal(done, 0);
}

static void movers_refuse_misalignment(void **state)
{
	struct fixture *fix = require_uffd(state);
	size_t done = 99;

	assert_int_equal(uffd_copy(fix->uffd, addr_of(fix->dst) + 8, fix->src, PAGE, true, &done),
			 -EINVAL);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_zeropage(fix->uffd, addr_of(fix->dst), 100, true, &done), -EINVAL);
	assert_int_equal(uffd_writeprotect(fix->uffd, addr_of(fix->dst), 100, true, false),
			 -EINVAL);
	assert_int_equal(uffd_wake(fix->uffd, addr_of(fix->dst), 100), -EINVAL);
}

static void unread_event_makes_movers_say_eagain(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct deed deed = { .fn = do_drop, .addr = fix->dst + 64 * PAGE, .len = 2 * PAGE };
	uintptr_t dst = addr_of(fix->dst);
	struct uffd_msg_info info;
	size_t done = 99;

	fill(fix->src, PAGE);
	assert_int_equal(uffd_zeropage(fix->uffd, dst + 8 * PAGE, PAGE, true, NULL), 0);
	deed_start(&deed);
	wait_readable(fix->uffd);
	assert_int_equal(uffd_copy(fix->uffd, dst, fix->src, PAGE, true, &done), -EAGAIN);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_zeropage(fix->uffd, dst, PAGE, true, &done), -EAGAIN);
	assert_int_equal(uffd_writeprotect(fix->uffd, dst + 8 * PAGE, PAGE, true, false), -EAGAIN);
	if (fix->features & UMM_KERNEL_POISON)
		assert_int_equal(uffd_poison(fix->uffd, dst, PAGE), -EAGAIN);
	if (fix->features & UMM_KERNEL_MOVE)
		assert_int_equal(uffd_move(fix->uffd, dst, addr_of(fix->src), PAGE, true, &done),
				 -EAGAIN);
	assert_int_equal(done, 0);

	assert_int_equal(uffd_read(fix->uffd, &info), 1);
	assert_int_equal(info.kind, UFFD_REMOVE);
	assert_int_equal(info.addr, dst + 64 * PAGE);
	assert_int_equal(info.end, dst + 66 * PAGE);
	deed_join(&deed);
	assert_int_equal(uffd_copy(fix->uffd, dst, fix->src, PAGE, true, &done), 0);
	assert_int_equal(done, PAGE);
	check_filled(fix->dst, PAGE);
}

static sigjmp_buf bus_return;
static void *volatile bus_addr;

static void on_bus(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	bus_addr = info->si_addr;
	siglongjmp(bus_return, 1);
}

/* Does reading this byte raise SIGBUS? */
static bool raises_bus(const char *p)
{
	struct sigaction action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	struct sigaction before;
	volatile bool raised = true;

	bus_addr = NULL;
	assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
	if (!sigsetjmp(bus_return, 1)) {
		(void)*(const volatile char *)p;
		raised = false;
	}
	assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
	return raised;
}

static void poisoned_pages_raise_sigbus(void **state)
{
	struct fixture *fix = require_poison(state);
	uintptr_t dst = addr_of(fix->dst);

	assert_int_equal(uffd_zeropage(fix->uffd, dst, PAGE, true, NULL), 0);
	assert_int_equal(uffd_poison(fix->uffd, dst + PAGE, 2 * PAGE), 0);
	assert_false(raises_bus(fix->dst));
	assert_true(raises_bus(fix->dst + PAGE + 5));
	assert_true((char *)bus_addr >= fix->dst + PAGE && (char *)bus_addr < fix->dst + 2 * PAGE);
	assert_true(raises_bus(fix->dst + 2 * PAGE));
	/* Never over a page that is there. */
	assert_int_equal(uffd_poison(fix->uffd, dst, PAGE), -EEXIST);
	assert_false(raises_bus(fix->dst));
}

/* ------------------------------------------------------------------------
 * Messages
 */

static void empty_queue_reads_zero(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct uffd_msg_info info;

	assert_int_equal(uffd_read(fix->uffd, &info), 0);
	assert_int_equal(uffd_read(-1, &info), -EBADF);
}

static void missing_fault_tells_page_and_thread(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct deed deed = { .fn = do_read, .addr = fix->dst + 3 * PAGE + 17 };
	struct uffd_msg_info info;

	fill(fix->src, PAGE);
	deed_start(&deed);
	read_message(fix, &info);
	assert_int_equal(info.kind, UFFD_FAULT);
	assert_int_equal(info.addr, addr_of(fix->dst) + 3 * PAGE);
	assert_int_equal(info.thread, atomic_load(&deed.tid));
	assert_false(info.write);
	assert_false(info.wp);
	/* Without waking, then waking: the thread needs both and sees the data. */
	assert_int_equal(uffd_copy(fix->uffd, info.addr, fix->src, PAGE, false, NULL), 0);
	assert_int_equal(uffd_wake(fix->uffd, info.addr, PAGE), 0);
	deed_join(&deed);
	assert_int_equal(deed.value, 1);
}

static void missing_write_is_told_from_read(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct deed deed = { .fn = do_write, .addr = fix->dst };
	struct uffd_msg_info info;

	fill(fix->src, PAGE);
	deed_start(&deed);
	read_message(fix, &info);
	assert_int_equal(info.kind, UFFD_FAULT);
	assert_true(info.write);
	assert_false(info.wp);
	if (fix->features & UMM_KERNEL_MOVE)
		assert_int_equal(
			uffd_move(fix->uffd, info.addr, addr_of(fix->src), PAGE, true, NULL), 0);
	else
		assert_int_equal(uffd_copy(fix->uffd, info.addr, fix->src, PAGE, true, NULL), 0);
	deed_join(&deed);
	assert_int_equal(fix->dst[0], 'w');
	assert_int_equal(fix->dst[1], 1);
}

/* What a thread that is stopped in front of its write has not written yet. */
__attribute__((no_sanitize("thread"))) static char peek(const char *p)
{
	return *(const volatile char *)p;
}

static void write_protected_page_waits_for_its_writer(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct deed deed = { .fn = do_write, .addr = fix->dst };
	uintptr_t dst = addr_of(fix->dst);
	struct uffd_msg_info info;

	fill(fix->src, PAGE);
	assert_int_equal(uffd_copy(fix->uffd, dst, fix->src, PAGE, true, NULL), 0);
	assert_int_equal(uffd_writeprotect(fix->uffd, dst, PAGE, true, false), 0);
	deed_start(&deed);
	read_message(fix, &info);
	assert_int_equal(info.kind, UFFD_FAULT);
	assert_int_equal(info.addr, dst);
	assert_true(info.wp);
	assert_true(info.write);
	assert_int_equal(peek(fix->dst), 1);
	assert_int_equal(uffd_writeprotect(fix->uffd, dst, PAGE, false, true), 0);
	deed_join(&deed);
	assert_int_equal(fix->dst[0], 'w');
}

static void unmap_event_tells_the_range(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct deed deed = { .fn = do_unmap, .addr = fix->dst + PAGE, .len = 3 * PAGE };
	struct uffd_msg_info info;

	deed_start(&deed);
	read_message(fix, &info);
	deed_join(&deed);
	assert_int_equal(info.kind, UFFD_UNMAP);
	assert_int_equal(info.addr, addr_of(fix->dst) + PAGE);
	assert_int_equal(info.end, addr_of(fix->dst) + 4 * PAGE);
}

static void remap_event_tells_both_places(void **state)
{
	struct fixture *fix = require_uffd(state);
	struct deed deed = {
		.fn = do_remap,
		.addr = fix->dst + PAGE,
		.len = 2 * PAGE,
		.result = fix->src + 7 * PAGE,
	};
	struct uffd_msg_info info;

	deed_start(&deed);
	do {
		/* The old place also goes away, which kernels may tell first. */
		read_message(fix, &info);
	} while (info.kind == UFFD_UNMAP);
	assert_int_equal(info.kind, UFFD_REMAP);
	assert_int_equal(info.addr, addr_of(fix->dst) + PAGE);
	assert_int_equal(info.end, addr_of(fix->dst) + 3 * PAGE);
	assert_int_equal(info.to, addr_of(fix->src) + 7 * PAGE);
	close(fix->uffd); /* nobody has to read whatever still follows */
	fix->uffd = -1;
	deed_join(&deed);
}

static void crafted_messages_are_decoded(void **state)
{
	struct uffd_msg msg = { .event = UFFD_EVENT_PAGEFAULT };
	struct uffd_msg_info info;

	(void)state;
	msg.arg.pagefault.address = 0x7f0000001abc;
	msg.arg.pagefault.flags = UFFD_PAGEFAULT_FLAG_WRITE;
	msg.arg.pagefault.feat.ptid = 42;
	uffd_decode(&msg, &info);
	assert_int_equal(info.kind, UFFD_FAULT);
	assert_int_equal(info.addr, 0x7f0000001000);
	assert_int_equal(info.end, 0x7f0000002000);
	assert_int_equal(info.thread, 42);
	assert_true(info.write);
	assert_false(info.wp);
	msg.arg.pagefault.flags = UFFD_PAGEFAULT_FLAG_WP;
	uffd_decode(&msg, &info);
	assert_false(info.write);
	assert_true(info.wp);

	memset(&msg, 0, sizeof(msg));
	msg.event = UFFD_EVENT_REMAP;
	msg.arg.remap.from = 0x1000;
	msg.arg.remap.to = 0x9000;
	msg.arg.remap.len = 0x3000;
	uffd_decode(&msg, &info);
	assert_int_equal(info.kind, UFFD_REMAP);
	assert_int_equal(info.addr, 0x1000);
	assert_int_equal(info.end, 0x4000);
	assert_int_equal(info.to, 0x9000);

	memset(&msg, 0, sizeof(msg));
	msg.event = UFFD_EVENT_REMOVE;
	msg.arg.remove.start = 0x5000;
	msg.arg.remove.end = 0x7000;
	uffd_decode(&msg, &info);
	assert_int_equal(info.kind, UFFD_REMOVE);
	assert_int_equal(info.addr, 0x5000);
	assert_int_equal(info.end, 0x7000);
	msg.event = UFFD_EVENT_UNMAP;
	uffd_decode(&msg, &info);
	assert_int_equal(info.kind, UFFD_UNMAP);
	assert_int_equal(info.end, 0x7000);
}

static void unknown_messages_are_other_and_empty(void **state)
{
	struct uffd_msg_info info, empty = { .kind = UFFD_OTHER };

	(void)state;
	for (unsigned event = 0; event < 256; event++) {
		struct uffd_msg msg;

		if (event == UFFD_EVENT_PAGEFAULT || event == UFFD_EVENT_REMAP ||
		    event == UFFD_EVENT_REMOVE || event == UFFD_EVENT_UNMAP)
			continue;
		memset(&msg, 0xff, sizeof(msg));
		msg.event = (uint8_t)event;
		memset(&info, 0xee, sizeof(info));
		uffd_decode(&msg, &info);
		assert_int_equal(info.kind, empty.kind);
		assert_int_equal(info.addr, 0);
		assert_int_equal(info.end, 0);
		assert_int_equal(info.to, 0);
		assert_int_equal(info.thread, 0);
	}
}

#define uffd_unit_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		uffd_unit_test(descriptor_is_nonblocking_and_closed_on_exec),
		uffd_unit_test(without_events_unmapping_is_silent),
		uffd_unit_test(registering_nonsense_is_refused),
		uffd_unit_test(unregistered_memory_faults_natively),
		uffd_unit_test(move_takes_a_whole_huge_page),
		uffd_unit_test(move_takes_small_pages_both_ways),
		uffd_unit_test(move_stops_at_a_hole),
		uffd_unit_test(movers_stop_at_a_page_that_exists),
		uffd_unit_test(move_refuses_pages_shared_by_fork),
		uffd_unit_test(move_stops_at_a_pinned_page),
		uffd_unit_test(moving_nothing_succeeds),
		uffd_unit_test(movers_refuse_misalignment),
		uffd_unit_test(unread_event_makes_movers_say_eagain),
		uffd_unit_test(poisoned_pages_raise_sigbus),
		uffd_unit_test(empty_queue_reads_zero),
		uffd_unit_test(missing_fault_tells_page_and_thread),
		uffd_unit_test(missing_write_is_told_from_read),
		uffd_unit_test(write_protected_page_waits_for_its_writer),
		uffd_unit_test(unmap_event_tells_the_range),
		uffd_unit_test(remap_event_tells_both_places),
		cmocka_unit_test(crafted_messages_are_decoded),
		cmocka_unit_test(unknown_messages_are_other_and_empty),
	};

	return cmocka_run_group_tests_name("uffd", tests, NULL, NULL);
}
