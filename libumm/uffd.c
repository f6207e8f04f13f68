/* SPDX-License-Identifier: MIT */
/*
 * The only file that issues userfaultfd ioctls.
 *
 * Opening climbs down a ladder: /dev/userfaultfd (file permissions decide), the
 * system call (a sysctl or CAP_SYS_PTRACE decides), either of them restricted to
 * faults of user mode (the call is then open to all). A descriptor accepts UFFDIO_API once, so a
 * first descriptor is asked what the kernel has and thrown away, and a second one
 * is told what we want. EVENT_FORK is never asked for: it needs a capability, and
 * fork is handled before it happens.
 *
 * The ioctls that install or move pages may stop part-way. They then fail with
 * EAGAIN and say how many bytes are done; what stopped them shows only when they are
 * called again at that page. They also fail with EAGAIN, having done nothing, while
 * an event is unread: the caller has to let that event be read first, so this is
 * handed up and never retried here.
 *
 * Invariants: a retry happens only after progress, so every call ends; *done counts
 * exactly the bytes that are in place.
 *
 * Locks: none; nothing is kept between calls.
 */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "signals.h"
#include "uapi.h"
#include "util.h"

#define UFFD_WANTED_EVENTS                                                 \
	((uint64_t)(UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | \
		    UFFD_FEATURE_EVENT_UNMAP))
#define UFFD_WANTED_IF_THERE                                                  \
	((uint64_t)(UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MISSING_HUGETLBFS | \
		    UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_POISON | UFFD_FEATURE_MOVE))

/* ------------------------------------------------------------------------
 * Opening
 */

static int open_device(int flags)
{
	int dev, uffd, err;

	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	uffd = ioctl(dev, USERFAULTFD_IOC_NEW, flags);
	err = errno;
	close(dev);
	return uffd < 0 ? -err : uffd;
}

static int open_syscall(int flags)
{
	long uffd = syscall(SYS_userfaultfd, flags);

	return uffd < 0 ? -errno : (int)uffd;
}

static bool out_of_resources(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

/* Through the device or else the system call; if neither, the reason why the latter refused. */
static int open_either(int mode, enum umm_uffd_access *access)
{
	const int flags = O_CLOEXEC | O_NONBLOCK | mode;
	int uffd;

	*access = UMM_UFFD_DEVICE;
	uffd = open_device(flags);
	if (uffd >= 0 || out_of_resources(uffd))
		return uffd;
	*access = UMM_UFFD_SYSCALL;
	return open_syscall(flags);
}

/* A descriptor by the best way there is, or the reason why the first system call refused. */
static int open_best(unsigned flags, enum umm_uffd_access *access)
{
	int uffd, refusal = 0;

	if (!(flags & UFFD_OPEN_USER_MODE)) {
		uffd = open_either(0, access);
		if (uffd >= 0 || out_of_resources(uffd))
			return uffd;
		refusal = uffd;
	}
	uffd = open_either(UFFD_USER_MODE_ONLY, access);
	*access = UMM_UFFD_USER_MODE_ONLY;
	if (uffd >= 0 || out_of_resources(uffd))
		return uffd;
	*access = UMM_UFFD_NONE;
	return refusal ? refusal : uffd;
}

/* The errors of opening in the library's terms. */
static int open_error(int err)
{
	if (out_of_resources(err))
		return -ENOMEM;
	/* Before 5.11 the call knows no user mode. */
	if (err == -ENOSYS || err == -EINVAL)
		return -EOPNOTSUPP;
	return -EPERM;
}

/* Shake hands: enable features on a fresh descriptor; returns those the kernel has. */
static int enable(int uffd, uint64_t features, uint64_t *offered)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (ioctl(uffd, UFFDIO_API, &api))
		return open_error(-errno);
	*offered = api.features;
	return 0;
}

/* What does the kernel have? Costs a descriptor, which is gone when this returns. */
static int ask_offered(unsigned flags, enum umm_uffd_access *access, uint64_t *offered)
{
	int uffd, ret;

	uffd = open_best(flags, access);
	if (uffd < 0)
		return open_error(uffd);
	ret = enable(uffd, 0, offered);
	close(uffd);
	return ret;
}

