/* SPDX-License-Identifier: MIT */
/*
 * libumm - heterogeneous memory management (HMM) in user space
 *
 * Read this file from the top: it introduces one object after the other.
 *
 * A *context* is one managed address space. Memory inside it has ordinary
 * pointers. A *device* (an OpenCL device, a memory node, a test double) owns
 * *device memory*, cut into frames of one page. Every managed page has exactly
 * one home: the system, or a frame of some device memory. Pages *migrate*
 * between homes; a CPU that touches a page whose home it cannot address faults,
 * and the fault brings the page back. Devices keep their own page tables as a
 * *mirror* of the address space, and hear of every change through *notifiers*
 * before the change takes effect. To fill its table a device asks for a *range*,
 * programs what it was told under its own lock, and starts over if a notifier
 * says that the answer grew stale:
 *
 *	again:
 *		range.seq = umm_notifier_read_begin(range.notifier);
 *		ret = umm_range_fault(&range, 100);
 *		if (ret == -EBUSY)
 *			goto again;
 *		if (ret < 0)
 *			return ret;
 *		pthread_mutex_lock(&dev->update);	// invalidate() takes it too
 *		if (umm_notifier_read_retry(range.notifier, range.seq)) {
 *			pthread_mutex_unlock(&dev->update);
 *			goto again;
 *		}
 *		program_device_table(dev, range.entries);
 *		pthread_mutex_unlock(&dev->update);
 *
 * Units: addresses and lengths are bytes, frames and "npages" are pages of
 * umm_page_size() bytes (4096), a block is 2 MiB. Ranges are half open.
 *
 * Errors: functions return 0 (or a count) or a negative errno; errno itself is
 * never part of the contract. One meaning each, library-wide:
 *
 *	-EINVAL      misuse: zero, misaligned, overflowing or unknown argument
 *	-EFAULT      the address is not managed (or not mapped) memory
 *	-EEXIST      the range overlaps managed memory
 *	-ENOENT      nothing in the range qualifies
 *	-EBUSY       invalidated, pinned or still in use: retry
 *	-EAGAIN      not done yet (fences), would sleep (invalidate callbacks), or no thread can be
 *	             started (umm_ctx_create())
 *	-ETIME       the deadline passed
 *	-EPERM       the kernel refuses userfaultfd, or write wanted on read-only memory
 *	-ENOMEM      host memory, descriptors or the kernel's VMA limit exhausted
 *	-ENOSPC      device memory full
 *	-EOPNOTSUPP  operation or kernel feature absent
 *	-ENODEV      no such device, or it is gone, or this process was forked from its owner
 *	-EIO         the device failed; the affected pages are poisoned
 *	-EDEADLK     would wait for itself: called from an invalidate callback though its Context
 *	             says "not from a callback" (what returns no error logs it and does nothing)
 *	-E2BIG       the caller's structure is newer than this library, or its size is no size
 *
 * A handle that is NULL, dead (its object is gone) or of another kind is misuse: -EINVAL, or NULL,
 * 0 or nothing from functions that return no error. That one thread destroys an object while
 * another uses it is not found out: that is for the program to prevent.
 *
 * fork: all private device pages come home before fork() continues, so the child has
 * ordinary memory with the parent's data. The child may read, write and
 * umm_free() it, allocate more, and drop its contexts; devices stay with the
 * parent (-ENODEV). A child that wants devices creates a context of its own. A page
 * that was lost, or that its device does not give back, is SIGBUS in the child; there
 * only unmapping it, or mapping something else over it, ends that. While fork() waits for
 * callbacks, migrations to devices are delayed and go on; no context is made or closed.
 *
 * Signals: handlers may touch managed memory, and must not call libumm unless a function
 * says so. While a thread is inside libumm its signals wait, except during long waits for
 * others. Between umm_migrate_setup() and umm_migrate_finalize() that is the driver's affair, and
 * so it is while a driver has a lock that its callbacks take: hold signals as long.
 * No call is a cancellation point (pthread_cancel()), unless it prints.
 *
 * Structures that the caller fills start with their size; leave what you do not
 * know zero. Sizes other than the library's are accepted as long as no unknown
 * byte is set.
 */
#ifndef UMM_H
#define UMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UMM_VERSION_MAJOR 0
#define UMM_VERSION_MINOR 1
#define UMM_VERSION_PATCH 0

#define UMM_PAGE_SHIFT	12
#define UMM_PAGE_SIZE	((size_t)1 << UMM_PAGE_SHIFT)
#define UMM_BLOCK_SHIFT 21
#define UMM_BLOCK_SIZE	((size_t)1 << UMM_BLOCK_SHIFT)
#define UMM_BLOCK_PAGES 512

#if defined(__GNUC__)
#define UMM_API __attribute__((visibility("default")))
#else
#define UMM_API
#endif

struct umm_ctx;	     /* a managed address space */
struct umm_device;   /* one device, umbrella of its memories and mirrors */
struct umm_devmem;   /* frames of one device memory */
struct umm_mirror;   /* a device's interest in the whole address space */
struct umm_notifier; /* an interest in an interval of it */
struct umm_fence;    /* completion of asynchronous work */

/* ------------------------------------------------------------------------
 * 1. Version, errors, log, and what this kernel offers
 */

/**
 * umm_version() - version of the library in use, as "major.minor.patch"
 *
 * Ownership: static string.
 * Context:   any thread; async-signal-safe.
 * Return:    the string; never NULL.
 * Since:     0.1
 */
UMM_API const char *umm_version(void);

/**
 * umm_strerror() - what an error of this library means, in its own terms
 * @err: a value returned by a libumm function, negative or positive
 *
 * Ownership: static string.
 * Context:   any thread; async-signal-safe.
 * Return:    one line without a newline; never NULL.
 * Since:     0.1
 */
UMM_API const char *umm_strerror(int err);

/**
 * umm_page_size() - the page size that libumm manages, in bytes
 *
 * Ownership: none.
 * Context:   any thread; async-signal-safe.
 * Return:    4096.
 * Since:     0.1
 */
UMM_API size_t umm_page_size(void);

/** Severity of a log line; the environment's UMM_LOG takes the names in lower case. */
enum umm_log_level {
	UMM_LOG_DEFAULT = -1, /* umm_log_set() only: what UMM_LOG says, else warnings and errors */
	UMM_LOG_NONE,
	UMM_LOG_ERROR,	 /* something was lost: a page poisoned, a device broken */
	UMM_LOG_WARNING, /* works, but not as well as it could: a fallback, a refused priority */
	UMM_LOG_INFO,	 /* what was chosen and why */
	UMM_LOG_DEBUG,
};

/**
 * umm_log_set() - send the library's messages somewhere else
 * @fn:    called with one line, at most 511 bytes; what it quotes has '?' for
 *         newlines and other control characters. NULL restores the default: stderr
 * @priv:  handed to @fn
 * @level: messages above it are not produced; before the first call it is
 *         UMM_LOG_DEFAULT
 *
 * Ownership: @fn and @priv are used until the next call of umm_log_set().
 * Context:   any thread. @fn runs on library threads too, fault servers
 *            included: it must not touch managed memory or call libumm.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_log_set(void (*fn)(void *priv, enum umm_log_level level, const char *line),
			 void *priv, enum umm_log_level level);

/**
 * umm_log() - say something where the library's messages go, for backends
 * @level:  UMM_LOG_ERROR to UMM_LOG_DEBUG; of another one nothing is said
 * @format: as printf(); one line without a newline: control characters become '?'. Of one
 *          format at most 20 lines a second get through
 *
 * Ownership: none.
 * Context:   any thread that is not inside a callback of umm_log_set(); not
 *            async-signal-safe.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_log(enum umm_log_level level, const char *format, ...)
#if defined(__GNUC__)
	__attribute__((format(printf, 2, 3)))
#endif
	;

/** Kernel features that libumm uses where it finds them, as bits. */
enum umm_kernel_feature {
	UMM_KERNEL_MOVE = 1 << 0,   /* UFFDIO_MOVE, 6.8; else write-protect, copy, drop */
	UMM_KERNEL_POISON = 1 << 1, /* UFFDIO_POISON, 6.6; else a mapping that raises SIGBUS */
	UMM_KERNEL_PAGEMAP_SCAN = 1 << 2,   /* 6.7; else read /proc/self/pagemap */
	UMM_KERNEL_PROCMAP_QUERY = 1 << 3,  /* 6.11; else parse /proc/self/maps */
	UMM_KERNEL_UFFD_WP = 1 << 4,	    /* write-protect faults, 5.7: required */
	UMM_KERNEL_UFFD_EVENTS = 1 << 5,    /* unmap, remap, remove events, 4.11: required */
	UMM_KERNEL_SYSCALL_FAULTS = 1 << 6, /* faults inside system calls; else they are EFAULT */
};

/** How the process may open a userfaultfd. */
enum umm_uffd_access {
	UMM_UFFD_NONE,		 /* not at all: see umm_probe_info.advice */
	UMM_UFFD_USER_MODE_ONLY, /* system calls that touch a device page fail with EFAULT */
	UMM_UFFD_SYSCALL,	 /* userfaultfd(2) */
	UMM_UFFD_DEVICE,	 /* /dev/userfaultfd */
};

/** What the kernel and the process's permissions allow. Filled by umm_probe(). */
struct umm_probe_info {
	size_t size;
	uint64_t flags;		  /* 0 */
	uint64_t kernel_features; /* enum umm_kernel_feature bits that work here */
	enum umm_uffd_access uffd_access;
	int uffd_error;		 /* 0, or the negative errno that opening gave */
	bool may_raise_priority; /* fault servers may run at nice -20 */
	char kernel_release[64]; /* as uname -r prints */
	char advice[256];	 /* "" or one sentence: what is missing, how to get it */
};

/**
 * umm_probe() - find out what libumm can use in this process
 * @info: in/out. The caller sets size; the rest is filled in.
 *
 * Ownership: none.
 * Context:   any thread; opens and closes a userfaultfd; not async-signal-safe.
 * Return:    0, also where userfaultfd is refused (uffd_access says so);
 *            -EINVAL @info is NULL or its size is 0; -E2BIG.
 * Since:     0.1
 */
UMM_API int umm_probe(struct umm_probe_info *info);

/* ------------------------------------------------------------------------
 * 2. Contexts and memory
 */

/** Flags of struct umm_ctx_options. */
enum umm_ctx_flag {
	/* Whatever memory of the process a request names is managed: ranges and migrations attach
	 * by themselves what nobody has attached. */
	UMM_CTX_WHOLE_PROCESS = 1 << 0,
	/* A thread serves its own faults, in a handler of SIGBUS: see umm_handle_sigbus(). */
	UMM_CTX_FAULTS_IN_THREAD = 1 << 1,
};

/**
 * What comes home beside a page that a CPU missed; docs/policy.md has how they compare. Only
 * pages of PRIVATE memory come, which no CPU can reach where they are.
 */
enum umm_readahead {
	UMM_READAHEAD_DEFAULT, /* what $UMM_READAHEAD names: off, density, stream; else STREAM */
	UMM_READAHEAD_OFF,     /* nothing */
	UMM_READAHEAD_DENSITY, /* what lies around it, where more than a share of that is at home */
	UMM_READAHEAD_STREAM,  /* what comes next, of who goes through memory in equal steps */
};

/**
 * What becomes of a page that a CPU and a device, or two devices, take from each other again and
 * again; docs/policy.md has the constants. Only faults count, no other migrations.
 */
enum umm_thrash {
	UMM_THRASH_DEFAULT,  /* what $UMM_THRASH names: off, pin, throttle; else PIN */
	UMM_THRASH_OFF,	     /* it goes to whoever faults */
	UMM_THRASH_PIN,	     /* if the device can use it in place: a few of the device's faults wait
			      * a moment, then it stays at home for a while, for both */
	UMM_THRASH_THROTTLE, /* likewise; and where it cannot, all of them wait */
};

/** Orders in which the blocks of a full memory go: docs/policy.md compares them. */
enum umm_evict_order {
	UMM_EVICT_DEFAULT,  /* of a memory: its context's; of a context: what $UMM_EVICT_ORDER
			     * names; else ADAPTIVE */
	UMM_EVICT_LRU,	    /* "lru": the one used least recently */
	UMM_EVICT_CLOCK,    /* "clock": second chance */
	UMM_EVICT_S3FIFO,   /* "s3fifo": what a scan brings goes first */
	UMM_EVICT_LIRS,	    /* "lirs": what comes back soonest stays; scans and loops go first */
	UMM_EVICT_ADAPTIVE, /* "adaptive": lirs, lrfu or two others, which missed least lately */
	UMM_EVICT_LRFU,	    /* "lrfu": what is used often stays; uses count less as they age */
};

