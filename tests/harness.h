/* SPDX-License-Identifier: MIT */
/*
 * What the tests of libumm's behaviour share: the matrix of variants, an environment for
 * each test, data with checksums, threads that can be seen to block, forked children, and a
 * watchdog that prints where everybody is instead of hanging.
 *
 * A test is a function of one environment; it runs once for each variant that its case asks
 * for, under the name behaviour/memory/copies/kernel. A pattern on the command line
 * chooses: test_fault '*one_page*private*'; --list prints the names. UMM_TEST_KERNEL=all,no-move
 * keeps to these of the sets of kernel features, UMM_TEST_COPIES=async tests of every variant to
 * copies by the worker; UMM_TEST_READAHEAD=1 has contexts prefetch on
 * faults, which otherwise only tests of that do; UMM_TEST_THRASH=1 likewise has them damp
 * thrashing; UMM_TEST_BACKEND=numa puts a memory node below the reference device,
 * UMM_TEST_BACKEND=opencl an OpenCL device.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <signal.h>

#include <cmocka.h>

#include "ref_device.h"
#include "umm.h"

#if defined(__has_feature)
#define HARNESS_FEATURE(feature) __has_feature(feature)
#else
#define HARNESS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || HARNESS_FEATURE(thread_sanitizer)
#define HARNESS_TSAN 1
#else
#define HARNESS_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__) || HARNESS_FEATURE(address_sanitizer)
#define HARNESS_ASAN 1
#else
#define HARNESS_ASAN 0
#endif

#define PAGE  UMM_PAGE_SIZE
#define BLOCK UMM_BLOCK_SIZE

/* How long to wait for what must happen; long, because it only passes when something is wrong. */
#define PATIENCE_MS 20000

struct variant {
	enum umm_devmem_type type;
	bool inline_copy;
	uint64_t features_off; /* enum umm_kernel_feature */
	uint64_t ctx_flags;    /* enum umm_ctx_flag */
};

/* May system calls touch pages that are on a device? */
static inline bool variant_has_syscalls(const struct variant *v)
{
	return !(v->features_off & UMM_KERNEL_SYSCALL_FAULTS) &&
	       !(v->ctx_flags & UMM_CTX_FAULTS_IN_THREAD);
}

#define MAX_DEVICES  8
#define MAX_MAPPINGS 64

struct env {
	struct variant variant;
	struct umm_ctx *ctx; /* a test may put it early and set this to NULL */
	struct ref_device *devices[MAX_DEVICES];
	unsigned ndevices;
	struct mapping {
		char *addr;
		size_t len;
	} mappings[MAX_MAPPINGS];
	unsigned nmappings;
	struct umm_stats mark;
};

/* Which variants a case runs in. */
enum matrix {
	MATRIX_ONCE,	/* one: private, inline, all kernel features */
	MATRIX_KERNEL,	/* every set of kernel features; private, inline */
	MATRIX_PRIVATE, /* private memory, otherwise all */
	MATRIX_COHERENT,
	MATRIX_COHERENT_ONCE, /* inline, all kernel features */
	MATRIX_ASYNC,	      /* copies by the worker, otherwise all */
	MATRIX_ASYNC_PRIVATE,
	MATRIX_SYSCALLS,  /* where faults of system calls are served */
	MATRIX_USER_MODE, /* where they are not; private memory */
	MATRIX_ALL,
};

struct test_case {
	const char *name;
	void (*fn)(struct env *env);
	enum matrix matrix;
};

#define TEST(matrix, fn)                 \
	{                                \
#fn, fn, MATRIX_##matrix \
	}

/* Run the cases; the exit status of main(). */
int harness_main(const char *group, const struct test_case *cases, size_t ncases, int argc,
		 char **argv);

/*
 * Put a real backend below the reference device, where the environment asks for one; harness_main()
 * does. 0, or the exit status where it cannot be had.
 */
int harness_backend(const char *group);
/* Is that OpenCL, and its device llvmpipe, whose copies are commands that threads of its own do? */
bool harness_is_llvmpipe(void);

/* Called at the end of every test, before anything is destroyed. */
void harness_cleanup(void (*fn)(void));

/* End the test as skipped, saying why. */
#define env_skip(...)                           \
	do {                                    \
		harness_skip_note(__VA_ARGS__); \
		skip();                         \
	} while (0)
void harness_skip_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- in the test's own thread: these fail the test ---------------------------------- */

/* A device as the variant says, with so many frames; destroyed after the test. */
struct ref_device *env_device(struct env *env, uint32_t nframes);
/* With a policy, or other options: type and inline_copy are the variant's. */
struct ref_device *env_device_with(struct env *env, struct ref_options options);
/* Destroy it now. */
void env_device_gone(struct env *env, struct ref_device *ref);
/* Close the context now. */
void env_close(struct env *env);
/* And open another: with these options, but for what the variant says. */
void env_reopen(struct env *env, struct umm_ctx_options options);

/* umm_alloc(), freed with the context. Up to 2 MiB are of one block. */
char *env_alloc(struct env *env, size_t len);
/* The same without huge pages: what was not touched stays untouched. */
char *env_alloc_small(struct env *env, size_t len);
/* A private anonymous mapping in small pages, 2 MiB aligned, unmapped after the test. */
char *env_map(struct env *env, size_t len);
/* The same, attached to the context. */
char *env_attach(struct env *env, size_t len);

