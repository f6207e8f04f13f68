/* SPDX-License-Identifier: MIT */
/*
 * libumm_opencl - OpenCL devices as devices of libumm
 *
 * A kernel that uses the prelude umm_device.cl takes the same pointers as the
 * CPU does, pointers inside data structures included. Pages come to the device
 * when a kernel touches them, and go home when the CPU does or when the device is
 * full. No shared virtual memory is needed, only OpenCL 1.2.
 *
 *	__kernel void scale(UMM_KERNEL_ARGS, ulong in, ulong out, float factor)
 *	{
 *		struct umm u;
 *		ulong at = 4 * get_global_id(0);
 *
 *		if (!umm_begin(&u, UMM_ARGS))
 *			return;
 *		umm_store_float(&u, out + at, factor * umm_load_float(&u, in + at));
 *	}
 *
 * A work-item that touches a page the device does not have is *faulted*: its
 * loads give 0 from there on, its stores do nothing, and after the pages have come
 * it is run again from its start (replayed), until no work-item faults. Hence the
 * rule: what a work-item stored before it faulted must be harmless to store again. Where
 * that cannot be, umm_prepare_store() makes sure first that nothing will fault.
 * There are vectors, pointers, spans and atomics as well: see umm_device.cl, umm_opencl(3).
 *
 * Errors are those of umm.h, also of handles: one that is NULL, dead or of another kind is
 * -EINVAL, or NULL or nothing from functions that return no error. Functions that must not be
 * called from a callback, an invalidate callback of umm.h's, answer -EDEADLK there; those that
 * return no error say so in the log and do nothing.
 */
#ifndef UMM_OPENCL_H
#define UMM_OPENCL_H

#include "umm.h"

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>