/** Most of struct umm_ctx_options.thrash_wait_ns. */
#define UMM_THRASH_WAIT_MOST_NS UINT64_C(1000000000)

/** Most of struct umm_ctx_options.readahead_most, in bytes. */
#define UMM_READAHEAD_MOST (UINT64_C(1) << 32)

/** Options of umm_ctx_create(); all zero asks for the defaults. */
struct umm_ctx_options {
	size_t size;
	uint64_t flags;		      /* enum umm_ctx_flag */
	uint64_t kernel_features_off; /* enum umm_kernel_feature: behave as if absent */
	unsigned fault_servers;	      /* threads; 0: one per CPU the process may use, at most 8 */
	unsigned reserved;	      /* 0 */
	size_t frame_cache;	      /* bytes of recycled host frames kept; 0: 1/16 of RAM or of
				       * the memory cgroup's limit, less where RLIMIT_AS is set */
	uint64_t finalize_ns; /* a driver has so many nanoseconds from umm_migrate_setup() to
				       * umm_migrate_finalize(), and to find memory for copies of
				       * what is taken from it for good; 0: 60 s, UINT64_MAX: no
				       * limit */
	enum umm_readahead readahead; /* where no hint says otherwise */
	unsigned readahead_percent;   /* DENSITY: more than so much has to be at home; 0: 51 */
	size_t readahead_most;	      /* bytes that are ahead of a CPU, but for rounding to blocks;
				       * 0: 16 MiB */
	enum umm_thrash thrash;	      /* where no hint says otherwise */
	unsigned thrash_waits;	      /* so often faults wait for a page, then it is pinned; at most
				       * 255, which is never; 0: 10 */
	uint64_t thrash_lapse_ns;     /* faults so far apart are no thrashing; 0: 500 us */
	uint64_t thrash_wait_ns;      /* for so long at most a fault waits; 0: 500 us */
	uint64_t thrash_pin_ns;	      /* for so long a page is pinned; 0: 150 ms */

	/**
	 * admit: a page that a CPU touched is about to come to the host, from private device
	 * memory or empty. Anything but -EAGAIN lets it; that, where may_sleep is false, has a
	 * thread which others do not wait for call again where it is true, and the fault waits.
	 * Pages that come along are not asked for. As with struct umm_mirror_ops, no core lock is
	 * held, and it must not call back into libumm. NULL: all may come.
	 */
	int (*admit)(void *priv, uintptr_t addr, bool may_sleep);
	void *admit_priv;

	/**
	 * failed: mem has not given back pages, of which nlost are lost; or, where that is 0,
	 * it has refused some, which stay where they were. error is what it said of the last of
	 * them, or -EIO; what the program drops meanwhile is not lost. Told before a touch of a
	 * lost page is SIGBUS, and instead of the log. No core lock is held. It runs on any
	 * thread: a fault server, the one that completes the device's copies, or, with
	 * FAULTS_IN_THREAD, that of the touch, in a signal handler and in the middle of whatever
	 * it did. So it must be async-signal-safe (no malloc(), no stdio), and not touch managed
	 * memory, call back into libumm, nor wait. mem is NULL where no device had the pages.
	 * NULL: the log tells.
	 */
	void (*failed)(void *priv, struct umm_devmem *mem, int error, size_t nlost);
	void *failed_priv;

	/* In which blocks leave its memories, where umm_devmem_policy_set() does not say. */
	enum umm_evict_order evict_order;
};

/**
 * umm_ctx_create() - open a managed address space
 * @options: or NULL for the defaults
 * @out:     the context, holding one reference
 *
 * Starts the fault servers. They are pinned to the CPU of the thread that faults, all to
 * one of them where several do, and ask for nice -20; a refusal is logged once.
 *
 * Ownership: the caller owns one reference, dropped by umm_ctx_put().
 * Context:   any thread; may sleep; not async-signal-safe.
 * Return:    0; -EINVAL; -E2BIG; -EPERM or -EOPNOTSUPP userfaultfd is refused or
 *            too old (umm_probe() has the remedy, the log repeats it), or
 *            UMM_CTX_FAULTS_IN_THREAD on a processor other than x86-64; -ENOMEM, also with
 *            more than 64 contexts of that flag; -EAGAIN no thread could be started.
 * Since:     0.1
 */
UMM_API int umm_ctx_create(const struct umm_ctx_options *options, struct umm_ctx **out);

/**
 * umm_ctx_get() - take one more reference
 * @ctx: the context
 *
 * Ownership: the caller owns the new reference.
 * Context:   any thread; not async-signal-safe.
 * Return:    @ctx; NULL it is no live context.
 * Since:     0.1
 */
UMM_API struct umm_ctx *umm_ctx_get(struct umm_ctx *ctx);

/**
 * umm_ctx_put() - drop a reference; the last one closes the context
 * @ctx: or NULL
 *
 * Closing destroys the devices that are left (their pages come home), then
 * unmaps memory of umm_alloc(), gives attached memory back to the kernel
 * with its contents, and removes the notifiers that are left. Where the program has closed
 * descriptors that are the library's, all of it stays as it is, and the log says so.
 *
 * A thread that calls with a context needs a reference that lasts as long: its own, or one that
 * nobody drops meanwhile. Closing beside another call is not guarded against.
 *
 * Ownership: the caller's reference is gone.
 * Context:   any thread but one inside a callback of this context; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_ctx_put(struct umm_ctx *ctx);

/**
 * umm_ctx_trim() - keep fewer recycled host frames
 * @ctx:         the context
 * @frame_cache: as of struct umm_ctx_options, from now on; 0: none. More than the context was
 *               created with counts as that
 *
 * What is kept beyond that goes back to the kernel; blocks that are in use at the moment when they
 * are not any more, single pages when a page that comes home makes them superfluous.
 *
 * Recycled frames were those of pages that have gone to a device. A pipe (vmsplice()), a socket
 * that sends without copying (MSG_ZEROCOPY, IORING_OP_SEND_ZC) or direct I/O of some network file
 * systems refers to frames without a pin that anybody could see: it would read what other pages
 * have there. Who lends memory in such ways has none kept, or holds the pages with umm_pin().
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of frames given back; -EINVAL; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API long umm_ctx_trim(struct umm_ctx *ctx, size_t frame_cache);

/**
 * umm_handle_sigbus() - serve the fault that a SIGBUS stands for
 * @siginfo:  the siginfo_t that the handler was given
 * @ucontext: the context, likewise
 *
 * In a context of UMM_CTX_FAULTS_IN_THREAD the kernel answers a CPU fault by SIGBUS, and the
 * thread that faults brings the page home itself: no other thread has to wake up. It is the
 * fastest way, and has limits:
 * - system calls that touch a page on a device fail with EFAULT: touch it first, or
 *   umm_migrate_to_system();
 * - a thread that blocks SIGBUS, or whose stack is on a device, is killed by its fault;
 * - device ops and callbacks that a fault server may call (UMM_DEVICE_INLINE_COPY, notifiers that
 *   are not blockable), and the log function, run in a signal handler.
 *
 * The first such context of a process installs a handler of SIGBUS, for good; what it does not
 * serve goes to the handler that was there before. A program that installs its own afterwards
 * calls this in it, and returns from the handler where it says 1. Its sa_mask holds the signals
 * whose handlers touch managed memory: while it runs SIGBUS is blocked, and their fault would kill.
 *
 * Ownership: none.
 * Context:   a handler of SIGBUS; async-signal-safe.
 * Return:    1 served: the access is repeated when the handler returns; 0 it is no fault of any
 *            context.
 * Since:     0.1
 */
UMM_API int umm_handle_sigbus(const void *siginfo, void *ucontext);

/** Flags of umm_alloc(). */
enum umm_alloc_flag {
	UMM_ALLOC_SMALL_PAGES = 1 << 0, /* do not ask the kernel for huge pages */
};

/**
 * umm_alloc() - reserve managed memory
 * @ctx:   the context
 * @len:   bytes; rounded up to whole pages
 * @flags: enum umm_alloc_flag, or 0
 * @out:   the first byte; aligned to 2 MiB where @len is at least that, else to a page
 *
 * Memory reads zero and costs nothing until it is touched; reserving 1 TiB is
 * cheap. Until a device first takes part it is ordinary anonymous memory.
 *
 * Ownership: the caller frees it with umm_free().
 * Context:   any thread; may sleep; not async-signal-safe. Works in a forked child.
 * Return:    0; -EINVAL @len is 0 or overflows, unknown flag, bad @ctx; -ENOMEM.
 * Since:     0.1
 */
UMM_API int umm_alloc(struct umm_ctx *ctx, size_t len, uint64_t flags, void **out);

/**
 * umm_free() - unmap memory of umm_alloc() and free its device frames
 * @ctx:  the context
 * @addr: exactly what umm_alloc() returned, or NULL (nothing happens)
 *
 * Mirrors are invalidated (UMM_EVENT_UNMAP) first. Waits for migrations of
 * the range that are in flight. An allocation whose first part the program has unmapped keeps its
 * address until something else is managed there; from then on @addr is that of what is left. The
 * kernel does not tell of parts that no device has used and that the program has unmapped: those
 * are unmapped once more, with whatever has been mapped there since.
 *
 * Ownership: the memory is gone.
 * Context:   any thread, not from a callback; may sleep; works in a forked child.
 * Return:    0; -EFAULT @addr is not the start of a live allocation of @ctx
 *            (a second free, a foreign or attached pointer); -EINVAL bad @ctx.
 * Since:     0.1
 */
UMM_API int umm_free(struct umm_ctx *ctx, void *addr);

/**
 * umm_attach() - manage memory that already exists
 * @ctx:  the context
 * @addr: page aligned, inside mappings of whatever kind but device I/O
 * @len:  bytes, a multiple of the page size
 *
 * Private anonymous memory migrates, and so do pages of private file mappings that the
 * program has written to: their mapping becomes anonymous then. Other file memory, shared and
 * hugetlb memory does not: devices mirror it where it is, and ranges report it with its
 * CPU address.
 *
 * Contents stay. The memory remains the caller's: munmap(), mremap(), madvise() and mprotect()
 * keep working, and are followed where a device has used the memory. Memory that no device has
 * used yet must be detached before it is unmapped: the kernel does not tell of it, and what is
 * mapped there next is managed in its stead. To the kernel, blocks that a device has used (in a
 * context of the whole process: pages), and what is hinted or was prefetched, are mappings of
 * their own: mremap() over the border of one fails with EFAULT; the kernel (6.17 and later) may
 * have moved mappings before that border by then, as it does where any mremap() of several
 * fails. umm_mremap() does it. The stack of a thread that may be in a call of the library is not
 * for another thread to send to a device: it could wait for itself.
 * A mapping that became anonymous has no file behind it any more: after madvise(MADV_DONTNEED) it
 * reads as zeroes, not as the file.
 *
 * Ownership: the memory stays the caller's.
 * Context:   any thread; may sleep; not async-signal-safe.
 * Return:    0; -EINVAL zero, misaligned or overflowing, bad @ctx, or the mapping is of a
 *            kind that cannot be managed (device I/O, [vdso] and the like, frames of a COHERENT
 *            memory); -EFAULT a hole; -EEXIST overlaps memory that @ctx or another context
 *            of the process manages; -ENOMEM.
 * Since:     0.1
 */
UMM_API int umm_attach(struct umm_ctx *ctx, void *addr, size_t len);

/**
 * umm_detach() - stop managing attached memory; its pages come home first
 * @ctx:  the context
 * @addr: what umm_attach() was given
 *
 * Pages whose copies the device refuses with -ENOMEM count as lost once struct
 * umm_ctx_options.finalize_ns has passed.
 *
 * Ownership: the memory stays the caller's.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EFAULT nothing was attached at @addr; -EIO the device lost
 *            pages (they are poisoned, the rest is home); -EINVAL bad @ctx.
 * Since:     0.1
 */
UMM_API int umm_detach(struct umm_ctx *ctx, void *addr);

/**
 * umm_mremap() - mremap(2) of memory that is used by devices, or hinted, in part
 * @addr:    page aligned
 * @old_len: bytes from there on, not 0
 * @len:     bytes that it shall have
 * @flags:   MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP
 * @to:      in: where to, with MREMAP_FIXED; out: where it is
 *
 * To the kernel, memory of which a part is used by devices, or hinted, is several mappings, and
 * mremap(2) moves or grows one. This is for any number of them, of whatever kind, managed or not:
 * they move one after the other, and the last one grows. Whoever interposes mremap() calls this
 * instead. Pages stay where they are: on their device.
 *
 * Other threads may find a part at the new address already and the rest still at the old one. What
 * fails midway moves back, unless the old address is taken meanwhile (the log says so).
 *
 * Ownership: nothing changes hands.
 * Context:   any thread, not from a callback; may sleep; not async-signal-safe.
 * Return:    0; -EINVAL what mremap(2) calls so, or @old_len is 0; -EFAULT a hole; -ENOMEM no
 *            room, or the kernel's limit on mappings is reached; -EDEADLK from a callback; else
 *            what mremap(2) says of one of the mappings (-EPERM: it is sealed).
 * Since:     0.1
 */
