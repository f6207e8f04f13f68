/* SPDX-License-Identifier: MIT */
/* What tests of hints say and ask, of one span. */
#ifndef HINTED_H
#define HINTED_H

#include "harness.h"

static inline int advise(struct env *e, void *addr, size_t npages, struct umm_advice advice)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };

	advice.size = sizeof(advice);
	advice.spans = &span;
	advice.nspans = 1;
	return umm_advise(e->ctx, &advice);
}

#define ADVISE(e, addr, npages, ...) \
	assert_int_equal(advise(e, addr, npages, (struct umm_advice){ __VA_ARGS__ }), 0)

static inline struct umm_span_info query(struct env *e, const void *addr, size_t npages)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.npages, npages);
	return info;
}

#endif
