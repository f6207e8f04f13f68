/* SPDX-License-Identifier: MIT */
/*
 * A program that deals with the kernel in ways of its own, while more of its memory is on devices
 * than in the host. usage: victim_raw CASE [FILE], or
 * victim_raw contained PROGRAM [ARGUMENT...]
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

/* Descriptor 2 becomes a file of data, before there is reason for a message. */
static void data_at_2(const char *file)
{
	static const char begin[] = "begin\n", end[] = "end\n";
	char *ptr;

	check(!close(STDERR_FILENO));
	check(open(file, O_CREAT | O_TRUNC | O_WRONLY, 0600) == STDERR_FILENO);
	check(write(STDERR_FILENO, begin, strlen(begin)) == (ssize_t)strlen(begin));
	ptr = malloc(96 * MIB);
	fill(ptr, 96 * MIB, 31);
	check(is_filled(ptr, 96 * MIB, 31));
	check(write(STDERR_FILENO, end, strlen(end)) == (ssize_t)strlen(end));
	free(ptr);
}

/* Everything from 3 on, by system calls. */
static void closes_by_syscall(const char *file)
{
	char *ptr = malloc(96 * MIB);

	(void)file;
	fill(ptr, 96 * MIB, 32);
	check(!syscall(SYS_close_range, 3, ~0U, 0));
	check(is_filled(ptr, 96 * MIB, 32));
	for (int fd = 3; fd < 4096; fd++)
		check(syscall(SYS_close, fd) == -1 && errno == EBADF);
	check(syscall(SYS_dup3, STDOUT_FILENO, 3, O_CLOEXEC) == 3);
	check(fcntl(3, F_GETFD) == FD_CLOEXEC && !syscall(SYS_close, 3));
	for (int fd = 256; fd < 300; fd++)
		syscall(SYS_dup3, STDOUT_FILENO, fd, 0);
	check(is_filled(ptr, 96 * MIB, 32));
	free(ptr);
}

/* ---- processes that are made past fork() ------------------------------------------------- */

enum { CHILD_STATUS = 42, STACK = 256 * 1024 };

static char *shared_out;
static int child_fill;

/* A child has what the parent had, and may write to it. */
static int looks(void *arg)
{
	(void)arg;
	check(is_filled(shared_out, 96 * MIB, child_fill));
	fill(shared_out, 8 * MIB, 90);
	_exit(CHILD_STATUS);
}

static pid_t by_fork_call(void)
{
	return _Fork();
}

static pid_t by_clone(void)
{
	char *stack = malloc(STACK);

	check(stack);
	return clone(looks, stack + STACK, SIGCHLD, NULL);
}

static pid_t by_sys_clone(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0L);
}

static pid_t by_sys_clone3(void)
{
	uint64_t args[8] = { [4] = SIGCHLD };

	return (pid_t)syscall(SYS_clone3, args, sizeof(args));
}

static pid_t handler_child;
static pid_t (*handler_makes)(void);

static void makes_child(int signal)
{
	(void)signal;
	handler_child = handler_makes();
	if (!handler_child)
		looks(NULL);
}

static pid_t by_handler(void)
{
	struct sigaction action = { .sa_handler = makes_child };

	handler_makes = by_fork_call;
	check(!sigaction(SIGUSR1, &action, NULL) && !raise(SIGUSR1));
	return handler_child;
}

#ifdef SYS_fork
static pid_t by_sys_fork(void)
{
	return (pid_t)syscall(SYS_fork);
}
#endif

static const struct {
	const char *name;
	pid_t (*make)(void);
} child_ways[] = {
	{ "_Fork", by_fork_call },	 { "clone", by_clone },	    { "sys_clone", by_sys_clone },
	{ "sys_clone3", by_sys_clone3 }, { "handler", by_handler },
#ifdef SYS_fork
	{ "sys_fork", by_sys_fork },
#endif
};

static void make_and_wait(pid_t (*make)(void))
{
	int status;
	pid_t pid = make();

	if (!pid)
		looks(NULL);
	check(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	      WEXITSTATUS(status) == CHILD_STATUS);
}

/* With most of the memory on devices, and after that. */
static void children_past_fork(const char *way)
{
	pid_t (*make)(void) = NULL;

	for (size_t i = 0; i < sizeof(child_ways) / sizeof(child_ways[0]); i++)
		if (!strcmp(child_ways[i].name, way))
			make = child_ways[i].make;
	check(make);
	errno = 0;
	check(syscall(SYS_clone3, NULL, 88L) == -1 && errno == EFAULT);
	shared_out = malloc(96 * MIB);
	check(shared_out);
	for (int turn = 0; turn < 2; turn++) {
		child_fill = 91 + turn;
		fill(shared_out, 96 * MIB, child_fill);
		make_and_wait(make);
		check(is_filled(shared_out, 96 * MIB, child_fill));
	}
	free(shared_out);
}