UMM_API int umm_mremap(void *addr, size_t old_len, size_t len, int flags, void **to);

/** Home of a page; see docs/design.md for the arrows between them. */
enum umm_page_state {
	UMM_PAGE_UNMANAGED,  /* not of this context */
	UMM_PAGE_EMPTY,	     /* never touched, or dropped since: reads zero */
	UMM_PAGE_SYSTEM,     /* host frame */
	UMM_PAGE_DEVICE,     /* private device frame, CPU unmapped */
	UMM_PAGE_COHERENT,   /* device frame that the CPU maps */
	UMM_PAGE_DUPLICATED, /* host frame, read-only, with identical copies on devices */
	UMM_PAGE_MIGRATING,  /* between two homes */
	UMM_PAGE_POISONED,   /* lost with its device: touching it is SIGBUS */
	UMM_PAGE_MIRRORED,   /* file, shared or hugetlb memory: devices map it where it is */
	UMM_PAGE_EXCLUSIVE,  /* taken from the CPU for a device's atomics; a CPU touch ends it */
	UMM_NR_PAGE_STATES,
};

/** Where one page is. Filled by umm_query(). */
struct umm_page_info {
	enum umm_page_state state;
	uint32_t frame;		/* DEVICE, COHERENT: frame in @mem; else 0 */
	struct umm_devmem *mem; /* DEVICE, COHERENT, one of DUPLICATED; else NULL */
};

/**
 * umm_query() - say where pages live
 * @ctx:    the context
 * @start:  page-aligned address
 * @npages: number of pages
 * @out:    @npages items, filled in
 *
 * A snapshot: it may be out of date on return unless nothing migrates.
 *
 * Ownership: the devmem pointers are borrowed, valid while that memory is.
 * Context:   any thread; not async-signal-safe.
 * Return:    0; -EINVAL misaligned, zero or overflowing, bad @ctx.
 * Since:     0.1
 */
UMM_API int umm_query(struct umm_ctx *ctx, uintptr_t start, size_t npages,
		      struct umm_page_info *out);

/**
 * umm_clear_poison() - repair poisoned pages by writing all of them anew
 * @ctx:    the context
 * @start:  page-aligned address
 * @npages: number of pages
 * @data:   @npages pages of contents; NULL: zeroes
 *
 * Pages of the range that are not poisoned stay as they are.
 *
 * Ownership: @data stays the caller's.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages repaired; -EINVAL misaligned, zero or overflowing, bad @ctx;
 *            -ENOMEM; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API long umm_clear_poison(struct umm_ctx *ctx, uintptr_t start, size_t npages,
			      const void *data);

/* ------------------------------------------------------------------------
 * 3. Fences: completion of asynchronous work
 */

/**
 * umm_fence_create() - a fence for work that the caller will complete
 * @out: the fence, one reference
 *
 * Ownership: the caller owns one reference.
 * Context:   any thread; uses no malloc.
 * Return:    0; -EINVAL @out is NULL; -ENOMEM.
 * Since:     0.1
 */
UMM_API int umm_fence_create(struct umm_fence **out);

/**
 * umm_fence_get() / umm_fence_put() - take and drop references
 * @fence: the fence
 *
 * Ownership: as the names say; umm_fence_put(NULL) does nothing.
 * Context:   any thread.
 * Return:    umm_fence_get(): @fence; NULL it is no live fence.
 * Since:     0.1
 */
UMM_API struct umm_fence *umm_fence_get(struct umm_fence *fence);
UMM_API void umm_fence_put(struct umm_fence *fence);

/**
 * umm_fence_signal() - the work is done; a second signal of a fence is ignored
 * @fence:  the fence
 * @status: 0 or a negative errno; what is neither counts as -EINVAL
 * @value:  a result for umm_fence_value(), for instance pages moved
 *
 * Runs the core's completion of whatever waited for it.
 *
 * Ownership: the caller's reference stays the caller's.
 * Context:   any thread that holds no lock which an op or callback of the same
 *            device takes; not async-signal-safe.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_fence_signal(struct umm_fence *fence, int status, long value);

/**
 * umm_fence_poll() - is it done?
 * @fence: the fence
 *
 * Ownership: none.
 * Context:   any thread.
 * Return:    0 done; -EAGAIN not yet; -EINVAL; or the negative errno it ended with.
 * Since:     0.1
 */
UMM_API int umm_fence_poll(struct umm_fence *fence);

/**
 * umm_fence_wait() - wait until it is done
 * @fence:      the fence
 * @timeout_ms: milliseconds; 0 polls, -1 waits for ever
 *
 * In a callback umm_fence_poll() says whether it is done; the device's own work is waited for there
 * by the driver's own means.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback.
 * Return:    0 done; -ETIME; -EINVAL; -EDEADLK from a callback; or the negative errno it ended
 *            with.
 * Since:     0.1
 */
UMM_API int umm_fence_wait(struct umm_fence *fence, int timeout_ms);

/**
 * umm_fence_value() - the result that came with the signal
 * @fence: the fence
 *
 * Ownership: none.
 * Context:   any thread.
 * Return:    the result, for migrations the number of pages moved; 0 before the signal.
 * Since:     0.1
 */
UMM_API long umm_fence_value(struct umm_fence *fence);

/**
 * umm_fence_eventfd() - a descriptor that becomes readable when it is done
 * @fence: the fence
 *
 * Ownership: the caller closes the descriptor.
 * Context:   any thread.
 * Return:    the descriptor; -EINVAL; -ENOMEM.
 * Since:     0.1
 */
UMM_API int umm_fence_eventfd(struct umm_fence *fence);

/* ------------------------------------------------------------------------
 * 4. Migration in one call
 */

/** A span of memory, in bytes. Misaligned spans grow to whole pages. */
struct umm_span {
	uintptr_t start;
	size_t len;
};

/** Why pages move: counted apart. */
enum umm_cause {
	UMM_CAUSE_EXPLICIT,	/* the program asked */
	UMM_CAUSE_CPU_FAULT,	/* a CPU touched a page that it cannot address */
	UMM_CAUSE_DEVICE_FAULT, /* a device touched a page that it does not have */
	UMM_CAUSE_EVICT,	/* device memory was needed for others */
	UMM_CAUSE_FORK,		/* fork() takes a snapshot */
	UMM_CAUSE_REMOVE,	/* the device or its memory goes away */
	UMM_CAUSE_READAHEAD,	/* a CPU is about to touch them, by what it has missed before */
	UMM_NR_CAUSES,
};

/** Flags of struct umm_migrate_request and struct umm_migrate. */
enum umm_migrate_flag {
	UMM_MIGRATE_DUPLICATE = 1 << 0,	      /* copy to the device, keep a read-only system page */
	UMM_MIGRATE_NO_EVICT = 1 << 1,	      /* stop with what fits instead of evicting others */
	UMM_MIGRATE_SELECT_SYSTEM = 1 << 2,   /* umm_migrate_setup(): sources that qualify */
	UMM_MIGRATE_SELECT_PRIVATE = 1 << 3,  /*   private pages (of @owner, if one is given) */
	UMM_MIGRATE_SELECT_COHERENT = 1 << 4, /*   coherent pages (likewise) */
	UMM_MIGRATE_READ = 1 << 6,  /* the device is going to read them: those that are hinted
				    * READ_MOSTLY are copied, as with DUPLICATE */
	UMM_MIGRATE_AHEAD = 1 << 5, /* nobody has missed these pages yet: those stay that are not
				     * to be pulled ahead, see umm_advise(), that are on their
				     * way already, and that a callback would have to sleep for */
};

/** A request for umm_migrate_spans(). */
struct umm_migrate_request {
	size_t size;
	uint64_t flags; /* UMM_MIGRATE_DUPLICATE, UMM_MIGRATE_NO_EVICT, UMM_MIGRATE_READ,
			 * UMM_MIGRATE_AHEAD */
	const struct umm_span *spans;
	size_t nspans;
	struct umm_devmem *dst; /* NULL: system memory */
	enum umm_cause cause;
};

/**
 * umm_migrate_spans() - move many spans to a device memory, or home
 * @ctx:   the context
 * @req:   what and where to
 * @fence: where to put a fence to wait for; NULL waits here
 *
 * Pages that are there already, pinned by others, poisoned, or that do not fit
 * stay where they are. A page that was never touched gets a cleared device frame.
 * Several blocks are in flight at a time.
 *
 * Ownership: @req and its spans are not used after the return. The caller drops *fence.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages moved (with @fence: 0; umm_fence_value() has
 *            it); -EINVAL; -EFAULT nothing of the spans is managed (-EINVAL: it is
 *            a special mapping, such as device I/O); -ENOSPC no page fitted;
 *            -ENODEV; -EIO; -ENOMEM.
 * Since:     0.1
 */
UMM_API long umm_migrate_spans(struct umm_ctx *ctx, const struct umm_migrate_request *req,
			       struct umm_fence **fence);

/**
 * umm_migrate_to_device() - move one span to a device memory and wait
 * @ctx: the context
 * @dst: the device memory
 * @addr: first byte
 * @len: bytes
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    as umm_migrate_spans().
 * Since:     0.1
 */
UMM_API long umm_migrate_to_device(struct umm_ctx *ctx, struct umm_devmem *dst, void *addr,
				   size_t len);

/**
 * umm_migrate_to_system() - bring one span home and wait
 * @ctx: the context
 * @addr: first byte
 * @len: bytes
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    as umm_migrate_spans().
 * Since:     0.1
 */
UMM_API long umm_migrate_to_system(struct umm_ctx *ctx, void *addr, size_t len);

/**
 * umm_bring_home() - bring every page of the context home, for instance before a core dump
 * @ctx: the context
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages moved; -EIO some were lost and are poisoned; -ENOMEM some
 *            stayed for want of host memory: ask again; -EINVAL; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API long umm_bring_home(struct umm_ctx *ctx);

/** Bits of umm_page_place.flags. */
enum umm_place_flag {
	UMM_PLACE_DIRTY = 1 << 0, /* its data is nowhere else: it is copied where it is moved */
	/* Others hold it where it is: umm_pin(), or who kept it when it was last asked to move. */
	UMM_PLACE_HELD = 1 << 1,
};

/** Where one page is, and how it came there. Filled by umm_locate(). */
struct umm_page_place {
	struct umm_devmem *mem;	   /* as in struct umm_page_info, */
	uint32_t frame;		   /* likewise, */
	enum umm_page_state state; /* likewise */
	int32_t node;	/* memory node of what the CPU maps, by the kernel; -1: nothing is
				 * mapped, or the kernel does not say */
	int32_t cause;	/* enum umm_cause of its last migration; -1: there was none that
				 * is known. A mapping that moves forgets it */
	uint32_t order; /* log2 of the pages that lie in one device frame with it: 0 or 9 */
	uint32_t flags; /* enum umm_place_flag */
};

/**
 * umm_locate() - say where pages live, on which node, and why
 * @ctx:    the context
 * @start:  page-aligned address
 * @npages: number of pages
 * @out:    @npages items, filled in
 *
 * As umm_query(), and asks the kernel for the node of every page that is mapped.
 *
 * Ownership: the devmem pointers are borrowed, valid while that memory is.
 * Context:   any thread, not from a callback; not async-signal-safe.
 * Return:    0; -EINVAL misaligned, zero or overflowing, bad @ctx; -EDEADLK from a callback.
 * Since:     0.1
 */
UMM_API int umm_locate(struct umm_ctx *ctx, uintptr_t start, size_t npages,
		       struct umm_page_place *out);

/** Most nodes that struct umm_range_place tells apart. */
#define UMM_PLACE_NODES 64

/** How many pages of a range are where. Filled by umm_locate_range(). */
struct umm_range_place {
	size_t size;
	uint64_t flags; /* 0 */
	uint64_t npages;
	uint64_t state[UMM_NR_PAGE_STATES]; /* pages by enum umm_page_state */
	uint64_t huge;			    /* of order 9 */
	uint64_t dirty;
	uint64_t held;
	uint64_t cause[UMM_NR_CAUSES];	/* pages by their last migration */
	uint64_t node[UMM_PLACE_NODES]; /* mapped pages by memory node */
};

