/* SPDX-License-Identifier: MIT */
/*
 * Fault servers. A few threads (one per CPU, bounded) wait for the userfaultfd, each
 * exclusively: a fault wakes one of them, the first that is idle, so the others
 * do not run, do not fight for locks and need no TLB flushes. Servers pin themselves to
 * the CPU of the thread that faults, since a wake-up across CPUs costs several times
 * a fault; all of them to one, since which of them a fault wakes has nothing to do with its CPU.
 * There, whoever is woken while another one serves runs only when that one sleeps: there is mostly
 * nothing left for it, and the gate is free. Where a device keeps a server, the next one goes on.
 * Servers ask for nice -20: one that waits for its CPU is what makes slow faults.
 *
 * A server must always come back to reading, since the program may be stopped in
 * munmap() until somebody reads.
 *
 * Locks: none; what is called takes the gate.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ctx.h"
#include "event.h"
#include "fault.h"
#include "hook.h"
#include "log.h"
#include "mlocked.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/*
 * Looking where a thread runs takes some 10 us: after so many faults in a row of a thread, and
 * then, while it stays where it was, ever fewer times; where threads take turns, after so many
 * turns, and ever fewer times, too.
 */
#define FOLLOW_NEW   8
#define FOLLOW_SAME  64
#define FOLLOW_STAYS 512
#define FOLLOW_TURNS 1024

/* One server's own affairs. */
struct server {
	struct umm_ctx *ctx;
	uint32_t thread;   /* that faulted last */
	unsigned row;	   /* its faults in a row */
	unsigned next;	   /* so many, and it is looked up again */
	unsigned turns;	   /* of threads, since one's CPU was looked up for that */
	unsigned patience; /* as many as that */
	int cpu;	   /* where this server is pinned; -1: nowhere */
};

/* The CPU that a thread of this process last ran on; -1: unknown. */
static int thread_cpu(uint32_t thread)
{
	char path[64], stat[1024], *field;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat", thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	if (got <= 0)
		return -1;
	stat[got] = '\0';
	/* The name in parentheses may hold spaces; the processor is field 39, 37 after it. */
	field = strrchr(stat, ')');
	for (int i = 0; field && i < 37; i++)
		field = strchr(field + 1, ' ');
	return field ? atoi(field + 1) : -1;
}

/* Is it time to see where the thread runs that faulted? */
static bool server_looks(struct server *server, uint32_t thread)
{
	if (thread == server->thread) {
		if (++server->row < server->next)
			return false;
		/* It has the servers to itself. */
		if (server->row > FOLLOW_SAME)
			server->patience = FOLLOW_NEW;
		server->next +=
			min(max(server->row, (unsigned)FOLLOW_SAME), (unsigned)FOLLOW_STAYS);
		return true;
	}
	server->thread = thread;
	server->row = 1;
	server->next = FOLLOW_NEW;
	if (++server->turns < server->patience)
		return false;
	server->turns = 0;
	server->patience = min(2 * server->patience, (unsigned)FOLLOW_TURNS);
	return true;
}

/* Go where the faults are: a wake-up on another CPU costs more than the fault. */
static void server_follow(struct server *server, uint32_t thread)
{
	_Atomic int *cpu = &server->ctx->servers.cpu;
	int there = -1;
	cpu_set_t mine;

	if (thread && server_looks(server, thread))
		there = thread_cpu(thread);
	if (there >= 0 && there < CPU_SETSIZE)
		atomic_store_explicit(cpu, there, memory_order_relaxed);
	there = atomic_load_explicit(cpu, memory_order_relaxed);
	if (there == server->cpu)
		return;
	server->row = 0;
	server->next = FOLLOW_SAME;
	CPU_ZERO(&mine);
	CPU_SET(there, &mine);
	/* Refused: it was asked for once. */
	sched_setaffinity(0, sizeof(mine), &mine);
	server->cpu = there;
}

/* Serve one fault, and whatever events come before it. */
static void serve_one(struct server *server)
{
	struct umm_ctx *ctx = server->ctx;
	struct uffd_msg_info info;
	uint64_t began;
	bool again;
	int ret;

	do {
		began = now_ns();
		ret = event_read(ctx, &info, &again);
	} while (again);
	if (ret <= 0)
		return;
	hook_run(HOOK_FAULT_READ, info.addr);
	fault_take(ctx, &info);
	stats_add(&ctx->stats, UMM_COUNT_FAULT_NS, now_ns() - began);
	server_follow(server, info.thread);
}

/* Once: a driver that does so, or a program that locks all it has, has many such pages. */
static void say_gone(struct umm_ctx *ctx, uintptr_t page)
{
	if (mlocked_is(page) || atomic_exchange(&ctx->staging.said_gone, true))
		return;
	log_warning("the host page of a frame at %#lx was gone, and reads zero from now on: its "
		    "driver has dropped it, or the program is just locking all of its memory",
		    (unsigned long)page);
}

/*
 * Somebody touched a page of the staging windows or of a coherent pool that is not there. Nobody
 * should, but a driver may have dropped pages of its pool, and mlockall() touches everything:
 * better zeroes than to wait for ever. Where there is a page by now, nothing else wakes.
 */
