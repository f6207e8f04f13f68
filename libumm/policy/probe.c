/* SPDX-License-Identifier: MIT */
/*
 * As refault, but a block whose turn comes shows first whether it is in use: was the page touched,
 * by a load or a store, that was moved aside some time before? Then the turn passes, once:
 * there is another probe before the next one. So what is hot and has never been away need not leave
 * for that to be seen, as long as it lies together. Where a few pages of each block are hot, a
 * probe hardly ever meets one; their own touches on a device tell.
 *
 * Where most probes are touched, all of the memory is in use, and turns that pass would only put
 * off what has to leave: then none does.
 */
#include "policy/sample.h"

static enum sample_return probe_touched(struct sample *sample, struct sample_page *page)
{
	return sample_refault.touched(sample, page);
}

static void probe_came(struct sample *sample, struct sample_page *page)
{
	sample_refault.came(sample, page);
}

static bool probe_may_go(struct sample *sample, struct sample_page *page)
{
	return sample_refault.may_go(sample, page);
}

static void probe_leaves(struct sample *sample, const struct sample_page *page)
{
	sample_refault.leaves(sample, page);
}

static bool probe_passes(struct sample *sample, bool was_touched)
{
	sample->last_probes = sample->last_probes << 1 | was_touched;
	return was_touched && __builtin_popcount(sample->last_probes) <= 16;
}

const struct sample_ops sample_probe = {
	.name = "probe",
	.touched = probe_touched,
	.came = probe_came,
	.may_go = probe_may_go,
	.leaves = probe_leaves,
	.passes = probe_passes,
};