/**
 * umm_locate_range() - umm_locate(), summed up
 * @ctx:   the context
 * @start: page-aligned address
 * @len:   bytes, a multiple of the page size
 * @out:   the caller sets size; the rest is filled in
 *
 * Ownership: none.
 * Context:   as umm_locate().
 * Return:    0; -EINVAL; -E2BIG; -EDEADLK from a callback.
 * Since:     0.1
 */
UMM_API int umm_locate_range(struct umm_ctx *ctx, uintptr_t start, size_t len,
			     struct umm_range_place *out);

/* ------------------------------------------------------------------------
 * 5. Devices and their memory
 */

/** Direction of a copy. */
enum umm_copy_dir {
	UMM_COPY_TO_DEVICE,   /* host -> frames; host == NULL: clear the frames */
	UMM_COPY_FROM_DEVICE, /* frames -> host */
};

/** Flags of a copy. */
enum umm_copy_flag {
	UMM_COPY_MAY_STAY = 1 << 0, /* FROM_DEVICE: nobody waits for the pages at home */
};

/** One contiguous copy between host memory and device frames. */
struct umm_copy {
	enum umm_copy_dir dir;
	uint32_t npages;
	struct umm_devmem *mem;
	uint32_t frame; /* first frame; the frames are contiguous */
	uint32_t flags; /* enum umm_copy_flag; the same for all copies of a call */
	void *host;	/* page aligned; never managed memory that could fault */
};

#define UMM_DEVICE_API 1

/**
 * struct umm_device_ops - what a device does for the core
 *
 * No core lock is held when an op runs, but for those that say so. Ops may run on several threads
 * at once, of the program's with signals blocked. A device's own thread that completes copies
 * should block them too: a handler that touches a page of the device would wait for its own thread.
 */
struct umm_device_ops {
	size_t size;	  /* sizeof(struct umm_device_ops) */
	uint32_t api;	  /* UMM_DEVICE_API */
	const char *name; /* static string, for people: "opencl", "reference" */

	/**
	 * copy: required. Start @ncopies copies and signal @done, exactly once,
	 * when all of them are complete: 0, or a negative errno if any failed. Their pages wait for
	 * @done: the op moves, frees, evicts and removes nothing, which would wait for it.
	 * @copies is gone after the return. May signal before it returns.
	 * A device created with UMM_DEVICE_INLINE_COPY copies at least a single page
	 * before it returns, with plain CPU loads and stores and without taking any
	 * lock; then the op also runs on fault servers, for 16 pages of a block at most.
	 * Return: 0, or a negative errno and @done will never be signalled. -ENOMEM: there is no
	 * host memory to begin with; the pages stay where they are, and a CPU that needs one
	 * asks again. Who knows of a limit on host memory does well to say so where the copies have
	 * UMM_COPY_MAY_STAY. Any other error is the device's, as if @done were signalled with it.
	 */
	int (*copy)(void *priv, const struct umm_copy *copies, unsigned ncopies,
		    struct umm_fence *done);

	/**
	 * page_free: optional. The last user of these frames is gone; the
	 * frames may be handed out again once the op returns. Whoever removes the memory, or its
	 * device, waits for the op: it does neither itself.
	 */
	void (*page_free)(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes);

	/** destroy: optional. The last call: nothing of the device is in use any more. */
	void (*destroy)(void *priv);

	/**
	 * quiesce: optional. umm_device_destroy() begins: start no new work, and
	 * return when no thread of the driver uses the device's memories,
	 * mirrors and notifiers any more. May sleep and call libumm.
	 */
	void (*quiesce)(void *priv);

	/**
	 * memory_failure: optional. @frame is gone for good, as umm_memory_failure() was told:
	 * once for each frame, before its page is taken from the program. It does not remove the
	 * memory or the device, which would wait for it.
	 */
	void (*memory_failure)(void *priv, struct umm_devmem *mem, uint32_t frame);

	/**
	 * populate: optional. Frames of @mem are about to be used for the first time,
	 * up to 512 of them: make their memory real. Without it those of a COHERENT
	 * memory get what the kernel has. Unlike other ops it runs under a lock of the
	 * core: it calls nothing of libumm but umm_log().
	 * Return: 0; -ENOSPC there is no such memory now: others are used, or evicted,
	 * and these are asked for again later; or another negative errno.
	 */
	int (*populate)(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes);

	/**
	 * place: optional, for COHERENT memories on kernels without UFFDIO_MOVE, where
	 * the kernel makes a page for the program instead of taking a frame. The calling
	 * thread begins, or ends, to let the kernel make pages that stand for frames of
	 * @mem: set its memory policy. Runs under locks of the core: calls nothing of
	 * libumm.
	 */
	void (*place)(void *priv, struct umm_devmem *mem, bool begin);

	/**
	 * accessed: optional. Pages of @start .. @end, which umm_advise() was told that the
	 * device accesses, have just been hinted or have moved: map what is there, as
	 * umm_range_snapshot() says, so that the device need not miss it. Runs on a thread of the
	 * library, may sleep and call libumm, but for waiting for a fence of umm_migrate_spans(),
	 * which the same thread may have to signal. umm_device_destroy() waits for it before it
	 * calls quiesce: neither that nor umm_prefetch() without a fence is for the op to call.
	 */
	void (*accessed)(void *priv, uintptr_t start, uintptr_t end);

	/**
	 * frame_host: optional, for PRIVATE memories. Where the CPU can write what goes into
	 * @frame, which nobody uses yet: a page that is duplicated is then read straight into
	 * it, and no copy is asked for. It stays there until the frame is free again. Calls
	 * nothing of libumm but umm_devmem_priv().
	 * Return: UMM_PAGE_SIZE bytes; NULL: copy.
	 */
	void *(*frame_host)(void *priv, struct umm_devmem *mem, uint32_t frame);

	/**
	 * unpopulate: optional. Undo what populate did to these frames, all of them free: their
	 * memory goes back, and populate is called before one of them is used again. Without it
	 * frames keep their memory. Runs under the same lock as populate.
	 */
	void (*unpopulate)(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes);
};

/** Flags of umm_device_create(). */
enum umm_device_flag {
	UMM_DEVICE_INLINE_COPY = 1 << 0, /* see umm_device_ops.copy */
	/* It can use what the CPU addresses where it is, system pages and the COHERENT frames of
	 * others: what hints keep there it maps instead. Pages come to other devices, whatever is
	 * hinted. */
	UMM_DEVICE_IN_PLACE = 1 << 1,
};

/**
 * umm_device_create() - add a device to a context
 * @ctx:   the context
 * @ops:   the operations; copied
 * @priv:  handed to every op
 * @flags: enum umm_device_flag
 * @out:   the device
 *
 * Ownership: the caller destroys it; closing the context does so otherwise. @priv
 *            is used until ops->destroy returns.
 * Context:   any thread; may sleep.
 * Return:    0; -EINVAL a required op or the name is missing, unknown flag, unknown api;
 *            -E2BIG; -ENOMEM; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API int umm_device_create(struct umm_ctx *ctx, const struct umm_device_ops *ops, void *priv,
			      uint64_t flags, struct umm_device **out);

/**
 * umm_device_destroy() - take a device away; its pages come home
 * @dev: or NULL
 *
 * May be called while other threads use the device's pages. Calls ops->quiesce, removes
 * its memories, then its mirrors (release), then calls ops->destroy. Pages that the device
 * fails to give back are poisoned, as for umm_detach(). Waits for the copies that the device has
 * accepted: one that is broken has to signal them with an error (the log tells of a wait that is
 * long). Where the program has closed descriptors that are the library's, nothing of this happens,
 * as the log says.
 *
 * Ownership: @dev and its memories and mirrors are gone.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_device_destroy(struct umm_device *dev);

/**
 * umm_device_priv(), umm_device_name() - the @priv of umm_device_create(), and ops->name
 * @dev: the device
 *
 * Ownership: both are the driver's.
 * Context:   any thread.
 * Return:    as the names say; NULL @dev is no live device.
 * Since:     0.1
 */
UMM_API void *umm_device_priv(struct umm_device *dev);
UMM_API const char *umm_device_name(struct umm_device *dev);

/** Kinds of device memory. */
enum umm_devmem_type {
	UMM_DEVMEM_PRIVATE,  /* the CPU cannot address it: a CPU touch brings the page home */
	UMM_DEVMEM_COHERENT, /* the CPU addresses it: a CPU touch finds it in place */
};

/** Flags of umm_devmem_add(). */
enum umm_devmem_flag {
	/* Each frame is for one page: frame 0 for that at @start, and so on. The memory holds a
	 * range of addresses in one piece, and no other pages. PRIVATE only. */
	UMM_DEVMEM_PLACED = 1 << 0,
};

/** Options of umm_devmem_add(). */
struct umm_devmem_options {
	size_t size;
	uint64_t flags; /* enum umm_devmem_flag */
	enum umm_devmem_type type;
	uint32_t nframes; /* pages */
	void *base;	  /* COHERENT: the frames as the CPU sees them: private anonymous memory,
				 * mapped for reading and writing (by ops->populate at the latest),
				 * 2 MiB aligned, neither managed
				 * nor another memory's, by any context of the process; the core
				 * moves frames out of it and back. PRIVATE: NULL */
	uintptr_t start;  /* PLACED: the page that frame 0 is for, page aligned; else 0 */
};

/**
 * umm_devmem_add() - give frames of a device to the core
 * @dev:     the device
 * @options: what they are
 * @out:     the memory
 *
 * Ownership: as the device; base stays the caller's, who must leave it alone
 *            until umm_devmem_remove() returns.
 * Context:   any thread; may sleep.
 * Return:    0; -EINVAL, also where base is not as above; -EFAULT there is a hole in it;
 *            -E2BIG; -ENOMEM; -ENODEV.
 * Since:     0.1
 */
UMM_API int umm_devmem_add(struct umm_device *dev, const struct umm_devmem_options *options,
			   struct umm_devmem **out);

/**
 * umm_devmem_remove() - take a memory away while in use: its pages come home first
 * @mem: or NULL
 *
 * Pages that the device fails to give back are poisoned, as for umm_detach().
 *
 * Ownership: @mem is gone.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_devmem_remove(struct umm_devmem *mem);

/**
 * umm_devmem_device(), umm_devmem_priv_set(), umm_devmem_priv() - the device; a driver's word
 * @mem:  the memory
 * @priv: the word: handed out again by umm_devmem_priv(); NULL at first
 *
 * Ownership: the device is borrowed; @priv is the driver's.
 * Context:   any thread; who sets the word while others read it orders that.
 * Return:    as the names say; NULL @mem is no live memory.
 * Since:     0.1
 */
UMM_API struct umm_device *umm_devmem_device(struct umm_devmem *mem);
UMM_API void umm_devmem_priv_set(struct umm_devmem *mem, void *priv);
UMM_API void *umm_devmem_priv(struct umm_devmem *mem);

/**
 * umm_devmem_nframes(), umm_devmem_nfree() - frames in all, and frames free now
 * @mem: the memory
 *
 * Ownership: none.
 * Context:   any thread; does not sleep.
 * Return:    as the names say; 0 @mem is no live memory.
 * Since:     0.1
 */
UMM_API uint32_t umm_devmem_nframes(struct umm_devmem *mem);
UMM_API uint32_t umm_devmem_nfree(struct umm_devmem *mem);

/**
 * umm_devmem_alloc() - allocate frames, for drivers that migrate by umm_migrate_setup()
 * @mem:     the memory
 * @nframes: how many
 * @frames:  filled in; contiguous and 2 MiB aligned when @nframes is 512 and such a run is free
 *
 * Evicts nothing; see umm_devmem_evict().
 *
 * Ownership: the caller's, until umm_migrate_pages() takes them or umm_devmem_free().
 * Context:   any thread; may sleep: ops->populate is called for frames that are new.
 * Return:    0; -EINVAL, also of a PLACED memory; -ENOSPC (none was allocated); -ENODEV; -ENOMEM;
 *            or what populate returned.
 * Since:     0.1
 */
UMM_API int umm_devmem_alloc(struct umm_devmem *mem, uint32_t nframes, uint32_t *frames);

/**
 * umm_devmem_free() - give back frames of umm_devmem_alloc() that were not used
 * @mem:     the memory
 * @nframes: how many
 * @frames:  their numbers; others than the driver's (free ones, pages') are left alone, and
 *           logged
 *
 * Ownership: the frames are the core's.
 * Context:   any thread; does not sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_devmem_free(struct umm_devmem *mem, uint32_t nframes, const uint32_t *frames);

/**
 * umm_devmem_evict() - bring blocks home, in the memory's order of eviction
 * @mem:     the memory
 * @nframes: stop when this many frames are free
 *
 * The block that has this thread's stack stays.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -ENOSPC nothing more can be evicted; -EINVAL more than there are.
 * Since:     0.1
 */
UMM_API int umm_devmem_evict(struct umm_devmem *mem, uint32_t nframes);

