/* SPDX-License-Identifier: MIT */
/*
 * The figures by which orders are compared: every pattern, in memories of a quarter, a
 * half and three quarters of it, through every order and by Belady's rule.
 */
#include <errno.h>
#include <math.h>

#include "sim.h"

#define NR_BLOCKS 256

const unsigned sim_shares[NR_SHARES] = { 25, 50, 75 };

static int one_figure(const char *name, uint32_t room, struct sim_result *out)
{
	struct trace trace;
	int ret = pattern_make(name, NR_BLOCKS, room, &trace);

	for (unsigned o = 0; o < NR_ORDERS && !ret; o++)
		ret = sim_replay(&trace, orders[o], room, &out[o]);
	if (!ret)
		ret = sim_optimum(&trace, room, &out[NR_ORDERS]);
	trace_fini(&trace);
	return ret;
}

int sim_figures(struct sim_figures *out)
{
	int ret = 0;

	for (unsigned p = 0; p < NR_PATTERNS; p++)
		for (unsigned s = 0; s < NR_SHARES && !ret; s++)
			ret = one_figure(pattern_names[p], NR_BLOCKS * sim_shares[s] / 100,
					 out->result[p][s]);
	return ret;
}

double sim_mean(const struct sim_figures *figures, unsigned order)
{
	double sum = 0;

	for (unsigned p = 0; p < NR_PATTERNS; p++)
		for (unsigned s = 0; s < NR_SHARES; s++)
			sum += log((double)figures->result[p][s][order].misses /
				   (double)figures->result[p][s][NR_ORDERS].misses);
	return exp(sum / (NR_PATTERNS * NR_SHARES));
}

double sim_worst(const struct sim_figures *figures, unsigned order, const struct order_ops *ops)
{
	double worst = 0;
	unsigned other = 0;

	while (orders[other] != ops)
		other++;

	for (unsigned p = 0; p < NR_PATTERNS; p++)
		for (unsigned s = 0; s < NR_SHARES; s++)
			worst = fmax(worst, (double)figures->result[p][s][order].misses /
						    (double)figures->result[p][s][other].misses);
	return worst;
}
