/* SPDX-License-Identifier: MIT */
/*
 * Faults that are served by the thread that has them. A userfaultfd may answer a fault by SIGBUS
 * instead of a message (UFFD_FEATURE_SIGBUS). Its handler then does what a fault server would do,
 * with the same functions, and returns to the instruction: no other thread has to run. What may
 * not be done there goes to a worker, as it does from a server, and the thread sleeps until a
 * migration has ended; if its page is still not there it comes again.
 *
 * The handler runs anywhere in the program: in malloc() with its locks held, say. So nothing
 * that a fault takes allocates, and locks of the library are never held where managed memory is
 * touched (lock.h), so never by the thread that the handler interrupts.
 *
 * Not every SIGBUS is a fault of ours, and a fault may have lost a race by the time it is looked
 * at. One that nothing explains is tried again, and is somebody else's where that does not help a
 * few times in a row. That the access succeeded meanwhile nobody tells; but coming back takes time.
 * Where nobody else has a handler it does what it would do without ours, which stays.
 *
 * Locks: none here. A slot is in use while its count of users is not zero.
 */
#include "sigbus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "ctx.h"
#include "fault.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/* Contexts of one process that serve faults so. */
#define MAX_CONTEXTS 64

static struct sigbus_slot {
	_Atomic(struct umm_ctx *) ctx;
	_Atomic unsigned users;
} slots[MAX_CONTEXTS];

static _Atomic unsigned nslots; /* all that were ever in use come before */

/* What is tried again in vain faults again within so long, if its thread is not preempted. */
#define AGAIN_NS   UINT64_C(100000)
#define AGAIN_MOST 3

/* What this thread was told to try again last, when, and how often in a row. */
struct unexplained {
	uintptr_t addr;
	uint64_t ns;
	unsigned n;
};

/* initial-exec: the other models may call malloc on a thread's first access. */
static _Thread_local struct unexplained unexplained __attribute__((tls_model("initial-exec")));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;
static struct sigaction ours, before;

#if defined(__x86_64__)
#define PAGE_FAULT_PRESENT 1
#define PAGE_FAULT_WRITE   2

static const bool knows_accesses = true;

/* What kind of access it was. */
static void decode(const ucontext_t *context, struct uffd_msg_info *info)
{
	unsigned long error = (unsigned long)context->uc_mcontext.gregs[REG_ERR];

	info->write = error & PAGE_FAULT_WRITE;
	info->wp = info->write && error & PAGE_FAULT_PRESENT;
}
#else
static const bool knows_accesses = false;

static void decode(const ucontext_t *context, struct uffd_msg_info *info)
{
	(void)context;
	(void)info;
}
#endif

/* Serve it for the context in this slot, if that explains it. */
static bool slot_serve(struct sigbus_slot *slot, const struct uffd_msg_info *info)
{
	struct umm_ctx *ctx;
	bool served;

	atomic_fetch_add(&slot->users, 1);
	ctx = atomic_load(&slot->ctx);
	served = ctx && fault_serve_here(ctx, info);
	atomic_fetch_sub(&slot->users, 1);
	return served;
}

/* What nothing explains: is it to be tried again? `began` is when it came. */
static bool try_again(uintptr_t addr, uint64_t began)
{
	if (unexplained.addr != addr || began - unexplained.ns > AGAIN_NS)
		unexplained.n = 0;
	unexplained.addr = addr;
	if (unexplained.n++ < AGAIN_MOST) {
		unexplained.ns = now_ns();
		return true;
	}
	/* Whose it is may never come back here: what is next is new. */
	unexplained.addr = 0;
	return false;
}

static bool serve(const struct uffd_msg_info *info)
{
	uint64_t began = unexplained.addr == info->addr ? now_ns() : 0;
	unsigned n = atomic_load(&nslots);

	for (unsigned i = 0; i < n; i++) {
		if (slot_serve(&slots[i], info)) {
			unexplained.addr = 0;
			return true;
		}
	}
	return try_again(info->addr, began);
}