/**
 * umm_devmem_trim() - give the memory of free frames back
 * @mem: the memory
 *
 * Of a memory whose device has both ops->populate and ops->unpopulate. Frames are given back 512 at
 * a time, where all of these are free; they get memory again when they are used next. libumm
 * does so by itself where host memory is short for pages that are to come home.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback or an op; may sleep: ops->unpopulate is called.
 * Return:    how many frames were given back; -EINVAL; -ENODEV @mem is being removed, or in a
 *            forked child; -EDEADLK from a callback.
 * Since:     0.1
 */
UMM_API long umm_devmem_trim(struct umm_devmem *mem);

/**
 * umm_memory_failure() - frames are gone for good
 * @mem:     the memory
 * @frame:   the first
 * @nframes: how many
 *
 * Pages in these frames are lost: mirrors hear UMM_EVENT_CLEAR, pins forget them, and touching
 * one is SIGBUS, or -EFAULT for a device, until umm_clear_poison() or until the program drops or
 * unmaps it. Without UMM_KERNEL_POISON a dropped page may still be SIGBUS for a moment after
 * madvise() has returned, MADV_FREE fails with EINVAL, and mremap() with MREMAP_DONTUNMAP leaves
 * SIGBUS at the old address, too. Of a duplicated page only the copies end. The frames are never
 * handed out again, nor counted as free. ops->memory_failure is called once for each frame.
 *
 * Ownership: the frames are nobody's.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages that were lost; -EINVAL no such frames; -ENODEV; -ENOMEM.
 * Since:     0.1
 */
UMM_API long umm_memory_failure(struct umm_devmem *mem, uint32_t frame, uint32_t nframes);

/**
 * umm_migrate_device_range() - bring home what is in these frames, for suspend or unplug
 * @mem:     the memory
 * @frame:   the first
 * @nframes: how many
 *
 * Duplications with copies there end. Pinned pages stay (UMM_COUNT_BUSY). Whoever keeps on
 * migrating to the memory meanwhile may find new pages there afterwards.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages moved; -EINVAL no such frames; -EIO the device lost some (they
 *            are poisoned, the rest is home); -ENODEV.
 * Since:     0.1
 */
UMM_API long umm_migrate_device_range(struct umm_devmem *mem, uint32_t frame, uint32_t nframes);

/** How a memory makes room. All zero is how one begins. */
struct umm_devmem_policy {
	size_t size;
	uint64_t flags; /* 0 */
	enum umm_evict_order order;
	uint32_t low_free;  /* when fewer frames are free, evict ahead of need in the background, */
	uint32_t high_free; /* until so many are; 0 and 0: only what is needed, when it is */
};

/**
 * umm_devmem_policy_set(), umm_devmem_policy() - choose how a memory makes room; read it back
 * @mem:    the memory
 * @policy: what is wanted from now on
 * @out:    filled in; @size is the caller's. The order is that in use: UMM_EVICT_DEFAULT is one
 *          that has no number
 *
 * An order of UMM_EVICT_DEFAULT is that of the context (struct umm_ctx_options), else of the
 * environment. The blocks that are there keep their turn when the order changes. Evicting ahead
 * takes, like any eviction, only what was last used before the request that took the frames began.
 *
 * Ownership: none.
 * Context:   any thread; does not sleep.
 * Return:    0; -EINVAL @mem is no live memory, an unknown order or flag, @low_free above
 *            @high_free, or that above the number of frames; -E2BIG; -ENOMEM; -ENODEV.
 * Since:     0.1
 */
UMM_API int umm_devmem_policy_set(struct umm_devmem *mem, const struct umm_devmem_policy *policy);
UMM_API int umm_devmem_policy(struct umm_devmem *mem, struct umm_devmem_policy *out);

/**
 * umm_devmem_record(), umm_devmem_recorded() - record what the order of eviction hears
 * @mem:   the memory
 * @nuses: room for so many uses: a block came, or was touched. Recording ends when it is used up;
 *         0 ends it at once, and forgets. Of umm_devmem_recorded(): room in @out
 * @out:   the address of each block, in the order of use
 *
 * What was recorded before is forgotten. A use takes 8 bytes and one store. umm-sim(1) replays it.
 *
 * Ownership: none.
 * Context:   any thread; does not sleep.
 * Return:    0; -EINVAL @mem is no live memory, or there are more than 2^30 uses; -ENOMEM; -ENODEV.
 *            umm_devmem_recorded(): how many are in @out; 0 also where @mem is no live memory.
 * Since:     0.1
 */
UMM_API int umm_devmem_record(struct umm_devmem *mem, size_t nuses);
UMM_API size_t umm_devmem_recorded(struct umm_devmem *mem, uintptr_t *out, size_t nuses);

/**
 * umm_trace() - record in a file what happens to pages and blocks, in this process
 * @path:    the file: made anew, and an older one of that name is gone. NULL ends the recording
 * @nevents: room for so many; what happens when it is used up is counted, and not recorded.
 *           0: 2^20, which is 8 MiB
 *
 * Recorded are the blocks of 2 MiB that come to a device memory, are used there, leave and are
 * evicted; the pages that a CPU misses, and that move. umm-sim(1) replays it. An event takes 8
 * bytes and a store; the disk space is taken at once, and what was recorded survives the process.
 * UMM_TRACE in the environment does the same from the first context on, with "%p" in it for the
 * process, and room for UMM_TRACE_EVENTS. A forked child records nothing. The file must not be
 * shortened while it is recorded to: the next event would be a SIGBUS.
 *
 * Ownership: @path is read before the call returns.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL @path is empty, or @nevents above 2^30; -EBUSY a recording is going on, or
 *            begins or ends just now; -EEXIST something that is no regular file has that name;
 *            -ENOMEM; -EDEADLK from a callback; or what open(2), unlink(2) or
 *            posix_fallocate(3) say.
 * Since:     0.1
 */
UMM_API int umm_trace(const char *path, size_t nevents);

/**
 * umm_devmem_touch() - the device used this span: the order of eviction hears of it
 * @mem:   the memory
 * @start: first byte
 * @len:   bytes
 *
 * Ownership: none.
 * Context:   any thread; does not sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_devmem_touch(struct umm_devmem *mem, uintptr_t start, size_t len);

/* ------------------------------------------------------------------------
 * 6. Mirrors and notifiers: hearing of changes before they happen
 */

/** What is about to change. */
enum umm_event {
	UMM_EVENT_UNMAP,	   /* the range goes away: tables may be freed */
	UMM_EVENT_CLEAR,	   /* contents dropped (MADV_DONTNEED, MADV_FREE, MADV_REMOVE) */
	UMM_EVENT_PROTECTION_PAGE, /* write permission of single pages changes */
	UMM_EVENT_MIGRATE,	   /* pages change their home; see @owner */
	UMM_EVENT_PROTECTION_VMA,  /* a mapping allows less (mprotect): announced by interposers, or
				    * found by the next call that looks */
	UMM_EVENT_EXCLUSIVE,	   /* exclusive access of @owner begins or ends */
	/* The kernel's soft-dirty bits are cleared, which stores in place set again: announced by
	 * whoever does it, by nobody else. */
	UMM_EVENT_SOFT_DIRTY,
	/* What kept pages from devices has ended (umm_advise()): what is used in place is to be
	 * faulted on once more, which decides anew. */
	UMM_EVENT_ADVICE,
	/* The context goes away: the last call on an interval notifier that nobody has removed.
	 * Mirrors hear release instead. */
	UMM_EVENT_RELEASE,
	UMM_NR_EVENTS,
};

/** One announcement, valid during the callback. */
struct umm_notifier_range {
	uintptr_t start;
	uintptr_t end;
	enum umm_event event;
	struct umm_device *owner; /* MIGRATE: the device that pages go to; NULL: they go home. A
				   * device may ignore migrations *to* it that it asked for */
	/* False: the callback must not sleep; -EAGAIN asks to be called again where it may, for
	 * what has changed already, or somebody has asked for; other pages that this notifier
	 * watches stay as they are, and others are told meanwhile. There it may wait for the
	 * program: up to 64 threads of the library that do hold up no others. */
	bool blockable;
};

/** Callbacks of a mirror. Both required. No core lock is held; signals are. */
struct umm_mirror_ops {
	size_t size;

	/**
	 * invalidate: forget every translation in the range, and return only
	 * when the device has stopped using them. It must not fail: -EAGAIN
	 * only where blockable is false; any other value is taken for 0.
	 * It must not call back into libumm except umm_fence_signal().
	 */
	int (*invalidate)(void *priv, const struct umm_notifier_range *range);

	/** release: the last call on this mirror; none runs beside or after it. */
	void (*release)(void *priv);
};

/**
 * umm_mirror_register() - hear of every change of the address space
 * @dev: the device that mirrors
 * @ops: copied
 * @priv: handed to the callbacks
 * @out: the mirror
 *
 * Ownership: the caller unregisters it; destroying the device does so otherwise.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -E2BIG; -ENOMEM; -ENODEV; -EDEADLK from a callback.
 * Since:     0.1
 */
UMM_API int umm_mirror_register(struct umm_device *dev, const struct umm_mirror_ops *ops,
				void *priv, struct umm_mirror **out);

/**
 * umm_mirror_unregister() - stop; calls release, after which no callback runs
 * @mirror: or NULL
 *
 * Waits for callbacks of this mirror, and of no other. In a forked child nothing is called: the
 * driver's state is the parent's.
 *
 * Ownership: @mirror is gone.
 * Context:   any thread; may sleep.
 * Return:    0; -EDEADLK from inside a callback: nothing happened; -EINVAL it
 *            is no live mirror, or its release is running.
 * Since:     0.1
 */
UMM_API int umm_mirror_unregister(struct umm_mirror *mirror);

/**
 * umm_mirror_notifier() - the notifier over the whole address space that backs a mirror
 * @mirror: the mirror
 *
 * Ownership: borrowed; gone with @mirror, and not to be removed.
 * Context:   any thread.
 * Return:    the notifier; NULL @mirror is no live mirror.
 * Since:     0.1
 */
UMM_API struct umm_notifier *umm_mirror_notifier(struct umm_mirror *mirror);

/** Callback of an interval notifier; as umm_mirror_ops.invalidate. */
struct umm_notifier_ops {
	size_t size;
	int (*invalidate)(void *priv, const struct umm_notifier_range *range);
};

/**
 * umm_notifier_insert() - hear of changes between @start and @end
 * @ctx: the context
 * @span: what to watch; need not be managed (yet)
 * @ops: copied
 * @priv: handed to the callback
 * @out: the notifier
 *
 * Ownership: the caller removes it; closing the context does so otherwise, with
 *            UMM_EVENT_RELEASE over all addresses as the last call (not in a forked child).
 * Context:   any thread, a callback too; may sleep.
 * Return:    0; -EINVAL; -E2BIG; -ENOMEM; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API int umm_notifier_insert(struct umm_ctx *ctx, const struct umm_span *span,
				const struct umm_notifier_ops *ops, void *priv,
				struct umm_notifier **out);

/**
 * umm_notifier_remove() - stop; no callback runs after the return
 * @notifier: or NULL
 *
 * Waits for callbacks of this notifier, and of no other.
 *
 * Ownership: @notifier is gone.
 * Context:   any thread; may sleep.
 * Return:    0; -EDEADLK from inside a callback: nothing happened; -EINVAL it is no
 *            live notifier, or a mirror's.
 * Since:     0.1
 */
UMM_API int umm_notifier_remove(struct umm_notifier *notifier);

/**
 * umm_notifier_read_begin() - start a snapshot: waits while an invalidation is under way
 * @notifier: the notifier
 *
 * Every munmap(), mremap() or madvise() of managed memory that has returned before this
 * call has been announced when it returns: call it before a device starts to run, too.
 *
 * From a callback it waits for nothing: what is under way makes its number a stale one.
 *
 * Ownership: none.
 * Context:   any thread; may sleep.
 * Return:    a sequence number for umm_notifier_read_retry(); 0 @notifier is no live one.
 * Since:     0.1
 */
UMM_API uint64_t umm_notifier_read_begin(struct umm_notifier *notifier);

/**
 * umm_notifier_read_retry() - did anything change since @seq was read?
 * @notifier: the notifier
 * @seq:      of umm_notifier_read_begin()
 *
 * Call it with the lock held that the invalidate callback takes.
 *
 * Ownership: none.
 * Context:   any thread; sleeps no longer than an event of the kernel's takes to be read.
 * Return:    true: what was read since is stale, start over. Also where @notifier is no live
 *            notifier: umm_range_fault() then says so.
 * Since:     0.1
 */
UMM_API bool umm_notifier_read_retry(struct umm_notifier *notifier, uint64_t seq);

