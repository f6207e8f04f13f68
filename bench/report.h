/* SPDX-License-Identifier: MIT */
/* What the bench says: a table for people, JSON for programs. */
#ifndef REPORT_H
#define REPORT_H

#include <stdio.h>

#include "bench.h"

void report_machine(const struct bench_env *env, FILE *out);
void report_head(FILE *out);
/* As soon as a case is done: one row for libumm, one for the competitor. */
void report_row(struct bench_result *result, FILE *out);
void report_legend(const struct bench_env *env, FILE *out);

/* 0 or a negative errno of writing. */
int report_json(const struct bench_env *env, struct bench_result *results, size_t nresults,
		FILE *out);

#endif