static uint64_t features_of(uint64_t offered, unsigned flags, enum umm_uffd_access access)
{
	uint64_t features = UMM_KERNEL_UFFD_WP;

	if (flags & UFFD_OPEN_EVENTS)
		features |= UMM_KERNEL_UFFD_EVENTS;
	if (offered & UFFD_FEATURE_MOVE)
		features |= UMM_KERNEL_MOVE;
	if (offered & UFFD_FEATURE_POISON)
		features |= UMM_KERNEL_POISON;
	if (access != UMM_UFFD_USER_MODE_ONLY)
		features |= UMM_KERNEL_SYSCALL_FAULTS;
	return features;
}

int uffd_open(unsigned flags, uint64_t *features, enum umm_uffd_access *access)
{
	bool events = flags & UFFD_OPEN_EVENTS;
	uint64_t required = UFFD_FEATURE_PAGEFAULT_FLAG_WP | (events ? UFFD_WANTED_EVENTS : 0) |
			    (flags & UFFD_OPEN_SIGBUS ? UFFD_FEATURE_SIGBUS : 0);
	enum umm_uffd_access how;
	uint64_t offered = 0;
	int uffd, ret;

	ret = ask_offered(flags, &how, &offered);
	if (ret)
		return ret;
	if ((offered & required) != required)
		return -EOPNOTSUPP;
	uffd = open_best(flags, &how);
	if (uffd < 0)
		return open_error(uffd);
	ret = enable(uffd, required | (offered & UFFD_WANTED_IF_THERE), &offered);
	if (ret) {
		close(uffd);
		return ret;
	}
	*features = features_of(offered, flags, how);
	*access = how;
	return uffd;
}

/* A descriptor with these features and no others. */
static int open_with(unsigned flags, uint64_t wanted)
{
	enum umm_uffd_access how;
	uint64_t offered = 0;
	int uffd, ret;

	ret = ask_offered(flags, &how, &offered);
	if (ret)
		return ret;
	if ((offered & wanted) != wanted)
		return -EOPNOTSUPP;
	uffd = open_best(flags, &how);
	if (uffd < 0)
		return open_error(uffd);
	ret = enable(uffd, wanted, &offered);
	if (ret) {
		close(uffd);
		return ret;
	}
	return uffd;
}