/**
 * umm_notifier_refresh() - hear of what the program has forbidden by mprotect()
 * @notifier: the notifier
 *
 * The kernel does not tell of mprotect(). It is asked whenever a device looks at pages, faults or
 * has them migrated. Who uses what it found out earlier, since umm_notifier_read_retry() says that
 * nothing has changed, asks by this: where mappings of the notifier's interval allow less than the
 * entries that were given out, UMM_EVENT_PROTECTION_VMA is announced before it returns. Who would
 * have to sleep for it hears of it from another thread; umm_notifier_read_begin() waits for that.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep. No lock is held that callbacks take.
 * Return:    0; -EINVAL; -EDEADLK in a callback; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API int umm_notifier_refresh(struct umm_notifier *notifier);

/**
 * umm_in_callback() - is this thread inside of an invalidate callback?
 *
 * What waits for pages, or for callbacks, would wait for this very thread then: backends and
 * drivers whose own functions do ask first, and answer -EDEADLK.
 *
 * Ownership: none.
 * Context:   any thread; async-signal-safe.
 * Return:    true: of any notifier or mirror, of any context.
 * Since:     0.1
 */
UMM_API bool umm_in_callback(void);

/** An announced change that has not happened yet. */
struct umm_invalidation;

/**
 * umm_invalidate_range_start() - announce a change that the kernel does not tell libumm of
 * @ctx:   the context
 * @range: what will change, in whole pages, and how; blockable must be true
 * @out:   to be given to umm_invalidate_range_end() once it has happened
 *
 * For interposers of munmap(), mprotect(), mremap() and madvise(), and for who writes to
 * /proc/self/clear_refs, as the kernel's function of that name. Memory that devices have used
 * announces everything but permission changes by itself; file, shared and hugetlb memory only
 * since Linux 6.7. Every mirror and notifier concerned is called before the return; snapshots
 * taken meanwhile are stale, and umm_notifier_read_begin() waits for the end.
 *
 * Ownership: @out is the caller's until umm_invalidate_range_end(), or its context's end.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL, also of UMM_EVENT_RELEASE, or where addresses are not those of pages;
 *            -ENOMEM; -ENODEV in a forked child; -EDEADLK from a callback.
 * Since:     0.1
 */
UMM_API int umm_invalidate_range_start(struct umm_ctx *ctx, const struct umm_notifier_range *range,
				       struct umm_invalidation **out);

/**
 * umm_invalidate_range_end() - the change has happened
 * @ctx:          the context
 * @invalidation: of umm_invalidate_range_start(); NULL, or one that has ended: nothing happens
 *
 * After UMM_EVENT_UNMAP, file and shared memory of the range is no longer managed.
 *
 * Ownership: @invalidation is gone.
 * Context:   any thread, a callback too; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_invalidate_range_end(struct umm_ctx *ctx, struct umm_invalidation *invalidation);

/* ------------------------------------------------------------------------
 * 7. Ranges: what a device may put into its page table
 */

/**
 * Bits of an entry. Bits 12 and up are the page's CPU address (address & ~0xfff) where
 * neither DEVICE nor COHERENT is set, else the frame number << 12. Of a page that the range's
 * owner has exclusively it is the address that umm_make_exclusive() gave.
 *
 * At its CPU address a page is only for as long as the program leaves it there, and of munmap()
 * a device hears afterwards. So a driver uses it there by calls that answer EFAULT, such as
 * process_vm_readv(), and with no lock held that an invalidate callback takes: a touch may have to
 * wait for the core, and the core for the callback. Frames, and pages that the device has
 * exclusively, are its own until the callback has returned: use those with the lock held.
 */
#define UMM_ENTRY_VALID	    (UINT64_C(1) << 0)
#define UMM_ENTRY_WRITE	    (UINT64_C(1) << 1)
#define UMM_ENTRY_ERROR	    (UINT64_C(1) << 2)	/* a hole, PROT_NONE, or poisoned */
#define UMM_ENTRY_DEVICE    (UINT64_C(1) << 3)	/* private frame of the range's memory */
#define UMM_ENTRY_COHERENT  (UINT64_C(1) << 4)	/* coherent frame; the CPU address works too */
#define UMM_ENTRY_DUPLICATE (UINT64_C(1) << 5)	/* with DEVICE: a read-only copy */
#define UMM_ENTRY_ORDER(e)  (((e) >> 6) & 0x1f) /* log2 of pages mapped alike: 0, 9, 18 */
#define UMM_ENTRY_ZERO	    (UINT64_C(1) << 11) /* the zero page; with UMM_RANGE_PAGEMAP only */
#define UMM_ENTRY_REQ_FAULT (UINT64_C(1) << 62) /* request: make it readable */
#define UMM_ENTRY_REQ_WRITE (UINT64_C(1) << 63) /* request: make it writable */
#define UMM_ENTRY_FRAME(e)  ((uint32_t)((e) >> UMM_PAGE_SHIFT))
#define UMM_ENTRY_ADDR(e)   ((uintptr_t)((e)&UINT64_C(0x3ffffffffffff000)))

/** Flags of struct umm_range. */
enum umm_range_flag {
	/* Ask the kernel's page map about system pages, too: which are the zero page (ZERO, not
	 * WRITE), which are mapped huge (ORDER), which are really there. Costs a system call
	 * for each 2 MiB. */
	UMM_RANGE_PAGEMAP = 1 << 0,
};

/** Indexes of umm_range_encoding.flags. */
enum umm_encoding_flag {
	UMM_ENCODING_VALID, /* in a request: make it readable */
	UMM_ENCODING_WRITE, /* in a request: make it writable */
	UMM_ENCODING_DEVICE,
	UMM_ENCODING_COHERENT,
	UMM_ENCODING_DUPLICATE,
	UMM_ENCODING_ZERO,
	UMM_NR_ENCODING_FLAGS,
};

/** Indexes of umm_range_encoding.values. */
enum umm_encoding_value {
	UMM_ENCODING_NONE,  /* instead of 0 */
	UMM_ENCODING_ERROR, /* instead of UMM_ENTRY_ERROR */
	UMM_NR_ENCODING_VALUES,
};

/**
 * A driver's own encoding of entries, so that the array can be its device's page table.
 * flags[] stand for the UMM_ENTRY_ bits of the same name (0: the device does not care),
 * values[] for pages that are not there. The number of a frame, or the CPU address of
 * another page divided by the page size, is shifted left by @pfn_shift.
 */
struct umm_range_encoding {
	uint64_t flags[UMM_NR_ENCODING_FLAGS];
	uint64_t values[UMM_NR_ENCODING_VALUES];
	unsigned pfn_shift; /* less than 64 */
	unsigned reserved;  /* 0 */
};

/** A request for umm_range_snapshot() and umm_range_fault(). */
struct umm_range {
	size_t size;
	uint64_t flags;		       /* enum umm_range_flag */
	struct umm_notifier *notifier; /* covers start..end */
	uint64_t seq;		       /* of umm_notifier_read_begin() */
	uintptr_t start;
	uintptr_t end;
	uint64_t *entries;	  /* in: requests; out: answers; one per page */
	uint64_t default_flags;	  /* requests for every page */
	uint64_t flags_mask;	  /* which bits of entries[] are requests */
	struct umm_device *owner; /* its private pages are reported in place; NULL: none */
	struct umm_devmem *mem;	  /* or only those of this memory; NULL: any of @owner */
	/* Of entries[], default_flags and flags_mask; NULL: as above. Not for umm_range_map(). */
	const struct umm_range_encoding *encoding;
};

/**
 * umm_range_snapshot() - say what is there; fault nothing in
 * @range: in/out
 *
 * Only a snapshot: check umm_notifier_read_retry() before acting on it.
 * Private pages of others, empty and migrating pages are reported as 0.
 * Where entries that were given out before allow more than the mapping does by now, mirrors
 * hear of it from here, and -EBUSY says so to the caller.
 *
 * Ownership: entries[] stays the caller's; no page is pinned.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of valid entries; -EINVAL empty, misaligned or outside
 *            the notifier, bad handle, or part of it is a special mapping (device I/O,
 *            [vdso]); -EBUSY invalidated meanwhile; -E2BIG. On error
 *            entries[] is unspecified.
 * Since:     0.1
 */
UMM_API long umm_range_snapshot(struct umm_range *range);

/**
 * umm_range_fault() - make a range resident and say where each page lives
 * @range:      in/out
 * @timeout_ms: total time spent waiting for others, in milliseconds; 0 tries once
 *
 * Pages that were never touched become zeroed system pages; private pages of
 * other devices come home; duplicates become single where write is requested.
 *
 * Ownership: entries[] stays the caller's; no page is pinned.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of valid entries; -EINVAL as umm_range_snapshot();
 *            -EFAULT one is a hole, PROT_NONE, not managed or poisoned;
 *            -EPERM write requested on read-only memory; -EBUSY invalidated
 *            meanwhile or still migrating when the time ran out; -ENOMEM; -E2BIG.
 *            On error entries[] is unspecified.
 * Since:     0.1
 */
UMM_API long umm_range_fault(struct umm_range *range, unsigned timeout_ms);

/**
 * umm_range_wait_until_valid() - wait while an invalidation of the range is under way
 * @range:      its notifier is looked at
 * @timeout_ms: how long at most, in milliseconds
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -ETIME; -EINVAL; -E2BIG; -EDEADLK from a callback.
 * Since:     0.1
 */
UMM_API int umm_range_wait_until_valid(struct umm_range *range, unsigned timeout_ms);

/** How a driver makes pages reachable by its device, for umm_range_map(). */
struct umm_range_map_ops {
	size_t size; /* sizeof(struct umm_range_map_ops) */

	/**
	 * map: required. Pin, register or stage the page at @addr, of which @entry says where it
	 * is; *@daddr is what the device will use. May sleep.
	 * Return: 0, or a negative errno: nothing is mapped, and the call fails with it.
	 */
	int (*map)(void *priv, uintptr_t addr, uint64_t entry, uint64_t *daddr);

	/**
	 * unmap: required. The device is done with @daddr. @dirty: it may have written there, so
	 * what was staged is to be put back; never set for a page that was not writable.
	 */
	void (*unmap)(void *priv, uintptr_t addr, uint64_t daddr, bool dirty);
};

/** Flags of umm_range_unmap(). */
enum umm_range_unmap_flag {
	UMM_RANGE_UNMAP_DIRTY = 1 << 0, /* the device has written to the range */
};

/**
 * umm_range_map() - fault a range and make all of it reachable by a device, or nothing
 * @range:      as for umm_range_fault(); seq is written: the state that was mapped
 * @ops:        called for each valid page
 * @priv:       handed to them
 * @daddrs:     out: one item per page, what map answered; 0 where the entry is not valid
 * @timeout_ms: for all of it, starting over included; 0 tries once
 *
 * What was mapped is unmapped again, not dirty, where a later page fails or the range changes
 * meanwhile. Afterwards nothing holds the pages: a change of the range is announced to its
 * notifier, which calls umm_range_unmap() before it returns, or has the device stop and do so.
 *
 * Ownership: the arrays stay the caller's.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages mapped; as umm_range_fault(); what map returned; -EINVAL also
 *            for a missing op, or an answer that is no error number.
 * Since:     0.1
 */
UMM_API long umm_range_map(struct umm_range *range, const struct umm_range_map_ops *ops, void *priv,
			   uint64_t *daddrs, unsigned timeout_ms);

/**
 * umm_range_unmap() - the device is done with what umm_range_map() mapped
 * @range:  the same, its entries untouched
 * @ops:    the same
 * @priv:   handed to them
 * @daddrs: in; zeroed
 * @flags:  enum umm_range_unmap_flag
 *
 * Ownership: none.
 * Context:   any thread, a callback of the range's notifier too; sleeps if unmap does.
 * Return:    0; -EINVAL; -E2BIG.
 * Since:     0.1
 */
UMM_API int umm_range_unmap(struct umm_range *range, const struct umm_range_map_ops *ops,
			    void *priv, uint64_t *daddrs, uint64_t flags);