/* What syscall() has always been: six arguments, errno, the number that it is given. */
static void syscalls(const char *file)
{
	size_t len = 64 * MIB;
	char *ptr, *moved;
	int fds[2], status;
	long pid;

	(void)file;
	check(syscall(SYS_getpid) == getpid());
	errno = 0;
	check(syscall(-1L) == -1 && errno == ENOSYS);
	errno = 0;
	check(syscall(100000L) == -1 && errno == ENOSYS);
	check(syscall(SYS_write, -1, "", 1) == -1 && errno == EBADF);
	check(!pipe(fds) && syscall(SYS_write, fds[1], "abc", 3) == 3);
	check(syscall(SYS_splice, fds[0], NULL, fds[1], NULL, 0L, 0L) == 0);
	pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0L);
	if (!pid)
		syscall(SYS_exit_group, 42);
	check(waitpid((pid_t)pid, &status, 0) == pid && WIFEXITED(status) &&
	      WEXITSTATUS(status) == 42);

	ptr = (char *)syscall(SYS_mmap, NULL, len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
	check(ptr != MAP_FAILED);
	fill(ptr, len, 33);
	moved = (char *)syscall(SYS_mremap, ptr, len, 2 * len, MREMAP_MAYMOVE, NULL);
	check(moved != MAP_FAILED && is_filled(moved, len, 33));
	fill(moved, 2 * len, 34);
	check(!syscall(SYS_mprotect, moved, len, PROT_READ) && is_filled(moved, 2 * len, 34));
	check(!syscall(SYS_mprotect, moved, len, PROT_READ | PROT_WRITE));
	check(!syscall(SYS_madvise, moved, len, MADV_DONTNEED) && !moved[0] && !moved[len - 1]);
	check(is_filled(moved + len, 0, 34) && !syscall(SYS_munmap, moved, 2 * len));
	errno = 0;
	check(syscall(SYS_mmap, NULL, 0L, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L) == -1 &&
	      errno == EINVAL);
}

static pthread_barrier_t is_apart, is_full;

static void *closes_apart(void *arg)
{
	check(!unshare(CLONE_FILES));
	pthread_barrier_wait(&is_apart);
	pthread_barrier_wait(&is_full);
	closefrom(3);
	return arg;
}

/* A thread that has a table for itself, from before there was an engine, closes what is in that. */
static void closes_in_own_table(const char *file)
{
	pthread_t thread;
	char *ptr;

	(void)file;
	check(!pthread_barrier_init(&is_apart, NULL, 2) &&
	      !pthread_barrier_init(&is_full, NULL, 2));
	check(!pthread_create(&thread, NULL, closes_apart, NULL));
	pthread_barrier_wait(&is_apart);
	ptr = malloc(96 * MIB);
	fill(ptr, 96 * MIB, 37);
	pthread_barrier_wait(&is_full);
	check(!pthread_join(thread, NULL));
	for (unsigned i = 0; i < 8; i++) {
		check(is_filled(ptr, 96 * MIB, 37 + i));
		fill(ptr, 96 * MIB, 38 + i);
	}
	for (int fd = 3; fd < 4096; fd++)
		close(fd);
	check(is_filled(ptr, 96 * MIB, 45));
	free(ptr);
}

/* Whoever reads sees the end once the program has closed its side. */
static void closes_a_pipe(const char *file)
{
	int fds[2];
	char *ptr, byte;

	(void)file;
	check(!pipe(fds));
	ptr = malloc(96 * MIB);
	fill(ptr, 96 * MIB, 39);
	check(!close(fds[1]));
	alarm(60);
	check(read(fds[0], &byte, 1) == 0);
	alarm(0);
	check(is_filled(ptr, 96 * MIB, 39));
	free(ptr);
}

#if defined(__x86_64__)
/* Past the C library altogether: nothing of what is on a device may read as what it is not. */
static void closes_by_instruction(const char *file)
{
	char *ptr = malloc(96 * MIB);
	long ret;

	(void)file;
	fill(ptr, 96 * MIB, 35);
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_close_range), "D"(3L), "S"(~0U), "d"(0L)
			 : "rcx", "r11", "memory");
	check(!ret);
	check(is_filled(ptr, 96 * MIB, 35));
	for (;;)
		pause();
}
#endif

