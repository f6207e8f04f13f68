/* SPDX-License-Identifier: MIT */
/*
 * Which CPUs this process may use. taskset(1) and numactl(8) say so by the affinity that a
 * program is started with, a cpuset by what the kernel lets a thread have of it. The affinity of
 * whoever asks says less: programs bind their threads. So what the process was started with is
 * kept, and a thread of our own asks for it, and looks at what it got.
 *
 * Locks: none; what is kept is written when the library is loaded.
 */
#include "cpus.h"

#include <signal.h>
#include <stdio.h>

static struct cpus at_start;

/* Empty where the kernel does not say: it has more CPUs, or a sandbox forbids to ask. */
static void affinity_read(struct cpus *out)
{
	*out = (struct cpus){ 0 };
	if (sched_getaffinity(0, sizeof(*out), out->set))
		*out = (struct cpus){ 0 };
}

__attribute__((constructor)) static void note_start(void)
{
	affinity_read(&at_start);
}

void cpus_join(struct cpus *to, const struct cpus *from)
{
	CPU_OR_S(sizeof(*to), to->set, to->set, from->set);
}

void cpus_meet(struct cpus *to, const struct cpus *with)
{
	CPU_AND_S(sizeof(*to), to->set, to->set, with->set);
}

/* A thread: take all that it is given, and tell how much that was. */
static void *try_them(void *arg)
{
	struct cpus *cpus = arg, got;

	if (sched_setaffinity(0, sizeof(*cpus), cpus->set))
		return NULL;
	affinity_read(&got);
	*cpus = got;
	return arg;
}

void cpus_allowed(struct cpus *out)
{
	struct cpus mine, all;
	void *tried = NULL;
	pthread_t thread;
	sigset_t every, old;

	affinity_read(&mine);
	all = at_start;
	cpus_join(&all, &mine);
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &old);
	if (cpus_count(&all) && !pthread_create(&thread, NULL, try_them, &all))
		pthread_join(thread, &tried);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*out = tried ? all : mine;
}

void cpus_bind(pthread_attr_t *attr, const struct cpus *cpus)
{
	if (cpus_count(cpus))
		pthread_attr_setaffinity_np(attr, sizeof(*cpus), cpus->set);
}

void cpus_text(const struct cpus *cpus, char *text, size_t text_len)
{
	size_t len = 0;
	unsigned last;

	text[0] = '\0';
	for (unsigned cpu = 0; cpu < CPUS_MAX && len + 16 < text_len; cpu = last + 1) {
		last = cpu;
		if (!cpus_have(cpus, cpu))
			continue;
		while (last + 1 < CPUS_MAX && cpus_have(cpus, last + 1))
			last++;
		len += (size_t)snprintf(text + len, text_len - len, "%s%u", len ? "," : "", cpu);
		if (last > cpu)
			len += (size_t)snprintf(text + len, text_len - len, "-%u", last);
	}
}
