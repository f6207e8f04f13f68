/* SPDX-License-Identifier: MIT */
/*
 * The machine under the bench. Three of its effects are larger than what is measured, and
 * are controlled here: where threads run (machine_bind), whether memory is backed by the
 * host (machine_warm), and what others do meanwhile (machine_foreign).
 *
 * Foreign CPU time is /proc/stat's busy time of all CPUs, stolen time included, less that of
 * the process and of the programs that it has run. /proc/stat counts ticks (4 to 10 ms);
 * differences of looks that lie close together mean little, so a ring of looks is kept and the
 * window reaches back far enough. Used by the main thread only.
 */
#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "../libumm/uapi.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define WINDOW_NS (200 * NS_PER_MS)
#define TICK_NS	  (10 * NS_PER_MS)
#define BLOCK	  ((size_t)1 << 21)

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t machine_now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* The first line of a file, or of its lines the value of the one that starts with key. */
static void read_text(const char *path, const char *key, char *out, size_t room)
{
	char line[256];
	FILE *file = fopen(path, "re");

	snprintf(out, room, "unknown");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		char *text = line;

		line[strcspn(line, "\n")] = '\0';
		if (key) {
			if (strncmp(line, key, strlen(key)) != 0)
				continue;
			text = strchr(line, ':');
			text = text ? text + 1 + strspn(text + 1, " \t") : line;
		}
		snprintf(out, room, "%.*s", (int)room - 1, text);
		break;
	}
	fclose(file);
}

static unsigned long read_meminfo_mib(const char *key)
{
	char text[64];
	unsigned long kib = 0;

	read_text("/proc/meminfo", key, text, sizeof(text));
	if (sscanf(text, "%lu", &kib) != 1)
		return 0;
	return kib / 1024;
}

/* Fault servers of either side ask for the highest priority: would they get it? */
static bool may_raise_priority(void)
{
	int before = getpriority(PRIO_PROCESS, 0);

	if (setpriority(PRIO_PROCESS, 0, -20))
		return false;
	setpriority(PRIO_PROCESS, 0, before);
	return true;
}

void machine_init(struct machine *machine)
{
	struct utsname uts;

	memset(machine, 0, sizeof(*machine));
	read_text("/proc/cpuinfo", "model name", machine->cpu, sizeof(machine->cpu));
	read_text("/sys/kernel/mm/transparent_hugepage/enabled", NULL, machine->thp,
		  sizeof(machine->thp));
	read_text("/sys/kernel/mm/transparent_hugepage/defrag", NULL, machine->thp_defrag,
		  sizeof(machine->thp_defrag));
	machine->memory_mib = read_meminfo_mib("MemTotal");
	machine->available_mib = read_meminfo_mib("MemAvailable");
	if (uname(&uts) == 0)
		snprintf(machine->kernel, sizeof(machine->kernel), "%.60s %.60s", uts.release,
			 uts.machine);
	if (sched_getaffinity(0, sizeof(machine->allowed), &machine->allowed))
		CPU_SET(0, &machine->allowed);
	machine->ncpus = (unsigned)CPU_COUNT(&machine->allowed);
	machine->may_raise_priority = may_raise_priority();
	machine_look(machine);
}

int machine_first_cpu(const struct machine *machine)
{
	int cpu = 0;

	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &machine->allowed))
		cpu++;
	return cpu;
}

int machine_last_cpu(const struct machine *machine)
{
	int cpu = CPU_SETSIZE - 1;

	while (cpu > 0 && !CPU_ISSET(cpu, &machine->allowed))
		cpu--;
	return cpu;
}

int machine_nth_cpu(const struct machine *machine, unsigned n)
{
	int cpu = machine_first_cpu(machine);

	for (n %= machine->ncpus; n > 0; n--)
		do
			cpu++;
		while (!CPU_ISSET(cpu, &machine->allowed));
	return cpu;
}