/* Unmap part of such a mapping; or only forget it, because it moved away. */
void env_unmap(struct env *env, void *addr, size_t len);
void env_forget(struct env *env, void *addr, size_t len);

/* Counters of the context: remember them, and how much one grew since. */
void env_mark(struct env *env);
uint64_t env_delta(struct env *env, unsigned counter);
uint64_t env_delta_causes(struct env *env, unsigned first); /* over all causes */
/*
 * It grew by n. A fault lets the program go on before the last of its counters and of its
 * frames is booked, so this waits a while for what is missing.
 */
void assert_delta(struct env *env, unsigned counter, uint64_t n);
void assert_free_frames(struct ref_device *ref, uint32_t n);

/* Where the device's pages live. */
enum umm_page_state env_home(const struct env *env);

/* All pages in a state; the number of pages in a state; the state of one. */
void assert_state(struct env *env, const void *addr, size_t npages, enum umm_page_state state);
size_t count_state(struct env *env, const void *addr, size_t npages, enum umm_page_state state);
enum umm_page_state state_of(struct env *env, const void *addr);

/* Every word of a page differs from every other page's and seed's. */
void fill(void *addr, size_t npages, unsigned seed);
void assert_filled(const void *addr, size_t npages, unsigned seed);
void assert_zero(const void *addr, size_t npages);
/* Pages first .. first + npages of what was filled from base. */
void assert_filled_part(const void *base, size_t first, size_t npages, unsigned seed);
/* The same, seen by the device. */
void device_fill(struct ref_device *ref, void *addr, size_t npages, unsigned seed);
void assert_device_sees(struct ref_device *ref, const void *addr, size_t npages, unsigned seed);
void assert_device_sees_zero(struct ref_device *ref, const void *addr, size_t npages);

/* Move and check how many pages moved. */
void to_device(struct env *env, struct ref_device *ref, void *addr, size_t npages, long moved);
void to_system(struct env *env, void *addr, size_t npages, long moved);
/* Likewise with flags (UMM_MIGRATE_DUPLICATE, UMM_MIGRATE_NO_EVICT), and start without waiting. */
long migrate(struct env *env, struct ref_device *ref, void *addr, size_t npages, uint64_t flags);
struct umm_fence *migrate_start(struct env *env, struct ref_device *ref, void *addr, size_t npages);

/* Wait for something that another thread brings about. */
#define wait_until(condition)                                                                 \
	do {                                                                                  \
		uint64_t until_ = harness_now_ms() + PATIENCE_MS;                             \
		bool true_;                                                                   \
		while (!(true_ = (condition)) && harness_now_ms() < until_)                   \
			harness_yield();                                                      \
		if (!true_)                                                                   \
			fail_msg("after %d s still not: %s", PATIENCE_MS / 1000, #condition); \
	} while (0)

/* ---- from any thread ----------------------------------------------------------------- */

uint64_t harness_now_ms(void);
void harness_yield(void);

/* Fill or check page i of what starts at base, wherever its data was copied to. */
void page_fill(void *page, size_t i, unsigned seed);
bool page_filled(const void *page, size_t i, unsigned seed);
bool page_zero(const void *page);
/* Check page i in place. */
bool filled_at(const void *base, size_t i, unsigned seed);

/* A device's copies, its memory being at @frames. */
void copies_make(char *frames, const struct umm_copy *copies, unsigned ncopies);

/* Touch one byte; 0, or the signal that it raised. */
int touch_read(const void *addr);
int touch_write(void *addr);

/* True where the CPU has the page mapped, by /proc/self/pagemap. */
bool cpu_maps(const void *addr);
/* Is memory that was only read one page of zeroes, for all? Some kernels give pages at once. */
bool kernel_has_zero_page(void);

/* A thread that can be seen to block. */
struct actor {
	pthread_t thread;
	void (*fn)(void *arg);
	void *arg;
	atomic_int tid;
	atomic_bool done;
};

void actor_start(struct actor *actor, void (*fn)(void *arg), void *arg);
/* Wait until it sleeps in the kernel, or is done; true: it sleeps. */
bool actor_blocks(struct actor *actor);
void actor_join(struct actor *actor);

/* A barrier of two: one thread stops, another sees that it did and lets it go on. */
struct stop {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool arrived, go;
};

void stop_init(struct stop *stop);
void stop_here(struct stop *stop);    /* passes at once when already let go */
bool stop_arrived(struct stop *stop); /* waits for it; false: nobody came */
void stop_go(struct stop *stop);

/*
 * Run fn in a forked child. True if it returned, and every child_check() in it held; what
 * went wrong is printed. A child that hangs is killed.
 */
bool in_child(void (*fn)(void *arg), void *arg);
/* The two halves, for what happens between. */
int child_fork(void (*fn)(void *arg), void *arg);
bool child_wait(int pid);

#define child_check(condition)                                      \
	do {                                                        \
		if (!(condition))                                   \
			child_fail(__FILE__, __LINE__, #condition); \
	} while (0)
void child_fail(const char *file, int line, const char *what) __attribute__((noreturn));

#endif