/* Can it be a fault of ours at all, and which. */
static bool is_fault(const siginfo_t *siginfo, const ucontext_t *context,
		     struct uffd_msg_info *info)
{
	if (siginfo->si_signo != SIGBUS || siginfo->si_code != BUS_ADRERR)
		return false;
	*info = (struct uffd_msg_info){ .kind = UFFD_FAULT };
	info->addr = align_down((uintptr_t)siginfo->si_addr, UMM_PAGE_SIZE);
	info->end = info->addr + UMM_PAGE_SIZE;
	decode(context, info);
	return true;
}

int umm_handle_sigbus(const void *siginfo, void *ucontext)
{
	struct uffd_msg_info info;
	int err = errno;
	bool served;

	if (!siginfo || !ucontext || !is_fault(siginfo, ucontext, &info))
		return 0;
	signals_hold();
	served = serve(&info);
	signals_let();
	errno = err;
	return served;
}

/* By a process, or for memory that failed elsewhere: not by what the thread has just done. */
static bool is_sent(const siginfo_t *siginfo)
{
	return siginfo->si_code <= 0 || siginfo->si_code == BUS_MCEERR_AO;
}

/* End the process by this signal. Returns where the kernel spares it: the first of a container. */
static void die(int number, siginfo_t *siginfo)
{
	sigset_t only;

	signal(number, SIG_DFL);
	/* The same signal again, with what it says of itself: it is still blocked here. */
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), number, siginfo))
		raise(number);
	sigemptyset(&only);
	sigaddset(&only, number);
	pthread_sigmask(SIG_UNBLOCK, &only, NULL);
}

/*
 * As the kernel would have it without our handler: who ignores a signal that was sent lives; a
 * fault ends the process even so, when it comes again if not at once.
 */
static void act_as_kernel(int number, siginfo_t *siginfo)
{
	if (!is_sent(siginfo)) {
		die(number, siginfo);
	} else if (before.sa_handler == SIG_DFL) {
		die(number, siginfo);
		sigaction(number, &ours, NULL);
	}
}

/* Somebody else's: the handler that was there before, or the end. */
static void pass_on(int number, siginfo_t *siginfo, void *ucontext)
{
	if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN)
		act_as_kernel(number, siginfo);
	else if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(number, siginfo, ucontext);
	else
		before.sa_handler(number);
}

/* As umm_handle_sigbus(), entered with signals held. */
static void handle(int number, siginfo_t *siginfo, void *ucontext)
{
	const ucontext_t *context = ucontext;
	struct uffd_msg_info info;
	int err = errno;
	bool served;

	served = is_fault(siginfo, context, &info);
	if (served) {
		signals_enter_handler(&context->uc_sigmask);
		served = serve(&info);
		signals_leave_handler();
	}
	errno = err;
	if (!served)
		pass_on(number, siginfo, ucontext);
}

static void install(void)
{
	ours = (struct sigaction){ .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART };
	signals_fill(&ours.sa_mask);
	installed = sigaction(SIGBUS, &ours, &before) ? -errno : 0;
}

static bool slot_claim(struct sigbus_slot *slot, struct umm_ctx *ctx)
{
	struct umm_ctx *none = NULL;

	return atomic_compare_exchange_strong(&slot->ctx, &none, ctx);
}

int sigbus_open(struct umm_ctx *ctx)
{
	unsigned i, n;

	if (!knows_accesses)
		return -EOPNOTSUPP;
	pthread_once(&once, install);
	if (installed)
		return installed;
	for (i = 0; i < MAX_CONTEXTS && !slot_claim(&slots[i], ctx); i++)
		;
	if (i == MAX_CONTEXTS)
		return -ENOMEM;
	n = atomic_load(&nslots);
	while (n <= i && !atomic_compare_exchange_weak(&nslots, &n, i + 1))
		;
	return 0;
}

void sigbus_close(struct umm_ctx *ctx)
{
	for (unsigned i = 0; i < MAX_CONTEXTS; i++) {
		if (atomic_load(&slots[i].ctx) != ctx)
			continue;
		atomic_store(&slots[i].ctx, NULL);
		while (atomic_load(&slots[i].users))
			sched_yield();
		return;
	}
}

void sigbus_after_fork(void)
{
	memset(slots, 0, sizeof(slots));
	atomic_store(&nslots, 0);
}