#ifdef __cplusplus
extern "C" {
#endif

struct umm_opencl;	  /* an OpenCL device that takes part in a context */
struct umm_opencl_window; /* a range of managed memory as one buffer of it */

/* ------------------------------------------------------------------------
 * 1. What there is
 */

/** What an OpenCL device has, as bits. */
enum umm_opencl_capability {
	UMM_OPENCL_PAGING = 1 << 0,	     /* demand paging by umm_opencl_launch() */
	UMM_OPENCL_DOUBLE = 1 << 1,	     /* umm_load_double(), umm_store_double() */
	UMM_OPENCL_ATOMIC64 = 1 << 2,	     /* 64-bit atomics */
	UMM_OPENCL_SVM_COARSE = 1 << 3,	     /* coarse-grained shared virtual memory */
	UMM_OPENCL_SVM_FINE_BUFFER = 1 << 4, /* fine-grained, in buffers */
	UMM_OPENCL_SVM_FINE_SYSTEM = 1 << 5, /* fine-grained, all of the address space */
	UMM_OPENCL_SVM_ATOMICS = 1 << 6,     /* fine-grained with atomics: work-items can wait */
};

/** One OpenCL device, or a platform without any (then @device is NULL). */
struct umm_opencl_info {
	size_t size;
	uint64_t flags; /* 0 */
	cl_platform_id platform;
	cl_device_id device;
	cl_device_type type;
	const char *platform_name;
	const char *platform_version;
	const char *device_name;
	const char *device_version;
	uint64_t global_bytes;	   /* memory of the device */
	uint64_t max_alloc_bytes;  /* largest buffer */
	uint64_t max_device_bytes; /* largest umm_opencl_options.device_bytes */
	uint64_t default_device_bytes;
	uint32_t capabilities; /* enum umm_opencl_capability */
	int usable;	       /* 0, or the error that umm_opencl_create() would give */
	const char *reason;    /* "" or one sentence: why not, and what to do */
};

/**
 * umm_opencl_list() - tell of every platform and device
 * @fn:   called once for each; a value other than 0 stops
 * @priv: handed to @fn
 *
 * Ownership: the structure and its strings are gone when @fn returns.
 * Context:   any thread; may sleep; loads the OpenCL implementations.
 * Return:    the number of devices told of; what @fn returned where that was not 0;
 *            -ENODEV there is no platform (see umm_opencl_advice()), or in a forked child
 *            whose parent has called this or umm_opencl_create(); -EINVAL.
 * Since:     0.1
 */
UMM_API int umm_opencl_list(int (*fn)(void *priv, const struct umm_opencl_info *info), void *priv);

/**
 * umm_opencl_advice() - how to get an OpenCL platform
 *
 * Ownership: static string.
 * Context:   any thread.
 * Return:    one sentence without a newline; never NULL.
 * Since:     0.1
 */
UMM_API const char *umm_opencl_advice(void);

/* ------------------------------------------------------------------------
 * 2. Devices
 */

/** Options of umm_opencl_create(); all zero takes the first device that will do. */
struct umm_opencl_options {
	size_t size;
	uint64_t flags;		   /* 0 */
	cl_command_queue queue;	   /* run kernels in this queue; decides context and device */
	cl_context context;	   /* or: open a queue in this context */
	cl_device_id device;	   /* or: on this device (with @context: one of its devices) */
	const char *platform_name; /* or on the first that has this in its name, in any case, */
	const char *device_name;   /* and this, */
	cl_device_type type;	   /* and is one of these types; 0: any */
	uint64_t device_bytes;	   /* device memory for pages, rounded up to whole pages; 0: half
				    * of the device's, or its largest buffer where that is less */
	uint64_t pool_bytes;	/* largest single buffer to allocate; 0: what the device allows */
	uint64_t readahead;	/* most bytes fetched at once beside what was missed;
				    * 0: 256 KiB; less than a page: none */
	uint32_t fault_entries; /* faults that one round can report; 0: 65536 */
	uint32_t reserved;	/* 0 */
	uint64_t window_bytes;	/* device memory for windows, beside device_bytes; 0: a quarter
				 * of the device's */
};

/**
 * umm_opencl_create() - make an OpenCL device a device of @ctx
 * @ctx:     the context
 * @options: or NULL for the defaults
 * @out:     the device
 *
 * Allocates the device memory at once: one buffer, or up to four where one
 * cannot be that large.
 *
 * Ownership: the caller calls umm_opencl_destroy(); closing the context does so
 *            otherwise. OpenCL objects in @options are retained.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -E2BIG; -ENODEV no platform, or no such device (the log
 *            says which there are), or in a forked child; -EOPNOTSUPP the device
 *            lacks something; -ENOMEM; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_opencl_create(struct umm_ctx *ctx, const struct umm_opencl_options *options,
			      struct umm_opencl **out);

/**
 * umm_opencl_destroy() - take the device away; its pages come home
 * @ocl: or NULL
 *
 * Launches in other threads end with -ENODEV after the round they are in, and
 * are waited for. So are windows that somebody holds, until they are released: a thread that
 * holds one releases it first, or waits for itself for ever. So does umm_ctx_put() where it closes
 * the context, and umm_device_destroy().
 *
 * Ownership: @ocl, its umm_device and its memory are gone.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_opencl_destroy(struct umm_opencl *ocl);

/**
 * umm_opencl_device(), umm_opencl_devmem() - what umm.h's functions take
 *
 * Ownership: borrowed; valid while @ocl is.
 * Context:   any thread.
 * Return:    as the names say; NULL @ocl is no live device.
 * Since:     0.1
 */
UMM_API struct umm_device *umm_opencl_device(struct umm_opencl *ocl);
UMM_API struct umm_devmem *umm_opencl_devmem(struct umm_opencl *ocl);

/**
 * umm_opencl_cl_context(), umm_opencl_cl_device(), umm_opencl_cl_queue() - what OpenCL's take
 *
 * Ownership: borrowed; valid while @ocl is.
 * Context:   any thread.
 * Return:    as the names say; NULL @ocl is no live device.
 * Since:     0.1
 */
UMM_API cl_context umm_opencl_cl_context(struct umm_opencl *ocl);
UMM_API cl_device_id umm_opencl_cl_device(struct umm_opencl *ocl);
UMM_API cl_command_queue umm_opencl_cl_queue(struct umm_opencl *ocl);

/* ------------------------------------------------------------------------
 * 3. Programs
 */

/** The first argument of a kernel that is its own: those of UMM_KERNEL_ARGS come before. */
#define UMM_OPENCL_ARGS 10

/**
 * umm_opencl_prelude() - the text of umm_device.cl
 *
 * For those who call clCreateProgramWithSource() themselves.
 *
 * Ownership: static string.
 * Context:   any thread.
 * Return:    the text; never NULL.
 * Since:     0.1
 */
UMM_API const char *umm_opencl_prelude(void);

/**
 * umm_opencl_build() - compile kernels that use the prelude
 * @ocl:     the device
 * @source:  OpenCL C; the prelude is put before it, line numbers are @source's
 * @options: for the compiler, or NULL
 * @out:     the program
 * @log:     what the compiler said, or NULL where it said nothing; may be NULL, then
 *           errors go to the log of the library
 *
 * Ownership: the caller calls clReleaseProgram(*out) and free(*log).
 * Context:   any thread; may sleep.
 * Return:    0; -EINVAL it does not compile, or bad @ocl; -ENOMEM; -ENODEV; -EIO.
 *            *log is written on success and on -EINVAL.
 * Since:     0.1
 */
UMM_API int umm_opencl_build(struct umm_opencl *ocl, const char *source, const char *options,
			     cl_program *out, char **log);

/* ------------------------------------------------------------------------
 * 4. Launches
 */

/**
 * Ways of a launch to get its pages. Without any, work-items of a device with
 * UMM_OPENCL_SVM_ATOMICS wait where few have something to do, and are replayed where many have;
 * UMM_OPENCL_WAIT in the environment (auto, always, never) says otherwise for a process.
 */
enum umm_opencl_launch_flag {
	UMM_OPENCL_WAIT = 1 << 0,   /* they wait, however many they are, if they can */
	UMM_OPENCL_REPLAY = 1 << 1, /* they never wait */
};

/** A launch: the arguments of clEnqueueNDRangeKernel(). */
struct umm_opencl_work {
	size_t size;
	uint64_t flags;	      /* enum umm_opencl_launch_flag: none, or one */
	cl_kernel kernel;     /* its own arguments are set, from UMM_OPENCL_ARGS on */
	cl_uint dims;	      /* 1 to 3 */
	cl_uint nwait;	      /* events that it waits for first */
	const size_t *offset; /* @dims items, or NULL */
	const size_t *global; /* @dims items; fewer than 2^32 work-items in all */
	const size_t *local;  /* @dims items, or NULL */
	const cl_event *wait; /* @nwait items */
	cl_event *event;      /* NULL: wait for the end; or do not, and here is its event */
};

/** What a launch took. */
struct umm_opencl_result {
	size_t size;
	uint64_t flags;		 /* 0 */
	uint64_t rounds;	 /* times that the kernel ran */
	uint64_t faults;	 /* pages that work-items missed, once for each round */
	uint64_t pages_migrated; /* or copied to the device, read ahead included */
	uint64_t pages_readahead;
	uint64_t items;		 /* work-items */
	uint64_t items_replayed; /* times that a work-item ran once more */
	uint64_t kernel_ns;	 /* from handing the kernel over to knowing its outcome */
	uint64_t service_ns;	 /* in serving its faults */
	uint64_t total_ns;
	uint64_t fault_addr;	/* with -EFAULT, -EPERM, -EBUSY, -ENOSPC or -EINVAL: the */
	uint64_t fault_item;	/* address, its work-item (counted row by row) */
	bool fault_valid;	/* (these three say something) */
	bool fault_write;	/* and whether it was a store */
	int32_t status;		/* 0, or the error that it ended with */
	uint64_t device_ns;	/* the kernel's time on the device, all rounds together: by the */
	uint64_t device_start;	/* device's clock, where options.queue has profiling, else 0; */
	uint64_t device_end;	/* and when the first began and the last ended */
	uint64_t faults_waited; /* of @faults: those that came while work-items waited for them */
};

/**
 * umm_opencl_launch() - run a kernel, serving its faults, until it is done
 * @ocl:    the device
 * @work:   what to run
 * @result: filled in, on errors too; or NULL
 *
 * Launches on one @ocl take turns. A CPU thread that touches a page which the
 * kernel uses waits for the end of the round, not of the launch.
 *
 * In an in-order queue (umm_opencl_cl_queue()) a launch comes after the commands that are there
 * already, in an out-of-order queue after those of work.wait.
 *
 * With work.event the launch is handed over: it returns at once, and the event completes when the
 * kernel has really finished, after its last round. Commands of an in-order queue that are
 * enqueued later wait for it by themselves, clFinish() too. On errors from then on the
 * event's status is negative, and result.status says which. It is a user event: it has no
 * profiling, see result.device_ns. PoCL's "basic" device does the launch before it returns, for it
 * does everything in the calling thread. Destroying the device or closing its context waits for
 * what the launch waits for, and ends it with -ENODEV, after its round where it has begun.
 *
 * Ownership: none. With work.event the caller releases that, and @result and what the kernel's
 *            arguments refer to stay until it completes; the kernel is copied where the device has
 *            OpenCL 2.1, else its arguments stay as they are until then.
 * Context:   any thread, not from a callback; may sleep. As in OpenCL, one
 *            cl_kernel must not be used by two threads at once.
 * Return:    0; -EINVAL @work makes no sense, or a work-item used a misaligned
 *            address, or bad @ocl; -E2BIG; -EFAULT a work-item touched memory that is not managed
 *            (or poisoned); -EPERM it stored to read-only memory; -ENOSPC one work-item
 *            needs more pages at once than the device holds; -EBUSY a page that it
 *            needs is pinned by others; -ENODEV the device is lost, or as everywhere; -ENOMEM;
 *            -EDEADLK; -EIO a command failed, but the device answers.
 *            On error some work-items have run and some have not.
 * Since:     0.1
 */
UMM_API int umm_opencl_launch(struct umm_opencl *ocl, const struct umm_opencl_work *work,
			      struct umm_opencl_result *result);

/** What kernels do with memory. */
enum umm_opencl_access {
	UMM_OPENCL_READ = 1 << 0,  /* the CPU may go on reading */
	UMM_OPENCL_WRITE = 1 << 1, /* all of it, or parts: the rest stays as it is */
};

/** What to bring before a kernel asks for it. */
struct umm_opencl_prefetch {
	size_t size;
	uint64_t flags;		      /* UMM_MIGRATE_NO_EVICT: only into free memory */
	const struct umm_span *spans; /* @nspans items */
	size_t nspans;
	unsigned access; /* enum umm_opencl_access: for reading alone, the CPU keeps its pages */
	cl_uint nwait;	 /* events that it waits for first */
	const cl_event *wait; /* @nwait items */
	cl_event *event;      /* NULL: wait for the end; or do not, and here is its event */
	int64_t *moved;	      /* pages brought, or the error; or NULL */
};

/**
 * umm_opencl_prefetch() - have pages on the device before a kernel touches them
 * @ocl:  the device
 * @what: which, and when
 *
 * A kernel that is launched afterwards does not fault on them. Pages that do not fit stay where
 * they are, as do pinned ones; no page is brought twice.
 *
 * It is no command of a queue, so that it goes on while kernels run: it waits for
 * @what->wait, and a launch that is to come after it names its event. Where a launch is under way
 * the event completes after that, though the pages come at once.
 *
 * Ownership: the caller releases *@what->event; @what->moved stays until it completes. The spans
 *            are copied.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -E2BIG; -ENODEV; -ENOMEM; -EDEADLK; and where it waits, -EFAULT
 *            nothing of the spans is managed; -ENOSPC no page fitted; -EIO. Else these are the
 *            event's status (which is negative then) and *@what->moved.
 * Since:     0.1
 */
UMM_API int umm_opencl_prefetch(struct umm_opencl *ocl, const struct umm_opencl_prefetch *what);

/* ------------------------------------------------------------------------
 * 5. Windows: managed memory for kernels that nobody changes
 *
 * A library that takes a cl_mem knows no page table. A window is a range of managed memory
 * as one buffer of the device:
 *
 *	umm_opencl_window_acquire(window, UMM_OPENCL_READ | UMM_OPENCL_WRITE, &mem);
 *	... enqueue whatever uses mem; event: when it is done ...
 *	umm_opencl_window_release(window, 1, &event);
 *
 * Pages that the CPU did not touch in between stay in the buffer; acquiring them again
 * costs nothing. After the release a CPU that touches a page waits for the events, and has
 * what the device wrote. Between acquire and release it waits for the release: the thread that
 * holds a window must not touch its memory then, nor unmap it, fork, or umm_opencl_launch(), nor
 * acquire it for another device; and no thread may hand over a launch or prefetch that uses the
 * memory and that commands of the window come after, or after which the holder acquires another
 * window of that device. Windows of a device are acquired in turns, waits included: nor may the
 * holder acquire any window of a device where another thread acquires this memory.
 * Reading what is only held for reading is fine, by windows of other devices too. So is, while
 * others wait for the release (up to 64 CPU threads, a fork() of another thread), to use other
 * memory, acquire other windows of the device, and create and destroy other devices; but not to
 * make or close a context while another thread forks.
 */

/** Flags of umm_opencl_window_create(). */
enum umm_opencl_window_flag {
	/* Find out exactly which pages are written, at the cost of as much device memory again, a
	 * copy and a comparison. */
	UMM_OPENCL_WINDOW_TRACK = 1 << 0,
};

/**
 * umm_opencl_window_create() - let a range of managed memory be one buffer of a device
 * @ocl:   the device
 * @addr:  a multiple of the page size
 * @len:   bytes
 * @flags: enum umm_opencl_window_flag
 * @out:   the window
 *
 * Device memory is taken when the window is first acquired, from
 * umm_opencl_options.window_bytes.
 *
 * Ownership: the caller destroys it; destroying the device does so otherwise. The memory
 *            stays the caller's.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -EEXIST it overlaps another window of @ocl; -ENOSPC it is larger
 *            than window_bytes or than the device's largest buffer; -ENOMEM; -ENODEV; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_opencl_window_create(struct umm_opencl *ocl, void *addr, size_t len, uint64_t flags,
				     struct umm_opencl_window **out);

/**
 * umm_opencl_window_destroy() - pages come home, its device memory is given back
 * @window: or NULL
 *
 * Waits until nobody holds it, for ever where the caller does, and for the events that it was
 * released with.
 *
 * Ownership: @window is gone; the buffer is released.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_opencl_window_destroy(struct umm_opencl_window *window);

/**
 * umm_opencl_window_acquire() - have all of its pages in the buffer, and keep them there
 * @window: the window
 * @access: enum umm_opencl_access
 * @out:    the buffer, of umm_opencl_cl_context()
 *
 * Other windows that nobody holds go home where device memory is short. A window may be
 * acquired several times at once; each is released. For reading, pages are duplicated: the CPU and
 * other devices keep them too, and nothing has to be copied back. What this device has alone, since
 * the window was held for writing, goes home for that, after the events that it was released with.
 * Who goes on with it on this device acquires it for writing again, which copies nothing.
 *
 * Launches and prefetches that were handed over before are waited for: what they store is in the
 * buffer. So no event that they wait for may depend on this thread's going on, nor any memory that
 * they use be in a window that this thread holds.
 *
 * Ownership: the buffer is borrowed until the release.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -EFAULT part of the range is not managed or is poisoned; -EPERM
 *            read-only memory for writing; -EBUSY pages are pinned, or others take them all the
 *            time, or it is held for reading and now wanted for writing; -ENOSPC windows
 *            that are held leave no room in window_bytes: none goes home for it; -ENOMEM the
 *            device has less; -ENODEV, also where the device goes while this waits; -EIO;
 *            -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_opencl_window_acquire(struct umm_opencl_window *window, unsigned access,
				      cl_mem *out);

/**
 * umm_opencl_window_release() - let pages go where they are touched, once @events are done
 * @window:  acquired
 * @nevents: number of events; 0: the device has finished with the buffer already
 * @events:  what uses the buffer
 *
 * Ownership: the events are retained.
 * Context:   any thread, a callback too; does not wait for the events.
 * Return:    0; -EINVAL, also where nobody holds it or an event is none; -ENOMEM. On errors it
 *            is still held, and no event is retained.
 * Since:     0.1
 */
UMM_API int umm_opencl_window_release(struct umm_opencl_window *window, cl_uint nevents,
				      const cl_event *events);

/**
 * umm_opencl_window_dirty() - which pages were written by what it was acquired for last
 * @window: released
 * @bits:   a bit for each page, the first in bit 0 of bits[0]; rounded up to whole words
 *
 * With UMM_OPENCL_WINDOW_TRACK pages whose contents changed; without it, all of them if
 * it was acquired for writing, else none. Waits for the events.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -EBUSY somebody holds it; -ENOENT it was not acquired, or was for writing
 *            and pages have left the buffer since; -ENODEV; -EIO; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_opencl_window_dirty(struct umm_opencl_window *window, uint64_t *bits);

#ifdef __cplusplus
}
#endif
#endif /* UMM_OPENCL_H */