int machine_bind(const struct machine *machine, int cpu)
{
	cpu_set_t set = machine->allowed;

	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/* Time that all CPUs spent working or had stolen; interrupts are nobody's and left out. */
static uint64_t busy_ns(void)
{
	uint64_t user = 0, nice = 0, system = 0, idle, iowait, irq, softirq, steal = 0;
	long hz = sysconf(_SC_CLK_TCK);
	FILE *file = fopen("/proc/stat", "re");
	int n;

	if (!file)
		return 0;
	n = fscanf(file,
		   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		   " %" SCNu64 " %" SCNu64,
		   &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal);
	fclose(file);
	if (n != 8 || hz <= 0)
		return 0;
	return (user + nice + system + steal) * (NS_PER_S / (uint64_t)hz);
}

/* CPU time of the programs that this one has run and waited for, and of theirs. */
static uint64_t children_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

static struct machine_look *look_back(struct machine *machine, unsigned back)
{
	return &machine->looks[(machine->nlooks - back) % MACHINE_WINDOWS];
}

/* Looks that lie closer than a tick replace each other, so that the ring spans a while. */
void machine_look(struct machine *machine)
{
	struct machine_look *look;
	bool crowded;

	crowded = machine->nlooks >= 2 &&
		  look_back(machine, 1)->at_ns - look_back(machine, 2)->at_ns < TICK_NS;
	if (!crowded)
		machine->nlooks++;
	look = look_back(machine, 1);
	look->at_ns = machine_now();
	look->busy_ns = busy_ns();
	look->own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) + children_ns();
}

double machine_foreign(struct machine *machine, uint64_t begin_ns)
{
	const struct machine_look *last, *from;
	uint64_t busy, own;
	unsigned i;

	machine_look(machine);
	last = look_back(machine, 1);
	if (begin_ns > last->at_ns - WINDOW_NS)
		begin_ns = last->at_ns - WINDOW_NS;
	from = last;
	for (i = 2; i <= MACHINE_WINDOWS && i <= machine->nlooks; i++) {
		from = look_back(machine, i);
		if (from->at_ns <= begin_ns)
			break;
	}
	busy = last->busy_ns - from->busy_ns;
	own = last->own_ns - from->own_ns;
	if (last->at_ns - from->at_ns < WINDOW_NS / 2 || busy <= own)
		return 0;
	return 100.0 * (double)(busy - own) / (double)(last->at_ns - from->at_ns);
}

unsigned machine_wait_quiet(struct machine *machine, unsigned pct, unsigned limit_ms)
{
	const struct timespec nap = { .tv_nsec = (long)WINDOW_NS };
	unsigned waited_ms = 0;

	while (waited_ms < limit_ms && machine_foreign(machine, machine_now()) > pct) {
		nanosleep(&nap, NULL);
		waited_ms += (unsigned)(WINDOW_NS / NS_PER_MS);
	}
	return waited_ms < limit_ms ? waited_ms : limit_ms;
}

int machine_huge_pct(const void *addr, size_t len)
{
	uintptr_t start, end, low = (uintptr_t)addr;
	unsigned long kib, huge_kib = 0;
	bool inside = false;
	char line[512];
	FILE *file = fopen("/proc/self/smaps", "re");

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			inside = start >= low && end <= low + len;
		else if (inside && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			huge_kib += kib;
	}
	fclose(file);
	return (int)(huge_kib * 1024 * 100 / len);
}

void *machine_map(size_t len, int advice, bool populate)
{
	size_t reserved = len + BLOCK;
	char *raw = mmap(NULL, reserved, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (raw == MAP_FAILED)
		return NULL;
	head = (BLOCK - (uintptr_t)raw % BLOCK) % BLOCK;
	if (head)
		munmap(raw, head);
	munmap(raw + head + len, reserved - head - len);
	if (advice)
		madvise(raw + head, len, advice);
	if (populate && madvise(raw + head, len, MADV_POPULATE_WRITE))
		memset(raw + head, 0, len);
	return raw + head;
}

void machine_unmap(void *addr, size_t len)
{
	if (addr)
		munmap(addr, len);
}

void machine_warm(size_t len, int advice)
{
	machine_unmap(machine_map(len, advice, true), len);
}
