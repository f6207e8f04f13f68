/* SPDX-License-Identifier: MIT */
/*
 * The figures by which orders are compared: every pattern and trace, in memories of a quarter, a
 * half and three quarters of it, through every order, beside the least that any can miss.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "sim.h"

#define NR_BLOCKS 256

const unsigned sim_shares[NR_SHARES] = { 25, 50, 75 };

static int one_figure(const struct trace *trace, uint64_t room, struct sim_result *out)
{
	int ret = sim_optimum(trace, room, &out[NR_ORDERS]);

	for (unsigned o = 0; o < NR_ORDERS && !ret; o++)
		ret = sim_replay(trace, orders[o], room, &out[o]);
	return !ret && !out[NR_ORDERS].misses ? -ENODATA : ret;
}

static int one_pattern(const char *name, unsigned row, struct sim_figures *out)
{
	struct trace trace;
	uint32_t room;
	int ret = 0;

	out->bounded[row] = false;
	memcpy(out->name[row], name, strlen(name) + 1);
	for (unsigned s = 0; s < NR_SHARES && !ret; s++) {
		room = NR_BLOCKS * sim_shares[s] / 100;
		out->room[row][s] = room;
		ret = pattern_make(name, NR_BLOCKS, room, &trace);
		if (!ret)
			ret = one_figure(&trace, room, out->result[row][s]);
		trace_fini(&trace);
	}
	return ret;
}

int sim_figures(struct sim_figures *out)
{
	int ret = 0;

	for (out->nrows = 0; out->nrows < NR_PATTERNS && !ret; out->nrows++)
		ret = one_pattern(pattern_names[out->nrows], out->nrows, out);
	return ret;
}

int sim_figures_add(struct sim_figures *out, const struct trace *trace)
{
	uint64_t size = trace_size(trace), room;
	int ret = 0;

	if (out->nrows == SIM_ROWS)
		return -E2BIG;
	if (trace->blocks)
		return -EOPNOTSUPP;
	if (size && size < SIM_LEAST)
		return -ERANGE;
	out->bounded[out->nrows] = trace->step;
	memcpy(out->name[out->nrows], trace->name, sizeof(trace->name));
	for (unsigned s = 0; s < NR_SHARES && !ret; s++) {
		room = out->room[out->nrows][s] = size * sim_shares[s] / 100;
		ret = one_figure(trace, room, out->result[out->nrows][s]);
	}
	out->nrows += !ret;
	return ret;
}

double sim_mean(const struct sim_figures *figures, unsigned order)
{
	double sum = 0;
	unsigned n = 0;

	for (unsigned p = 0; p < figures->nrows; p++) {
		if (figures->bounded[p])
			continue;
		for (unsigned s = 0; s < NR_SHARES; s++, n++)
			sum += log((double)figures->result[p][s][order].misses /
				   (double)figures->result[p][s][NR_ORDERS].misses);
	}
	return exp(sum / n);
}

double sim_worst(const struct sim_figures *figures, unsigned order, const struct order_ops *ops)
{
	double worst = 0;
	unsigned other = 0;

	while (orders[other] != ops)
		other++;

	for (unsigned p = 0; p < figures->nrows; p++)
		for (unsigned s = 0; s < NR_SHARES; s++)
			worst = fmax(worst, (double)figures->result[p][s][order].misses /
						    (double)figures->result[p][s][other].misses);
	return worst;
}
