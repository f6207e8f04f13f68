/* SPDX-License-Identifier: MIT */
/*
 * Programs that use memory in every way that the shim interposes, one for each argument. Each needs
 * several times the limit that the test sets (32 MiB), and checks its own data.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

/* Far more than there is. ThreadSanitizer leaves a program 1.5 TiB of addresses for everything. */
#ifdef __SANITIZE_THREAD__
#define RESERVED (64 * (size_t)1024 * MIB)
#else
#define RESERVED (1024 * (size_t)1024 * MIB)
#endif

/* Called through these, so that the compiler takes nothing for granted. */
static void *(*volatile do_malloc)(size_t) = malloc;
static void *(*volatile do_calloc)(size_t, size_t) = calloc;
static void *(*volatile do_aligned_alloc)(size_t, size_t) = aligned_alloc;
static void *(*volatile do_memalign)(size_t, size_t) = memalign;
static void *(*volatile do_reallocarray)(void *, size_t, size_t) = reallocarray;

static bool is_aligned(const void *ptr, size_t alignment)
{
	return !((uintptr_t)ptr % alignment);
}

/* Each function of the family, small and large, with what goes wrong. */
static void family(void)
{
	const size_t lens[] = { 0, 1, 100, 4096, 100000, 3 * MIB, 9 * MIB };
	void *ptr;

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len = lens[i];
		void *all[] = { do_malloc(len),
				do_calloc(1, len),
				aligned_alloc(64, len),
				memalign(4096, len),
				valloc(len),
				pvalloc(len),
				reallocarray(NULL, 1, len) };

		check(!posix_memalign(&ptr, 2 * MIB, len) && is_aligned(ptr, 2 * MIB));
		check(is_aligned(all[2], 64) && is_aligned(all[3], 4096) &&
		      is_aligned(all[4], 4096));
		for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
			check(all[j] && malloc_usable_size(all[j]) >= len);
			fill(all[j], malloc_usable_size(all[j]), j);
		}
		fill(ptr, len, 99);
		for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
			check(is_filled(all[j], malloc_usable_size(all[j]), j));
			free(all[j]);
		}
		check(is_filled(ptr, len, 99));
		free(ptr);
	}
	check(!do_malloc(SIZE_MAX / 2) && errno == ENOMEM);
	errno = 0;
	check(!do_calloc(SIZE_MAX / 2, 3) && errno == ENOMEM);
	errno = 0;
	check(!do_reallocarray(NULL, SIZE_MAX / 2, 3) && errno == ENOMEM);
	check(posix_memalign(&ptr, 24, 100) == EINVAL);
	check(!do_aligned_alloc(24, 100) && errno == EINVAL);
	check((ptr = do_memalign(24, 100)) && is_aligned(ptr, 32));
	free(ptr);
	free(NULL);
}

/* Grows and shrinks across the threshold; the contents follow. */
static void resize(void)
{
	size_t lens[] = { 100, 50000, 200000, 5 * MIB, 64 * MIB, 96 * MIB, 3 * MIB, 70000, 100 };
	char *ptr = NULL;
	size_t before = 0;

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t both = before < lens[i] ? before : lens[i];

		ptr = realloc(ptr, lens[i]);
		check(ptr && (!before || is_filled(ptr, both & ~(size_t)511, 7)));
		fill(ptr, lens[i], 7);
		before = lens[i];
	}
	check(!realloc(ptr, 0));
	check(is_filled(ptr = do_calloc(80, MIB), 0, 0));
	for (size_t i = 0; i < 80 * MIB; i += 4096)
		check(!ptr[i]);
	free(ptr);
}

static void sweep(void)
{
	char *parts[32];

	for (unsigned i = 0; i < 32; i++)
		fill(parts[i] = do_malloc(4 * MIB), 4 * MIB, i);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 32; i++)
			check(is_filled(parts[i], 4 * MIB, i));
	for (unsigned i = 0; i < 32; i++)
		free(parts[i]);
}