/* What a program needs that reads, writes and allocates. */
static int filter_set(bool by_prctl)
{
	static const unsigned allowed[] = { SYS_read,		SYS_write,	    SYS_mmap,
					    SYS_munmap,		SYS_mremap,	    SYS_brk,
					    SYS_futex,		SYS_madvise,	    SYS_mprotect,
					    SYS_exit_group,	SYS_fstat,	    SYS_newfstatat,
					    SYS_close,		SYS_lseek,	    SYS_exit,
					    SYS_rt_sigprocmask, SYS_clone,	    SYS_getrandom,
					    SYS_wait4,		SYS_set_robust_list };
	enum { N = sizeof(allowed) / sizeof(allowed[0]) };
	struct sock_filter code[N + 3] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						    offsetof(struct seccomp_data, nr)) };
	struct sock_fprog filter = { N + 3, code };

	for (unsigned i = 0; i < N; i++)
		code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i],
							   (__u8)(N - i), 0);
	code[1 + N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[2 + N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (by_prctl)
		return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) == -1 && errno == EFAULT);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
			    &filter);
}

/* What is on devices by then, and what it allocates and frees from there on. */
static void works_filtered(char *ptr, size_t len)
{
	char *more;

	check(is_filled(ptr, len, 36));
	for (unsigned i = 0; i < 6; i++) {
		more = malloc(40 * MIB);
		fill(more, 40 * MIB, i);
		more = realloc(more, 80 * MIB);
		check(more && is_filled(more, 40 * MIB, i));
		free(more);
	}
	check(is_filled(ptr, len, 36));
	free(ptr);
}

static void filters_late(const char *file)
{
	char *ptr = malloc(96 * MIB);

	fill(ptr, 96 * MIB, 36);
	check(!filter_set(!file));
	works_filtered(ptr, 96 * MIB);
}

static atomic_bool is_over;

static void *works_on(void *part)
{
	uint64_t seed = 0;

	do {
		check(!seed || is_filled(part, 24 * MIB, seed));
		fill(part, 24 * MIB, ++seed);
		free(memset(malloc(MIB), 1, MIB));
	} while (!atomic_load(&is_over));
	check(is_filled(part, 24 * MIB, seed));
	return NULL;
}

/* While others work on what comes home, and a child does the same. */
static void filters_among_threads(const char *file)
{
	pthread_t threads[4];
	char *ptr = malloc(96 * MIB), *own = malloc(32 * MIB);
	int status, pid;

	fill(ptr, 96 * MIB, 36);
	fill(own, 32 * MIB, 36);
	pid = fork();
	if (!pid) {
		check(!filter_set(!file));
		works_filtered(ptr, 96 * MIB);
		_exit(0);
	}
	for (unsigned i = 0; i < 4; i++)
		check(!pthread_create(&threads[i], NULL, works_on, ptr + i * 24 * MIB));
	check(waitpid(pid, &status, 0) == pid && !status);
	check(!filter_set(!file));
	works_filtered(own, 32 * MIB);
	atomic_store(&is_over, true);
	for (unsigned i = 0; i < 4; i++)
		check(!pthread_join(threads[i], NULL));
	free(ptr);
}

/* And so do its children. */
static void filters_forks(const char *file)
{
	char *ptr = malloc(96 * MIB);
	int status, pid;

	fill(ptr, 96 * MIB, 36);
	check(!filter_set(!file));
	pid = fork();
	if (!pid) {
		works_filtered(ptr, 96 * MIB);
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid && !status);
	works_filtered(ptr, 96 * MIB);
}

static void filters_early(const char *file)
{
	char *ptr;

	check(!filter_set(!file));
	ptr = malloc(96 * MIB);
	fill(ptr, 96 * MIB, 36);
	works_filtered(ptr, 96 * MIB);
}

