/* SPDX-License-Identifier: MIT */
/* The answers, by plain CPU code. */
#ifndef WORDNET_CPU_H
#define WORDNET_CPU_H

#include "wordnet.h"

struct cpu;

/** cpu_create() - prepare to answer queries over @w; NULL: out of memory */
struct cpu *cpu_create(const struct wordnet *w);

/** cpu_destroy() - @cpu may be NULL */
void cpu_destroy(struct cpu *cpu);

/** cpu_answer() - fill in steps and meet of @query */
void cpu_answer(struct cpu *cpu, struct query *query);

#endif /* WORDNET_CPU_H */
