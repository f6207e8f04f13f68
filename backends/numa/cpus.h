/* SPDX-License-Identifier: MIT */
/* Sets of CPUs, of as many as a kernel may have; and which of them this process may use. */
#ifndef NUMA_CPUS_H
#define NUMA_CPUS_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#define CPUS_MAX 8192

struct cpus {
	cpu_set_t set[CPUS_MAX / CPU_SETSIZE];
};

static inline void cpus_add(struct cpus *cpus, unsigned cpu)
{
	CPU_SET_S(cpu, sizeof(*cpus), cpus->set);
}

static inline bool cpus_have(const struct cpus *cpus, unsigned cpu)
{
	return CPU_ISSET_S(cpu, sizeof(*cpus), cpus->set);
}

static inline unsigned cpus_count(const struct cpus *cpus)
{
	return (unsigned)CPU_COUNT_S(sizeof(*cpus), cpus->set);
}

/* *to becomes what is in either, or in both. */
void cpus_join(struct cpus *to, const struct cpus *from);
void cpus_meet(struct cpus *to, const struct cpus *with);

/*
 * The CPUs that this process may use now: those that it was started on, and those that
 * the caller has, as far as they are in its cpuset. A thread that was bound to some of them is
 * not the process. Empty: the kernel does not say.
 */
void cpus_allowed(struct cpus *out);

/* Threads that are made with attr run there; anywhere, where there are none. */
void cpus_bind(pthread_attr_t *attr, const struct cpus *cpus);

/* CPUs as a list, "0-3,8". */
void cpus_text(const struct cpus *cpus, char *text, size_t text_len);

#endif
