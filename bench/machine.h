/* SPDX-License-Identifier: MIT */
/* The machine: what it is, what its time is, and how busy others keep it. */
#ifndef MACHINE_H
#define MACHINE_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_WINDOWS 64

/* A look at the clocks: all CPUs' busy time, and our own. */
struct machine_look {
	uint64_t at_ns;
	uint64_t busy_ns; /* by everybody, hypervisor neighbours included */
	uint64_t own_ns;
};

struct machine {
	char cpu[128];
	char kernel[128];
	char thp[64];
	char thp_defrag[64];
	unsigned long memory_mib;
	unsigned long available_mib;
	unsigned ncpus;	   /* that the process may use */
	cpu_set_t allowed; /* likewise */
	bool may_raise_priority;
	struct machine_look looks[MACHINE_WINDOWS]; /* a ring; see machine_foreign() */
	unsigned nlooks;			    /* ever made; the ring has the last of them */
};

void machine_init(struct machine *machine);

uint64_t machine_now(void); /* nanoseconds */

/* The number of the first or last CPU that the process may use. */
int machine_first_cpu(const struct machine *machine);
int machine_last_cpu(const struct machine *machine);
/* That of CPU n, counted from 0; after the last one comes the first again. */
int machine_nth_cpu(const struct machine *machine, unsigned n);

/* Bind the calling thread to a CPU; cpu -1: to all that the process may use. 0 or -errno. */
int machine_bind(const struct machine *machine, int cpu);

/* Note how busy the machine is now. */
void machine_look(struct machine *machine);

/*
 * CPU time used by others since the look before begin_ns, in percent of one CPU. The
 * kernel counts in ticks, so the window is widened to at least a fifth of a second.
 */
double machine_foreign(struct machine *machine, uint64_t begin_ns);

/*
 * Wait for a fifth of a second in which others use no more than pct, but at most limit_ms.
 * Returns how long that took, at most limit_ms.
 */
unsigned machine_wait_quiet(struct machine *machine, unsigned pct, unsigned limit_ms);

/*
 * Make the kernel own len bytes of memory that the host really backs: memory that lay
 * idle in a guest goes back to the host, and its next first touch costs several times as
 * much. advice: MADV_HUGEPAGE or MADV_NOHUGEPAGE, for the free lists differ.
 */
void machine_warm(size_t len, int advice);

/* How much of addr .. addr + len is mapped in huge pages, in percent; -1: unknown. */
int machine_huge_pct(const void *addr, size_t len);

/* Zeroed memory, aligned to 2 MiB, advised (MADV_*) and touched if asked. NULL: none. */
void *machine_map(size_t len, int advice, bool populate);
void machine_unmap(void *addr, size_t len);

#endif