static void *pauses(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* By its own doing, or in that of a child; the second of two threads is in the way as ever. */
static void namespaces(const char *way)
{
	char *ptr = malloc(96 * MIB), path[64], byte;
	pthread_t thread;
	int told[2], fd, ret;
	pid_t pid;

	check(!pipe(told));
	pid = fork();
	if (!pid) {
		ret = unshare(CLONE_NEWUSER);
		check(write(told[1], ret ? "n" : "y", 1) == 1);
		pauses(NULL);
	}
	check(read(told[0], &byte, 1) == 1);
	if (byte == 'n') {
		kill(pid, SIGKILL);
		puts("SKIPPED: user namespaces cannot be made here");
		exit(77);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	fill(ptr, 96 * MIB, 39);
	if (!strcmp(way, "threads"))
		check(!pthread_create(&thread, NULL, pauses, NULL));
	if (strstr(way, "syscall"))
		ret = (int)(strstr(way, "setns") ? syscall(SYS_setns, fd, CLONE_NEWUSER) :
						   syscall(SYS_unshare, CLONE_NEWUSER));
	else
		ret = strcmp(way, "setns") ? unshare(CLONE_NEWUSER) : setns(fd, CLONE_NEWUSER);
	check(strcmp(way, "threads") ? !ret : ret == -1 && errno == EINVAL);
	check(!kill(pid, SIGKILL));
	check(is_filled(ptr, 96 * MIB, 39));
	for (unsigned i = 0; i < 4; i++)
		fill(ptr, 96 * MIB, i);
	check(is_filled(ptr, 96 * MIB, 3));
	free(ptr);
}

/* This program anew, where what managed memory takes is not allowed any more. */
static void becomes_filtered(const char *file)
{
	static const unsigned fatal[] = { SYS_unshare,	   SYS_sched_setaffinity,
					  SYS_close_range, SYS_fallocate,
					  SYS_ioctl,	   SYS_userfaultfd };
	enum { N = sizeof(fatal) / sizeof(fatal[0]) };
	struct sock_filter code[N + 3] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						    offsetof(struct seccomp_data, nr)) };
	struct sock_fprog filter = { N + 3, code };

	for (unsigned i = 0; i < N; i++)
		code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, fatal[i],
							   (__u8)(N - i), 0);
	code[1 + N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[2 + N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
	execl("/proc/self/exe", "victim_raw", "fills", file, NULL);
	check(false);
}

static int filter_nothing(void)
{
	struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = { 1, &code };

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* Under a filter that allows everything: the arguments behind it. */
static void becomes_contained(char **argv)
{
	check(!filter_nothing());
	execvp(argv[0], argv);
	check(false);
}

static void fills(const char *file)
{
	char *ptr = malloc(96 * MIB);

	(void)file;
	fill(ptr, 96 * MIB, 38);
	check(is_filled(ptr, 96 * MIB, 38));
	free(ptr);
}

static void again_soon(void)
{
	struct itimerval soon = { .it_value.tv_usec = 2000 };

	check(!setitimer(ITIMER_REAL, &soon, NULL));
}

static atomic_int nforks;

static void forks(int number)
{
	int pid = fork(), status;

	(void)number;
	if (!pid)
		_exit(0);
	check(pid > 0 && waitpid(pid, &status, 0) == pid && !status);
	if (++nforks < 4)
		again_soon();
}

/* A handler of signals forks meanwhile, on the thread that sets the filter. */
static void filters_and_forks(const char *file)
{
	char *ptr = malloc(96 * MIB);

	(void)file;
	fill(ptr, 96 * MIB, 36);
	check(signal(SIGALRM, forks) != SIG_ERR);
	again_soon();
	check(!filter_nothing());
	works_filtered(ptr, 96 * MIB);
	while (nforks < 4)
		pause();
}

/* What fails sets no filter: questions to the kernel, and a program that has no right to. */
static void filters_not(const char *file)
{
	struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = { 1, &code };
	char *ptr = malloc(96 * MIB);

	(void)file;
	fill(ptr, 96 * MIB, 36);
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL) == -1 && errno == EINVAL);
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1U << 31, &filter) == -1 &&
	      errno == EINVAL);
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) == -1 && errno == EFAULT);
	check(prctl(PR_SET_SECCOMP, 77, &filter) == -1 && errno == EINVAL);
	if (geteuid() || !setuid(65534)) {
		check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == -1 &&
		      errno == EACCES);
		check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == -1 && errno == EACCES);
	}
	check(is_filled(ptr, 96 * MIB, 36));
	free(ptr);
}

static void filters_and_waits(const char *file)
{
	char *ptr = malloc(96 * MIB);

	(void)file;
	fill(ptr, 96 * MIB, 36);
	check(!filter_nothing());
	check(is_filled(ptr, 96 * MIB, 36)); /* or a compiler leaves out what nobody reads */
	printf("process %d\n", (int)getpid());
	fflush(stdout);
	pause();
}

static void *filters_too(void *arg)
{
	check(!filter_nothing());
	return arg;
}