static void serve_staging(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;

	while (uffd_read(ctx->staging.uffd, &info) == 1) {
		hook_run(HOOK_FAULT_READ, info.addr);
		if (uffd_zeropage(ctx->staging.uffd, info.addr, UMM_PAGE_SIZE, true, NULL))
			uffd_wake(ctx->staging.uffd, info.addr, UMM_PAGE_SIZE);
		else
			say_gone(ctx, info.addr);
	}
}

static void server_prioritise(unsigned number)
{
	if (setpriority(PRIO_PROCESS, (id_t)gettid(), -20) && number == 0)
		log_info("fault servers run at normal priority: faults are slow while all CPUs "
			 "are busy; allow it with CAP_SYS_NICE or 'ulimit -e 40'");
}

/* What woke a server. */
enum poll {
	POLL_FAULTS,
	POLL_STAGING,
	POLL_WATCH,
	POLL_STOP,
};

static int poll_add(int poll_fd, int fd, uint32_t flags, enum poll what)
{
	struct epoll_event event = { .events = EPOLLIN | flags, .data.u32 = what };

	return epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

/*
 * What a server sleeps on. The userfaultfd is watched exclusively: one
 * message wakes one server. 0 or -errno.
 */
static int server_poll_open(struct umm_ctx *ctx)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -ENOMEM;
	if (poll_add(fd, ctx->uffd, EPOLLEXCLUSIVE, POLL_FAULTS) ||
	    poll_add(fd, ctx->servers.stop_fd, 0, POLL_STOP) ||
	    (ctx->watch >= 0 && poll_add(fd, ctx->watch, EPOLLEXCLUSIVE, POLL_WATCH)) ||
	    (ctx->mark >= 0 && poll_add(fd, ctx->mark, EPOLLEXCLUSIVE, POLL_WATCH)) ||
	    (ctx->staging.uffd >= 0 &&
	     poll_add(fd, ctx->staging.uffd, EPOLLEXCLUSIVE, POLL_STAGING))) {
		close(fd);
		return -ENOMEM;
	}
	return fd;
}

static void *server_main(void *arg)
{
	struct server server = { .ctx = arg, .patience = FOLLOW_NEW, .cpu = -1 };
	struct servers *servers = &server.ctx->servers;
	unsigned number = atomic_fetch_add(&servers->started, 1);
	struct epoll_event event = { .data.u32 = POLL_FAULTS };
	int n;

	signals_hold();
	server_prioritise(number);
	while (event.data.u32 != POLL_STOP) {
		/* Asking here whether there is more costs less than a read() that finds nothing. */
		n = epoll_wait(servers->poll_fds[number], &event, 1, -1);
		if (n < 0 && errno != EINTR) {
			log_error("a fault server ends, as it cannot wait for faults: %s; has the "
				  "program closed descriptors that it did not open?",
				  umm_strerror(-errno));
			break;
		}
		if (n <= 0)
			continue;
		if (event.data.u32 == POLL_FAULTS)
			serve_one(&server);
		else if (event.data.u32 == POLL_STAGING)
			serve_staging(server.ctx);
		else if (event.data.u32 == POLL_WATCH)
			event_read_watches(server.ctx);
	}
	return NULL;
}

static unsigned servers_default(const struct umm_ctx *ctx)
{
	cpu_set_t allowed;

	/* It only reads events. */
	if (ctx->in_thread)
		return 1;
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return 2;
	return min((unsigned)CPU_COUNT(&allowed), (unsigned)MAX_SERVERS);
}

int servers_start(struct umm_ctx *ctx, unsigned wanted)
{
	struct servers *servers = &ctx->servers;
	int ret;

	servers->wanted = wanted ? min(wanted, (unsigned)MAX_SERVERS) : servers_default(ctx);
	atomic_init(&servers->cpu, -1);
	servers->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (servers->stop_fd < 0)
		return -ENOMEM;
	while (servers->nthreads < servers->wanted) {
		ret = server_poll_open(ctx);
		if (ret < 0) {
			servers_stop(ctx);
			return ret;
		}
		servers->poll_fds[servers->nthreads] = ret;
		ret = thread_start(&servers->threads[servers->nthreads], server_main, ctx,
				   "umm-fault");
		if (ret) {
			close(servers->poll_fds[servers->nthreads]);
			servers_stop(ctx);
			return ret;
		}
		servers->nthreads++;
	}
	return 0;
}

/* With errno: EINVAL of what is watched exclusively, which cannot be changed. */
static bool poll_change(int poll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = POLL_STOP };

	return !epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
}

bool servers_lost(struct umm_ctx *ctx)
{
	int poll_fd = ctx->servers.poll_fds[0];

	return !poll_change(poll_fd, ctx->servers.stop_fd) ||
	       (!poll_change(poll_fd, ctx->uffd) && errno != EINVAL);
}

void servers_stop(struct umm_ctx *ctx)
{
	uint64_t one = 1;

	if (write(ctx->servers.stop_fd, &one, sizeof(one)) < 0)
		log_error("cannot stop the fault servers");
	for (unsigned i = 0; i < ctx->servers.nthreads; i++)
		pthread_join(ctx->servers.threads[i], NULL);
	for (unsigned i = 0; i < ctx->servers.nthreads; i++)
		close(ctx->servers.poll_fds[i]);
	ctx->servers.nthreads = 0;
	close(ctx->servers.stop_fd);
}