/**
 * umm_make_exclusive() - take pages from everybody else, so that a device can do atomics on them
 * @dev:     the device; its mirrors are not called for the EXCLUSIVE event that begins its own
 *           access: forget before the call where the pages are, for a touch there ends the
 *           access. Interval notifiers are called, and snapshots of all grow stale
 * @start:   page aligned
 * @end:     page aligned
 * @entries: out, one per page: VALID | WRITE and the host address where the page is meanwhile,
 *           or 0 where exclusive access was not to be had
 *
 * Pages come home first, and untouched ones are zeroed. Pages that are pinned are not to be had.
 * A page that @dev has already stays where it is. Hints (umm_advise()) keep none from it, and bring
 * none along that was not asked for. Access ends when the CPU touches the page, or when it
 * migrates, another device or umm_range_fault() asks for it, before fork() and with the device: the
 * mirrors, @dev's too, hear EXCLUSIVE with @dev as the owner, and must have stopped using the
 * address when the callback returns. So they must after UNMAP and CLEAR. Whoever asks for a page
 * of a unit (UMM_HINT_GRANULARITY) asks for all of it. A device has room for 1 GiB of such pages;
 * the least recently taken go home first.
 *
 * The page is moved, not copied, where the kernel has UMM_KERNEL_MOVE. While a device has it, the
 * address in @entries works for the CPU, too: for a driver that does atomics in software.
 *
 * Ownership: entries[] stays the caller's; the pages are borrowed until the event.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages that are exclusive now; -EINVAL, also for special mappings
 *            (device I/O, [vdso]); -EFAULT a page is not private
 *            anonymous memory, or not managed; -EPERM read-only memory; -EDEADLK the stack that
 *            this thread runs on; -ENOMEM; -ENODEV.
 * Since:     0.1
 */
UMM_API long umm_make_exclusive(struct umm_device *dev, uintptr_t start, uintptr_t end,
				uint64_t *entries);

/** Pages held where they are. */
struct umm_pin;

/** Flags of umm_pin(). */
enum umm_pin_flag {
	UMM_PIN_WRITE = 1 << 0,	   /* the holder will write to them */
	UMM_PIN_LONGTERM = 1 << 1, /* for longer than a request takes: not in device memory */
};

/**
 * umm_pin() - hold pages where they are, as get_user_pages() does
 * @ctx:    the context
 * @start:  page aligned
 * @npages: how many
 * @flags:  enum umm_pin_flag
 * @out:    the pin
 *
 * Untouched pages are zeroed, private and exclusive ones come home. Coherent ones are held
 * where they are, but come home first with UMM_PIN_LONGTERM. A pinned page does not migrate, is
 * not evicted and does not become exclusive: it counts as UMM_COUNT_BUSY, the rest of a request
 * goes on. Pins nest. umm_device_destroy() and umm_devmem_remove() wait until pinned frames are
 * let go (the log tells of a wait that is long).
 *
 * A pin is about the mapping as it is: munmap(), mremap(), umm_free(), umm_detach() and the end of
 * the context make it forget the pages concerned. Contents that are dropped by madvise() are
 * gone, pinned or not, and the address stays pinned. umm_discard() leaves pinned pages; one that is
 * in the middle of them is waited for, and they may read zero then. A forked child's pages are not
 * pinned.
 *
 * Ownership: the caller drops it with umm_unpin().
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL, also for special mappings (device I/O, [vdso]);
 *            -EFAULT a hole, PROT_NONE, poisoned or not managed; -EPERM read-only
 *            memory and UMM_PIN_WRITE; -EBUSY pages would not come home; -ENOMEM; -ENODEV.
 *            On error nothing is pinned.
 * Since:     0.1
 */
UMM_API int umm_pin(struct umm_ctx *ctx, uintptr_t start, size_t npages, uint64_t flags,
		    struct umm_pin **out);

/**
 * umm_unpin() - let pinned pages go
 * @pin: or NULL
 *
 * Ownership: @pin is gone.
 * Context:   any thread.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_unpin(struct umm_pin *pin);

/* ------------------------------------------------------------------------
 * 8. Migration in three steps, for drivers that copy by themselves
 */

#define UMM_MPFN_VALID (UINT64_C(1) << 0)
#define UMM_MPFN_MIGRATE \
	(UINT64_C(1) << 1) /* src: collected. Cleared by umm_migrate_pages()
					     * where the page stayed after all */
#define UMM_MPFN_WRITE	(UINT64_C(1) << 2)
#define UMM_MPFN_DEVICE (UINT64_C(1) << 3) /* bits 12 and up are a frame number */
#define UMM_MPFN_EMPTY	(UINT64_C(1) << 4) /* never touched: clear instead of copying */

/**
 * struct umm_migrate - a migration in flight
 *
 * src[i] says where the data is: bits 12 and up are a host address to read from,
 * or, with UMM_MPFN_DEVICE, a frame of src_mem(i). The driver copies and
 * writes dst[i]: UMM_MPFN_VALID | UMM_MPFN_DEVICE | frame << 12 where @dst_mem is
 * given, or UMM_MPFN_VALID where the page goes home and the data was put at
 * umm_migrate_host(). A dst[i] of 0 leaves the page where it was, and so does one that
 * names a frame which umm_devmem_alloc() did not give the driver, or that another page has.
 */
struct umm_migrate {
	size_t size;
	uint64_t flags; /* UMM_MIGRATE_SELECT_* */
	struct umm_ctx *ctx;
	uintptr_t start;
	uintptr_t end;
	struct umm_devmem *dst_mem; /* NULL: system memory */
	struct umm_device *owner;   /* select only device pages of it; NULL: of any */
	uint64_t *src;		    /* the caller's, one item per page */
	uint64_t *dst;
	enum umm_cause cause;
	unsigned long npages; /* out: pages in the range */
	unsigned long cpages; /* out: pages collected, then: pages moved */
	void *core;	      /* the core's; NULL before the setup */
};

/**
 * umm_migrate_setup() - collect and unmap; from here on a CPU touch waits
 * @migrate: in/out
 *
 * Until umm_migrate_finalize(), everything else about these pages waits: touching, freeing and
 * migrating them, destroying the device or the context, and fork() if @dst_mem is given.
 * None of it is for the thread that has to finalize. A driver that takes longer than
 * struct umm_ctx_options.finalize_ns has its migration undone: the pages are where they were,
 * waiters go on, and umm_migrate_pages() moves nothing. An error in the log says so.
 *
 * Ownership: @migrate must be finalized unless this fails.
 * Context:   any thread, not from a callback; may sleep; mirrors are invalidated.
 * Return:    0; -EINVAL, also if core is not NULL (it is set up already), for a hole, PROT_NONE
 *            and special mappings (device I/O, [vdso]); -EFAULT a page is not managed; -ENOENT
 *            nothing qualifies; -EDEADLK @migrate, its arrays or the stack that this thread
 *            runs on are in the range; -ENOMEM; -E2BIG.
 * Since:     0.1
 */
UMM_API int umm_migrate_setup(struct umm_migrate *migrate);

/**
 * umm_migrate_src_mem() - the memory that src[@i] is a frame of
 * @migrate: set up
 * @i:       index of the page
 *
 * Ownership: borrowed; valid until umm_migrate_finalize().
 * Context:   any thread; does not sleep.
 * Return:    the memory; NULL the page is on no device, was not collected, or there is no @i.
 * Since:     0.1
 */
UMM_API struct umm_devmem *umm_migrate_src_mem(struct umm_migrate *migrate, unsigned long i);

/**
 * umm_migrate_host() - where to put the data of page @i that goes home
 * @migrate: set up, without a dst_mem
 * @i:       index of the page
 *
 * Ownership: the core's; one page, to be written until umm_migrate_pages().
 * Context:   any thread, one at a time for one @migrate; may sleep.
 * Return:    the address; NULL no memory, the page was not collected to go home, or the migration
 *            is undone.
 * Since:     0.1
 */
UMM_API void *umm_migrate_host(struct umm_migrate *migrate, unsigned long i);

/**
 * umm_migrate_pages() - commit: the data is where dst[] says; waiters go on
 * @migrate: set up
 *
 * Ownership: frames named in dst[] are the core's where UMM_MPFN_MIGRATE is still set in
 *            src[] afterwards, else still the driver's.
 * Context:   any thread, a callback too; may sleep.
 * Return:    nothing; cpages counts the pages that moved.
 * Since:     0.1
 */
UMM_API void umm_migrate_pages(struct umm_migrate *migrate);

/**
 * umm_migrate_finalize() - release it; without umm_migrate_pages() it undoes the setup
 * @migrate: set up
 *
 * Ownership: @migrate is the caller's again.
 * Context:   any thread, a callback too; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_migrate_finalize(struct umm_migrate *migrate);

/** What a driver does in a migration by umm_migrate_vma(). */
struct umm_migrate_ops {
	size_t size; /* sizeof(struct umm_migrate_ops) */

	/**
	 * alloc_and_copy: required. The pages are set up: copy what src[] says and fill in
	 * dst[]. May sleep.
	 * Return: 0, or a negative errno: all pages stay where they were.
	 */
	int (*alloc_and_copy)(void *priv, struct umm_migrate *migrate);

	/**
	 * finalize_and_map: optional. It is committed: UMM_MPFN_MIGRATE is left in the src[] of
	 * pages that moved. Frames of others are still the driver's. Also called after
	 * alloc_and_copy failed; no page has moved then.
	 */
	void (*finalize_and_map)(void *priv, struct umm_migrate *migrate);
};

/**
 * umm_migrate_vma() - the three steps in one call
 * @migrate: as for umm_migrate_setup()
 * @ops:     called in between
 * @priv:    handed to them
 *
 * Ownership: as the steps; @migrate is the caller's again.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    the number of pages that moved; what umm_migrate_setup() returns (then nothing was
 *            called); what alloc_and_copy returned; -EINVAL an op is missing, or
 *            returned what it must not.
 * Since:     0.1
 */
UMM_API long umm_migrate_vma(struct umm_migrate *migrate, const struct umm_migrate_ops *ops,
			     void *priv);

/* ------------------------------------------------------------------------
 * 9. Counters
 */

/** What is counted, per context, device and allocation. Times are nanoseconds. */
enum umm_counter {
	UMM_COUNT_FAULT_EMPTY,	  /* CPU faults on untouched pages of blocks that devices use */
	UMM_COUNT_FAULT_DEVICE,	  /* CPU faults that brought a page home */
	UMM_COUNT_FAULT_WRITE,	  /* CPU write faults that ended a duplication */
	UMM_COUNT_FAULT_WAIT,	  /* CPU faults that waited for a migration in flight */
	UMM_COUNT_FAULT_SPURIOUS, /* already resolved when it was read */
	UMM_COUNT_FAULT_ERROR,	  /* CPU faults whose device failed: SIGBUS */
	UMM_COUNT_FAULT_NS,	  /* time serving CPU faults, reading included */
	UMM_COUNT_TO_DEVICE,	  /* pages moved to a device, by cause: + enum umm_cause */
	UMM_COUNT_TO_SYSTEM = UMM_COUNT_TO_DEVICE + UMM_NR_CAUSES,  /* pages moved home, likewise */
	UMM_COUNT_DUPLICATED = UMM_COUNT_TO_SYSTEM + UMM_NR_CAUSES, /* pages copied, not moved */
	UMM_COUNT_BYTES_TO_DEVICE,				    /* bytes copied, in all: */
	UMM_COUNT_BYTES_FROM_DEVICE,				    /* by cause see below */
	UMM_COUNT_COPIES,	   /* struct umm_copy handed to devices */
	UMM_COUNT_CLEARED,	   /* pages cleared on a device instead of copied */
	UMM_COUNT_COPY_NS,	   /* time from handing copies over to their completion */
	UMM_COUNT_EVICTIONS,	   /* blocks evicted: pages went home, or copies ended */
	UMM_COUNT_BUSY,		   /* pages that stayed: pinned or lost a race */
	UMM_COUNT_RETRIES,	   /* kernel operations that answered EAGAIN */
	UMM_COUNT_POISONED,	   /* pages lost */
	UMM_COUNT_INVALIDATIONS,   /* callbacks run */
	UMM_COUNT_DEFERRED,	   /* faults handed from a server to a worker */
	UMM_COUNT_EVENTS,	   /* unmap, remap, remove seen */
	UMM_COUNT_FRAMES_RECYCLED, /* host frames taken from the cache, pages */
	UMM_COUNT_FRAMES_FRESH,	   /* host frames taken from the kernel, pages */
	UMM_COUNT_BYTES_OUT,	   /* bytes copied to devices, by cause: + enum umm_cause */
	UMM_COUNT_BYTES_IN = UMM_COUNT_BYTES_OUT + UMM_NR_CAUSES, /* and from devices, likewise */
	UMM_COUNT_THRASH_WAITS = UMM_COUNT_BYTES_IN + UMM_NR_CAUSES, /* pages that device faults
								      * waited for */
	UMM_COUNT_THRASH_STAYS, /* pages that device faults left at home: pinned */
	UMM_COUNT_UNHINTED,	/* pages that devices were to forget since a hint ended */
	UMM_NR_COUNTERS,
};

