/* SPDX-License-Identifier: MIT */
/* What the pictures show, as tables that gnuplot reads (pictures.gp). */
#ifndef PICTURES_H
#define PICTURES_H

#include "bench.h"

/*
 * Write dir/latency.tsv, bandwidth.tsv and threads.tsv, each where results for it are there; those
 * of an earlier run are removed. 0 or a negative errno.
 */
int pictures_write(struct bench_result *results, size_t nresults, const char *dir);

#endif