static void filters_twice(const char *file)
{
	char *ptr = malloc(96 * MIB);
	pthread_t thread;

	(void)file;
	fill(ptr, 96 * MIB, 36);
	check(!pthread_create(&thread, NULL, filters_too, NULL));
	filters_too(NULL);
	check(!pthread_join(thread, NULL));
	works_filtered(ptr, 96 * MIB);
}

static unsigned count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned n = 0;

	check(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

/* With the loader's lock: the engine that waits for that comes too late, and goes. */
static void filters_while_loading(const char *file)
{
	char *ptr = malloc(16 * MIB);
	void *library;

	(void)file;
	fill(ptr, 16 * MIB, 36);
	library = dlopen(getenv("VICTIM_LIBRARY"), RTLD_NOW);
	check(library);
	for (unsigned i = 0; i < 600 && count_threads() > 1; i++)
		usleep(100000);
	check(count_threads() == 1);
	works_filtered(ptr, 16 * MIB);
	check(!dlclose(library));
}

static void *reads_for_ever(void *ptr)
{
	for (;;)
		check(is_filled(ptr, 96 * MIB, 38));
	return NULL;
}

/* Once it is told, and what moves pages is stuck. */
static void filters_when_told(const char *child)
{
	char *ptr = malloc(96 * MIB);
	pthread_t thread;
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	check(!pthread_sigmask(SIG_BLOCK, &set, NULL));
	fill(ptr, 96 * MIB, 38);
	check(!pthread_create(&thread, NULL, reads_for_ever, ptr));
	printf("process %d\n", (int)getpid());
	fflush(stdout);
	check(!sigwait(&set, &signal));
	if (child)
		check(_Fork() == -1 && errno == EAGAIN);
	else
		check(!filter_nothing());
}

static volatile sig_atomic_t nsent, nback;

static void count_sent(int signal)
{
	(void)signal;
	nsent++;
}

static void count_back(int signal)
{
	(void)signal;
	nback++;
}

/*
 * How often it gets what a terminal sends. Its parent passes on what it is sent, in turn: once that
 * has come back twice, so has all that came before.
 */
static void counts(const char *path)
{
	static const int sent[] = { SIGINT, SIGQUIT, SIGHUP, SIGUSR1 };
	sigset_t none, all;
	FILE *file;

	sigemptyset(&none);
	sigfillset(&all);
	check(!sigprocmask(SIG_SETMASK, &all, NULL));
	for (size_t i = 0; i < sizeof(sent) / sizeof(sent[0]); i++)
		check(signal(sent[i], sent[i] == SIGUSR1 ? count_back : count_sent) != SIG_ERR);
	puts("ready");
	fflush(stdout);
	while (!nsent)
		sigsuspend(&none);
	for (int i = 1; i <= 2; i++) {
		check(!kill(getppid(), SIGUSR1));
		while (nback < i)
			sigsuspend(&none);
	}
	file = fopen(path, "we");
	check(file && fprintf(file, "%d\n", (int)nsent) > 0 && !fclose(file));
}

static void undumpable(const char *file)
{
	check(!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	fills(file);
}

static const struct {
	const char *name;
	void (*run)(const char *file);
} programs[] = {
	{ "data_at_2", data_at_2 },
	{ "closes_by_syscall", closes_by_syscall },
	{ "syscalls", syscalls },
	{ "children_past_fork", children_past_fork },
	{ "becomes_filtered", becomes_filtered },
	{ "fills", fills },
	{ "closes_in_own_table", closes_in_own_table },
	{ "closes_a_pipe", closes_a_pipe },
	{ "filters_late", filters_late },
	{ "filters_forks", filters_forks },
	{ "namespaces", namespaces },
	{ "filters_early", filters_early },
	{ "filters_among_threads", filters_among_threads },
	{ "filters_and_forks", filters_and_forks },
	{ "filters_and_waits", filters_and_waits },
	{ "filters_not", filters_not },
	{ "filters_twice", filters_twice },
	{ "filters_while_loading", filters_while_loading },
	{ "filters_when_told", filters_when_told },
	{ "undumpable", undumpable },
	{ "counts", counts },
#if defined(__x86_64__)
	{ "closes_by_instruction", closes_by_instruction },
#endif
};

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "contained"))
		becomes_contained(argv + 2);
	for (size_t i = 0; argc > 1 && i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!strcmp(programs[i].name, argv[1])) {
			programs[i].run(argv[2]);
			puts("victim: all as it should be");
			return 0;
		}
	return 2;
}