int uffd_open_watch(void)
{
	return open_with(UFFD_OPEN_EVENTS,
			 UFFD_WANTED_EVENTS | UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
}

int uffd_open_mark(void)
{
	return open_with(UFFD_OPEN_USER_MODE, UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP);
}

/* ------------------------------------------------------------------------
 * Registration
 */

static int register_range(int uffd, uintptr_t start, size_t len, uint64_t mode)
{
	struct uffdio_register arg = { .range = { .start = start, .len = len }, .mode = mode };

	return ioctl(uffd, UFFDIO_REGISTER, &arg) ? -errno : 0;
}

int uffd_register(int uffd, uintptr_t start, size_t len)
{
	return register_range(uffd, start, len,
			      UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
}

int uffd_watch(int uffd, uintptr_t start, size_t len)
{
	return register_range(uffd, start, len, UFFDIO_REGISTER_MODE_WP);
}

int uffd_register_missing(int uffd, uintptr_t start, size_t len)
{
	return register_range(uffd, start, len, UFFDIO_REGISTER_MODE_MISSING);
}

int uffd_unregister(int uffd, uintptr_t start, size_t len)
{
	struct uffdio_range range = { .start = start, .len = len };

	return ioctl(uffd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

bool uffd_is_registered(uintptr_t start, size_t len)
{
	enum umm_uffd_access how;
	uint64_t features;
	int uffd = uffd_open(UFFD_OPEN_USER_MODE, &features, &how), ret;

	if (uffd < 0)
		return false;
	/* For write-protection only, of which there is none: nobody notices. */
	ret = uffd_watch(uffd, start, len);
	close(uffd);
	return ret == -EBUSY;
}

/* As uffd_owns(). */
static int owns_by_move(int uffd, uintptr_t addr)
{
	static _Atomic uintptr_t hole; /* a page that nobody touches */
	uintptr_t none = 0, mine;
	struct uffdio_move arg = { .dst = addr,
				   .len = UMM_PAGE_SIZE,
				   .mode = UFFDIO_MOVE_MODE_DONTWAKE |
					   UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES };

	if (!atomic_load(&hole)) {
		mine = (uintptr_t)mmap(NULL, UMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mine == (uintptr_t)MAP_FAILED)
			return -ENOENT;
		if (!atomic_compare_exchange_strong(&hole, &none, mine))
			munmap((void *)mine, UMM_PAGE_SIZE);
	}
	arg.src = atomic_load(&hole);
	if (!ioctl(uffd, UFFDIO_MOVE, &arg))
		return 0;
	return errno == EAGAIN || errno == EINVAL ? -errno : -ENOENT;
}

int uffd_owns(int uffd, uintptr_t addr, bool has_move)
{
	int ret = has_move ? owns_by_move(uffd, addr) : -EINVAL;

	/* Read-only and locked mappings refuse moves, whosever they are. */
	if (ret != -EINVAL)
		return ret;
	/* To register again is refused to all but the owner; what nobody has is left alone. */
	return uffd_is_registered(addr, UMM_PAGE_SIZE) &&
			       !uffd_register_missing(uffd, addr, UMM_PAGE_SIZE) ?
		       0 :
		       -ENOENT;
}

/* ------------------------------------------------------------------------
 * Messages
 */

static void decode_fault(const struct uffd_msg *msg, struct uffd_msg_info *info)
{
	uint64_t flags = msg->arg.pagefault.flags;

	info->kind = UFFD_FAULT;
	info->addr = align_down((uintptr_t)msg->arg.pagefault.address, UMM_PAGE_SIZE);
	info->end = info->addr + UMM_PAGE_SIZE;
	info->write = flags & UFFD_PAGEFAULT_FLAG_WRITE;
	info->wp = flags & UFFD_PAGEFAULT_FLAG_WP;
	info->thread = msg->arg.pagefault.feat.ptid;
}

UMM_FAULT_PATH void uffd_decode(const struct uffd_msg *msg, struct uffd_msg_info *info)
{
	memset(info, 0, sizeof(*info));
	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		decode_fault(msg, info);
		break;
	case UFFD_EVENT_REMAP:
		info->kind = UFFD_REMAP;
		info->addr = (uintptr_t)msg->arg.remap.from;
		info->end = info->addr + (uintptr_t)msg->arg.remap.len;
		info->to = (uintptr_t)msg->arg.remap.to;
		break;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		info->kind = msg->event == UFFD_EVENT_UNMAP ? UFFD_UNMAP : UFFD_REMOVE;
		info->addr = (uintptr_t)msg->arg.remove.start;
		info->end = (uintptr_t)msg->arg.remove.end;
		break;
	default:
		info->kind = UFFD_OTHER;
		break;
	}
}

UMM_FAULT_PATH bool uffd_is_changing(int uffd)
{
	/* Nothing to protect: the kernel looks for events before it says EINVAL. */
	struct uffdio_writeprotect nothing = { 0 };

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &nothing) && errno == EAGAIN;
}

void uffd_await(int uffd, long ns)
{
	struct pollfd poll = { .fd = uffd, .events = POLLIN };
	struct timespec timeout = { .tv_nsec = ns };
	int cancel;

	cancel = cancel_hold();
	ppoll(&poll, 1, &timeout, NULL);
	cancel_let(cancel);
}

int uffd_read(int uffd, struct uffd_msg_info *info)
{
	struct uffd_msg msg;
	ssize_t got;

	do {
		got = read(uffd, &msg, sizeof(msg));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (got != sizeof(msg))
		return -EIO;
	uffd_decode(&msg, info);
	return 1;
}

/* ------------------------------------------------------------------------
 * Installing and moving pages
 */

struct uffd_job {
	uintptr_t dst;
	uintptr_t src;
	size_t len;
	bool wake;
};

/*
 * One attempt: fills in the ioctl's structure for len bytes from offset on and
 * issues it. Returns 0 or -errno; *progress is the field that the kernel wrote, 0 if
 * it wrote none (kernels differ on whether they do when they refuse at once).
 */
typedef int (*attempt_fn)(int uffd, const struct uffd_job *job, size_t offset, int64_t *progress);

static int attempt_move(int uffd, const struct uffd_job *job, size_t offset, int64_t *progress)
{
	struct uffdio_move arg = {
		.dst = job->dst + offset,
		.src = job->src + offset,
		.len = job->len - offset,
		.mode = job->wake ? 0 : UFFDIO_MOVE_MODE_DONTWAKE,
	};
	int ret = ioctl(uffd, UFFDIO_MOVE, &arg) ? -errno : 0;

	*progress = arg.move;
	return ret;
}

static int attempt_copy(int uffd, const struct uffd_job *job, size_t offset, int64_t *progress)
{
	struct uffdio_copy arg = {
		.dst = job->dst + offset,
		.src = job->src + offset,
		.len = job->len - offset,
		.mode = job->wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE,
	};
	int ret = ioctl(uffd, UFFDIO_COPY, &arg) ? -errno : 0;

	*progress = arg.copy;
	return ret;
}

static int attempt_zeropage(int uffd, const struct uffd_job *job, size_t offset, int64_t *progress)
{
	struct uffdio_zeropage arg = {
		.range = { .start = job->dst + offset, .len = job->len - offset },
		.mode = job->wake ? 0 : UFFDIO_ZEROPAGE_MODE_DONTWAKE,
	};
	int ret = ioctl(uffd, UFFDIO_ZEROPAGE, &arg) ? -errno : 0;

	*progress = arg.zeropage;
	return ret;
}

static int attempt_poison(int uffd, const struct uffd_job *job, size_t offset, int64_t *progress)
{
	struct uffdio_poison arg = {
		.range = { .start = job->dst + offset, .len = job->len - offset },
		.mode = job->wake ? 0 : UFFDIO_POISON_MODE_DONTWAKE,
	};
	int ret = ioctl(uffd, UFFDIO_POISON, &arg) ? -errno : 0;

	*progress = arg.updated;
	return ret;
}

UMM_FAULT_PATH static int run_job(int uffd, const struct uffd_job *job, attempt_fn attempt,
				  size_t *done)
{
	size_t offset = 0;
	int ret = 0;

	while (offset < job->len) {
		int64_t progress = 0;

		ret = attempt(uffd, job, offset, &progress);
		if (!ret) {
			offset = job->len;
			break;
		}
		if (ret != -EAGAIN || progress <= 0)
			break;
		UMM_ASSERT((size_t)progress < job->len - offset);
		offset += (size_t)progress;
	}
	if (done)
		*done = offset;
	return ret;
}

UMM_FAULT_PATH int uffd_move(int uffd, uintptr_t dst, uintptr_t src, size_t len, bool wake,
			     size_t *done)
{
	struct uffd_job job = { .dst = dst, .src = src, .len = len, .wake = wake };

	return run_job(uffd, &job, attempt_move, done);
}

UMM_FAULT_PATH int uffd_copy(int uffd, uintptr_t dst, const void *src, size_t len, bool wake,
			     size_t *done)
{
	struct uffd_job job = { .dst = dst, .src = (uintptr_t)src, .len = len, .wake = wake };

	return run_job(uffd, &job, attempt_copy, done);
}

UMM_FAULT_PATH int uffd_zeropage(int uffd, uintptr_t dst, size_t len, bool wake, size_t *done)
{
	struct uffd_job job = { .dst = dst, .len = len, .wake = wake };

	return run_job(uffd, &job, attempt_zeropage, done);
}

UMM_FAULT_PATH int uffd_poison(int uffd, uintptr_t dst, size_t len)
{
	struct uffd_job job = { .dst = dst, .len = len, .wake = true };

	return run_job(uffd, &job, attempt_poison, NULL);
}

UMM_FAULT_PATH int uffd_writeprotect(int uffd, uintptr_t start, size_t len, bool protect, bool wake)
{
	struct uffdio_writeprotect arg = { .range = { .start = start, .len = len } };

	/* The kernel refuses DONTWAKE together with WP: protecting never wakes. */
	if (protect)
		arg.mode = UFFDIO_WRITEPROTECT_MODE_WP;
	else if (!wake)
		arg.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
	return ioctl(uffd, UFFDIO_WRITEPROTECT, &arg) ? -errno : 0;
}

UMM_FAULT_PATH int uffd_wake(int uffd, uintptr_t start, size_t len)
{
	struct uffdio_range range = { .start = start, .len = len };

	return ioctl(uffd, UFFDIO_WAKE, &range) ? -errno : 0;
}