/** A copy of all counters. */
struct umm_stats {
	size_t size;
	uint64_t flags;		    /* 0 */
	uint64_t managed_bytes;	    /* now: address space managed (context and allocation only) */
	uint64_t device_pages;	    /* now: pages whose home is a device */
	uint64_t bookkeeping_bytes; /* now: host memory the library uses to keep books (context);
				     * what contexts share, all objects of this header, counts in
				     * each */
	uint64_t cached_bytes;	    /* now: recycled host frames kept (context) */
	uint64_t counter[UMM_NR_COUNTERS];
};

/**
 * umm_counter_name() - "fault_empty", "to_device_explicit", …
 * @counter: enum umm_counter
 *
 * Ownership: static string.
 * Context:   any thread; async-signal-safe.
 * Return:    the name; NULL past the end.
 * Since:     0.1
 */
UMM_API const char *umm_counter_name(unsigned counter);

/**
 * umm_ctx_stats(), umm_device_stats(), umm_alloc_stats() - read the counters
 * @ctx:  the context
 * @dev:  the device
 * @addr: any address inside an allocation or an attached range
 * @out:  the caller sets size
 *
 * Ownership: none.
 * Context:   any thread; counters that belong together may be read a moment apart.
 * Return:    0; -EINVAL; -E2BIG; umm_alloc_stats(): -EFAULT not managed.
 * Since:     0.1
 */
UMM_API int umm_ctx_stats(struct umm_ctx *ctx, struct umm_stats *out);
UMM_API int umm_device_stats(struct umm_device *dev, struct umm_stats *out);
UMM_API int umm_alloc_stats(struct umm_ctx *ctx, const void *addr, struct umm_stats *out);

/**
 * umm_stats_print() - counters that are not zero, one a line, for people
 * @stats:  what was read; NULL prints nothing
 * @stream: where to
 *
 * Ownership: none.
 * Context:   any thread.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_stats_print(const struct umm_stats *stats, FILE *stream);

/* ------------------------------------------------------------------------
 * 10. Hints: what the program knows of its memory, and the library does not
 */

/**
 * Hints of a range; docs/design.md has what each changes. None moves a page by itself, none
 * keeps one from umm_migrate_spans() with the cause EXPLICIT, from coming home to a CPU that has
 * no other way to it, or from leaving a device that goes away.
 */
enum umm_hint {
	/* It is better where @mem is. A device that faults on a page which is there, and which it
	 * can use in place (UMM_DEVICE_IN_PLACE), leaves it there. */
	UMM_HINT_PREFERRED,
	/* @dev uses it where it is: its faults leave alone what it can use in place, and its
	 * ops->accessed is called so that it need not fault at all. */
	UMM_HINT_ACCESSED_BY,
	/* It stays where it is. Devices that fault on it use it in place where they can, requests
	 * with UMM_MIGRATE_AHEAD leave it, and it is evicted only when nothing else is left. */
	UMM_HINT_NO_MIGRATE,
	/* Waiting for it is worse than waiting for others: it is evicted only when nothing else is
	 * left, no request with UMM_MIGRATE_AHEAD takes it from where it is, and no fault waits
	 * because it thrashes. */
	UMM_HINT_LATENCY_CRITICAL,
	/* A fault moves, with its page, those of the aligned unit of 2^@order pages around it that
	 * have such a hint, of the same order or a larger one: 0 to 9. A CPU's brings home what of
	 * them is on the memory of the missed page. */
	UMM_HINT_GRANULARITY,
	/* It is read more often than written. A device that faults on it to read
	 * (UMM_MIGRATE_READ) gets a copy, and so does one that it is prefetched to: it stays at
	 * home for everybody else to read, until somebody writes. For a fault it counts more than
	 * the other hints. */
	UMM_HINT_READ_MOSTLY,
	/* What comes home beside a page that a CPU misses here is @readahead's to say. Where it is
	 * OFF nothing comes that was not missed, wherever the miss was, but the rest of a unit. */
	UMM_HINT_READAHEAD,
	/* Whether it may be taken to and fro is @thrash's to say. */
	UMM_HINT_THRASH,
	UMM_NR_HINTS,
};

/** Flags of struct umm_advice. */
enum umm_advice_flag {
	UMM_ADVICE_UNSET =
		1 << 0, /* there is no such hint; of ACCESSED_BY, that of @dev, or (NULL) of all */
};

/** One hint for umm_advise(). What the hint has no use for is 0. */
struct umm_advice {
	size_t size;
	uint64_t flags; /* enum umm_advice_flag */
	const struct umm_span *spans;
	size_t nspans;
	enum umm_hint hint;
	uint32_t order;		      /* GRANULARITY; 0: as if unset */
	struct umm_devmem *mem;	      /* PREFERRED; NULL: system memory */
	struct umm_device *dev;	      /* ACCESSED_BY; at most 64 devices of a context */
	enum umm_readahead readahead; /* READAHEAD; not DEFAULT, which is what there is without */
	enum umm_thrash thrash;	      /* THRASH; likewise */
};

/**
 * umm_advise() - set or unset a hint for ranges of memory
 * @ctx:    the context
 * @advice: which hint, and where
 *
 * Hints stay with the pages wherever those migrate, and go with them where mremap() moves them.
 * They end where memory is unmapped, freed or detached, and those that name a device or a memory
 * end with it. So whoever unmaps or moves hinted memory waits, for microseconds, for a thread of
 * the library to hear of it; and to the kernel the blocks of 2 MiB that have some, as far as they
 * are managed, are mappings of their own until their last hint is unset, one where they follow each
 * other: mremap() over the border fails with EFAULT, umm_mremap() moves them. (Of files and shared
 * memory before Linux 6.7, and of memory that a userfaultfd of the program's has, nobody hears that
 * it is unmapped: there, unset them.) Contents that are dropped do not end them; a forked child has
 * them, and no use for them. What was said last counts: another PREFERRED replaces the first.
 * NO_MIGRATE counts more than PREFERRED, and ACCESSED_BY does: a page that is elsewhere stays
 * there. To a CPU GRANULARITY counts more than NO_MIGRATE, LATENCY_CRITICAL and READAHEAD OFF: a
 * unit comes home with them. What the environment has as usual (UMM_HINTS) counts where the
 * program has said nothing of the kind: a hint that it unsets there is none until the memory ends.
 *
 * Where PREFERRED, ACCESSED_BY or NO_MIGRATE ends, or another PREFERRED takes the place of one,
 * mirrors are told (UMM_EVENT_ADVICE) of pages that devices may use in place because of it, before
 * the return: so the next fault decides anew. (Who would have to sleep for it hears of it from
 * another thread; umm_notifier_read_begin() waits for that.) A fault that is on its way meanwhile
 * may have decided before.
 *
 * Ownership: @advice and its spans are not used after the return.
 * Context:   any thread, not from a callback, nor with a lock that invalidate ops take; may sleep;
 *            not async-signal-safe.
 * Return:    0; -EINVAL misuse, also an argument that the hint has no use for, or an order over 9;
 *            -EFAULT some page of the spans is not managed: nothing is set, and the log says
 *            where, unless it was unmapped during the call: then spans before it may be set;
 *            -ENODEV @mem or @dev is being removed, or in a forked child; -EOPNOTSUPP
 *            ACCESSED_BY a device without UMM_DEVICE_IN_PLACE; -ENOSPC too many devices;
 *            -ENOMEM: part of it may be set; -EDEADLK from a callback; -E2BIG.
 * Since:     0.1
 */
UMM_API int umm_advise(struct umm_ctx *ctx, const struct umm_advice *advice);

/** Flags of struct umm_prefetch. */
enum umm_prefetch_flag {
	UMM_PREFETCH_DISCARD = 1 << 0,	/* first discard the spans, so that nothing is copied */
	UMM_PREFETCH_NO_EVICT = 1 << 1, /* stop with what fits instead of evicting others */
};

/** A request for umm_prefetch(). */
struct umm_prefetch {
	size_t size;
	uint64_t flags; /* enum umm_prefetch_flag */
	const struct umm_span *spans;
	size_t nspans;
	struct umm_devmem *dst;	 /* NULL: system memory */
	struct umm_fence *after; /* begin when it is signalled; NULL: at once */
};

/**
 * umm_prefetch() - bring spans where they will be wanted, beside other work
 * @ctx:   the context
 * @req:   what, where to, and after what
 * @fence: where to put a fence to wait for; NULL waits here
 *
 * Pages are moved as umm_migrate_spans() moves them, but for those that are hinted NO_MIGRATE or
 * LATENCY_CRITICAL. Where @dst is too small, as many come as it has room for, and the result says
 * how many. Requests without @after run in the order in which they were made, but for those that
 * wait for the program in a callback, or for pages that do: others overtake them. One whose fence
 * ends with an error does nothing, and ends with that. While it waits for @after, the end of its
 * context or of @dst ends it with -ENODEV.
 *
 * A request names addresses: what it moves is what is there when it runs. It discards only what
 * was there when it was made: where that was freed, detached, or moved or unmapped by the program
 * meanwhile, whoever has the addresses next keeps the contents. (A program that unmaps memory
 * itself while the request runs, instead of freeing or detaching it, waits for the fence before.)
 * The blocks of what is prefetched become mappings of their own, as if it were hinted, for good.
 *
 * Ownership: @req and its spans are not used after the return. The caller drops *fence.
 * Context:   any thread, not from a callback; may sleep; not async-signal-safe.
 * Return:    the number of pages of the spans that are at @dst in the end, those that were there
 *            before included (with @fence: 0; umm_fence_value() has it); -EINVAL; -EFAULT nothing
 *            of a span is managed; -ENOSPC no page fitted; -EDEADLK from a callback, or some of
 *            what this thread has on its stack would be discarded; -ENODEV; -EIO; -ENOMEM;
 *            -E2BIG; or the error of @after.
 * Since:     0.1
 */
UMM_API long umm_prefetch(struct umm_ctx *ctx, const struct umm_prefetch *req,
			  struct umm_fence **fence);

/**
 * umm_discard() - the contents of spans are no longer needed
 * @ctx:    the context
 * @spans:  misaligned ones shrink to whole pages
 * @nspans: how many
 *
 * As madvise(MADV_DONTNEED): frames are given back, nothing is copied, and pages read zero until
 * they are written again. Pages that are pinned, that a device has exclusively, that are poisoned,
 * or of a file or shared, stay as they are, and so do those of locked mappings
 * (UMM_COUNT_BUSY). Mirrors hear UMM_EVENT_CLEAR. Hints stay.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep; not async-signal-safe.
 * Return:    the number of pages discarded, each counted once; -EINVAL; -EFAULT nothing of the
 *            spans is managed; -EDEADLK from a callback, and where some of what this thread has
 *            on its stack is among them: from a little below its stack pointer up to where the
 *            stack begins, as far as the C library knows; -ENOMEM; -ENODEV in a forked child.
 * Since:     0.1
 */
UMM_API long umm_discard(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans);

/** Most devices that struct umm_span_info names. */
#define UMM_SPAN_DEVICES 8

/** What is hinted about a span, and where its pages are. Filled by umm_query_spans(). */
struct umm_span_info {
	size_t size;
	uint64_t flags; /* 0 */
	uint64_t npages;
	uint64_t hints; /* bits 1 << enum umm_hint: what all of its pages have alike */
	uint64_t mixed; /* likewise: what some have, and others not, or differently */
	struct umm_devmem *preferred; /* where hints has PREFERRED; NULL: system memory */
	uint32_t order;		      /* where hints has GRANULARITY */
	uint32_t ndevices;	      /* that all pages have ACCESSED_BY, in all */
	struct umm_device *devices[UMM_SPAN_DEVICES]; /* the first of these */
	uint64_t state[UMM_NR_PAGE_STATES];	      /* pages by enum umm_page_state */
	uint64_t prefetched; /* all pages were asked for by umm_prefetch(), the last time to */
	struct umm_devmem *target;	   /* here: 1; NULL: system memory */
	uint64_t counter[UMM_NR_COUNTERS]; /* of the allocations that have pages here, summed up */
	enum umm_readahead readahead;	   /* where hints has READAHEAD */
	enum umm_thrash thrash;		   /* where hints has THRASH */
};

/**
 * umm_query_spans() - read back what is hinted about ranges, and where their pages are
 * @ctx:    the context
 * @spans:  misaligned ones grow to whole pages
 * @nspans: how many
 * @out:    one item for each. The caller sets size of the first, which counts for all
 *
 * A snapshot, as umm_query(). Pages that are not managed have no hints. Bad arguments leave @out as
 * it is; with -ENOMEM the items before the one that failed are filled in.
 *
 * Ownership: the handles are borrowed, valid while what they name is.
 * Context:   any thread; not async-signal-safe.
 * Return:    0; -EINVAL; -E2BIG; -ENOMEM.
 * Since:     0.1
 */
UMM_API int umm_query_spans(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans,
			    struct umm_span_info *out);

#ifdef __cplusplus
}
#endif
#endif /* UMM_H */
