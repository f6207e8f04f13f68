/* SPDX-License-Identifier: MIT */
/*
 * The reference device: device memory in plain RAM, a page table of its own, and
 * "kernels" that read and write through it. It knows the public header only and needs
 * nothing but libumm and threads, so that tests and benchmarks link the same one.
 *
 * Everything that it does is counted; copies can be made to stop at a gate, and to fail.
 */
#ifndef REF_DEVICE_H
#define REF_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umm.h"

/* What the device does about a page that is not in its table. */
enum ref_policy {
	REF_MIGRATE,  /* bring it into device memory; where that is full, map it in place */
	REF_IN_PLACE, /* map it where it is */
};

struct ref_options {
	enum umm_devmem_type type;
	uint32_t nframes; /* pages of device memory */
	bool inline_copy; /* else a worker thread copies */
	bool apart;	  /* it does not say that it can use anything in place */
	bool keep_freed;  /* do not scribble over frames that are freed (benchmarks) */
	enum ref_policy policy;
	unsigned fault_pages; /* pages that one device fault migrates, aligned; 0: 1 */
	/*
	 * How to load a byte as the program does; returns 0, or the signal that it raised. For a
	 * context without UMM_KERNEL_SYSCALL_FAULTS: pages in place are accessed by system calls.
	 */
	int (*touch)(const void *addr);
};

/* Where copies stop while the gate is closed. Only devices with a worker have gates. */
enum ref_gate {
	REF_GATE_COPY,	 /* nothing copied yet */
	REF_GATE_SIGNAL, /* copied, the fence not signalled yet */
	REF_NR_GATES,
};

/* Which copies fail, and how. */
struct ref_failure {
	int error;	/* 0: none fails */
	bool to_device; /* directions that fail */
	bool from_device;
	bool refuse;	  /* the copy op returns the error instead of signalling it */
	uint32_t frame;	  /* only copies that include one of these frames ... */
	uint32_t nframes; /* ... 0: whichever */
	unsigned times;	  /* stop failing after so many calls; 0: never stop */
};

/* Nothing but uint64_t. */
struct ref_counts {
	uint64_t faults;		/* misses of device accesses, */
	uint64_t write_faults;		/* those of them that were stores */
	uint64_t calls;			/* of the copy op */
	uint64_t copies;		/* struct umm_copy executed, clearings excluded */
	uint64_t pages_in;		/* pages copied host to device, */
	uint64_t pages_out;		/* device to host, */
	uint64_t pages_cleared;		/* and cleared */
	uint64_t pages_freed;		/* by the page_free op */
	uint64_t frames_failed;		/* that the memory_failure op was told of */
	uint64_t failures;		/* calls that were made to fail */
	uint64_t invalidations;		/* of the mirror, those answered -EAGAIN excluded */
	uint64_t events[UMM_NR_EVENTS]; /* the same by event */
	uint64_t refused;		/* answered -EAGAIN */
	uint64_t unblockable;		/* calls with blockable false */
	uint64_t releases;
	uint64_t destroys;
	uint64_t accessed;   /* calls of the op */
	uint64_t violations; /* calls that break the contract of umm.h, printed as they come */
};

struct ref_device {
	struct umm_ctx *ctx;
	struct umm_device *dev;
	struct umm_devmem *mem;
	struct umm_mirror *mirror;
	struct ref_private *priv;
};

/*
 * A real backend may stand below the reference device: it makes the umm_device, with one
 * memory of options->nframes frames, and copies. What the reference device counts, holds up
 * and makes fail it does on the way there.
 */
struct ref_real {
	struct umm_device_ops ops; /* the backend's */
	void *priv;
	struct umm_devmem *mem;
	char *frames; /* the memory's first; NULL: access() reaches them */
	/* Load or store a part of a frame. */
	void (*access)(void *priv, uint32_t frame, size_t offset, void *buf, size_t len,
		       bool write);
};

/* To be called instead of umm_device_create(). */
typedef int ref_join(void *priv, const struct umm_device_ops *ops, void *real_priv,
		     struct umm_device **dev);
