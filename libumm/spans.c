/* SPDX-License-Identifier: MIT */
/* A heap sort, since qsort() may use malloc; then neighbours that meet become one. */
#include "spans.h"

#include "util.h"

/* Below spans[i] all is a heap: the highest first. So it is with spans[i], too, then. */
static void sift(struct umm_span *spans, size_t i, size_t nspans)
{
	struct umm_span span = spans[i];
	size_t child;

	while ((child = 2 * i + 1) < nspans) {
		if (child + 1 < nspans && spans[child + 1].start > spans[child].start)
			child++;
		if (spans[child].start <= span.start)
			break;
		spans[i] = spans[child];
		i = child;
	}
	spans[i] = span;
}

static void sort(struct umm_span *spans, size_t nspans)
{
	struct umm_span highest;

	for (size_t i = nspans / 2; i-- > 0;)
		sift(spans, i, nspans);
	for (size_t n = nspans; n-- > 1;) {
		highest = spans[0];
		spans[0] = spans[n];
		spans[n] = highest;
		sift(spans, 0, n);
	}
}

size_t spans_join(struct umm_span *spans, size_t nspans)
{
	size_t last = 0;
	uintptr_t end;

	sort(spans, nspans);
	for (size_t i = 1; i < nspans; i++) {
		end = spans[last].start + spans[last].len;
		if (spans[i].start <= end)
			spans[last].len =
				max(end, spans[i].start + spans[i].len) - spans[last].start;
		else
			spans[++last] = spans[i];
	}
	return nspans ? last + 1 : 0;
}
