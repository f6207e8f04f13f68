/* SPDX-License-Identifier: MIT */
/*
 * Running a program as the case wants it, and reading what it prints. Of a program that is not ours
 * the time is taken from outside, and what it prints is dropped. The dynamic loader, the
 * shim and the kernel do the rest. A program that takes ten minutes is ended by its alarm.
 *
 * The competitor of the shim's limit is a memory cgroup whose pages go to a swap device that is
 * RAM: set up by who owns the machine, for it is there for all; without one the case is skipped.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_S 600

static int file_write(const char *dir, const char *name, const char *text)
{
	char path[256];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static const char *program_of(const struct load *load)
{
	return load->program ? load->program : BENCH_LOAD;
}

/* In the child: never returns. */
static void become(const struct load *load, int out)
{
	char limit[32];
	char *argv[6] = { (char *)program_of(load) };

	alarm(TIMEOUT_S);
	if (load->program) {
		out = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(out, STDIN_FILENO);
		dup2(out, STDERR_FILENO);
	}
	dup2(out, STDOUT_FILENO);
	unsetenv("UMM_HOST_LIMIT");
	unsetenv("UMM_DEVICE");
	if (load->preload)
		setenv("LD_PRELOAD", load->preload, true);
	if (load->device) {
		snprintf(limit, sizeof(limit), "%zuM", load->limit_mib);
		setenv("UMM_HOST_LIMIT", limit, true);
		setenv("UMM_DEVICE", load->device, true);
		setenv("UMM_TIER_PATH", BENCH_TIERS, true);
		setenv("UMM_SUMMARY", "yes", true);
		if (load->sampling)
			setenv("UMM_SAMPLING", load->sampling, true);
		dup2(out, STDERR_FILENO);
	}
	if (load->cgroup && file_write(load->cgroup, "cgroup.procs", "0"))
		_exit(126);
	if (load->dir && chdir(load->dir))
		_exit(126);
	for (unsigned i = 0; i < 5 && load->argv[i]; i++)
		argv[i + 1] = (char *)load->argv[i];
	execvp(argv[0], argv);
	_exit(127);
}

/* Its two numbers, and what the shim says. False: some of it is missing. */
static bool answer_read(FILE *answer, const struct load *load, struct load_result *out)
{
	bool got = false, left = false;
	char line[512];

	out->probes_ms = 0;
	while (fgets(line, sizeof(line), answer)) {
		sscanf(line, " of CPU time %lf", &out->probes_ms);
		got |= sscanf(line, "%lf %lf", &out->figure, &out->most_kib) == 2;
		left |= strstr(line, "moved to devices") != NULL;
	}
	return got && (left || !load->leaves);
}

int load_run(struct bench_env *env, const struct load *load, struct load_result *out)
{
	uint64_t begin = machine_now();
	struct rusage usage = { 0 };
	int fds[2], status = 0;
	bool got;
	FILE *answer;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return bench_note(env, -errno, "pipe2");
	pid = fork();
	if (!pid)
		become(load, fds[1]);
	close(fds[1]);
	answer = fdopen(fds[0], "r");
	if (pid < 0 || !answer)
		return bench_note(env, -ENOMEM, "no process");
	got = answer_read(answer, load, out) || load->program;
	fclose(answer);
	while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
		;
	if (status)
		return bench_note(env, -EIO, "%s %s ended with %#x", program_of(load),
				  load->argv[0], (unsigned)status);
	if (load->program) {
		out->figure = (double)(machine_now() - begin) / 1e6;
		out->most_kib = (double)usage.ru_maxrss;
	}
	if (!got)
		return bench_note(env, -EIO, "%s %s: %s", BENCH_LOAD, load->argv[0],
				  load->leaves ? "nothing left the host" : "no numbers");
	return 0;
}

static bool swap_is_ram(void)
{
	FILE *swaps = fopen("/proc/swaps", "re");
	char line[512];
	bool found = false;

	while (swaps && fgets(line, sizeof(line), swaps))
		found |= !strncmp(line, "/dev/zram", 9) || !strncmp(line, "/dev/ram", 8);
	if (swaps)
		fclose(swaps);
	return found;
}

int load_cgroup_make(struct bench_env *env, size_t mib, char *path, size_t path_len)
{
	static const char v1[] = "/sys/fs/cgroup/memory", v2[] = "/sys/fs/cgroup";
	bool is_v1 = !access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK);
	char bytes[32];
	int ret;

	if (!swap_is_ram())
		return bench_note(
			env, BENCH_SKIP,
			"no swap on a RAM-backed block device: modprobe zram; echo 4G "
			">/sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0");
	snprintf(path, path_len, "%s/umm-bench-%d", is_v1 ? v1 : v2, (int)getpid());
	snprintf(bytes, sizeof(bytes), "%zu", mib << 20);
	if (mkdir(path, 0755))
		return bench_note(env, BENCH_SKIP, "no cgroup can be made: %s", strerror(errno));
	ret = file_write(path, is_v1 ? "memory.limit_in_bytes" : "memory.max", bytes);
	if (!ret)
		return 0;
	rmdir(path);
	return bench_note(env, BENCH_SKIP, "no limit of memory for cgroups here: %s",
			  strerror(-ret));
}

void load_cgroup_remove(const char *path)
{
	/* The kernel may still be counting the last page out. */
	for (unsigned i = 0; i < 100 && rmdir(path) && errno == EBUSY; i++)
		usleep(10000);
}