/* A freed page must not come back with old contents, nor be carried home first. */
static void reuse(void)
{
	for (unsigned i = 0; i < 10; i++) {
		char *ptr = do_calloc(96, MIB);

		for (size_t at = 0; at < 96 * MIB; at += 4096)
			check(!ptr[at]);
		fill(ptr, 96 * MIB, i);
		free(ptr);
	}
}

static size_t address_space(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t npages = 0;

	check(file && fscanf(file, "%zu", &npages) == 1 && !fclose(file));
	return npages * 4096;
}

/* Arrays that come and go, of lengths that allocators round up: what is freed is gone. */
static void arrays(void)
{
	char *kept = do_malloc(64 * MIB);
	size_t before;

	fill(kept, 64 * MIB, 13);
	before = address_space();
	for (unsigned i = 0; i < 64; i++) {
		size_t len = (17 + i % 5) * MIB + 4096 * i;
		char *ptr = do_malloc(len);

		fill(ptr, len, i);
		check(is_filled(ptr, len, i));
		free(ptr);
	}
	check(address_space() < before + 64 * MIB);
	check(is_filled(kept, 64 * MIB, 13));
}

static char *map(size_t len)
{
	char *ptr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(ptr != MAP_FAILED);
	return ptr;
}

/* Partly unmapped, mapped anew in the middle, reserved and committed, dropped, read-only. */
static void mappings(void)
{
	char *ptr = map(128 * MIB), *part;

	fill(ptr, 128 * MIB, 1);
	check(!munmap(ptr + 16 * MIB, 8 * MIB));
	part = mmap(ptr + 16 * MIB, 8 * MIB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(part == ptr + 16 * MIB && !part[0] && !part[8 * MIB - 1]);
	check(!madvise(ptr + 32 * MIB, 8 * MIB, MADV_DONTNEED));
	check(!ptr[32 * MIB] && !ptr[40 * MIB - 1]);
	check(!mprotect(ptr + 64 * MIB, 32 * MIB, PROT_READ));
	check(((uint64_t *)ptr)[64] == (UINT64_C(1) << 40) + 64 * 0x9e3779b97f4a7c15u);
	for (size_t i = 40 * MIB; i < 128 * MIB; i += 4096)
		check(*(uint64_t *)(ptr + i) ==
		      (UINT64_C(1) << 40) + i / 8 * UINT64_C(0x9e3779b97f4a7c15));
	check(!munmap(ptr, 128 * MIB));

	ptr = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(ptr != MAP_FAILED && !mprotect(ptr + 5 * MIB, 96 * MIB, PROT_READ | PROT_WRITE));
	fill(ptr + 5 * MIB, 96 * MIB, 2);
	check(is_filled(ptr + 5 * MIB, 96 * MIB, 2));
	check(!munmap(ptr, RESERVED));
}

/* Memory that is partly on a device is resized and moved; the kernel sees many mappings. */
static void remap(void)
{
	char *ptr = map(96 * MIB);

	fill(ptr, 96 * MIB, 3);
	fill(map(64 * MIB), 64 * MIB, 4); /* pushes most of it out */
	ptr = mremap(ptr, 96 * MIB, 64 * MIB, 0);
	check(ptr != MAP_FAILED && is_filled(ptr, 64 * MIB, 3));
	/* Something behind it: it has to move. */
	check(mmap(ptr + 64 * MIB, MIB, PROT_READ,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == ptr + 64 * MIB);
	check(mremap(ptr, 64 * MIB, 128 * MIB, 0) == MAP_FAILED && errno == ENOMEM);
	ptr = mremap(ptr, 64 * MIB, 128 * MIB, MREMAP_MAYMOVE);
	check(ptr != MAP_FAILED && is_filled(ptr, 64 * MIB, 3));
	fill(ptr, 128 * MIB, 5);
	check(is_filled(ptr, 128 * MIB, 5));
	check(!munmap(ptr, 128 * MIB));
}

static size_t pages_in_host(char *ptr, size_t len)
{
	static unsigned char in_host[64 * MIB / 4096];
	size_t n = 0;

	check(len <= sizeof(in_host) * 4096 && !mincore(ptr, len, in_host));
	for (size_t i = 0; i < len / 4096; i++)
		n += in_host[i] & 1;
	return n;
}

/* Fills the host with something else. */
static void push_out(void)
{
	char *ptr = do_malloc(96 * MIB);

	fill(ptr, 96 * MIB, 15);
	check(is_filled(ptr, 96 * MIB, 15));
	free(ptr);
}

/* Locked memory stays where it is, until it is unlocked. */
static void locks(void)
{
	char *ptr = map(64 * MIB), *part = ptr + 8 * MIB;
	size_t len = 24 * MIB;

	fill(ptr, 64 * MIB, 14);
	push_out();
	check(pages_in_host(part, len) < len / 4096);
	if (mlock(part, len))
		exit(77);
	check(pages_in_host(part, len) == len / 4096);
	push_out();
	check(pages_in_host(part, len) == len / 4096);
	check(is_filled(ptr, 64 * MIB, 14));
	check(!munlock(part, len));
	push_out();
	push_out();
	check(pages_in_host(part, len) < len / 4096);
	check(is_filled(ptr, 64 * MIB, 14));
}

/* Everything, and what comes. */
static void locks_all(void)
{
	char *ptr = map(48 * MIB), *later;

	fill(ptr, 48 * MIB, 14);
	push_out();
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		exit(77);
	check(pages_in_host(ptr, 48 * MIB) == 48 * MIB / 4096);
	later = map(48 * MIB);
	fill(later, 48 * MIB, 16);
	push_out();
	check(pages_in_host(ptr, 48 * MIB) == 48 * MIB / 4096);
	check(pages_in_host(later, 48 * MIB) == 48 * MIB / 4096);
	check(!munlockall());
	push_out();
	push_out();
	check(pages_in_host(ptr, 48 * MIB) + pages_in_host(later, 48 * MIB) < 64 * MIB / 4096);
	check(is_filled(ptr, 48 * MIB, 14) && is_filled(later, 48 * MIB, 16));
}

static void *thread_main(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;

	for (unsigned i = 0; i < 12; i++) {
		size_t len = (1 + (seed * 7 + i * 5) % 12) * MIB;
		char *large = do_malloc(len), *small = do_malloc(100 + i);

		fill(large, len, seed);
		memset(small, (int)seed, 100 + i);
		check(is_filled(large, len, seed) && small[99] == (char)seed);
		free(large);
		free(small);
	}
	return do_malloc(3000); /* freed by another thread, after this one's end */
}

static void threads(void)
{
	char *ballast = do_malloc(64 * MIB);
	pthread_t thread[4];
	void *left;

	fill(ballast, 64 * MIB, 9);
	for (uintptr_t i = 0; i < 4; i++)
		check(!pthread_create(&thread[i], NULL, thread_main, (void *)(i + 1)));
	for (unsigned i = 0; i < 4; i++) {
		check(!pthread_join(thread[i], &left));
		free(left);
	}
	check(is_filled(ballast, 64 * MIB, 9));
}

static void child_end(int pid)
{
	int status;

	check(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	      !WEXITSTATUS(status));
}

/* A child has a limit, too, for what it allocates; and so have its children. */
static void child_of(unsigned generations)
{
	char *own = do_memalign(4096, 64 * MIB);
	int pid;

	fill(own, 64 * MIB, generations);
	check(pages_in_host(own, 64 * MIB) < 48 * MIB / 4096);
	check(is_filled(own, 64 * MIB, generations));
	if (!generations)
		return;
	pid = fork();
	if (!pid) {
		check(is_filled(own, 64 * MIB, generations));
		child_of(generations - 1);
		check(is_filled(own, 64 * MIB, generations));
		_exit(0);
	}
	printf("child %d\n", pid);
	fflush(stdout);
	check(is_filled(own, 64 * MIB, generations));
	child_end(pid);
	check(is_filled(own, 64 * MIB, generations));
}

static void children(void)
{
	child_of(2);
}

static volatile bool stop;

static void *churn(void *arg)
{
	while (!stop)
		free(memset(do_malloc(300000), 1, 300000));
	return arg;
}

/* Children see a snapshot, may allocate, free and exec, while others of us allocate. */
static void forks(void)
{
	char *ptr = do_malloc(96 * MIB);
	pthread_t thread;

	fill(ptr, 96 * MIB, 6);
	check(!pthread_create(&thread, NULL, churn, NULL));
	for (unsigned i = 0; i < 4; i++) {
		int pid = fork();

		if (!pid) {
			char *own = do_malloc(40 * MIB);

			fill(own, 40 * MIB, 8);
			check(is_filled(ptr, 96 * MIB, 6) && is_filled(own, 40 * MIB, 8));
			free(own);
			free(ptr);
			if (i & 1)
				execl("/bin/true", "true", NULL);
			_exit(0);
		}
		fill(ptr, MIB, 6);
		child_end(pid);
	}
	stop = true;
	pthread_join(thread, NULL);
	check(!system("true"));
	check(is_filled(ptr, 96 * MIB, 6));
}

/* As daemons do, and shells: what is open they close, and they take the numbers that they like. */
static void closes_all(void)
{
	for (int fd = 3; fd < 256; fd++)
		check(dup2(STDOUT_FILENO, fd) == fd);
	closefrom(3);
	for (int fd = 3; fd < 4096; fd++)
		check(close(fd) && errno == EBADF);
	check(!close_range(3, ~0U, 0));
	check(dup(STDOUT_FILENO) == 3 && !close(3));
}

static void closes(void)
{
	char *ptr = do_malloc(96 * MIB);
	int pid;

	fill(ptr, 96 * MIB, 17);
	closes_all();
	check(is_filled(ptr, 96 * MIB, 17));
	push_out();
	check(is_filled(ptr, 96 * MIB, 17));
	pid = fork();
	if (!pid) {
		closes_all();
		closefrom(0);
		check(is_filled(ptr, 96 * MIB, 17));
		fill(ptr, 96 * MIB, 18);
		_exit(0);
	}
	child_end(pid);
	push_out();
	check(is_filled(ptr, 96 * MIB, 17));
}

/* System calls on memory that is on a device. */
static void calls(void)
{
	char *ptr = do_malloc(96 * MIB), *copy = do_malloc(96 * MIB);
	FILE *file = tmpfile();

	fill(ptr, 96 * MIB, 10);
	check(file && fwrite(ptr, 1, 96 * MIB, file) == 96 * MIB && !fflush(file));
	for (size_t at = 0; at < 96 * MIB; at += 4 * MIB)
		check(pread(fileno(file), copy + at, 4 * MIB, (off_t)at) == 4 * (ssize_t)MIB);
	check(is_filled(copy, 96 * MIB, 10));
}

static void library(void)
{
	void *object = dlopen(getenv("VICTIM_LIBRARY"), RTLD_NOW);
	void *(*make)(size_t);
	void (*destroy)(void *);
	char *ptr;

	check(object);
	*(void **)&make = dlsym(object, "library_make");
	*(void **)&destroy = dlsym(object, "library_destroy");
	check(make && destroy && !dlsym(RTLD_NEXT, "no_such_symbol") && dlerror());
	ptr = make(96 * MIB);
	check(is_filled(ptr, 96 * MIB, 11));
	destroy(ptr);
	check(!dlclose(object));
}

/* Bound to the C library's malloc, it keeps to itself what it got there. */
static void deepbind(void)
{
	void *object = dlopen(getenv("VICTIM_LIBRARY"), RTLD_NOW | RTLD_DEEPBIND);
	char *mine = do_malloc(96 * MIB), *theirs;
	void *(*make)(size_t);
	void (*destroy)(void *);

	check(object);
	*(void **)&make = dlsym(object, "library_make");
	*(void **)&destroy = dlsym(object, "library_destroy");
	check(make && destroy);
	fill(mine, 96 * MIB, 13);
	theirs = make(16 * MIB);
	check(is_filled(mine, 96 * MIB, 13) && is_filled(theirs, 16 * MIB, 11));
	destroy(theirs);
	check(!dlclose(object));
}

static bool cloned_is_right;

static int cloned(void *memory)
{
	cloned_is_right = is_filled(memory, 96 * MIB, 14);
	fill(memory, 96 * MIB, 15);
	return 0;
}

/* Threads that the C library does not know of, with stacks that may be away. */
static void clones(void)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	char *memory = do_malloc(96 * MIB), *stack = do_malloc(MIB);

	for (unsigned i = 0; i < 3; i++) {
		static pid_t thread;

		fill(memory, 96 * MIB, 14);
		cloned_is_right = false;
		check(clone(cloned, stack + MIB, flags, memory, &thread, NULL, &thread) > 0);
		for (pid_t now; (now = __atomic_load_n(&thread, __ATOMIC_ACQUIRE));)
			syscall(SYS_futex, &thread, FUTEX_WAIT, now, NULL);
		check(cloned_is_right && is_filled(memory, 96 * MIB, 15));
	}
}

/* As daemons do once they have what only root may open. */
static void drops_rights(void)
{
	char *ptr = do_malloc(96 * MIB);
	pthread_t thread;
	int pid;

	fill(ptr, 96 * MIB, 19);
	check(!pthread_create(&thread, NULL, churn, NULL));
	check(!setgid(65534) && !setuid(65534) && geteuid() == 65534 && setuid(0));
	check(is_filled(ptr, 96 * MIB, 19));
	fill(ptr, 96 * MIB, 20);
	push_out();
	check(is_filled(ptr, 96 * MIB, 20));
	pid = fork();
	if (!pid) {
		check(is_filled(ptr, 96 * MIB, 20));
		_exit(0);
	}
	child_end(pid);
	push_out();
	check(is_filled(ptr, 96 * MIB, 20));
	stop = true;
	pthread_join(thread, NULL);
}

/* The same before it has allocated much. */
static void drops_rights_first(void)
{
	check(!setgid(65534) && !setuid(65534) && geteuid() == 65534 && setuid(0));
	sweep();
}

/* A child of who has no rights any more, which needs far more than the limit. */
static void child_without_rights(void)
{
	int pid;

	drops_rights_first();
	pid = fork();
	if (!pid) {
		sweep();
		exit(0);
	}
	child_end(pid);
	sweep();
}

static void capabilities_drop(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	check(!syscall(SYS_capset, &header, none));
}

/* All capabilities of this thread's, with memory on devices already; not of the engine's. */
static void drops_capabilities(void)
{
	char *ptr = do_malloc(96 * MIB);

	fill(ptr, 96 * MIB, 21);
	capabilities_drop();
	check(is_filled(ptr, 96 * MIB, 21));
	push_out();
	check(is_filled(ptr, 96 * MIB, 21));
}

/* The same before it has allocated much. */
static void drops_capabilities_first(void)
{
	capabilities_drop();
	sweep();
}

/* Is looked at and changed from outside. */
static void waits(void)
{
	char *ptr = do_malloc(128 * MIB);

	fill(ptr, 128 * MIB, 12);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

static void waits_as_nobody(void)
{
	check(!setuid(65534));
	waits();
}

/* So does a child of its own. */
static void waits_twice(void)
{
	int pid = fork();

	check(pid >= 0);
	if (pid)
		printf("child %d\n", pid);
	waits();
}

/* Becomes another program, which has nothing to do with the shim. */
static void becomes(void)
{
	char *ptr = do_malloc(128 * MIB);

	fill(ptr, 128 * MIB, 12);
	check(!unsetenv("LD_PRELOAD"));
	puts("ready");
	fflush(stdout);
	execl("/bin/sleep", "sleep", "600", NULL);
	check(false);
}

static sigjmp_buf lost_page;
static volatile sig_atomic_t may_be_lost;

static void lost_here(int signal)
{
	(void)signal;
	if (!may_be_lost)
		_exit(1);
	siglongjmp(lost_page, 1);
}

static bool is_lost(volatile uint64_t *word, uint64_t expected)
{
	uint64_t found;

	may_be_lost = 1;
	if (sigsetjmp(lost_page, 1)) {
		may_be_lost = 0;
		return true;
	}
	found = *word;
	may_be_lost = 0;
	check(found == expected);
	return false;
}

/* How many of all pages are lost by now; those that were stay so. */
static size_t look(char *ptr, size_t npages, bool *lost)
{
	size_t n = 0;

	for (size_t i = 0; i < npages; i++) {
		bool was = lost[i];

		lost[i] = is_lost((uint64_t *)(ptr + i * 4096), i + 1);
		check(lost[i] || !was);
		n += lost[i];
	}
	return n;
}

/* Its device dies. What was there is gone for good; what was not is as it was, and what comes. */
static void outlives(void)
{
	size_t npages = 128 * MIB / 4096, nlost;
	bool *lost = do_calloc(npages, sizeof(*lost));
	char *ptr = map(128 * MIB), *later;

	check(signal(SIGBUS, lost_here) != SIG_ERR);
	for (size_t i = 0; i < npages; i++)
		*(uint64_t *)(ptr + i * 4096) = i + 1;
	/* What was read before it died may have been there again when it did. */
	look(ptr, npages, lost);
	nlost = look(ptr, npages, lost);
	fill(later = do_malloc(96 * MIB), 96 * MIB, 22);
	check(is_filled(later, 96 * MIB, 22));
	check(look(ptr, npages, lost) == nlost);
	check(!madvise(ptr, 128 * MIB, MADV_DONTNEED) && !ptr[0] && !ptr[128 * MIB - 1]);
	fill(ptr, 128 * MIB, 23);
	check(is_filled(ptr, 128 * MIB, 23));
	check(is_filled(later, 96 * MIB, 22));
	printf("lost: %zu pages\n", nlost);
}

static void *read_for_ever(void *ptr)
{
	for (;;)
		check(is_filled(ptr, 128 * MIB, 12));
	return NULL;
}

/* Reads all of it, be it as slow as it may, until it is told to end. */
static void scans_until_told(void)
{
	char *ptr = map(128 * MIB);
	pthread_t thread;
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	check(!pthread_sigmask(SIG_BLOCK, &set, NULL));
	fill(ptr, 128 * MIB, 12);
	check(!pthread_create(&thread, NULL, read_for_ever, ptr));
	printf("process %d\n", (int)getpid());
	fflush(stdout);
	check(!sigwait(&set, &signal));
	printf("in the host: %zu pages\n",
	       pages_in_host(ptr, 64 * MIB) + pages_in_host(ptr + 64 * MIB, 64 * MIB));
}

/* Reads all of it, again and again, until it is killed. */
static void scans(void)
{
	char *ptr = do_malloc(128 * MIB);

	fill(ptr, 128 * MIB, 12);
	puts("ready");
	fflush(stdout);
	for (;;)
		check(is_filled(ptr, 128 * MIB, 12));
}

static const struct {
	const char *name;
	void (*run)(void);
} programs[] = {
	{ "family", family },
	{ "resize", resize },
	{ "sweep", sweep },
	{ "reuse", reuse },
	{ "arrays", arrays },
	{ "remap", remap },
	{ "threads", threads },
	{ "forks", forks },
	{ "calls", calls },
	{ "library", library },
	{ "deepbind", deepbind },
	{ "clones", clones },
	{ "mappings", mappings },
	{ "waits", waits },
	{ "scans", scans },
	{ "outlives", outlives },
	{ "scans_until_told", scans_until_told },
	{ "children", children },
	{ "locks", locks },
	{ "locks_all", locks_all },
	{ "closes", closes },
	{ "drops_rights", drops_rights },
	{ "drops_rights_first", drops_rights_first },
	{ "child_without_rights", child_without_rights },
	{ "drops_capabilities", drops_capabilities },
	{ "drops_capabilities_first", drops_capabilities_first },
	{ "becomes", becomes },
	{ "waits_as_nobody", waits_as_nobody },
	{ "waits_twice", waits_twice },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!strcmp(programs[i].name, argv[1])) {
			programs[i].run();
			puts("victim: all as it should be");
			return 0;
		}
	return 2;
}