/*
 * Makes device and memory, through join(ref, ...); fills in out->mem and out->frames.
 * -EOPNOTSUPP: it has no memory of this type; the device becomes one without a backend.
 */
typedef int ref_backend(struct ref_device *ref, const struct ref_options *options, ref_join *join,
			struct ref_real *out);

/* Devices that are created from now on stand on it. */
void ref_backend_use(ref_backend *make);
bool ref_backend_used(void);

/* 0 or a negative errno. */
int ref_create(struct umm_ctx *ctx, const struct ref_options *options, struct ref_device **out);

/*
 * Destroy the device, unless closing its context did so already, and free it. Never in a
 * forked child. NULL is fine. False: the core broke its contract with the device; how
 * was printed when it happened.
 */
bool ref_destroy(struct ref_device *ref);

/* One more memory, which lives as long as the device. Mapped entries are of ref->mem. */
int ref_memory_add(struct ref_device *ref, enum umm_devmem_type type, uint32_t nframes,
		   struct umm_devmem **out);

/* The device's own view of a frame of ref->mem, where the host reaches it. */
void *ref_frame(struct ref_device *ref, uint32_t frame);
/* The page in a frame, also of a backend whose frames the host does not reach. */
void ref_frame_read(struct ref_device *ref, uint32_t frame, void *page);
void ref_frame_write(struct ref_device *ref, uint32_t frame, const void *page);

/*
 * Load and store like a device kernel: through the page table, with device faults for
 * what is missing. 0; -EFAULT not mapped, not readable or poisoned; -EPERM read-only;
 * -ENODEV the device is being destroyed; or another negative errno. What lies before the
 * page that failed was accessed.
 */
int ref_read(struct ref_device *ref, uintptr_t addr, void *buf, size_t len);
int ref_write(struct ref_device *ref, uintptr_t addr, const void *buf, size_t len);

/* The entry of a page in the table, 0 for none. */
uint64_t ref_entry(struct ref_device *ref, uintptr_t addr);

/* Fill the table for a range, without migrating anything: 0 or a negative errno. */
int ref_map(struct ref_device *ref, uintptr_t addr, size_t len, bool write);

/*
 * Take pages exclusively, and enter those that were to be had into the table: how many, or a
 * negative errno.
 */
long ref_make_exclusive(struct ref_device *ref, uintptr_t addr, size_t npages);

/*
 * Add to an aligned word as a device atomic does: on a page that the device has exclusively, which
 * it takes first. 0 and what was there before; -EBUSY the page is not to be had; or as above.
 */
int ref_atomic_add(struct ref_device *ref, uintptr_t addr, uint64_t n, uint64_t *old);

void ref_policy_set(struct ref_device *ref, enum ref_policy policy);

void ref_gate_close(struct ref_device *ref, enum ref_gate gate);
void ref_gate_open(struct ref_device *ref, enum ref_gate gate);

/* Wait until a call is held at the gate; false after timeout_ms. */
bool ref_gate_wait(struct ref_device *ref, enum ref_gate gate, unsigned timeout_ms);

/* Set the failure mode; a zeroed or NULL failure mends the device. 0 or -ENOMEM. */
int ref_fail(struct ref_device *ref, const struct ref_failure *failure);

/* Answer -EAGAIN to the next n invalidations that come with blockable false. */
void ref_refuse_invalidations(struct ref_device *ref, unsigned n);

/*
 * Called at the start of every invalidation, before the table changes and with no lock
 * held; NULL stops. One setter at a time. 0 or -ENOMEM.
 */
int ref_watch(struct ref_device *ref,
	      void (*fn)(void *priv, const struct umm_notifier_range *range), void *priv);

/* Wait until an event of this kind was heard at least n times; false after timeout_ms. */
bool ref_wait_event(struct ref_device *ref, enum umm_event event, uint64_t n, unsigned timeout_ms);

struct ref_counts ref_counts(struct ref_device *ref);

#endif
